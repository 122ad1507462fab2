package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/spool"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// ErrStale is in the chain of errors of Run when what waits does not follow what the server has: the configuration says where to
// begin again.
var ErrStale = errors.New("what waits does not follow what the server has")

// ErrStopped is in the chain of errors of Run when the server wants no more of this epoch.
var ErrStopped = errors.New("the server takes no more of this epoch")

// Options are what an Outbox needs.
type Options struct {
	Dir      string // of this epoch alone
	MaxBytes int64  // on disk; then Put waits
	Job      string
	Epoch    int64
	Head     wire.Head // that the server has
	Send     func(ctx context.Context, h wire.OplogHeader, content []byte) (wire.Head, error)
	Log      *slog.Logger
}

// Outbox holds the slices of one epoch's oplog on disk until the server has them. What it holds always is one chain that
// follows the server's head: anything else is thrown away and read from the source again.
type Outbox struct {
	o     Options
	spool *spool.Spool
	room  chan struct{} // one token: something was acknowledged

	mu      sync.Mutex
	head    chain.Head // that the server has
	end     *chain.Slice
	trouble error
}

// Open opens the outbox. What it held for another head is gone then.
func Open(o Options) (*Outbox, error) {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	b := &Outbox{o: o, room: make(chan struct{}, 1), head: HeadOf(o.Job, o.Epoch, o.Head)}
	if err := b.open(); err != nil {
		return nil, err
	}
	end, err := b.newest()
	if err == nil && end != nil && b.head.Last.Before(end.Last) && b.follows() {
		b.end = end
		return b, nil
	}
	if err != nil {
		o.Log.Warn("slices that waited cannot be read: the oplog is read again", obs.KeyErr, err)
	}
	return b, b.clear()
}

func (b *Outbox) open() (err error) {
	// The spool drops what is over its bounds. Put never lets it come to that.
	b.spool, err = spool.Open(spool.Options{Dir: b.o.Dir, MaxBytes: 4*b.o.MaxBytes + 8*spool.MaxRecord, MaxMemory: 2 * spool.MaxRecord, SegmentSize: 32 << 20, Log: b.o.Log})
	return err
}

func (b *Outbox) clear() error {
	if err := errors.Join(b.spool.Close(), os.RemoveAll(b.o.Dir)); err != nil {
		return fmt.Errorf("empty the outbox: %w", err)
	}
	return b.open()
}

// newest is the header of the last record.
func (b *Outbox) newest() (*chain.Slice, error) {
	record, err := b.spool.Last()
	if err != nil || record == nil {
		return nil, err
	}
	h, _, err := decode(record)
	return &h.Slice, err
}

// follows reports whether the first slice that waits is of this epoch and directly behind the head, or before it.
func (b *Outbox) follows() bool {
	for {
		batch, err := b.spool.Next(1, 1)
		if err != nil || len(batch.Records) == 0 {
			return false
		}
		h, _, err := decode(batch.Records[0])
		if err != nil {
			return false
		}
		if !b.head.Last.Before(h.Slice.Last) {
			if b.spool.Ack(batch) != nil {
				return false
			}
			continue
		}
		_, _, err = b.head.Follow(&h.Slice)
		return err == nil
	}
}

func decode(record []byte) (wire.OplogHeader, []byte, error) {
	header, content, err := wire.Unframe(record)
	if err != nil {
		return wire.OplogHeader{}, nil, err
	}
	h, err := wire.DecodeOplogHeader(header)
	return h, content, err
}

// End is the last slice held, nil if none is: there tailing goes on.
func (b *Outbox) End() *chain.Slice {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end
}

// Waiting is how many bytes wait.
func (b *Outbox) Waiting() int64 {
	if st := b.spool.Stats(); st.Records > 0 {
		return st.Bytes
	}
	return 0
}

// Full reports whether Put has to wait.
func (b *Outbox) Full() bool {
	st := b.spool.Stats()
	return st.Records > 0 && (st.Bytes >= b.o.MaxBytes || st.InMemory > 0)
}

