package cli

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCommandOfACmdline(t *testing.T) {
	for in, want := range map[string][]string{
		"/heartwood\x00serve\x00--data\x00/data\x00": {"serve", "--data", "/data"},
		"/heartwood\x00": {},
	} {
		if got := commandOf([]byte(in)); !slices.Equal(got, want) {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/monitor/health" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("database: away\n"))
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	server := []string{"serve", "--listen", srv.Listener.Addr().String(), "--data", t.TempDir()}
	if said, err := checkHealth(ctx, server); err != nil || said != "database: away" {
		t.Errorf("a server that is well: %q %v", said, err)
	}
	status = http.StatusServiceUnavailable
	if _, err := checkHealth(ctx, server); err == nil || !strings.Contains(err.Error(), "503: database: away") {
		t.Errorf("a server that is not: %v", err)
	}
	if code, out, _ := heartwood(t, append([]string{"healthcheck"}, server...)...); code != exitFailed || !strings.Contains(out, "503") {
		t.Errorf("exit code %d, output %q", code, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if said, err := checkHealth(ctx, []string{"mongosim", "member", "--core", "x", "--listen", address}); err != nil {
		t.Errorf("a simulated member: %q %v", said, err)
	}
	_ = free.Close()
	for name, args := range map[string][]string{
		"a server that is gone":  {"serve", "--listen", address, "--data", t.TempDir()},
		"a member that is gone":  {"mongosim", "member", "--listen", address},
		"a set that is gone":     {"mongosim", "--port", address[strings.LastIndex(address, ":")+1:]},
		"an agent without state": {"monitoring-agent", "--config", agentFile(t, "mmsBaseUrl=http://127.0.0.1:1", "mmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b", "mmsApiKey=0123456789abcdef0123456789abcdef", "stateDir="+t.TempDir())},
	} {
		if said, err := checkHealth(ctx, args); err == nil {
			t.Errorf("%s: %q", name, said)
		}
	}
	for _, args := range [][]string{{"healthcheck", "keygen"}, {"healthcheck", "--json"}} {
		if code, _, errOut := heartwood(t, args...); code != exitUsage || !strings.Contains(errOut, "try: ") {
			t.Errorf("%v: exit code %d, %q", args, code, errOut)
		}
	}
}
