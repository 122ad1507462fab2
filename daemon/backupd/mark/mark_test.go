package mark

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

func TestMarkOfAHead(t *testing.T) {
	dir := t.TempDir()
	if _, ok, err := Read(dir); ok || err != nil {
		t.Errorf("a folder without a mark: %v %v", ok, err)
	}
	at := oplog.OpTime{TS: bson.Timestamp{T: 1700000000, I: 3}, Term: 2}
	want := Mark{Job: "j", Epoch: 4, Phase: job.Ready, Applied: at, ReplayFrom: at, Snapshot: "s", Filter: &Held{Kind: filter.Exclude, Namespaces: []string{"a", "b.c"}}}
	if err := Write(dir, want); err != nil {
		t.Fatal(err)
	}
	got, ok, err := Read(dir)
	if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
		t.Errorf("%v %v %s", ok, err, diff)
	}
	path := filepath.Join(dir, file)
	for _, c := range []struct {
		name    string
		content []byte
		fails   bool
	}{
		{"torn", []byte(`{"job":"j","epoch":4,"pha`), false},
		{"empty", nil, false},
		{"too large to be one", make([]byte, maxSize+1), true},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, ok, err := Read(dir)
		if (err != nil) != c.fails || !c.fails && (!ok || !got.Dirty) {
			t.Errorf("%s: %+v %v %v", c.name, got, ok, err)
		}
	}
}

func TestAHeadNeverHoldsMoreThanWasRead(t *testing.T) {
	without := func(ns ...string) *Held { return &Held{Kind: filter.Exclude, Namespaces: ns} }
	only := func(ns ...string) *Held { return &Held{Kind: filter.Include, Namespaces: ns} }
	for _, c := range []struct {
		name             string
		have, want, then *Held
	}{
		{"a mark of an older version", nil, without("a"), without("a")},
		{"the same", without("a"), without("a"), without("a")},
		{"more is excluded", without("a"), without("a", "b"), without("a", "b")},
		{"less is excluded: from the next full read on", without("a", "b"), without("a"), without("a", "b")},
		{"nothing was excluded", &Held{}, without("a"), without("a")},
		{"nothing is excluded any more", without("a"), &Held{}, without("a")},
		{"less is included", only("a", "b"), only("b"), only("b")},
		{"other things are included", only("a"), only("b"), only("a")},
	} {
		to, is, err := Narrowed(c.have, c.want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.then, to); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		named, err := filter.New(to.Kind, to.Namespaces)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range []string{"a.x", "b.x", "c.x"} {
			if is.Wants(ns) != named.Wants(ns) {
				t.Errorf("%s: the filter of another list: %s", c.name, ns)
			}
		}
		if !to.Same(c.then) || c.have == nil && to.Same(nil) {
			t.Errorf("%s: same", c.name)
		}
	}
	if _, _, err := Narrowed(nil, &Held{Kind: filter.Include}); err == nil {
		t.Error("a list that holds nothing is taken")
	}
}
