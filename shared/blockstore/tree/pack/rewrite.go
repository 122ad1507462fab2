package pack

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Rewrite writes the next generation of a pack: the blocks that live says yes to, in their frames, under their numbers. It
// gives the size of the new object.
func Rewrite(ctx context.Context, s blockstore.Store, from *Generation, key string, kind Kind, coder *Coder, live func(frame int, block uint16) bool) (int64, error) {
	w, err := Create(ctx, s, key, kind, coder)
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	var plain []byte
	for i := range from.Index.Frames {
		f := &from.Index.Frames[i]
		lengths := make([]uint32, len(f.Lengths))
		var raw uint32
		for n, l := range f.Lengths {
			if l > 0 && live(i, uint16(n)) {
				lengths[n] = l
				raw += l
			}
		}
		if raw == 0 {
			w.Skip()
			continue
		}
		stored, err := readRange(ctx, s, from.Key, int64(f.Offset), int64(f.Stored))
		if err != nil {
			return 0, err
		}
		b, err := coder.Plain(f, stored, plain)
		if err != nil {
			return 0, err
		}
		if f.Codec != Plain {
			plain = b
		}
		if raw == f.Raw {
			if _, err := w.Append(stored, f.Codec, int(raw), lengths); err != nil {
				return 0, err
			}
			continue
		}
		kept := make([]byte, 0, raw)
		for n, l := range f.Lengths {
			if lengths[n] > 0 {
				kept = append(kept, b[:l]...)
			}
			b = b[l:]
		}
		out, codec := coder.Encode(kept, nil)
		if _, err := w.Append(out, codec, int(raw), lengths); err != nil {
			return 0, err
		}
	}
	if err := w.Commit(ctx); err != nil {
		return 0, err
	}
	return w.Size(), nil
}
