// Package resources is the part of the backup area that holds what backups run on: the daemons and the block stores.
package resources

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

const (
	collDaemons = "backupdaemons"
	collStores  = "blockstores"
)

// Resources reads and writes the part. It is safe for concurrent use and keeps nothing in memory.
type Resources struct{ s *store.Store }

// New returns the part of an opened store.
func New(s *store.Store) *Resources { return &Resources{s: s} }

// Collections declares the part's collections.
func Collections() []docstore.Collection {
	return []docstore.Collection{{Name: collDaemons}, {Name: collStores}}
}

// Checks checks the part's collections.
func Checks() store.Checks {
	return store.Checks{
		collDaemons: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Daemon) error { return store.CheckID(doc, v.ID) }),
		collStores: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *storeDoc) error {
			if err := c.Opens(v.Sealed, storeContext(v.ID)); err != nil {
				return fmt.Errorf("its secrets do not open: %w", err)
			}
			return store.CheckID(doc, v.ID)
		}),
	}
}

// Daemon is a running, or once running, backup daemon. Its id is "<machine>:<head root>".
type Daemon struct {
	ID       string    `bson:"id"`
	Machine  string    `bson:"machine"`
	HeadRoot string    `bson:"headRoot"` // ends with /
	Version  string    `bson:"version"`
	Started  time.Time `bson:"started"`
	Beat     time.Time `bson:"beat"`
	Stopped  bool      `bson:"stopped,omitempty"` // it said goodbye
	BasePort int       `bson:"basePort"`
	Heads    int       `bson:"heads"` // how many run at once
	Jobs     int       `bson:"jobs"`
	Releases []string  `bson:"releases"` // versions of mongod it has
	Free     int64     `bson:"free"`     // bytes on the disk of the head root
	Size     int64     `bson:"size"`
	// What administrators set; a change counts within five minutes.
	Assignment bool   `bson:"assignment"` // new jobs may be bound to it
	BackupJobs bool   `bson:"backupJobs"`
	Garbage    bool   `bson:"garbage"`
	Restores   bool   `bson:"restores"`
	Configured bool   `bson:"configured"`
	Error      string `bson:"error,omitempty"`
	// Full is when the disk of the heads will be full if it goes on filling as it did; zero: not soon, or not known.
	Full time.Time `bson:"full,omitempty"`
}

// Beat keeps what a daemon tells of itself and gives back what is kept: what administrators set of it stays. One that is seen
// for the first time may do everything.
func (r *Resources) Beat(ctx context.Context, d Daemon) (Daemon, error) {
	if d.ID == "" || len(d.ID) > docstore.MaxID {
		return d, fmt.Errorf("backup daemon %q: %w: an id of 1 to %d bytes is needed", d.ID, docstore.ErrInvalid, docstore.MaxID)
	}
	err := store.Upsert(ctx, r.s, collDaemons, d.ID, func(have *Daemon, exists bool) error {
		d.Assignment, d.BackupJobs, d.Garbage, d.Restores, d.Configured = true, true, true, true, true
		if exists {
			d.Assignment, d.BackupJobs, d.Garbage, d.Restores, d.Configured = have.Assignment, have.BackupJobs, have.Garbage, have.Restores, have.Configured
		}
		*have = d
		return nil
	})
	return d, err
}

// Daemons lists all daemons, by id.
func (r *Resources) Daemons(ctx context.Context) ([]Daemon, error) {
	return store.All[Daemon](ctx, r.s, docstore.Query{Collection: collDaemons})
}

// UpdateDaemon changes what administrators set of a daemon. change may run several times.
func (r *Resources) UpdateDaemon(ctx context.Context, id string, change func(*Daemon) error) error {
	return store.Update(ctx, r.s, collDaemons, id, func(d *Daemon) error {
		err := change(d)
		d.ID = id
		return err
	})
}

// DeleteDaemon forgets a daemon. One that still runs comes back with its next beat.
func (r *Resources) DeleteDaemon(ctx context.Context, id string) error {
	return r.s.Delete(ctx, collDaemons, id)
}

