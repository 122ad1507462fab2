package seed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// errAnew says that what was read of a collection is worth nothing any more.
var errAnew = errors.New("is read again from its beginning")

// collection reads one collection to its end, however often it takes.
func (r *Reader) collection(ctx context.Context, it *item) error {
	c, at := &it.c, &it.at
	expected := *c
	refusals := 0 // of the member, to go on
	anew := false
	return r.insist(ctx, func(m *source.Member) error {
		if anew || at.slices > 0 && !at.resumes() {
			r.note(func(p *Progress) { p.DocsDone, p.BytesDone = p.DocsDone-at.docs, p.BytesDone-at.bytes })
			r.atStake("", c.UUID, 0)
			*at = place{}
			anew = false
			c.Attempt++
			again := *c
			again.Docs, again.Bytes = 0, 0
			if err := r.o.Put(ctx, []wire.CollectionInfo{again}); err != nil {
				return caller(err)
			}
		}
		from := at.slices
		err := r.read(ctx, m, it)
		done := *c
		done.Docs, done.Bytes, done.Slices = at.docs, at.bytes, at.slices
		var conflict *Conflict
		var refused *Refused
		switch {
		case source.Gone(err):
			done.Lost = "it was dropped while it was read"
		case source.Denied(err) && OfServer(c.NS):
			done.Lost = "it is a collection for servers alone: the user may not read it"
		case errors.As(err, &refused):
			return err
		case errors.Is(err, errAnew), errors.As(err, &conflict), source.Overrun(err):
			anew = true
			return &callerError{fmt.Errorf("%s is read again from its beginning: %w", c.NS, err)}
		case err != nil:
			// A member that answers and again and again will not go on: its token is worth nothing, whatever it says of it.
			if refusals++; !source.Refusal(err) || at.slices > from {
				refusals = 0
			}
			if anew = refusals >= 3 && at.slices > 0; anew {
				refusals = 0
			}
			if source.Interrupted(err) {
				err = &callerError{fmt.Errorf("%s is interrupted at %s: %w", c.NS, at, err)}
			}
			return err
		default:
			done.Done = true
		}
		if done.Lost != "" {
			r.note(func(p *Progress) { p.DocsDone, p.BytesDone = p.DocsDone-at.docs, p.BytesDone-at.bytes })
			*at = place{}
			done.Docs, done.Bytes, done.Slices = 0, 0, 0
		}
		r.atStake("", c.UUID, 0)
		if err := r.insistOn(ctx, func() error { return r.o.Put(ctx, []wire.CollectionInfo{done}) }); err != nil {
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

// OfServer reports whether a collection is a server's own, such as its signing keys: a restored set makes its own.
func OfServer(ns string) bool {
	_, coll := oplog.Split(ns)
	return strings.HasPrefix(coll, "system.") && !strings.HasPrefix(coll, "system.buckets.")
}

// insistOn repeats what depends on the server alone.
func (r *Reader) insistOn(ctx context.Context, f func() error) error {
	var backoff call.Backoff
	for {
		err := f()
		var refused *Refused
		var conflict *Conflict
		if err == nil || errors.As(err, &refused) || errors.As(err, &conflict) {
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

// cursor opens a cursor where a collection is to be read on.
func (r *Reader) cursor(ctx context.Context, m *source.Member, it *item) (*source.Cursor, error) {
	c, at := &it.c, &it.at
	db, _ := oplog.Split(c.NS)
	scan := source.Scan{DB: db, UUID: c.UUID, After: r.o.Start}
	if c.Docs > 0 && c.Bytes > 0 {
		scan.First = documents(r.answer(), c.Docs, c.Bytes)
	}
	r.mu.Lock()
	version := r.wire
	r.mu.Unlock()
	if at.resumes() {
		scan.ByID, scan.FromID, scan.Tokens = at.id.Type != 0, at.id, at.id.Type == 0
		cursor, err := r.behind(ctx, m, at, scan)
		if err == nil {
			r.o.Log.Info("a collection is read on", obs.KeyCollect, c.NS, obs.KeyFrom, at.String(), obs.KeyHost, m.Address)
		}
		return cursor, err
	}
	whole := schema.Collection{UUID: c.UUID, NS: c.NS, Options: c.Options}
	if whole.Capped() || it.small {
		return m.Scan(ctx, scan)
	}
	if version < source.TokenWire {
		scan.ByID = c.IDIndex != nil
		at.byID = scan.ByID
		return m.Scan(ctx, scan)
	}
	// Its identity first: should it become another one before the cursor is there, then nothing will go on from these tokens.
	identity, err := m.Identity(ctx)
	if err != nil {
		return nil, err
	}
	scan.Tokens = true
	cursor, err := m.Scan(ctx, scan)
	if source.Unknown(err) { // a server that does not know them after all
		scan.Tokens = false
		return m.Scan(ctx, scan)
	}
	if err == nil {
		at.address, at.identity = m.Address, identity
	}
	return cursor, err
}

// behind opens a cursor behind a place. Of its tokens it takes the newest whose record is still there.
func (r *Reader) behind(ctx context.Context, m *source.Member, at *place, scan source.Scan) (cursor *source.Cursor, err error) {
	if scan.ByID {
		return m.Scan(ctx, scan)
	}
	for len(at.tokens) > 0 {
		scan.From = at.tokens[0]
		cursor, err = m.Scan(ctx, scan)
		if !source.Forgotten(err) {
			break
		}
		at.tokens = at.tokens[1:]
	}
	switch {
	case source.Forgotten(err):
		return nil, fmt.Errorf("the records at which it could have been read on were deleted: %w", errAnew)
	case err != nil:
		return nil, err
	}
	// Afterwards: the cursor dies with the process that it is of.
	identity, err := m.Identity(ctx)
	if err == nil && identity != at.identity {
		err = fmt.Errorf("%s is not the copy of the data whose records were read so far: %w", m.Address, errAnew)
	}
	if err != nil {
		cursor.Close(ctx)
		return nil, err
	}
	return cursor, nil
}

// fetched is an answer of the source.
type fetched struct {
	batch source.Batch
	held  int64 // of Reader.answers
	err   error
}

// answer is the size of answers that is aimed at: such that a few make a slice.
func (r *Reader) answer() int64 { return min(batchBytes, r.o.SliceBytes/2) }

// fetch reads ahead: one answer waits while another is cut into slices.
func (r *Reader) fetch(ctx context.Context, m *source.Member, cursor *source.Cursor, into chan<- fetched) {
	batch, size := int32(0), r.answer()
	for {
		f := fetched{held: min(max(size, r.answer()), maxDocument)}
		if r.answers.Acquire(ctx, f.held) != nil {
			return
		}
		if f.err = r.gate(ctx); f.err == nil {
			f.batch, f.err = cursor.Next(ctx, batch)
		}
		if f.err == nil {
			r.alive(m.Address)
			size = int64(f.batch.Bytes)
			n := int64(0)
			f.err = f.batch.Each(func(bson.Raw) error { n++; return nil })
			if n > 0 {
				batch = documents(r.answer(), n, size)
			}
		}
		select {
		case into <- f:
		case <-ctx.Done():
			r.answers.Release(f.held)
			return
		}
		if f.err != nil || r.pace(ctx, f.batch.Bytes) != nil {
			return
		}
	}
}

// documents is how many make an answer, where n of them have some bytes together.
func documents(answer, n, bytes int64) int32 {
	return int32(min(max(answer*n/max(bytes, 1), 1), 100_000)) //nolint:gosec // bounded
}

// read reads on from a place, as far as it gets. Slices are compressed and sent while others are read. The place moves with every
// slice that is cut; when read returns, the server has them all, unless it is the server, or ctx, that ended it.
func (r *Reader) read(ctx context.Context, m *source.Member, it *item) (err error) {
	cursor, err := r.cursor(ctx, m, it)
	if err != nil {
		return err
	}
	defer cursor.Close(ctx)
	out := r.newSender(ctx)
	reading, stop := context.WithCancel(out.ctx)
	batches := make(chan fetched)
	var fetching sync.WaitGroup
	fetching.Go(func() { r.fetch(reading, m, cursor, batches) })
	s := slicer{r: r, it: it, out: out, address: m.Address, next: it.at, skip: it.at.id}
	defer func() {
		stop()
		fetching.Wait()
		if e := out.close(); e != nil { // what the server says weighs more than what the source says
			err = e
		}
		r.note(func(p *Progress) {
			p.DocsDone, p.BytesDone = p.DocsDone+it.at.docs-s.next.docs, p.BytesDone+it.at.bytes-s.next.bytes
		})
	}()
	for {
		var f fetched
		select {
		case <-reading.Done():
			return context.Cause(reading)
		case f = <-batches:
		}
		if f.err != nil {
			r.answers.Release(f.held)
			end := errors.Is(f.err, source.ErrEnd)
			if end || s.next.resumes() { // what is there ends with a batch: it is worth a slice
				if err := s.cut(); err != nil {
					return err
				}
			}
			if end {
				return nil
			}
			return f.err
		}
		err := s.take(&f.batch)
		r.answers.Release(f.held)
		if err != nil {
			return err
		}
	}
}

// slicer cuts what one cursor gives.
type slicer struct {
	r       *Reader
	it      *item
	out     *sender
	address string
	next    place         // behind what was taken
	skip    bson.RawValue // the first _id, which an earlier slice holds
	docs    []byte
	count   int64
}

// take adds a batch. Slices end with batches where they can: there the read can go on.
func (s *slicer) take(b *source.Batch) error {
	told := s.next
	if s.docs != nil && int64(len(s.docs)+b.Bytes) > s.r.o.SliceBytes {
		if err := s.cut(); err != nil {
			return err
		}
	}
	err := b.Each(func(doc bson.Raw) error {
		if s.next.byID || s.skip.Type != 0 {
			id, err := doc.LookupErr("_id")
			if err != nil {
				return fmt.Errorf("%s: a document without _id: %w", s.it.c.NS, err)
			}
			first := s.skip
			s.skip = bson.RawValue{}
			if first.Type == id.Type && bytes.Equal(first.Value, id.Value) {
				return nil
			}
		}
		if len(s.docs) > 0 && int64(len(s.docs)+len(doc)) > s.r.o.SliceBytes {
			if err := s.cut(); err != nil {
				return err
			}
		}
		if s.docs == nil {
			s.docs = s.out.buffer(min(s.r.o.SliceBytes, max(s.it.c.Bytes-s.next.bytes, 0)+int64(len(doc))+4096))
		}
		s.docs = append(s.docs, doc...)
		s.count++
		s.next.docs++
		s.next.bytes += int64(len(doc))
		if s.next.byID {
			if id, err := doc.LookupErr("_id"); err == nil {
				s.next.id = id
			}
		}
		return nil
	})
	if s.next.identity != "" {
		s.next.pass(b.Token)
	}
	if s.next.id.Type != 0 { // it must outlive the batch
		s.next.id.Value = bytes.Clone(s.next.id.Value)
	}
	s.r.note(func(p *Progress) {
		p.DocsDone, p.BytesDone = p.DocsDone+s.next.docs-told.docs, p.BytesDone+s.next.bytes-told.bytes
	})
	return err
}

// cut ends a slice and moves the place behind it.
func (s *slicer) cut() error {
	if s.count == 0 {
		return nil
	}
	r, c := s.r, &s.it.c
	h := wire.SeedHeader{
		Job: r.o.Job, Epoch: r.o.Epoch, UUID: c.UUID, Attempt: c.Attempt, Seq: s.next.slices, Count: s.count, Bytes: int64(len(s.docs)), Resume: s.next.note(),
	}
	docs := s.docs
	s.docs, s.count = nil, 0
	s.next.slices++
	if err := s.out.put(h, docs); err != nil {
		return err
	}
	s.it.at = s.next
	if s.next.identity != "" {
		r.atStake(s.address, c.UUID, s.next.bytes)
	}
	return nil
}

// sender compresses the slices of one collection, several at a time, and sends them one after another: what the server has of
// a collection is never with a hole, whenever this process ends. Collections are sent side by side.
type sender struct {
	r      *Reader
	ctx    context.Context //nolint:containedctx // of one read
	cancel context.CancelCauseFunc
	queue  chan *packed
	done   chan struct{}
	err    error // of the first slice that was not taken; to be read when done is closed
}

type packed struct {
	h       wire.SeedHeader
	content []byte
	err     error
	ready   chan struct{} // closed when content is there
}

// ahead is how many slices of a collection may be compressed before the one that is being sent is acknowledged. They are bounded
// by their bytes, too.
const ahead = 3

func (r *Reader) newSender(ctx context.Context) *sender {
	s := &sender{r: r, queue: make(chan *packed, ahead), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	go s.run()
	return s
}

// run takes everything from the queue, whatever happens: each slice gives its memory back.
func (s *sender) run() {
	defer close(s.done)
	for p := range s.queue {
		<-p.ready
		if s.err == nil && p.err == nil {
			p.err = caller(s.r.insistOn(s.ctx, func() error { return s.r.o.Send(s.ctx, p.h, p.content) }))
		}
		if s.err == nil && p.err != nil {
			s.err = p.err
			s.cancel(p.err)
		}
		s.r.bytes.Release(p.h.Bytes)
	}
}

// buffer is memory for the documents of a slice.
func (s *sender) buffer(size int64) []byte {
	if b, ok := s.r.buffers.Get().(*[]byte); ok && int64(cap(*b)) >= size {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes a slice. It waits while too much is in memory.
func (s *sender) put(h wire.SeedHeader, docs []byte) error {
	if err := s.r.bytes.Acquire(s.ctx, h.Bytes); err != nil {
		return context.Cause(s.ctx)
	}
	p := &packed{h: h, ready: make(chan struct{})}
	go func() {
		defer close(p.ready)
		if p.err = s.r.packing.Acquire(s.ctx, 1); p.err != nil {
			return
		}
		defer s.r.packing.Release(1)
		p.h.Digest = sha256.Sum256(docs)
		p.content = wire.Compress(docs)
		s.r.buffers.Put(&docs)
	}()
	s.queue <- p // run always takes it
	return nil
}

// close waits for what was put, and gives what went wrong with it.
func (s *sender) close() error {
	close(s.queue)
	<-s.done
	s.cancel(nil)
	return s.err
}
