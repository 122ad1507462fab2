package ingestion

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// TestDuplicatesWithoutIdentity: processes before 4.4 have no identity of their own. One that is monitored under two addresses is
// found by pid, start, own name, port and version; containers, which often have names and pids in common, stay apart.
func TestDuplicatesWithoutIdentity(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	started := t0.Add(-time.Hour)
	replies := func(self string, pid int64, started time.Time) bson.D {
		return bson.D{
			{Key: "hello", Value: bson.D{{Key: "ismaster", Value: true}, {Key: "maxWireVersion", Value: int32(8)}, {Key: "ok", Value: 1.0}}},
			{Key: "serverStatus", Value: bson.D{
				{Key: "host", Value: self},
				{Key: "version", Value: "4.2.24"},
				{Key: "process", Value: "mongod"},
				{Key: "pid", Value: pid},
				{Key: "uptimeMillis", Value: t0.Sub(started).Milliseconds()},
				{Key: "localTime", Value: t0},
				{Key: "ok", Value: 1.0},
			}},
		}
	}
	added := map[model.HostID]string{} // a merge may give the better address to the other one
	type process struct {
		addr, self string
		pid        int64
		started    time.Time
	}
	for _, p := range []process{
		{"db1.example.net:27017", "db1", 812, started},
		{"db2.example.net:27017", "db2", 812, started},
		{"192.0.2.1:27017", "db1", 812, started.Add(400 * time.Millisecond)}, // db1 again
		// Containers: one host name, pid 1.
		{"192.0.2.9:31001", "mongo", 1, started},
		{"192.0.2.9:31002", "mongo:27018", 1, started},
		{"192.0.2.9:31003", "mongo", 1, started.Add(3 * time.Second)},
		{"192.0.2.9:31004", "mongo", 1, started.Add(3 * time.Second)}, // the one before, mapped twice
	} {
		h := x.host(p.addr)
		added[h.ID] = p.addr
		x.post(answered(t, h, t0, replies(p.self, p.pid, p.started)))
	}
	for _, pass := range x.server.Passes() {
		if pass.Name == "hosts" {
			if err := pass.Run(t.Context(), t0); err != nil {
				t.Fatal(err)
			}
		}
	}
	hosts, err := x.inv.Hosts(t.Context(), x.group.ID)
	if err != nil {
		t.Fatal(err)
	}
	var hidden []string
	for _, h := range hosts {
		if h.Hidden {
			pair := []string{added[h.ID], added[h.DuplicateOf]}
			slices.Sort(pair)
			hidden = append(hidden, pair[0]+" = "+pair[1])
		}
	}
	slices.Sort(hidden)
	if d := cmp.Diff([]string{"192.0.2.1:27017 = db1.example.net:27017", "192.0.2.9:31003 = 192.0.2.9:31004"}, hidden); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
