package chaos

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestServerRefusesWhatItMustNotTouch starts servers on data folders that are not for them. Each says why and leaves the
// folder as it was: put right, it opens.
func TestServerRefusesWhatItMustNotTouch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		spoil  func(t *testing.T, data string) (mend func())
		reason []string
	}{
		{"of a newer heartwood", func(t *testing.T, data string) func() {
			have := minReader(t, data, 99)
			return func() { minReader(t, data, have) }
		}, []string{"newer heartwood", "minReader is 99"}},
		{"without its key", func(t *testing.T, data string) func() {
			key := filepath.Join(data, "gen.key")
			must(t, os.Rename(key, key+".away"))
			return func() {
				if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a new key was made: %v", err)
				}
				must(t, os.Rename(key+".away", key))
			}
		}, []string{"gen.key", "initialised"}},
		{"with another key", func(t *testing.T, data string) func() {
			key := filepath.Join(data, "gen.key")
			must(t, os.Rename(key, key+".away"))
			other := make([]byte, config.KeyBytes)
			_, _ = rand.Read(other)
			must(t, os.WriteFile(key, other, 0o600))
			return func() { must(t, os.Rename(key+".away", key)) }
		}, []string{"another gen.key", "fingerprint"}},
		{"with a key that others can read", func(t *testing.T, data string) func() {
			key := filepath.Join(data, "gen.key")
			must(t, os.Chmod(key, 0o644)) //nolint:gosec // that is the test
			return func() { must(t, os.Chmod(key, 0o600)) }
		}, []string{"lets others read it", "chmod 600"}},
		{"with half a key", func(t *testing.T, data string) func() {
			key := filepath.Join(data, "gen.key")
			whole, err := os.ReadFile(key)
			must(t, err)
			must(t, os.Truncate(key, config.KeyBytes/2))
			return func() { must(t, os.WriteFile(key, whole, 0o600)) }
		}, []string{"12 bytes"}},
		{"of which the database is none", func(t *testing.T, data string) func() {
			file := filepath.Join(data, config.DatabaseFile)
			must(t, os.Rename(file, file+".away"))
			must(t, os.WriteFile(file, []byte(strings.Repeat("This is no database. ", 400)), 0o600))
			return func() { must(t, os.Rename(file+".away", file)) }
		}, []string{config.DatabaseFile}},
	}
	data, base := t.TempDir(), harness.PortBase(t)
	srv := serve(t, data, base)
	must(t, srv.Stop(30*time.Second))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mend := tt.spoil(t, data)
			code, said := harness.Run(t, "serve", "--data", data, "--port-base", strconv.Itoa(base))
			mend()
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			for _, r := range tt.reason {
				if !strings.Contains(said, r) {
					t.Errorf("it says nothing of %q:\n%s", r, said)
				}
			}
		})
	}
	srv = serve(t, data, base)
	t.Run("that is in use", func(t *testing.T) {
		code, said := harness.Run(t, "serve", "--data", data, "--port-base", strconv.Itoa(harness.PortBase(t)))
		if code != 1 || !strings.Contains(said, "already running") {
			t.Errorf("exit code %d:\n%s", code, said)
		}
	})
	must(t, srv.Stop(30*time.Second))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// minReader changes what the site document says a binary must know, as a newer heartwood does, and returns what it was.
func minReader(t *testing.T, data string, version int) (before int) {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(data, config.DatabaseFile)})
	must(t, err)
	defer func() { must(t, e.Close()) }()
	const collection = "site"
	must(t, e.Ensure(t.Context(), []docstore.Collection{{Name: collection}}))
	docs, err := e.Get(t.Context(), collection, "site")
	must(t, err)
	if len(docs) != 1 {
		t.Fatalf("%d site documents", len(docs))
	}
	site, err := store.Decode[store.Site](docs[0])
	must(t, err)
	before, site.MinReader = site.MinReader, version
	body, err := bson.Marshal(site)
	must(t, err)
	results, err := e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: collection, ID: "site", Body: body}}, false)
	must(t, errors.Join(err, results[0].Err))
	return before
}
