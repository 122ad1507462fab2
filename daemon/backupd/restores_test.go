package backupd_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/restore"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// asked plans a restore and asks for it, as the server does.
func (w *world) asked(r restoreplan.Request) string {
	w.t.Helper()
	all := w.snapshots()
	src := restoreplan.Source{SetName: "rs0"}
	for i := range all {
		src.Snapshots = append(src.Snapshots, restoreplan.Base{Snapshot: all[i].Rule(), Version: all[i].Version, FCV: all[i].FCV, FileBytes: all[i].FileBytes})
	}
	var err error
	if src.Ranges, src.Holes, err = w.backup.Ranges(w.t.Context(), w.job); err != nil {
		w.t.Fatal(err)
	}
	base, target, err := restoreplan.Moment(r, src)
	if err != nil {
		w.t.Fatal(err)
	}
	plan, err := restoreplan.Make(r, base, target, restoreplan.Stretch{}, restoreplan.DefaultRates, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	kept, err := bson.Marshal(plan)
	if err != nil {
		w.t.Fatal(err)
	}
	id := string(model.NewID())
	err = w.backup.AddRestore(w.t.Context(), backup.Restore{
		ID: id, BatchID: string(model.NewID()), GroupID: model.NewID(), Job: w.job, Created: w.now().UTC(), By: "ann", Status: model.RestoreInProgress,
		Method: model.DeliverHTTP, Format: string(plan.Format), Compress: plan.Compress, SnapshotID: plan.Snapshot, PointInTime: plan.Replay,
		Epoch: plan.Epoch, Target: plan.Target, Plan: kept, Delivery: backup.Delivery{Hours: 1, MaxDownloads: 1},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// archive waits for the end of a restore and unpacks what came of it.
func (w *world) archive(id string) string {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		r, err := w.backup.Restore(w.t.Context(), id)
		if err != nil || r.Status == model.RestoreBroken || time.Now().After(deadline) {
			w.t.Fatalf("%s at %q: %s %v", r.Status, r.Step, r.Error, err)
		}
		if r.Status == model.RestoreFinished {
			if r.Delivery.Status != model.DeliveryReady || len(r.Objects) != 1 {
				w.t.Fatalf("%+v", r)
			}
			return w.unpack(r.Objects[0])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) unpack(o backup.Object) string {
	w.t.Helper()
	in, err := w.blocks.Open(w.t.Context(), o.Key, 0, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var from io.Reader = in
	if strings.HasSuffix(o.Name, ".gz") {
		if from, err = gzip.NewReader(in); err != nil {
			w.t.Fatal(err)
		}
	}
	dir := w.t.TempDir()
	top := ""
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, top)
		}
		if err != nil || !filepath.IsLocal(h.Name) {
			w.t.Fatal(h.Name, err)
		}
		path := filepath.Join(dir, h.Name)
		top, _, _ = strings.Cut(h.Name, "/")
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(tr); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
			}
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// filesDiffer starts a mongod on data files and compares it with the recorded final state.
func (w *world) filesDiffer(dbpath string) []string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "restored")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Rename(dbpath, head.DBPath(dir))); err != nil {
		w.t.Fatal(err)
	}
	heads := w.heads(w.t.TempDir())
	pick, err := heads.Pick(w.t.Context(), w.rel.Versions[0], "")
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := heads.Start(w.t.Context(), head.Spec{Dir: dir, Release: pick})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := h.Stop(context.WithoutCancel(w.t.Context())); err != nil {
			w.t.Error(err)
		}
	}()
	return statetest.Differences(w.t.Context(), h.Client(), statetest.Recorded(w.t))
}

// restoring lets a daemon carry out restores too.
func (w *world) restoring(o *backupd.Options) {
	w.t.Helper()
	r, err := restore.New(restore.Options{
		Backup: w.backup, Blockstores: o.Blockstores, Heads: o.Heads, Slots: o.Slots, Events: w.keep, Root: o.Root, Poll: 50 * time.Millisecond, Now: w.now, Log: o.Log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	o.Restores = r
}

// TestRestores restores the recorded final state by replay from the first snapshot, and from a snapshot as it is.
func TestRestores(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.daemon("d1", t.TempDir(), w.restoring)
	if err := w.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	window := slices.IndexFunc(w.entries, func(e *oplog.Entry) bool { return e.At.TS.After(statetest.Recorded(w.t).Fuzzy.EndTs) })
	if window < 0 {
		t.Fatal("the recording ends with the full read")
	}
	if err := w.tail(t.Context(), window+1, 500); err != nil {
		t.Fatal(err)
	}
	w.applied()
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	if err := w.tail(t.Context(), -1, 500); err != nil {
		t.Fatal(err)
	}
	end := w.entries[len(w.entries)-1].At.TS
	point := w.asked(restoreplan.Request{Point: end, Format: restoreplan.Files, Compress: true})
	dump := w.asked(restoreplan.Request{Point: end, Format: restoreplan.BSON})
	w.applied()
	s := w.wish()
	files := w.asked(restoreplan.Request{Snapshot: s.ID, Format: restoreplan.Files})
	bsons := w.asked(restoreplan.Request{Snapshot: s.ID, Format: restoreplan.BSON, Compress: true})
	for _, c := range []struct {
		name, id string
		differ   func(dir string) []string
	}{
		{"a point in time as files", point, w.filesDiffer},
		{"a point in time as BSON", dump, func(dir string) []string { return statetest.Recorded(t).Dump(filepath.Join(dir, "dump")) }},
		{"a snapshot as files", files, w.filesDiffer},
		{"a snapshot as BSON", bsons, func(dir string) []string { return statetest.Recorded(t).Dump(filepath.Join(dir, "dump")) }},
	} {
		dir := w.archive(c.id)
		if info, err := os.ReadFile(filepath.Join(dir, "restoreInfo.txt")); err != nil || !bytes.Contains(info, []byte(c.id)) {
			t.Errorf("%s: restoreInfo.txt: %q %v", c.name, info, err)
		}
		for _, fault := range c.differ(dir) {
			t.Errorf("%s: %s", c.name, fault)
		}
	}
}
