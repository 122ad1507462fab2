package work

import (
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// TestNoTwoHaveOneName is the catalogue of a read that listed twice, with collections that were dropped and made again meanwhile.
func TestNoTwoHaveOneName(t *testing.T) {
	id := func(n byte) oplog.UUID { return oplog.UUID{15: n} }
	read := []schema.Collection{
		{UUID: id(1), NS: "db.once"},
		{UUID: id(2), NS: "db.twice"},
		{UUID: id(4), NS: "db.system.buckets.t"},
		{UUID: id(5), NS: "db.system.buckets.t"},
		{UUID: id(6), NS: "db.twice"},
		{UUID: id(7), NS: "db.system.buckets.alone"},
	}
	create := func(n int32, u oplog.UUID) bson.Raw {
		raw, err := bson.Marshal(bson.D{
			{Key: "op", Value: "c"},
			{Key: "ns", Value: "db.$cmd"},
			{Key: "ui", Value: bson.Binary{Subtype: 4, Data: u[:]}},
			{Key: "o", Value: bson.D{{Key: "create", Value: "system.buckets.t"}}},
			{Key: "ts", Value: bson.Timestamp{T: uint32(n)}},
			{Key: "t", Value: int64(1)},
			{Key: "v", Value: int64(2)}, //nolint:gosec // small
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	window := func() iter.Seq2[bson.Raw, error] {
		return func(yield func(bson.Raw, error) bool) {
			_ = yield(create(1, id(5)), nil) && yield(create(2, id(4)), nil)
		}
	}
	got, err := ownNames(read, window)
	if err != nil {
		t.Fatal(err)
	}
	want := []schema.Collection{
		{UUID: id(1), NS: "db.once"},
		{UUID: id(2), NS: "db.heartwood.aside." + id(2).String()},
		{UUID: id(4), NS: "db.system.buckets.t"},
		{UUID: id(6), NS: "db.heartwood.aside." + id(6).String()},
		{UUID: id(7), NS: "db.system.buckets.alone"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := schema.New(got...); err != nil {
		t.Error(err)
	}
}
