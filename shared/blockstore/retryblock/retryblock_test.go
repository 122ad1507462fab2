package retryblock_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/retryblock"
)

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(*testing.T) blockstore.Store { return retryblock.New(memblock.New(), retryblock.Default()) })
}

// TestEveryCallMayFail lets each call of a whole session fail in turn, before and after its work: nobody notices.
func TestEveryCallMayFail(t *testing.T) {
	content := blockstoretest.Random(1, 300_000)
	session := func(ctx context.Context, s blockstore.Store) error {
		if err := blockstoretest.Write(ctx, s, "a/1", content[:1000], content[1000:]); err != nil {
			return err
		}
		if err := blockstoretest.Write(ctx, s, "a/2", []byte("x")); err != nil {
			return err
		}
		got, err := blockstoretest.Read(ctx, s, "a/1", 5, -1)
		if err != nil || !bytes.Equal(got, content[5:]) {
			return errors.Join(errors.New("read something else"), err)
		}
		got, err = blockstoretest.Read(ctx, s, "a/1", 7, 100_000)
		if err != nil || !bytes.Equal(got, content[7:100_007]) {
			return errors.Join(errors.New("read another range"), err)
		}
		if o, err := s.Stat(ctx, "a/1"); err != nil || o.Size != int64(len(content)) {
			return errors.Join(errors.New("stat"), err)
		}
		if err := s.Delete(ctx, "a/2"); err != nil {
			return err
		}
		list, err := s.List(ctx, "", "", 0)
		if err != nil || len(list) != 1 || list[0].Key != "a/1" {
			return errors.Join(errors.New("list"), err)
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		count := faultblock.New(memblock.New())
		if err := session(t.Context(), retryblock.New(count, retryblock.Default())); err != nil {
			t.Fatal(err)
		}
		calls := count.Calls(faultblock.Any)
		if calls < 15 {
			t.Fatalf("only %d calls", calls)
		}
		for nth := range calls {
			for name, f := range map[string]faultblock.Fault{
				"before": {Nth: nth + 1}, "after": {Nth: nth + 1, After: true}, "in the middle": {Nth: nth + 1, Torn: 3},
			} {
				faulty := faultblock.New(memblock.New())
				faulty.Fail(f)
				if err := session(t.Context(), retryblock.New(faulty, retryblock.Default())); err != nil {
					t.Errorf("call %d of %d fails, %s its work: %v", nth+1, calls, name, err)
				}
			}
		}
	})
}

func TestAnOutageIsBorneAndALongOneReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := faultblock.New(memblock.New())
		failures := 0
		o := retryblock.Default()
		o.Note = func(string, string, int, error) { failures++ }
		s := retryblock.New(faulty, o)
		faulty.Off(nil)
		time.AfterFunc(5*time.Second, faulty.On)
		if err := blockstoretest.Write(t.Context(), s, "k", []byte("x")); err != nil || failures < 3 {
			t.Errorf("an outage of 5 s: %v after %d failures", err, failures)
		}
		faulty.Off(nil)
		start := time.Now()
		_, err := s.Stat(t.Context(), "k")
		if took := time.Since(start); !errors.Is(err, blockstore.ErrUnavailable) || took < 10*time.Second || took > 2*time.Minute {
			t.Errorf("a long outage: %v after %v", err, took)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		start = time.Now()
		if _, err := s.Stat(ctx, "k"); err == nil || time.Since(start) > time.Second {
			t.Errorf("a caller in a hurry: %v after %v", err, time.Since(start))
		}
	})
}

func TestWhatIsCertainIsNotTriedAgain(t *testing.T) {
	for _, certain := range []error{blockstore.ErrNoSpace, blockstore.ErrDenied, blockstore.ErrNotFound, blockstore.ErrDamaged} {
		faulty := faultblock.New(memblock.New())
		s := retryblock.New(faulty, retryblock.Default())
		faulty.Fail(faultblock.Fault{Err: certain})
		_, err := s.Stat(t.Context(), "k")
		if n := faulty.Calls(faultblock.Stat); !errors.Is(err, certain) || n != 1 {
			t.Errorf("%v: %v after %d tries", certain, err, n)
		}
	}
}

func TestTheAnswerOfACommitIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			meanwhile []byte // what another writer put there
			want      error
		}{
			"our own object is there":        {nil, nil},
			"somebody else's object is":      {[]byte("theirs, not ours"), blockstore.ErrExists},
			"somebody else's is longer":      {[]byte("ours and more"), blockstore.ErrExists},
			"somebody else wrote the same":   {[]byte("ours"), nil},
			"somebody else's is the half of": {[]byte("ou"), blockstore.ErrExists},
		} {
			store := memblock.New()
			faulty := faultblock.New(store)
			faulty.Fail(faultblock.Fault{Call: faultblock.Commit, Nth: 1, After: c.meanwhile == nil})
			s := retryblock.New(faulty, retryblock.Default())
			w, err := s.Create(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("ours")); err != nil {
				t.Fatal(err)
			}
			if c.meanwhile != nil {
				if err := blockstoretest.Write(t.Context(), store, "k", c.meanwhile); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Commit(t.Context()); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			w.Abort()
		}
	})
}

func TestObjectsTooLargeToKeepFailAtOnce(t *testing.T) {
	faulty := faultblock.New(memblock.New())
	o := retryblock.Default()
	o.Keep = 1000
	s := retryblock.New(faulty, o)
	faulty.Fail(faultblock.Fault{Call: faultblock.Commit, Nth: 1})
	err := blockstoretest.Write(t.Context(), s, "k", make([]byte, 600), make([]byte, 600))
	if !errors.Is(err, blockstore.ErrUnavailable) || faulty.Calls(faultblock.Commit) != 1 {
		t.Errorf("%v after %d commits", err, faulty.Calls(faultblock.Commit))
	}
}
