package docblock_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/docblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func engine(t testing.TB) docstore.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func open(t testing.TB, e docstore.Engine) *docblock.Store {
	t.Helper()
	s, err := docblock.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store { return open(t, engine(t)) })
}

// left is how many documents the engine holds in all.
func left(t *testing.T, e docstore.Engine) int {
	t.Helper()
	sum := 0
	for _, c := range docblock.Collections() {
		n, err := e.Count(t.Context(), docstore.Query{Collection: c.Name}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestEveryCallMayFail lets each call of the engine fail in turn, before and after its work, while an object is written, read and
// deleted: what was reported is true, an object that can be seen is whole, and Clean leaves nothing.
func TestEveryCallMayFail(t *testing.T) {
	content := blockstoretest.Random(1, 9<<20)
	for _, after := range []bool{false, true} {
		for nth := 1; ; nth++ {
			e := engine(t)
			faulty := faultdoc.New(e)
			s := open(t, faulty)
			fault := faultdoc.Fault{Nth: nth, After: after}
			faulty.Fail(fault)
			before := faulty.Calls(faultdoc.Any)
			werr := blockstoretest.Write(t.Context(), s, "a/b", content)
			if werr != nil && !errors.Is(werr, blockstore.ErrUnavailable) {
				t.Fatalf("call %d (after %t): %v", nth, after, werr)
			}
			got, rerr := blockstoretest.Read(t.Context(), s, "a/b", 0, -1)
			if rerr == nil && !bytes.Equal(got, content) || werr == nil && errors.Is(rerr, blockstore.ErrNotFound) {
				t.Fatalf("call %d (after %t): wrote: %v; read %d bytes, %v", nth, after, werr, len(got), rerr)
			}
			derr := s.Delete(t.Context(), "a/b")
			calls := faulty.Calls(faultdoc.Any) - before
			faulty.On()
			if derr == nil && rerr == nil {
				if _, err := s.Stat(t.Context(), "a/b"); !errors.Is(err, blockstore.ErrNotFound) {
					t.Fatalf("call %d (after %t): deleted, yet %v", nth, after, err)
				}
			}
			if err := s.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Clean(t.Context(), time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if n := left(t, e); n != 0 {
				t.Fatalf("call %d (after %t): %d documents left", nth, after, n)
			}
			if nth > calls {
				if nth < 10 {
					t.Fatalf("only %d calls", calls)
				}
				break
			}
		}
	}
}

func TestCleanTakesOnlyTheDead(t *testing.T) {
	e := engine(t)
	s := open(t, e)
	ctx := t.Context()
	if err := blockstoretest.Write(ctx, s, "whole", []byte("x")); err != nil {
		t.Fatal(err)
	}
	asleep, err := s.Create(ctx, "asleep")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asleep.Write(make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Clean(ctx, time.Now().Add(-time.Hour)); err != nil || got.Leftovers != 0 {
		t.Errorf("a writer at work was taken for dead: %+v, %v", got, err)
	}
	got, err := s.Clean(ctx, time.Now().Add(time.Minute))
	if diff := cmp.Diff(blockstore.Cleaned{Leftovers: 1, Bytes: 8 << 20}, got); diff != "" || err != nil {
		t.Errorf("cleaned (-want +got):\n%s%v", diff, err)
	}
	if err := asleep.Commit(ctx); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("a writer whose chunks are gone: %v", err)
	}
	if list, err := s.List(ctx, "", "", 0); err != nil || len(list) != 1 || list[0].Key != "whole" {
		t.Errorf("list: %v, %v", list, err)
	}
}

func TestErrors(t *testing.T) {
	faulty := faultdoc.New(engine(t))
	s := open(t, faulty)
	faulty.Fail(faultdoc.Fault{Call: faultdoc.Write, Nth: 2, Err: docstore.ErrFull})
	err := blockstoretest.Write(t.Context(), s, "k", []byte("x"))
	if !errors.Is(err, blockstore.ErrNoSpace) || opererr.HintOf(err) == "" {
		t.Errorf("a full disk: %v", err)
	}
	if err := blockstoretest.Write(t.Context(), s, "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := faulty.DeleteRange(context.Background(), "blockchunks", "", "", 10); err != nil {
		t.Fatal(err)
	}
	if _, err := blockstoretest.Read(t.Context(), s, "k", 0, -1); !errors.Is(err, blockstore.ErrDamaged) {
		t.Errorf("a chunk is missing: %v", err)
	}
}
