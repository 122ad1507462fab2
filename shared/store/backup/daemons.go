package backup

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Beat keeps what a daemon tells of itself and gives back what is kept: what administrators set of it stays. One that is seen
// for the first time may do everything.
func (b *Backup) Beat(ctx context.Context, d Daemon) (Daemon, error) {
	if d.ID == "" || len(d.ID) > docstore.MaxID {
		return d, fmt.Errorf("backup daemon %q: %w: an id of 1 to %d bytes is needed", d.ID, docstore.ErrInvalid, docstore.MaxID)
	}
	err := store.Upsert(ctx, b.s, collDaemons, d.ID, func(have *Daemon, exists bool) error {
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
func (b *Backup) Daemons(ctx context.Context) ([]Daemon, error) {
	return store.All[Daemon](ctx, b.s, docstore.Query{Collection: collDaemons})
}

// UpdateDaemon changes what administrators set of a daemon. change may run several times.
func (b *Backup) UpdateDaemon(ctx context.Context, id string, change func(*Daemon) error) error {
	return store.Update(ctx, b.s, collDaemons, id, func(d *Daemon) error {
		err := change(d)
		d.ID = id
		return err
	})
}

// DeleteDaemon forgets a daemon that holds no job: ErrState otherwise. One that still runs comes back with its next beat.
func (b *Backup) DeleteDaemon(ctx context.Context, id string) error {
	jobs, err := b.Jobs(ctx)
	if err != nil {
		return err
	}
	for i := range jobs {
		if jobs[i].Daemon == id {
			return fmt.Errorf("daemon %s: %w: job %s is bound to it: move it first", id, ErrState, jobs[i].ID)
		}
	}
	return b.s.Delete(ctx, collDaemons, id)
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
func (b *Backup) SaveStore(ctx context.Context, s model.BlockStore) error {
	if s.ID == "" || len(s.ID) > 100 {
		return fmt.Errorf("block store %q: %w: an id of 1 to 100 bytes is needed", s.ID, docstore.ErrInvalid)
	}
	secrets, err := bson.Marshal(storeSecrets{SecretKey: s.SecretKey.Reveal(), URI: s.URI.Reveal()})
	if err != nil {
		return fmt.Errorf("block store %s: %w", s.ID, err)
	}
	return store.Put(ctx, b.s, collStores, s.ID, storeDoc{
		ID: s.ID, Type: s.Type, Path: s.Path, Bucket: s.Bucket, Prefix: s.Prefix, Endpoint: s.Endpoint, Region: s.Region, PathStyle: s.PathStyle,
		Auth: s.Auth, AccessKey: s.AccessKey, CAFile: s.CAFile, Database: s.Database, Encrypt: s.Encrypt,
		AssignmentEnabled: s.AssignmentEnabled, Labels: s.Labels, LoadFactor: s.LoadFactor, MaxConnections: s.MaxConnections,
		MaxBytesPerSecond: s.MaxBytesPerSecond, Sealed: b.s.Box().Seal(secrets, storeContext(s.ID)),
	})
}

func (b *Backup) openStore(d *storeDoc) (model.BlockStore, error) {
	plain, err := b.s.Box().Open(d.Sealed, storeContext(d.ID))
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
func (b *Backup) Stores(ctx context.Context) ([]model.BlockStore, error) {
	out := []model.BlockStore{}
	for d, err := range store.ScanAll[storeDoc](ctx, b.s, docstore.Query{Collection: collStores}) {
		if err != nil {
			return nil, err
		}
		s, err := b.openStore(&d)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Store returns a block store with its secrets, or store.ErrNotFound.
func (b *Backup) Store(ctx context.Context, id string) (model.BlockStore, error) {
	if id == "" || len(id) > 100 {
		return model.BlockStore{}, fmt.Errorf("block store %q: %w", id, store.ErrNotFound)
	}
	d, err := store.Get[storeDoc](ctx, b.s, collStores, id)
	if err != nil {
		return model.BlockStore{}, err
	}
	return b.openStore(&d)
}

// DeleteStore forgets a block store that no configuration, job, epoch, snapshot or restore names: ErrState says which does.
func (b *Backup) DeleteStore(ctx context.Context, id string) error {
	used := func(by string, at model.ID) error {
		return fmt.Errorf("block store %s: %w: %s %s uses it", id, ErrState, by, at)
	}
	for c, err := range store.ScanAll[Config](ctx, b.s, docstore.Query{Collection: collConfigs}) {
		if err == nil && c.StoreID == id {
			err = used("the configuration of cluster", c.ClusterID)
		}
		if err != nil {
			return err
		}
	}
	for j, err := range store.ScanAll[Job](ctx, b.s, docstore.Query{Collection: collJobs}) {
		if err == nil && j.StoreID == id {
			err = used("job", j.ID)
		}
		if err != nil {
			return err
		}
	}
	for e, err := range store.ScanAll[Epoch](ctx, b.s, docstore.Query{Collection: collEpochs}) {
		if err == nil && e.StoreID == id {
			err = used("oplog of job", e.Job)
		}
		if err != nil {
			return err
		}
	}
	for s, err := range store.ScanAll[Snapshot](ctx, b.s, docstore.Query{Collection: collSnapshots}) {
		if err == nil && s.StoreID == id {
			err = used("a snapshot of job", s.Job)
		}
		if err != nil {
			return err
		}
	}
	for d, err := range store.ScanAll[restoreDoc](ctx, b.s, docstore.Query{Collection: collRestores, Index: "kept", Prefix: []any{true}}) {
		if err == nil && d.StoreID == id {
			err = used("a restore of job", d.Job)
		}
		if err != nil {
			return err
		}
	}
	if err := b.s.Delete(ctx, collStores, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
