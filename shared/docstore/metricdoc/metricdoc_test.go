package metricdoc_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/metricdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
)

func sqlite(t *testing.T) docstore.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	docstoretest.Run(t, func(t *testing.T) docstore.Engine {
		e, err := metricdoc.New(sqlite(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

func TestCounts(t *testing.T) {
	reg := prometheus.NewRegistry()
	broken := faultdoc.New(sqlite(t))
	e, err := metricdoc.New(broken, reg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metricdoc.New(broken, reg); err != nil {
		t.Fatalf("a second engine on one registry: %v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	ctx := t.Context()
	if err := e.Ensure(ctx, []docstore.Collection{{Name: "a"}, {Name: "b"}}); err != nil {
		t.Fatal(err)
	}
	body, _ := bson.Marshal(bson.D{})
	batch := []docstore.Op{
		{Kind: docstore.Insert, Collection: "a", ID: "1", Body: body},
		{Kind: docstore.Insert, Collection: "a", ID: "1", Body: body},
		{Kind: docstore.Insert, Collection: "b", ID: "1", Body: body},
		{Kind: docstore.Insert, Collection: "anything", ID: "1", Body: body},
	}
	_, _ = e.Write(ctx, batch, false)
	_, _ = e.Get(ctx, "a", "1", "2")
	_, _ = e.Get(ctx, "whatever the caller says", "1")
	_, _ = e.Scan(ctx, docstore.Query{Collection: "b"})
	broken.Off(nil)
	_, _ = e.Write(ctx, batch[:1], false)
	_, _ = e.DeleteRange(ctx, "a", "", "", 1)
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP heartwood_docstore_documents_total Documents read, written or deleted.
# TYPE heartwood_docstore_documents_total counter
heartwood_docstore_documents_total{collection="a",operation="get"} 1
heartwood_docstore_documents_total{collection="a",operation="write"} 1
heartwood_docstore_documents_total{collection="b",operation="scan"} 1
heartwood_docstore_documents_total{collection="b",operation="write"} 1
# HELP heartwood_docstore_errors_total Failed database operations and failed writes of one document, by kind.
# TYPE heartwood_docstore_errors_total counter
heartwood_docstore_errors_total{collection="",kind="collection",operation="get"} 1
heartwood_docstore_errors_total{collection="",kind="collection",operation="write"} 1
heartwood_docstore_errors_total{collection="a",kind="exists",operation="write"} 1
heartwood_docstore_errors_total{collection="a",kind="unavailable",operation="delete_range"} 1
heartwood_docstore_errors_total{collection="a",kind="unavailable",operation="write"} 1
`), "heartwood_docstore_documents_total", "heartwood_docstore_errors_total")
	if err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(reg, "heartwood_docstore_operation_seconds"); n == 0 {
		t.Error("no times")
	}
}
