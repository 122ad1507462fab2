// Package tail follows the oplog of a replica set and cuts it into slices. It owns the proof that what it reads continues
// what was read before: at every connect the entry at the saved position is compared before anything is taken. It ends where
// continuity cannot be proven; it never guesses.
package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Place is how far the slices reach. Before the first slice Last is the entry to begin with, which the first slice holds.
type Place struct {
	chain.Saved
	Sum   chain.Digest // of the last slice; zero before the first
	Begun bool         // there is a slice: the entry at At is in it
}

// Sink takes slices, in order. Put returns when the slice is on disk; it may wait for room.
type Sink interface {
	Put(ctx context.Context, s *chain.Slice, wall time.Time, content []byte) error
}

// Options are what a Tailer needs.
type Options struct {
	Job        string
	Epoch      int64
	Set        *source.Set
	Want       string // the sync source asked for
	Filter     *filter.Filter
	Place      Place
	SliceBytes int64         // 0: 8 MiB
	SliceEvery time.Duration // 0: 10 s
	Notes      bool          // a silent primary may be written a no-op to
	Sink       Sink
	Log        *slog.Logger
}

// Ended says that the history cannot be continued: the epoch is over.
type Ended struct {
	Verdict string // chain.Verdict, or VerdictFilter
	Why     string
	At      oplog.OpTime // of the entry that ended it, zero where there is none: a new epoch begins no earlier
}

// VerdictFilter ends an epoch because a collection came into view that was never read.
const VerdictFilter = "filter"

// Error is the reason.
func (e *Ended) Error() string { return e.Verdict + ": " + e.Why }

// errBehind asks for another member, or for patience.
type errBehind struct{ why string }

func (e *errBehind) Error() string { return e.why }

// Status is how the tailing goes.
type Status struct {
	Source    string // host:port
	Version   string
	FCV       string
	Last      oplog.OpTime // of what was cut into slices
	Wall      time.Time
	Ends      source.Ends // of the source's oplog, as of a while ago
	Throttled string
	Err       error // why it does not go on at the moment; nil while it does
}

// Tailer tails one epoch of one set.
type Tailer struct {
	o      Options
	place  Place
	silent time.Time // of the last entry seen
	notes  bool

	mu     sync.Mutex
	status Status
}

// Bounds and defaults.
const (
	defaultBytes = 8 << 20
	defaultEvery = 10 * time.Second
	await        = time.Second      // of one answer of a cursor
	endsEvery    = 20 * time.Second // how often the oplog's ends are looked at
	noteAfter    = 30 * time.Second // of silence; servers write a no-op every ten seconds
	look         = time.Minute      // how often a better member is looked for
)

// New returns a tailer.
func New(o Options) *Tailer {
	if o.SliceBytes <= 0 {
		o.SliceBytes = defaultBytes
	}
	o.SliceBytes = min(o.SliceBytes, wire.MaxSliceBytes/2)
	if o.SliceEvery <= 0 {
		o.SliceEvery = defaultEvery
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	return &Tailer{o: o, place: o.Place, notes: o.Notes}
}

// Status gives the current state.
func (t *Tailer) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

func (t *Tailer) note(change func(s *Status)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

// Run tails until ctx ends, the history ends (*Ended), or the sink fails in a way that a new start mends. A member that fails
// is replaced by another; while there is none it waits.
func (t *Tailer) Run(ctx context.Context) error {
	var backoff call.Backoff
	var current string
	failed := map[string]bool{} // members that were found wanting since it last worked
	gap := map[string]bool{}    // members whose oplog begins too late: one that was resynced is no proof for the others
	for {
		m, top, err := t.o.Set.Pick(ctx, t.o.Want, current, failed)
		if err == nil && failed[m.Address] { // all of them
			clear(failed)
		}
		if err == nil {
			if current != m.Address {
				t.o.Log.Info("the oplog is read from", obs.KeyHost, m.Address)
			}
			current = m.Address
			before := t.place.At
			err = t.follow(ctx, m, top)
			if t.place.At != before {
				backoff.Reset()
				clear(failed)
				clear(gap)
			}
			failed[current] = true
		}
		var ended *Ended
		var put *putError
		var moved *errMoved
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &ended) && ended.Verdict == string(chain.Gap) && !t.everywhere(top, current, gap):
			continue
		case errors.As(err, &ended):
			return err
		case errors.As(err, &put):
			return put.err
		case errors.As(err, &moved): // to a better member: at once
			current = ""
			clear(failed)
			continue
		}
		if s := t.Status(); s.Err == nil || s.Err.Error() != err.Error() {
			t.o.Log.Warn("tailing is interrupted", obs.KeyHost, current, obs.KeyReason, err)
		}
		t.note(func(s *Status) { s.Err = err })
		if !call.Pause(ctx, min(backoff.Next(0), 15*time.Second)) {
			return context.Cause(ctx)
		}
	}
}

