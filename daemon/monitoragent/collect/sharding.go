package collect

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// shardingCommands read the cluster's metadata, through a mongos or on a config server: any one process of a cluster leads to
// all others.
func shardingCommands() []command {
	var all []command
	for _, c := range []struct {
		name, collection string
		sort             bson.D
	}{
		{name: "configShards", collection: "shards"},
		// Routers that are long gone stay listed: the newest are the live ones.
		{name: "configMongos", collection: "mongos", sort: bson.D{{Key: "ping", Value: -1}}},
		{name: "configVersion", collection: "version"},
		{name: "configSettings", collection: "settings"},
	} {
		find := bson.D{{Key: "find", Value: c.collection}, {Key: "filter", Value: bson.D{}}}
		if c.sort != nil {
			find = append(find, bson.E{Key: "sort", Value: c.sort})
		}
		find = append(find, bson.E{Key: "limit", Value: 1000}, bson.E{Key: "batchSize", Value: 1000}, bson.E{Key: "singleBatch", Value: true})
		all = append(all, command{
			name: c.name, title: "find config." + c.collection, db: "config", on: bearing | of(discover.Mongos), every: fiveMin,
			slow: true, cmd: static(find), shape: docs, right: "find on config." + c.collection,
			wanted: func(h *Host, _ Flags) bool { return h.facts.Role == discover.Mongos || h.facts.ConfigServer },
		})
	}
	return all
}

// docs keeps the documents of a cursor's first batch, under "docs".
func docs(_ context.Context, _ *session, reply bson.Raw) (bson.Raw, error) {
	batch, ok := reply.Lookup("cursor", "firstBatch").ArrayOK()
	if !ok {
		return nil, nil
	}
	at, doc := bsoncore.AppendDocumentStart(nil)
	doc = bsoncore.AppendArrayElement(doc, "docs", bsoncore.Array(batch))
	doc, err := bsoncore.AppendDocumentEnd(doc, at)
	return bson.Raw(doc), err
}
