// Package sealblock encrypts objects with AES-256-GCM before they reach a storage, in segments that are read independently:
// a range costs one read of the storage, of little more than the range.
//
// # Format
//
// A sealed object is a header of 16 bytes and segments. Numbers are big-endian.
//
//	0   4  "HWSB"
//	4   1  version, 1
//	5   4  key id: the first bytes of a fingerprint of the site's gen.key
//	9   1  log2 of a segment's plain bytes, 16
//	10  6  zero
//
// Each segment holds 65,536 plain bytes (the last one 0 to 65,536) as a nonce of 12 random bytes, the ciphertext, and a tag of 16
// bytes. An object of no bytes has one empty segment. What a segment authenticates besides is its number (8 bytes) and whether it
// is the last (1 byte), so that segments cannot be exchanged, left out, or cut off at the end. The key is
// HKDF-SHA256(gen.key, purpose "heartwood blocks", 32 bytes) and from it, for each object, HKDF-SHA256(that, "object " and the
// object's key, 32 bytes): an object that is moved to another key does not open, and the number of segments under one key stays far
// below what random nonces allow.
//
// Sizes are not secret, nor are keys. Somebody who can write to the storage and kept the segments of two objects that were sealed for
// one key could mix them; what is above checks its blocks' hashes.
package sealblock

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
)

const (
	magic      = "HWSB"
	version    = 1
	idSize     = 4
	segmentLog = 16
	headerSize = 16

	segmentSize = 1 << segmentLog // plain bytes of a full segment
	nonceSize   = 12
	tagSize     = 16
	overhead    = nonceSize + tagSize
	sealedSize  = segmentSize + overhead // bytes of a full segment in the storage
)

// Store wraps another one.
type Store struct {
	next   blockstore.Store
	master []byte
	id     [idSize]byte
}

var (
	_ blockstore.Store   = (*Store)(nil)
	_ blockstore.Cleaner = (*Store)(nil)
	_ blockstore.Spacer  = (*Store)(nil)
)

// New wraps a store with the keys of a site.
func New(next blockstore.Store, box *seal.Box) *Store {
	s := &Store{next: next, master: box.Derive("blocks", 32)}
	copy(s.id[:], box.Derive("blocks id", idSize))
	return s
}

// aead is the cipher of one object.
func (s *Store) aead(key string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, s.master, nil, "object "+key, 32)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", key, err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", key, err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", key, err)
	}
	return a, nil
}

func (s *Store) header() []byte {
	h := make([]byte, headerSize)
	copy(h, magic)
	h[4] = version
	copy(h[5:], s.id[:])
	h[9] = segmentLog
	return h
}

// extra is what a segment authenticates besides its bytes.
func extra(number int64, last bool) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9), uint64(number)) //nolint:gosec // not negative
	if last {
		return append(b, 1)
	}
	return append(b, 0)
}

// plainSize is how many bytes were sealed into an object of so many; what is no sealed object counts as empty.
func plainSize(sealed int64) int64 {
	body := sealed - headerSize
	if body < overhead {
		return 0
	}
	segments := (body + sealedSize - 1) / sealedSize
	return max(0, body-segments*overhead)
}

// Create is blockstore.Store's.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	a, err := s.aead(key)
	if err != nil {
		return nil, err
	}
	next, err := s.next.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &writer{next: next, aead: a, out: s.header(), plain: make([]byte, 0, segmentSize)}, nil
}

// segmentsAtOnce is how many sealed segments are handed to the storage in one Write.
const segmentsAtOnce = 16

type writer struct {
	next   blockstore.Writer
	aead   cipher.AEAD
	number int64  // of the segment that is filled
	plain  []byte // its bytes so far; a full one waits until it is known whether it is the last
	out    []byte // sealed and not yet written
	err    error  // why the writer is done
}

var errDone = errors.New("sealblock: the writer is closed")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	done := 0
	for done < len(p) {
		if len(w.plain) == segmentSize {
			if err := w.segment(w.plain, false); err != nil {
				return done, err
			}
			w.plain = w.plain[:0]
		}
		if len(w.plain) == 0 && len(p)-done > segmentSize { // a full segment that is not the last: no copy
			if err := w.segment(p[done:done+segmentSize], false); err != nil {
				return done, err
			}
			done += segmentSize
			continue
		}
		n := min(segmentSize-len(w.plain), len(p)-done)
		w.plain = append(w.plain, p[done:done+n]...)
		done += n
	}
	return done, nil
}

// segment seals the next segment.
func (w *writer) segment(plain []byte, last bool) error {
	if w.out == nil {
		w.out = make([]byte, 0, segmentsAtOnce*sealedSize)
	}
	at := len(w.out)
	w.out = append(w.out, make([]byte, nonceSize)...)
	nonce := w.out[at:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	w.out = w.aead.Seal(w.out, nonce, plain, extra(w.number, last))
	w.number++
	if last || len(w.out)+sealedSize > segmentsAtOnce*sealedSize {
		if _, err := w.next.Write(w.out); err != nil {
			w.fail(err)
			return err
		}
		w.out = w.out[:0]
	}
	return nil
}

func (w *writer) fail(err error) {
	w.err, w.plain, w.out = err, nil, nil
	w.next.Abort()
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	if err := w.segment(w.plain, true); err != nil {
		return err
	}
	err := w.next.Commit(ctx)
	w.fail(errDone)
	return err
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() {
	if w.err == nil {
		w.fail(errDone)
	}
}

// Open is blockstore.Store's.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || offset > 1<<62 { // beyond, places in the sealed object would not fit in 63 bits
		return nil, fmt.Errorf("%w: the offset %d", blockstore.ErrInvalid, offset)
	}
	a, err := s.aead(key)
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, s: s, key: key, aead: a, number: offset / segmentSize, skip: int(offset % segmentSize), left: length}
	from, n := headerSize+r.number*sealedSize, int64(-1)
	if length >= 0 {
		// To the end of the segment that holds the last byte asked for. A range of nothing reads a segment too: the object must be there.
		bytes := int64(r.skip) + min(max(length, 1), 1<<61)
		n = (bytes + segmentSize - 1) / segmentSize * sealedSize
	}
	if r.next, err = s.next.Open(ctx, key, from, n); err != nil {
		return nil, err
	}
	return r, nil
}

