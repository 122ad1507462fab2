package blockstore_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func TestRange(t *testing.T) {
	for _, c := range []struct{ size, offset, length, from, n int64 }{
		{10, 0, -1, 0, 10},
		{10, 3, -1, 3, 7},
		{10, 3, 4, 3, 4},
		{10, 3, 40, 3, 7},
		{10, 10, 1, 10, 0},
		{10, 50, -1, 10, 0},
		{0, 0, 5, 0, 0},
		{10, 4, 0, 4, 0},
		{10, 1, 1<<63 - 1, 1, 9},
	} {
		from, n, err := blockstore.Range(c.size, c.offset, c.length)
		if err != nil || from != c.from || n != c.n {
			t.Errorf("%+v: %d bytes from %d, %v", c, n, from, err)
		}
	}
	if _, _, err := blockstore.Range(10, -1, 5); !errors.Is(err, blockstore.ErrInvalid) {
		t.Errorf("a negative offset: %v", err)
	}
}

func TestAllStopsAtErrorsAndAtStoresWithoutOrder(t *testing.T) {
	faulty := faultblock.New(memblock.New())
	faulty.Fail(faultblock.Fault{Call: faultblock.List, Nth: 1})
	n := 0
	for _, err := range blockstore.All(t.Context(), faulty, "") {
		if n++; !errors.Is(err, blockstore.ErrUnavailable) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d times", n)
	}
	for range blockstore.All(t.Context(), stubborn{memblock.New()}, "") {
		if n++; n > 10 {
			t.Fatal("it does not end")
		}
	}
}

type ctx = context.Context

// stubborn answers every List with the same object.
type stubborn struct{ *memblock.Store }

func (stubborn) List(ctx, string, string, int) ([]blockstore.Object, error) {
	return []blockstore.Object{{Key: "a"}}, nil
}

// FuzzValidKey holds keys to what they are for: paths below a folder, on any file system, and URLs without escaping.
func FuzzValidKey(f *testing.F) {
	for _, key := range []string{"a", "oplog/j1/2/0000", "", "/", "a//b", "../x", "a/..", ".tmp-x", "A", "ä", strings.Repeat("a/", 300)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if blockstore.ValidKey(key) != nil {
			return
		}
		if path.Clean("/root/"+key) != "/root/"+key || len(key) > blockstore.MaxKey || strings.ToLower(key) != key || strings.ContainsAny(key, "\x00\\:*?\"<>| %#\n") {
			t.Errorf("%q is no path", key)
		}
		if slices.ContainsFunc(strings.Split(key, "/"), func(s string) bool { return s == "" || s[0] == '.' || len(s) > blockstore.MaxSegment }) {
			t.Errorf("%q has a bad segment", key)
		}
		for i := range len(key) + 1 {
			if prefix := key[:i]; !strings.HasSuffix(prefix, "/.") && blockstore.ValidPrefix(prefix) != nil {
				t.Errorf("%q is a key, its prefix %q is none", key, prefix)
			}
		}
	})
}