// everywhere notes that a member's oplog begins too late, and reports whether that is so of all that can be read.
func (t *Tailer) everywhere(top *source.Topology, address string, gap map[string]bool) bool {
	gap[address] = true
	order, _ := source.Choose(top.Members, t.o.Want, "")
	return !slices.ContainsFunc(order, func(v source.View) bool { return !gap[v.Address] })
}

// putError marks what the sink said.
type putError struct{ err error }

func (e *putError) Error() string { return e.err.Error() }

// errMoved says that another member should be read.
type errMoved struct{ to string }

func (e *errMoved) Error() string { return "moving to " + e.to }

// follow reads one member for as long as it can.
func (t *Tailer) follow(ctx context.Context, m *source.Member, top *source.Topology) error {
	hello, err := m.Hello(ctx)
	if err != nil {
		return err
	}
	if !hello.Primary && !hello.Secondary {
		return fmt.Errorf("%s is neither primary nor secondary", m.Address)
	}
	version, fcv, err := m.Version(ctx)
	if err != nil {
		return err
	}
	c, err := m.Tail(ctx, t.place.At.TS, await)
	if err != nil {
		return err
	}
	r := &reader{t: t, m: m, cursor: c, until: time.Now()}
	defer r.stop(ctx)
	first, err := r.first(ctx)
	if err != nil {
		return err
	}
	if err := t.prove(ctx, m, top, first); err != nil {
		return err
	}
	t.note(func(s *Status) { s.Source, s.Version, s.FCV, s.Err = m.Address, version, fcv, nil })
	t.silent = time.Now()
	return r.run(ctx)
}

// prove compares the saved entry with what the member has. Oldest and newest are read after the first result came.
func (t *Tailer) prove(ctx context.Context, m *source.Member, top *source.Topology, first bson.Raw) error {
	seen := chain.Seen{ReplicaSetID: top.ID}
	if first != nil {
		e, err := oplog.Decode(first)
		if err != nil {
			return err
		}
		seen.First = e
	}
	ends, err := m.Ends(ctx)
	if err != nil {
		return err
	}
	seen.Oldest, seen.Newest = ends.Oldest, ends.Newest
	t.note(func(s *Status) { s.Ends = ends })
	verdict, why := chain.Resume(t.place.Saved, seen)
	switch verdict {
	case chain.Continue:
		return nil
	case chain.Behind:
		return &errBehind{why}
	}
	return &Ended{Verdict: string(verdict), Why: why + " (" + m.Address + ")"}
}

// reader cuts what one cursor gives.
type reader struct {
	t      *Tailer
	m      *source.Member
	cursor *source.Cursor
	until  time.Time // a tick: the ends of the oplog were looked at

	batches chan fetched
	cancel  context.CancelFunc
	done    sync.WaitGroup

	slice *chain.Builder
	bytes int64
	since time.Time // the slice was begun
	wall  time.Time // of its newest entry
	left  *source.Batch
}

type fetched struct {
	batch source.Batch
	err   error
}

