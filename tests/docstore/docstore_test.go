// Package docstore runs the document engine's suite through mongodoc on whatever speaks MongoDB's protocol here: the
// simulator, FerretDB, and the deployment behind HEARTWOOD_TEST_MONGO_URI.
package docstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// deployment is something that speaks MongoDB's protocol.
type deployment struct {
	uri    string
	client *mongo.Client

	mu     sync.Mutex
	opened map[docstore.Engine]mongodoc.Options
	loser  *loser
}

func newDeployment(t *testing.T, uri string) *deployment {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return &deployment{uri: uri, client: client, opened: map[docstore.Engine]mongodoc.Options{}, loser: &loser{}}
}

// open gives an engine on a database of its own that is dropped at the end.
func (d *deployment) open(t *testing.T) docstore.Engine {
	t.Helper()
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	database := "heartwood_test_" + hex.EncodeToString(b)
	t.Cleanup(func() { d.drop(t, database) })
	return d.connect(t, mongodoc.Options{
		URI: d.uri, Database: database,
		Configure: func(o *options.ClientOptions) { o.SetDialer(d.loser) },
	})
}

func (d *deployment) connect(t *testing.T, o mongodoc.Options) docstore.Engine {
	t.Helper()
	e, err := mongodoc.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened[e] = o
	return e
}

// drop removes a database, with one client for all of them.
func (d *deployment) drop(t *testing.T, database string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	if err := d.client.Database(database).Drop(ctx); err != nil {
		t.Logf("drop %s: %v", database, err)
	}
}

// options are the capabilities that every deployment has.
func (d *deployment) options() []docstoretest.Option {
	return []docstoretest.Option{
		docstoretest.Reopen(func(t *testing.T, e docstore.Engine) docstore.Engine {
			d.mu.Lock()
			o := d.opened[e]
			d.mu.Unlock()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			return d.connect(t, o)
		}),
		docstoretest.LoseAnswer(func(*testing.T, docstore.Engine) { d.loser.armed.Store(true) }),
	}
}

// loser dials connections that, once armed, let the next insert or update through and lose its answer.
type loser struct {
	net.Dialer
	armed atomic.Bool
}

// DialContext is the driver's options.ContextDialer.
func (l *loser) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := l.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &losingConn{Conn: c, loser: l}, nil
}

type losingConn struct {
	net.Conn
	loser *loser
	lost  atomic.Bool
}

func (c *losingConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\x02insert\x00")) || bytes.Contains(b, []byte("\x02update\x00")) {
		if c.loser.armed.Swap(false) {
			c.lost.Store(true)
		}
	}
	return c.Conn.Write(b)
}

func (c *losingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.lost.Load() {
		// The answer is here, so the work is done; nobody gets to see it.
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func TestDeployment(t *testing.T) {
	uri := os.Getenv("HEARTWOOD_TEST_MONGO_URI")
	if uri == "" {
		missing(t, "mongo", "HEARTWOOD_TEST_MONGO_URI is not set")
	}
	d := newDeployment(t, uri)
	docstoretest.Run(t, d.open, d.options()...)
}
