package balancer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	hwwire "github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// The addresses of this machine that callers have. Only 127.0.0.1, where the balancers are, is trusted.
const (
	caller  = "127.0.0.9"
	another = "127.0.0.8"
)

// spoofed is what a client may send to seem to be somebody else.
var spoofed = []string{
	"X-Forwarded-For", caller + ", 127.0.0.1, 6.6.6.6", "X-Forwarded-Host", "evil.example", "X-Forwarded-Server", "evil.example",
	"X-Forwarded-Proto", "https", "X-Proxied-Https", "on",
}

// TestClientAddresses: behind every kind of balancer the caller's address is what events, logs and access lists have, and what
// the caller claims is nowhere.
func TestClientAddresses(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	harness.Need(t, "nginx")
	db := startSet(t, mongosim.Options{})
	byHeader := newServers(t, []string{db.URI()}, behindHeader...)
	byProxy := newServersLike(t, byHeader[0], db.URI(), "heartwood.proxyProtocol=required", "heartwood.trustedProxies=127.0.0.1/32")
	admin := provision(t, byHeader[0].base)
	inside := look(t, byHeader[0].data, db.URI())
	for _, c := range []struct {
		name   string
		front  *front
		server *server
	}{
		{"HAProxy with X-Forwarded-For", startHAProxy(t, "haproxy/haproxy.cfg", byHeader), byHeader[0]},
		{"nginx with X-Forwarded-For", startNginx(t, byHeader), byHeader[0]},
		{"HAProxy with PROXY protocol 2", startHAProxy(t, "haproxy/haproxy-tcp.cfg", byProxy), byProxy[0]},
		{"HAProxy with PROXY protocol 1", startHAProxy(t, "haproxy/haproxy-tcp.cfg", byProxy, "send-proxy-v2\n", "send-proxy\n"), byProxy[0]},
		{"no balancer", &front{base: byHeader[0].base}, byHeader[0]},
	} {
		t.Run(c.name, func(t *testing.T) {
			began, said := time.Now(), len(c.server.Log())
			browser := clientFrom(t, caller)
			must(t, signIn(t.Context(), browser, local(c.front.base, ""), spoofed...))
			wantEvent(t, inside, alerting.EventQuery{Types: []model.EventType{model.EventLogin}, From: began, AllGroups: true})

			group := anotherGroup(t, admin, c.name)
			refusedAgent(t, c.front, &group)
			wantEvent(t, inside, alerting.EventQuery{Types: []model.EventType{model.EventAgentKeyRefused}, GroupID: model.ID(group.Group)})

			accessList(t, c.front, admin, &group)
			wantLogged(t, c.server.Log()[said:])
		})
	}

	// Who comes past the balancer is turned away, and the log says why.
	if status, body, err := get(t.Context(), clientFrom(t, caller), local(byProxy[0].base, "/login")); err == nil {
		t.Errorf("past the balancer: status %d, %s", status, body)
	}
	if log := byProxy[0].Log(); !strings.Contains(log, "connection refused") || !strings.Contains(log, "is not in heartwood.trustedProxies") {
		t.Errorf("the log says %s", log)
	}
}

// wantLogged holds that the log has the addresses of the refused calls, each line the right one.
func wantLogged(t *testing.T, log string) {
	t.Helper()
	of := map[string]string{"status=401": caller, "status=403": another}
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "path=/agents/v1/conf") && !strings.Contains(line, "/accessList ") {
			continue
		}
		if strings.Contains(line, "addr=127.0.0.1 ") && !strings.Contains(line, "method=POST") || strings.Contains(line, "6.6.6.6") {
			t.Errorf("the log says %s", line)
		}
		for status, ip := range of {
			if strings.Contains(line, status) && strings.Contains(line, "addr="+ip+" ") {
				seen[status] = true
			}
		}
	}
	if len(seen) != len(of) {
		t.Errorf("the log has no line of %v but of %v: %s", of, seen, log)
	}
}

