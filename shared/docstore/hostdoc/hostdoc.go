// Package hostdoc is the document engine of a program that has no sockets: every call becomes one message to the host that runs
// it, and the host answers it from a real engine. New is the program's side, Serve the host's.
//
// # Format
//
// A request is one byte that names the call, a varint of the milliseconds the caller will wait (0: no end), then the call's
// arguments in the order of docstore.Engine's methods. An answer is the results in their order, then the error. Integers are
// zigzag varints, byte strings and texts are an unsigned varint length and the bytes, lists an unsigned varint count and the
// elements, a bool one byte. A value of a query (any) is one byte for its kind (0 none, else docstore.Kind) and the value; a time
// is its milliseconds since 1970. An error is a list of the sentinel errors it is (numbers of the table in errors.go) and, unless
// the list and the text are empty, which is no error, its text and its hint.
//
// Both sides are of one build: the format needs no version. Serve trusts nothing in a request; New trusts its host.
package hostdoc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// The calls.
const (
	callEnsure byte = iota + 1
	callGet
	callWrite
	callScan
	callCount
	callDeleteRange
	callNow
)

// Caller carries a request to the host and brings its answer. The answer's bytes are the engine's own from then on.
type Caller func(ctx context.Context, request []byte) ([]byte, error)

// Engine is the program's side.
type Engine struct {
	call   Caller
	closed atomic.Bool
}

var _ docstore.Engine = (*Engine)(nil)

// New returns an engine that asks the host.
func New(call Caller) *Engine { return &Engine{call: call} }

// ask sends a request and hands the answer's reader to read, which takes the results; the error is the host engine's.
func (e *Engine) ask(ctx context.Context, call byte, args func(*writer), results func(*reader)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.closed.Load() {
		return fmt.Errorf("%w: the engine is closed", docstore.ErrUnavailable)
	}
	w := &writer{}
	w.byte(call)
	w.int(remaining(ctx))
	args(w)
	answer, err := e.call(ctx, w.b)
	if err != nil {
		return fmt.Errorf("%w: the host did not answer: %w", docstore.ErrUnavailable, err)
	}
	r := &reader{b: answer}
	results(r)
	failure := r.error()
	if r.err != nil || len(r.b) > 0 {
		return fmt.Errorf("%w: the host's answer cannot be read", docstore.ErrOutcomeUnknown)
	}
	return failure
}

// remaining is how long the caller will wait, in milliseconds, at least one; 0 when there is no end.
func remaining(ctx context.Context) int64 {
	end, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(1, time.Until(end).Milliseconds())
}

// Ensure implements docstore.Engine.
func (e *Engine) Ensure(ctx context.Context, collections []docstore.Collection) error {
	return e.ask(ctx, callEnsure, func(w *writer) { w.collections(collections) }, func(*reader) {})
}

// Get implements docstore.Engine.
func (e *Engine) Get(ctx context.Context, collection string, ids ...string) (docs []docstore.Doc, err error) {
	err = e.ask(ctx, callGet, func(w *writer) {
		w.text(collection)
		w.texts(ids)
	}, func(r *reader) { docs = r.docs() })
	return docs, err
}

// Write implements docstore.Engine.
func (e *Engine) Write(ctx context.Context, ops []docstore.Op, ordered bool) (results []docstore.Result, err error) {
	err = e.ask(ctx, callWrite, func(w *writer) {
		w.ops(ops)
		w.bool(ordered)
	}, func(r *reader) { results = r.results() })
	if len(results) != len(ops) { // the host's answer was lost or is no answer: each op fares as the batch
		results = make([]docstore.Result, len(ops))
		for i := range results {
			results[i].Err = err
		}
	}
	return results, err
}

// Scan implements docstore.Engine.
func (e *Engine) Scan(ctx context.Context, q docstore.Query) (page docstore.Page, err error) {
	err = e.ask(ctx, callScan, func(w *writer) { w.query(q) }, func(r *reader) {
		page.Docs = r.docs()
		page.Next = r.text()
	})
	return page, err
}

// Count implements docstore.Engine.
func (e *Engine) Count(ctx context.Context, q docstore.Query, limit int) (n int, err error) {
	err = e.ask(ctx, callCount, func(w *writer) {
		w.query(q)
		w.int(int64(limit))
	}, func(r *reader) { n = int(r.int()) })
	return n, err
}

// DeleteRange implements docstore.Engine.
func (e *Engine) DeleteRange(ctx context.Context, collection, from, to string, limit int) (n int, err error) {
	err = e.ask(ctx, callDeleteRange, func(w *writer) {
		w.text(collection)
		w.text(from)
		w.text(to)
		w.int(int64(limit))
	}, func(r *reader) { n = int(r.int()) })
	return n, err
}

// Now implements docstore.Engine.
func (e *Engine) Now(ctx context.Context) (now time.Time, err error) {
	err = e.ask(ctx, callNow, func(*writer) {}, func(r *reader) { now = r.time() })
	return now, err
}

// Close implements docstore.Engine. The host's engine goes on.
func (e *Engine) Close() error {
	e.closed.Store(true)
	return nil
}

// Serve answers one request from an engine. A request that cannot be read is answered with docstore.ErrInvalid.
func Serve(ctx context.Context, e docstore.Engine, request []byte) []byte {
	r := &reader{b: request}
	call := r.byte()
	if wait := r.int(); wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(min(wait, int64(time.Hour/time.Millisecond)))*time.Millisecond)
		defer stop()
	}
	w := &writer{}
	var err error
	switch call {
	case callEnsure:
		collections := r.collections()
		if r.done() {
			err = e.Ensure(ctx, collections)
		}
	case callGet:
		collection, ids := r.text(), r.texts()
		var docs []docstore.Doc
		if r.done() {
			docs, err = e.Get(ctx, collection, ids...)
		}
		w.docs(docs)
	case callWrite:
		ops, ordered := r.ops(), r.bool()
		var results []docstore.Result
		if r.done() {
			results, err = e.Write(ctx, ops, ordered)
		}
		w.results(results)
	case callScan:
		q := r.query()
		var page docstore.Page
		if r.done() {
			page, err = e.Scan(ctx, q)
		}
		w.docs(page.Docs)
		w.text(page.Next)
	case callCount:
		q, limit := r.query(), r.int()
		var n int
		if r.done() {
			n, err = e.Count(ctx, q, int(limit))
		}
		w.int(int64(n))
	case callDeleteRange:
		collection, from, to, limit := r.text(), r.text(), r.text(), r.int()
		var n int
		if r.done() {
			n, err = e.DeleteRange(ctx, collection, from, to, int(limit))
		}
		w.int(int64(n))
	case callNow:
		var now time.Time
		if r.done() {
			now, err = e.Now(ctx)
		}
		w.time(now)
	default:
		r.fail("no such call")
	}
	if r.err != nil {
		err = fmt.Errorf("%w: request to the host: %w", docstore.ErrInvalid, r.err)
	}
	w.error(err)
	return w.b
}

// body is what a document's bytes are read as; nil stays nil.
func body(b []byte) bson.Raw {
	if len(b) == 0 {
		return nil
	}
	return bson.Raw(b)
}
