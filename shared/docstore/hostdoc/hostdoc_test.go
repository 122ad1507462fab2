package hostdoc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// through reaches an engine by messages, as a guest does, and checks that neither side keeps the other's bytes.
func through(host docstore.Engine) *Engine {
	return New(func(ctx context.Context, request []byte) ([]byte, error) {
		request = bytes.Clone(request)
		answer := Serve(ctx, host, request)
		clear(request)
		return answer, nil
	})
}

func sqlite(t testing.TB, path string) docstore.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEngineThroughMessages(t *testing.T) {
	docstoretest.Run(t, func(t *testing.T) docstore.Engine { return through(sqlite(t, filepath.Join(t.TempDir(), "x.db"))) })
}

func TestErrorsStayWhatTheyAre(t *testing.T) {
	host := faultdoc.New(sqlite(t, filepath.Join(t.TempDir(), "x.db")))
	e := through(host)
	for _, want := range []error{
		docstore.ErrFull, docstore.ErrUnavailable, docstore.ErrOutcomeUnknown, context.DeadlineExceeded,
		fmt.Errorf("scan: %w", docstore.ErrCollection), errors.New("something else"),
		opererr.New("open", errors.Join(docstore.ErrUnavailable, docstore.ErrFull), "make room"),
	} {
		host.Fail(faultdoc.Fault{Nth: 1, Err: want})
		_, err := e.Now(t.Context())
		if err == nil || !strings.Contains(err.Error(), want.Error()) || opererr.HintOf(err) != opererr.HintOf(want) {
			t.Errorf("%v became %v (hint %q)", want, err, opererr.HintOf(err))
		}
		for _, s := range sentinels() {
			if errors.Is(err, s) != errors.Is(want, s) {
				t.Errorf("%v: is %v: %v", want, s, errors.Is(err, s))
			}
		}
	}
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	dead := New(func(context.Context, []byte) ([]byte, error) { return nil, errors.New("gone") })
	results, err := dead.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "c", ID: "1"}}, true)
	if !errors.Is(err, docstore.ErrUnavailable) || len(results) != 1 || results[0].Err == nil {
		t.Errorf("%v %v", results, err)
	}
	garbled := New(func(context.Context, []byte) ([]byte, error) { return []byte{9, 9}, nil })
	if _, err := garbled.Now(t.Context()); !errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("%v", err)
	}
}

func TestTheCallersDeadlineIsTheHosts(t *testing.T) {
	var left time.Duration
	e := New(func(_ context.Context, request []byte) ([]byte, error) {
		return Serve(context.Background(), deadline{func(d time.Duration) { left = d }}, request), nil
	})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if _, err := e.Now(ctx); err != nil || left < 50*time.Second || left > time.Minute {
		t.Errorf("%v left, %v", left, err)
	}
}

// deadline tells how long a call may take.
type deadline struct{ tell func(time.Duration) }

func (d deadline) Now(ctx context.Context) (time.Time, error) {
	end, _ := ctx.Deadline()
	d.tell(time.Until(end))
	return time.Now(), nil
}
func (deadline) Ensure(context.Context, []docstore.Collection) error { return nil }
func (deadline) Get(context.Context, string, ...string) ([]docstore.Doc, error) {
	return nil, nil
}

func (deadline) Write(context.Context, []docstore.Op, bool) ([]docstore.Result, error) {
	return nil, nil
}

func (deadline) Scan(context.Context, docstore.Query) (docstore.Page, error) {
	return docstore.Page{}, nil
}
func (deadline) Count(context.Context, docstore.Query, int) (int, error) { return 0, nil }
func (deadline) DeleteRange(context.Context, string, string, string, int) (int, error) {
	return 0, nil
}
func (deadline) Close() error { return nil }

// FuzzServe gives the host any bytes: it must answer, whatever they are, and a request it takes must mean the same when it is
// written again.
func FuzzServe(f *testing.F) {
	body, err := bson.Marshal(bson.D{{Key: "s", Value: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	record := New(func(_ context.Context, request []byte) ([]byte, error) {
		f.Add(bytes.Clone(request))
		return nil, errors.New("recorded")
	})
	ctx := context.Background()
	_ = record.Ensure(ctx, []docstore.Collection{{Name: "c", Indexes: []docstore.Index{{Name: "i", Fields: []docstore.Field{{Name: "s", Kind: docstore.String}}}}}})
	_, _ = record.Get(ctx, "c", "1", "2")
	_, _ = record.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: "c", ID: "1", Body: body}, {Kind: docstore.Delete, Collection: "c", ID: "2", Rev: 3}}, true)
	_, _ = record.Scan(ctx, docstore.Query{Collection: "c", Index: "i", Prefix: []any{"x", int64(1), true, time.UnixMilli(5)}, Low: "a", Descending: true, Limit: 7})
	_, _ = record.Count(ctx, docstore.Query{Collection: "c"}, 10)
	_, _ = record.DeleteRange(ctx, "c", "a", "b", 10)
	_, _ = record.Now(ctx)
	host := deadline{func(time.Duration) {}}
	f.Fuzz(func(t *testing.T, request []byte) {
		answer := Serve(t.Context(), host, request)
		if len(answer) == 0 {
			t.Error("no answer")
		}
	})
}

func BenchmarkScan(b *testing.B) {
	host := sqlite(b, filepath.Join(b.TempDir(), "x.db"))
	if err := host.Ensure(b.Context(), []docstore.Collection{{Name: "c"}}); err != nil {
		b.Fatal(err)
	}
	body, err := bson.Marshal(bson.D{{Key: "s", Value: strings.Repeat("x", 300)}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		if _, err := host.Write(b.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "c", ID: fmt.Sprint(i), Body: body}}, true); err != nil {
			b.Fatal(err)
		}
	}
	for name, e := range map[string]docstore.Engine{"direct": host, "through": through(host)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := e.Scan(b.Context(), docstore.Query{Collection: "c"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
