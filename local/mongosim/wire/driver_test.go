package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
)

// member is an engine behind a listener, as a standalone server.
type member struct{ e *engine.Engine }

func (m member) Handle(ctx context.Context, s *engine.Session, db string, cmd bson.Raw) bson.Raw {
	return m.e.Run(ctx, s, db, cmd)
}

// start serves an engine on a free port and says where.
func start(t *testing.T, o Options, eo engine.Options) (addr string, srv *Server) {
	t.Helper()
	e, err := engine.Open(eo)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Handler = member{e}
	srv = New(o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		if err := e.Close(true); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ln.Addr().String(), srv
}

func connect(t *testing.T, addr string, more ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	o := options.Client().ApplyURI("mongodb://" + addr + "/?directConnection=true").SetServerSelectionTimeout(5 * time.Second)
	c, err := mongo.Connect(append([]*options.ClientOptions{o}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return c
}

func TestDriverCRUD(t *testing.T) {
	for _, comp := range []string{"", "snappy", "zlib", "zstd"} {
		t.Run("compressor "+comp, func(t *testing.T) {
			addr, srv := start(t, Options{}, engine.Options{DBPath: t.TempDir(), NoSync: true})
			o := options.Client()
			if comp != "" {
				o.SetCompressors([]string{comp})
			}
			crud(t, connect(t, addr, o))
			if n := srv.Counters().Requests.Load(); n < 10 {
				t.Errorf("requests counted: %d", n)
			}
		})
	}
}

func crud(t *testing.T, client *mongo.Client) {
	t.Helper()
	ctx := context.Background()
	c := client.Database("shop").Collection("plain")
	var docs []any
	for i := range 1000 {
		docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "g", Value: i % 7}, {Key: "s", Value: fmt.Sprintf("text %d", i)}})
	}
	if _, err := c.InsertMany(ctx, docs); err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: 5}}); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("duplicate: %v", err)
	}
	if _, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "g", Value: 1}, {Key: "_id", Value: -1}}}); err != nil {
		t.Fatal(err)
	}
	cur, err := c.Find(ctx, bson.D{{Key: "g", Value: 3}}, options.Find().SetSort(bson.D{{Key: "_id", Value: -1}}).SetBatchSize(10))
	if err != nil {
		t.Fatal(err)
	}
	var found []struct {
		ID int `bson:"_id"`
	}
	if err := cur.All(ctx, &found); err != nil {
		t.Fatal(err)
	}
	if len(found) != 143 || found[0].ID != 997 || found[142].ID != 3 {
		t.Errorf("found %d, first %v", len(found), found[0])
	}
	u, err := c.UpdateMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$lt", Value: 10}}}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
	if err != nil || u.ModifiedCount != 10 {
		t.Errorf("update: %+v %v", u, err)
	}
	var got bson.M
	err = c.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: 3}}, bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: "y"}}}},
		options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&got)
	if err != nil || got["x"] != "y" || got["n"] != int32(1) {
		t.Errorf("findAndModify: %v %v", got, err)
	}
	bw, err := c.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(bson.D{{Key: "_id", Value: 5000}}),
		mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: 5001}}).SetReplacement(bson.D{{Key: "r", Value: 1}}).SetUpsert(true),
		mongo.NewDeleteManyModel().SetFilter(bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: 990}, {Key: "$lt", Value: 1000}}}}),
	}, options.BulkWrite().SetOrdered(false))
	if err != nil || bw.InsertedCount != 1 || bw.UpsertedCount != 1 || bw.DeletedCount != 10 {
		t.Errorf("bulk: %+v %v", bw, err)
	}
	n, err := c.CountDocuments(ctx, bson.D{})
	if err != nil || n != 992 {
		t.Errorf("count: %d %v", n, err)
	}
	var cmdErr mongo.CommandError
	if err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "nosuch", Value: 1}}).Err(); !errors.As(err, &cmdErr) || cmdErr.Code != 59 {
		t.Errorf("unknown command: %v", err)
	}
	names, err := client.ListDatabaseNames(ctx, bson.D{})
	if err != nil || len(names) != 1 || names[0] != "shop" {
		t.Errorf("databases: %v %v", names, err)
	}
	if err := client.Database("shop").Drop(ctx); err != nil {
		t.Error(err)
	}
}
