package pack

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Writer appends frames to one pack. It belongs to one goroutine at a time.
type Writer struct {
	key   string
	kind  Kind
	w     blockstore.Writer
	coder *Coder
	index Index
	size  int64
}

// Create begins a pack under a key. Nothing of it is visible before Commit.
func Create(ctx context.Context, s blockstore.Store, key string, kind Kind, coder *Coder) (*Writer, error) {
	w, err := s.Create(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", key, err)
	}
	return &Writer{key: key, kind: kind, w: w, coder: coder}, nil
}

func (w *Writer) write(b []byte) error {
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write %s: %w", w.key, err)
	}
	w.size += int64(len(b))
	return nil
}

// Append adds a frame and gives its number. lengths are those of the blocks in it; the slice is kept.
func (w *Writer) Append(stored []byte, codec Codec, raw int, lengths []uint32) (uint32, error) {
	f := Frame{Offset: uint32(w.size), Stored: uint32(len(stored)), Raw: uint32(raw), Codec: codec, Lengths: lengths, CRC: crc32.Checksum(stored, castagnoli)}
	if err := w.write(stored); err != nil {
		return 0, err
	}
	w.index.Frames = append(w.index.Frames, f)
	return uint32(len(w.index.Frames) - 1), nil
}

// Skip counts a frame that is not there any more.
func (w *Writer) Skip() {
	w.index.Frames = append(w.index.Frames, Frame{Offset: uint32(w.size)})
}

// Size is how many bytes were written.
func (w *Writer) Size() int64 { return w.size }

// Full says that the pack must not grow by a frame of the largest size.
func (w *Writer) Full() bool {
	return w.size > MaxSize-MaxFrame || len(w.index.Frames) >= MaxFrames
}

// Key is the object's.
func (w *Writer) Key() string { return w.key }

// Commit writes the index and makes the pack visible and durable.
func (w *Writer) Commit(ctx context.Context) error {
	plain := w.index.encode()
	stored, codec := w.coder.Encode(plain, nil)
	if err := w.write(stored); err != nil {
		return err
	}
	if err := w.write(tail{stored: uint32(len(stored)), raw: uint32(len(plain)), sum: sum16(stored), codec: codec, kind: w.kind}.encode()); err != nil {
		return err
	}
	if err := w.w.Commit(ctx); err != nil {
		return fmt.Errorf("commit %s: %w", w.key, err)
	}
	return nil
}

// Abort drops the pack. After Commit it does nothing.
func (w *Writer) Abort() { w.w.Abort() }
