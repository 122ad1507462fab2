package head_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/tests/harness"
)

func base(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return min(l.Addr().(*net.TCPAddr).Port, 65000)
}

func manager(t testing.TB, o head.Options) (*head.Manager, head.Release) {
	t.Helper()
	if o.Releases == "" {
		o.Releases = harness.Heads(t).Dir
	}
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	if o.BasePort == 0 {
		o.BasePort = base(t)
	}
	m, err := head.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	all, err := m.Releases(t.Context())
	if err != nil || len(all) == 0 {
		t.Fatal("no release: ", err)
	}
	return m, all[0]
}

func TestLifeOfAHead(t *testing.T) {
	m, release := manager(t, head.Options{Count: 1})
	dir := filepath.Join(t.TempDir(), "job", "1")
	if clean, err := m.Clean(dir); !clean || err != nil {
		t.Errorf("a folder that is not there: clean %v, %v", clean, err)
	}
	h, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release})
	if err != nil {
		t.Fatal(err)
	}
	c := h.Client().Database("x").Collection("y")
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if clean, _ := m.Clean(dir); clean || m.Running() != 1 {
		t.Errorf("running: clean %v, %d", clean, m.Running())
	}
	if _, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release}); !errors.Is(err, head.ErrNotStarted) {
		t.Errorf("a second one in the folder: %v", err)
	}
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	if _, err := m.Start(short, head.Spec{Dir: dir + "2", Release: release}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second one on the only port: %v", err)
	}
	stop()
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if clean, err := m.Clean(dir); !clean || err != nil || m.Running() != 0 {
		t.Errorf("stopped: clean %v, %v, %d run", clean, err, m.Running())
	}

	clone := filepath.Join(t.TempDir(), "clone")
	shared, err := head.Clone(t.Context(), head.DBPath(dir), head.DBPath(clone))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("blocks shared: %v", shared)
	for _, name := range []string{"mongod.lock", "journal", "diagnostic.data"} {
		if _, err := os.Stat(filepath.Join(head.DBPath(clone), name)); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
	for _, d := range []string{dir, clone} {
		if h, err = m.Start(t.Context(), head.Spec{Dir: d, Release: release}); err != nil {
			t.Fatal(err)
		}
		if n, err := h.Client().Database("x").Collection("y").CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
			t.Errorf("%s: %d documents, %v", d, n, err)
		}
		if err := h.Kill(); err != nil {
			t.Fatal(err)
		}
		if clean, _ := m.Clean(d); clean {
			t.Error("killed and clean")
		}
		if err := h.Stop(t.Context()); !errors.Is(err, head.ErrDirty) {
			t.Errorf("stop after a kill: %v", err)
		}
	}
	if h, err = m.Start(t.Context(), head.Spec{Dir: dir, Release: release}); err != nil {
		t.Fatal("start after a kill: ", err)
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if clean, _ := m.Clean(dir); !clean {
		t.Error("stopped and not clean")
	}
}

