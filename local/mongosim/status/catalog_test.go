package status_test

import (
	"regexp"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/shared/catalog"
)

// elsewhere are columns that other replies or other storage engines give.
var elsewhere = regexp.MustCompile(`^(backgroundFlushing|recordStats|indexCounters|dur|ctx|dbTotal|db|fs)\.|^mem\.mapped|^uptimeMs$|^memory\.(reclaimable|shared)$`)

// later are columns that a server has only from a version on.
var later = map[string]status.Version{
	"queue.read.normal": {8, 0, 0}, "queue.read.low": {8, 0, 0}, "queue.write.normal": {8, 0, 0}, "queue.write.low": {8, 0, 0},
	"queryExecutor.collectionScans": {4, 4, 0}, "memory.available": {5, 0, 0},
	"mount.capacity": {6, 0, 0}, "mount.available": {6, 0, 0}, "mount.free": {6, 0, 0},
}

// TestTheCatalogueFindsItsNumbers extracts a row from replies of every version, as ingestion does: what the charts of a
// primary are drawn from must be there.
func TestTheCatalogueFindsItsNumbers(t *testing.T) {
	for _, v := range []status.Version{{4, 2, 24}, {4, 4, 29}, {5, 0, 31}, {6, 0, 19}, {7, 0, 14}, {8, 0, 4}} {
		k, p := kit(t, v), view(t, v, 1)
		req := raw(t, bson.D{{Key: "serverStatus", Value: 1}, {Key: "oplog", Value: 1}})
		replies := raw(t, bson.D{
			{Key: "hello", Value: status.Hello(p, false, true)},
			{Key: "serverStatus", Value: k.ServerStatus(p, req)},
			{Key: "replSetGetStatus", Value: status.ReplSetGetStatus(p)},
			{Key: "oplogStats", Value: k.OplogStats(p, 1)},
			{Key: "systemMetrics", Value: k.DiagnosticData(p).Lookup("data", "systemMetrics")},
		})
		row, err := catalog.Extract(replies, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, c := range row.Cells {
			have[c.Column] = true
		}
		for _, c := range catalog.Columns() {
			if have[c.Name] || elsewhere.MatchString(c.Name) {
				continue
			}
			if since, ok := later[c.Name]; !ok || v.AtLeast(since.Major, since.Minor) {
				t.Errorf("%v: no %s", v, c.Name)
			}
		}
	}
}
