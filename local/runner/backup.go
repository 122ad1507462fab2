package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/restore"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/local/away"
	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// headsBudget is how long heads may take to stop cleanly: one that is killed must be made again.
const headsBudget = time.Hour

// BackupOptions say which backup daemon to run.
type BackupOptions struct {
	Sources config.Sources
	Log     *slog.Logger
	Started func(d *BackupDaemon) // called once it runs; may be nil
	Status  func(text string)     // told in a line what the start waits for; may be nil
}

// BackupDaemon is a backup daemon in a process of its own.
type BackupDaemon struct {
	s  *Server
	id string
}

// ID is the daemon's.
func (d *BackupDaemon) ID() string { return d.id }

// RunBackup runs a backup daemon until ctx ends or somebody stops it through its kill-port; then heads are stopped in order.
func RunBackup(ctx context.Context, o BackupOptions) error {
	began := time.Now()
	s := &Server{log: o.Log, reg: obs.NewRegistry(), failed: make(chan error, 8), asked: make(chan struct{}), stack: stack{log: o.Log}, status: o.Status}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	id, err := s.startBackup(ctx, o.Sources, began)
	if errors.Is(err, context.Canceled) { // stopped while it waited for its database
		err = nil
	} else if err == nil {
		o.Log.Info("heartwood backup daemon started", obs.KeyTook, time.Since(began).Round(time.Millisecond), obs.KeyVersion, obs.Build().Version)
		if o.Started != nil {
			o.Started(&BackupDaemon{s: s, id: id})
		}
		select {
		case <-ctx.Done():
		case <-s.asked:
		case err = <-s.failed:
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), headsBudget+stopBudget)
	defer cancel()
	return errors.Join(err, s.Stop(stopCtx))
}

