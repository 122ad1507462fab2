package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const (
	collSite = "site"
	siteID   = "site"
	copyID   = "copy" // present while `store copy` fills this database
)

var siteCollection = docstore.Collection{Name: collSite}

// Site is the one document that says what a database is: written whole when the site is made, so that there is no such
// thing as a half-made site.
type Site struct {
	ID          model.ID  `bson:"id"`
	Fingerprint string    `bson:"fingerprint"` // of gen.key
	Schema      int       `bson:"schema"`      // version of the newest migration that was completed
	MinReader   int       `bson:"minReader"`   // oldest schema version a binary must know to work on this database
	Created     time.Time `bson:"created"`
	Updated     time.Time `bson:"updated"`
	By          string    `bson:"by"` // version of the binary that wrote last
}

// Site returns the site document.
func (s *Store) Site(ctx context.Context) (Site, error) { return Get[Site](ctx, s, collSite, siteID) }

// checkSite refuses a database that this binary must not touch. A database without a site document is fine.
func (s *Store) checkSite(ctx context.Context) error {
	docs, err := s.engine.Get(ctx, collSite, copyID)
	if err != nil {
		return fmt.Errorf("read the site: %w", err)
	}
	if len(docs) > 0 {
		return opererr.New("open the database", errors.New("it holds a copy of a site that was not completed"),
			"Run the same `heartwood store copy` again: it goes on where it ended.")
	}
	site, err := s.Site(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.judge(site)
}

// judge says whether this binary with this key may work on the site.
func (s *Store) judge(site Site) error {
	if site.MinReader > s.schema {
		return opererr.New("open the database",
			fmt.Errorf("it needs a newer heartwood: minReader is %d (last written by version %s), this binary (version %s) knows schema %d",
				site.MinReader, site.By, s.version, s.schema),
			fmt.Sprintf("Install heartwood %s or later here, or go back to the backup made before the upgrade.", site.By))
	}
	if got := s.box.Fingerprint(); site.Fingerprint != got {
		return opererr.New("open the database",
			fmt.Errorf("its secrets were encrypted with another gen.key (fingerprint %s, the key here has %s)", site.Fingerprint, got),
			"Put the gen.key that belongs to this database in place; every server of a site uses the same file. Without it stored credentials cannot be read.")
	}
	return nil
}

// CheckNoKey says whether a site's gen.key, which is missing, may be made new: nil when the database holds no site yet.
// Beside an initialised database a new key would be worthless, so that is refused; path is where the key was looked for.
func CheckNoKey(ctx context.Context, e docstore.Engine, path string) error {
	site, unfinished, err := ReadSite(ctx, e)
	if errors.Is(err, ErrNotFound) && !unfinished {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return opererr.New("open the database",
		fmt.Errorf("there is no key file %s, but the database is initialised (key fingerprint %s)", path, site.Fingerprint),
		"Put the gen.key that belongs to this database there, from another server of the site or from your backup of it. Without it stored credentials cannot be read.")
}

// initSite makes a new site, once, whoever comes first.
func (s *Store) initSite(ctx context.Context) error {
	if _, err := s.Site(ctx); err == nil {
		return nil
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	minReader := BaseSchema
	for _, m := range s.migrations {
		minReader = max(minReader, m.MinReader)
	}
	site := Site{
		ID: model.NewID(), Fingerprint: s.box.Fingerprint(), Schema: s.schema, MinReader: minReader,
		Created: now, Updated: now, By: s.version,
	}
	err = Insert(ctx, s, collSite, siteID, site)
	if errors.Is(err, ErrExists) {
		return s.checkSite(ctx) // another server was first, perhaps with another key
	}
	if err != nil {
		return fmt.Errorf("initialise the database: %w", err)
	}
	s.log.InfoContext(ctx, "database initialised", obs.KeyVersion, s.version, obs.KeyKey, site.Fingerprint)
	return nil
}

// Now is the engine's clock, the one all processes share.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now, err := s.engine.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	return now.UTC(), nil
}

// BeginCopy marks the database of an engine as an unfinished copy of a site, which no server opens. It refuses a
// database that holds another site, and one that holds this site already unless again is set: since the copy was
// completed servers may have written there.
func BeginCopy(ctx context.Context, e docstore.Engine, of Site, again bool) error {
	refuse := func(err error, hint string) error { return opererr.New("begin the copy", err, hint) }
	have, unfinished, err := ReadSite(ctx, e)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case unfinished:
		mark, err := Get[Site](ctx, &Store{engine: e}, collSite, copyID)
		if err != nil {
			return err
		}
		if mark.ID != of.ID {
			return refuse(fmt.Errorf("the target holds an unfinished copy of another site (%s)", mark.ID),
				"Choose another target, or empty that database first.")
		}
		return nil // an earlier run was interrupted
	case err == nil && have.ID != of.ID:
		return refuse(fmt.Errorf("the target holds another site (%s, made %s)", have.ID, have.Created.Format(time.DateOnly)),
			"Choose another target, or empty that database first.")
	case err == nil && !again:
		return refuse(errors.New("the target holds a complete copy of this site already; servers may have written there since"),
			"Nothing needs to be done. To make the target equal to the source again, and lose what was written since, use --again.")
	}
	if err := Put(ctx, &Store{engine: e}, collSite, copyID, of); err != nil {
		return fmt.Errorf("mark the target as an unfinished copy: %w", err)
	}
	return nil
}

// EndCopy completes a copy: it writes the site document and removes the mark, and servers open the database.
func EndCopy(ctx context.Context, e docstore.Engine, of Site) error {
	s := &Store{engine: e}
	if err := Put(ctx, s, collSite, siteID, of); err != nil {
		return fmt.Errorf("write the site: %w", err)
	}
	if err := s.Delete(ctx, collSite, copyID); err != nil {
		return fmt.Errorf("complete the copy: %w", err)
	}
	return nil
}

// NotCopied are the collections that say something of a database, not of the site in it.
func NotCopied() []string { return []string{collSite, collInstances} }

// ReadSite returns the site document of a database that is not opened, and whether it is an unfinished copy.
func ReadSite(ctx context.Context, e docstore.Engine) (site Site, unfinished bool, err error) {
	s := &Store{engine: e}
	docs, err := e.Get(ctx, collSite, copyID)
	if errors.Is(err, docstore.ErrCollection) { // not even the collection is there: not declared in this process
		switch err = e.Ensure(ctx, []docstore.Collection{siteCollection}); {
		case err == nil:
			docs, err = e.Get(ctx, collSite, copyID)
		case errors.Is(err, docstore.ErrCollection): // a file that is only read, and has none
			return site, false, fmt.Errorf("read the site: %w", ErrNotFound)
		}
	}
	if err != nil {
		return site, false, fmt.Errorf("read the site: %w", err)
	}
	site, err = s.Site(ctx)
	return site, len(docs) > 0, err
}
