package mongosim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/heartwood-db/heartwood/shared/pemfile"
)

// Certificates are made for one deployment and trusted by nobody else.
type Certificates struct {
	Server     *tls.Config // for Options.TLS; takes client certificates of the same authority
	CAFile     string      // the authority, in PEM
	ServerFile string      // the server's certificate and key, in PEM
	ClientFile string      // a client's certificate and key, in PEM
	ClientName string      // its subject, as an X.509 user is called
}

// NewCertificates makes an authority, a server certificate for hosts and a client certificate, with their files in dir.
func NewCertificates(dir string, hosts ...string) (*Certificates, error) {
	c, err := newCertificates(dir, hosts)
	if err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	return c, nil
}

// LoadCertificates reads a server's certificate and key, and the authority of clients' certificates if one is named.
func LoadCertificates(file, caFile string) (*tls.Config, error) {
	pair, err := pemfile.KeyPair(file, "")
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12}
	if caFile != "" {
		if c.ClientCAs, err = pemfile.Authorities(caFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newCertificates(dir string, hosts []string) (*Certificates, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mongosim authority", Organization: []string{"mongosim"}}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mongosim", Organization: []string{"mongosim"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	client := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "client", Organization: []string{"mongosim"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	issue := func(t *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		t.NotBefore, t.NotAfter, t.KeyUsage = ca.NotBefore, ca.NotAfter, x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, t, ca, k.Public(), key)
		return der, k, err
	}
	serverDER, serverKey, err := issue(server)
	if err != nil {
		return nil, err
	}
	clientDER, clientKey, err := issue(client)
	if err != nil {
		return nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	clientKeyDER, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		return nil, err
	}
	clientPEM := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clientDER}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: clientKeyDER})...)
	serverKeyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	serverPEM := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverDER}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: serverKeyDER})...)
	c := &Certificates{ServerFile: filepath.Join(dir, "server.pem"), CAFile: filepath.Join(dir, "ca.pem"), ClientFile: filepath.Join(dir, "client.pem"), ClientName: client.Subject.String()}
	if err := os.WriteFile(c.CAFile, caPEM, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.ServerFile, serverPEM, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.ClientFile, clientPEM, 0o600); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caPEM)
	c.Server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{serverDER}, PrivateKey: serverKey}},
		ClientCAs:    pool, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
	}
	return c, nil
}
