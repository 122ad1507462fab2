package tree

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

func sortFiles(files []image.File) {
	slices.SortFunc(files, func(a, b image.File) int { return cmp.Compare(a.Path, b.Path) })
}

// reader reads parts of files and compares them with the last snapshot. It belongs to one goroutine.
type reader struct {
	w       *writer
	buf     []byte
	zeros   []byte
	mac     cipher.AEAD
	changed []*place
	lengths []int
}

// chunk is about how many bytes of a file are read at once.
const chunk = 1 << 20

func newReader(w *writer) (*reader, error) {
	block, err := aes.NewCipher(w.m.Key)
	if err != nil {
		return nil, fmt.Errorf("fingerprints: %w", err)
	}
	mac, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("fingerprints: %w", err)
	}
	bs := w.o.BlockSize
	return &reader{w: w, buf: make([]byte, max(chunk/bs, 1)*bs), zeros: make([]byte, bs), mac: mac}, nil
}

// noNonce is right here: nothing is encrypted, and the fingerprints are as secret as the key beside them.
var noNonce [12]byte

func (r *reader) quick(block []byte) (q page.Quick) {
	r.mac.Seal(q[:0], noNonce[:], nil, block)
	return q
}

// span reads the part of a file that belongs to one leaf page.
func (r *reader) span(ctx context.Context, s span) (err error) {
	defer func() {
		if rerr := s.file.release(r.w); err == nil {
			err = rerr
		}
	}()
	old, ref, err := r.old(ctx, s)
	if err != nil {
		return err
	}
	bs := int64(r.w.o.BlockSize)
	first := s.index * page.Fanout
	n := min(s.file.blocks-first, page.Fanout)
	entries := make([]place, n) // lives on in the draft
	changes := 0
	for i := int64(0); i < n; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		offset := (first + i) * bs
		b := r.buf[:min(int64(len(r.buf)), s.file.f.Size-offset, (n-i)*bs)]
		if err := readFull(s.file, b, offset); err != nil {
			return err
		}
		k := (int64(len(b)) + bs - 1) / bs
		c, err := r.compare(ctx, b, entries[i:i+k], old, int(i))
		if err != nil {
			return err
		}
		changes += c
		i += k
		r.w.read.Add(int64(len(b)))
		r.w.progress.Add(0, int64(len(b)), 0)
	}
	if changes == 0 && old != nil && len(old.Entries) == int(n) {
		return r.w.collect.placed(ctx, s.file, s.index, ref)
	}
	return r.w.collect.submit(ctx, &draft{src: s.file, index: s.index, entries: entries})
}

func readFull(s *source, b []byte, offset int64) error {
	n, err := s.file.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends at %d", image.ErrChanged, offset+int64(n))
	}
	return fmt.Errorf("read at %d: %w", offset, err)
}

// old is the page of the last snapshot for the same part. Where it is damaged there is none: the part is stored anew,
// which heals the snapshots from this one on.
func (r *reader) old(ctx context.Context, s span) (*page.Page, Ref, error) {
	if s.file.old == nil || s.index*page.Fanout >= s.file.oldN {
		return nil, Ref{}, nil
	}
	p, ref, err := s.file.old.Leaf(ctx, s.index)
	var d *image.Damage
	if errors.As(err, &d) {
		r.w.damaged.Add(1)
		return nil, Ref{}, nil
	}
	if err != nil {
		return nil, Ref{}, fmt.Errorf("read the map of the last snapshot: %w", err)
	}
	return p, ref, nil
}

// compare fills the entries of the blocks in b, of which the first is entry at of the page, and hands the changed ones on.
func (r *reader) compare(ctx context.Context, b []byte, entries []place, old *page.Page, at int) (changes int, err error) {
	bs := r.w.o.BlockSize
	r.changed, r.lengths = r.changed[:0], r.lengths[:0]
	var moved int // bytes of changed blocks so far, at the front of b
	for i := range entries {
		block := b[i*bs : min((i+1)*bs, len(b))]
		p := &entries[i]
		p.quick = r.quick(block)
		if old != nil && at+i < len(old.Entries) && old.Entries[at+i].Quick == p.quick {
			e := &old.Entries[at+i]
			p.hash = e.Hash
			if e.Zero {
				p.zero = true
			} else {
				p.pack, p.no, p.block = old.Packs[e.Pack], e.Frame, e.Block
			}
			continue
		}
		changes++
		r.w.changed.Add(1)
		r.w.changedSize.Add(int64(len(block)))
		if r.w.collect.recall(p) {
			continue
		}
		p.hash = image.HashOf(block)
		if block[0] == 0 && block[len(block)-1] == 0 && bytes.Equal(block, r.zeros[:len(block)]) {
			p.zero = true
			continue
		}
		moved += copy(b[moved:], block) // never past i*bs, so nothing is overwritten that is still to be read
		r.changed = append(r.changed, p)
		r.lengths = append(r.lengths, len(block))
	}
	return changes, r.w.collect.add(ctx, b[:moved], r.lengths, r.changed)
}
