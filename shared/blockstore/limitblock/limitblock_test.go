package limitblock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/limitblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(*testing.T) blockstore.Store {
		return limitblock.New(memblock.New(), limitblock.Options{Calls: 1, BytesPerSecond: 10 << 30})
	})
}

func TestBytesPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limitblock.New(memblock.New(), limitblock.Options{BytesPerSecond: 1 << 20})
		start := time.Now()
		if err := blockstoretest.Write(t.Context(), s, "k", make([]byte, 10<<20)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 8*time.Second || took > 11*time.Second { // the first second is a gift
			t.Errorf("10 MiB written at 1 MiB/s took %v", took)
		}
		start = time.Now()
		if _, err := blockstoretest.Read(t.Context(), s, "k", 0, -1); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB read at 1 MiB/s took %v", took)
		}
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		defer stop()
		start = time.Now()
		if _, err := blockstoretest.Read(ctx, s, "k", 0, -1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
			t.Errorf("a caller in a hurry: %v after %v", err, time.Since(start))
		}
	})
}

func TestCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := faultblock.New(memblock.New())
		slow.Fail(faultblock.Fault{Call: faultblock.Stat, Delay: time.Second})
		s := limitblock.New(slow, limitblock.Options{Calls: 3})
		start := time.Now()
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() {
				if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, blockstore.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("nine calls of a second, three at once, took %v", took)
		}
	})
}
