// Package hostblock is the block stores of a program that has no files and no sockets: every call becomes one message to the host
// that runs it, and the host answers it from a real store. New is the program's side, Serve the host's.
//
// No call leaves anything open at the host, because a program may be ended at any moment: an object is collected in the program and
// sent whole, at most MaxObject bytes, and a stream is read in pieces. An object that is deleted and made again while it is read is
// noticed only by who checks its content.
//
// # Format
//
// A request is one byte that names the call, a varint of the milliseconds the caller will wait (0: no end), the id of the store, and
// the call's arguments in the order of the contract's methods. An answer is the error, then, when there is none, the results.
// Integers are zigzag varints, byte strings and texts an unsigned varint length and the bytes, lists an unsigned varint count and the
// elements, times milliseconds since 1970, pairs of a map its key and value in the order of keys. An error is a list of the sentinel
// errors it is (numbers of the table in errors.go), its text and its hint; no error is an empty list and an empty text.
//
// Both sides are of one build: the format needs no version. Serve trusts nothing in a request; New trusts its host.
package hostblock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// MaxObject is the largest object that can be written: more than agents may post, and less than a host takes in one message.
const MaxObject = 56 << 20

// piece is how much of a stream is read with one call.
const piece = 1 << 20

// The calls.
const (
	callPut byte = iota + 1
	callRead
	callStat
	callList
	callDelete
	callSigns
	callSignPut
	callSignGet
)

// Caller carries a request to the host and brings its answer. The answer's bytes are the store's own from then on.
type Caller func(ctx context.Context, request []byte) ([]byte, error)

// Store is the program's side.
type Store struct {
	call Caller
	id   string

	mu     sync.Mutex
	asked  bool
	signer blockstore.Store // of the same id, which signs; nil: the host's store does not
}

var _ blockstore.Store = (*Store)(nil)

// New returns the host's store of an id. Whether there is one, is found out by the first call.
func New(call Caller, id string) *Store { return &Store{call: call, id: id} }

// Open returns the host's store of an id, or the host's reason why it cannot be opened.
func Open(ctx context.Context, call Caller, id string) (*Store, error) {
	s := New(call, id)
	return s, s.sign(ctx)
}

// ask sends a request and hands the answer's reader to results.
func (s *Store) ask(ctx context.Context, call byte, args func(*writer), results func(*reader)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := s.request(ctx, call)
	args(w)
	return s.send(ctx, w.b, results)
}

// request begins one.
func (s *Store) request(ctx context.Context, call byte) *writer {
	w := &writer{}
	w.byte(call)
	w.int(remaining(ctx))
	w.text(s.id)
	return w
}

// send sends a request and hands the answer's reader to results.
func (s *Store) send(ctx context.Context, request []byte, results func(*reader)) error {
	answer, err := s.call(ctx, request)
	if err != nil {
		return fmt.Errorf("%w: the host did not answer: %w", blockstore.ErrUnavailable, err)
	}
	r := &reader{b: answer}
	failure := r.error()
	if failure == nil {
		results(r)
	}
	if r.err != nil || len(r.b) > 0 {
		return fmt.Errorf("%w: the host's answer cannot be read", blockstore.ErrUnavailable)
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

// Unwrap leads to what signs, when the host's store does.
func (s *Store) Unwrap() blockstore.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		_ = s.sign(context.Background()) // asked again the next time
	}
	return s.signer
}

// sign finds out whether the host's store signs.
func (s *Store) sign(ctx context.Context) error {
	signs := false
	if err := s.ask(ctx, callSigns, func(*writer) {}, func(r *reader) { signs = r.int() == 1 }); err != nil {
		return err
	}
	s.asked = true
	if signs {
		s.signer = &signing{s}
	}
	return nil
}

// signing is a store whose host's store signs.
type signing struct{ *Store }

var _ blockstore.Signer = (*signing)(nil)

// Unwrap ends the search for capabilities.
func (s *signing) Unwrap() blockstore.Store { return nil }

