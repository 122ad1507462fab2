// Package faultdoc is a document engine that fails on demand: the n-th call of a kind, before or after the work was done,
// late, or everything until it is switched on again. Only tests import it.
package faultdoc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// Call names a method of the engine.
type Call string

// The calls of an engine. Any stands for all of them, also in a count.
const (
	Any         Call = ""
	Ensure      Call = "ensure"
	Get         Call = "get"
	Write       Call = "write"
	Scan        Call = "scan"
	Count       Call = "count"
	DeleteRange Call = "deleteRange"
	Now         Call = "now"
)

// Fault is one planned failure.
type Fault struct {
	Call  Call          // which calls count; Any counts all
	Nth   int           // 1 is the next such call; 0 is every one
	After bool          // do the work first: the answer is lost. Otherwise the request is.
	Err   error         // what the caller gets; nil with a Delay only delays, else nil is docstore.ErrUnavailable, or ErrOutcomeUnknown for After
	Delay time.Duration // wait this long first
	// Match narrows Write faults to batches that it is true for; nil is all.
	Match func(ops []docstore.Op) bool
}

type planned struct {
	Fault
	seen int
	done bool
}

// Engine wraps another one.
type Engine struct {
	next docstore.Engine

	mu     sync.Mutex
	faults []*planned
	off    error
	calls  map[Call]int
}

var _ docstore.Engine = (*Engine)(nil)

// New wraps an engine; nothing fails until told to.
func New(next docstore.Engine) *Engine { return &Engine{next: next, calls: map[Call]int{}} }

// FailNth is New with one fault: the n-th write, before it does anything.
func FailNth(next docstore.Engine, n int) *Engine {
	e := New(next)
	e.Fail(Fault{Call: Write, Nth: n})
	return e
}

// Fail plans a fault beside those already planned. Its count begins now.
func (e *Engine) Fail(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, &planned{Fault: f})
}

// Off makes every call fail, with docstore.ErrUnavailable if err is nil, until On.
func (e *Engine) Off(err error) {
	if err == nil {
		err = fmt.Errorf("%w: switched off by faultdoc", docstore.ErrUnavailable)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.off = err
}

// On ends Off and forgets every planned fault.
func (e *Engine) On() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.off, e.faults = nil, nil
}

// Calls says how often a call came; Any sums all.
func (e *Engine) Calls(c Call) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c != Any {
		return e.calls[c]
	}
	sum := 0
	for _, n := range e.calls {
		sum += n
	}
	return sum
}

// due counts the call and gives the first fault that is due.
func (e *Engine) due(c Call, ops []docstore.Op) (Fault, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[c]++
	if e.off != nil {
		return Fault{}, false, e.off
	}
	var hit Fault
	found := false
	for _, f := range e.faults {
		if f.done || f.Call != Any && f.Call != c || f.Match != nil && !f.Match(ops) {
			continue
		}
		f.seen++
		if f.Nth != 0 && f.seen != f.Nth {
			continue
		}
		f.done = f.Nth != 0
		if !found {
			hit, found = f.Fault, true
		}
	}
	return hit, found, nil
}

// around runs one call under the plan.
func (e *Engine) around(ctx context.Context, c Call, ops []docstore.Op, call func() error) error {
	f, found, err := e.due(c, ops)
	if err != nil {
		return err
	}
	if !found {
		return call()
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if f.Err == nil {
			return call()
		}
	}
	if !f.After {
		if f.Err == nil {
			f.Err = fmt.Errorf("%w: planned by faultdoc", docstore.ErrUnavailable)
		}
		return f.Err
	}
	if err := call(); err != nil {
		return err
	}
	if f.Err == nil {
		f.Err = fmt.Errorf("%w: planned by faultdoc", docstore.ErrOutcomeUnknown)
	}
	return f.Err
}

// Ensure is docstore.Engine's.
func (e *Engine) Ensure(ctx context.Context, collections []docstore.Collection) error {
	return e.around(ctx, Ensure, nil, func() error { return e.next.Ensure(ctx, collections) })
}

// Get is docstore.Engine's.
func (e *Engine) Get(ctx context.Context, collection string, ids ...string) ([]docstore.Doc, error) {
	var out []docstore.Doc
	err := e.around(ctx, Get, nil, func() (err error) {
		out, err = e.next.Get(ctx, collection, ids...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Write is docstore.Engine's.
func (e *Engine) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	var out []docstore.Result
	err := e.around(ctx, Write, ops, func() (err error) {
		out, err = e.next.Write(ctx, ops, ordered)
		return err
	})
	if err != nil {
		out = make([]docstore.Result, len(ops))
		for i := range out {
			out[i].Err = err
		}
	}
	return out, err
}

// Scan is docstore.Engine's.
func (e *Engine) Scan(ctx context.Context, q docstore.Query) (docstore.Page, error) {
	var out docstore.Page
	err := e.around(ctx, Scan, nil, func() (err error) {
		out, err = e.next.Scan(ctx, q)
		return err
	})
	if err != nil {
		return docstore.Page{}, err
	}
	return out, nil
}

// Count is docstore.Engine's.
func (e *Engine) Count(ctx context.Context, q docstore.Query, limit int) (int, error) {
	var out int
	err := e.around(ctx, Count, nil, func() (err error) {
		out, err = e.next.Count(ctx, q, limit)
		return err
	})
	if err != nil {
		return 0, err
	}
	return out, nil
}

// DeleteRange is docstore.Engine's.
func (e *Engine) DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error) {
	var out int
	err := e.around(ctx, DeleteRange, nil, func() (err error) {
		out, err = e.next.DeleteRange(ctx, collection, from, to, limit)
		return err
	})
	if err != nil {
		return 0, err
	}
	return out, nil
}

// Now is docstore.Engine's.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	var out time.Time
	err := e.around(ctx, Now, nil, func() (err error) {
		out, err = e.next.Now(ctx)
		return err
	})
	return out, err
}

// Close closes the wrapped engine.
func (e *Engine) Close() error { return e.next.Close() }
