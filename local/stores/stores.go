// Package stores opens block stores from their descriptions: the storage, and around it retries, limits, metrics and encryption.
// It is where the adapters of storages meet what uses them.
package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/cloudblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/countblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/docblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/limitblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/retryblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/sealblock"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
)

// callsAtOnce is the limit where a description has none: more would only wait for the disk or the line.
const callsAtOnce = 64

// Options are what a store needs besides its description. The zero value opens stores that are not encrypted.
type Options struct {
	Box *seal.Box             // the site's keys; needed by descriptions with Encrypt
	Reg prometheus.Registerer // nil: not measured
	Log *slog.Logger          // is told of what is tried again; nil: nobody
}

// store closes what Open opened.
type store struct {
	blockstore.Store

	close func() error
}

// Unwrap leads to capabilities. An encrypted store has no Unwrap method itself, which ends the search for a signer there.
func (s *store) Unwrap() blockstore.Store { return s.Store }

// Close lets go of the storage.
func (s *store) Close() error { return s.close() }

// Open opens the store of a description. The result is an io.Closer too; see Close.
func Open(ctx context.Context, d model.BlockStore, o Options) (blockstore.Store, error) {
	if d.Encrypt && o.Box == nil {
		return nil, opererr.New("open the block store "+d.ID, errors.New("it is encrypted and there is no key"), "Name the site's gen.key (mms.keyfile, or --key).")
	}
	storage, err := openStorage(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("block store %s: %w", d.ID, err)
	}
	closing := func() error { return nil }
	if c, ok := storage.(io.Closer); ok {
		closing = c.Close
	}
	retry := retryblock.Default()
	if o.Log != nil {
		retry.Note = func(op, key string, try int, err error) {
			o.Log.Warn("block store: trying again", "store", d.ID, "op", op, "key", key, "try", try, "err", err)
		}
	}
	var s blockstore.Store = retryblock.New(storage, retry)
	s = limitblock.New(s, limitblock.Options{Calls: cmp.Or(d.MaxConnections, callsAtOnce), BytesPerSecond: d.MaxBytesPerSecond})
	if s, err = countblock.New(s, d.ID, o.Reg); err != nil {
		return nil, errors.Join(err, closing())
	}
	if d.Encrypt {
		s = sealblock.New(s, o.Box)
	}
	return &store{Store: s, close: closing}, nil
}