// SignPut implements blockstore.Signer.
func (s *signing) SignPut(ctx context.Context, key string, size int64, ttl time.Duration) (signed blockstore.Signed, err error) {
	err = s.ask(ctx, callSignPut, func(w *writer) {
		w.text(key)
		w.int(size)
		w.int(ttl.Milliseconds())
	}, func(r *reader) { signed = r.signed() })
	return signed, err
}

// SignGet implements blockstore.Signer.
func (s *signing) SignGet(ctx context.Context, key string, ttl time.Duration) (signed blockstore.Signed, err error) {
	err = s.ask(ctx, callSignGet, func(w *writer) {
		w.text(key)
		w.int(ttl.Milliseconds())
	}, func(r *reader) { signed = r.signed() })
	return signed, err
}

// Create implements blockstore.Store. Nothing is sent before Commit.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	return &putter{ctx: ctx, s: s, key: key, room: headroom + len(s.id) + len(key)}, nil
}

// headroom is more than what is before the content in a request to put an object, its id and key apart.
const headroom = 64

// putter keeps the object behind room for the beginning of the request, so that it is in memory once.
type putter struct {
	ctx  context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	s    *Store
	key  string
	room int
	b    []byte
	err  error // why the writer is done
}

var errDone = errors.New("hostblock: the writer is closed")

// Write implements io.Writer.
func (p *putter) Write(b []byte) (int, error) {
	if p.err == nil && p.ctx.Err() != nil {
		p.b, p.err = nil, p.ctx.Err()
	}
	if p.err == nil && len(p.b)+len(b) > p.room+MaxObject {
		p.b, p.err = nil, fmt.Errorf("%w: %s: a guest writes at most %d bytes", blockstore.ErrTooLarge, p.key, MaxObject)
	}
	if p.err != nil {
		return 0, p.err
	}
	if p.b == nil {
		p.b = make([]byte, p.room, p.room+len(b))
	}
	p.b = append(p.b, b...)
	return len(b), nil
}

// Commit implements blockstore.Writer.
func (p *putter) Commit(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	message := p.b
	if message == nil {
		message = make([]byte, p.room)
	}
	p.b, p.err = nil, errDone
	w := p.s.request(ctx, callPut)
	w.text(p.key)
	w.count(len(message) - p.room)
	message = message[p.room-len(w.b):]
	copy(message, w.b)
	return p.s.send(ctx, message, func(*reader) {})
}

// Abort implements blockstore.Writer.
func (p *putter) Abort() {
	if p.err == nil {
		p.b, p.err = nil, errDone
	}
}

// Open implements blockstore.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	p := &pieces{ctx: ctx, s: s, key: key, at: offset, left: length}
	if err := p.load(); err != nil { // also tells what is not there
		return nil, err
	}
	return p, nil
}

// pieces reads a stream call by call.
type pieces struct {
	ctx  context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	s    *Store
	key  string
	at   int64
	left int64 // negative is to the end
	have []byte
	end  bool
}

// load asks for the next piece.
func (p *pieces) load() error {
	want := int64(piece)
	if p.left >= 0 {
		want = min(want, p.left)
	}
	return p.s.ask(p.ctx, callRead, func(w *writer) {
		w.text(p.key)
		w.int(p.at)
		w.int(want)
	}, func(r *reader) {
		p.have = r.bytes()
		p.at += int64(len(p.have))
		if p.left >= 0 {
			p.left -= int64(len(p.have))
		}
		p.end = int64(len(p.have)) < want || p.left == 0
	})
}

// Read implements io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(p.have) == 0 {
		if p.end {
			return 0, io.EOF
		}
		if err := p.load(); err != nil {
			return 0, err
		}
		if len(p.have) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(b, p.have)
	p.have = p.have[n:]
	return n, nil
}

// Close implements io.Closer.
func (p *pieces) Close() error { return nil }

// Stat implements blockstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (o blockstore.Object, err error) {
	err = s.ask(ctx, callStat, func(w *writer) { w.text(key) }, func(r *reader) { o = r.object() })
	return o, err
}

