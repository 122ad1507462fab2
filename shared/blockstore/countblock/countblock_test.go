package countblock_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/countblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store {
		s, err := countblock.New(memblock.New(), "s1", nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestCounts(t *testing.T) {
	reg := prometheus.NewRegistry()
	faulty := faultblock.New(memblock.New())
	s, err := countblock.New(faulty, "s1", reg)
	if err != nil {
		t.Fatal(err)
	}
	other, err := countblock.New(memblock.New(), "s2", reg)
	if err != nil {
		t.Fatalf("a second store on one registry: %v", err)
	}
	ctx := t.Context()
	for _, s := range []blockstore.Store{s, other} {
		if err := blockstoretest.Write(ctx, s, "k", make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	_ = blockstoretest.Write(ctx, s, "k", make([]byte, 1000)) // exists: no bytes
	_, _ = blockstoretest.Read(ctx, s, "k", 100, 50)
	_, _ = s.Stat(ctx, "absent")
	faulty.Fail(faultblock.Fault{Call: faultblock.Write, Nth: 1, Err: blockstore.ErrNoSpace})
	_ = blockstoretest.Write(ctx, s, "full", make([]byte, 10))
	faulty.Fail(faultblock.Fault{Call: faultblock.Read, Nth: 1})
	_, _ = blockstoretest.Read(ctx, s, "k", 0, -1)
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP heartwood_blockstore_bytes_total Bytes moved by a block store: read, or written and committed.
# TYPE heartwood_blockstore_bytes_total counter
heartwood_blockstore_bytes_total{direction="read",store="s1"} 50
heartwood_blockstore_bytes_total{direction="written",store="s1"} 1000
heartwood_blockstore_bytes_total{direction="written",store="s2"} 1000
# HELP heartwood_blockstore_errors_total Failed operations of a block store, by kind.
# TYPE heartwood_blockstore_errors_total counter
heartwood_blockstore_errors_total{kind="exists",operation="write",store="s1"} 1
heartwood_blockstore_errors_total{kind="no_space",operation="write",store="s1"} 1
heartwood_blockstore_errors_total{kind="not_found",operation="stat",store="s1"} 1
heartwood_blockstore_errors_total{kind="unavailable",operation="read",store="s1"} 1
`), "heartwood_blockstore_bytes_total", "heartwood_blockstore_errors_total")
	if err != nil {
		t.Error(err)
	}
}
