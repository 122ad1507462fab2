package mongosim

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
)

// FuzzCommands sends a member commands of any form: every one gets a reply, none ends the process.
func FuzzCommands(f *testing.F) {
	for _, d := range []bson.D{
		{{Key: "hello", Value: 1}, {Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: 7}}}, {Key: "maxAwaitTimeMS", Value: -5}},
		{{Key: "serverStatus", Value: 1}, {Key: "oplog", Value: bson.A{}}, {Key: "metrics", Value: 0}},
		{{Key: "aggregate", Value: 1}, {Key: "pipeline", Value: bson.A{bson.D{}}}},
		{{Key: "aggregate", Value: "x"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$collStats", Value: 5}}}}},
		{{Key: "collStats", Value: bson.D{}}, {Key: "scale", Value: -1.5}},
		{{Key: "dbStats", Value: 1}, {Key: "scale", Value: int64(1) << 62}},
		{{Key: "replSetReconfig", Value: bson.D{{Key: "_id", Value: "rs0"}, {Key: "version", Value: 9}, {Key: "members", Value: bson.A{bson.D{}}}}}, {Key: "force", Value: true}},
		{{Key: "replSetStepDown", Value: "soon"}},
		{{Key: "replSetFreeze", Value: 1e300}},
		{{Key: "getParameter", Value: bson.D{}}, {Key: "logLevel", Value: 1}},
		{{Key: "getLog", Value: 1}},
		{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: "yes"}},
		{},
	} {
		raw, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(raw))
	}
	d, err := Start(context.Background(), Options{Load: load.New(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd := bson.Raw(b)
		if cmd.Validate() != nil {
			return
		}
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		for i := range d.Len() {
			if r := d.Member(i).engine().Run(ctx, &engine.Session{}, "admin", cmd); r.Validate() != nil {
				t.Fatalf("%v: %v", cmd, r)
			}
		}
	})
}