// List implements blockstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (found []blockstore.Object, err error) {
	err = s.ask(ctx, callList, func(w *writer) {
		w.text(prefix)
		w.text(after)
		w.int(int64(limit))
	}, func(r *reader) { found = r.objects() })
	return found, err
}

// Delete implements blockstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.ask(ctx, callDelete, func(w *writer) { w.text(key) }, func(*reader) {})
}

// Serve answers one request from the store that open knows by its id. A request that cannot be read is answered with
// blockstore.ErrInvalid.
func Serve(ctx context.Context, open func(ctx context.Context, id string) (blockstore.Store, error), request []byte) []byte {
	r := &reader{b: request}
	call := r.byte()
	if wait := r.int(); wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(min(wait, int64(time.Hour/time.Millisecond)))*time.Millisecond)
		defer stop()
	}
	id := r.text()
	results := &writer{}
	err := r.err
	if err == nil {
		err = answer(ctx, open, id, call, r, results)
	}
	if r.err != nil {
		err = fmt.Errorf("%w: request to the host: %w", blockstore.ErrInvalid, r.err)
	}
	w := &writer{}
	w.error(err)
	if err == nil {
		w.b = append(w.b, results.b...)
	}
	return w.b
}

// answer carries out a call. What cannot be read is in r.err afterwards, and nothing was done then.
func answer(ctx context.Context, open func(ctx context.Context, id string) (blockstore.Store, error), id string, call byte, r *reader, w *writer) error {
	do := func(f func(s blockstore.Store) error) error {
		if !r.done() {
			return nil
		}
		s, err := open(ctx, id)
		if err != nil {
			return err
		}
		return f(s)
	}
	switch call {
	case callPut:
		key, content := r.text(), r.bytes()
		return do(func(s blockstore.Store) error { return put(ctx, s, key, content) })
	case callRead:
		key, offset, length := r.text(), r.int(), r.int()
		if length < 0 || length > piece {
			r.fail("a piece is too long")
		}
		return do(func(s blockstore.Store) error { return read(ctx, s, key, offset, length, w) })
	case callStat:
		key := r.text()
		return do(func(s blockstore.Store) error {
			o, err := s.Stat(ctx, key)
			w.object(o)
			return err
		})
	case callList:
		prefix, after, limit := r.text(), r.text(), r.int()
		return do(func(s blockstore.Store) error {
			found, err := s.List(ctx, prefix, after, int(min(max(limit, 0), blockstore.MaxList)))
			w.objects(found)
			return err
		})
	case callDelete:
		key := r.text()
		return do(func(s blockstore.Store) error { return s.Delete(ctx, key) })
	case callSigns:
		return do(func(s blockstore.Store) error {
			if _, ok := blockstore.SignerOf(s); ok {
				w.int(1)
			} else {
				w.int(0)
			}
			return nil
		})
	case callSignPut, callSignGet:
		return sign(ctx, do, call, r, w)
	}
	r.fail("no such call")
	return nil
}

// put is the writing of a whole object, without comparing: that is the caller's.
func put(ctx context.Context, s blockstore.Store, key string, content []byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Commit(ctx)
}

func read(ctx context.Context, s blockstore.Store, key string, offset, length int64, w *writer) error {
	stream, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(stream, length)); err != nil {
		return err
	}
	w.bytes(b.Bytes())
	return nil
}

func sign(ctx context.Context, do func(func(blockstore.Store) error) error, call byte, r *reader, w *writer) error {
	key, size := r.text(), int64(0)
	if call == callSignPut {
		size = r.int()
	}
	ttl := time.Duration(min(max(r.int(), 0), int64(7*24*time.Hour/time.Millisecond))) * time.Millisecond
	return do(func(s blockstore.Store) error {
		signer, ok := blockstore.SignerOf(s)
		if !ok {
			return fmt.Errorf("%w: the store signs no requests", blockstore.ErrInvalid)
		}
		var signed blockstore.Signed
		var err error
		if call == callSignPut {
			signed, err = signer.SignPut(ctx, key, size, ttl)
		} else {
			signed, err = signer.SignGet(ctx, key, ttl)
		}
		w.signed(signed)
		return err
	})
}
