package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/config"
)

func logFiles(t *testing.T, dir string) (plain, packed []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "agent-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".gz") {
			packed = append(packed, n)
		} else {
			plain = append(plain, n)
		}
	}
	slices.Sort(packed)
	return plain, packed
}

func TestLogRotation(t *testing.T) {
	dir := t.TempDir()
	cfg := config.DefaultAgent()
	cfg.LogFile, cfg.LogPlainFiles = filepath.Join(dir, "agent.log"), 2
	log, f, err := NewLog(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		log.Info(fmt.Sprintf("line %d", i))
		if err := f.Rotate(); err != nil {
			t.Fatal(err)
		}
		waitForNextName()
	}
	plain, packed := logFiles(t, dir)
	if len(plain) != 2 || len(packed) != 3 {
		t.Fatalf("%d plain, %d compressed", len(plain), len(packed))
	}
	in, err := os.Open(packed[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !strings.Contains(string(b), "line 0") {
		t.Errorf("the oldest file holds %q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// waitForNextName lets a millisecond pass: rotated files are named by the time.
func waitForNextName() {
	for start := time.Now(); time.Since(start) < 2*time.Millisecond; {
		continue
	}
}

func TestSignalRotates(t *testing.T) {
	dir := t.TempDir()
	cfg := config.DefaultAgent()
	cfg.LogFile = filepath.Join(dir, "agent.log")
	log, f, err := NewLog(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("before")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx, log) })
	for !f.ready.Load() { // before that the signal would end the process
		runtime.Gosched()
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for {
		if plain, _ := logFiles(t, dir); len(plain) == 1 {
			break
		}
		runtime.Gosched()
	}
	cancel()
	running.Wait()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestLogWithoutAFile(t *testing.T) {
	cfg := config.DefaultAgent()
	var out bytes.Buffer
	log, f, err := NewLog(&cfg, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hello")
	f.Run(t.Context(), log) // nothing to rotate: returns
	if err := f.Close(); err != nil || !strings.Contains(out.String(), "hello") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestTail(t *testing.T) {
	tl := &Tail{}
	var out bytes.Buffer
	log := slog.New(tl.Tee(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))).With("host", "db1")
	for i := range 150 {
		log.Info(fmt.Sprintf("line %d", i))
	}
	log.Warn("trouble", "reason", "because")
	now := time.Now()
	lines, problem := tl.Fresh(now)
	if len(lines) != tailLines || !strings.Contains(lines[99], "trouble") || !strings.Contains(lines[0], "host=db1") {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
	if problem != "trouble: because" {
		t.Errorf("problem %q", problem)
	}
	if again, _ := tl.Fresh(now.Add(time.Hour)); again != nil {
		t.Error("the same lines were given twice")
	}
	log.Info("more")
	if again, _ := tl.Fresh(now.Add(time.Second)); again != nil {
		t.Error("lines were given again within the minute")
	}
	if again, _ := tl.Fresh(now.Add(time.Hour)); len(again) != tailLines {
		t.Errorf("%d lines later", len(again))
	}
	if out.Len() != 0 {
		t.Errorf("the log's own level was not kept: %q", out.String())
	}
}
