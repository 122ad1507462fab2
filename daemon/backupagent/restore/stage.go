package restore

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
)

// Work that goes on at the same time.
const (
	inserters = 4 // runs of documents that are inserted
	builders  = 2 // collections whose indexes are built; servers build few at a time
)

// staged is the name under which an entry's documents gather, in the database where they are to be.
func (w *work) staged(e *dump.Entry) (db, coll string) {
	db, _ = oplog.Split(e.NS)
	return db, fmt.Sprintf("%s%d", w.staging, e.Number)
}

// stages reports whether an entry is staged.
func stages(e *dump.Entry) bool { return e.Type == dump.Collection && !e.Direct() }

// stage makes every collection that can be staged, with all its documents and indexes, under a name of its own.
func (w *work) stage(ctx context.Context) error {
	w.begin("makes collections", 0, 0)
	if err := w.createStaged(ctx); err != nil {
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	w.at(restoreplan.DoIndexes)
	w.begin("builds indexes", 0, 0)
	g, building := errgroup.WithContext(ctx)
	g.SetLimit(builders)
	var built atomic.Int64
	for i := range w.entries {
		e := &w.entries[i]
		if p := w.j.colls[e.Number]; !stages(e) || p.Built {
			continue
		}
		if building.Err() != nil {
			break
		}
		g.Go(func() error {
			db, coll := w.staged(e)
			if err := w.whole(building, e, db, coll); err != nil {
				return err
			}
			if err := w.index(building, e, db, coll); err != nil {
				return err
			}
			w.begin(fmt.Sprintf("builds indexes: %d collections done", built.Add(1)), 0, 0)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range w.entries { // in one go: the journal belongs to this goroutine
		e := &w.entries[i]
		if p := w.j.colls[e.Number]; stages(e) && !p.Built {
			p.Built = true
			if err := w.j.place(ctx, e.Number, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// createStaged makes the staging collections that the journal does not know, and notes their UUIDs, by which they are known once they are in place.
func (w *work) createStaged(ctx context.Context) error {
	for db, entries := range w.byDatabase() {
		have, err := w.t.List(ctx, db, bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^" + w.staging}}}})
		if err != nil {
			return err
		}
		made := 0
		for _, e := range entries {
			_, coll := w.staged(e)
			_, there := have[coll]
			if known := w.j.colls[e.Number].UUID.Data != nil; !stages(e) || there || known {
				if stages(e) && known && !there {
					return fmt.Errorf("%s.%s: %w", db, coll, errGone)
				}
				continue
			}
			if err := w.create(ctx, db, coll, e.Options); err != nil {
				return err
			}
			made++
		}
		if made > 0 {
			if have, err = w.t.List(ctx, db, bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^" + w.staging}}}}); err != nil {
				return err
			}
		}
		for _, e := range entries {
			_, coll := w.staged(e)
			if !stages(e) || w.j.colls[e.Number].UUID.Data != nil {
				continue
			}
			x, ok := have[coll]
			if !ok || len(x.UUID) == 0 {
				return fmt.Errorf("%s.%s: %w", db, coll, errGone)
			}
			if err := w.j.place(ctx, e.Number, placed{NS: e.NS, UUID: bson.Binary{Subtype: 4, Data: x.UUID}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes a collection; one that is there already, from a command whose answer was lost, is no error.
func (w *work) create(ctx context.Context, db, coll string, opts bson.Raw) error {
	opts, err := preImages(opts, w.version)
	if err != nil {
		return err
	}
	cmd := bson.D{{Key: "create", Value: coll}}
	if len(opts) > 0 {
		elements, err := opts.Elements()
		if err != nil {
			return err
		}
		for _, e := range elements {
			cmd = append(cmd, bson.E{Key: e.Key(), Value: e.Value()})
		}
	}
	_, err = w.t.Write(ctx, target.Quick, db, cmd)
	if err != nil && !target.Is(err, target.CodeNamespaceExists) {
		return fmt.Errorf("create %s.%s: %w", db, coll, err)
	}
	return nil
}

// fill fetches the parts that hold documents of staged collections, one ahead of the one that is written, and inserts them.
func (w *work) fill(ctx context.Context) error {
	wanted := map[int64]bool{}
	need := make([]bool, len(w.push.Objects))
	var all, done int64
	for i := range w.entries {
		e := &w.entries[i]
		if !stages(e) || e.Docs == 0 {
			continue
		}
		wanted[e.Number] = true
		all += e.Bytes
		for n := e.First; n <= e.Last; n++ {
			need[n] = true
		}
	}
	var todo []int
	for n := range need {
		if need[n] && !w.j.parts[n] {
			todo = append(todo, n)
		}
	}
	// What was staged before is not counted again: parts are about equal in size.
	needed := 0
	for n := range need {
		if need[n] {
			needed++
		}
	}
	if needed > 0 {
		done = all * int64(needed-len(todo)) / int64(needed)
	}
	w.begin("writes collections under names of their own", done, all)
	for i, n := range todo {
		g, both := errgroup.WithContext(ctx)
		if i+1 < len(todo) {
			g.Go(func() error {
				if _, err := w.f.Get(ctx, n); err != nil { // not two at a time from the server
					return nil //nolint:nilerr // the other says so
				}
				_, err := w.f.Get(both, todo[i+1])
				if both.Err() != nil {
					return nil // the other says why
				}
				return err
			})
		}
		g.Go(func() error { return w.part(both, n, func(number int64) bool { return wanted[number] }, w.staged) })
		if err := g.Wait(); err != nil {
			return err
		}
		if err := w.j.part(ctx, n); err != nil {
			return err
		}
		w.f.Done(n)
	}
	return nil
}

// part inserts what a part holds of the entries that keep wants, into the collections that to names.
func (w *work) part(ctx context.Context, n int, keep func(number int64) bool, to func(e *dump.Entry) (db, coll string)) error {
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(inserters)
	err := w.f.Read(ctx, n, keep, func(run dump.Run) error {
		if run.Number > int64(len(w.entries)) {
			return fmt.Errorf("%w: documents of entry %d, the catalogue has %d", dump.ErrBad, run.Number, len(w.entries))
		}
		if writing.Err() != nil {
			return context.Cause(writing)
		}
		e := &w.entries[run.Number-1]
		db, coll := to(e)
		write := func() error {
			inOrder := capped(e)
			if err := w.insert(writing, db, coll, &run, inOrder); err != nil {
				return err
			}
			w.progress(int64(len(run.Docs)))
			return nil
		}
		if capped(e) {
			return write() // its runs follow each other
		}
		g.Go(write)
		return nil
	})
	werr := g.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case werr != nil:
		return werr
	}
	return err
}

func capped(e *dump.Entry) bool {
	v, _ := oplog.Lookup(e.Options, "capped")
	b, _ := v.BooleanOK()
	return b
}

// whole compares the number of documents with what the backup says. A number that was estimated is counted.
func (w *work) whole(ctx context.Context, e *dump.Entry, db, coll string) error {
	raw, err := w.t.Do(ctx, target.Slow, db, bson.D{{Key: "count", Value: coll}})
	if err != nil {
		return fmt.Errorf("count %s.%s: %w", db, coll, err)
	}
	n := target.Whole(raw, "n")
	if n != e.Docs {
		docs, err := w.t.Query(ctx, db, bson.D{
			{Key: "aggregate", Value: coll},
			{Key: "cursor", Value: bson.D{}},
			{Key: "pipeline", Value: bson.A{bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: nil}, {Key: "n", Value: bson.D{{Key: "$sum", Value: 1}}}}}}}},
		})
		if err != nil {
			return fmt.Errorf("count %s.%s: %w", db, coll, err)
		}
		n = 0
		if len(docs) > 0 {
			n = target.Whole(docs[0], "n")
		}
	}
	if n == e.Docs || n < e.Docs && shrinks(e) {
		return nil
	}
	return refuse("Start the restore again, and see that nobody writes to collections whose names begin with hwrestore_.",
		"%s has %d documents in the backup, and %d arrived in the target", e.NS, e.Docs, n)
}

// shrinks reports whether a server removes documents of an entry by itself.
func shrinks(e *dump.Entry) bool {
	_, expires := oplog.Lookup(e.Options, "expireAfterSeconds")
	return expires || capped(e)
}

// index builds the indexes of an entry. Of members that vote a majority is waited for: one that is down holds nothing up.
func (w *work) index(ctx context.Context, e *dump.Entry, db, coll string) error {
	if len(e.Indexes) == 0 {
		return nil
	}
	cmd := bson.D{{Key: "createIndexes", Value: coll}, {Key: "indexes", Value: e.Indexes}}
	if !target.Older(w.version, "4.4") {
		cmd = append(cmd, bson.E{Key: "commitQuorum", Value: "majority"})
	}
	if _, err := w.t.Write(ctx, target.Slow, db, cmd); err != nil {
		return fmt.Errorf("build the indexes of %s: %w", e.NS, err)
	}
	return nil
}
