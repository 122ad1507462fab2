package sqlitedoc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// A group of batches becomes one transaction; these bound it, so that one commit stays short.
const (
	groupOps   = 4000
	groupBytes = 8 << 20
)

const (
	waiting = iota
	taken
	abandoned
)

// request is something for the writer goroutine to do, usually a batch.
type request struct {
	ctx     context.Context
	run     func(c *sqlconn.Conn) error // may run twice: the first time undone
	ops     int
	bytes   int
	outside bool // run outside of a transaction, alone

	state atomic.Int32
	err   error
	done  chan struct{}
}

func newRequest(ctx context.Context) *request {
	return &request{ctx: ctx, ops: 1, done: make(chan struct{})}
}

// submit queues a request and waits for its end. A context that ends while the request still waits takes it back, with
// nothing written; once the writer has taken it the answer is waited for, because it comes with the next sync and is then
// known for sure.
func (e *Engine) submit(r *request) error {
	if e.readOnly {
		return fmt.Errorf("%w: the file is open for reading only", docstore.ErrUnavailable)
	}
	select {
	case e.queue <- r:
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
	select {
	case <-r.done:
	case <-r.ctx.Done():
		if r.state.CompareAndSwap(waiting, abandoned) {
			return r.ctx.Err()
		}
		<-r.done
	}
	return r.err
}

func (e *Engine) writeLoop() {
	defer e.background.Done()
	var group []*request
	for {
		var r *request
		select {
		case r = <-e.queue:
		case <-e.stop:
			// Close holds inUse, so nobody waits for an answer any more.
			return
		}
		// group is what is taken and not answered; r is taken off the queue and not looked at yet.
		ops, bytes := 0, 0
		for r != nil {
			next := (*request)(nil)
			switch {
			case !r.state.CompareAndSwap(waiting, taken):
			case r.outside:
				e.commit(group)
				group, ops, bytes = group[:0], 0, 0
				r.err = r.run(e.writer)
				close(r.done)
			default:
				group = append(group, r)
				ops, bytes = ops+r.ops, bytes+r.bytes
			}
			if ops < groupOps && bytes < groupBytes {
				select {
				case next = <-e.queue:
				default:
				}
			}
			r = next
		}
		e.commit(group)
		clear(group)
		group = group[:0]
		e.afterCommit()
	}
}

// commit carries out a group in one transaction and answers its requests.
func (e *Engine) commit(group []*request) {
	if len(group) == 0 {
		return
	}
	err := e.transact(group)
	if errors.Is(err, docstore.ErrFull) && len(group) > 1 {
		// One large batch may have been too much: the small ones get their own chance.
		for _, r := range group {
			r.err = e.transact([]*request{r})
			close(r.done)
		}
		return
	}
	for _, r := range group {
		r.err = err
		close(r.done)
	}
}

func (e *Engine) transact(group []*request) error {
	rev, top := e.rev, e.revTop
	if _, err := e.writer.Exec("BEGIN IMMEDIATE"); err != nil {
		return e.translate(err)
	}
	err := func() error {
		for _, r := range group {
			if err := r.run(e.writer); err != nil {
				return err
			}
		}
		if _, err := e.writer.Exec("COMMIT"); err != nil {
			return e.translateCommit(err)
		}
		return nil
	}()
	if err == nil {
		if e.ailing {
			e.ailing = false
			e.log.Info("writes succeed again", obs.KeyFile, e.path)
		}
		return nil
	}
	// SQLite may have rolled back by itself; then this fails and that is all right.
	_, _ = e.writer.Exec("ROLLBACK")
	if errors.Is(err, docstore.ErrOutcomeUnknown) {
		// Nor is it known whether a reservation of numbers was kept: the next write makes one anew.
		e.revTop = e.rev
	} else {
		// The numbers given out were seen by nobody. The reservation, if one was made, is undone too.
		e.rev, e.revTop = rev, top
	}
	if !e.ailing {
		// Once, not for each of the hundreds of writes a second that a full disk refuses.
		e.ailing = true
		e.log.Error("writes fail", obs.KeyFile, e.path, obs.KeyErr, err)
	}
	return err
}

// nextRev gives a revision that was never given before, in this run or an earlier one.
func (e *Engine) nextRev(c *sqlconn.Conn) (int64, error) {
	if e.rev == e.revTop {
		if _, err := c.Exec(`UPDATE "hw:meta" SET value=? WHERE name='rev'`, e.revTop+revBlock); err != nil {
			return 0, err
		}
		e.revTop += revBlock
	}
	e.rev++
	return e.rev, nil
}

// statements are the SQL texts of one collection's writes, made once a batch and collection.
type statements struct {
	fields                          []docstore.Field
	insert, put, replace            string
	deleteAny, deleteRev, existence string
}

func statementsOf(c *docstore.Collection) *statements {
	s := &statements{fields: c.IndexFields()}
	table := tableName(c.Name)
	var names, marks, excluded, assign strings.Builder
	for _, f := range s.fields {
		col := column(f.Name)
		names.WriteString(col + ", ")
		marks.WriteString("?, ")
		excluded.WriteString(col + "=excluded." + col + ", ")
		assign.WriteString(col + "=?, ")
	}
	s.insert = "INSERT INTO " + table + " (id, rev, " + names.String() + "body) VALUES (?, ?, " + marks.String() + "?)"
	s.put = s.insert + " ON CONFLICT (id) DO UPDATE SET rev=excluded.rev, " + excluded.String() + "body=excluded.body"
	s.replace = "UPDATE " + table + " SET rev=?, " + assign.String() + "body=? WHERE id=? AND rev=?"
	s.deleteAny = "DELETE FROM " + table + " WHERE id=?"
	s.deleteRev = "DELETE FROM " + table + " WHERE id=? AND rev=?"
	s.existence = "SELECT 1 FROM " + table + " WHERE id=?"
	return s
}

// prepared is an Op that passed the checks, or the reason why not.
type prepared struct {
	sql  *statements
	keys []docstore.Key
	err  error
}

// prepare checks the operations in the caller's goroutine: the writer's time is everybody's.
func prepare(s *docstore.Schema, ops []docstore.Op) ([]prepared, int) {
	out := make([]prepared, len(ops))
	bytes := 0
	known := map[string]*statements{}
	for i, op := range ops {
		sql := known[op.Collection]
		if sql == nil {
			c, err := s.Collection(op.Collection)
			if err != nil {
				out[i].err = err
				continue
			}
			sql = statementsOf(c)
			known[op.Collection] = sql
		}
		out[i].sql = sql
		out[i].keys, out[i].err = docstore.CheckOp(op, sql.fields)
		bytes += len(op.Body)
	}
	return out, bytes
}

// Write carries out a batch; see docstore.Engine.
func (e *Engine) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	results := make([]docstore.Result, len(ops))
	err := e.write(ctx, ops, ordered, results)
	if err != nil {
		for i := range results {
			results[i] = docstore.Result{Err: err}
		}
	}
	return results, err
}

