package ingestion

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// TestOrphans breaks the pass at every step of what it deletes and lets the next run end it: the series of hosts that are gone
// go, whether the group or the host was deleted, and those of a host that is only marked stay.
func TestOrphans(t *testing.T) {
	hour := t0.Truncate(time.Hour)
	var kept []model.HostID
	fresh := func(t *testing.T) (*site, *swap) {
		e := &swap{storetest.Engine(t)}
		x := newSite(t, e)
		marked, gone := x.host("db1.example.net:27017"), x.host("db2.example.net:27017")
		stranger := model.NewHostID("5f00000000000000000000ff", "db1.example.net", 27017) // of a group long gone
		x.setNow(hour.Add(26 * time.Hour))
		numbers, err := series.New(series.Options{Engine: e, Now: func() time.Time { return x.now }})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []model.HostID{marked.ID, gone.ID, stranger} {
			for k := range 3 {
				at := hour.Add(time.Duration(k) * time.Hour)
				op, err := numbers.RowOp(id, row(t, at))
				if err != nil {
					t.Fatal(err)
				}
				if err := x.s.Write(t.Context(), op); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := numbers.Compact(t.Context(), x.now); err != nil {
			t.Fatal(err)
		}
		if _, err := numbers.Rollup(t.Context(), x.now); err != nil {
			t.Fatal(err)
		}
		err = x.inv.UpdateHost(t.Context(), x.group.ID, marked.ID, func(h *model.Host) error { h.Deleted = true; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := x.inv.DeleteHost(t.Context(), x.group.ID, gone.ID); err != nil {
			t.Fatal(err)
		}
		kept = []model.HostID{marked.ID}
		return x, e
	}
	check := func(t *testing.T, x *site) {
		t.Helper()
		for {
			report, err := x.server.orphansPass(t.Context(), x.now)
			if err != nil {
				t.Fatal(err)
			}
			if !report.More {
				break
			}
		}
		got, err := x.server.o.Series.Hosts(t.Context(), "", 10)
		if err != nil || !slices.Equal(got, kept) {
			t.Errorf("%v: left are %v, want %v", err, got, kept)
		}
		n, err := x.s.Engine().Count(t.Context(), docstore.Query{Collection: "series.chunks"}, 100)
		if err != nil || n != 3 {
			t.Errorf("%v: %d chunks are left of the host that is marked", err, n)
		}
	}
	x, e := fresh(t)
	counting := storetest.Break(e.Engine, storetest.Refuse, 0)
	e.Engine = counting
	report, err := x.server.orphansPass(t.Context(), x.now)
	if err != nil || report.Done != 2 || report.More {
		t.Fatalf("%v: %+v", err, report)
	}
	check(t, x)
	for _, fault := range storetest.Faults() {
		for at := 1; at <= counting.Calls(); at++ {
			x, e := fresh(t)
			sound := e.Engine
			e.Engine = storetest.Break(sound, fault, at)
			if _, err := x.server.orphansPass(t.Context(), x.now); err == nil {
				t.Errorf("fault %d at write %d was not told", fault, at)
			}
			e.Engine = sound
			check(t, x)
		}
	}
}

// TestOrphansAreBounded: a host with more documents than one run deletes takes several runs.
func TestOrphansAreBounded(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	const documents = orphanStep*orphanBound + 10
	var ops []docstore.Op
	for i := range documents {
		at := t0.Add(time.Duration(i) * time.Hour)
		body, err := bson.Marshal(bson.D{{Key: "t", Value: at}})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, docstore.Op{Kind: docstore.Put, Collection: "series.chunks", ID: "ffffffffffffffffffffffffffffffff/" + at.Format("2006010215"), Body: body})
	}
	if err := x.s.Write(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	report, err := x.server.orphansPass(t.Context(), t0)
	if err != nil || !report.More || report.Done != 0 {
		t.Errorf("%v: %+v", err, report)
	}
	report, err = x.server.orphansPass(t.Context(), t0)
	if err != nil || report.More || report.Done != 1 {
		t.Errorf("%v: %+v", err, report)
	}
}

func row(t testing.TB, at time.Time) catalog.Row {
	t.Helper()
	replies, err := bson.Marshal(recorded(t, "primary", often...))
	if err != nil {
		t.Fatal(err)
	}
	r, err := catalog.Extract(replies, at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOrphanedAlerts: what alerting keeps of a deleted group goes, that of other groups and of the site stays.
func TestOrphanedAlerts(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	for _, group := range []model.ID{"", x.group.ID, "5f00000000000000000000ff"} {
		if err := x.events.CreateConfig(t.Context(), model.AlertConfig{ID: "c1", GroupID: group}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.server.orphansPass(t.Context(), x.now); err != nil {
		t.Fatal(err)
	}
	configs, _, err := x.events.AllConfigs(t.Context())
	if err != nil || len(configs) != 2 || configs[0].GroupID != "" || configs[1].GroupID != x.group.ID {
		t.Errorf("left are %v, %v", configs, err)
	}
}
