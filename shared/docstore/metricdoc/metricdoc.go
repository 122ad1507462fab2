// Package metricdoc measures a document engine: how long each operation took on each collection, how many documents it
// moved, and how often it failed, by kind.
package metricdoc

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// Engine wraps another one.
type Engine struct {
	next      docstore.Engine
	seconds   *prometheus.HistogramVec
	documents *prometheus.CounterVec
	errs      *prometheus.CounterVec
}

var _ docstore.Engine = (*Engine)(nil)

// New wraps an engine and registers its metrics. A nil registry is allowed; two engines on one registry share their metrics.
func New(next docstore.Engine, reg prometheus.Registerer) (*Engine, error) {
	e := &Engine{next: next}
	e.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "heartwood_docstore_operation_seconds",
		Help: "Time of a database operation; a write is counted under each of its batch's collections.",
		// 25 us to 6.5 s: SQLite answers a read in tens of microseconds, a replica set in milliseconds.
		Buckets: prometheus.ExponentialBuckets(25e-6, 4, 10),
	}, []string{"operation", "collection"})
	e.documents = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heartwood_docstore_documents_total",
		Help: "Documents read, written or deleted.",
	}, []string{"operation", "collection"})
	e.errs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heartwood_docstore_errors_total",
		Help: "Failed database operations and failed writes of one document, by kind.",
	}, []string{"operation", "collection", "kind"})
	if reg == nil {
		return e, nil
	}
	var err error
	e.seconds, err = register(reg, e.seconds)
	if err != nil {
		return nil, err
	}
	if e.documents, err = register(reg, e.documents); err != nil {
		return nil, err
	}
	if e.errs, err = register(reg, e.errs); err != nil {
		return nil, err
	}
	return e, nil
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var dup prometheus.AlreadyRegisteredError
	if errors.As(err, &dup) {
		if have, ok := dup.ExistingCollector.(C); ok {
			return have, nil
		}
	}
	return c, err
}

// Kind is the label of an error: what a reader of a chart can act on. A nil error is "".
func Kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range []struct {
		err  error
		name string
	}{
		{docstore.ErrOutcomeUnknown, "outcome_unknown"},
		{docstore.ErrUnavailable, "unavailable"},
		{docstore.ErrFull, "full"},
		{docstore.ErrExists, "exists"},
		{docstore.ErrConflict, "conflict"},
		{docstore.ErrNotFound, "not_found"},
		{docstore.ErrTooLarge, "too_large"},
		{docstore.ErrIndexField, "index_field"},
		{docstore.ErrNotAttempted, "not_attempted"},
		{docstore.ErrCollection, "collection"},
		{docstore.ErrInvalid, "invalid"},
		{context.Canceled, "cancelled"},
		{context.DeadlineExceeded, "deadline"},
	} {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return "other"
}

func (e *Engine) note(op, collection string, start time.Time, documents int, err error) {
	if err != nil {
		if errors.Is(err, docstore.ErrCollection) {
			collection = "" // the name may be anything, and labels are for ever
		}
		e.errs.WithLabelValues(op, collection, Kind(err)).Inc()
	}
	e.seconds.WithLabelValues(op, collection).Observe(time.Since(start).Seconds())
	if documents > 0 {
		e.documents.WithLabelValues(op, collection).Add(float64(documents))
	}
}

// Ensure is docstore.Engine's.
func (e *Engine) Ensure(ctx context.Context, collections []docstore.Collection) error {
	start := time.Now()
	err := e.next.Ensure(ctx, collections)
	e.note("ensure", "", start, 0, err)
	return err
}

// Get is docstore.Engine's.
func (e *Engine) Get(ctx context.Context, collection string, ids ...string) ([]docstore.Doc, error) {
	start := time.Now()
	docs, err := e.next.Get(ctx, collection, ids...)
	e.note("get", collection, start, len(docs), err)
	return docs, err
}

// Write is docstore.Engine's.
func (e *Engine) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	start := time.Now()
	results, err := e.next.Write(ctx, ops, ordered)
	type sum struct {
		collection string
		written    int
	}
	var sums []sum // a handful of collections: searching is cheaper than a map
	at := func(collection string) *sum {
		for i := range sums {
			if sums[i].collection == collection {
				return &sums[i]
			}
		}
		sums = append(sums, sum{collection: collection})
		return &sums[len(sums)-1]
	}
	for i, op := range ops {
		var own error
		if i < len(results) {
			own = results[i].Err
		}
		if errors.Is(own, docstore.ErrCollection) {
			e.errs.WithLabelValues("write", "", Kind(own)).Inc()
			continue
		}
		s := at(op.Collection)
		switch {
		case err != nil:
		case own != nil:
			e.errs.WithLabelValues("write", op.Collection, Kind(own)).Inc()
		default:
			s.written++
		}
	}
	for _, s := range sums {
		e.note("write", s.collection, start, s.written, err)
	}
	return results, err
}

// Scan is docstore.Engine's.
func (e *Engine) Scan(ctx context.Context, q docstore.Query) (docstore.Page, error) {
	start := time.Now()
	page, err := e.next.Scan(ctx, q)
	e.note("scan", q.Collection, start, len(page.Docs), err)
	return page, err
}

// Count is docstore.Engine's.
func (e *Engine) Count(ctx context.Context, q docstore.Query, limit int) (int, error) {
	start := time.Now()
	n, err := e.next.Count(ctx, q, limit)
	e.note("count", q.Collection, start, 0, err)
	return n, err
}

// DeleteRange is docstore.Engine's.
func (e *Engine) DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error) {
	start := time.Now()
	n, err := e.next.DeleteRange(ctx, collection, from, to, limit)
	e.note("delete_range", collection, start, n, err)
	return n, err
}

// Now is docstore.Engine's.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	start := time.Now()
	now, err := e.next.Now(ctx)
	e.note("now", "", start, 0, err)
	return now, err
}

// Close closes the wrapped engine.
func (e *Engine) Close() error { return e.next.Close() }
