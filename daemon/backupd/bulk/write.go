package bulk

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
)

// Write carries out the outcome of a batch; again says that it may have been begun before. missing are documents that an
// update should have found, by collection: in the fuzzy window they are noted, after it they are corruption.
func (w *Writer) Write(ctx context.Context, writes []plan.Writes, again bool) (missing []plan.Writes, err error) {
	lanes := make([][]plan.Writes, w.lanes)
	removals := false
	for i := range writes {
		one := &writes[i]
		if again && one.Way == plan.TwoPhase {
			one = &plan.Writes{Collection: one.Collection, Way: one.Way, Inserts: one.Inserts, Deletes: slices.Clone(one.Deletes)}
			for _, p := range one.Inserts {
				one.Deletes = append(one.Deletes, plan.Gone{ID: p.ID})
			}
		}
		removals = removals || one.Way == plan.TwoPhase && len(one.Deletes) > 0
		for n, part := range one.Lanes(w.lanes) {
			if len(part.Inserts)+len(part.Replaces)+len(part.Upserts)+len(part.Deletes)+len(part.Ordered) > 0 {
				lanes[n] = append(lanes[n], part)
			}
		}
	}
	if removals {
		err := w.each(ctx, lanes, func(ctx context.Context, _ int, part *plan.Writes) error {
			if part.Way != plan.TwoPhase {
				return nil
			}
			_, err := w.remove(ctx, part.Collection.NS, gone(part.Deletes))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	absent := make([][]plan.Writes, w.lanes)
	err = w.each(ctx, lanes, func(ctx context.Context, lane int, part *plan.Writes) error {
		switch part.Way {
		case plan.TwoPhase:
			return w.freshly(ctx, part)
		case plan.InOrder:
			return w.ordered(ctx, part, again)
		case plan.InPlace:
		}
		ids, err := w.inPlace(ctx, part, again)
		if len(ids) > 0 {
			absent[lane] = append(absent[lane], plan.Writes{Collection: part.Collection, Missing: ids})
		}
		return err
	})
	return slices.Concat(absent...), err
}

// each runs the parts of every lane, one after another within a lane.
func (w *Writer) each(ctx context.Context, lanes [][]plan.Writes, do func(ctx context.Context, lane int, part *plan.Writes) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for n := range lanes {
		g.Go(func() error {
			for i := range lanes[n] {
				if err := do(ctx, n, &lanes[n][i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func gone(list []plan.Gone) []bsoncore.Value {
	ids := make([]bsoncore.Value, len(list))
	for i, g := range list {
		ids[i] = g.ID
	}
	return ids
}

// freshly inserts where everything of the batch was removed.
func (w *Writer) freshly(ctx context.Context, part *plan.Writes) error {
	there, err := w.insert(ctx, part.Collection.NS, part.Inserts)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("%w: %d documents of %s cannot be inserted, first _id %s: their _id or a unique value of theirs is taken",
			plan.ErrCorruption, len(there), part.Collection.NS, there[0].ID)
	}
	return err
}

func (w *Writer) inPlace(ctx context.Context, part *plan.Writes, again bool) (missing []bsoncore.Value, err error) {
	ns := part.Collection.NS
	if len(part.Deletes) > 0 {
		if _, err := w.remove(ctx, ns, gone(part.Deletes)); err != nil {
			return nil, err
		}
	}
	there, err := w.insert(ctx, ns, part.Inserts)
	if err == nil && len(there) > 0 {
		err = w.instead(ctx, ns, there)
	}
	if err != nil {
		return nil, err
	}
	if missing, err = w.replace(ctx, ns, part.Replaces, again); err != nil {
		return nil, err
	}
	if len(part.Upserts) > 0 {
		err = w.instead(ctx, ns, part.Upserts)
	}
	return missing, err
}

// parted separates the documents that an ordinary update can put in place: not those that it would change, nor those whose
// _id has another type than what they replace (1 and 1.0), whose index entry it would keep, nor those that with their _id a second
// time are larger than a command may be.
func parted(puts []plan.Put) (plain, odd []plan.Put) {
	isOdd := func(p plan.Put) bool {
		id, _ := oplog.Lookup(p.Doc, "_id")
		return p.Exception != 0 || !id.Equal(p.ID) || len(p.Doc)+len(p.ID.Data) > maxCommand
	}
	if !slices.ContainsFunc(puts, isOdd) {
		return puts, nil
	}
	for _, p := range puts {
		if isOdd(p) {
			odd = append(odd, p)
		} else {
			plain = append(plain, p)
		}
	}
	return plain, odd
}

// replace replaces documents and gives the _ids of those that were not there.
func (w *Writer) replace(ctx context.Context, ns string, puts []plan.Put, again bool) (missing []bsoncore.Value, err error) {
	plain, odd := parted(puts)
	for _, p := range odd {
		n, err := w.remove(ctx, ns, []bsoncore.Value{p.ID})
		switch {
		case err != nil:
			return nil, err
		case n == 0 && !again: // done again, it may have been removed and not yet inserted
			missing = append(missing, p.ID)
			continue
		}
		if err := w.exceptional(ctx, ns, p); err != nil {
			return nil, err
		}
	}
	n, err := w.update(ctx, ns, plain)
	if err != nil || n >= len(plain) {
		return missing, err
	}
	have := map[string]bool{}
	ids := make([]bsoncore.Value, len(plain))
	for i, p := range plain {
		ids[i] = p.ID
	}
	if err := w.Find(ctx, ns, ids, true, func(doc bson.Raw) error {
		id, _ := oplog.Lookup(doc, "_id")
		have[document.Key(id)] = true
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !have[document.Key(id)] {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// ordered carries out the operations on a capped collection.
func (w *Writer) ordered(ctx context.Context, part *plan.Writes, again bool) error {
	ns, ops := part.Collection.NS, part.Ordered
	if again {
		done, err := w.undo(ctx, ns, ops)
		if err != nil {
			return err
		}
		// What was inserted before stays: later inserts are to follow it. Replaces may be done twice.
		ops = slices.Clone(ops)
		for i := range ops[:done] {
			if ops[i].Do == plan.Insert {
				ops[i].Do = skip
			}
		}
	}
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].Do == ops[0].Do && ops[0].Do != plan.Again {
			n++
		}
		run := ops[:n]
		ops = ops[n:]
		var err error
		switch run[0].Do {
		case plan.Insert:
			err = w.inOrder(ctx, ns, puts(run))
		case plan.Replace:
			err = w.overwrite(ctx, ns, puts(run))
		case plan.Delete, plan.Again:
			if _, err = w.remove(ctx, ns, orderedIDs(run)); err == nil && run[0].Do == plan.Again {
				err = w.inOrder(ctx, ns, puts(run))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// skip marks an ordered operation that was done.
const skip plan.Do = -1

// overwrite replaces documents of a capped collection in their places. Those that were trimmed meanwhile are not there.
func (w *Writer) overwrite(ctx context.Context, ns string, list []plan.Put) error {
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(p plan.Put) bool { return p.Exception != 0 })
		switch {
		case n < 0:
			n = len(list)
		case n == 0:
			if err := w.overwriteOdd(ctx, ns, list[0]); err != nil {
				return err
			}
			list = list[1:]
			continue
		}
		if _, err := w.update(ctx, ns, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (w *Writer) overwriteOdd(ctx context.Context, ns string, p plan.Put) error {
	if p.Exception&document.DollarName == 0 {
		if _, err := w.update(ctx, ns, []plan.Put{p}); err != nil {
			return err
		}
		return w.setEmpty(ctx, ns, p)
	}
	// The oplog's insert replaces a document that is there, where it is; its update would take $v for its own.
	there := false
	if err := w.Find(ctx, ns, []bsoncore.Value{p.ID}, true, func(bson.Raw) error { there = true; return nil }); err != nil || !there {
		return err
	}
	if err := w.applyOps(ctx, bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: ns}, {Key: "o", Value: p.Doc}}); err != nil {
		return fmt.Errorf("replace _id %s of %s: %w", p.ID, ns, err)
	}
	return w.setEmpty(ctx, ns, p)
}

func puts(ops []plan.Ordered) []plan.Put {
	out := make([]plan.Put, len(ops))
	for i, o := range ops {
		out[i] = o.Put
	}
	return out
}

func orderedIDs(ops []plan.Ordered) []bsoncore.Value {
	out := make([]bsoncore.Value, len(ops))
	for i, o := range ops {
		out[i] = o.ID
	}
	return out
}

// undo makes it possible to do operations on a capped collection again. Where nothing was removed, the newest document tells
// how far they came: done is the number of operations up to its insert. Where something was, everything they inserted is
// removed; the rest may be done twice.
func (w *Writer) undo(ctx context.Context, ns string, ops []plan.Ordered) (done int, err error) {
	var inserted []bsoncore.Value
	removes := false
	for _, o := range ops {
		removes = removes || o.Do == plan.Delete || o.Do == plan.Again
		if o.Do == plan.Insert || o.Do == plan.Again {
			inserted = append(inserted, o.ID)
		}
	}
	if removes {
		_, err := w.remove(ctx, ns, inserted)
		return 0, err
	}
	db, coll := oplog.Split(ns)
	reply, err := w.do(ctx, db, bson.D{
		{Key: "find", Value: coll},
		{Key: "sort", Value: bson.D{{Key: "$natural", Value: -1}}},
		{Key: "limit", Value: 1},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "singleBatch", Value: true},
	})
	if err != nil {
		return 0, fmt.Errorf("read the newest document of %s: %w", ns, err)
	}
	last, err := reply.LookupErr("cursor", "firstBatch", "0", "_id")
	if err != nil {
		return 0, nil //nolint:nilerr // an empty collection
	}
	key := document.Key(bsoncore.Value{Type: bsoncore.Type(last.Type), Data: last.Value})
	for i, o := range ops {
		if o.Do == plan.Insert && document.Key(o.ID) == key {
			return i + 1, nil
		}
	}
	return 0, nil
}

// Find reads documents by _id, in any order; with presence only their _id. each is called by one goroutine at a time and
// owns what it is given.
func (w *Writer) Find(ctx context.Context, ns string, ids []bsoncore.Value, presence bool, each func(bson.Raw) error) error {
	db, coll := oplog.Split(ns)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.lanes)
	turn := make(chan struct{}, 1)
	err := chunks(ids, func(filter []byte) error {
		if err := gctx.Err(); err != nil {
			return context.Cause(gctx)
		}
		g.Go(func() error {
			cmd := bson.D{{Key: "find", Value: coll}, {Key: "filter", Value: bson.Raw(filter)}, {Key: "batchSize", Value: maxIDs + 1}}
			if presence {
				cmd = append(cmd, bson.E{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}})
			}
			cur, err := w.client.Database(db).RunCommandCursor(gctx, cmd)
			if err != nil {
				return fmt.Errorf("read documents of %s: %w", ns, err)
			}
			defer func() { _ = cur.Close(context.WithoutCancel(gctx)) }()
			for cur.Next(gctx) {
				doc := bytes.Clone(cur.Current)
				turn <- struct{}{}
				err := each(doc)
				<-turn
				if err != nil {
					return err
				}
			}
			if err := cur.Err(); err != nil {
				return fmt.Errorf("read documents of %s: %w", ns, err)
			}
			return nil
		})
		return nil
	})
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}
