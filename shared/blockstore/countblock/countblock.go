// Package countblock measures a store: how long each operation took, how many bytes went each way, and how often it failed, by
// kind.
package countblock

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Store wraps another one.
type Store struct {
	next    blockstore.Store
	id      string
	seconds *prometheus.HistogramVec
	bytes   *prometheus.CounterVec
	errs    *prometheus.CounterVec
}

var _ blockstore.Store = (*Store)(nil)

// New wraps the store of an id, which becomes the label "store", and registers its metrics. A nil registry is allowed; the
// stores of one registry share their metrics.
func New(next blockstore.Store, id string, reg prometheus.Registerer) (*Store, error) {
	s := &Store{next: next, id: id}
	s.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "heartwood_blockstore_operation_seconds",
		Help: "Time of an operation on a block store; a write is from Create to Commit, a read until its first byte can be asked for.",
		// 100 us to 105 s: a local file opens in tens of microseconds, a pack goes to a far bucket in many seconds.
		Buckets: prometheus.ExponentialBuckets(100e-6, 4, 11),
	}, []string{"store", "operation"})
	s.bytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heartwood_blockstore_bytes_total",
		Help: "Bytes moved by a block store: read, or written and committed.",
	}, []string{"store", "direction"})
	s.errs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heartwood_blockstore_errors_total",
		Help: "Failed operations of a block store, by kind.",
	}, []string{"store", "operation", "kind"})
	if reg == nil {
		return s, nil
	}
	var err error
	if s.seconds, err = register(reg, s.seconds); err != nil {
		return nil, err
	}
	if s.bytes, err = register(reg, s.bytes); err != nil {
		return nil, err
	}
	if s.errs, err = register(reg, s.errs); err != nil {
		return nil, err
	}
	return s, nil
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

// Unwrap gives the wrapped store: signed requests are not measured.
func (s *Store) Unwrap() blockstore.Store { return s.next }

// Kind is the label of an error: what a reader of a chart can act on. A nil error is "".
func Kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range []struct {
		err  error
		name string
	}{
		{blockstore.ErrNotFound, "not_found"},
		{blockstore.ErrExists, "exists"},
		{blockstore.ErrNoSpace, "no_space"},
		{blockstore.ErrUnavailable, "unavailable"},
		{blockstore.ErrDenied, "denied"},
		{blockstore.ErrInvalid, "invalid"},
		{blockstore.ErrTooLarge, "too_large"},
		{blockstore.ErrDamaged, "damaged"},
		{blockstore.ErrKey, "key"},
		{context.Canceled, "cancelled"},
		{context.DeadlineExceeded, "deadline"},
	} {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return "other"
}

func (s *Store) note(op string, start time.Time, err error) {
	s.seconds.WithLabelValues(s.id, op).Observe(time.Since(start).Seconds())
	s.failed(op, err)
}

func (s *Store) failed(op string, err error) {
	if err != nil {
		s.errs.WithLabelValues(s.id, op, Kind(err)).Inc()
	}
}

// Create is blockstore.Store's.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	start := time.Now()
	w, err := s.next.Create(ctx, key)
	if err != nil {
		s.note("write", start, err)
		return nil, err
	}
	return &writer{s: s, start: start, next: w}, nil
}

type writer struct {
	s     *Store
	start time.Time
	next  blockstore.Writer
	bytes int64
	noted bool
}

func (w *writer) note(err error) {
	if !w.noted {
		w.noted = true
		w.s.note("write", w.start, err)
	}
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.next.Write(p)
	w.bytes += int64(n)
	if err != nil {
		w.note(err)
	}
	return n, err
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	err := w.next.Commit(ctx)
	if err == nil {
		w.s.bytes.WithLabelValues(w.s.id, "written").Add(float64(w.bytes))
	}
	w.note(err)
	return err
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() { w.next.Abort() }

// Open is blockstore.Store's.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	start := time.Now()
	r, err := s.next.Open(ctx, key, offset, length)
	s.note("read", start, err)
	if err != nil {
		return nil, err
	}
	return &reader{s: s, next: r, bytes: s.bytes.WithLabelValues(s.id, "read")}, nil
}

type reader struct {
	s      *Store
	next   io.ReadCloser
	bytes  prometheus.Counter
	failed bool
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.next.Read(p)
	r.bytes.Add(float64(n))
	if err != nil && !errors.Is(err, io.EOF) && !r.failed {
		r.failed = true
		r.s.failed("read", err)
	}
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.next.Close() }

// Stat is blockstore.Store's.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	start := time.Now()
	o, err := s.next.Stat(ctx, key)
	s.note("stat", start, err)
	return o, err
}

// List is blockstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	start := time.Now()
	found, err := s.next.List(ctx, prefix, after, limit)
	s.note("list", start, err)
	return found, err
}

// Delete is blockstore.Store's.
func (s *Store) Delete(ctx context.Context, key string) error {
	start := time.Now()
	err := s.next.Delete(ctx, key)
	s.note("delete", start, err)
	return err
}
