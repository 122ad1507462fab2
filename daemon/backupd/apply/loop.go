package apply

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/bulk"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// stop ends a run before an entry: what came before is whole. why is nil at the position that was asked for.
type stop struct{ why error }

// Error is why.
func (s *stop) Error() string {
	if s.why == nil {
		return "the end is reached"
	}
	return s.why.Error()
}

func before(e *oplog.Entry, err error) error {
	return &stop{why: fmt.Errorf("entry %s: %w", e.At, err)}
}

// run gathers and writes. A *stop says that it ended between two entries, any other error that it did not.
func (a *Applier) run(ctx context.Context, entries iter.Seq2[bson.Raw, error], until bson.Timestamp) error {
	for raw, err := range entries {
		if err != nil {
			return &stop{why: err}
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		e, err := oplog.Decode(raw)
		if err != nil {
			return &stop{why: fmt.Errorf("entry after %s: %w", a.ahead.applied, err)}
		}
		if err := a.entry(ctx, e, until); err != nil {
			return err
		}
	}
	return nil
}

func (a *Applier) entry(ctx context.Context, e *oplog.Entry, until bson.Timestamp) error {
	if !e.At.TS.After(a.seen) {
		return nil // two slices share it
	}
	if !a.ahead.applied.Before(e.At) {
		a.seen = e.At.TS
		return a.known(e)
	}
	a.next = e.At
	switch {
	case !until.IsZero() && e.At.TS.After(until):
		return &stop{}
	case a.state.open && a.state.end.Before(e.At):
		if a.ahead.applied.Before(a.state.end) && a.ahead.partial == 0 {
			a.ahead.applied = a.state.end // there is nothing between
		}
		return &stop{why: ErrWindow}
	}
	raw, reads, err := a.o.Filter.Entry(e)
	switch {
	case err != nil:
		return before(e, err)
	case slices.ContainsFunc(reads, a.unread):
		return before(e, fmt.Errorf("%w: a rename brings %s into view, which was never read", ErrNewSnapshot, reads[0].NS))
	case raw == nil:
		a.complete(e)
		return nil
	case &raw[0] != &e.Raw[0]:
		if e, err = oplog.Decode(raw); err != nil {
			return fmt.Errorf("entry that the filter cut: %w", err)
		}
	}
	if version(&e.Op) != "" {
		return a.compatibility(ctx, e)
	}
	verdict, err := a.buf.Add(e)
	if a.state.open && errors.Is(err, txn.ErrNotWhole) {
		// The history begins with the oldest transaction that was open when the read began. One that began before it and was
		// not open then had ended: the copy holds it.
		a.odd("transaction that ended before the read began", true)
		verdict, err = txn.Held, nil
	}
	if err != nil {
		return before(e, err)
	}
	a.seen = e.At.TS
	if verdict == txn.Apply || verdict == txn.Commit {
		if err := a.operations(ctx, e); err != nil {
			return fmt.Errorf("entry %s: %w", e.At, err)
		}
	}
	a.complete(e)
	if a.batch.Full() {
		return a.flush(ctx)
	}
	return nil
}

// unread reports whether a collection that comes into view is not in the copy.
func (a *Applier) unread(r filter.Read) bool {
	_, there := a.state.cat.Lookup(r.UUID, "")
	return !there
}

// known takes an entry that the head holds already: it may belong to a transaction that is still open.
func (a *Applier) known(e *oplog.Entry) error {
	if !e.Transaction() {
		return nil
	}
	// What was excluded since is cut out here too: the head may not hold it any more when the transaction commits.
	raw, _, err := a.o.Filter.Entry(e)
	if err == nil && raw != nil && &raw[0] != &e.Raw[0] {
		e, err = oplog.Decode(raw)
	}
	if err != nil {
		return fmt.Errorf("entry %s: %w", e.At, err)
	}
	verdict, err := a.buf.Add(e)
	if errors.Is(err, txn.ErrNotWhole) {
		return nil // it began before the first entry needed, and so has ended
	}
	if err == nil && verdict == txn.Commit {
		err = a.buf.Done(e)
	}
	if err != nil {
		return fmt.Errorf("entry %s: %w", e.At, err)
	}
	return nil
}

// version says what an operation does to the feature compatibility version, "" for one that is not about it.
func version(op *oplog.Op) string {
	if op.NS != bulk.Version || op.Kind != oplog.Insert && op.Kind != oplog.Update && op.Kind != oplog.Delete {
		return ""
	}
	return op.Ends()
}

// complete moves on behind an entry.
func (a *Applier) complete(e *oplog.Entry) {
	a.ahead, a.next = position{applied: e.At, wall: e.Wall}, oplog.OpTime{}
	if first, open := a.buf.Oldest(); open {
		a.ahead.from = first
	}
	if n := len(a.ops); n > 0 && a.ops[n-1].after.partial > 0 {
		a.ops[n-1].after = a.ahead
	}
	a.mu.Lock()
	a.stats.Entries++
	a.stats.Bytes += int64(len(e.Raw))
	a.mu.Unlock()
}

// operations gathers what counts at an entry.
func (a *Applier) operations(ctx context.Context, e *oplog.Entry) error {
	skip, n := a.ahead.partial, 0
	at := position{applied: a.ahead.applied, wall: a.ahead.wall, from: a.ahead.from}
	if first, open := a.buf.Oldest(); open {
		at.from = first
	}
	for op, err := range a.buf.Operations(e) {
		if err != nil {
			return err
		}
		if n++; n <= skip {
			continue
		}
		if n > 1 && a.batch.Full() { // a transaction may be larger than memory
			if err := a.flush(ctx); err != nil {
				return err
			}
		}
		if why := version(op); why != "" {
			return fmt.Errorf("%w: %s", ErrNewSnapshot, why)
		}
		if why := op.Ends(); why != "" {
			a.mu.Lock()
			a.stats.Ends = append(a.stats.Ends, Ends{At: e.At, Why: why})
			a.mu.Unlock()
		}
		next, err := a.batch.Add(a.state.cat, op)
		if err != nil {
			return err
		}
		at.partial = n
		switch next {
		case plan.Taken:
			a.ops = append(a.ops, gathered{op: op, after: at})
		case plan.Barrier, plan.View:
			if err := a.flush(ctx); err != nil {
				return err
			}
			if err := a.step(ctx, op, next == plan.View, at); err != nil {
				return err
			}
		case plan.Skipped:
		}
		a.ahead = at
	}
	a.mu.Lock()
	a.stats.Operations += int64(n)
	a.mu.Unlock()
	return a.buf.Done(e)
}

func (a *Applier) newBatch() *plan.Batch {
	return plan.New(plan.Options{MaxOps: a.maxOps, MaxBytes: a.o.MaxBytes, Fuzzy: a.state.open, Behind: a.behind || a.state.open})
}

// step carries out a command, or an operation on views, after which the head stands at a position.
func (a *Applier) step(ctx context.Context, op *oplog.Op, view bool, to position) error {
	apply := a.state.cat.Apply
	if view {
		apply = a.state.cat.ApplyView
	}
	steps, odd, err := apply(op)
	if err != nil {
		return err
	}
	if odd != 0 && !a.state.open {
		return fmt.Errorf("%w: %s: %s", ErrCorruption, op.NS, odd)
	}
	a.odd(odd.String(), odd != 0)
	if err := a.redo.command(to, op, view); err != nil {
		return fmt.Errorf("redo log: %w", err)
	}
	for i := range steps {
		if err := a.head.Step(ctx, steps[i], a.state.open); err != nil {
			return err
		}
	}
	a.state.dropped(steps)
	if len(steps) > 0 {
		if err := a.head.Journal(ctx); err != nil {
			return err
		}
	}
	return a.moved(to)
}

func (a *Applier) odd(what string, is bool) {
	if !is {
		return
	}
	a.mu.Lock()
	a.stats.Odd[what]++
	a.mu.Unlock()
}

// moved notes that everything the log says is done.
func (a *Applier) moved(to position) error {
	a.mu.Lock()
	a.state.position = to
	a.mu.Unlock()
	if err := a.redo.done(); err != nil {
		return fmt.Errorf("redo log: %w", err)
	}
	if a.redo.size > a.o.RedoBytes {
		return a.checkpoint()
	}
	return nil
}

// settle notes a position behind entries that wrote nothing.
func (a *Applier) settle() error {
	if a.ahead == a.state.position || len(a.ops) > 0 {
		return nil
	}
	if err := a.redo.position(a.ahead); err != nil {
		return fmt.Errorf("redo log: %w", err)
	}
	a.mu.Lock()
	a.state.position = a.ahead
	a.mu.Unlock()
	return nil
}

// flush writes what was gathered.
func (a *Applier) flush(ctx context.Context) error {
	if len(a.ops) == 0 {
		return nil
	}
	ops, batch := a.ops, a.batch
	err := a.write(ctx, ops, batch)
	clear(ops)
	a.ops = ops[:0]
	a.batch = a.newBatch()
	return err
}

// errLarge ends the reading of a batch's documents: there is more of them than memory is meant for.
var errLarge = errors.New("the documents of the batch are too large together")

// write carries out a batch; where the documents it needs are too many bytes, half of it first.
func (a *Applier) write(ctx context.Context, ops []gathered, batch *plan.Batch) error {
	limit := 2 * a.o.MaxBytes
	if len(ops) == 1 {
		limit = 0
	}
	size, err := a.fetch(ctx, batch, limit)
	if errors.Is(err, errLarge) {
		a.maxOps = max(a.maxOps/2, 16)
		half := len(ops) / 2
		for _, part := range [][]gathered{ops[:half], ops[half:]} {
			again := a.newBatch()
			for _, g := range part {
				if _, err := again.Add(a.state.cat, g.op); err != nil {
					return err
				}
			}
			if err := a.write(ctx, part, again); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	if size < limit/4 && a.maxOps < a.o.MaxOps {
		a.maxOps = min(2*a.maxOps, a.o.MaxOps)
	}
	out, err := batch.Fold()
	if err != nil {
		return err
	}
	to := ops[len(ops)-1].after
	if len(ops) == len(a.ops) { // entries that wrote nothing may follow the last operation
		to = a.ahead
	}
	if err := a.redo.batch(to, out.Writes); err != nil {
		return fmt.Errorf("redo log: %w", err)
	}
	missing, err := a.head.Write(ctx, out.Writes, false)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %d documents to replace are not there, first _id %s of %s", ErrCorruption, len(missing), missing[0].Missing[0], missing[0].Collection.NS)
	}
	if err := a.head.Journal(ctx); err != nil {
		return err
	}
	for i := range out.Writes {
		a.state.missing.Note(&out.Writes[i])
	}
	a.mu.Lock()
	a.stats.Batches++
	for kind, n := range out.Odd {
		a.stats.Odd[kind.String()] += int64(n)
	}
	a.mu.Unlock()
	return a.moved(to)
}

// fetch reads the documents that a batch must know, up to a limit of bytes (0: none), and says how many bytes they are.
func (a *Applier) fetch(ctx context.Context, batch *plan.Batch, limit int) (size int, err error) {
	for _, f := range batch.Fetches() {
		take := func(doc bson.Raw) error {
			if size += len(doc); limit > 0 && size > limit {
				return errLarge
			}
			return batch.Found(f.UUID, doc)
		}
		if err := a.head.Find(ctx, f.NS, f.IDs, false, take); err != nil {
			return size, err
		}
		if err := a.head.Find(ctx, f.NS, f.Presence, true, take); err != nil {
			return size, err
		}
	}
	return size, nil
}
