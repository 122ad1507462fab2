package work

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// begin makes an empty folder for the head of the current epoch, unless there is one that goes on.
func (w *Worker) begin(ctx context.Context, s *job.State, phase job.Phase, from string) error {
	goesOn := w.epoch == s.Epoch.Number && !w.mark.Dirty && w.mark.Phase == phase && w.mark.From == from
	if goesOn {
		return nil
	}
	w.stopHead(ctx)
	if w.epoch != 0 {
		if err := os.RemoveAll(w.dir()); err != nil {
			return fmt.Errorf("remove the old head: %w", err)
		}
	}
	w.epoch = s.Epoch.Number
	w.mark = mark.Mark{Job: w.id, Epoch: w.epoch, Phase: phase, From: from}
	if err := os.MkdirAll(w.dir(), 0o700); err != nil {
		return err
	}
	return mark.Write(w.dir(), w.mark)
}

// seed fills the head with the full read.
func (w *Worker) seed(ctx context.Context, s *job.State) error {
	if err := w.begin(ctx, s, job.Seeding, ""); err != nil {
		return err
	}
	r, err := w.reader(ctx, s)
	if err != nil {
		return err
	}
	var (
		wanted []seed.Collection
		read   []schema.Collection
		views  []bson.Raw
		parts  = map[oplog.UUID]backup.Collection{}
		total  int64
	)
	for c, err := range w.h.Backup.CollectionsOf(ctx, w.id, s.Epoch.Number) {
		switch {
		case err != nil:
			return fmt.Errorf("collections of the full read: %w", err)
		case c.View != nil:
			views = append(views, c.View)
			continue
		case c.Lost != "":
			continue // it was dropped meanwhile: the oplog says so too
		}
		read = append(read, schema.Collection{UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes})
		parts[c.UUID] = c
	}
	window := func(ctx context.Context) iter.Seq2[bson.Raw, error] {
		o := r.Oplog(s.Epoch.Start, s.Epoch.Start)
		return o.Entries(ctx, func() bool { return !o.Covered().Before(s.Epoch.ScanEnd) })
	}
	schemas, err := ownNames(read, func() iter.Seq2[bson.Raw, error] { return window(ctx) })
	if err != nil {
		return err
	}
	for _, c := range schemas {
		part := parts[c.UUID]
		wanted = append(wanted, seed.Collection{Collection: c, Docs: part.Docs, Bytes: part.Bytes})
		total += part.Bytes
	}
	if err := w.startHead(ctx, s); err != nil {
		return err
	}
	began := s.Now
	err = seed.Run(ctx, seed.Options{
		Client: w.head.head.Client(), Dir: w.dir(), Collections: wanted,
		Slices: func(ctx context.Context, c oplog.UUID, first int64) iter.Seq2[[]byte, error] {
			return r.Seed(ctx, parts[c], first)
		},
		Window:   window,
		Progress: func(p seed.Progress) { w.tell(ctx, "seed", began, p.Bytes, total, "bytes") },
	})
	if err != nil {
		return fmt.Errorf("fill the head: %w", err)
	}
	err = apply.Begin(w.dir(), apply.Beginning{Start: s.Epoch.Start, ScanEnd: s.Epoch.ScanEnd, Collections: schemas, Views: views})
	if err != nil {
		return fmt.Errorf("begin to apply: %w", err)
	}
	w.mark.Phase, w.mark.Applied, w.mark.ReplayFrom = job.Window, s.Epoch.Start, s.Epoch.Start
	w.mark.Filter = nil // what was read is known only by what is there
	w.log.InfoContext(ctx, "head filled", obs.KeyCount, len(wanted), obs.KeyBytes, total, obs.KeyTook, w.h.now().Sub(began))
	return errors.Join(mark.Write(w.dir(), w.mark), w.applied(ctx))
}

// applied tells the store how far the head is.
func (w *Worker) applied(ctx context.Context) error {
	w.note()
	return w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		j.Applied, j.ReplayFrom, j.AppliedAt, j.Activity = w.mark.Applied, w.mark.ReplayFrom, w.h.now(), nil
		return nil
	})
}

// A step of applying ends after a while, so that snapshots, chores and other jobs get their turn.
const applyFor = 10 * time.Second

// farBehind is when the faster way of writing is chosen.
const farBehind = 10 * time.Minute

