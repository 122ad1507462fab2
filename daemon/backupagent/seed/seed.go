// Package seed reads every collection of a replica set once, by UUID, as slices of documents. What it reads is fuzzy: only the
// oplog from the position before the read to the position after it makes it consistent. It can be interrupted anywhere:
// collections that were read stay read, and those in work go on behind their last slice (place.go says when they can).
package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

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
	o       Options
	limit   *rate.Limiter
	bytes   *semaphore.Weighted // of full slices
	answers *semaphore.Weighted // bytes of answers

	buffers sync.Pool           // of *[]byte, for slices
	packing *semaphore.Weighted // slices that are compressed at a time

	mu       sync.Mutex
	progress Progress
	member   *source.Member
	wire     int64           // of member: version of its protocol
	failed   map[string]bool // members that were found wanting since a collection was read
	home     home
	open     chan struct{} // closed while reading may go on
}

// Bounds and defaults. They bound the memory of a read, whatever the size of the data and of its documents:
//
//   - answers of the source, being fetched or cut: inAnswers. One has at most 16 MiB and a document, and aims at batchBytes.
//   - slices being filled: one for each collection in work, of SliceBytes or one document: 4 x 10 MiB, with large documents 4 x 16.
//   - full slices, until they are acknowledged: inMemory, counted as not compressed; while it is sent one also has a copy in a frame.
//
// That is 32 + 40 + 48 MiB, with documents of 16 MiB 48 + 64 + 48. The tail, its batches and its slice add up to 50. The process
// runs with a soft limit of 256 MiB (local/cli), which makes the collector keep garbage within what is left of it.
const (
	defaultBytes    = 10 << 20
	defaultParallel = 4
	inMemory        = 48 << 20
	inAnswers       = 48 << 20
	batchBytes      = 4 << 20
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
	r := &Reader{
		o: o, bytes: semaphore.NewWeighted(inMemory), answers: semaphore.NewWeighted(inAnswers), packing: semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)))),
		failed: map[string]bool{}, open: make(chan struct{}), home: home{stake: map[oplog.UUID]int64{}},
	}
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

// Conflict says that the server has other slices of an attempt at a collection: it is read as the next attempt.
type Conflict struct{ Err error }

// Error is the server's reason.
func (e *Conflict) Error() string { return e.Err.Error() }

// Unwrap gives the refusal.
func (e *Conflict) Unwrap() error { return e.Err }

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
	var work []item
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

// plan lists the source, tells the server of what it has not heard of, and gives what is to be read, the largest first.
func (r *Reader) plan(ctx context.Context, m *source.Member) ([]item, error) {
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
	var tell []wire.CollectionInfo
	var work []item
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
		it := item{c: c}
		switch at, ok := readNote(c.Resume); {
		case !have[key(&c)]:
		case c.Stored > 0 && ok:
			it.at, it.at.slices = at, c.Stored
			p.DocsDone, p.BytesDone = p.DocsDone+at.docs, p.BytesDone+at.bytes
		default:
			c.Attempt++ // whatever came of the last one does not count
			tell = append(tell, c)
		}
		it.c.Stored, it.c.Resume, it.c.Attempt = 0, nil, c.Attempt
		var known bool
		it.c.Docs, it.c.Bytes, known = size(ctx, m, c.NS)
		it.small = known && it.c.Bytes <= r.o.SliceBytes
		p.Docs, p.Bytes = p.Docs+it.c.Docs, p.Bytes+it.c.Bytes
		work = append(work, it)
	}
	for i := range tell {
		tell[i].Stored, tell[i].Resume = 0, nil
	}
	if err := r.o.Put(ctx, tell); err != nil {
		return nil, caller(err)
	}
	r.note(func(q *Progress) { p.Source, p.Throttled = q.Source, q.Throttled; *q = p })
	slices.SortStableFunc(work, func(a, b item) int { return cmp.Compare(b.c.Bytes, a.c.Bytes) })
	r.settle(work)
	return work, nil
}

func caller(err error) error {
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return &callerError{err}
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