func TestAHeadThatDoesNotStart(t *testing.T) {
	m, release := manager(t, head.Options{Count: 2})
	dir := t.TempDir()
	_, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release, Set: map[string]string{"noSuchParameter": "1"}})
	if !errors.Is(err, head.ErrNotStarted) || !strings.Contains(err.Error(), "noSuchParameter") {
		t.Errorf("an unknown parameter: %v", err)
	}
	if _, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: head.Release{Version: "7.0.1", Path: "/bin/false"}}); !errors.Is(err, head.ErrNotStarted) {
		t.Errorf("no mongod: %v", err)
	}
	for range 3 { // its port is free again
		h, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPortOfAnotherProgramIsLeftAlone(t *testing.T) {
	port := base(t)
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	m, release := manager(t, head.Options{BasePort: port, Count: 2})
	h, err := m.Start(t.Context(), head.Spec{Dir: t.TempDir(), Release: release})
	if err != nil {
		t.Fatal(err)
	}
	if h.Port != port+1 {
		t.Errorf("port %d", h.Port)
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheFCVIsTheSources(t *testing.T) {
	m, release := manager(t, head.Options{})
	v := strings.SplitN(release.Version, ".", 2)
	major, err := strconv.Atoi(v[0])
	if err != nil || major < 6 {
		t.Skip("the lower version of ", release.Version, " is not a major one before")
	}
	want := strconv.Itoa(major-1) + ".0"
	h, err := m.Start(t.Context(), head.Spec{Dir: t.TempDir(), Release: release, FCV: want})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Kill() //nolint:errcheck // ends
	var got struct {
		FCV struct{ Version string } `bson:"featureCompatibilityVersion"`
	}
	if err := h.Client().Database("admin").RunCommand(t.Context(), bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}).Decode(&got); err != nil || got.FCV.Version != want {
		t.Errorf("%s, want %s, %v", got.FCV.Version, want, err)
	}
}

func TestPick(t *testing.T) {
	releases := t.TempDir()
	script := func(path, version string) {
		t.Helper()
		path = filepath.Join(releases, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'db version v"+version+"'\necho 'Build Info: {}'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("mongodb-linux-x86_64-7.0.14/bin/mongod", "7.0.14")
	script("seven/mongod", "7.0.2")
	script("mongodb-linux-x86_64-enterprise-8.0.4/bin/mongod", "8.0.4")
	script("mongod", "6.0.19-16")
	script("broken/mongod", "nothing at all")
	if err := os.WriteFile(filepath.Join(releases, "mongodb.tgz"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _ := manager(t, head.Options{Releases: releases})
	all, err := m.Releases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, r := range all {
		have = append(have, r.Version)
	}
	if diff := cmp.Diff([]string{"6.0.19-16", "7.0.2", "7.0.14", "8.0.4"}, have); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ source, fcv, want, hint string }{
		{"7.0.14", "7.0", "7.0.14", ""},
		{"7.0.3", "6.0", "7.0.14", ""},
		{"7.0.15", "7.0", "", "mongod 7.0.15, or a newer one of series 7.0"},
		{"6.0.19", "6.0", "6.0.19-16", ""},
		{"8.0.4", "7.0", "8.0.4", ""},
		{"8.2.0", "8.2", "", "series 8.2"},
		{"4.0.3", "4.0", "", "series 4.0"},
		{"7.0.1", "8.0", "", "series 7.0"},
		{"", "", "", "wait for the backup agent"},
	} {
		r, err := m.Pick(t.Context(), c.source, c.fcv)
		if c.want != "" {
			if err != nil || r.Version != c.want {
				t.Errorf("for %s: %s, %v; want %s", c.source, r.Version, err, c.want)
			}
			continue
		}
		if !errors.Is(err, head.ErrNoRelease) || !strings.Contains(opererr.HintOf(err), c.hint) {
			t.Errorf("for %s: %v (%s)", c.source, err, opererr.HintOf(err))
		}
	}
}

func TestFaultsOfTheOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := head.New(t.Context(), head.Options{Root: "relative", Releases: file, BasePort: 65535, Count: 2, CacheMB: -1})
	for _, want := range []string{"ports 65535 to 65536", "cache of -1 MB", "absolute", "is no folder"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	if err := head.Need(dir, 0); err != nil {
		t.Error(err)
	}
	if err := head.Need(dir, 1<<60); !errors.Is(err, head.ErrNoSpace) || !strings.Contains(err.Error(), "are missing") {
		t.Error(err)
	}
}

func TestAFolderHasOneDaemon(t *testing.T) {
	root := filepath.Join(t.TempDir(), "heads")
	unlock, err := head.Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := head.Lock(root); err == nil || opererr.HintOf(err) == "" {
		t.Errorf("a second daemon in the same folder: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := head.Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	_ = again()
}