// Trouble is why nothing is sent at the moment, nil while all is well.
func (b *Outbox) Trouble() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble
}

// Put compresses a slice and writes it to disk. It waits while too much is there: the source's own oplog is the longer buffer.
func (b *Outbox) Put(ctx context.Context, s *chain.Slice, wall time.Time, content []byte) error {
	h := wire.OplogHeader{Slice: *s, Wall: wall}
	header, err := h.Encode()
	if err != nil {
		return err
	}
	record := wire.Frame(header, wire.Compress(content))
	for b.Full() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.room:
		case <-time.After(5 * time.Second): // a disk that was full may take more
		}
	}
	if err := b.spool.Append(record); err != nil {
		return err
	}
	b.mu.Lock()
	b.end = s
	b.mu.Unlock()
	return nil
}

// Run sends what waits, in order, until ctx ends or the server's answer calls for a new start.
func (b *Outbox) Run(ctx context.Context) error {
	var backoff call.Backoff
	for {
		err := b.flush(ctx)
		var wait time.Duration
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrStale) || errors.Is(err, ErrStopped):
			return err
		case err != nil:
			var r *call.Refusal
			if errors.As(err, &r) {
				wait = r.RetryAfter
			}
			wait = backoff.Next(wait)
			b.failed(err)
		default:
			backoff.Reset()
			b.failed(nil)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-b.spool.Arrived():
			}
			continue
		}
		if !call.Pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

func (b *Outbox) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil && b.trouble != nil:
		b.o.Log.Info("the server takes the oplog again", obs.KeyBytes, b.spool.Stats().Bytes)
	case err != nil && (b.trouble == nil || b.trouble.Error() != err.Error()):
		b.o.Log.Warn("the oplog waits on disk", obs.KeyReason, err, obs.KeyBytes, b.spool.Stats().Bytes)
	}
	b.trouble = err
}

// flush sends until nothing waits.
func (b *Outbox) flush(ctx context.Context) error {
	for {
		batch, err := b.spool.Next(1, 1)
		if err != nil {
			return err
		}
		if len(batch.Records) == 0 {
			return nil
		}
		h, content, err := decode(batch.Records[0])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStale, err)
		}
		if b.head.Last.Before(h.Slice.Last) {
			if err := b.send(ctx, h, content); err != nil {
				return err
			}
		} // else its success was not heard of, or not written down
		if err := b.spool.Ack(batch); err != nil {
			b.o.Log.Warn("slices that were delivered will be looked at again after a restart", obs.KeyErr, err)
		}
		select {
		case b.room <- struct{}{}:
		default:
		}
	}
}

func (b *Outbox) send(ctx context.Context, h wire.OplogHeader, content []byte) error {
	next, _, err := b.head.Follow(&h.Slice)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	head, err := b.o.Send(ctx, h, content)
	switch {
	case Refused(err, wire.CodeGap, wire.CodeOverlap, wire.CodeSplice, wire.CodeConflict):
		return fmt.Errorf("%w: %w", ErrStale, err)
	case Refused(err, wire.CodeEpoch, wire.CodeStopped):
		return fmt.Errorf("%w: %w", ErrStopped, err)
	case call.Judge(err) == call.Never && err != nil: // what was read is malformed to the server: read it again, and say so
		return fmt.Errorf("%w: %w", ErrStale, err)
	case err != nil:
		return err
	case next.Last.Before(head.Last): // it was stored before, and what follows it too: what waits is judged by that
		next = HeadOf(b.o.Job, b.o.Epoch, head)
	case head.Last != next.Last || head.Sum != next.Sum:
		return fmt.Errorf("%w: the server's head is %s, after a slice that ends with %s", ErrStale, head.Last, next.Last)
	}
	b.mu.Lock()
	b.head = next
	b.mu.Unlock()
	return nil
}

// Head is what the server is known to have.
func (b *Outbox) Head() chain.Head {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head
}

// Close leaves what waits on disk.
func (b *Outbox) Close() error { return b.spool.Close() }