// apply applies stored oplog.
func (w *Worker) apply(ctx context.Context, s *job.State, until bson.Timestamp) (again bool, err error) {
	if err := w.startHead(ctx, s); err != nil {
		return false, err
	}
	a, began := w.head.applier, time.Now()
	a.Behind(job.Time(s.Epoch.Head.Last.TS).Sub(job.Time(a.Applied().TS)) > farBehind)
	before := a.Stats()
	enough := func() bool { return time.Since(began) > applyFor || w.head.tired(false) }
	err = a.Apply(ctx, w.head.feed.Entries(ctx, enough), until)
	if errors.Is(err, apply.ErrWindow) {
		err = nil
	}
	if through := w.head.feed.Covered(); err == nil && a.Applied().Before(through) && (until.IsZero() || !until.Before(through.TS)) {
		err = a.Covered(through)
	}
	after := a.Stats()
	w.h.Metrics.entries.Add(float64(after.Entries - before.Entries))
	w.h.Metrics.applied.Add(float64(after.Bytes - before.Bytes))
	w.h.Metrics.behind.Set(max(0, job.Time(s.Epoch.Head.Last.TS).Sub(job.Time(a.Applied().TS)).Seconds()))
	if err := w.breaks(ctx, s, after); err != nil {
		return false, err
	}
	w.oddities(ctx, after)
	if err := errors.Join(err, w.applied(ctx)); err != nil {
		return false, err
	}
	if err := mark.Write(w.dir(), w.mark); err != nil {
		return false, err
	}
	if w.head.tired(false) {
		w.stopHead(ctx)
	}
	return w.mark.Applied.Before(s.Epoch.Head.Last), nil
}

// breaks keeps the points behind which a new range of restorable points begins.
func (w *Worker) breaks(ctx context.Context, s *job.State, st apply.Stats) error {
	for _, e := range st.Ends[min(w.head.ends, len(st.Ends)):] {
		w.log.InfoContext(ctx, "no restore goes past this point of the oplog; a snapshot follows", obs.KeyReason, e.Why, obs.KeyTo, e.At)
		if err := w.h.Backup.AddBreak(ctx, w.id, s.Epoch.Number, backup.Break{At: e.At.TS, Why: e.Why}); err != nil {
			return err
		}
		w.head.ends++
	}
	return nil
}

// oddities logs what the applier let pass, once each.
func (w *Worker) oddities(ctx context.Context, st apply.Stats) {
	for what, n := range st.Odd {
		if w.head.odd[what] == 0 {
			w.log.WarnContext(ctx, "odd entries in the oplog", obs.KeyReason, what, obs.KeyCount, n)
		}
		w.head.odd[what] = n
	}
}

// ask asks the agent for the documents that the full read lacks, as many as go at once.
func (w *Worker) ask(ctx context.Context, s *job.State) error {
	if err := w.startHead(ctx, s); err != nil {
		return err
	}
	all, _ := w.head.applier.Catalogue()
	names := make(map[oplog.UUID]string, len(all))
	for _, c := range all {
		names[c.UUID] = c.NS
	}
	var asked []backup.MissingDocs
	n := 0
	for uuid, ids := range w.head.applier.Missing() {
		m := backup.MissingDocs{UUID: uuid, NS: names[uuid]}
		for _, id := range ids[:min(len(ids), wire.MaxMissing-n)] {
			m.IDs = append(m.IDs, bsoncore.BuildDocumentFromElements(nil, bsoncore.AppendValueElement(nil, "_id", id)))
		}
		if n += len(m.IDs); len(m.IDs) > 0 {
			asked = append(asked, m)
		}
	}
	w.h.Metrics.warned.Add(float64(n))
	w.log.WarnContext(ctx, "the full read lacks documents that the oplog changes: the agent is asked for them", obs.KeyCount, n)
	return w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		j.Missing, j.Found = asked, nil
		return nil
	})
}

// fill writes the agent's answer.
func (w *Worker) fill(ctx context.Context, s *job.State) error {
	if err := w.startHead(ctx, s); err != nil {
		return err
	}
	r, err := w.reader(ctx, s)
	if err != nil {
		return err
	}
	b, err := blockstore.Get(ctx, r.Blocks, s.Job.Found.Key, wire.MaxSliceBytes)
	if errors.Is(err, blockstore.ErrNotFound) {
		err = fmt.Errorf("%w: %s", stored.ErrLost, s.Job.Found.Key)
	}
	if err != nil {
		return fmt.Errorf("the documents that were missing: %w", err)
	}
	found, err := wire.Decode[wire.FoundDocs](b)
	if err != nil {
		return fmt.Errorf("the documents that were missing: %w", err)
	}
	docs, absent := map[oplog.UUID][]bson.Raw{}, map[oplog.UUID][]bsoncore.Value{}
	for _, f := range found.Found {
		docs[f.UUID] = append(docs[f.UUID], f.Docs...)
	}
	for _, m := range found.Absent {
		for _, id := range m.IDs {
			v, ok := oplog.Lookup(id, "_id")
			if !ok {
				return errors.New("the documents that were missing: an answer without an _id")
			}
			absent[m.UUID] = append(absent[m.UUID], v)
		}
	}
	seen := map[oplog.UUID]bool{}
	give := func(uuid oplog.UUID) error {
		if seen[uuid] {
			return nil
		}
		seen[uuid] = true
		return w.head.applier.Fetched(ctx, uuid, docs[uuid], absent[uuid], found.OperationTime)
	}
	for uuid := range docs {
		if err := give(uuid); err != nil {
			return err
		}
	}
	for uuid := range absent {
		if err := give(uuid); err != nil {
			return err
		}
	}
	w.log.InfoContext(ctx, "documents that the full read lacked were written", obs.KeyCount, len(docs)+len(absent))
	return w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		j.Missing, j.Found = nil, nil
		return nil
	})
}

