package restoreplan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fits is a target that nothing is wrong with, changed.
func fits(changes ...func(*Target)) *Target {
	to := &Target{Name: "rs1", Cluster: "c1", ReplicaSet: true, Version: "7.0.14", FCV: "7.0", Watched: true, Primary: true, Agent: true, Listed: true}
	for _, change := range changes {
		change(to)
	}
	return to
}

// TestPushIsPlanned looks at a whole plan of a push.
func TestPushIsPlanned(t *testing.T) {
	s := source()
	base := s.Snapshots[0]
	base.Collections = append(base.Collections, Namespace{NS: "shop.system.buckets.weather", Bytes: 1 << 20})
	to := fits(func(to *Target) {
		to.SameSet, to.Databases, to.Namespaces = true, []string{"shop"}, []string{"shop.orders", "shop.system.buckets.weather"}
		to.Free, to.FreeOn = 900<<20, "db1:27017"
	})
	rates := Rates{Fetch: 100 << 20, Replay: 1000, Deliver: 50 << 20, Index: 10 << 20}
	p, err := Make(Request{Push: true, Drop: true, Users: true, Rename: map[string]string{"crm": "crm2"}}, base, ts(noon+60, 1), Stretch{Entries: 3000, Bytes: 1 << 20}, rates, to)
	if err != nil {
		t.Fatal(err)
	}
	documents := int64(200+50+1+1)<<20 + 1<<10
	want := []Step{
		{Do: DoFetch, Text: "Fetch the files of the snapshot of 2026-03-01T12:00:00Z", Bytes: 300 << 20, Seconds: 3},
		{Do: DoReplay, Text: "Replay 3000 oplog entries up to 2026-03-01T12:01:00Z", Bytes: 1 << 20, Entries: 3000, Seconds: 3},
		{Do: DoParts, Text: "Write 5 collections into the block store, in parts", Bytes: documents, Seconds: 5},
		{Do: DoStage, Text: "The backup agent beside rs1 fetches the parts and writes them into collections of other names there", Bytes: documents, Seconds: 5},
		{Do: DoIndexes, Text: "It builds their indexes", Seconds: 25},
		{Do: DoSwap, Text: "It puts them in place, each at one moment, and adds users and roles"},
	}
	if diff := cmp.Diff(want, p.Steps); diff != "" {
		t.Error(diff)
	}
	if p.Seconds != 3+3+5+5+25+1 || p.Bytes != 301<<20+2*documents {
		t.Errorf("%d s, %d bytes", p.Seconds, p.Bytes)
	}
	if diff := cmp.Diff([]string{"shop.orders", "shop.weather"}, p.Overwrites); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"shop"}, p.MayHold); diff != "" { // shop.items may have been made since
		t.Error(diff)
	}
	if !p.Destroys() || p.Into == nil || *p.Into != (Into{"rs1", "c1", "7.0.14", "7.0"}) || p.Format != BSON || !p.Users {
		t.Errorf("destroys %v, into %+v, format %s, users %v", p.Destroys(), p.Into, p.Format, p.Users)
	}
	for _, want := range []string{
		"about 300 MiB more; 900 MiB is left on db1:27017", "rs1 has the database shop already: collections of these names are replaced", "after the restored moment is lost",
		"rs1 is the deployment that the backup is of", "Time-series collections (shop.weather) and views cannot", "that rs1 does not have are added", "Collections made between the snapshot",
	} {
		if !strings.Contains(strings.Join(p.Warnings, "\n"), want) {
			t.Errorf("no warning with %q among\n%s", want, strings.Join(p.Warnings, "\n"))
		}
	}
}

// TestWhatIsNotKnownOfATargetIsSaid keeps plans honest where monitoring has not seen everything.
func TestWhatIsNotKnownOfATargetIsSaid(t *testing.T) {
	s := source()
	tests := []struct {
		name    string
		request Request
		to      *Target
		holds   []string
		says    []string
		silent  []string
	}{
		{
			"an empty target",
			Request{},
			fits(), nil,
			[]string{"needs room for both", "change places one after the other"},
			[]string{"already", "is lost", "not known", "deployment that the backup is of", "namespaces"},
		},
		{
			"one whose databases are not known",
			Request{},
			fits(func(to *Target) { to.Listed = false }),
			[]string{"crm", "shop"},
			[]string{"Which databases rs1 has is not known", "refuses before it writes anything"},
			nil,
		},
		{
			"one with a database of that name",
			Request{Namespaces: []string{"shop.items"}},
			fits(func(to *Target) { to.Databases = []string{"shop", "crm"} }),
			[]string{"shop"},
			[]string{"rs1 has the database shop already: its backup agent looks"},
			nil,
		},
		{
			"one that had a collection of that name",
			Request{Namespaces: []string{"shop.items"}},
			fits(func(to *Target) { to.Databases, to.Namespaces = []string{"crm"}, []string{"shop.items"} }),
			nil,
			[]string{"rs1 had shop.items at its last snapshot: its backup agent looks, and refuses before it writes anything"},
			nil,
		},
		{
			"no version",
			Request{},
			fits(func(to *Target) { to.Version, to.FCV = "", "" }), nil,
			[]string{"The version of rs1 is not known"},
			nil,
		},
		{
			"no feature compatibility version",
			Request{},
			fits(func(to *Target) { to.FCV, to.Version = "", "8.0.4" }), nil,
			[]string{"The feature compatibility version of rs1 is not known"},
			nil,
		},
		{
			"monitoring that is silent",
			Request{},
			fits(func(to *Target) { to.Watched, to.Primary = false, false }), nil,
			[]string{"has not seen rs1 lately"},
			nil,
		},
		{
			"names that the snapshot does not have",
			Request{Namespaces: []string{"shop.order"}},
			fits(), nil,
			[]string{"no collection of the names that were chosen"},
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.request
			r.Push = true
			p, err := Make(r, s.Snapshots[0], s.Snapshots[0].Applied, Stretch{}, s.Rates, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.holds, p.MayHold); diff != "" {
				t.Error(diff)
			}
			all := strings.Join(p.Warnings, "\n")
			for _, want := range tt.says {
				if !strings.Contains(all, want) {
					t.Errorf("no %q in\n%s", want, all)
				}
			}
			for _, no := range tt.silent {
				if strings.Contains(all, no) {
					t.Errorf("%q in\n%s", no, all)
				}
			}
			if p.Destroys() {
				t.Error("it destroys without leave")
			}
		})
	}
}

