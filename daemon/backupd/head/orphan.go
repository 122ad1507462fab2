package head

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// A head outlives a daemon that is killed: before the next one uses a folder it ends what runs there. The file head.pid may not
// name it, because a daemon can be killed between the start and the note of it. So the processes themselves are looked at, and
// only one with exactly the command line that this package gives a mongod, and of our own user, is ever sent a signal.

// found is a process that runs on data below a folder of ours.
type found struct {
	pid  int
	dir  string // the job's folder
	ours bool   // started as this package starts heads; else somebody runs a mongod there
}

// find lists the processes on data in a folder or below it.
func find(under string) ([]found, error) {
	all, err := processes()
	if err != nil {
		return nil, fmt.Errorf("look for running heads: %w", err)
	}
	under = canonical(under)
	var out []found
	for _, p := range all {
		f, ok := judge(p)
		if ok && (f.dir == under || strings.HasPrefix(f.dir, strings.TrimSuffix(under, "/")+"/")) {
			out = append(out, f)
		}
	}
	return out, nil
}

// judge says whether a process is on the data of a job's folder, by its command line.
func judge(p process) (found, bool) {
	db := option(p.args, "--dbpath")
	if db == "" || !filepath.IsAbs(db) {
		return found{}, false
	}
	dir := filepath.Dir(filepath.Clean(db))
	f := found{pid: p.pid, dir: canonical(dir)}
	f.ours = filepath.Clean(db) == DBPath(dir) && option(p.args, "--logpath") == filepath.Join(dir, logFile)
	return f, true
}

// option is the value of an option on a command line, "" for none.
func option(args []string, name string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// canonical is a path without links, as far as it is there.
func canonical(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

// orphans stops what an earlier daemon left running under the root.
func (m *Manager) orphans(ctx context.Context) error {
	all, err := find(m.o.Root)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range all {
		if !f.ours {
			m.o.Log.Warn("a process that is none of ours runs on data of a head", obs.KeyPath, f.dir, obs.KeyInstance, f.pid, obs.KeyHint, "stop it")
			continue
		}
		g.Go(func() error { return m.end(ctx, f) })
	}
	return g.Wait()
}

// adopt ends a mongod that runs in a folder although this manager did not start it. It is stopped cleanly, so that its
// folder stays good; the folder of one that is gone stays marked as not clean. Somebody else's process is in the error.
func (m *Manager) adopt(ctx context.Context, dir string) error {
	all, err := find(dir)
	if err != nil {
		return err
	}
	for _, f := range all {
		if !f.ours {
			return fmt.Errorf("%w: process %d runs on %s and is none of ours: stop it", ErrNotStarted, f.pid, DBPath(f.dir))
		}
		if err := m.end(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// end stops an orphan: cleanly, or with force after the limit for a clean stop.
func (m *Manager) end(ctx context.Context, f found) error {
	p, err := os.FindProcess(f.pid) // a handle: where the system has them, no later process with the number is meant
	if err != nil {
		return nil //nolint:nilerr // gone
	}
	defer func() { _ = p.Release() }()
	if !f.runs() {
		return nil
	}
	m.o.Log.Info("a head of an earlier daemon is stopped", obs.KeyPath, f.dir, obs.KeyInstance, f.pid)
	if err := interrupt(p); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the head of an earlier daemon in %s, process %d: %w", f.dir, f.pid, err)
	}
	limit := time.NewTimer(m.o.StopLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for killed := false; f.runs(); {
		select {
		case <-tick.C:
			continue
		case <-limit.C:
		case <-ctx.Done():
			return fmt.Errorf("stop the head of an earlier daemon in %s: %w", f.dir, context.Cause(ctx))
		}
		if killed {
			return fmt.Errorf("the head of an earlier daemon in %s, process %d, cannot be killed", f.dir, f.pid)
		}
		killed = true
		_ = p.Kill()
		limit.Reset(time.Minute)
	}
	return nil
}

// runs reports whether it still is what it was found as.
func (f found) runs() bool {
	args, err := commandLine(f.pid)
	if err != nil {
		return false
	}
	now, ok := judge(process{pid: f.pid, args: args})
	return ok && now == f
}
