package collect

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// oplogCommands measure the oplog: its size, and its bounds where serverStatus does not tell them.
func oplogCommands() []command {
	return []command{
		{
			name: "oplogStats", title: "collStats local.oplog.rs", db: "local", on: bearing, every: minutely,
			right: "collStats on local.oplog.rs", cmd: oplogStats, shape: shapeOplogStats,
			// Should a version drop the command, the aggregation stage has the same figures.
			retry: func(h *Host, code int32) bool {
				if code != codeCommandNotFound || h.statsByAggregate {
					return false
				}
				h.statsByAggregate = true
				return true
			},
		},
		{
			name: "oplogBounds", title: "find local.oplog.rs", db: "local", on: bearing, every: minutely,
			right: "find on local.oplog.rs", cmd: func(*Host) bson.D { return oplogEnd(1) },
			wanted: func(h *Host, _ Flags) bool { return !h.sampleHasOplog }, shape: oplogBounds,
		},
	}
}

func oplogStats(h *Host) bson.D {
	if !h.statsByAggregate {
		return bson.D{{Key: "collStats", Value: "oplog.rs"}}
	}
	return bson.D{
		{Key: "aggregate", Value: "oplog.rs"},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "storageStats", Value: bson.D{}}}}}}},
		{Key: "cursor", Value: bson.D{}},
	}
}

func shapeOplogStats(_ context.Context, s *session, reply bson.Raw) (bson.Raw, error) {
	if !s.host.statsByAggregate {
		return reply, nil
	}
	stats, ok := reply.Lookup("cursor", "firstBatch", "0", "storageStats").DocumentOK()
	if !ok {
		return nil, errors.New("the reply of $collStats has no storageStats")
	}
	return stats, nil
}

// oplogEnd asks for the oldest (1) or newest (-1) entry's times.
func oplogEnd(direction int) bson.D {
	return bson.D{
		{Key: "find", Value: "oplog.rs"},
		{Key: "filter", Value: bson.D{}},
		{Key: "projection", Value: bson.D{{Key: "ts", Value: 1}, {Key: "wall", Value: 1}}},
		{Key: "sort", Value: bson.D{{Key: "$natural", Value: direction}}},
		{Key: "limit", Value: 1},
		{Key: "singleBatch", Value: true},
	}
}

// oplogBounds joins the oldest entry, which it is given, and the newest, which it asks for, into {first, last}.
func oplogBounds(ctx context.Context, s *session, reply bson.Raw) (bson.Raw, error) {
	newest, err := s.run(ctx, perSample, "local", oplogEnd(-1))
	if err != nil {
		return nil, err
	}
	first, okFirst := reply.Lookup("cursor", "firstBatch", "0").DocumentOK()
	last, okLast := newest.Lookup("cursor", "firstBatch", "0").DocumentOK()
	if !okFirst || !okLast {
		return nil, nil // an empty oplog has no bounds
	}
	at, doc := bsoncore.AppendDocumentStart(nil)
	doc = bsoncore.AppendDocumentElement(doc, "first", bsoncore.Document(first))
	doc = bsoncore.AppendDocumentElement(doc, "last", bsoncore.Document(last))
	doc, err = bsoncore.AppendDocumentEnd(doc, at)
	return bson.Raw(doc), err
}
