// Package site opens what the settings name: the database, embedded or a replica set, with its key and its areas. Everything that
// opens a store on a real database does it here: the server, the functions on Lambda, the command line.
package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/metricdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Site is an opened store with its areas and the settings that apply to it, the database's layer included.
type Site struct {
	*areas.Site
	Config *config.Loaded
	engine docstore.Engine
}

// Open opens the database that the settings name, creating data folder, key file and schema when they are absent. Reg may
// be nil.
func Open(ctx context.Context, src config.Sources, log *slog.Logger, reg prometheus.Registerer) (*Site, error) {
	p, err := Prepare(Options{Sources: src, Log: log, Reg: reg})
	if err != nil {
		return nil, err
	}
	s, err := p.Open(ctx)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return s, nil
}

// Options are what Prepare needs.
type Options struct {
	Sources config.Sources
	Log     *slog.Logger
	Reg     prometheus.Registerer // nil: the database is not measured
	Pool    uint64                // connections to each member at most, unless the connection string says so; 0: the driver's own bound
}

// Prepared is a database that the settings name and nothing was asked of yet.
type Prepared struct {
	o      Options
	boot   *config.Loaded
	engine docstore.Engine
	mongo  *mongodoc.Engine // nil: embedded
}

// Prepare checks the settings and prepares the database. It waits for no server, so that a program whose database is away can say
// so and open it later.
func Prepare(o Options) (*Prepared, error) {
	boot, err := config.Load(o.Sources)
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	p := &Prepared{o: o, boot: boot}
	c := &boot.Server
	if c.Embedded() {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return nil, opererr.New("create the data folder", err, dataHint)
		}
		if p.engine, err = sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(c.DataDir, config.DatabaseFile), Log: o.Log}); err != nil {
			return nil, err
		}
	} else {
		if p.mongo, err = openMongo(c, c.MongoURI, o.Log, o.Pool); err != nil {
			return nil, err
		}
		p.engine = p.mongo
	}
	if o.Reg != nil {
		measured, err := metricdoc.New(p.engine, o.Reg)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("measure the database: %w", err), p.engine.Close())
		}
		p.engine = measured
	}
	return p, nil
}

// Settings are those of file, environment and flags.
func (p *Prepared) Settings() *config.Loaded { return p.boot }

// Open opens the store. After a failure it may be called again. The site's Close closes what was prepared, too.
func (p *Prepared) Open(ctx context.Context) (*Site, error) {
	c := &p.boot.Server
	if p.mongo != nil {
		if err := checkDeployment(ctx, p.mongo, c); err != nil {
			return nil, err
		}
	}
	s, err := openStore(ctx, p.engine, p.o.Sources, c, p.o.Log)
	return s, outOfSpace(err, c)
}

// Close closes the database.
func (p *Prepared) Close() error { return p.engine.Close() }

// outOfSpace says what to do about a database that has no room.
func outOfSpace(err error, c *config.Server) error {
	if !errors.Is(err, docstore.ErrFull) {
		return err
	}
	hint := "make room on the database's servers"
	if c.Embedded() {
		hint = "make room there: df -h " + c.DataDir
	}
	return opererr.New("start", err, hint)
}

// Close closes the database.
func (s *Site) Close() error { return s.engine.Close() }

// OpenMongo prepares the engine on a replica set without asking it anything yet.
func OpenMongo(_ context.Context, c *config.Server, uri string, log *slog.Logger) (*mongodoc.Engine, error) {
	return openMongo(c, uri, log, 0)
}

func openMongo(c *config.Server, uri string, log *slog.Logger, pool uint64) (*mongodoc.Engine, error) {
	e, err := mongodoc.Open(mongodoc.Options{
		URI: c.ConnectionString(uri), Database: c.MongoDatabase, AppName: "Heartwood v" + obs.Build().Version, Log: log, PoolSize: pool,
	})
	if err != nil {
		return nil, opererr.New("use the connection string", err, "write it as mongodb://user:password@host1,host2,host3/?replicaSet=rs0, with : / ? # [ ] @ % in names and passwords percent-encoded")
	}
	return e, nil
}

func openStore(ctx context.Context, engine docstore.Engine, src config.Sources, boot *config.Server, log *slog.Logger) (*Site, error) {
	key, err := siteKey(ctx, engine, boot, log)
	if err != nil {
		return nil, err
	}
	box, err := seal.New(key)
	if err != nil {
		return nil, fmt.Errorf("use the key file: %w", err)
	}
	st, err := areas.Open(ctx, store.Options{Engine: engine, Box: box, Log: log, Version: obs.Build().Version})
	if err != nil {
		return nil, err
	}
	if src.Database, err = st.Settings(ctx); err != nil {
		return nil, fmt.Errorf("read the settings kept in the database: %w", err)
	}
	full, err := config.Load(src)
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	c := &full.Server
	site, err := areas.NewSite(st, series.Retention{Minute: c.RetainMinutes, FiveMinutes: c.RetainFives, Hour: c.RetainHours})
	if err != nil {
		return nil, err
	}
	return &Site{Site: site, Config: full, engine: engine}, nil
}

// siteKey takes the key that the settings hold, or reads gen.key, or makes it for a database that holds no site yet. A database whose key is missing is refused: what
// it keeps sealed could never be read again, and a new key would hide that.
func siteKey(ctx context.Context, engine docstore.Engine, c *config.Server, log *slog.Logger) ([]byte, error) {
	if key, err := c.GivenKey(); key != nil || err != nil {
		return key, err
	}
	path := c.KeyPath()
	key, err := config.ReadKey(path)
	if !config.IsMissing(err) {
		return key, err
	}
	if err := store.CheckNoKey(ctx, engine, path); err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "made a new key file: keep a copy of it apart from the database", obs.KeyFile, path)
	return config.CreateKey(path)
}

// Exists tells whether the settings name a database that exists already. It never makes one.
func Exists(_ context.Context, c *config.Server) (bool, error) {
	if !c.Embedded() {
		return true, nil
	}
	_, err := os.Stat(filepath.Join(c.DataDir, config.DatabaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// dataHint is the remedy for a data folder that cannot be used.
const dataHint = "choose a folder this user may write with --data"

// checkTimeout bounds the check of a database that may be away.
const checkTimeout = 15 * time.Second

// CheckDatabase says what is wrong with the database that the settings name: that it cannot be reached, or that a standalone
// server would have to keep what must survive the loss of one.
func CheckDatabase(ctx context.Context, c *config.Server) error {
	if c.Embedded() {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return opererr.New("create the data folder", err, dataHint)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	e, err := OpenMongo(ctx, c, c.MongoURI, obs.Discard())
	if err != nil {
		return fmt.Errorf("mongo.mongoUri: %w", err)
	}
	defer e.Close()
	return checkDeployment(ctx, e, c)
}

func checkDeployment(ctx context.Context, e *mongodoc.Engine, c *config.Server) error {
	d, err := e.Deployment(ctx)
	if err != nil {
		return opererr.New("reach mongo.mongoUri", err, "check the addresses, credentials and TLS settings: mongosh with the same connection string must work from here")
	}
	if d.SetName == "" && !d.Mongos && !c.AllowStandalone {
		return opererr.New("use mongo.mongoUri", errors.New("it is a standalone server: a write it acknowledges can be lost with it"),
			"name a replica set of at least three members, or set heartwood.mongo.allowStandalone=true for a test")
	}
	return nil
}