// TestTargetsThatCannotBe refuses each with all its reasons at once.
func TestTargetsThatCannotBe(t *testing.T) {
	s := source()
	tests := []struct {
		name    string
		request Request
		to      *Target
		refused []string
	}{
		{"none", Request{}, nil, []string{"a target deployment is needed"}},
		{"a sharded cluster", Request{}, fits(func(to *Target) { to.ReplicaSet, to.Agent = false, false }), []string{"rs1 is no replica set of its own"}},
		{
			"everything wrong",
			Request{Users: true, Namespaces: []string{"shop"}},
			fits(func(to *Target) {
				to.Version, to.FCV, to.Primary, to.Agent, to.Busy = "6.0.20", "6.0", false, false, "r7"
				to.Namespaces, to.Free, to.FreeOn = []string{"shop.items"}, 1<<20, "db2:27017"
			}),
			[]string{
				"rs1 has no primary", "no backup agent of the group of rs1 is calling", "restore r7 is being written into rs1", "leave the choice of namespaces out", "has feature compatibility version 6.0, the backup's feature compatibility version is 7.0: raise it",
				"db2:27017 has 1 MiB of disk left and about 298 MiB are needed",
			},
		},
		{"an older release whose version alone is known", Request{}, fits(func(to *Target) { to.Version, to.FCV = "6.0.20", "" }), []string{"rs1 has mongod 6.0.20, the backup's feature compatibility version is 7.0"}},
		{"two releases beyond", Request{}, fits(func(to *Target) { to.Version, to.FCV = "9.0.1", "9.0" }), []string{"more than one release beyond the backup's feature compatibility version 7.0"}},
		{"three releases beyond, its version alone known", Request{}, fits(func(to *Target) { to.Version, to.FCV = "10.0.1", "" }), []string{"has mongod 10.0.1, more than one release beyond"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.request
			r.Push = true
			_, err := Make(r, s.Snapshots[0], s.Snapshots[0].Applied, Stretch{}, s.Rates, tt.to)
			if !errors.Is(err, ErrImpossible) || !errors.Is(err, ErrTarget) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.refused {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
	_, _, moment := Moment(Request{Second: time.Unix(0, 0)}, s)
	both := Impossible(moment, fits(func(to *Target) { to.Agent = false }))
	if !errors.Is(both, ErrTarget) || !strings.Contains(both.Error(), "first snapshot is of") || !strings.Contains(both.Error(), "no backup agent") {
		t.Errorf("a moment and a target that cannot be: %v", both)
	}
	if only := Impossible(moment, fits()); errors.Is(only, ErrTarget) || !errors.Is(only, ErrImpossible) {
		t.Errorf("a moment alone: %v", only)
	}
}

// TestReleases holds the order of releases to how they followed each other.
func TestReleases(t *testing.T) {
	order := [][]string{{"3.6"}, {"4.0"}, {"4.2"}, {"4.4"}, {"5.0", "5.3"}, {"6.0", "6.3"}, {"7.0", "7.3"}, {"8.0", "8.2"}}
	for i, same := range order {
		for _, v := range same {
			if family(v) != i+1 {
				t.Errorf("%s is of release %d, want %d", v, family(v), i+1)
			}
		}
	}
	base := source().Snapshots[0]
	for _, tt := range []struct {
		backup, target string
		ok             bool
	}{
		{"4.2", "4.2", true},
		{"4.2", "4.4", true},
		{"4.2", "5.0", false},
		{"4.4", "5.0", true},
		{"7.0", "7.0", true},
		{"7.0", "8.0", true},
		{"8.2", "8.0", false},
		{"8.0", "8.2", true},
		{"8.0", "7.0", false},
	} {
		base.FCV = tt.backup
		_, err := Make(Request{Push: true}, base, base.Applied, Stretch{}, DefaultRates, fits(func(to *Target) { to.FCV = tt.target }))
		if (err == nil) != tt.ok {
			t.Errorf("a backup of %s into %s: %v", tt.backup, tt.target, err)
		}
	}
}
