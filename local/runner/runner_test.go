package runner

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const keyPassword = "open sesame"

// authority signs certificates for 127.0.0.1 and for clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t), dir: t.TempDir()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(t *testing.T, name string, blocks ...*pem.Block) string {
	t.Helper()
	var b []byte
	for _, block := range blocks {
		b = append(b, pem.EncodeToMemory(block)...)
	}
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign makes a certificate whose key is kept encrypted in the file.
func (a *authority) sign(t *testing.T, name string) (file string, pair tls.Certificate) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pkcs8.ConvertPrivateKeyToPKCS8(key, []byte(keyPassword))
	if err != nil {
		t.Fatal(err)
	}
	file = a.write(t, name+".pem", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: sealed}, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client trusts the authority and shows certs.
func (a *authority) client(t *testing.T, certs ...tls.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}, ForceAttemptHTTP2: true} //nolint:gosec // the default minimum
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// settings are those of a server on free ports.
func settings(t *testing.T, more map[string]string) config.Sources {
	t.Helper()
	flags := map[string]string{
		"heartwood.data": filepath.Join(t.TempDir(), "data"), "heartwood.listen": "127.0.0.1:0", "heartwood.ingestion.port": "0", "heartwood.diagnostics.port": "0", "heartwood.alerts.port": "0", "heartwood.alerts.killPort": "0",
		"heartwood.drainSeconds": "0",
	}
	for k, v := range more {
		flags[k] = v
	}
	return config.Sources{Flags: flags}
}

func start(t *testing.T, more map[string]string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{Sources: settings(t, more), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, c *http.Client, url string, headers ...string) (*http.Response, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// TestTLS: which of the two ports asks whom for a certificate, in every mode.
func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	file, _ := ca.sign(t, "server")
	_, known := ca.sign(t, "client")
	_, stranger := newAuthority(t).sign(t, "stranger")
	const page, conf = "/register", "/agents/v1/conf"
	for _, c := range []struct {
		mode               string
		page, pageAgents   int // status on the port for people without a certificate; 0: no connection
		agents, agentsCert int // status of an agent's call on its own port
	}{
		{config.CertNone, 200, 401, 401, 401},
		{config.CertAgentsOnly, 200, 403, 0, 401},
		{config.CertRequired, 0, 0, 0, 401},
	} {
		t.Run(c.mode, func(t *testing.T) {
			s := start(t, map[string]string{
				"mms.https.PEMKeyFile": file, "mms.https.PEMKeyFilePassword": keyPassword, "mms.https.CAFile": ca.file,
				"mms.https.ClientCertificateMode": c.mode, "mms.security.hstsMaxAgeSeconds": "300",
			})
			if !strings.HasPrefix(s.URL(), "https://") || !strings.HasPrefix(s.IngestionURL(), "https://") {
				t.Fatalf("addresses %s, %s", s.URL(), s.IngestionURL())
			}
			for _, q := range []struct {
				what   string
				client *http.Client
				url    string
				want   int
			}{
				{"a page", ca.client(t), s.URL() + page, c.page},
				{"a page with a certificate", ca.client(t, known), s.URL() + page, 200},
				{"an agent on the port for people", ca.client(t), s.URL() + conf, c.pageAgents},
				{"an agent", ca.client(t), s.IngestionURL() + conf, c.agents},
				{"an agent with a certificate", ca.client(t, known), s.IngestionURL() + conf, c.agentsCert},
				{"an agent with a stranger's certificate", ca.client(t, stranger), s.IngestionURL() + conf, c.agents},
			} {
				resp, _, err := get(t, q.client, q.url)
				switch {
				case q.want == 0 && err == nil:
					t.Errorf("%s: answered %d", q.what, resp.StatusCode)
				case q.want != 0 && err != nil:
					t.Errorf("%s: %v", q.what, err)
				case q.want != 0 && resp.StatusCode != q.want:
					t.Errorf("%s: status %d, want %d", q.what, resp.StatusCode, q.want)
				case q.want != 0 && resp.ProtoMajor != 2:
					t.Errorf("%s: %s", q.what, resp.Proto)
				}
			}
			resp, _, err := get(t, ca.client(t, known), s.URL()+page)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Header.Get("Strict-Transport-Security"); got != "max-age=300" {
				t.Errorf("Strict-Transport-Security: %q", got)
			}
			checkCookies(t, resp, true)
			old := ca.client(t, known)
			tr, _ := old.Transport.(*http.Transport)
			tr.TLSClientConfig.MaxVersion = tls.VersionTLS11
			if _, _, err := get(t, old, s.URL()+page); err == nil {
				t.Error("TLS 1.1 was accepted")
			}
		})
	}
}

func checkCookies(t *testing.T, resp *http.Response, secure bool) {
	t.Helper()
	if len(resp.Cookies()) == 0 {
		t.Error("no cookie was set")
	}
	for _, c := range resp.Cookies() {
		if c.Secure != secure || !c.HttpOnly || c.SameSite == http.SameSiteDefaultMode {
			t.Errorf("cookie %s", c.Raw)
		}
	}
}

// TestBehindAProxy: what a load balancer says of the request counts only when it is trusted.
func TestBehindAProxy(t *testing.T) {
	for _, c := range []struct {
		name    string
		more    map[string]string
		secure  bool
		wantHST string
	}{
		{"no header is believed unasked", nil, false, ""},
		{"a trusted proxy", map[string]string{"mms.remoteIp.header": "X-Forwarded-For"}, true, "max-age=31536000"},
		{"without HSTS", map[string]string{"mms.remoteIp.header": "X-Forwarded-For", "mms.security.hstsMaxAgeSeconds": "0"}, true, ""},
		{"the public URL wins over a trusted proxy", map[string]string{"mms.remoteIp.header": "X-Forwarded-For", "mms.centralUrl": "http://hw.example.com"}, false, ""},
		{"the public URL counts without one", map[string]string{"mms.centralUrl": "https://hw.example.com"}, true, "max-age=31536000"},
		{"another proxy is trusted", map[string]string{"mms.remoteIp.header": "X-Forwarded-For", "heartwood.trustedProxies": "10.0.0.0/8"}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.more)
			resp, _, err := get(t, http.DefaultClient, s.URL()+"/register", "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https")
			if err != nil {
				t.Fatal(err)
			}
			checkCookies(t, resp, c.secure)
			if got := resp.Header.Get("Strict-Transport-Security"); got != c.wantHST {
				t.Errorf("Strict-Transport-Security: %q", got)
			}
		})
	}
}

