// Package head owns heads: private mongod processes on this machine, one per job, that hold a consistent copy of a replica
// set's data. It finds mongod binaries of the right version, starts them on loopback ports of its own, stops them cleanly,
// and knows whether a folder was left by a clean stop.
//
// A head has no access control: it is reached from this machine only, and the folder of its data by its own user only.
package head

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/shared/obs"
)

var (
	// ErrNoRelease is in the chain of errors about a version of mongod that the release directory does not hold.
	ErrNoRelease = errors.New("no such mongod in the release directory")
	// ErrDirty is in the chain of errors about a head that was killed or ended by itself. Its journal brings it back at the
	// next start, and the applier does what was cut off again; what is copied before that is no snapshot.
	ErrDirty = errors.New("the head was not stopped cleanly")
	// ErrNoSpace is in the chain of errors about a disk too small for what is to be put on it.
	ErrNoSpace = errors.New("not enough space for the head")
	// ErrNotStarted is in the chain of errors about a mongod that did not come up: the text holds the last lines of its log.
	ErrNotStarted = errors.New("the head did not start")
)

// Options of a Manager.
type Options struct {
	Root       string        // under which all heads live
	Releases   string        // holds a folder per mongod, or mongod itself
	BasePort   int           // 0 means 27500
	Count      int           // how many run at once, on ports from BasePort on; 0 means 4
	CacheMB    int           // of WiredTiger, for each head; 0 means 256
	StartLimit time.Duration // for a mongod to answer, recovery included; 0 means 10 minutes
	StopLimit  time.Duration // for a clean stop; 0 means one hour
	Log        *slog.Logger

	started func() // called when a process was started, before that is noted; for tests
}

// Manager starts and stops heads. It is for any number of goroutines.
type Manager struct {
	o        Options
	ports    chan int // free ones
	versions versions

	mu      sync.Mutex
	running map[string]*Head // by folder
}