type reader struct {
	ctx    context.Context //nolint:containedctx // the header is looked at only when something is wrong
	s      *Store
	key    string
	aead   cipher.AEAD
	next   io.ReadCloser
	number int64 // of the segment that is read next
	skip   int   // plain bytes before the range in it
	left   int64 // plain bytes still to give; negative is to the end
	sealed []byte
	plain  []byte // opened and not yet given
	opened bool   // some segment was opened
	end    bool   // it was the last
	err    error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.segment()
	}
	if len(r.plain) == 0 {
		return 0, r.err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// segment opens the next segment; io.EOF at the end of the range or the object.
func (r *reader) segment() error {
	if r.left == 0 || r.end {
		return io.EOF
	}
	if r.sealed == nil {
		r.sealed = make([]byte, sealedSize)
	}
	n, err := io.ReadFull(r.next, r.sealed)
	switch {
	case errors.Is(err, io.EOF):
		if r.opened || r.number == 0 { // every object has a segment, and a last one
			return r.damaged("it ends too early")
		}
		return io.EOF // the range begins beyond the end
	case errors.Is(err, io.ErrUnexpectedEOF):
		if n < overhead {
			return r.damaged("it ends in the middle of a segment")
		}
	case err != nil:
		return err
	}
	plain, err := r.open(r.sealed[:n])
	if err != nil {
		return err
	}
	r.opened = true
	r.number++
	plain = plain[min(r.skip, len(plain)):]
	r.skip = 0
	if r.left >= 0 {
		plain = plain[:min(r.left, int64(len(plain)))]
		r.left -= int64(len(plain))
	}
	r.plain = plain
	return nil
}

// open decrypts a segment. Only the last one may be short, and only the last one authenticates that it is.
func (r *reader) open(sealed []byte) ([]byte, error) {
	nonce, body := sealed[:nonceSize], sealed[nonceSize:]
	if len(sealed) == sealedSize {
		// In place would destroy what a second try needs.
		plain, err := r.aead.Open(make([]byte, 0, segmentSize), nonce, body, extra(r.number, false))
		if err == nil {
			return plain, nil
		}
	}
	plain, err := r.aead.Open(body[:0], nonce, body, extra(r.number, true))
	if err != nil {
		return nil, r.damaged("a segment does not open")
	}
	r.end = true
	return plain, nil
}

// damaged says what is wrong with an object: its header tells another key from damage.
func (r *reader) damaged(what string) error {
	h, err := blockstore.Get(r.ctx, headerOnly{r.s.next}, r.key, headerSize)
	switch {
	case err != nil:
		return fmt.Errorf("read the header of %s: %w", r.key, err)
	case len(h) < headerSize || !bytes.HasPrefix(h, []byte(magic)):
		return opererr.New("read "+r.key, fmt.Errorf("%w: it is not encrypted", blockstore.ErrDamaged),
			"The store held plain objects before encryption was turned on, or something else wrote there: describe it with Encrypt off to read them.")
	case h[4] != version || h[9] != segmentLog:
		return fmt.Errorf("%w: %s has the format %d/%d; this program reads %d/%d", blockstore.ErrDamaged, r.key, h[4], h[9], version, segmentLog)
	case !bytes.Equal(h[5:5+idSize], r.s.id[:]):
		return opererr.New("read "+r.key, fmt.Errorf("%w (key id %x, ours is %x)", blockstore.ErrKey, h[5:5+idSize], r.s.id),
			"Give the server the gen.key that it had when the object was written.")
	}
	return fmt.Errorf("%w: %s: segment %d: %s", blockstore.ErrDamaged, r.key, r.number, what)
}

// headerOnly makes Get read the header alone.
type headerOnly struct{ blockstore.Store }

// Open reads the first bytes of an object whatever range was asked for.
func (h headerOnly) Open(ctx context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return h.Store.Open(ctx, key, 0, headerSize)
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.next.Close() }

// Stat is blockstore.Store's.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	o, err := s.next.Stat(ctx, key)
	o.Size = plainSize(o.Size)
	return o, err
}

// List is blockstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	found, err := s.next.List(ctx, prefix, after, limit)
	for i := range found {
		found[i].Size = plainSize(found[i].Size)
	}
	return found, err
}

// Delete is blockstore.Store's.
func (s *Store) Delete(ctx context.Context, key string) error { return s.next.Delete(ctx, key) }

// Clean is blockstore.Cleaner's.
func (s *Store) Clean(ctx context.Context, before time.Time) (blockstore.Cleaned, error) {
	return blockstore.Clean(ctx, s.next, before)
}

// Space is blockstore.Spacer's; a storage that does not know answers errors.ErrUnsupported.
func (s *Store) Space(ctx context.Context) (blockstore.Space, error) {
	if sp, ok := blockstore.SpacerOf(s.next); ok {
		return sp.Space(ctx)
	}
	return blockstore.Space{}, errors.ErrUnsupported
}
