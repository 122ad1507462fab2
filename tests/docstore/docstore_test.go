// Package docstore runs the document engine's suite through mongodoc on whatever speaks MongoDB's protocol here: the
// simulator, FerretDB, and the deployment behind HEARTWOOD_TEST_MONGO_URI.
package docstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
)

// missing skips a test for want of a tool, unless HEARTWOOD_TEST_REQUIRE names the tool.
func missing(t *testing.T, tool, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("HEARTWOOD_TEST_REQUIRE"), ","), tool) {
		t.Fatalf("%s is required: %s", tool, why)
	}
	t.Skip(why)
}

// opener gives engines on a deployment, each on a database of its own that is dropped at the end.
func opener(uri string, change ...func(*mongodoc.Options)) func(t *testing.T) docstore.Engine {
	return func(t *testing.T) docstore.Engine {
		t.Helper()
		b := make([]byte, 6)
		_, _ = rand.Read(b)
		o := mongodoc.Options{URI: uri, Database: "heartwood_test_" + hex.EncodeToString(b)}
		for _, c := range change {
			c(&o)
		}
		e, err := mongodoc.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = e.Close()
			drop(t, uri, o.Database)
		})
		return e
	}
}

func drop(t *testing.T, uri, database string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Disconnect(ctx) }()
	if err := c.Database(database).Drop(ctx); err != nil {
		t.Logf("drop %s: %v", database, err)
	}
}

func TestDeployment(t *testing.T) {
	uri := os.Getenv("HEARTWOOD_TEST_MONGO_URI")
	if uri == "" {
		missing(t, "mongo", "HEARTWOOD_TEST_MONGO_URI is not set")
	}
	docstoretest.Run(t, opener(uri))
}