func (e *Engine) write(ctx context.Context, ops []docstore.Op, ordered bool, results []docstore.Result) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	if len(ops) == 0 {
		return nil
	}
	if len(ops) > docstore.MaxBatch {
		return fmt.Errorf("%w: a batch of %d operations, at most %d are allowed", docstore.ErrInvalid, len(ops), docstore.MaxBatch)
	}
	schema := e.schema.Load()
	r := newRequest(ctx)
	var pre []prepared
	pre, r.bytes = prepare(schema, ops)
	r.ops = len(ops)
	r.run = func(c *sqlconn.Conn) error {
		if now := e.schema.Load(); now != schema {
			// An index was added since the batch was checked.
			schema = now
			pre, _ = prepare(schema, ops)
		}
		failed := false
		for i, op := range ops {
			if failed && ordered {
				results[i] = docstore.Result{Err: docstore.ErrNotAttempted}
				continue
			}
			rev, err := int64(0), pre[i].err
			if err == nil {
				rev, err = e.one(c, op, pre[i])
			}
			switch {
			case err == nil:
			case isOwn(err):
				failed = true
			default:
				return err
			}
			results[i] = docstore.Result{Rev: rev, Err: err}
		}
		return nil
	}
	return e.submit(r)
}

// isOwn says whether an error is about one operation and leaves the transaction as it was.
func isOwn(err error) bool {
	for _, own := range []error{
		docstore.ErrExists, docstore.ErrConflict, docstore.ErrNotFound, docstore.ErrTooLarge,
		docstore.ErrIndexField, docstore.ErrInvalid, docstore.ErrCollection,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// one carries out one operation. Each is a single statement, which SQLite undoes by itself when it fails.
func (e *Engine) one(c *sqlconn.Conn, op docstore.Op, p prepared) (int64, error) {
	if op.Kind == docstore.Delete {
		sql, args := p.sql.deleteAny, []any{op.ID}
		if op.Rev != 0 {
			sql, args = p.sql.deleteRev, append(args, op.Rev)
		}
		n, err := c.Exec(sql, args...)
		if err != nil {
			return 0, e.translate(err)
		}
		if n == 0 && op.Rev != 0 {
			return 0, e.whyNot(c, op, p)
		}
		return 0, nil
	}
	rev, err := e.nextRev(c)
	if err != nil {
		return 0, e.translate(err)
	}
	args := make([]any, 0, 4+len(p.keys))
	sql := p.sql.insert
	switch op.Kind {
	case docstore.Replace:
		sql = p.sql.replace
		args = append(args, rev)
	case docstore.Put:
		sql = p.sql.put
		args = append(args, op.ID, rev)
	default:
		args = append(args, op.ID, rev)
	}
	for _, k := range p.keys {
		args = append(args, bindKey(k))
	}
	args = append(args, []byte(op.Body))
	if op.Kind == docstore.Replace {
		args = append(args, op.ID, op.Rev)
	}
	n, err := c.Exec(sql, args...)
	if err != nil {
		return 0, e.translate(err)
	}
	if n == 0 {
		return 0, e.whyNot(c, op, p)
	}
	return rev, nil
}

// whyNot tells a document with another revision from an absent one.
func (e *Engine) whyNot(c *sqlconn.Conn, op docstore.Op, p prepared) error {
	_, there, err := c.Int64(p.sql.existence, op.ID)
	if err != nil {
		return e.translate(err)
	}
	if there {
		return docstore.ErrConflict
	}
	return docstore.ErrNotFound
}

// deleteStep is how many documents DeleteRange deletes in one go, so that other writers get their turn.
const deleteStep = 1000

// DeleteRange deletes up to limit documents of an id range.
func (e *Engine) DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error) {
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	defer e.leave()
	if limit <= 0 {
		return 0, fmt.Errorf("%w: delete a range with limit %d", docstore.ErrInvalid, limit)
	}
	p, err := e.schema.Load().Plan(docstore.Query{Collection: collection, From: from, To: to, IDsOnly: true})
	if err != nil {
		return 0, err
	}
	deleted := 0
	for deleted < limit {
		step := min(limit-deleted, deleteStep)
		p.Limit = step
		sel, args := selectSQL(p, "id")
		sql := "DELETE FROM " + tableName(collection) + " WHERE id IN (" + sel + ")"
		var n int64
		r := newRequest(ctx)
		r.ops = step
		r.run = func(c *sqlconn.Conn) (err error) {
			if n, err = c.Exec(sql, args...); err != nil {
				err = e.translate(err)
			}
			return err
		}
		if err := e.submit(r); err != nil {
			return deleted, err
		}
		deleted += int(n)
		if int(n) < step {
			break
		}
	}
	return deleted, nil
}
