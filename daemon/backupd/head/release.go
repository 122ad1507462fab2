package head

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Release is a mongod that can be started.
type Release struct {
	Version string // as the binary says it: "7.0.14"
	Path    string // of the binary
}

// versions remembers what binaries say of themselves.
type versions struct {
	mu   sync.Mutex
	seen map[string]known // by path
}

type known struct {
	size    int64
	changed time.Time
	version string
}

// tellLimit bounds a mongod that is asked for its version.
const tellLimit = 20 * time.Second

// Releases lists the mongods of the release directory, oldest first. It looks anew each time: releases are added while the daemon runs.
func (m *Manager) Releases(ctx context.Context) ([]Release, error) {
	entries, err := os.ReadDir(m.o.Releases)
	if err != nil {
		return nil, fmt.Errorf("mongodb.release.directory: %w", err)
	}
	places := []string{filepath.Join(m.o.Releases, "mongod"), filepath.Join(m.o.Releases, "bin", "mongod")}
	for _, e := range entries {
		if name := e.Name(); name != "bin" && name != "mongod" {
			places = append(places, filepath.Join(m.o.Releases, name, "bin", "mongod"), filepath.Join(m.o.Releases, name, "mongod"))
		}
	}
	var out []Release
	for _, path := range places {
		v, err := m.versions.of(ctx, path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoBinary):
		case err != nil:
			m.o.Log.Warn("a mongod of the release directory does not tell its version", obs.KeyPath, path, obs.KeyErr, err)
		default:
			out = append(out, Release{Version: v, Path: path})
		}
	}
	slices.SortStableFunc(out, func(a, b Release) int { return compare(a.Version, b.Version) })
	return out, ctx.Err()
}

var (
	errNoBinary = errors.New("no binary")
	versionLine = regexp.MustCompile(`db version v([0-9]+\.[0-9]+\.[0-9]+[-0-9A-Za-z.]*)`)
)

func (v *versions) of(ctx context.Context, path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil && (errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "not a directory")):
		return "", fs.ErrNotExist
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", errNoBinary
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.seen[path]; k.version != "" && k.size == info.Size() && k.changed.Equal(info.ModTime()) {
		return k.version, nil
	}
	ctx, stop := context.WithTimeout(ctx, tellLimit)
	defer stop()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("%s --version says no version of mongod", path)
	}
	if v.seen == nil {
		v.seen = map[string]known{}
	}
	v.seen[path] = known{size: info.Size(), changed: info.ModTime(), version: string(found[1])}
	return string(found[1]), nil
}

// parse reads a version; what follows a third number counts for nothing.
func parse(version string) (major, minor, patch int) {
	version, _, _ = strings.Cut(version, "-")
	parts := strings.SplitN(version, ".", 4)
	at := func(i int) int {
		if i >= len(parts) {
			return 0
		}
		n, _ := strconv.Atoi(parts[i])
		return n
	}
	return at(0), at(1), at(2)
}

func compare(a, b string) int {
	x, y, z := parse(a)
	u, v, w := parse(b)
	return cmp.Or(cmp.Compare(x, u), cmp.Compare(y, v), cmp.Compare(z, w))
}

func series(version string) string {
	major, minor, _ := parse(version)
	return fmt.Sprintf("%d.%d", major, minor)
}

// Pick chooses the release for a source of a version and feature compatibility version: of the same series, because the
// files it leaves are given to that series, and at least as new, because it must know all that the source does. fcv may be
// "" where it is not known. The error (ErrNoRelease) says what to install.
func (m *Manager) Pick(ctx context.Context, sourceVersion, fcv string) (Release, error) {
	all, err := m.Releases(ctx)
	if err != nil {
		return Release{}, err
	}
	return pick(all, sourceVersion, fcv, m.o.Releases)
}

func pick(all []Release, source, fcv, dir string) (Release, error) {
	refuse := func(format string, args ...any) (Release, error) {
		hint := fmt.Sprintf("unpack mongod %s, or a newer one of series %s, into %s (mongodb.release.directory)", source, series(source), dir)
		if source == "" {
			hint = "wait for the backup agent's first report; if none comes, look at the agent's log"
		}
		return Release{}, opererr.New("choose a mongod for the head", fmt.Errorf("%w: "+format, append([]any{ErrNoRelease}, args...)...), hint)
	}
	if source == "" {
		return refuse("the version of the source is not known yet")
	}
	major, minor, _ := parse(source)
	if major < 4 || major == 4 && minor < 2 {
		return refuse("%s cannot be backed up: versions from 4.2 on can", source)
	}
	if fcv != "" && compare(fcv, series(source)) > 0 {
		return refuse("the source says version %s and feature compatibility version %s", source, fcv)
	}
	var best *Release
	var have []string
	for i := range all {
		r := &all[i]
		have = append(have, r.Version)
		if series(r.Version) == series(source) && compare(r.Version, source) >= 0 && (best == nil || compare(r.Version, best.Version) > 0) {
			best = r
		}
	}
	if best != nil {
		return *best, nil
	}
	if have == nil {
		return refuse("it holds none at all")
	}
	return refuse("the source is %s, it holds %s", source, strings.Join(have, ", "))
}
