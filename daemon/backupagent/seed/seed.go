// Package seed reads every collection of a replica set once, by UUID, as slices of documents. What it reads is fuzzy: only the
// oplog from the position before the read to the position after it makes it consistent. It can be interrupted anywhere:
// collections that were read stay read, the one in work is read again from its beginning, under a new attempt.
package seed

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Options are what a Reader needs.
type Options struct {
	Job        string
	Epoch      int64
	Start      oplog.OpTime // of the epoch: nothing older is read
	Set        *source.Set
	Want       string // the sync source asked for
	Filter     *filter.Filter
	SliceBytes int64         // documents of a slice; 0: 10 MiB
	Parallel   int           // collections at a time; 0: 4
	Bandwidth  int64         // bytes a second that are read; 0: no limit
	MaxLag     time.Duration // while a secondary is behind by more the read pauses; 0: never

	Known func(ctx context.Context) ([]wire.CollectionInfo, error) // what the server has of this epoch
	Put   func(ctx context.Context, list []wire.CollectionInfo) error
	Send  func(ctx context.Context, h wire.SeedHeader, content []byte) error // one attempt
	Log   *slog.Logger
}

// Progress is how far the read is.
type Progress struct {
	Source                       string // host:port
	Collections, CollectionsDone int64
	Docs, DocsDone               int64
	Bytes, BytesDone             int64
	Throttled                    string
	Err                          error // what keeps it from going on at the moment
}

// Reader reads one epoch's collections.
type Reader struct {
	o     Options
	limit *rate.Limiter
	bytes *semaphore.Weighted // documents in memory

	mu       sync.Mutex
	progress Progress
	member   *source.Member
	failed   map[string]bool // members that were found wanting since a collection was read
	open     chan struct{}   // closed while reading may go on
}

// Bounds and defaults.
const (
	defaultBytes    = 10 << 20
	defaultParallel = 4
	inMemory        = 48 << 20 // documents in memory at a time
	batchBytes      = 4 << 20  // of one answer of the source, to aim at
	lookEvery       = 5 * time.Second
	maxDocument     = 17 << 20
)

// New returns a reader.
func New(o Options) *Reader {
	if o.SliceBytes <= 0 {
		o.SliceBytes = defaultBytes
	}
	o.SliceBytes = min(o.SliceBytes, inMemory/3, wire.MaxSliceBytes-maxDocument)
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	r := &Reader{o: o, bytes: semaphore.NewWeighted(inMemory), failed: map[string]bool{}, open: make(chan struct{})}
	close(r.open)
	if o.Bandwidth > 0 {
		r.limit = rate.NewLimiter(rate.Limit(o.Bandwidth), int(max(o.Bandwidth, 1<<20)))
	}
	return r
}

// Progress gives the current state.
func (r *Reader) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress
}

func (r *Reader) note(change func(p *Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.progress)
}

// Refused says that the server wants nothing more of this read: Run ends with it.
type Refused struct{ Err error }

// Error is the server's reason.
func (e *Refused) Error() string { return e.Err.Error() }

// Unwrap gives the refusal.
func (e *Refused) Unwrap() error { return e.Err }

// Run reads what the server has not got, and gives the position up to which the oplog must be replayed over it. Troubles of
// the source and of the way to the server are waited out; it fails when ctx ends or with *Refused.
func (r *Reader) Run(ctx context.Context) (oplog.OpTime, error) {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer func() {
		stop()
		watch.Wait()
		r.note(func(p *Progress) { p.Throttled = "" })
	}()
	if r.o.MaxLag > 0 {
		shut := r.lookAtLag(ctx, false)
		watch.Go(func() {
			for call.Pause(watching, lookEvery) {
				shut = r.lookAtLag(watching, shut)
			}
		})
	}
	var work []wire.CollectionInfo
	err := r.insist(ctx, func(m *source.Member) (err error) {
		work, err = r.plan(ctx, m)
		return err
	})
	if err != nil {
		return oplog.OpTime{}, err
	}
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	for i := range work {
		if reading.Err() != nil {
			break
		}
		g.Go(func() error { return r.collection(reading, &work[i]) })
	}
	if err := g.Wait(); err != nil {
		return oplog.OpTime{}, err
	}
	if ctx.Err() != nil {
		return oplog.OpTime{}, context.Cause(ctx)
	}
	return r.end(ctx)
}

