// Package blockstoretest is the suite that every storage and every wrapper of blockstore passes.
package blockstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Run checks the contract on stores made by open, one an empty store each.
func Run(t *testing.T, open func(t *testing.T) blockstore.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, blockstore.Store){
		"what is written is read": roundTrip,
		"ranges":                  ranges,
		"an object appears at Commit, not before":   appears,
		"what is aborted was never there":           aborts,
		"objects are never overwritten":             immutable,
		"of parallel writers of one key one wins":   race,
		"lists are ordered and paged":               lists,
		"listing goes on while objects come and go": listsWhileChanging,
		"deleting":                                   deletes,
		"keys that are no keys are refused":          badKeys,
		"a cancelled context ends calls and streams": cancelled,
		"Put is safe to repeat, Get is bounded":      helpers,
		"times and sizes":                            stats,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// Random gives n bytes that do not compress; the same seed gives the same bytes.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// Write writes an object in pieces.
func Write(ctx context.Context, s blockstore.Store, key string, pieces ...[]byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, p := range pieces {
		if n, err := w.Write(p); err != nil || n != len(p) {
			return fmt.Errorf("wrote %d of %d: %w", n, len(p), err)
		}
	}
	return w.Commit(ctx)
}

func mustWrite(t *testing.T, s blockstore.Store, key string, pieces ...[]byte) {
	t.Helper()
	if err := Write(t.Context(), s, key, pieces...); err != nil {
		t.Fatalf("write %s: %v", key, err)
	}
}

// Read reads a range of an object.
func Read(ctx context.Context, s blockstore.Store, key string, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantContent(t *testing.T, s blockstore.Store, key string, want []byte) {
	t.Helper()
	got, err := Read(t.Context(), s, key, 0, -1)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: read %d bytes, want %d (equal: %t), %v", key, len(got), len(want), bytes.Equal(got, want), err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func roundTrip(t *testing.T, s blockstore.Store) {
	big := Random(1, 11<<20+17) // over one part of an upload and several chunks
	for key, pieces := range map[string][][]byte{
		"empty":                  nil,
		"one-byte":               {{7}},
		"oplog/j1/e.2/000_1":     {[]byte("hello "), nil, []byte("world")},
		"segments/exactly":       {Random(2, 64<<10)},
		"segments/exactly.two":   {Random(3, 128<<10)},
		"segments/in-odd-pieces": {Random(4, 1), Random(5, 65<<10), Random(6, 63<<10), Random(7, 3)},
		"a/" + strings.Repeat("x", blockstore.MaxSegment): {[]byte("a long name")},
		longKey(): {[]byte("a long key")},
		"big":     {big[:5<<20], big[5<<20 : 5<<20+1], big[5<<20+1:]},
	} {
		mustWrite(t, s, key, pieces...)
		wantContent(t, s, key, slices.Concat(pieces...))
	}
	_, err := s.Open(t.Context(), "not/there", 0, -1)
	wantErr(t, "open what is not there", err, blockstore.ErrNotFound)
	_, err = s.Open(t.Context(), "segments", 0, -1)
	wantErr(t, "open a folder", err, blockstore.ErrNotFound)
	_, err = s.Stat(t.Context(), "segments")
	wantErr(t, "stat a folder", err, blockstore.ErrNotFound)
	r, err := s.Open(t.Context(), "segments/in-odd-pieces", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(onlyReader{r}, slices.Concat(Random(4, 1), Random(5, 65<<10), Random(6, 63<<10), Random(7, 3))); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// onlyReader hides other interfaces, whose rules are not part of the contract.
type onlyReader struct{ io.Reader }

func longKey() string {
	return strings.Repeat(strings.Repeat("k", 127)+"/", 4)[:blockstore.MaxKey-1]
}

func ranges(t *testing.T, s blockstore.Store) {
	const size = 200_000
	content := Random(1, size)
	mustWrite(t, s, "k", content)
	for _, r := range []struct{ offset, length int64 }{
		{0, 0},
		{0, 1},
		{0, -1},
		{0, size},
		{0, size + 5},
		{1, 1},
		{65535, 2},
		{65536, 65536},
		{65537, 65535},
		{131071, 5},
		{199_999, 1},
		{199_999, 100},
		{size, -1},
		{size, 10},
		{size + 50, 10},
		{size + 1<<20, -1},
		{196_608, -1},
		{100_000, 0},
		{123, 150_000},
	} {
		want := content[min(r.offset, size):]
		if r.length >= 0 {
			want = want[:min(r.length, int64(len(want)))]
		}
		got, err := Read(t.Context(), s, "k", r.offset, r.length)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes from %d: got %d bytes, want %d, %v", r.length, r.offset, len(got), len(want), err)
		}
	}
	mustWrite(t, s, "none")
	for _, offset := range []int64{0, 1} {
		if got, err := Read(t.Context(), s, "none", offset, 5); err != nil || len(got) != 0 {
			t.Errorf("an empty object from %d: %d bytes, %v", offset, len(got), err)
		}
	}
	_, err := s.Open(t.Context(), "k", -1, 1)
	wantErr(t, "a negative offset", err, blockstore.ErrInvalid)
	_, err = s.Open(t.Context(), "absent", 5, 10)
	wantErr(t, "a range of what is not there", err, blockstore.ErrNotFound)
}

func appears(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	w, err := s.Create(ctx, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for range 40 {
		if _, err := w.Write(Random(1, 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Open(ctx, "a/b", 0, -1)
	wantErr(t, "open before Commit", err, blockstore.ErrNotFound)
	_, err = s.Stat(ctx, "a/b")
	wantErr(t, "stat before Commit", err, blockstore.ErrNotFound)
	if got, err := s.List(ctx, "", "", 0); err != nil || len(got) != 0 {
		t.Errorf("list before Commit: %v, %v", got, err)
	}
	if err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	w.Abort() // after Commit it does nothing
	if o, err := s.Stat(ctx, "a/b"); err != nil || o.Size != 10<<20 {
		t.Errorf("stat after Commit: %+v, %v", o, err)
	}
	if err := w.Commit(ctx); err == nil {
		t.Error("a second Commit succeeded")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a Write after Commit succeeded")
	}
	if o, err := s.Stat(ctx, "a/b"); err != nil || o.Size != 10<<20 {
		t.Errorf("stat after what is not allowed: %+v, %v", o, err)
	}
}

func aborts(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	for _, n := range []int{0, 10, 9 << 20} {
		w, err := s.Create(ctx, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(Random(1, n)); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if err := w.Commit(ctx); err == nil {
			t.Errorf("%d bytes: Commit after Abort succeeded", n)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Errorf("%d bytes: Write after Abort succeeded", n)
		}
		_, err = s.Stat(ctx, "a/b")
		wantErr(t, "stat after Abort", err, blockstore.ErrNotFound)
	}
	mustWrite(t, s, "a/b", []byte("later"))
	wantContent(t, s, "a/b", []byte("later"))
}

func immutable(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	mustWrite(t, s, "k/1", []byte("first"))
	wantErr(t, "a second object", Write(ctx, s, "k/1", []byte("second")), blockstore.ErrExists)
	wantErr(t, "a second object of many parts", Write(ctx, s, "k/1", Random(1, 12<<20)), blockstore.ErrExists)
	wantErr(t, "the same object again", Write(ctx, s, "k/1", []byte("first")), blockstore.ErrExists)
	wantContent(t, s, "k/1", []byte("first"))
	// Two that began before either ended.
	a, err := s.Create(ctx, "k/2")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	b, err := s.Create(ctx, "k/2")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	_, _ = a.Write([]byte("a"))
	_, _ = b.Write([]byte("b"))
	if err := b.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the one that came second", a.Commit(ctx), blockstore.ErrExists)
	wantContent(t, s, "k/2", []byte("b"))
}

func race(t *testing.T, s blockstore.Store) {
	const writers = 8
	for round := range 5 {
		key := fmt.Sprintf("race/%d", round)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range writers {
			wg.Go(func() {
				<-start
				errs[i] = Write(t.Context(), s, key, Random(uint64(i), 100_000)) //nolint:gosec // a small number
			})
		}
		close(start)
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("round %d: writers %d and %d both won", round, won, i)
			case err == nil:
				won = i
			case !errors.Is(err, blockstore.ErrExists):
				t.Errorf("round %d: writer %d: %v", round, i, err)
			}
		}
		if won < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		wantContent(t, s, key, Random(uint64(won), 100_000)) //nolint:gosec // a small number
	}
}

func keysOf(objects []blockstore.Object) []string {
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = o.Key
	}
	return keys
}

func lists(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	if got, err := s.List(ctx, "", "", 0); err != nil || len(got) != 0 {
		t.Fatalf("an empty store: %v, %v", got, err)
	}
	// The order of bytes, not of folders: '-' and '.' come before '/', digits after it.
	keys := []string{
		"a/b/c", "a/b-c", "a/b.c", "a/b0", "a/b/d", "a/ba/x", "a-b/x", "a.b/x", "a0/x", "b/0", "b/00", "b/1", "b/10", "b/2", "c",
		"blocks/job-1/p.1", "blocks/job-10/p.1", "blocks/job/p.1",
	}
	for i, k := range keys {
		mustWrite(t, s, k, bytes.Repeat([]byte("x"), i))
	}
	slices.Sort(keys)
	for _, q := range []struct{ prefix, after string }{
		{"", ""},
		{"a", ""},
		{"a/", ""},
		{"a/b", ""},
		{"a/b/", ""},
		{"b/1", ""},
		{"c", ""},
		{"c/", ""},
		{"d", ""},
		{"nothing/here", ""},
		{"blocks/job", ""},
		{"blocks/job/", ""},
		{"", "a"},
		{"", "a/b"},
		{"", "a/b/c"},
		{"", "a/b/czz"},
		{"a/", "a/b.c"},
		{"b/", "a"},
		{"b/", "b/10"},
		{"b/", "c"},
		{"", "zzz"},
		{"a/b/", "a/b/c"},
		{"", "a/b/"},
	} {
		var want []string
		for _, k := range keys {
			if k > q.after && strings.HasPrefix(k, q.prefix) {
				want = append(want, k)
			}
		}
		for _, limit := range []int{1, 2, 5, 0, blockstore.MaxList + 1} {
			var got []string
			after := q.after
			for {
				page, err := s.List(ctx, q.prefix, after, limit)
				if err != nil {
					t.Fatalf("list %q after %q: %v", q.prefix, after, err)
				}
				if len(page) == 0 {
					break
				}
				if limit > 0 && len(page) > limit {
					t.Fatalf("a page of %d, limit %d", len(page), limit)
				}
				got = append(got, keysOf(page)...)
				after = got[len(got)-1]
				if len(got) > 2*len(keys) {
					t.Fatalf("list %q after %q does not end: %v", q.prefix, q.after, got)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("list %q after %q, %d at once (-want +got):\n%s", q.prefix, q.after, limit, diff)
			}
		}
	}
	var all []string
	for o, err := range blockstore.All(ctx, s, "b/") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
		if len(all) == 3 {
			break
		}
	}
	if diff := cmp.Diff([]string{"b/0", "b/00", "b/1"}, all); diff != "" {
		t.Errorf("the first three (-want +got):\n%s", diff)
	}
}

func listsWhileChanging(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	var stay []string
	for i := range 60 {
		key := fmt.Sprintf("d%d/k%03d", i%3, i)
		mustWrite(t, s, key, []byte("x"))
		if i%2 == 0 {
			stay = append(stay, key)
		}
	}
	slices.Sort(stay)
	seen := map[string]int{}
	after, n := "", 0
	for {
		page, err := s.List(ctx, "", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, o := range page {
			seen[o.Key]++
		}
		after = page[len(page)-1].Key
		if err := s.Delete(ctx, fmt.Sprintf("d%d/k%03d", (2*n+1)%3, 2*n+1)); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, s, fmt.Sprintf("d0/new%03d", n), []byte("x"))
		n++
	}
	for _, key := range stay {
		if seen[key] != 1 {
			t.Errorf("%s was there all the time and seen %d times", key, seen[key])
		}
	}
}

func deletes(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	mustWrite(t, s, "a/b/c", Random(1, 3<<20))
	mustWrite(t, s, "a/b/d", []byte("stays"))
	for range 2 {
		if err := s.Delete(ctx, "a/b/c"); err != nil {
			t.Fatal(err)
		}
		_, err := s.Open(ctx, "a/b/c", 0, -1)
		wantErr(t, "open what is deleted", err, blockstore.ErrNotFound)
	}
	if err := s.Delete(ctx, "never/was/there"); err != nil {
		t.Error(err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil { // a folder of others, not an object
		t.Logf("delete of a folder: %v", err)
	}
	wantContent(t, s, "a/b/d", []byte("stays"))
	mustWrite(t, s, "a/b/c", []byte("a new one"))
	wantContent(t, s, "a/b/c", []byte("a new one"))
	for _, k := range []string{"a/b/c", "a/b/d"} {
		if err := s.Delete(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.List(ctx, "", "", 0); err != nil || len(got) != 0 {
		t.Errorf("after deleting all: %v, %v", got, err)
	}
	mustWrite(t, s, "a/b/c", []byte("once more"))
	wantContent(t, s, "a/b/c", []byte("once more"))
}

func badKeys(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", ".hidden", "a/.tmp", "A", "a b", "a\x00b", "ä", "a\\b", "a:b", "a%2fb",
		strings.Repeat("a", blockstore.MaxSegment+1), strings.Repeat("a/", blockstore.MaxKey/2) + "aa",
	} {
		wantErr(t, fmt.Sprintf("create %.20q", key), Write(ctx, s, key, []byte("x")), blockstore.ErrInvalid)
		_, err := s.Open(ctx, key, 0, -1)
		wantErr(t, fmt.Sprintf("open %.20q", key), err, blockstore.ErrInvalid)
		_, err = s.Stat(ctx, key)
		wantErr(t, fmt.Sprintf("stat %.20q", key), err, blockstore.ErrInvalid)
		wantErr(t, fmt.Sprintf("delete %.20q", key), s.Delete(ctx, key), blockstore.ErrInvalid)
	}
	for _, prefix := range []string{"/", "../", "a/../", "A", "a\x00", strings.Repeat("a", blockstore.MaxKey+1)} {
		_, err := s.List(ctx, prefix, "", 0)
		wantErr(t, fmt.Sprintf("list %.20q", prefix), err, blockstore.ErrInvalid)
		_, err = s.List(ctx, "", prefix, 0)
		wantErr(t, fmt.Sprintf("list after %.20q", prefix), err, blockstore.ErrInvalid)
	}
}

func cancelled(t *testing.T, s blockstore.Store) {
	mustWrite(t, s, "k", Random(1, 6<<20))
	ctx, stop := context.WithCancel(t.Context())
	w, err := s.Create(ctx, "new")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	_, _ = w.Write(Random(2, 1<<20))
	r, err := s.Open(ctx, "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	stop()
	if n, err := io.Copy(io.Discard, r); err == nil {
		t.Errorf("a reader went on to its end (%d bytes) after its context ended", n)
	}
	wantErr(t, "Commit", w.Commit(ctx), context.Canceled)
	_, err = s.Create(ctx, "other")
	wantErr(t, "Create", err, context.Canceled)
	_, err = s.Open(ctx, "k", 0, -1)
	wantErr(t, "Open", err, context.Canceled)
	_, err = s.Stat(ctx, "k")
	wantErr(t, "Stat", err, context.Canceled)
	_, err = s.List(ctx, "", "", 0)
	wantErr(t, "List", err, context.Canceled)
	wantErr(t, "Delete", s.Delete(ctx, "k"), context.Canceled)
	if got, err := s.List(t.Context(), "", "", 0); err != nil || !slices.Equal(keysOf(got), []string{"k"}) {
		t.Errorf("after all that: %v, %v", keysOf(got), err)
	}
}

func helpers(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	content := Random(1, 100_000)
	for range 2 {
		if err := blockstore.Put(ctx, s, "k", content); err != nil {
			t.Fatal(err)
		}
	}
	other := bytes.Clone(content)
	other[50_000] ^= 1
	wantErr(t, "put something else", blockstore.Put(ctx, s, "k", other), blockstore.ErrExists)
	wantErr(t, "put a beginning", blockstore.Put(ctx, s, "k", content[:10]), blockstore.ErrExists)
	wantErr(t, "put more", blockstore.Put(ctx, s, "k", append(other, 1)), blockstore.ErrExists)
	got, err := blockstore.Get(ctx, s, "k", int64(len(content)))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	_, err = blockstore.Get(ctx, s, "k", int64(len(content))-1)
	wantErr(t, "get under a limit", err, blockstore.ErrTooLarge)
	_, err = blockstore.Get(ctx, s, "absent", 10)
	wantErr(t, "get what is not there", err, blockstore.ErrNotFound)
}

func stats(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	sizes := map[string]int{"s/0": 0, "s/1": 1, "s/a": 65535, "s/b": 65536, "s/c": 65537, "s/d": 1 << 20, "s/e": 5<<20 + 1}
	begin := time.Now().Add(-2 * time.Second) // a storage may know only whole seconds
	for key, n := range sizes {
		mustWrite(t, s, key, Random(1, n))
	}
	end := time.Now().Add(2 * time.Second)
	check := func(how string, o blockstore.Object) {
		if o.Size != int64(sizes[o.Key]) {
			t.Errorf("%s %s: %d bytes, want %d", how, o.Key, o.Size, sizes[o.Key])
		}
		if o.Modified.Before(begin) || o.Modified.After(end) || o.Modified.Location() != time.UTC {
			t.Errorf("%s %s: modified %v, not between %v and %v", how, o.Key, o.Modified, begin, end)
		}
	}
	for key := range sizes {
		o, err := s.Stat(ctx, key)
		if err != nil || o.Key != key {
			t.Errorf("stat %s: %+v, %v", key, o, err)
		}
		check("stat", o)
	}
	page, err := s.List(ctx, "s/", "", 0)
	if err != nil || len(page) != len(sizes) {
		t.Errorf("list: %v, %v", page, err)
	}
	for _, o := range page {
		check("list", o)
	}
	_, err = s.Stat(ctx, "absent")
	wantErr(t, "stat what is not there", err, blockstore.ErrNotFound)
}
