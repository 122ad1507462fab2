package monitoragent

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestProxy(t *testing.T) {
	s := newServer()
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		s.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	cfg := testConfig(t.TempDir())
	cfg.HTTPProxy = proxy.URL
	a, err := New(Options{Config: cfg, connector: &scripted{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(asked, cfg.BaseURL+wire.PathConf) {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

func TestServerCertificate(t *testing.T) {
	srv := httptest.NewTLSServer(newServer())
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		ca     string
		verify bool
		ok     bool
	}{
		{"trusted", ca, true, true},
		{"unknown", "", true, false},
		{"not verified because told so", "", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.BaseURL, cfg.ServerCAFile, cfg.ServerVerify = srv.URL, tt.ca, tt.verify
			a, err := New(Options{Config: cfg, connector: &scripted{}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = a.Close() }()
			err = a.Refresh(t.Context())
			if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.ServerCAFile = filepath.Join(t.TempDir(), "none.pem")
	if _, err := New(Options{Config: cfg, connector: &scripted{}}); err == nil || !strings.Contains(err.Error(), "TLS to the server") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	cfg = testConfig(t.TempDir())
	cfg.BaseURL, cfg.GroupID = "", "no-id"
	if _, err := New(Options{Config: cfg}); err == nil || !strings.Contains(err.Error(), "mmsBaseUrl") || !strings.Contains(err.Error(), "mmsGroupId") {
		t.Errorf("faults are not told together: %v", err)
	}
	cfg = testConfig(filepath.Join(os.DevNull, "state"))
	a, err := New(Options{Config: cfg, connector: &scripted{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "state folder") {
		t.Errorf("a state folder that cannot be: %v", err)
	}
}