// insist calls f with a member until it succeeds, ctx ends or the server refuses.
func (r *Reader) insist(ctx context.Context, f func(m *source.Member) error) error {
	var backoff call.Backoff
	for {
		m, err := r.pick(ctx)
		if err == nil {
			if err = f(m); err == nil {
				r.note(func(p *Progress) { p.Err = nil })
				return nil
			}
		}
		var refused *Refused
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &refused):
			return err
		}
		r.trouble(m, err)
		if !call.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

// trouble notes that something failed on a member, so that the next to read is another one if there is.
func (r *Reader) trouble(m *source.Member, err error) {
	r.mu.Lock()
	news := r.progress.Err == nil || r.progress.Err.Error() != err.Error()
	r.progress.Err = err
	address := ""
	if m != nil {
		address = m.Address
		var c *callerError
		if !errors.As(err, &c) {
			r.failed[m.Address] = true
			if r.member == m {
				r.member = nil
			}
		}
	}
	r.mu.Unlock()
	if news {
		r.o.Log.Warn("the full read is interrupted", obs.KeyHost, address, obs.KeyReason, err)
	}
}

// callerError marks what is not the member's fault.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }
func (e *callerError) Unwrap() error { return e.err }

// pick gives the member that is read. It is one that has got as far as the epoch's start.
func (r *Reader) pick(ctx context.Context) (*source.Member, error) {
	r.mu.Lock()
	m, avoid := r.member, r.failed
	if m != nil {
		r.mu.Unlock()
		return m, nil
	}
	copied := map[string]bool{}
	for k := range avoid {
		copied[k] = true
	}
	current := r.progress.Source
	r.mu.Unlock()
	m, _, err := r.o.Set.Pick(ctx, r.o.Want, current, copied)
	if err != nil {
		return nil, err
	}
	h, err := m.Hello(ctx)
	if err != nil {
		return m, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if copied[m.Address] { // all of them
		clear(r.failed)
	}
	if h.Majority.Before(r.o.Start) {
		return m, fmt.Errorf("%s is at %s and has not got to the start of the backup, %s", m.Address, h.Majority, r.o.Start)
	}
	if r.progress.Source != m.Address {
		r.o.Log.Info("collections are read from", obs.KeyHost, m.Address)
	}
	r.member, r.progress.Source = m, m.Address
	return m, nil
}

// plan lists the source, tells the server of what it has not heard of, and gives what is to be read, the largest first.
func (r *Reader) plan(ctx context.Context, m *source.Member) ([]wire.CollectionInfo, error) {
	known, err := r.o.Known(ctx)
	if err != nil {
		return nil, caller(err)
	}
	listed, err := list(ctx, m, r.o.Filter)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	key := func(c *wire.CollectionInfo) string {
		if c.View != nil {
			return c.NS
		}
		return string(c.UUID[:])
	}
	for i := range known {
		have[key(&known[i])] = true
	}
	var tell, work []wire.CollectionInfo
	for _, c := range listed {
		if !have[key(&c)] {
			known = append(known, c)
			tell = append(tell, c)
		}
	}
	var p Progress
	for _, c := range known {
		p.Collections++
		if c.Done || c.Lost != "" {
			p.CollectionsDone++
			p.Docs, p.DocsDone, p.Bytes, p.BytesDone = p.Docs+c.Docs, p.DocsDone+c.Docs, p.Bytes+c.Bytes, p.BytesDone+c.Bytes
			continue
		}
		if have[key(&c)] {
			c.Attempt++ // whatever came of the last one does not count
			tell = append(tell, c)
		}
		c.Docs, c.Bytes = size(ctx, m, c.NS)
		p.Docs, p.Bytes = p.Docs+c.Docs, p.Bytes+c.Bytes
		work = append(work, c)
	}
	for i := range tell {
		tell[i].Stored, tell[i].Resume = 0, nil
	}
	if err := r.o.Put(ctx, tell); err != nil {
		return nil, caller(err)
	}
	r.note(func(q *Progress) { p.Source, p.Throttled = q.Source, q.Throttled; *q = p })
	slices.SortStableFunc(work, func(a, b wire.CollectionInfo) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return work, nil
}

func caller(err error) error {
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return &callerError{err}
}

// collection reads one collection to its end, however often it takes.
func (r *Reader) collection(ctx context.Context, c *wire.CollectionInfo) error {
	first := true
	expected := *c
	return r.insist(ctx, func(m *source.Member) error {
		if !first { // from the beginning, as another attempt
			c.Attempt++
			again := *c
			again.Docs, again.Bytes = 0, 0
			if err := r.o.Put(ctx, []wire.CollectionInfo{again}); err != nil {
				return caller(err)
			}
		}
		first = false
		read, err := r.read(ctx, m, c)
		undo := func() {
			r.note(func(p *Progress) { p.DocsDone, p.BytesDone = p.DocsDone-read.Docs, p.BytesDone-read.Bytes })
		}
		done := *c
		done.Docs, done.Bytes, done.Slices = read.Docs, read.Bytes, read.Slices
		switch {
		case source.Gone(err):
			undo()
			done.Lost, done.Docs, done.Bytes, done.Slices = "it was dropped while it was read", 0, 0, 0
		case err != nil:
			undo()
			if source.Interrupted(err) || source.Overrun(err) {
				err = &callerError{fmt.Errorf("%s is read again from its beginning: %w", c.NS, err)}
			}
			return err
		default:
			done.Done = true
		}
		if err := r.insistOn(ctx, func() error { return r.o.Put(ctx, []wire.CollectionInfo{done}) }); err != nil {
			undo()
			return caller(err)
		}
		r.note(func(p *Progress) {
			p.CollectionsDone++
			p.Docs, p.Bytes = p.Docs+done.Docs-expected.Docs, p.Bytes+done.Bytes-expected.Bytes // it was an estimate
		})
		r.mu.Lock()
		clear(r.failed)
		r.mu.Unlock()
		return nil
	})
}

// insistOn repeats what depends on the server alone.
func (r *Reader) insistOn(ctx context.Context, f func() error) error {
	var backoff call.Backoff
	for {
		err := f()
		var refused *Refused
		if err == nil || errors.As(err, &refused) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.trouble(nil, err)
		var say *call.Refusal
		least := time.Duration(0)
		if errors.As(err, &say) {
			least = say.RetryAfter
		}
		if !call.Pause(ctx, backoff.Next(least)) {
			return context.Cause(ctx)
		}
	}
}

// read makes one attempt. Slices are compressed and sent while the next is read.
func (r *Reader) read(ctx context.Context, m *source.Member, c *wire.CollectionInfo) (sum wire.CollectionInfo, err error) {
	db, _ := oplog.Split(c.NS)
	cursor, err := m.ByUUID(ctx, db, c.UUID, r.o.Start, nil)
	if err != nil {
		return sum, err
	}
	defer cursor.Close(ctx)
	g, sending := errgroup.WithContext(ctx)
	defer func() {
		if e := g.Wait(); err == nil || e != nil && errors.Is(err, context.Canceled) {
			err = e
		}
	}()
	var docs []byte
	var count int64
	var told wire.CollectionInfo // of sum, in the progress
	cut := func() error {
		if count == 0 {
			return nil
		}
		h := wire.SeedHeader{Job: r.o.Job, Epoch: r.o.Epoch, UUID: c.UUID, Attempt: c.Attempt, Seq: sum.Slices, Count: count, Bytes: int64(len(docs))}
		slice := docs
		docs, count = nil, 0
		sum.Slices++
		if err := r.bytes.Acquire(sending, h.Bytes); err != nil {
			return err
		}
		g.Go(func() error {
			defer r.bytes.Release(h.Bytes)
			h.Digest = sha256.Sum256(slice)
			content := wire.Compress(slice)
			return caller(r.insistOn(sending, func() error { return r.o.Send(sending, h, content) }))
		})
		return nil
	}
	batch := int32(1000)
	for {
		if err := r.gate(sending); err != nil {
			return sum, err
		}
		b, err := cursor.Next(sending, batch)
		if errors.Is(err, source.ErrEnd) {
			return sum, cut()
		}
		if err != nil {
			return sum, err
		}
		n := int64(0)
		err = b.Each(func(doc bson.Raw) error {
			if len(docs) > 0 && int64(len(docs)+len(doc)) > r.o.SliceBytes {
				if err := cut(); err != nil {
					return err
				}
			}
			if docs == nil {
				docs = make([]byte, 0, min(r.o.SliceBytes, max(c.Bytes-sum.Bytes, 0)+int64(len(doc))+4096))
			}
			docs = append(docs, doc...)
			count++
			n++
			sum.Docs++
			sum.Bytes += int64(len(doc))
			return nil
		})
		r.note(func(p *Progress) {
			p.DocsDone, p.BytesDone = p.DocsDone+sum.Docs-told.Docs, p.BytesDone+sum.Bytes-told.Bytes
		})
		told = sum
		if err != nil {
			return sum, err
		}
		if n > 0 {
			batch = int32(min(max(batchBytes*n/int64(b.Bytes), 1), 100_000)) //nolint:gosec // bounded
		}
		if err := r.pace(sending, b.Bytes); err != nil {
			return sum, err
		}
	}
}

// pace holds the read to the bandwidth.
func (r *Reader) pace(ctx context.Context, n int) error {
	if r.limit == nil {
		return nil
	}
	for n > 0 {
		k := min(n, r.limit.Burst())
		if err := r.limit.WaitN(ctx, k); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// gate waits while the set lags.
func (r *Reader) gate(ctx context.Context) error {
	r.mu.Lock()
	open := r.open
	r.mu.Unlock()
	select {
	case <-open:
		return ctx.Err()
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-open:
		return nil
	}
}

// lookAtLag closes and opens the gate, and reports whether it is shut.
func (r *Reader) lookAtLag(ctx context.Context, shut bool) bool {
	top, err := r.o.Set.Look(ctx)
	if err != nil {
		return shut // as before: it is not known
	}
	why := ""
	if lag, who := top.Lag(); lag > r.o.MaxLag {
		why = fmt.Sprintf("%s is %s behind its primary; the full read goes on below %s", who, lag.Round(time.Second), r.o.MaxLag)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Throttled = why
	switch {
	case why != "" && !shut:
		r.open = make(chan struct{})
	case why == "" && shut:
		close(r.open)
	}
	return why != ""
}

// end gives the position behind everything that was read: an entry of the majority that was the set's newest after the last
// collection had been read. No member gives more to a majority read than the newest member has.
func (r *Reader) end(ctx context.Context) (end oplog.OpTime, err error) {
	err = r.insist(ctx, func(m *source.Member) error {
		top, err := r.o.Set.Look(ctx)
		if err != nil {
			return err
		}
		newest := top.Newest()
		if top.Primary == "" || newest.IsZero() {
			return &callerError{errors.New("the set has no primary: the end of the full read is not known")}
		}
		// Not for long: what a primary had that was deposed may never be the majority's.
		ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, fmt.Errorf("%s does not hear of a majority", m.Address))
		defer cancel()
		for {
			h, err := m.Hello(ctx)
			if err != nil {
				return err
			}
			if !h.Majority.Before(newest) {
				break
			}
			if !call.Pause(ctx, 100*time.Millisecond) {
				return context.Cause(ctx)
			}
		}
		entry, err := m.At(ctx, newest.TS)
		if err == nil && entry == nil {
			err = fmt.Errorf("%s has no entry at %s: it was rolled back", m.Address, newest)
		}
		end = newest
		return err
	})
	return end, err
}