// storeDoc is a block store as kept: its secrets are sealed.
type storeDoc struct {
	ID                string               `bson:"id"`
	Type              model.BlockStoreType `bson:"type"`
	Path              string               `bson:"path,omitempty"`
	Bucket            string               `bson:"bucket,omitempty"`
	Prefix            string               `bson:"prefix,omitempty"`
	Endpoint          string               `bson:"endpoint,omitempty"`
	Region            string               `bson:"region,omitempty"`
	PathStyle         bool                 `bson:"pathStyle,omitempty"`
	Auth              string               `bson:"auth,omitempty"`
	AccessKey         string               `bson:"accessKey,omitempty"`
	CAFile            string               `bson:"caFile,omitempty"`
	Database          string               `bson:"database,omitempty"`
	Encrypt           bool                 `bson:"encrypt,omitempty"`
	AssignmentEnabled bool                 `bson:"assignmentEnabled"`
	Labels            []string             `bson:"labels,omitempty"`
	LoadFactor        int                  `bson:"loadFactor,omitempty"`
	MaxConnections    int                  `bson:"maxConnections,omitempty"`
	MaxBytesPerSecond int64                `bson:"maxBytesPerSecond,omitempty"`
	Sealed            []byte               `bson:"sealed"` // storeSecrets
}

type storeSecrets struct {
	SecretKey string `bson:"secretKey"`
	URI       string `bson:"uri"`
}

func storeContext(id string) string { return "blockstore/" + id }

// SaveStore keeps a block store; its secrets are sealed. What a store of its kind needs is judged where it is opened.
func (r *Resources) SaveStore(ctx context.Context, s model.BlockStore) error {
	if s.ID == "" || len(s.ID) > 100 {
		return fmt.Errorf("block store %q: %w: an id of 1 to 100 bytes is needed", s.ID, docstore.ErrInvalid)
	}
	secrets, err := bson.Marshal(storeSecrets{SecretKey: s.SecretKey.Reveal(), URI: s.URI.Reveal()})
	if err != nil {
		return fmt.Errorf("block store %s: %w", s.ID, err)
	}
	return store.Put(ctx, r.s, collStores, s.ID, storeDoc{
		ID: s.ID, Type: s.Type, Path: s.Path, Bucket: s.Bucket, Prefix: s.Prefix, Endpoint: s.Endpoint, Region: s.Region, PathStyle: s.PathStyle,
		Auth: s.Auth, AccessKey: s.AccessKey, CAFile: s.CAFile, Database: s.Database, Encrypt: s.Encrypt,
		AssignmentEnabled: s.AssignmentEnabled, Labels: s.Labels, LoadFactor: s.LoadFactor, MaxConnections: s.MaxConnections,
		MaxBytesPerSecond: s.MaxBytesPerSecond, Sealed: r.s.Box().Seal(secrets, storeContext(s.ID)),
	})
}

func (r *Resources) openStore(d *storeDoc) (model.BlockStore, error) {
	plain, err := r.s.Box().Open(d.Sealed, storeContext(d.ID))
	if err != nil {
		return model.BlockStore{}, fmt.Errorf("block store %s: %w", d.ID, err)
	}
	var secrets storeSecrets
	if err := bson.Unmarshal(plain, &secrets); err != nil {
		return model.BlockStore{}, fmt.Errorf("block store %s: %w", d.ID, err)
	}
	return model.BlockStore{
		ID: d.ID, Type: d.Type, Path: d.Path, Bucket: d.Bucket, Prefix: d.Prefix, Endpoint: d.Endpoint, Region: d.Region, PathStyle: d.PathStyle,
		Auth: d.Auth, AccessKey: d.AccessKey, SecretKey: model.Secret(secrets.SecretKey), CAFile: d.CAFile, URI: model.Secret(secrets.URI),
		Database: d.Database, Encrypt: d.Encrypt, AssignmentEnabled: d.AssignmentEnabled, Labels: d.Labels, LoadFactor: d.LoadFactor,
		MaxConnections: d.MaxConnections, MaxBytesPerSecond: d.MaxBytesPerSecond,
	}, nil
}

// Stores lists the block stores, by id, with their secrets.
func (r *Resources) Stores(ctx context.Context) ([]model.BlockStore, error) {
	out := []model.BlockStore{}
	for d, err := range store.ScanAll[storeDoc](ctx, r.s, docstore.Query{Collection: collStores}) {
		if err != nil {
			return nil, err
		}
		s, err := r.openStore(&d)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Store returns a block store with its secrets, or store.ErrNotFound.
func (r *Resources) Store(ctx context.Context, id string) (model.BlockStore, error) {
	if id == "" || len(id) > 100 {
		return model.BlockStore{}, fmt.Errorf("block store %q: %w", id, store.ErrNotFound)
	}
	d, err := store.Get[storeDoc](ctx, r.s, collStores, id)
	if err != nil {
		return model.BlockStore{}, err
	}
	return r.openStore(&d)
}

// DeleteStore forgets a block store.
func (r *Resources) DeleteStore(ctx context.Context, id string) error {
	return r.s.Delete(ctx, collStores, id)
}
