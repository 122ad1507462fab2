package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// BaseSchema is the schema of a database on which no migration was ever run.
const BaseSchema = 1

// Migration brings the documents of one schema version to the next. Run may be interrupted anywhere and started again
// from the beginning, by another process too: it must be idempotent. Servers of the version before go on running
// meanwhile unless MinReader shuts them out.
type Migration struct {
	Version   int    // BaseSchema+1 for the first, then one more each
	Name      string // for the log
	MinReader int    // oldest schema a binary must know to work on the result; 0 when older ones still can
	Run       func(ctx context.Context, s *Store) error
}

const (
	migrationLease    = "migration"
	migrationLeaseTTL = 30 * time.Second
	migrationPoll     = 500 * time.Millisecond
)

// migrate runs what is due, one process at a time. minReader is raised before a migration begins, because from its
// first write on older binaries may misread what they find; the version is raised after it ended.
func (s *Store) migrate(ctx context.Context) error {
	site, err := s.Site(ctx)
	if err != nil {
		return err
	}
	if site.Schema >= s.schema {
		return nil
	}
	lease, err := s.waitLease(ctx, migrationLease, migrationLeaseTTL, migrationPoll)
	if err != nil {
		return fmt.Errorf("wait for another server's migration: %w", err)
	}
	defer lease.release(ctx)
	ctx, stop := lease.Keep(ctx)
	defer stop()

	if site, err = s.Site(ctx); err != nil {
		return err
	}
	if err := s.judge(site); err != nil {
		return err
	}
	for _, m := range s.migrations {
		if m.Version <= site.Schema {
			continue
		}
		s.log.InfoContext(ctx, "migration starts", obs.KeyKey, m.Name, obs.KeyVersion, m.Version)
		if err := s.updateSite(ctx, func(v *Site) { v.MinReader = max(v.MinReader, m.MinReader) }); err != nil {
			return err
		}
		if err := m.Run(ctx, s); err != nil {
			if lost := context.Cause(ctx); lost != nil {
				err = errors.Join(err, lost)
			}
			return opererr.New(fmt.Sprintf("migrate the database to schema %d (%s)", m.Version, m.Name), err,
				"Nothing is lost: start the server again and the migration goes on.")
		}
		if err := s.updateSite(ctx, func(v *Site) { v.Schema = max(v.Schema, m.Version) }); err != nil {
			return err
		}
		s.log.InfoContext(ctx, "migration done", obs.KeyKey, m.Name, obs.KeyVersion, m.Version)
	}
	return nil
}

func (s *Store) updateSite(ctx context.Context, change func(*Site)) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	err = Update(ctx, s, collSite, siteID, func(v *Site) error {
		before := *v
		change(v)
		if *v == before {
			return ErrUnchanged
		}
		v.Updated, v.By = now, s.version
		return nil
	})
	if err != nil {
		return fmt.Errorf("update the site: %w", err)
	}
	return nil
}
