package engine

import (
	"context"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// BenchmarkEngine measures single commands on a collection of 20,000 documents of about 1 kB with one index.
func BenchmarkEngine(b *testing.B) {
	for _, disk := range []bool{false, true} {
		o := Options{}
		name := "memory"
		if disk {
			o, name = Options{DBPath: b.TempDir(), NoSync: true}, "journal"
		}
		tick := uint32(0)
		o.NextOpTime = func() OpTime {
			tick++
			return OpTime{TS: bson.Timestamp{T: 1, I: tick}, Term: 1}
		}
		e, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		e.CreateOplog(16 << 20)
		s := &Session{}
		run := func(d bson.D) bson.Raw { return e.Run(context.Background(), s, "db", raw(b, d)) }
		run(bson.D{{Key: "createIndexes", Value: "c"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "t", Value: 1}, {Key: "_id", Value: 1}}}, {Key: "name", Value: "t"}}}}})
		id := func(i int) string { return fmt.Sprintf("host-%05d", i%20000) }
		insert := func(i int) {
			run(bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: fmt.Sprintf("host-%05d", i)}, {Key: "t", Value: int64(i)}, {Key: "b", Value: make([]byte, 1000)}}}}})
		}
		for i := range 20000 {
			insert(i)
		}
		n := 20000
		b.Run(name+"/insert", func(b *testing.B) {
			for b.Loop() {
				insert(n)
				n++
			}
		})
		b.Run(name+"/find by id", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				run(bson.D{{Key: "find", Value: "c"}, {Key: "filter", Value: bson.D{{Key: "_id", Value: id(i)}}}, {Key: "limit", Value: 1}})
			}
		})
		b.Run(name+"/find 100 by index", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				run(bson.D{{Key: "find", Value: "c"}, {Key: "filter", Value: bson.D{{Key: "t", Value: bson.D{{Key: "$gte", Value: i % 19000}}}}}, {Key: "sort", Value: bson.D{{Key: "t", Value: 1}, {Key: "_id", Value: 1}}}, {Key: "limit", Value: 100}})
			}
		})
		b.Run(name+"/replace", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				run(bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: id(i)}}}, {Key: "u", Value: bson.D{{Key: "t", Value: int64(i)}, {Key: "b", Value: make([]byte, 1000)}}}}}}})
			}
		})
		if err := e.Close(false); err != nil {
			b.Fatal(err)
		}
	}
}
