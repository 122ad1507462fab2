package apply_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// around gives the series that a head's mongod is of and the one before it.
func around(t *testing.T, h *head.Head) (own, before string) {
	t.Helper()
	all := []string{"4.0", "4.2", "4.4", "5.0", "6.0", "7.0", "8.0"}
	parts := strings.SplitN(h.Version, ".", 3)
	i := slices.Index(all, parts[0]+"."+parts[1])
	if i < 1 {
		t.Skip("the mongod of this run is of no series whose neighbours are known: ", h.Version)
	}
	return all[i], all[i-1]
}

// TestFeatureCompatibilityVersion follows a source down and up again: the head goes along, the range of restorable points ends at each
// change, and what the head's mongod does not know needs a full read.
func TestFeatureCompatibilityVersion(t *testing.T) {
	k := newCases(t)
	own, lower := around(t, k.h)
	has := func(want string) {
		t.Helper()
		var p struct {
			FCV struct{ Version string } `bson:"featureCompatibilityVersion"`
		}
		err := k.h.Client().Database("admin").RunCommand(t.Context(), bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}).Decode(&p)
		if err != nil || p.FCV.Version != want {
			t.Errorf("the head has %q, want %q, %v", p.FCV.Version, want, err)
		}
	}
	const about = `"op":"u","ns":"admin.system.version","ui":"U9","o2":{"_id":"featureCompatibilityVersion"},"o":`
	reset := func() {
		t.Helper()
		if err := k.h.Client().Database("admin").RunCommand(t.Context(), bson.D{{Key: "setFeatureCompatibilityVersion", Value: own}, {Key: "confirm", Value: true}}).Err(); err != nil {
			if err := k.h.Client().Database("admin").RunCommand(t.Context(), bson.D{{Key: "setFeatureCompatibilityVersion", Value: own}}).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	reset()

	t.Run("down and up, with restarts in between", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}
			` + about + fmt.Sprintf(`{"_id":"featureCompatibilityVersion","version":%q,"targetVersion":%q,"previousVersion":%q}`, lower, lower, own) + `
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}
			` + about + fmt.Sprintf(`{"_id":"featureCompatibilityVersion","version":%q}`, lower) + `
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3}
			` + about + fmt.Sprintf(`{"$v":2,"diff":{"i":{"targetVersion":%q}}}`, own) + `
			` + about + fmt.Sprintf(`{"$v":2,"diff":{"d":{"targetVersion":false},"u":{"version":%q}}}`, own) + `
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":4}`)
		o := apply.Options{Client: k.h.Client(), Dir: filepath.Join(t.TempDir(), "job")}
		if err := apply.Begin(o.Dir, apply.Beginning{}); err != nil {
			t.Fatal(err)
		}
		ends := 0
		for n, want := range []string{own, own, own, own, lower, lower, lower, own, own} { // after each entry
			a, err := apply.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Apply(t.Context(), each(w.entries[:n+1]), bson.Timestamp{}); err != nil {
				t.Fatal(err)
			}
			has(want)
			kept, err := apply.FCV(o.Dir)
			if err != nil || kept != a.FCV() || kept != "" && kept != want || kept == "" && n >= 4 {
				t.Errorf("after entry %d the state says %q, %v; want %q", n+1, kept, err, want)
			}
			for _, e := range a.Stats().Ends {
				if e.Why == "" || e.At != w.time(5) && e.At != w.time(8) {
					t.Errorf("a range ends at %s: %q", e.At, e.Why)
				}
				ends++
			}
			if a.Applied() != w.time(uint32(n+1)) {
				t.Errorf("applied is %s after entry %d", a.Applied(), n+1)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if ends != 2 {
			t.Errorf("%d ranges end", ends)
		}
		w.has("c", `{"_id":1}
			{"_id":2}
			{"_id":3}
			{"_id":4}`)
	})

	t.Run("one that the head's mongod does not know", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			` + about + `{"_id":"featureCompatibilityVersion","version":"99.0"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}`)
		o := apply.Options{Client: k.h.Client(), Dir: filepath.Join(t.TempDir(), "job")}
		a := w.openIn(o, apply.Beginning{})
		for range 2 { // asked again it says the same, and passes over nothing
			err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{})
			if !errors.Is(err, apply.ErrNewSnapshot) || !strings.Contains(err.Error(), "99.0") || a.Applied() != w.time(1) || a.FCV() != "" {
				t.Errorf("%v; applied %s, version %q", err, a.Applied(), a.FCV())
			}
		}
		w.has("c", "")
		has(own)
	})

	t.Run("while the source was read", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}
			` + about + fmt.Sprintf(`{"_id":"featureCompatibilityVersion","version":%q}`, lower) + `
			@9 "op":"n","ns":"","o":{"msg":"end"}`)
		a := k.copied(w, apply.Options{}, 8, []schema.Collection{k.coll(w, 1, "c", "")}, nil)
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrNewSnapshot) || a.Applied() != w.time(1) {
			t.Errorf("%v, applied %s", err, a.Applied())
		}
		has(own)
	})

	t.Run("a document taken away, and other documents of that collection", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"c","ns":"admin.$cmd","ui":"U9","o":{"create":"system.version"}
			"op":"i","ns":"admin.system.version","ui":"U9","o":{"_id":"authSchema","currentVersion":5}
			"op":"d","ns":"admin.system.version","ui":"U9","o":{"_id":"featureCompatibilityVersion"}`)
		a := w.open(apply.Options{})
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrNewSnapshot) || a.Applied() != w.time(2) {
			t.Errorf("%v, applied %s", err, a.Applied())
		}
		if n, err := k.h.Client().Database("admin").Collection("system.version").CountDocuments(t.Context(), bson.D{{Key: "_id", Value: "authSchema"}}); n != 1 || err != nil {
			t.Errorf("%d documents, %v", n, err)
		}
	})
}
