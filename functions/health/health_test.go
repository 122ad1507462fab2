package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
)

func server(t *testing.T, checks map[string]Check) *Server {
	t.Helper()
	s, err := New(Options{Checks: checks, Role: "server", Version: "1.2.3", Started: time.Now(), Gatherer: obs.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, h http.Handler, path, from string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var body map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &body)
	return w.Code, body
}

const local = "127.0.0.1:5"

func healthy(context.Context) error { return nil }

func TestHealthyServerAnswersTheDocumentedBody(t *testing.T) {
	s := server(t, map[string]Check{AppDatabase: healthy, BackupDatabase: healthy})
	code, body := get(t, s.Diagnostics(), "/health", local)
	if code != 200 || body["mms_db"] != "OK" || body["backup_db"] != "OK" || body["version"] != "1.2.3" || body["role"] != "server" || body["upgradeMode"] != false {
		t.Errorf("%d %v", code, body)
	}
	if code, _ := get(t, s.Monitor(), "/monitor/health", local); code != 200 {
		t.Errorf("monitor: %d", code)
	}
	if code, _ := get(t, s.Diagnostics(), "/metrics", local); code != 200 {
		t.Errorf("metrics: %d", code)
	}
}

func TestOneSickDependencyIsNamedAndLivenessStays(t *testing.T) {
	s := server(t, map[string]Check{AppDatabase: healthy, BackupDatabase: func(context.Context) error { return errors.New("connection refused") }})
	code, body := get(t, s.Diagnostics(), "/health", local)
	if code != 503 || body["mms_db"] != "OK" || body["backup_db"] != "connection refused" {
		t.Errorf("%d %v", code, body)
	}
	if code, _ := get(t, s.Monitor(), "/monitor/health", local); code != 500 {
		t.Errorf("monitor: %d", code)
	}
	if code, _ := get(t, s.Diagnostics(), "/live", local); code != 200 {
		t.Errorf("live: %d", code)
	}
}

func TestDetailIsForLoopbackOnly(t *testing.T) {
	s := server(t, map[string]Check{AppDatabase: healthy})
	if _, body := get(t, s.Diagnostics(), "/health?verbose=1", local); body["checks"] == nil {
		t.Error("no detail on loopback")
	}
	if _, body := get(t, s.Diagnostics(), "/health?verbose=1", "192.0.2.1:5"); body["checks"] != nil {
		t.Error("detail for a stranger")
	}
}

func TestHangingDatabaseIsBoundedAndAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := server(t, map[string]Check{AppDatabase: func(ctx context.Context) error {
			asked++
			<-ctx.Done()
			return ctx.Err()
		}})
		began := time.Now()
		done := make(chan string)
		for range 10 {
			go func() {
				_, body := get(t, s.Diagnostics(), "/health", local)
				text, _ := body["mms_db"].(string)
				done <- text
			}()
		}
		for range 10 {
			if text := <-done; !strings.Contains(text, "no answer within 2 s") {
				t.Errorf("answered %q", text)
			}
		}
		if took := time.Since(began); took > 2*time.Second || asked != 1 {
			t.Errorf("took %v, asked %d times", took, asked)
		}
		get(t, s.Diagnostics(), "/health", local)
		if asked != 1 {
			t.Errorf("asked again within the cache time")
		}
		time.Sleep(checkCache)
		get(t, s.Diagnostics(), "/health", local)
		if asked != 2 {
			t.Errorf("asked %d times after the cache time", asked)
		}
	})
}
