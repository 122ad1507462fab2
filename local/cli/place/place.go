// Package place is where a site's database is: what a LOCATION of the `heartwood store` commands means, and how it is opened.
package place

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Place is where a site is: a file or a replica set.
type Place struct {
	file     string
	site     bool // the file is a site's own, not a backup
	uri      string
	database string
}

// OfSettings is the database of the settings.
func OfSettings(s *config.Server) Place {
	if s.Embedded() {
		return Place{file: filepath.Join(s.DataDir, config.DatabaseFile), site: true}
	}
	return Place{uri: s.ConnectionString(s.MongoURI), database: s.MongoDatabase}
}

// Parse understands a LOCATION: a data folder, a file, or a connection string.
func Parse(location string) (Place, error) {
	if strings.HasPrefix(location, "mongodb://") || strings.HasPrefix(location, "mongodb+srv://") {
		return Place{uri: location, database: cmp.Or(config.URIDatabase(location), "heartwood")}, nil
	}
	if strings.Contains(location, "://") {
		return Place{}, exit.Usagef("heartwood store copy --to mongodb://a,b,c/?replicaSet=rs0", "%q is no location", location)
	}
	info, err := os.Stat(location)
	switch {
	case err == nil && info.IsDir(), errors.Is(err, os.ErrNotExist) && filepath.Ext(location) == "":
		return Place{file: filepath.Join(location, config.DatabaseFile), site: true}, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return Place{}, opererr.New("look at "+location, err, "")
	}
	return Place{file: location, site: filepath.Base(location) == config.DatabaseFile}, nil
}

// String names the place without secrets.
func (p Place) String() string {
	if p.file != "" {
		return p.file
	}
	return config.BareURI(p.uri, p.database)
}

// Open opens the place to write to, or to read from while nobody else writes.
func (p Place) Open() (docstore.Engine, error) {
	if p.uri != "" {
		return mongodoc.Open(mongodoc.Options{URI: p.uri, Database: p.database})
	}
	return sqlitedoc.Open(sqlitedoc.Options{Path: p.file})
}

// OpenSource opens the place to read from. beside permits reading a file that a running server owns.
func (p Place) OpenSource(beside bool, note io.Writer) (docstore.Engine, error) {
	if p.uri != "" {
		return p.Open()
	}
	if _, err := os.Stat(p.file); err != nil {
		return nil, opererr.New("open the database "+p.file, err, "Name the data folder with --data, or the database with --mongo-uri.")
	}
	if p.site {
		e, err := p.Open()
		if !errors.Is(err, sqlitedoc.ErrLocked) {
			return e, err
		}
		if !beside {
			return nil, opererr.New("open the database "+p.file, fmt.Errorf("the server is running: %w", err),
				"Stop it first (heartwood stop), or make a backup while it runs (heartwood store backup FILE) and use that.")
		}
		_, _ = fmt.Fprintf(note, "the server is running on %s: reading beside it\n", p.file)
	}
	return sqlitedoc.Open(sqlitedoc.Options{Path: p.file, ReadOnly: true})
}

// NoneRunning refuses a replica set on which servers are at work: what is read one after the other would not fit together.
func (p Place) NoneRunning(ctx context.Context, e docstore.Engine, live bool) error {
	if p.uri == "" || live {
		return nil // who owns the file is alone with it
	}
	running, err := store.ReadInstances(ctx, e)
	if err != nil || len(running) == 0 {
		return err
	}
	names := make([]string, len(running))
	for i, in := range running {
		names[i] = in.Hostname
	}
	return opererr.New("read "+p.String(), fmt.Errorf("servers are running on it: %s", strings.Join(names, ", ")),
		"Stop them (an instance counts as stopped two minutes after its last sign of life), or use --live: documents written meanwhile may then be missing.")
}
