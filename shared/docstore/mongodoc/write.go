package mongodoc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// item is an operation of a batch on its way.
type item struct {
	docstore.Op
	at   int // its place in the batch
	rev  int64
	coll *docstore.Collection
}

// conditional says whether the operation's own match count is needed: such ones are sent alone.
func (it item) conditional() bool {
	return it.Kind == docstore.Replace || it.Kind == docstore.Delete && it.Rev != 0
}

// parallel bounds the commands of one unordered batch under way at once.
const parallel = 8

// Write carries out a batch; see docstore.Engine. Operations of one collection go out as one bulk write (a run); in an
// ordered batch a run ends where the collection changes, and conditional writes stand alone.
func (e *Engine) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	results := make([]docstore.Result, len(ops))
	err := e.write(ctx, ops, ordered, results)
	if err != nil {
		for i, r := range results {
			if r.Err == nil && r.Rev == 0 {
				results[i].Err = err
			}
		}
	}
	return results, err
}

func (e *Engine) write(ctx context.Context, ops []docstore.Op, ordered bool, results []docstore.Result) error {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if len(ops) > docstore.MaxBatch {
		return fmt.Errorf("%w: a batch of %d operations, at most %d are allowed", docstore.ErrInvalid, len(ops), docstore.MaxBatch)
	}
	items := e.prepare(ops, ordered, results)
	if !ordered {
		list := runs(items, false)
		return together(len(list), func(i int) error {
			_, err := e.run(ctx, list[i], false, results)
			return err
		})
	}
	wrote := false
	for _, run := range runs(items, true) {
		failed, err := e.run(ctx, run, true, results)
		if err != nil {
			return partly(wrote, err)
		}
		wrote = true
		if failed {
			break
		}
	}
	stopped := false
	for i := range results {
		if stopped {
			results[i] = docstore.Result{Err: docstore.ErrNotAttempted}
		}
		stopped = stopped || results[i].Err != nil
	}
	return nil
}

// partly is the error of a batch of which a part was written: "nothing was written" would not be true.
func partly(wrote bool, err error) error {
	if wrote && !errors.Is(err, docstore.ErrOutcomeUnknown) {
		return fmt.Errorf("%w: a part of the batch was written: %w", docstore.ErrOutcomeUnknown, err)
	}
	return err
}

// together carries out n independent writes side by side, each of which fails for the batch as a whole or not at all.
func together(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	errs := make([]error, n)
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range n {
		g.Go(func() error {
			errs[i] = do(i)
			return nil
		})
	}
	_ = g.Wait()
	var worst error
	wrote := false
	for _, err := range errs {
		switch {
		case err == nil:
			wrote = true
		case worst == nil || errors.Is(err, docstore.ErrOutcomeUnknown):
			worst = err
		}
	}
	if worst == nil {
		return nil
	}
	return partly(wrote, worst)
}

// prepare checks the operations and keeps those to be sent; an ordered batch is cut before the first that cannot be.
func (e *Engine) prepare(ops []docstore.Op, ordered bool, results []docstore.Result) []item {
	schema := e.schema.Load()
	items := make([]item, 0, len(ops))
	fields := map[string][]docstore.Field{}
	for i, op := range ops {
		c, err := schema.Collection(op.Collection)
		if err == nil {
			f, ok := fields[op.Collection]
			if !ok {
				f = c.IndexFields()
				fields[op.Collection] = f
			}
			_, err = docstore.CheckOp(op, f)
		}
		if err != nil {
			results[i].Err = err
			if ordered {
				break
			}
			continue
		}
		items = append(items, item{Op: op, at: i, rev: newRev(), coll: c})
	}
	return items
}

// runs groups operations into what one call of the driver can do.
func runs(items []item, ordered bool) [][]item {
	var out [][]item
	if ordered {
		for _, it := range items {
			if n := len(out); n > 0 && !it.conditional() && !out[n-1][0].conditional() && out[n-1][0].Collection == it.Collection {
				out[n-1] = append(out[n-1], it)
				continue
			}
			out = append(out, []item{it})
		}
		return out
	}
	group := map[string]int{}
	for _, it := range items {
		key := it.Collection
		if it.conditional() {
			key = "" // all of them are one group, sent apart but side by side
		}
		i, ok := group[key]
		if !ok {
			i = len(out)
			group[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], it)
	}
	return out
}

