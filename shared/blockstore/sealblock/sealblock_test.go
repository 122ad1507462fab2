package sealblock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/sealblock"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
)

func box(t testing.TB, key byte) *seal.Box {
	t.Helper()
	b, err := seal.New(bytes.Repeat([]byte{key}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store { return sealblock.New(memblock.New(), box(t, 'a')) })
}

// sealed writes an object through a sealed store and returns the bytes below it.
func sealed(t testing.TB, key string, content []byte) []byte {
	t.Helper()
	below := memblock.New()
	if err := blockstoretest.Write(t.Context(), sealblock.New(below, box(t, 'a')), key, content); err != nil {
		t.Fatal(err)
	}
	b, err := blockstore.Get(t.Context(), below, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opened reads what some bytes below are through a sealed store.
func opened(t testing.TB, site byte, key string, below []byte, offset, length int64) ([]byte, error) {
	t.Helper()
	s := memblock.New()
	if err := blockstoretest.Write(t.Context(), s, key, below); err != nil {
		t.Fatal(err)
	}
	return blockstoretest.Read(t.Context(), sealblock.New(s, box(t, site)), key, offset, length)
}

func TestNothingOfThePlainTextIsBelow(t *testing.T) {
	content := bytes.Repeat([]byte("attack at dawn. "), 10_000)
	b := sealed(t, "k", content)
	if bytes.Contains(b, []byte("attack")) || bytes.Equal(b[16:], sealed(t, "k", content)[16:]) {
		t.Error("plain text, or the same bytes twice")
	}
	if got, err := opened(t, 'a', "k", b, 0, -1); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestAnotherKeySaysSo(t *testing.T) {
	for _, n := range []int{0, 10, 200_000} {
		_, err := opened(t, 'b', "k", sealed(t, "k", make([]byte, n)), 0, -1)
		if !errors.Is(err, blockstore.ErrKey) || opererr.HintOf(err) == "" {
			t.Errorf("%d bytes with another gen.key: %v", n, err)
		}
	}
	_, err := opened(t, 'a', "moved", sealed(t, "k", []byte("x")), 0, -1)
	if !errors.Is(err, blockstore.ErrDamaged) {
		t.Errorf("under another object's key: %v", err)
	}
	_, err = opened(t, 'a', "k", []byte("this was never encrypted, and it is long enough"), 0, -1)
	if !errors.Is(err, blockstore.ErrDamaged) || opererr.HintOf(err) == "" {
		t.Errorf("a plain object: %v", err)
	}
}

func TestEveryDamageIsNoticed(t *testing.T) {
	const segment = 65536 + 28
	content := blockstoretest.Random(1, 150_000) // two full segments and a part
	b := sealed(t, "k", content)
	exact := sealed(t, "k", content[:131072]) // the last segment is full
	damage := map[string][]byte{
		"two segments exchanged":           slices.Concat(b[:16], b[16+segment:16+2*segment], b[16:16+segment], b[16+2*segment:]),
		"a segment left out":               slices.Concat(b[:16], b[16+segment:]),
		"the last segment cut off":         b[:16+2*segment],
		"cut in the last segment":          b[:len(b)-1],
		"cut inside a nonce":               b[:16+2*segment+5],
		"cut in the first segment":         b[:100],
		"cut after the header":             b[:16],
		"cut in the header":                b[:7],
		"nothing":                          nil,
		"something appended":               append(bytes.Clone(b), 0),
		"something appended to a full end": append(bytes.Clone(exact), 0),
		"another segment appended":         append(bytes.Clone(exact), b[16+2*segment:]...),
	}
	for i := 0; i < len(b); i += 7919 {
		if i < 4 || i > 15 {
			bad := bytes.Clone(b)
			bad[i] ^= 1
			damage[fmt.Sprintf("byte %d changed", i)] = bad
		}
	}
	for name, bad := range damage {
		got, err := opened(t, 'a', "k", bad, 0, -1)
		if name == "byte 0 changed" { // the header is looked at only when something does not open
			continue
		}
		if name == "something appended" || name == "something appended to a full end" || name == "another segment appended" {
			// A full segment after the last is never read: what was sealed comes out whole, which is right.
			if err == nil && !bytes.Equal(got, content) && !bytes.Equal(got, content[:131072]) {
				t.Errorf("%s: read something else", name)
			}
			continue
		}
		if !errors.Is(err, blockstore.ErrDamaged) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := opened(t, 'a', "k", b[:16+segment], 10, 100_000); !errors.Is(err, blockstore.ErrDamaged) {
		t.Errorf("a range across the end of a cut object: %v", err)
	}
	// A range that does not touch the damage is read.
	bad := bytes.Clone(b)
	bad[20] ^= 1
	if got, err := opened(t, 'a', "k", bad, 70_000, 50_000); err != nil || !bytes.Equal(got, content[70_000:120_000]) {
		t.Errorf("beside the damage: %d bytes, %v", len(got), err)
	}
}

// counting counts what is asked of a store and given by it.
type ctx = context.Context

type counting struct {
	blockstore.Store
	opens, bytes int
}

func (c *counting) Open(ctx ctx, key string, offset, length int64) (io.ReadCloser, error) {
	c.opens++
	r, err := c.Store.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		c.bytes += n
		return n, err
	}), r}, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestARangeIsOneReadOfLittleMore(t *testing.T) {
	below := &counting{Store: memblock.New()}
	s := sealblock.New(below, box(t, 'a'))
	content := blockstoretest.Random(1, 5<<20)
	if err := blockstoretest.Write(t.Context(), s, "k", content); err != nil {
		t.Fatal(err)
	}
	got, err := blockstoretest.Read(t.Context(), s, "k", 1_000_000, 300_000)
	if err != nil || !bytes.Equal(got, content[1_000_000:1_300_000]) {
		t.Fatal(err)
	}
	if below.opens != 1 || below.bytes > 300_000+2*(65536+28) {
		t.Errorf("%d reads, %d bytes", below.opens, below.bytes)
	}
}

func FuzzOpen(f *testing.F) {
	content := blockstoretest.Random(1, 70_000)
	good := sealed(f, "k", content)
	f.Add(good, int64(0), int64(-1))
	f.Add(good[:300], int64(0), int64(10))
	f.Add(good[:16], int64(5), int64(-1))
	f.Add([]byte{}, int64(0), int64(0))
	f.Add(good, int64(1<<62), int64(1<<62))
	f.Add(good, int64(65536), int64(1<<63-1))
	f.Fuzz(func(t *testing.T, below []byte, offset, length int64) {
		got, err := opened(t, 'a', "k", below, offset, length)
		if err == nil && !bytes.Contains(content, got) {
			t.Fatalf("%d bytes that nobody sealed", len(got))
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	content := blockstoretest.Random(1, 32<<20)
	for name, open := range map[string]func() blockstore.Store{
		"discard": func() blockstore.Store { return discard{memblock.New()} },
		"file": func() blockstore.Store {
			s, err := fileblock.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
	} {
		b.Run(name+"/write", func(b *testing.B) {
			s := sealblock.New(open(), box(b, 'a'))
			b.SetBytes(int64(len(content)))
			for i := 0; b.Loop(); i++ {
				if err := blockstoretest.Write(b.Context(), s, fmt.Sprintf("k%d", i), content); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("memory/read", func(b *testing.B) {
		s := sealblock.New(memblock.New(), box(b, 'a'))
		if err := blockstoretest.Write(b.Context(), s, "k", content); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			r, err := s.Open(b.Context(), "k", 0, -1)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(content)) {
				b.Fatal(n, err)
			}
		}
	})
}

// discard takes objects and keeps nothing.
type discard struct{ blockstore.Store }

func (discard) Create(ctx, string) (blockstore.Writer, error) { return nothing{}, nil }

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) Commit(ctx) error            { return nil }
func (nothing) Abort()                      {}