// newServersLike starts another server of a site.
func newServersLike(t *testing.T, first *server, uri string, settings ...string) []*server {
	t.Helper()
	s := &server{t: t, data: t.TempDir(), base: harness.PortBase(t), args: []string{"--set", "mongo.mongoUri=" + uri}}
	for _, set := range settings {
		s.args = append(s.args, "--set", set)
	}
	key, err := os.ReadFile(filepath.Join(first.data, "gen.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.data, "gen.key"), key, 0o600))
	s.start()
	s.healthy()
	return []*server{s}
}

func wantEvent(t *testing.T, s *site.Site, q alerting.EventQuery) {
	t.Helper()
	events, _, err := s.Alerting.Events(t.Context(), q)
	must(t, err)
	if len(events) != 1 || events[0].IP != caller {
		t.Errorf("events %v: %+v, want one from %s", q.Types, events, caller)
	}
}

// refusedAgent calls with a wrong key.
func refusedAgent(t *testing.T, f *front, group *client.Site) {
	t.Helper()
	url := local(f.base+agents, hwwire.PathConf) + "?" + hwwire.ConfQuery(group.Agent, nil).Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	req.SetBasicAuth(group.Group, strings.Repeat("0", len(group.AgentKey)))
	for i := 0; i < len(spoofed); i += 2 {
		req.Header.Set(spoofed[i], spoofed[i+1])
	}
	resp, err := clientFrom(t, caller).Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an agent with a wrong key: %s", resp.Status)
	}
}

// accessList makes an API key that may be used from the caller's address only.
func accessList(t *testing.T, f *front, admin, group *client.Site) {
	t.Helper()
	ctx := t.Context()
	var g struct{ OrgID string }
	must(t, admin.Call(ctx, http.MethodGet, "/groups/"+group.Group, nil, &g))
	var key struct{ ID, PublicKey, PrivateKey string }
	must(t, admin.Call(ctx, http.MethodPost, "/orgs/"+g.OrgID+"/apiKeys", map[string]any{"desc": "from one address", "roles": []string{"ORG_OWNER"}}, &key))
	list := "/orgs/" + g.OrgID + "/apiKeys/" + key.ID + "/accessList"
	must(t, admin.Call(ctx, http.MethodPost, list, []map[string]string{{"ipAddress": caller}}, nil))

	ask := func(from string) (status int, links string, used string) {
		d := digest.NewTransport(key.PublicKey, key.PrivateKey)
		d.Transport = spoof{clientFrom(t, from).Transport}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, local(f.base, "/api/public/v1.0")+list, nil)
		must(t, err)
		resp, err := (&http.Client{Transport: d}).Do(req)
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		var page struct {
			Links   []struct{ Href string }
			Results []struct{ LastUsedAddress string }
		}
		if resp.StatusCode == http.StatusOK {
			must(t, json.Unmarshal(b, &page))
			links, used = page.Links[0].Href, page.Results[0].LastUsedAddress
		} else if !bytes.Contains(b, []byte("IP address "+from)) {
			t.Errorf("refused: %s", b)
		}
		return resp.StatusCode, links, used
	}
	status, link, _ := ask(caller)
	if status != http.StatusOK || !strings.HasPrefix(link, local(f.base, "/api/public/v1.0/orgs/")) {
		t.Errorf("from an address on the list: status %d, link %s", status, link)
	}
	if _, _, used := ask(caller); used != caller {
		t.Errorf("the list says that it was last used from %q", used)
	}
	if status, _, _ := ask(another); status != http.StatusForbidden {
		t.Errorf("from %s: status %d", another, status)
	}
}

// spoof sends the spoofed headers with every request.
type spoof struct{ http.RoundTripper }

// RoundTrip does.
func (s spoof) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for i := 0; i < len(spoofed); i += 2 {
		r.Header.Set(spoofed[i], spoofed[i+1])
	}
	return s.RoundTripper.RoundTrip(r)
}

// TestSamplesWithTLS turns on what the samples say of TLS.
func TestSamplesWithTLS(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	harness.Need(t, "nginx")
	dir := t.TempDir()
	both, cert, key, trust := certificate(t, dir)
	plain := newServers(t, []string{""}, behindHeader...)
	secure := newServers(t, []string{""}, "heartwood.proxyProtocol=required", "mms.https.PEMKeyFile="+both)
	ports := func(pages, agents string) (f front, pairs []string) {
		f = front{secure: freePort(t), agent: freePort(t)}
		return f, []string{"#TLS ", "", pages, strings.Replace(pages, "443", addr(f.secure)[colon(pages):], 1), agents, strings.Replace(agents, "8444", addr(f.agent)[colon(agents):], 1)}
	}
	for _, c := range []struct {
		name  string
		start func(t *testing.T) *front
	}{
		{"HAProxy", func(t *testing.T) *front {
			f, pairs := ports("bind :443", "bind :8444")
			run := startHAProxy(t, "haproxy/haproxy.cfg", plain, append(pairs, "/etc/haproxy/heartwood.pem", both)...)
			run.secure, run.agent = f.secure, f.agent
			return run
		}},
		{"nginx", func(t *testing.T) *front {
			f, pairs := ports("listen 443", "listen 8444")
			pairs = append(pairs, "listen 80;", "listen "+addr(freePort(t))+";", "/etc/nginx/heartwood.crt", cert, "/etc/nginx/heartwood.key", key)
			run := startNginx(t, plain, pairs...)
			run.secure, run.agent = f.secure, f.agent
			return run
		}},
		{"HAProxy on layer 4", func(t *testing.T) *front {
			f := startHAProxy(t, "haproxy/haproxy-tcp.cfg", secure, "#TLS ", "", "/etc/haproxy/heartwood-ca.pem", cert)
			f.secure, f.agent = f.base, f.base+agents
			return f
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.start(t)
			browser := clientFrom(t, caller)
			browser.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: trust} //nolint:forcetypeassert,gosec // our own; the default minimum
			harness.Eventually(t, 20*time.Second, "a page over TLS", func(ctx context.Context) error {
				status, _, err := get(ctx, browser, fmt.Sprintf("https://127.0.0.1:%d/monitor/health", f.agent))
				return cmp.Or(err, wantOK(status))
			})
			resp, err := browser.Get(fmt.Sprintf("https://127.0.0.1:%d/register", f.secure))
			must(t, err)
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") == "" || len(resp.Cookies()) == 0 {
				t.Errorf("%s, headers %v", resp.Status, resp.Header)
			}
			for _, k := range resp.Cookies() {
				if !k.Secure {
					t.Errorf("cookie %s", k.Raw)
				}
			}
		})
	}
}

func wantOK(status int) error {
	if status != http.StatusOK {
		return fmt.Errorf("status %d", status)
	}
	return nil
}

// colon is where a replacement of a port begins in an address: at the port where the sample's text has a colon, else at its host.
func colon(listen string) int {
	if strings.Contains(listen, ":") {
		return len("127.0.0.1:")
	}
	return 0
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of TCP
}

// certificate makes a certificate of 127.0.0.1 that signs itself, in one file with its key and in two.
func certificate(t *testing.T, dir string) (both, cert, key string, trust *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "heartwood"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	must(t, err)
	sealed, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	c := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sealed})
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o600))
		return path
	}
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(c)
	return file("both.pem", append(c, p...)), file("cert.pem", c), file("key.pem", p), trust
}