// first gives the first entry that the cursor finds, nil if there is none within the wait of one answer.
func (r *reader) first(ctx context.Context) (bson.Raw, error) {
	for range 3 {
		b, err := r.cursor.Next(ctx, 0)
		switch {
		case errors.Is(err, source.ErrEnd) || source.Overrun(err):
			return nil, nil
		case err != nil:
			return nil, err
		}
		if b.Empty() {
			continue
		}
		r.left = &b
		var first bson.Raw
		err = b.Each(func(doc bson.Raw) error {
			first = doc
			return errEnough
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
		return first, err
	}
	return nil, nil
}

var errEnough = errors.New("enough")

// fetch reads ahead: one batch waits while another is cut, so that neither side waits for the other.
func (r *reader) fetch(ctx context.Context) {
	defer close(r.batches)
	for {
		b, err := r.cursor.Next(ctx, 0)
		select {
		case <-ctx.Done():
			return
		case r.batches <- fetched{b, err}:
		}
		if err != nil {
			return
		}
	}
}

func (r *reader) stop(ctx context.Context) {
	if r.cancel != nil {
		r.cancel()
	}
	r.done.Wait()
	r.cursor.Close(ctx)
}

// run cuts until the cursor dies. The slice that is not full then is given up: it is read again.
func (r *reader) run(ctx context.Context) error {
	fetching, cancel := context.WithCancel(ctx)
	r.cancel = cancel
	r.batches = make(chan fetched)
	r.done.Go(func() { r.fetch(fetching) })
	if r.left != nil {
		if err := r.take(ctx, r.left); err != nil {
			return err
		}
		r.left = nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	moving := time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f, ok := <-r.batches:
			switch {
			case !ok:
				return context.Cause(ctx)
			case errors.Is(f.err, source.ErrEnd):
				return fmt.Errorf("the oplog cursor on %s died", r.m.Address)
			case f.err != nil:
				return f.err // also after an overrun: the proof at the next connect says whether it is a gap
			}
			if err := r.take(ctx, &f.batch); err != nil {
				return err
			}
		case <-tick.C:
		}
		if err := r.due(ctx); err != nil {
			return err
		}
		if err := r.upkeep(ctx); err != nil {
			return err
		}
		if time.Since(moving) > look {
			moving = time.Now()
			if err := r.better(ctx); err != nil {
				return err
			}
		}
	}
}

// better leaves a member that is no longer the one to read: after an election, or when one with fewer duties came back.
func (r *reader) better(ctx context.Context) error {
	best, top, err := r.t.o.Set.Pick(ctx, r.t.o.Want, r.m.Address, nil)
	switch {
	case err != nil:
		return nil //nolint:nilerr // the cursor works: that is what counts
	case top.ID != r.t.place.ReplicaSetID:
		return &Ended{Verdict: string(chain.OtherSet), Why: fmt.Sprintf("the replica set is %s, the history comes from %s", top.ID.Hex(), r.t.place.ReplicaSetID.Hex())}
	case best.Address != r.m.Address:
		if err := r.cut(ctx); err != nil {
			return err
		}
		return &errMoved{best.Address}
	}
	return nil
}

// upkeep looks at the ends of the oplog now and then, and writes a note where nothing was heard for long.
func (r *reader) upkeep(ctx context.Context) error {
	now := time.Now()
	if r.t.notes && now.Sub(r.t.silent) > noteAfter {
		r.t.silent = now
		_, top, err := r.t.o.Set.Pick(ctx, r.t.o.Want, r.m.Address, nil)
		if err == nil {
			if p := r.t.o.Set.PrimaryOf(top); p != nil {
				if err := p.Note(ctx); source.Denied(err) {
					r.t.notes = false // not again
					r.t.o.Log.Info("a silent source gets no sign of life: the user may not write one", obs.KeyHost, p.Address)
				}
			}
		}
	}
	if now.Sub(r.until) < endsEvery {
		return nil
	}
	r.until = now
	ends, err := r.m.Ends(ctx)
	if err != nil {
		return err
	}
	r.t.note(func(s *Status) { s.Ends = ends })
	return nil
}

// take adds a batch to the slice, and cuts where one is full.
func (r *reader) take(ctx context.Context, b *source.Batch) error {
	if !b.Empty() {
		r.t.silent = time.Now()
	}
	return b.Each(func(raw bson.Raw) error {
		e, err := oplog.Decode(raw)
		if err != nil {
			return fmt.Errorf("the oplog cannot be read on: %w", err)
		}
		p := &r.t.place
		if e.At.TS == p.At.TS && p.Begun && r.slice == nil {
			return nil // the proof: it is in the slice before
		}
		return r.add(ctx, e)
	})
}

func (r *reader) add(ctx context.Context, e *oplog.Entry) error {
	kept, reads, err := r.t.o.Filter.Entry(e)
	if err != nil {
		return fmt.Errorf("the oplog cannot be read on: %w", err)
	}
	if len(reads) > 0 && e.At == r.t.place.At && !r.t.place.Begun {
		kept, reads = nil, nil // the epoch begins with it: what is read of the source is read after it
	}
	if len(reads) > 0 {
		if err := r.cut(ctx); err != nil {
			return err
		}
		return &Ended{Verdict: VerdictFilter, At: e.At, Why: fmt.Sprintf("%s was renamed to a name that is backed up, at %s: what it holds was never read", reads[0].NS, e.At)}
	}
	if r.slice != nil && r.bytes > 0 && r.bytes+int64(len(kept)) > r.t.o.SliceBytes { // one large entry is a slice of its own
		if err := r.cut(ctx); err != nil {
			return err
		}
	}
	if r.slice == nil {
		p := &r.t.place
		after := p.At
		if !p.Begun {
			after = oplog.OpTime{}
		}
		r.slice, r.since = chain.Begin(r.t.o.Job, r.t.o.Epoch, after, p.Sum), time.Now()
	}
	if err := r.slice.Add(e, kept); err != nil {
		if errors.Is(err, chain.ErrOrder) {
			if err := r.cut(ctx); err != nil {
				return err
			}
			return &Ended{Verdict: string(chain.Rollback), Why: err.Error()}
		}
		return err
	}
	r.bytes += int64(len(kept))
	r.wall = e.Wall
	if r.bytes >= r.t.o.SliceBytes {
		return r.cut(ctx)
	}
	return nil
}

// due cuts a slice that is old enough.
func (r *reader) due(ctx context.Context) error {
	if r.slice == nil || time.Since(r.since) < r.t.o.SliceEvery {
		return nil
	}
	return r.cut(ctx)
}

// cut finishes the slice and hands it on. Only then the place moves.
func (r *reader) cut(ctx context.Context) error {
	if r.slice == nil {
		return nil
	}
	s, content, err := r.slice.Finish()
	if err != nil {
		return err
	}
	if err := r.t.o.Sink.Put(ctx, s, r.wall, content); err != nil {
		return &putError{err}
	}
	p := &r.t.place
	p.At, p.Entry, p.Sum, p.Begun = s.Last, s.LastEntry, s.Sum(), true
	wall := r.wall
	r.slice, r.bytes = nil, 0
	r.t.note(func(st *Status) { st.Last, st.Wall = s.Last, wall })
	return nil
}