// Close lets go of a store that Open opened.
func Close(s blockstore.Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// mongoStore closes its engine.
type mongoStore struct {
	*docblock.Store

	engine *mongodoc.Engine
}

// Close implements io.Closer.
func (m *mongoStore) Close() error { return m.engine.Close() }

func openStorage(ctx context.Context, d model.BlockStore) (blockstore.Store, error) {
	switch d.Type {
	case model.BlockStoreFile:
		if d.Path == "" {
			return nil, opererr.New("open it", errors.New("it has no folder"), "Name its folder (storePath, or heartwood.blockstore.path).")
		}
		return fileblock.Open(d.Path)
	case model.BlockStoreS3:
		o := cloudblock.S3{
			Bucket: d.Bucket, Prefix: d.Prefix, Endpoint: d.Endpoint, Region: d.Region, PathStyle: d.PathStyle, CAFile: d.CAFile, MaxConnections: d.MaxConnections,
		}
		if d.Auth != model.S3AuthRole {
			o.AccessKey, o.SecretKey = d.AccessKey, d.SecretKey
			if d.Auth == model.S3AuthKeys && (d.AccessKey == "" || d.SecretKey == "") {
				return nil, opererr.New("open it", errors.New("it has no access key"), "Give awsAccessKey and awsSecretKey, or s3AuthMethod IAM_ROLE.")
			}
		}
		return cloudblock.Open(ctx, o)
	case model.BlockStoreMongo:
		uri := d.URI.Reveal()
		e, err := mongodoc.Open(mongodoc.Options{URI: uri, Database: cmp.Or(d.Database, config.URIDatabase(uri), "heartwood_blocks")})
		if err != nil {
			return nil, err
		}
		s, err := docblock.Open(ctx, e)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		return &mongoStore{Store: s, engine: e}, nil
	case model.BlockStoreMemory:
		return memblock.New(), nil
	}
	return nil, opererr.New("open it", fmt.Errorf("the type %q is not known", d.Type), "Use FILE_SYSTEM, S3 or MONGODB.")
}

// Set holds open stores by id. A store is opened when it is first asked for, and again after its description changed.
type Set struct {
	describe func(ctx context.Context, id string) (model.BlockStore, error)
	o        Options

	mu   sync.Mutex
	open map[string]*opened
}

// opened is a store that is open or being opened.
type opened struct {
	mu   sync.Mutex // held while it is opened
	d    string     // the description it was opened from
	s    blockstore.Store
	past []blockstore.Store // of earlier descriptions: streams may still be open in them
}

// NewSet returns a set of the stores that describe knows.
func NewSet(describe func(ctx context.Context, id string) (model.BlockStore, error), o Options) *Set {
	return &Set{describe: describe, o: o, open: map[string]*opened{}}
}

// Get returns the store of an id. It reads the description each time, so that a change on any server is seen by the next call.
func (s *Set) Get(ctx context.Context, id string) (blockstore.Store, error) {
	d, err := s.describe(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("block store %s: %w", id, err)
	}
	s.mu.Lock()
	e := s.open[id]
	if e == nil {
		e = &opened{}
		s.open[id] = e
	}
	s.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := fingerprint(d)
	if e.s != nil && e.d == now {
		return e.s, nil
	}
	fresh, err := Open(ctx, d, s.o)
	if err != nil {
		return nil, err
	}
	if e.s != nil {
		e.past = append(e.past, e.s)
	}
	e.s, e.d = fresh, now
	return fresh, nil
}

// fingerprint is equal for descriptions that lead to the same storage in the same way. It never leaves the process.
func fingerprint(d model.BlockStore) string {
	return fmt.Sprintf("%q", []any{
		d.Type, d.Path, d.Bucket, d.Prefix, d.Endpoint, d.Region, d.PathStyle, d.Auth, d.AccessKey, d.SecretKey.Reveal(), d.CAFile,
		d.URI.Reveal(), d.Database, d.Encrypt, d.MaxConnections, d.MaxBytesPerSecond,
	})
}

// Close closes all stores of the set, which must not be used any more.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, e := range s.open {
		for _, past := range e.past {
			errs = append(errs, Close(past))
		}
		if e.s != nil {
			errs = append(errs, Close(e.s))
		}
	}
	s.open = map[string]*opened{}
	return errors.Join(errs...)
}

// Keeper keeps descriptions of block stores.
type Keeper interface {
	Stores(ctx context.Context) ([]model.BlockStore, error)
	SaveStore(ctx context.Context, s model.BlockStore) error
}

// KeepDefault keeps the description that the settings give of the store "default", so that every server and daemon of the site finds
// it. What the administrator decided about assignment, labels and load stays. It says whether something changed.
func KeepDefault(ctx context.Context, k Keeper, d model.BlockStore) (changed bool, err error) {
	all, err := k.Stores(ctx)
	if err != nil {
		return false, fmt.Errorf("read the block stores: %w", err)
	}
	for i := range all {
		if have := &all[i]; have.ID == d.ID {
			d.AssignmentEnabled, d.Labels, d.LoadFactor = have.AssignmentEnabled, have.Labels, have.LoadFactor
			if fingerprint(*have) == fingerprint(d) {
				return false, nil
			}
		}
	}
	if err := k.SaveStore(ctx, d); err != nil {
		return false, fmt.Errorf("keep the block store of the settings: %w", err)
	}
	return true, nil
}