// finish ends the window: the head is consistent from here on.
func (w *Worker) finish(ctx context.Context, s *job.State) error {
	if err := w.startHead(ctx, s); err != nil {
		return err
	}
	began := s.Now
	err := w.head.applier.FinishWindow(ctx, func(built, total int) { w.tell(ctx, "index", began, int64(built), int64(total), "indexes") })
	if errors.Is(err, apply.ErrMissing) || errors.Is(err, apply.ErrWindow) {
		return nil // the next decision sees what is missing
	}
	if err != nil {
		return fmt.Errorf("build the indexes: %w", err)
	}
	w.mark.Phase = job.Ready
	w.h.Event(ctx, model.Event{Type: model.EventSyncFinished, GroupID: s.Job.GroupID, ClusterID: w.id, Text: "The full read is complete and consistent; the first snapshot follows."})
	return errors.Join(w.applied(ctx), mark.Write(w.dir(), w.mark))
}

// restore makes the head from a snapshot.
func (w *Worker) restore(ctx context.Context, s *job.State, from backup.Snapshot) error {
	resume := w.epoch == s.Epoch.Number && w.mark.From == from.ID
	if resume {
		w.mark.Dirty = false
	}
	if err := w.begin(ctx, s, job.None, from.ID); err != nil {
		return err
	}
	bs, err := w.h.Blockstores(ctx, from.StoreID)
	if err != nil {
		return fmt.Errorf("open store %q: %w", from.StoreID, err)
	}
	began := s.Now
	meta, err := snap.Restore(ctx, snap.RestoreOptions{
		Blocks: bs, Job: w.id, ID: from.ID, Dir: w.dir(), Resume: resume,
		Progress: func(done, total int64) { w.tell(ctx, "restore", began, done, total, "bytes") },
	})
	if err != nil {
		return fmt.Errorf("make the head from snapshot %s: %w", from.ID, err)
	}
	w.mark = mark.Mark{Job: w.id, Epoch: w.epoch, Phase: job.Ready, Applied: meta.Applied, ReplayFrom: meta.ReplayFrom, Filter: &mark.Held{Kind: meta.Filter, Namespaces: meta.Namespaces}}
	w.log.InfoContext(ctx, "head made from a snapshot", obs.KeyKey, from.ID, obs.KeyTook, w.h.now().Sub(began))
	return errors.Join(mark.Write(w.dir(), w.mark), w.applied(ctx))
}

// discard removes the head of an epoch that is over.
func (w *Worker) discard(ctx context.Context) error {
	if w.aside != nil { // it may be reading the files
		w.aside.cancel()
		<-w.aside.done
		a := w.aside
		w.aside = nil
		if err := a.finish(ctx); err != nil {
			w.log.InfoContext(ctx, "work was cut short", obs.KeyErr, err)
		}
	}
	w.stopHead(ctx)
	if err := os.RemoveAll(w.dir()); err != nil {
		return err
	}
	w.epoch, w.mark = 0, mark.Mark{}
	return nil
}

// terminate lets go of a backup that is being deleted: the head goes here, everything else is the duty backup-expire's, which
// waits for the lease.
func (w *Worker) terminate(ctx context.Context) error {
	if w.epoch != 0 || w.aside != nil {
		if err := w.discard(ctx); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(w.h.JobDir(w.id)); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "the backup is being deleted: its head is gone")
	return errGone
}

// newestFirst lists the snapshots that the next one may be compared with.
func newestFirst(s *job.State) []string {
	var ids []string
	for _, x := range slices.Backward(s.Snapshots) {
		if x.Complete && x.Condemned.IsZero() && x.VerifyError == "" && x.StoreID == s.Job.StoreID {
			ids = append(ids, x.ID)
		}
	}
	return ids
}