// startBackup wires a daemon of its own process, in order: each part registers how it is stopped at once.
func (s *Server) startBackup(ctx context.Context, src config.Sources, began time.Time) (id string, err error) {
	boot, err := config.Load(src)
	if err != nil {
		return "", fmt.Errorf("settings:\n%w", err)
	}
	c := &boot.Server
	if c.Embedded() {
		return "", opererr.New("start a backup daemon of its own", errors.New("the embedded database belongs to the server's process"),
			"run the daemon in it: heartwood serve --backup; or keep the site on a replica set (mongo.mongoUri)")
	}
	if err := Preflight(c); err != nil {
		return "", err
	}
	release, err := claimData(c.Heads())
	if err != nil {
		return "", err
	}
	s.stack.push("pid file", time.Second, func(context.Context) error { return release() })
	diagnostics, err := listen(ctx, "diagnostics of the backup daemon (heartwood.backup.port)", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.BackupPort)))
	if err != nil {
		return "", err
	}
	s.stack.push("port", time.Second, func(context.Context) error {
		if err := diagnostics.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	closeKill, err := listenKill(ctx, c.BackupKillPort, c.Heads(), s.log, sync.OnceFunc(func() { close(s.asked) }))
	if err != nil {
		return "", err
	}
	s.stack.push("kill-port", time.Second, closeKill)
	plain := func(held net.Listener) (net.Listener, error) { return held, nil }
	if err := s.openSite(ctx, src, []away.Port{{Listener: diagnostics, Wrap: plain}}); err != nil {
		return "", err
	}
	s.stack.push("database", databaseBudget, func(context.Context) error { return s.site.Close() })
	c = &s.site.Config.Server
	blobs, err := s.blockStores(ctx, c)
	if err != nil {
		return "", err
	}
	instance := model.NewID()
	if err := s.register(ctx, instance, roleDaemon, "", began); err != nil {
		return "", err
	}
	probe, err := s.health(c, roleDaemon, began)
	if err != nil {
		return "", err
	}
	if id, err = s.backupDaemon(ctx, c, blobs); err != nil {
		return "", err
	}
	s.serve("diagnostics", diagnostics, probe, nil)
	return id, nil
}

// blockStores opens a block store by its id.
type blockStores = func(ctx context.Context, id string) (blockstore.Store, error)

// blockStores opens the site's block stores as they are asked for. The one that the settings describe is made known to everybody.
func (s *Server) blockStores(ctx context.Context, c *config.Server) (blockStores, error) {
	if _, err := stores.KeepDefault(ctx, s.site.Backup, c.BlockStore()); err != nil {
		return nil, err
	}
	set := stores.NewSet(s.site.Backup.Store, stores.Options{Box: s.site.Store.Box(), Reg: s.reg, Log: s.log.With(obs.KeyComponent, "block store")})
	s.stack.push("block stores", databaseBudget, func(context.Context) error { return set.Close() })
	return set.Get, nil
}

// backupDaemon starts the daemon itself.
func (s *Server) backupDaemon(ctx context.Context, c *config.Server, blobs blockStores) (id string, err error) {
	if err := Preflight(c); err != nil { // a setting may have come from the database
		return "", err
	}
	log := s.log.With(obs.KeyComponent, "backup daemon")
	heads, err := head.New(ctx, head.Options{
		Root: c.Heads(), Releases: c.Releases(), BasePort: c.HeadBasePort, Count: c.HeadWorkers, CacheMB: c.HeadCacheMB, Log: log,
	})
	if err != nil {
		return "", opererr.New("prepare the heads of backups", err, preflightHint)
	}
	s.stack.push("heads", time.Minute, func(context.Context) error { return heads.Close() })
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	slots := slot.New(c.HeadWorkers)
	restores, err := restore.New(restore.Options{
		Backup: s.site.Backup, Blockstores: blobs, Heads: heads, Slots: slots, Events: s.site.Alerting.AddEvents, Root: c.Heads(), Log: log,
	})
	if err != nil {
		return "", err
	}
	d, err := backupd.New(backupd.Options{
		Store: s.site.Store, Backup: s.site.Backup, Blockstores: blobs, Heads: heads, Slots: slots, Restores: restores, Events: s.site.Alerting.AddEvents,
		Root: c.Heads(), Machine: hostname, Version: obs.Build().Version, BasePort: c.HeadBasePort, Count: c.HeadWorkers,
		MinWindow: time.Duration(c.MinOplogHours) * time.Hour, TakeOver: c.BackupTakeOver, Log: log, Reg: s.reg,
	})
	if err != nil {
		return "", err
	}
	running, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(running); err != nil {
			s.fail(fmt.Errorf("backup daemon: %w", err))
		}
	}()
	s.stopFor = headsBudget
	s.stack.push("backup daemon", headsBudget, func(ctx context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return d.ID(), nil
}

const preflightHint = "set rootDirectory to a folder this user may write, on a disk with room for a copy of everything that is backed up, and mongodb.release.directory to one that holds mongod"

// Preflight checks what a backup daemon needs on this machine, before it opens anything: the folder of the heads can be written
// and is not that of a database or of blocks, the release directory holds a mongod, the key file can be read. All faults are in
// the error.
func Preflight(c *config.Server) error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	root := filepath.Clean(c.Heads())
	if err := os.MkdirAll(root, 0o700); err != nil {
		fault("rootDirectory: %w", err)
	} else if f, err := os.CreateTemp(root, ".writable-"); err != nil {
		fault("rootDirectory: %w", err)
	} else if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		fault("rootDirectory: %w", err)
	}
	if dir, is := insideDatabase(root); is {
		fault("rootDirectory: %s is, or lies in, the database folder %s of a mongod", root, dir)
	}
	if data, err := filepath.Abs(c.DataDir); err == nil && c.Embedded() && within(data, root) {
		fault("rootDirectory: the embedded database in %s lies in %s", data, root)
	}
	if b := c.BlockStore(); b.Type == model.BlockStoreFile && (within(b.Path, root) || within(root, b.Path)) {
		fault("rootDirectory: %s and the block store in %s lie in one another", root, b.Path)
	}
	if n, err := mongods(c.Releases()); err != nil {
		fault("mongodb.release.directory: %w", err)
	} else if n == 0 {
		fault("mongodb.release.directory: no mongod in %s: unpack MongoDB's archive of the version that is backed up there", c.Releases())
	}
	if c.KeyFile != "" {
		if _, err := os.Stat(c.KeyFile); err != nil {
			fault("mms.keyfile: %w: the daemon needs the gen.key of the site's servers", err)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return opererr.New("pre-flight of the backup daemon", errors.Join(faults...), preflightHint)
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// insideDatabase finds a dbpath of a mongod at a folder or above it. Heads below it are our own.
func insideDatabase(dir string) (string, bool) {
	for {
		if _, err := os.Stat(filepath.Join(dir, "WiredTiger.wt")); err == nil {
			return dir, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}

// mongods counts the mongods of a release directory: itself, or a folder a release.
func mongods(dir string) (n int, err error) {
	if _, err := os.ReadDir(dir); err != nil {
		return 0, err
	}
	for _, pattern := range []string{"mongod", "*/mongod", "*/bin/mongod"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return 0, err
		}
		for _, f := range found {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				n++
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return n, err
			}
		}
	}
	return n, nil
}
