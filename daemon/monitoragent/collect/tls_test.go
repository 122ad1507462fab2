package collect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/config"
)

// authority signs certificates of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	a.file = a.write(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a *authority) write(t *testing.T, name string, blocks ...*pem.Block) string {
	t.Helper()
	var b []byte
	for _, block := range blocks {
		b = append(b, pem.EncodeToMemory(block)...)
	}
	name = filepath.Join(a.dir, name)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// issue signs a certificate; its key is encrypted when a password is given.
func (a *authority) issue(t *testing.T, name, password string) (file string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: []string{"Heartwood"}},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}
	if password != "" {
		// The form that `openssl ec -aes256` writes, which people have.
		block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, keyDER, []byte(password), x509.PEMCipherAES256) //nolint:staticcheck // see above
		if err != nil {
			t.Fatal(err)
		}
	}
	file = a.write(t, name+".pem", &pem.Block{Type: "CERTIFICATE", Bytes: der}, block)
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, server := ca.issue(t, "server", "")
	leaf, err := x509.ParseCertificate(server.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	ends := leaf.NotAfter
	client, _ := ca.issue(t, "monitoring", "pem-password")
	proc := mongotest.StartTLS(t, "primary", &tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: ca.pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
	})
	proc.RequireUser(t, "monitor", "secret")
	tests := []struct {
		name   string
		change func(*config.Agent)
		failed string // command of the failure; empty: none
		says   string
	}{
		{"trusted", func(c *config.Agent) {
			c.TLSAll, c.TLSCAFile, c.AuthUsername, c.AuthPassword = true, ca.file, "monitor", "secret"
		}, "", ""},
		{"not verified because told so", func(c *config.Agent) {
			c.TLSAll, c.TLSVerify, c.AuthUsername, c.AuthPassword = true, false, "monitor", "secret"
		}, "", ""},
		{"X.509 with an encrypted key", func(c *config.Agent) {
			c.TLSCAFile, c.TLSCertFile, c.TLSCertPass, c.AuthMechanism = ca.file, client, "pem-password", "MONGODB-X509"
		}, "", ""},
		{"X.509 by connection string", func(c *config.Agent) {
			c.TLSCAFile, c.TLSCertFile, c.TLSCertPass = ca.file, client, "pem-password"
			c.MongoURI = "mongodb://db1.example.net/?authMechanism=MONGODB-X509&tls=true"
		}, "", ""},
		{"unknown authority", func(c *config.Agent) { c.TLSAll, c.TLSCAFile = true, other.file }, "connect", "certificate"},
		{"TLS not asked for", func(*config.Agent) {}, "connect", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := visit(t, start(t, proc, tt.change), day)
			if tt.failed == "" && len(p.Errors) > 0 {
				t.Fatalf("failures %+v", p.Errors)
			}
			if tt.failed != "" && (len(p.Errors) == 0 || p.Errors[0].Command != tt.failed || !strings.Contains(p.Errors[0].Message, tt.says)) {
				t.Fatalf("failures %+v", p.Errors)
			}
			switch tls := tt.name != "TLS not asked for"; {
			case tls && (p.Cert == nil || p.Cert.Subject != "CN=server,O=Heartwood" || !p.Cert.Until.Equal(ends)):
				t.Errorf("certificate %+v, want one of CN=server,O=Heartwood until %s", p.Cert, ends)
			case !tls && p.Cert != nil:
				t.Errorf("certificate %+v without TLS", p.Cert)
			}
		})
	}
}

func TestCertificatesThatCannotBeRead(t *testing.T) {
	ca := newAuthority(t)
	client, _ := ca.issue(t, "monitoring", "pem-password")
	for name, change := range map[string]func(*config.Agent){
		"no such file":   func(c *config.Agent) { c.TLSCAFile = filepath.Join(t.TempDir(), "none.pem") },
		"wrong password": func(c *config.Agent) { c.TLSCertFile, c.TLSCertPass = client, "guess" },
		"no certificate": func(c *config.Agent) { c.TLSCertFile = ca.file },
	} {
		cfg := config.DefaultAgent()
		change(&cfg)
		if _, err := collect.NewDialer(&cfg, "1"); err == nil || strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
