package sqlitedoc

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func benchEngine(b *testing.B, pageSize int) *Engine {
	b.Helper()
	e, err := Open(Options{Path: filepath.Join(b.TempDir(), "bench.db"), pageSize: pageSize})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	err = e.Ensure(b.Context(), []docstore.Collection{
		{Name: "last"}, {Name: "rows"}, {Name: "status", Indexes: []docstore.Index{
			{Name: "group", Fields: []docstore.Field{{Name: "g", Kind: docstore.String}, {Name: "t", Kind: docstore.Time}}},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func body(b testing.TB, n int) bson.Raw {
	b.Helper()
	fill := make([]byte, n)
	_, _ = rand.Read(fill)
	raw, err := bson.Marshal(bson.D{{Key: "g", Value: "group"}, {Key: "t", Value: time.UnixMilli(1e12)}, {Key: "d", Value: fill}})
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

// BenchmarkPing writes what one ping writes: the last ping of 20 kB replaced, a row added, a status replaced, for 10,000
// hosts in turn.
func BenchmarkPing(b *testing.B) {
	for _, size := range []int{4096, 8192, 16384} {
		b.Run(fmt.Sprintf("page=%d", size), func(b *testing.B) {
			e := benchEngine(b, size)
			large, row, small := body(b, 20_000), body(b, 1500), body(b, 300)
			var n atomic.Int64
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					host := fmt.Sprintf("%032x", uint64(i%10_000)*0x9E3779B97F4A7C15)
					res, err := e.Write(context.Background(), []docstore.Op{
						{Kind: docstore.Put, Collection: "last", ID: host, Body: large},
						{Kind: docstore.Put, Collection: "rows", ID: fmt.Sprintf("%s/%013d", host, i), Body: row},
						{Kind: docstore.Put, Collection: "status", ID: host, Body: small},
					}, false)
					if err != nil || res[0].Err != nil {
						b.Error(err, res)
					}
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	e := benchEngine(b, 0)
	fillRows(b, e, 10_000, 400)
	b.ResetTimer()
	for i := range b.N {
		if _, err := e.Get(b.Context(), "rows", fmt.Sprintf("%08d", i%10_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan10000(b *testing.B) {
	e := benchEngine(b, 0)
	fillRows(b, e, 10_000, 400)
	b.ResetTimer()
	for range b.N {
		p, err := e.Scan(b.Context(), docstore.Query{Collection: "rows", Limit: 10_000})
		if err != nil || len(p.Docs) != 10_000 || p.Next != "" {
			b.Fatal(err, len(p.Docs))
		}
	}
}

func BenchmarkScanIndex1000(b *testing.B) {
	e := benchEngine(b, 0)
	doc := body(b, 400)
	ops := make([]docstore.Op, 10_000)
	for i := range ops {
		ops[i] = docstore.Op{Kind: docstore.Insert, Collection: "status", ID: fmt.Sprintf("%08d", i), Body: doc}
	}
	if _, err := e.Write(b.Context(), ops, false); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		p, err := e.Scan(b.Context(), docstore.Query{Collection: "status", Index: "group", Prefix: []any{"group"}, Descending: true})
		if err != nil || len(p.Docs) != 1000 || p.Next == "" {
			b.Fatal(err, len(p.Docs))
		}
	}
}

// BenchmarkWriteAlone is one writer's small put: the cost of a sync.
func BenchmarkWriteAlone(b *testing.B) {
	e := benchEngine(b, 0)
	doc := body(b, 300)
	b.ResetTimer()
	for i := range b.N {
		_, err := e.Write(b.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "rows", ID: fmt.Sprintf("%08d", i%1000), Body: doc}}, true)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func fillRows(b *testing.B, e *Engine, n, size int) {
	b.Helper()
	doc := body(b, size)
	ops := make([]docstore.Op, n)
	for i := range ops {
		ops[i] = docstore.Op{Kind: docstore.Insert, Collection: "rows", ID: fmt.Sprintf("%08d", i), Body: doc}
	}
	if _, err := e.Write(b.Context(), ops, false); err != nil {
		b.Fatal(err)
	}
}
