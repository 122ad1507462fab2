// Package head owns heads: private mongod processes on this machine, one per job, that hold a consistent copy of a replica
// set's data. It finds mongod binaries of the right version, starts them on loopback ports of its own, stops them cleanly,
// and knows whether a folder was left by a clean stop.
package head

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

var (
	// ErrNoRelease is in the chain of errors about a version of mongod that the release directory does not hold.
	ErrNoRelease = errors.New("no such mongod in the release directory")
	// ErrDirty is in the chain of errors about a folder whose mongod was killed: it must be built again from the last snapshot.
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
}

// Manager starts and stops heads. It is for any number of goroutines.
type Manager struct {
	o Options
}

// Release is a mongod that can be started.
type Release struct {
	Version string // as the binary says it: "7.0.14"
	Path    string // of the binary
}

// New checks the folders (they are made where they are missing), and stops mongods that an earlier daemon left running
// under Root.
func New(ctx context.Context, o Options) (*Manager, error) {
	return &Manager{o: o}, errors.New("not yet")
}

// Releases lists the mongods of the release directory, oldest first. It looks anew each time: releases are added while the daemon runs.
func (m *Manager) Releases(ctx context.Context) ([]Release, error) { return nil, errors.New("not yet") }

// Pick chooses the release for a source: the same series as its version, at least as new; the error says what to install.
func (m *Manager) Pick(ctx context.Context, sourceVersion, fcv string) (Release, error) {
	return Release{}, errors.New("not yet")
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
	return nil, errors.New("not yet")
}

// Clean reports whether the head in a job's folder was last stopped cleanly, or never ran. A running one is not clean.
func (m *Manager) Clean(dir string) (bool, error) { return false, errors.New("not yet") }

// Running counts heads.
func (m *Manager) Running() int { return 0 }

// Close kills what still runs. Heads that should stay clean are stopped before.
func (m *Manager) Close() error { return nil }

// Head is a running mongod.
type Head struct {
	Dir     string
	Port    int
	Version string
}

// Client talks to the head. It is closed by Stop and Kill.
func (h *Head) Client() *mongo.Client { return nil }

// Done is closed when the process has ended, for whatever reason.
func (h *Head) Done() <-chan struct{} { return nil }

// Stop ends the head cleanly: its files are whole without journal afterwards. One that does not end within the limit is
// killed and the error has ErrDirty in its chain.
func (h *Head) Stop(ctx context.Context) error { return errors.New("not yet") }

// Kill ends it at once. Its folder is not clean.
func (h *Head) Kill() error { return errors.New("not yet") }

// DBPath is where the data files of a job's folder are.
func DBPath(dir string) string { return dir + "/db" }

// Clone copies a tree of files: sharing their blocks where the file system can (FICLONE), byte by byte elsewhere. Times are kept.
func Clone(ctx context.Context, src, dst string) (shared bool, err error) {
	return false, errors.New("not yet")
}

// Space is the room of the disk that holds a folder, in bytes.
func Space(dir string) (free, size int64, err error) { return 0, 0, errors.New("not yet") }

// Need checks that there is room for bytes more below dir, with slack; the error says how much is missing (ErrNoSpace).
func Need(dir string, bytes int64) error { return errors.New("not yet") }

var _ io.Closer = (*Manager)(nil)
