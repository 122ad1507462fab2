package pack

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func coder(t testing.TB) *Coder {
	t.Helper()
	c, err := NewCoder(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func sample() *Index {
	return &Index{Frames: []Frame{
		{Offset: 0, Stored: 10, Raw: 30, CRC: 7, Codec: Zstd, Lengths: []uint32{10, 10, 10}},
		{Offset: 10},
		{Offset: 10, Stored: 5, Raw: 5, CRC: 9, Lengths: []uint32{2, 0, 3}},
		{Offset: 15, Stored: 1, Raw: 1, Lengths: []uint32{1}},
	}}
}

func TestAnIndexIsReadAsWritten(t *testing.T) {
	x := sample()
	got, err := decodeIndex(x.encode(), 16)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(x, got); d != "" {
		t.Error(d)
	}
	if off, n, ok := got.Frames[2].Block(2); !ok || off != 2 || n != 3 {
		t.Error(off, n, ok)
	}
	if _, _, ok := got.Frames[2].Block(1); ok {
		t.Error("a dropped block is there")
	}
}

func TestAReaderTakesTheGenerationThatHasTheBlock(t *testing.T) {
	s, c := memblock.New(), coder(t)
	key := Blocks.Key("j", "p", 0)
	w, err := Create(t.Context(), s, key, Blocks, c)
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("abcd"), 100)
	for range 3 {
		stored, codec := c.Encode(plain, nil)
		if _, err := w.Append(stored, codec, len(plain), []uint32{100, 100, 200}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	shelf := NewShelf(s, "j", Blocks, c)
	g, _, err := shelf.Find(t.Context(), "p", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Rewrite(t.Context(), s, g, Blocks.Key("j", "p", 1), Blocks, c, func(frame int, block uint16) bool { return frame == 2 && block > 0 }); err != nil {
		t.Fatal(err)
	}
	shelf.Forget("p")
	for _, tc := range []struct {
		frame  uint32
		blocks []uint16
		number int
	}{{0, []uint16{0}, 0}, {2, []uint16{1, 2}, 1}, {2, []uint16{0, 1}, 0}} {
		g, f, err := shelf.Find(t.Context(), "p", tc.frame, tc.blocks...)
		if err != nil || g.Number != tc.number {
			t.Fatalf("%+v: %+v, %v", tc, g, err)
		}
		stored, err := shelf.Read(t.Context(), g, tc.frame, tc.frame)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Plain(f, stored, nil)
		if err != nil {
			t.Fatal(err)
		}
		off, n, _ := f.Block(tc.blocks[0])
		if len(b[off:off+n])%100 != 0 || b[off] != 'a' {
			t.Errorf("%+v: %q", tc, b)
		}
	}
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	shelf.Forget("p")
	if _, _, err := shelf.Find(t.Context(), "p", 0, 0); !errors.Is(err, ErrFormat) {
		t.Errorf("a block that is in no generation: %v", err)
	}
	if _, _, err := shelf.Find(t.Context(), "other", 0, 0); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("a pack that is not there: %v", err)
	}
}

func TestKeys(t *testing.T) {
	for key, want := range map[string]int{"blocks/j/a-1": 0, "blocks/j/a-1.3": 3, "blocks/j/a-1.03": -1, "blocks/j/a-1.": -1, "blocks/j/a/b": -1, "pages/j/a-1": -1, "blocks/k/a": -1} {
		_, n, ok := Blocks.ParseKey("j", key)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%s: %d %v", key, n, ok)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(sample().encode(), int64(16))
	f.Fuzz(func(t *testing.T, b []byte, end int64) {
		x, err := decodeIndex(b, end)
		if err == nil && !bytes.Equal(x.encode(), b) {
			t.Fatal("accepted something else than encode makes")
		}
	})
}

// FuzzPack: an object of any bytes is refused or its frames are read, within limits.
func FuzzPack(f *testing.F) {
	c := coder(f)
	s := memblock.New()
	w, err := Create(f.Context(), s, "blocks/j/p", Blocks, c)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Append([]byte("hello"), Plain, 5, []uint32{2, 3}); err != nil {
		f.Fatal(err)
	}
	if err := w.Commit(f.Context()); err != nil {
		f.Fatal(err)
	}
	b, err := blockstore.Get(f.Context(), s, "blocks/j/p", 1000)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := memblock.New()
		if err := blockstore.Put(t.Context(), s, "blocks/j/p", b); err != nil {
			t.Fatal(err)
		}
		shelf := NewShelf(s, "j", Blocks, c)
		list, err := shelf.Generations(t.Context(), "p")
		if err != nil {
			return
		}
		for n := range list[0].Index.Frames {
			fr := list[0].Frame(uint32(n))
			if fr.Stored == 0 {
				continue
			}
			stored, err := shelf.Read(t.Context(), list[0], uint32(n), uint32(n))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := c.Plain(fr, stored, nil); err == nil && len(plain) != int(fr.Raw) {
				t.Fatal("the length is wrong")
			}
		}
	})
}
