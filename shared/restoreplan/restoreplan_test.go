package restoreplan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
)

const hour = uint32(3600)

var noon = uint32(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix())

func ts(t, i uint32) bson.Timestamp { return bson.Timestamp{T: t, I: i} }

// source is a backup with a snapshot at noon and one at 13:00, and oplog to 14:00; a transaction was open at 13:00.
func source() Source {
	shot := func(id string, at, from bson.Timestamp) Base {
		return Base{
			Snapshot: snapshot.Snapshot{ID: id, Epoch: 1, At: time.Unix(int64(at.T), 0).UTC(), Complete: true, Applied: at, ReplayFrom: from},
			Version:  "7.0.14", FCV: "7.0", FileBytes: 300 << 20,
			Collections: []Namespace{{NS: "shop.orders", Bytes: 200 << 20}, {NS: "shop.items", Bytes: 50 << 20}, {NS: "crm.people", Bytes: 1 << 20}, {NS: "admin.system.users", Bytes: 1 << 10}},
		}
	}
	s := Source{SetName: "rs0", Rates: Rates{Fetch: 100 << 20, Replay: 1000, Deliver: 50 << 20}}
	s.Snapshots = []Base{shot("a", ts(noon, 1), ts(noon, 1)), shot("b", ts(noon+hour, 1), ts(noon+hour-30, 1))}
	s.Ranges, s.Holes = snapshot.Ranges([]snapshot.Snapshot{s.Snapshots[0].Snapshot, s.Snapshots[1].Snapshot},
		[]snapshot.Segment{{Epoch: 1, Last: ts(noon+2*hour, 1)}}, nil)
	return s
}

func TestMoment(t *testing.T) {
	s := source()
	at := func(sec uint32) time.Time { return time.Unix(int64(sec), 0) }
	tests := []struct {
		name    string
		request Request
		base    string
		target  bson.Timestamp
		refused string
	}{
		{"a snapshot", Request{Snapshot: "a"}, "a", ts(noon, 1), ""},
		{"a second between", Request{Second: at(noon + 60)}, "a", ts(noon+60, 1<<32-1), ""},
		{"a second after both", Request{Second: at(noon + hour + 60)}, "b", ts(noon+hour+60, 1<<32-1), ""},
		{"a position", Request{Point: ts(noon+hour, 1)}, "b", ts(noon+hour, 1), ""},
		{"the first second of the range", Request{Second: at(noon)}, "", bson.Timestamp{}, "second of a snapshot"},
		{"later than the last stored entry", Request{Second: at(noon + 2*hour)}, "", bson.Timestamp{}, "newest stored oplog"},
		{"before the first snapshot", Request{Point: ts(noon-1, 1)}, "", bson.Timestamp{}, "first snapshot is of"},
		{"an unknown snapshot", Request{Snapshot: "c"}, "", bson.Timestamp{}, "no snapshot c"},
		{"two moments", Request{Snapshot: "a", Second: at(noon)}, "", bson.Timestamp{}, "say either"},
		{"none", Request{}, "", bson.Timestamp{}, "say either"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base, target, err := Moment(tt.request, s)
			if tt.refused != "" {
				if !errors.Is(err, ErrImpossible) || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("error %v, want one with %q", err, tt.refused)
				}
				return
			}
			if err != nil || base.ID != tt.base || target != tt.target {
				t.Errorf("base %q, target %v, %v; want %q, %v", base.ID, target, err, tt.base, tt.target)
			}
		})
	}
}

func TestMake(t *testing.T) {
	s := source()
	stretch := Stretch{Slices: 6, Entries: 9000, Bytes: 10 << 20}
	p, err := Make(Request{Format: Files, Compress: true}, s.Snapshots[1], ts(noon+hour+60, 5), stretch, s.Rates, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Replay || p.ReplayFrom != s.Snapshots[1].ReplayFrom || p.Oplog != stretch {
		t.Errorf("replay %v from %v of %+v", p.Replay, p.ReplayFrom, p.Oplog)
	}
	want := []Step{
		{Do: DoFetch, Text: "Fetch the files of the snapshot of 2026-03-01T13:00:00Z", Bytes: 300 << 20, Seconds: 3},
		{Do: DoReplay, Text: "Replay 9000 oplog entries up to 2026-03-01T13:01:00Z", Bytes: 10 << 20, Entries: 9000, Seconds: 9},
		{Do: DoArchive, Text: "Write an archive of the data files", Bytes: 300 << 20, Seconds: 6},
	}
	if diff := cmp.Diff(want, p.Steps); diff != "" {
		t.Error(diff)
	}
	if p.Seconds != 18 || p.Bytes != 610<<20 || p.Scratch != 310<<20 {
		t.Errorf("%d s, %d bytes, %d of scratch", p.Seconds, p.Bytes, p.Scratch)
	}

	p, err = Make(Request{Snapshot: "a"}, s.Snapshots[0], s.Snapshots[0].Applied, stretch, s.Rates, nil)
	if err != nil || p.Replay || p.Oplog != (Stretch{}) || len(p.Steps) != 2 {
		t.Errorf("a snapshot alone: %+v, %v", p, err)
	}
}

func TestSelection(t *testing.T) {
	s := source()
	target := fits(func(to *Target) {
		to.FCV, to.Namespaces, to.Databases = "8.0", []string{"shop.orders", "old.items"}, []string{"old"}
	})
	r := Request{Push: true, Namespaces: []string{"shop"}, Rename: map[string]string{"shop": "old", "shop.orders": "shop.orders2"}, Drop: true}
	p, err := Make(r, s.Snapshots[0], ts(noon+60, 1), Stretch{}, s.Rates, target)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Namespace{{NS: "old.items", Bytes: 50 << 20}, {NS: "shop.orders2", Bytes: 200 << 20}}, p.Contents); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"old.items"}, p.Overwrites); diff != "" {
		t.Error(diff)
	}
	if p.Format != BSON || !p.Destroys() || p.MayHold != nil {
		t.Errorf("format %s, destroys %v, may hold %q", p.Format, p.Destroys(), p.MayHold)
	}
}

func TestRefusals(t *testing.T) {
	s := source()
	without, err := filter.New(filter.Exclude, []string{"crm"})
	if err != nil {
		t.Fatal(err)
	}
	base := s.Snapshots[0]
	base.Filter = without
	tests := []struct {
		name    string
		request Request
		to      *Target
		refused []string
	}{
		{"files of some namespaces", Request{Format: Files, Namespaces: []string{"shop"}}, nil, []string{"choose BSON"}},
		{"what was never held", Request{Format: BSON, Namespaces: []string{"crm.people"}}, nil, []string{"crm.people was left out"}},
		{"no format", Request{Format: "ZIP"}, nil, []string{`"ZIP"`}},
		{"a bad name", Request{Format: BSON, Rename: map[string]string{"shop": "a.b"}}, nil, []string{"both a database"}},
		{"two of one name", Request{Format: BSON, Rename: map[string]string{"shop.items": "shop.orders"}}, nil, []string{"would both become shop.orders"}},
		{"no target", Request{Push: true}, nil, []string{"target deployment"}},
		{"users of an archive", Request{Format: BSON, Users: true}, nil, []string{"are for restores into a running deployment"}},
		{"dropping for an archive", Request{Format: BSON, Drop: true}, nil, []string{"are for restores into a running deployment"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Make(tt.request, base, base.Applied, Stretch{}, s.Rates, tt.to)
			if !errors.Is(err, ErrImpossible) || errors.Is(err, ErrTarget) != tt.request.Push {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.refused {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}
