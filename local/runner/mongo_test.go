package runner

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func simulated(t *testing.T, o mongosim.Options) *mongosim.Deployment {
	t.Helper()
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer stop()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// serve starts a server on free ports.
func serve(t *testing.T, dir, uri string, more ...string) (*Server, error) {
	t.Helper()
	flags := map[string]string{
		"heartwood.data": dir, "mongo.mongoUri": uri, "heartwood.listen": "127.0.0.1:0",
		"heartwood.ingestion.port": "0", "heartwood.diagnostics.port": "0", "heartwood.alerts.port": "0", "heartwood.alerts.killPort": "0",
	}
	for _, kv := range more {
		key, value, _ := strings.Cut(kv, "=")
		flags[key] = value
	}
	s, err := Start(t.Context(), Options{Sources: config.Sources{Flags: flags}, Log: obs.Discard()})
	if err == nil {
		t.Cleanup(func() { halt(t, s) })
	}
	return s, err
}

// halt stops a server; one that is stopped already stays so.
func halt(t *testing.T, s *Server) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer stop()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const firstUser = `{"username": "ann@example.com", "password": "Geheim-1234-wort", "firstName": "Ann", "lastName": "Example"}`

// TestServesOnAReplicaSet: with a connection string the site is in the replica set, where a second server finds it, and where it
// outlives a step-down.
func TestServesOnAReplicaSet(t *testing.T) {
	set := simulated(t, mongosim.Options{})
	dir := filepath.Join(t.TempDir(), "data")
	s, err := serve(t, dir, set.URI())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/live", "/monitor/health", "/user/login"} {
		if status, body := call(t, http.MethodGet, s.URL()+path, ""); status != http.StatusOK {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	if status, body := call(t, http.MethodPost, s.URL()+"/api/public/v1.0/unauth/users", firstUser); status/100 != 2 {
		t.Fatalf("the first user: %d %s", status, body)
	}
	if err := set.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.RunPasses(t.Context()); err != nil {
		t.Errorf("passes after a step-down: %v", err)
	}
	halt(t, s)

	again, err := serve(t, dir, set.URI())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := again.Site().Access.CountUsers(t.Context()); err != nil || n != 1 {
		t.Errorf("the second start finds %d users, %v", n, err)
	}
	if status, body := call(t, http.MethodPost, again.URL()+"/api/public/v1.0/unauth/users", firstUser); status/100 == 2 {
		t.Errorf("a first user was made twice: %s", body)
	}
	// Another machine without the key file must not make a new one.
	if _, err := serve(t, filepath.Join(t.TempDir(), "other"), set.URI()); err == nil || !strings.Contains(err.Error(), "gen.key") {
		t.Errorf("a server without the key: %v", err)
	}
}

// TestServesOnAStandaloneOnlyWhenAllowed also shows that it works then.
func TestServesOnAStandaloneOnlyWhenAllowed(t *testing.T) {
	alone := simulated(t, mongosim.Options{Standalone: true})
	dir := filepath.Join(t.TempDir(), "data")
	_, err := serve(t, dir, alone.URI())
	if err == nil || !strings.Contains(err.Error(), "standalone") || !strings.Contains(opererr.HintOf(err), "heartwood.mongo.allowStandalone=true") {
		t.Fatalf("a standalone: %v", err)
	}
	s, err := serve(t, dir, alone.URI(), "heartwood.mongo.allowStandalone=true")
	if err != nil {
		t.Fatal(err)
	}
	if status, body := call(t, http.MethodPost, s.URL()+"/api/public/v1.0/unauth/users", firstUser); status/100 != 2 {
		t.Errorf("the first user: %d %s", status, body)
	}
}