// run carries out one run. failed says that some operation was refused.
func (e *Engine) run(ctx context.Context, run []item, ordered bool, results []docstore.Result) (failed bool, err error) {
	if !run[0].conditional() {
		return e.bulk(ctx, run, ordered, results)
	}
	// In an ordered batch a conditional write is a run of its own.
	err = together(len(run), func(i int) error { return e.conditional(ctx, run[i], &results[run[i].at]) })
	if err != nil {
		return false, err
	}
	for _, it := range run {
		failed = failed || results[it.at].Err != nil
	}
	return failed, nil
}

func idFilter(id string) bson.D { return bson.D{{Key: docstore.FieldID, Value: id}} }

// conditional does one replace or delete of a known revision.
func (e *Engine) conditional(ctx context.Context, it item, result *docstore.Result) error {
	wctx, s := withSent(ctx, 1)
	c := e.db.Collection(it.Collection)
	filter := append(idFilter(it.ID), bson.E{Key: docstore.FieldRev, Value: it.Rev})
	var matched int64
	var err error
	if it.Kind == docstore.Delete {
		var res *mongo.DeleteResult
		if res, err = c.DeleteOne(wctx, filter); err == nil {
			matched = res.DeletedCount
		}
	} else {
		var res *mongo.UpdateResult
		if res, err = c.ReplaceOne(wctx, filter, flat(it.ID, it.rev, it.Body)); err == nil {
			matched = res.MatchedCount
		}
	}
	if err != nil {
		var we mongo.WriteException
		if errors.As(err, &we) && we.WriteConcernError == nil && len(we.WriteErrors) == 1 {
			own := opError(we.WriteErrors[0].Code, we.WriteErrors[0].Message)
			if batchWide(own) {
				return own
			}
			result.Err = own
			return nil
		}
		return e.batchError(ctx, s, err)
	}
	if matched == 1 {
		if it.Kind == docstore.Replace {
			result.Rev = it.rev
		}
		return nil
	}
	// Nothing matched. If a command was sent twice, the first may have done it.
	have, err := e.revs(ctx, it.Collection, it.ID)
	if err != nil {
		if s.n.Load() > 1 {
			return fmt.Errorf("%w: %w", docstore.ErrOutcomeUnknown, err)
		}
		return err
	}
	rev, there := have[it.ID]
	switch {
	case there && it.Kind == docstore.Replace && rev == it.rev:
		result.Rev = it.rev
	case s.n.Load() > 1:
		return fmt.Errorf("%w: the write was sent again after a lost answer", docstore.ErrOutcomeUnknown)
	case there:
		result.Err = docstore.ErrConflict
	default:
		result.Err = docstore.ErrNotFound
	}
	return nil
}

// batchWide says whether an operation's error is one that the contract gives for a whole batch.
func batchWide(err error) bool {
	return errors.Is(err, docstore.ErrUnavailable) || errors.Is(err, docstore.ErrOutcomeUnknown) || errors.Is(err, docstore.ErrFull)
}

// bulk sends inserts, puts and unconditional deletes on one collection.
func (e *Engine) bulk(ctx context.Context, run []item, ordered bool, results []docstore.Result) (failed bool, err error) {
	models := make([]mongo.WriteModel, len(run))
	for i, it := range run {
		switch it.Kind {
		case docstore.Insert:
			models[i] = mongo.NewInsertOneModel().SetDocument(flat(it.ID, it.rev, it.Body))
		case docstore.Put:
			models[i] = mongo.NewReplaceOneModel().SetFilter(idFilter(it.ID)).SetReplacement(flat(it.ID, it.rev, it.Body)).SetUpsert(true)
		default:
			models[i] = mongo.NewDeleteOneModel().SetFilter(idFilter(it.ID))
		}
	}
	wctx, s := withSent(ctx, len(run))
	_, err = e.db.Collection(run[0].Collection).BulkWrite(wctx, models, options.BulkWrite().SetOrdered(ordered))
	var bulk mongo.BulkWriteException
	if err != nil && (!errors.As(err, &bulk) || bulk.WriteConcernError != nil || len(bulk.WriteErrors) == 0) {
		return false, e.batchError(ctx, s, err)
	}
	// From here on the servers answered for every operation.
	own := make(map[int]error, len(bulk.WriteErrors))
	first := len(run)
	for _, w := range bulk.WriteErrors {
		if w.Index < 0 || w.Index >= len(run) {
			return false, fmt.Errorf("%w: the server answered for operation %d of %d", docstore.ErrOutcomeUnknown, w.Index, len(run))
		}
		own[w.Index] = opError(w.Code, w.Message)
		first = min(first, w.Index)
	}
	if s.unsure.Load() {
		return false, fmt.Errorf("%w: a part of the batch was not acknowledged by a majority", docstore.ErrOutcomeUnknown)
	}
	if err := e.settle(ctx, run, own, ordered, first); err != nil {
		return false, err
	}
	var whole error // of the operations that could not be done for a reason that the contract gives for a whole batch
	wrote := false
	for i, it := range run {
		if ordered && i > first {
			// The server stopped there; what comes after was settled by nobody, unless settling mended the first fault.
			if own[first] == nil {
				return e.resume(ctx, run[i:], results)
			}
			break
		}
		switch err := own[i]; {
		case err == nil:
			wrote = true
			if it.Kind != docstore.Delete {
				results[it.at].Rev = it.rev
			}
		case !batchWide(err):
			results[it.at].Err = err
			failed = true
		case whole == nil || errors.Is(err, docstore.ErrOutcomeUnknown):
			whole = err
		}
	}
	if whole != nil {
		return failed, partly(wrote, whole)
	}
	return failed, nil
}

