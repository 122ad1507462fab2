package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func well(context.Context) error { return nil }

func get(t *testing.T, h http.Handler, path, remote string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = remote
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body := map[string]any{}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
	}
	return w.Code, body
}

func TestHealth(t *testing.T) {
	const here, away = "127.0.0.1:5", "192.0.2.1:5"
	refused := fmt.Errorf("ping db7.example.net:27017: %w", syscall.ECONNREFUSED)
	for _, c := range []struct {
		name       string
		mms, other error
		live       int
		health     int
		ready      int
		mmsText    string
		otherText  string
	}{
		{"all well", nil, nil, 200, 200, 200, "OK", "OK"},
		{"the backup database is away", nil, refused, 200, 503, 200, "OK", "connection refused"},
		{"the application database is away", refused, nil, 200, 503, 500, "connection refused", "OK"},
		{"some other fault", errors.New("read the clock: quorum lost"), nil, 200, 503, 500, "quorum lost", "OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := New(Options{
				Checks: map[string]func(context.Context) error{
					"mms_db": func(context.Context) error { return c.mms }, "backup_db": func(context.Context) error { return c.other },
				},
				Role: "server", Version: "1.2.3", Started: time.Now().Add(-time.Minute), Gatherer: prometheus.NewRegistry(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if code, _ := get(t, h, "/live", away); code != c.live {
				t.Errorf("/live %d", code)
			}
			if code, _ := get(t, h, "/monitor/health", away); code != c.ready {
				t.Errorf("/monitor/health %d", code)
			}
			if code, _ := get(t, h, "/metrics", here); code != 200 {
				t.Errorf("/metrics %d", code)
			}
			code, body := get(t, h, "/health?verbose=1", away)
			if code != c.health || body["mms_db"] != c.mmsText || body["backup_db"] != c.otherText || body["version"] != "1.2.3" || body["role"] != "server" || body["upgradeMode"] != false {
				t.Errorf("/health %d %v", code, body)
			}
			if body["detail"] != nil {
				t.Error("a stranger was told details")
			}
			if _, body := get(t, h, "/health?verbose=1", here); body["detail"] == nil {
				t.Error("the machine's own operator was not told details")
			}
		})
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no checks were accepted")
	}
}

// TestSlowDependency: the answer comes within the limit, and the dependency is asked once for any number of probes.
func TestSlowDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		h, err := New(Options{Checks: map[string]func(context.Context) error{
			"mms_db": well,
			"backup_db": func(context.Context) error { // does not even heed its context
				asked.Add(1)
				time.Sleep(time.Minute)
				return nil
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 3 {
			code, body := get(t, h, "/health", "192.0.2.1:5")
			if code != 503 || body["mms_db"] != "OK" || body["backup_db"] != "no answer within 2s" {
				t.Errorf("%d %v", code, body)
			}
		}
		if took := time.Since(began); took != checkLimit || asked.Load() != 1 {
			t.Errorf("three probes took %s and asked %d times", took, asked.Load())
		}
		time.Sleep(cacheFor)
		get(t, h, "/monitor/health", "192.0.2.1:5")
		if asked.Load() != 2 {
			t.Errorf("asked %d times after the cache ran out", asked.Load())
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestDraining(t *testing.T) {
	var draining atomic.Bool
	h, err := New(Options{Checks: map[string]func(context.Context) error{"mms_db": well}, Draining: draining.Load})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		draining bool
		ready    int
	}{{false, 200}, {true, 404}} {
		draining.Store(c.draining)
		if code, body := get(t, h, "/monitor/health", "192.0.2.1:5"); code != c.ready || c.draining && body["status"] != "STOPPING" {
			t.Errorf("draining %v: /monitor/health %d %v", c.draining, code, body)
		}
		for _, path := range []string{"/live", "/health"} {
			if code, _ := get(t, h, path, "192.0.2.1:5"); code != 200 {
				t.Errorf("draining %v: %s %d", c.draining, path, code)
			}
		}
	}
}
