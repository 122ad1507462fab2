package ingestion

import (
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// rowSpy remembers the rows on their way into the store.
type rowSpy struct {
	Series

	mu   sync.Mutex
	rows []catalog.Row
}

func (s *rowSpy) RowOp(host model.HostID, row catalog.Row) (docstore.Op, error) {
	s.mu.Lock()
	s.rows = append(s.rows, row)
	s.mu.Unlock()
	return s.Series.RowOp(host, row)
}

// TestCores: the number of cores comes once an hour where there is no diagnostic data; the rows of the pings between have it
// from the host, and what a ping says itself goes first.
func TestCores(t *testing.T) {
	spy := &rowSpy{}
	x := newSite(t, storetest.Engine(t), func(o *Options) { spy.Series, o.Series = o.Series, spy })
	h := x.host("127.0.0.1:27117")
	diagnostic := bson.E{Key: "systemMetrics", Value: bson.D{{Key: "cpu", Value: bson.D{{Key: "num_logical_cores", Value: int64(3)}}}}}
	without := recorded(t, "primary", often...)
	info := recorded(t, "primary", "hostInfo")
	for i, c := range []struct {
		name    string
		replies bson.D
		want    int64 // 0: none
	}{
		{"before anything said how many", without, 0},
		{"with the machine's description", slices.Concat(without, info), 2},
		{"without it", without, 2},
		{"with diagnostic data", append(slices.Clone(without), diagnostic), 3},
		{"nothing but a hello", recorded(t, "primary", "hello"), 0},
	} {
		at := t0.Add(time.Duration(i) * time.Minute)
		x.setNow(at)
		spy.rows = nil
		x.post(answered(t, h, at, c.replies))
		var got int64
		for _, row := range spy.rows {
			for _, cell := range row.Cells {
				if cell.Column == "cores" {
					got = cell.Value.Int64()
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %d cores, want %d", c.name, got, c.want)
		}
	}
}