// TestRefusedStarts: every reason not to start names what to do about it and leaves nothing behind that keeps the next start.
func TestRefusedStarts(t *testing.T) {
	ca := newAuthority(t)
	file, _ := ca.sign(t, "server")
	for _, c := range []struct {
		name string
		more map[string]string
		want string
		hint string
	}{
		{"no password for the key", map[string]string{"mms.https.PEMKeyFile": file}, "no password is set", "mms.https.PEMKeyFilePassword"},
		{"the wrong password", map[string]string{"mms.https.PEMKeyFile": file, "mms.https.PEMKeyFilePassword": "guess"}, "does not open", "mms.https.PEMKeyFilePassword"},
		{"no certificate file", map[string]string{"mms.https.PEMKeyFile": "/absent.pem"}, "no such file", "certificate chain"},
		{
			"no authorities", map[string]string{
				"mms.https.PEMKeyFile": file, "mms.https.PEMKeyFilePassword": keyPassword, "mms.https.ClientCertificateMode": "required", "mms.https.CAFile": "/absent.pem",
			}, "mms.https.CAFile", "authorities",
		},
		{"a data folder that is a file", map[string]string{"heartwood.data": file}, "not a directory", "--data"},
		{"a data folder that cannot be made", map[string]string{"heartwood.data": "/dev/null/data"}, "/dev/null", "--data"},
		{"a key file that is a folder", map[string]string{"mms.keyfile": ca.dir}, "no file", "mms.keyfile"},
		{"a key file that cannot be made", map[string]string{"mms.keyfile": filepath.Join(file, "gen.key")}, "key file", "mms.keyfile"},
		{"an address of another machine", map[string]string{"heartwood.listen": "203.0.113.1:0"}, "203.0.113.1", "--listen"},
		{"a connection string of no sense", map[string]string{"mongo.mongoUri": "mongodb://ann:" + keyPassword + ":x@a,b,c/"}, "colon", "percent-encoded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Start(t.Context(), Options{Sources: settings(t, c.more), Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				_ = s.Stop(t.Context())
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(opererr.HintOf(err), c.hint) {
				t.Errorf("error %v, hint %q", err, opererr.HintOf(err))
			}
			if strings.Contains(err.Error(), keyPassword) || strings.Contains(err.Error(), "guess") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// TestStopWaitsForRequests: an ordered stop lets a request in progress end, and takes no new ones meanwhile.
func TestStopWaitsForRequests(t *testing.T) {
	s, err := Start(t.Context(), Options{Sources: settings(t, nil), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(s.URL(), "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const form = "username=ann"
	_, _ = fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", address, len(form))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") { // somebody waits for the body
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = answers.ReadString('\n')
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	for { // until nobody is let in any more
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	_, _ = io.WriteString(conn, form)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatalf("the request in progress was cut off: %v", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 500 {
		t.Errorf("the request in progress got %s", resp.Status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, _, err := get(t, http.DefaultClient, s.URL()+"/login"); err == nil {
		t.Error("a stopped server answers")
	}
	if state, _, err := Status(s.Site().Config.Server.DataDir); err != nil || state != NotRunning {
		t.Errorf("state %v, %v", state, err)
	}
}

// TestOneServerADataFolder: a second server is refused, and the first is none the worse.
func TestOneServerADataFolder(t *testing.T) {
	src := settings(t, nil)
	s, err := Start(t.Context(), Options{Sources: src, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	if _, err := Start(t.Context(), Options{Sources: src, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(opererr.HintOf(err), "heartwood stop --data") {
		t.Errorf("a second server: %v", err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL(), "http://"))
	taken := settings(t, map[string]string{"heartwood.listen": "127.0.0.1:" + port})
	if _, err := Start(t.Context(), Options{Sources: taken, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(opererr.HintOf(err), "--port-base") {
		t.Errorf("a port in use: %v", err)
	}
	if resp, _, err := get(t, http.DefaultClient, s.URL()+"/monitor/health"); err != nil || resp.StatusCode != 200 {
		t.Errorf("the first: %v, %v", resp, err)
	}
}
