package runner

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// asleep is a replica set whose members are all killed, and its connection string.
func asleep(t *testing.T) (*mongosim.Deployment, string) {
	t.Helper()
	set := simulated(t, mongosim.Options{})
	for i := range set.Len() {
		if err := set.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	uri := set.URI()
	join := "?"
	if strings.Contains(uri, "?") {
		join = "&"
	}
	return set, uri + join + "serverSelectionTimeoutMS=300"
}

// until asks until a status is answered.
func until(t *testing.T, url string, want int) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body := make([]byte, 1000)
			n, _ := resp.Body.Read(body)
			_ = resp.Body.Close()
			if resp.StatusCode == want {
				return string(body[:n])
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer %d: %v", url, want, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// TestADatabaseThatIsAwayIsWaitedFor: the server says on its ports that it waits, and serves on the same ports once it can.
func TestADatabaseThatIsAwayIsWaitedFor(t *testing.T) {
	set, uri := asleep(t)
	app, agents, diagnostics := strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
	told := make(chan string, 100)
	started := make(chan *Server, 1)
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		ended <- Run(ctx, Options{
			Log: obs.Discard(), Status: func(text string) { told <- text }, Started: func(s *Server) { started <- s },
			Sources: config.Sources{Flags: map[string]string{
				"heartwood.data": t.TempDir(), "mongo.mongoUri": uri, "heartwood.listen": "127.0.0.1:" + app, "heartwood.ingestion.port": agents,
				"heartwood.diagnostics.port": diagnostics, "heartwood.alerts.port": "0", "heartwood.alerts.killPort": "0",
			}},
		})
	}()
	select {
	case text := <-told:
		if !strings.Contains(text, "waiting for the database") || !strings.Contains(text, "mongo.mongoUri") {
			t.Errorf("told %q", text)
		}
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	for _, port := range []string{app, agents, diagnostics} {
		if body := until(t, "http://127.0.0.1:"+port+"/monitor/health", http.StatusServiceUnavailable); !strings.Contains(body, "mms_db") {
			t.Errorf("health: %s", body)
		}
		until(t, "http://127.0.0.1:"+port+"/live", http.StatusOK)
	}
	until(t, "http://127.0.0.1:"+app+"/api/public/v1.0/groups", http.StatusServiceUnavailable)
	for i := range set.Len() {
		if err := set.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case s := <-started:
		if want := "http://127.0.0.1:" + app; s.URL() != want {
			t.Errorf("it serves on %s, want %s", s.URL(), want)
		}
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	for _, port := range []string{app, agents, diagnostics} {
		until(t, "http://127.0.0.1:"+port+"/monitor/health", http.StatusOK)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWaitingEndsInOrder: a signal, and the backup daemon's kill-port, end the wait, and no port is left taken.
func TestWaitingEndsInOrder(t *testing.T) {
	_, uri := asleep(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "releases", "mongodb-7.0.14", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil { //nolint:gosec // of a test
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "mongod"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // it must be executable
		t.Fatal(err)
	}
	port := strconv.Itoa(freePort(t))
	flags := map[string]string{
		"heartwood.data": filepath.Join(dir, "data"), "mongo.mongoUri": uri, "heartwood.listen": "127.0.0.1:0", "heartwood.ingestion.port": "0",
		"heartwood.diagnostics.port": "0", "heartwood.alerts.port": "0", "heartwood.alerts.killPort": "0", "heartwood.backup.port": port,
		"heartwood.backup.killPort": "0", "rootDirectory": filepath.Join(dir, "heads"), "mongodb.release.directory": filepath.Join(dir, "releases"),
	}
	for name, run := range map[string]func(ctx context.Context, told func(string)) error{
		"server": func(ctx context.Context, told func(string)) error {
			return Run(ctx, Options{Log: obs.Discard(), Status: told, Sources: config.Sources{Flags: flags}})
		},
		"backup daemon": func(ctx context.Context, told func(string)) error {
			return RunBackup(ctx, BackupOptions{Log: obs.Discard(), Status: told, Sources: config.Sources{Flags: flags}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			told, ended := make(chan string, 100), make(chan error, 1)
			go func() { ended <- run(ctx, func(text string) { told <- text }) }()
			select {
			case <-told:
			case err := <-ended:
				t.Fatalf("it did not wait: %v", err)
			}
			if name == "backup daemon" {
				until(t, "http://127.0.0.1:"+port+"/health", http.StatusServiceUnavailable)
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("stopped while waiting: %v", err)
			}
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)) //nolint:noctx // closed at once
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
		})
	}
}

func TestWhatWaitingDoesNotMend(t *testing.T) {
	for text, want := range map[string]bool{
		"no primary: db1:27017: connection refused":                            true,
		"connection() error occurred: auth error: unable to authenticate":      false,
		"the server refuses: Authentication failed. (code 18)":                 false,
		"the server refuses: not authorized on heartwood to execute (code 13)": false,
	} {
		err := opererr.New("reach mongo.mongoUri", errors.Join(docstore.ErrUnavailable, errors.New(text)), "")
		if isAway(err) != want {
			t.Errorf("%q is away: %v", text, !want)
		}
	}
	if isAway(errors.New("it is a standalone server")) || !isAway(context.DeadlineExceeded) {
		t.Error("what is away")
	}
}