// New checks the folders (the root is made where it is missing), and stops mongods that an earlier daemon left running
// under Root. All faults of the options are in the error.
func New(ctx context.Context, o Options) (*Manager, error) {
	if o.BasePort == 0 {
		o.BasePort = 27500
	}
	if o.Count == 0 {
		o.Count = 4
	}
	if o.CacheMB == 0 {
		o.CacheMB = 256
	}
	if o.StartLimit == 0 {
		o.StartLimit = 10 * time.Minute
	}
	if o.StopLimit == 0 {
		o.StopLimit = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if files, err := allowFiles(); err != nil || files < wantFiles {
		o.Log.Warn("heads with many collections and indexes need more open files than this process may have", obs.KeyCount, files, obs.KeyErr, err,
			obs.KeyHint, "set LimitNOFILE=64000 for the service, or ulimit -n 64000")
	}
	m := &Manager{o: o, ports: make(chan int, o.Count), running: map[string]*Head{}}
	for i := range o.Count {
		m.ports <- o.BasePort + i
	}
	if err := m.orphans(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

func (o *Options) check() error {
	var faults []error
	if o.BasePort < 1 || o.Count < 1 || o.BasePort+o.Count-1 > 65535 {
		faults = append(faults, fmt.Errorf("heads on ports %d to %d: want ports from 1 to 65535", o.BasePort, o.BasePort+o.Count-1))
	}
	if o.CacheMB < 1 {
		faults = append(faults, fmt.Errorf("a cache of %d MB for a head", o.CacheMB))
	}
	if !filepath.IsAbs(o.Root) {
		faults = append(faults, fmt.Errorf("head root %q: want an absolute path", o.Root))
	} else if err := writable(o.Root); err != nil {
		faults = append(faults, fmt.Errorf("head root %s: %w", o.Root, err))
	}
	if info, err := os.Stat(o.Releases); err != nil {
		faults = append(faults, fmt.Errorf("mongodb.release.directory: %w", err))
	} else if !info.IsDir() {
		faults = append(faults, fmt.Errorf("mongodb.release.directory: %s is no folder", o.Releases))
	}
	return errors.Join(faults...)
}

func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Spec says which head to start.
type Spec struct {
	Dir     string // the job's folder: data in db/, the log in mongod.log, the process in head.pid
	Release Release
	FCV     string            // set after the start where the head's is another; "" leaves it
	Set     map[string]string // further --setParameter values
}

// Start starts a head and waits until it answers. It waits for a free port as long as the context lives.
func (m *Manager) Start(ctx context.Context, s Spec) (*Head, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	s.Dir = dir
	h := &Head{Dir: dir, Version: s.Release.Version, m: m, done: make(chan struct{})}
	m.mu.Lock()
	if m.running[dir] != nil {
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: one runs in %s already", ErrNotStarted, dir)
	}
	m.running[dir] = h
	m.mu.Unlock()
	if h.Port, err = m.port(ctx); err == nil {
		if err = m.start(ctx, h, s); err == nil {
			return h, nil
		}
		m.ports <- h.Port
	}
	m.forget(h)
	return nil, err
}

func (m *Manager) forget(h *Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[h.Dir] == h {
		delete(m.running, h.Dir)
	}
}

// port waits for a free port: one of ours, and nobody else's.
func (m *Manager) port(ctx context.Context) (int, error) {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for warned := false; ; {
		select {
		case port := <-m.ports:
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err == nil {
				return port, l.Close()
			}
			m.ports <- port
			if !warned {
				m.o.Log.Warn("a port for heads is another program's", obs.KeyPort, port, obs.KeyErr, err)
				warned = true
			}
			if len(m.ports) > 1 {
				continue // it went to the end: try the others
			}
			select {
			case <-again.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("no port from %d to %d is free for a head: %w", m.o.BasePort, m.o.BasePort+m.o.Count-1, context.Cause(ctx))
		}
	}
}

// Running counts heads.
func (m *Manager) Running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.running)
}

// Close kills what still runs. Heads that should stay clean are stopped before.
func (m *Manager) Close() error {
	m.mu.Lock()
	var heads []*Head
	for _, h := range m.running {
		heads = append(heads, h)
	}
	m.mu.Unlock()
	var errs []error
	for _, h := range heads {
		errs = append(errs, h.Kill())
	}
	return errors.Join(errs...)
}

// Clean reports whether the head in a job's folder was last stopped cleanly, or never ran. A running one is not clean. One that
// nobody waited for, because the daemon or the machine was stopped, is clean where mongod emptied its lock file: that is the last
// thing it does in an orderly end.
func (m *Manager) Clean(dir string) (bool, error) {
	_, err := readPID(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	}
	if on, err := find(dir); err != nil || len(on) > 0 {
		return false, err
	}
	info, err := os.Stat(filepath.Join(DBPath(dir), "mongod.lock"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == 0, err
}

// Head is a running mongod.
type Head struct {
	Dir     string
	Port    int
	Version string

	m       *Manager
	process *os.Process
	client  *mongo.Client
	done    chan struct{}
	state   *os.ProcessState // after done
}

// Client talks to the head. It is closed by Stop and Kill.
func (h *Head) Client() *mongo.Client { return h.client }

// Done is closed when the process has ended, for whatever reason.
func (h *Head) Done() <-chan struct{} { return h.done }

// Stop ends the head cleanly: its files are whole without journal afterwards. One that does not end within the limit is
// killed and the error has ErrDirty in its chain; so has that of one that had ended by itself.
func (h *Head) Stop(ctx context.Context) error {
	select {
	case <-h.done:
		return h.ended()
	default:
	}
	_ = h.client.Disconnect(context.WithoutCancel(ctx))
	if err := interrupt(h.process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the head in %s: %w", h.Dir, err)
	}
	limit := time.NewTimer(h.m.o.StopLimit)
	defer limit.Stop()
	select {
	case <-h.done:
		return h.ended()
	case <-limit.C:
	case <-ctx.Done():
	}
	why := fmt.Errorf("it did not end within %s", h.m.o.StopLimit)
	if ctx.Err() != nil {
		why = context.Cause(ctx)
	}
	return errors.Join(fmt.Errorf("%w: killed: %w", ErrDirty, why), h.Kill())
}

// ended judges how the process ended, and marks the folder clean where it was by request.
func (h *Head) ended() error {
	_ = h.client.Disconnect(context.Background())
	if !h.state.Success() {
		return fmt.Errorf("%w: mongod ended with %s%s", ErrDirty, h.state, lastWords(h.Dir))
	}
	if err := os.Remove(filepath.Join(h.Dir, pidFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Kill ends it at once. Its folder is not clean.
func (h *Head) Kill() error {
	_ = h.client.Disconnect(context.Background())
	if err := h.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the head in %s: %w", h.Dir, err)
	}
	<-h.done
	return nil
}

// DBPath is where the data files of a job's folder are.
func DBPath(dir string) string { return filepath.Join(dir, "db") }

// setFCV sets the feature compatibility version where it is another.
func (h *Head) setFCV(ctx context.Context, want string) error {
	admin := h.client.Database("admin")
	var have struct {
		FCV struct {
			Version string `bson:"version"`
		} `bson:"featureCompatibilityVersion"`
	}
	err := admin.RunCommand(ctx, bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}).Decode(&have)
	if err != nil {
		return fmt.Errorf("ask the head for its feature compatibility version: %w", err)
	}
	if have.FCV.Version == want {
		return nil
	}
	cmd := bson.D{{Key: "setFeatureCompatibilityVersion", Value: want}}
	if major, _, _ := parse(h.Version); major >= 7 {
		cmd = append(cmd, bson.E{Key: "confirm", Value: true})
	}
	if err := admin.RunCommand(ctx, cmd).Err(); err != nil {
		return fmt.Errorf("set the head's feature compatibility version to %s, from %s: %w", want, have.FCV.Version, err)
	}
	return nil
}
