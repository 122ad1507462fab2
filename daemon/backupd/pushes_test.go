package backupd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// askedPush asks for a push of the newest snapshot.
func (w *world) askedPush(change func(p *restoreplan.Plan)) string {
	w.t.Helper()
	all := w.snapshots()
	s := all[len(all)-1]
	plan := restoreplan.Plan{Snapshot: s.ID, Target: s.Applied.TS, Format: restoreplan.BSON, Push: true, Version: s.Version, FCV: s.FCV}
	change(&plan)
	kept, err := bson.Marshal(plan)
	if err != nil {
		w.t.Fatal(err)
	}
	id := string(model.NewID())
	left := "restores/" + id + "/1-1-part-000001.tar.zst" // of an attempt that was cut short
	if err := blockstore.Put(w.t.Context(), w.blocks, left, []byte("half")); err != nil {
		w.t.Fatal(err)
	}
	err = w.backup.AddRestore(w.t.Context(), backup.Restore{
		ID: id, BatchID: string(model.NewID()), GroupID: model.NewID(), Job: w.job, Created: w.now().UTC(), By: "ann", Status: model.RestoreInProgress,
		Method: model.DeliverPush, Format: string(plan.Format), SnapshotID: plan.Snapshot, TargetGroup: model.NewID(), TargetID: model.NewID(),
		Target: plan.Target, Plan: kept, Delivery: backup.Delivery{Hours: 3},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// parts waits until a push is handed over and reads its parts.
func (w *world) parts(id string) (entries []dump.Entry, docs map[int64][]byte) {
	w.t.Helper()
	var r backup.Restore
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if r, err = w.backup.Restore(w.t.Context(), id); err != nil || r.Status != model.RestoreInProgress || time.Now().After(deadline) {
			w.t.Fatalf("%s at %q: %s %v", r.Status, r.Step, r.Error, err)
		}
		if len(r.Objects) > 0 {
			break
		}
	}
	if r.Daemon != "" || r.StoreID != w.snapshots()[0].StoreID || r.Delivery.Status != model.DeliveryReady || r.Delivery.Expires.Sub(w.now()) > 3*time.Hour || r.Step == "" {
		w.t.Errorf("handed over as %+v", r)
	}
	stored, err := w.blocks.List(w.t.Context(), "restores/"+id+"/", "", 0)
	if err != nil || len(stored) != len(r.Objects) {
		w.t.Errorf("%d objects are stored, %d are named: %v", len(stored), len(r.Objects), err)
	}
	docs = map[int64][]byte{}
	for i, o := range r.Objects {
		in, err := w.blocks.Open(w.t.Context(), o.Key, 0, -1)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil {
			w.t.Fatal(err)
		}
		if sum := sha256.Sum256(b); int64(len(b)) != o.Bytes || hex.EncodeToString(sum[:]) != o.SHA256 || o.Name != dump.PartName(i+1) {
			w.t.Errorf("part %d: %d bytes, named %+v", i, len(b), o)
		}
		p, err := dump.NewReader(bytes.NewReader(b))
		if err != nil {
			w.t.Fatal(err)
		}
		for {
			run, err := p.Next(nil)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				w.t.Fatal(err)
			}
			if run.Number > 0 {
				if e := entries[run.Number-1]; int64(i) < e.First || int64(i) > e.Last {
					w.t.Errorf("part %d holds documents of %s, which is in %d to %d", i, e.NS, e.First, e.Last)
				}
				docs[run.Number] = append(docs[run.Number], run.Docs...)
				continue
			}
			more, err := run.Entries(len(r.Objects))
			if err != nil {
				w.t.Fatal(err)
			}
			entries = append(entries, more...)
		}
		p.Close()
	}
	for i, e := range entries {
		run := dump.Run{Docs: docs[e.Number]}
		n := int64(0)
		_ = run.Each(func(bson.Raw) error { n++; return nil })
		if e.Number != int64(i+1) || n != e.Docs || int64(len(run.Docs)) != e.Bytes {
			w.t.Errorf("entry %d: %+v, and %d documents of %d bytes", i, e, n, len(run.Docs))
		}
	}
	return entries, docs
}

// unfold writes what a push holds as mongodump would.
func unfold(t *testing.T, entries []dump.Entry, docs map[int64][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		db, coll := oplog.Split(e.NS)
		m := dump.Metadata{Options: e.Options, UUID: e.UUID, Name: coll, Type: e.Type, Indexes: e.Indexes}
		if e.IDIndex != nil {
			m.Indexes = append([]bson.Raw{e.IDIndex}, e.Indexes...)
		}
		text, err := m.JSON()
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, db), 0o700), os.WriteFile(filepath.Join(dir, db, dump.FileName(coll)+".metadata.json"), text, 0o600))
		name := coll
		if e.Type == dump.TimeSeries {
			name = dump.Buckets + coll
		}
		if e.Type != dump.View {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, db, dump.FileName(name)+".bson"), docs[e.Number], 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPushesBecomeParts hands pushes over to agents: everything equals the recorded final state, a selection has its other names,
// and nothing is restored by that.
func TestPushesBecomeParts(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.daemon("d1", t.TempDir(), w.restoring)
	if err := w.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.tail(t.Context(), -1, 500); err != nil {
		t.Fatal(err)
	}
	w.applied()
	w.wish()
	all := w.askedPush(func(p *restoreplan.Plan) { p.Users = true })
	some := w.askedPush(func(p *restoreplan.Plan) {
		p.Selected, p.Rename = []string{"w1"}, map[string]string{"w1": "other"}
	})
	entries, docs := w.parts(all)
	for _, fault := range statetest.Recorded(t).Dump(unfold(t, entries, docs)) {
		t.Error(fault)
	}
	if i := slices.IndexFunc(entries, func(e dump.Entry) bool { return e.Direct() }); i >= 0 {
		for _, e := range entries[i:] {
			if e.Type == dump.Collection && !e.Direct() {
				t.Errorf("%s comes after what is written in place", e.NS)
			}
		}
	}
	selected, _ := w.parts(some)
	if len(selected) == 0 {
		t.Error("the selection is empty")
	}
	for _, e := range selected {
		if !strings.HasPrefix(e.NS, "other.") {
			t.Errorf("%s is selected", e.NS)
		}
	}
	if kinds := w.kinds(); slices.Contains(kinds, model.EventRestoreReady) || !slices.Contains(kinds, model.EventRestoreStored) {
		t.Errorf("told %v", kinds)
	}
}
