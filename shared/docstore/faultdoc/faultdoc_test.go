package faultdoc_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
)

func sqlite(t *testing.T) docstore.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEngine(t *testing.T) {
	docstoretest.Run(t, func(t *testing.T) docstore.Engine { return faultdoc.New(sqlite(t)) },
		docstoretest.Away(func(_ *testing.T, e docstore.Engine) func() {
			f := e.(*faultdoc.Engine)
			f.Off(nil)
			return f.On
		}),
		docstoretest.LoseAnswer(func(_ *testing.T, e docstore.Engine) {
			e.(*faultdoc.Engine).Fail(faultdoc.Fault{Call: faultdoc.Write, Nth: 1, After: true})
		}))
}

func TestFaults(t *testing.T) {
	e := faultdoc.FailNth(sqlite(t), 2)
	if err := e.Ensure(t.Context(), []docstore.Collection{{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	body, _ := bson.Marshal(bson.D{})
	put := func(id string) error {
		res, err := e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "a", ID: id, Body: body}}, true)
		if !errors.Is(res[0].Err, err) {
			t.Errorf("write %s: batch %v, result %v", id, err, res[0].Err)
		}
		return err
	}
	for i, want := range []error{nil, docstore.ErrUnavailable, nil} {
		if err := put(string(rune('a' + i))); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i+1, err, want)
		}
	}
	mine := errors.New("mine")
	e.Fail(faultdoc.Fault{Call: faultdoc.Get, Err: mine}) // every one
	e.Fail(faultdoc.Fault{
		Call: faultdoc.Write, Nth: 1, After: true,
		Match: func(ops []docstore.Op) bool { return ops[0].ID == "e" },
	})
	if err := put("d"); err != nil {
		t.Errorf("a write that does not match: %v", err)
	}
	if err := put("e"); !errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("a write that matches: %v", err)
	}
	for range 2 {
		if _, err := e.Get(t.Context(), "a", "a"); !errors.Is(err, mine) {
			t.Errorf("get: %v", err)
		}
	}
	e.Off(nil)
	if _, err := e.Now(t.Context()); !errors.Is(err, docstore.ErrUnavailable) {
		t.Errorf("switched off: %v", err)
	}
	e.On()
	docs, err := e.Get(t.Context(), "a", "a", "b", "c", "d", "e")
	if err != nil || len(docs) != 4 {
		t.Errorf("switched on: %d documents, %v", len(docs), err)
	}
	if e.Calls(faultdoc.Write) != 5 || e.Calls(faultdoc.Get) != 3 || e.Calls(faultdoc.Any) != 10 {
		t.Errorf("%d writes, %d gets, %d calls", e.Calls(faultdoc.Write), e.Calls(faultdoc.Get), e.Calls(faultdoc.Any))
	}
}

// fixed answers Now only.
type fixed struct{ docstore.Engine }

func (fixed) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := faultdoc.New(fixed{})
		e.Fail(faultdoc.Fault{Call: faultdoc.Now, Delay: time.Hour})
		start := time.Now()
		now, err := e.Now(t.Context())
		if err != nil || now.Sub(start) != time.Hour {
			t.Errorf("after %v: %v", now.Sub(start), err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := e.Now(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("cut short after %v: %v", time.Since(start), err)
		}
	})
}
