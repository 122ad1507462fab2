// Package store is the kernel of Heartwood's one store: opening a site's database (schema, gen.key, migrations), and
// what every area is written with: reading and changing typed documents, leases, passes, settings, instances.
//
// The areas (inventory, access, alerting, series) are packages below this one; each declares its collections, which
// Open gets through Options. The kernel knows no area and no engine: everything goes through shared/docstore.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/seal"
)

// What stores answer; compare with errors.Is. They are the engine's own values, so that an error means the same thing on
// every level.
var (
	ErrNotFound = docstore.ErrNotFound
	ErrExists   = docstore.ErrExists
	ErrConflict = docstore.ErrConflict
)

// Options are what a Store is made of.
type Options struct {
	Engine      docstore.Engine
	Box         *seal.Box
	Log         *slog.Logger
	Version     string                // of this binary, for the site document and people
	Collections []docstore.Collection // of all areas; see shared/store/areas
	Migrations  []Migration           // of all areas, in the order of their versions; see shared/store/areas
}

func (o *Options) validate() error {
	var err error
	if o.Engine == nil {
		err = errors.Join(err, errors.New("Engine is missing"))
	}
	if o.Box == nil {
		err = errors.Join(err, errors.New("Box is missing"))
	}
	for i, m := range o.Migrations {
		if m.Version != BaseSchema+1+i {
			err = errors.Join(err, fmt.Errorf("migration %q has version %d, want %d", m.Name, m.Version, BaseSchema+1+i))
		}
	}
	return err
}

// Store is an opened site. It is safe for concurrent use and keeps no state of its own.
type Store struct {
	engine     docstore.Engine
	box        *seal.Box
	log        *slog.Logger
	version    string
	schema     int // newest schema this binary knows
	migrations []Migration
}

// Open makes sure that the database is one this binary may work on, and brings it up to date: it creates missing
// collections, compares the fingerprint of gen.key, refuses a schema that is too new, and runs what migrations are due.
// A refusal is an *opererr.Error that says what to do. Any number of processes may open the same database at once.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("store options: %w", err)
	}
	s := newStore(o)
	// The site document is read before anything is created: a database that is refused is left as it was.
	if err := s.engine.Ensure(ctx, []docstore.Collection{siteCollection}); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := s.checkSite(ctx); err != nil {
		return nil, err
	}
	if err := s.engine.Ensure(ctx, slices.Concat(Collections(), o.Collections)); err != nil {
		return nil, fmt.Errorf("declare collections: %w", err)
	}
	if err := s.initSite(ctx); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Attach is a store on a database that the caller's host has opened with the same binary's Open: it asks the database nothing, so
// that it works while the database is away.
func Attach(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("store options: %w", err)
	}
	return newStore(o), nil
}

func newStore(o Options) *Store {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	return &Store{
		engine: o.Engine, box: o.Box, log: o.Log.With(obs.KeyComponent, "store"), version: o.Version,
		schema: BaseSchema + len(o.Migrations), migrations: o.Migrations,
	}
}

// Engine is the document engine below.
func (s *Store) Engine() docstore.Engine { return s.engine }

// Box seals and opens secret fields.
func (s *Store) Box() *seal.Box { return s.box }

// Log is the store's logger.
func (s *Store) Log() *slog.Logger { return s.log }

// Schema is the newest schema this binary writes.
func (s *Store) Schema() int { return s.schema }

// Collections declares the kernel's own collections.
func Collections() []docstore.Collection {
	return []docstore.Collection{
		siteCollection,
		{Name: collInstances},
		{Name: collLeases},
		{Name: collPasses},
		{Name: collSettings},
	}
}

// Write carries out all ops, in no particular order, in as many batches as it takes. A nil error means that every one
// is durable; otherwise the error joins what went wrong with each, and those that succeeded stay.
func (s *Store) Write(ctx context.Context, ops ...docstore.Op) error {
	var failed error
	for batch := range slices.Chunk(ops, docstore.MaxBatch) {
		results, err := s.engine.Write(ctx, batch, false)
		if err != nil {
			return errors.Join(failed, fmt.Errorf("write %d documents: %w", len(batch), err))
		}
		for i, r := range results {
			if r.Err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s/%s: %w", batch[i].Collection, batch[i].ID, r.Err))
			}
		}
	}
	return failed
}

// WriteOnce inserts documents whose content belongs to their id, so that inserting one again changes nothing: those that
// exist already count as written. After an unknown outcome it simply tries again.
func (s *Store) WriteOnce(ctx context.Context, ops ...docstore.Op) error {
	var failed error
	for batch := range slices.Chunk(ops, docstore.MaxBatch) {
		results, err := s.engine.Write(ctx, batch, false)
		for range unknownRetries {
			if !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
				break
			}
			results, err = s.engine.Write(ctx, batch, false)
		}
		if err != nil {
			return errors.Join(failed, fmt.Errorf("insert %d documents: %w", len(batch), err))
		}
		for i, r := range results {
			if r.Err != nil && !errors.Is(r.Err, docstore.ErrExists) {
				failed = errors.Join(failed, fmt.Errorf("%s/%s: %w", batch[i].Collection, batch[i].ID, r.Err))
			}
		}
	}
	return failed
}