// resume goes on with an ordered run after a fault that proved to be none.
func (e *Engine) resume(ctx context.Context, rest []item, results []docstore.Result) (bool, error) {
	return e.bulk(ctx, rest, true, results)
}

// settle looks again at duplicate keys, which are not always what they seem: an insert that was sent twice meets itself, and
// two puts that both found nothing to replace both insert.
func (e *Engine) settle(ctx context.Context, run []item, own map[int]error, ordered bool, first int) error {
	var asked []string
	for i, err := range own {
		if run[i].Kind == docstore.Insert && errors.Is(err, docstore.ErrExists) {
			asked = append(asked, run[i].ID)
		}
	}
	have := map[string]int64{}
	if len(asked) > 0 {
		var err error
		if have, err = e.revs(ctx, run[0].Collection, asked...); err != nil {
			return fmt.Errorf("%w: %w", docstore.ErrOutcomeUnknown, err)
		}
	}
	for i, err := range own {
		if !errors.Is(err, docstore.ErrExists) || ordered && i != first {
			continue
		}
		switch it := run[i]; it.Kind {
		case docstore.Insert:
			if have[it.ID] == it.rev {
				delete(own, i)
			}
		case docstore.Put:
			if !raced(it, err) {
				continue
			}
			again, err := e.putAgain(ctx, it)
			if err != nil {
				return err
			}
			if own[i] = again; again == nil {
				delete(own, i)
			}
		}
	}
	return nil
}

// raced says whether a put's duplicate key can only be its own id. The server names the index, then quotes values that may say
// anything: "E11000 duplicate key error collection: db.c index: _id_ dup key: { _id: ... }", from 4.2 to 8.
func raced(it item, err error) bool {
	for _, ix := range it.coll.Indexes {
		if ix.Unique {
			named, _, _ := strings.Cut(err.Error(), " dup key")
			return strings.Contains(named+" ", " index: _id_ ")
		}
	}
	return true
}

// putAgain repeats a put that lost a race; each time somebody else got in between, which does not go on for long.
func (e *Engine) putAgain(ctx context.Context, it item) (own, err error) {
	for range 20 {
		wctx, s := withSent(ctx, 1)
		_, err := e.db.Collection(it.Collection).ReplaceOne(wctx, idFilter(it.ID), flat(it.ID, it.rev, it.Body),
			options.Replace().SetUpsert(true))
		if err == nil {
			return nil, nil
		}
		var we mongo.WriteException
		if !errors.As(err, &we) || we.WriteConcernError != nil || len(we.WriteErrors) != 1 {
			err = e.batchError(ctx, s, err)
			return nil, fmt.Errorf("%w: %w", docstore.ErrOutcomeUnknown, err)
		}
		own = opError(we.WriteErrors[0].Code, we.WriteErrors[0].Message)
		if !errors.Is(own, docstore.ErrExists) || !raced(it, own) {
			return own, nil
		}
	}
	return nil, fmt.Errorf("%w: the document is written to too often", docstore.ErrOutcomeUnknown)
}
