package sqlitedoc

import (
	"path/filepath"
	"testing"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
)

func open(t *testing.T, o Options) *Engine {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "heartwood.db")
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEngine(t *testing.T) {
	docstoretest.Run(t, func(t *testing.T) docstore.Engine { return open(t, Options{}) },
		docstoretest.Reopen(func(t *testing.T, e docstore.Engine) docstore.Engine {
			path := e.(*Engine).Path()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, Options{Path: path})
		}))
}
