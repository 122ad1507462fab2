package email

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 is what it is
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

// server is a mail server in the test's process.
type server struct {
	mu       sync.Mutex
	now      notifytest.Outcome
	mails    []string
	sessions int
	auths    []string // mechanisms used
	rcptTo   []string
	hang     chan struct{}
	user     string // who may send; "": everybody
	password string
	mechs    []string
	badFrom  bool // refuses every sender
	secret   string
	addr     string
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	if s.now == notifytest.Gone {
		_ = c.Conn().Close()
		return nil, errors.New("gone")
	}
	_, secured := c.TLSConnectionState()
	return &session{s: s, conn: c, secured: secured}, nil
}

type session struct {
	s       *server
	conn    *smtp.Conn
	secured bool
	in      bool
}

func (x *session) AuthMechanisms() []string { return x.s.mechs }

func (x *session) Auth(mech string) (sasl.Server, error) {
	x.s.mu.Lock()
	x.s.auths = append(x.s.auths, mech)
	x.s.mu.Unlock()
	check := func(user, password string) error {
		if user != x.s.user || password != x.s.password {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "wrong: " + user + " " + password}
		}
		x.in = true
		return nil
	}
	switch mech {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	case sasl.Login:
		return &login{check: check}, nil
	case "CRAM-MD5":
		return &cram{s: x.s, in: &x.in}, nil
	}
	return nil, errors.New("unknown mechanism")
}

type login struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *login) Next(response []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

type cram struct {
	s    *server
	in   *bool
	sent bool
}

func (c *cram) Next(response []byte) ([]byte, bool, error) {
	const challenge = "<1896.697170952@postoffice.example.net>"
	if !c.sent {
		c.sent = true
		return []byte(challenge), false, nil
	}
	h := hmac.New(md5.New, []byte(c.s.password))
	h.Write([]byte(challenge))
	if string(response) != c.s.user+" "+hex.EncodeToString(h.Sum(nil)) {
		return nil, true, &smtp.SMTPError{Code: 535, Message: "wrong"}
	}
	*c.in = true
	return nil, true, nil
}

func (x *session) Mail(string, *smtp.MailOptions) error {
	switch {
	case x.s.user != "" && !x.in:
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	case x.s.badFrom:
		return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 8}, Message: "not your address"}
	}
	return nil
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.rcptTo = append(x.s.rcptTo, to)
	if x.s.now == notifytest.Refuse {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here, said " + x.s.secret}
	}
	return nil
}

func (x *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	x.s.mu.Lock()
	now := x.s.now
	if now == notifytest.Accept {
		x.s.mails = append(x.s.mails, string(b))
	}
	x.s.mu.Unlock()
	switch now {
	case notifytest.Busy:
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "too much mail, come again"}
	case notifytest.Broken:
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "disk full"}
	case notifytest.Hang:
		<-x.s.hang
		return errors.New("hung")
	}
	return nil
}

func (*session) Reset()        {}
func (*session) Logout() error { return nil }

func (s *server) set(o notifytest.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = o
}

func (s *server) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

func (s *server) count() (sessions int, auths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions, append([]string(nil), s.auths...)
}

// start serves; conf nil is without TLS, implicit from the first byte.
func (s *server) start(t *testing.T, conf *tls.Config, implicit, insecureAuth bool) (host string, port int) {
	t.Helper()
	s.hang, s.now = make(chan struct{}), notifytest.Accept
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := smtp.NewServer(s)
	srv.Domain, srv.AllowInsecureAuth = "mail.example.com", insecureAuth
	srv.EnableSMTPUTF8 = true
	srv.ErrorLog = quiet{}
	if implicit {
		l = tls.NewListener(l, conf)
	} else {
		srv.TLSConfig = conf
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { close(s.hang); _ = srv.Close(); <-done })
	return "127.0.0.1", l.Addr().(*net.TCPAddr).Port
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// authority makes a CA and a certificate of it for some names.
func authority(t *testing.T, names ...string) (*x509.CertPool, *tls.Config) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, leafKey := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(signed)
	return roots, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}}, MinVersion: tls.VersionTLS12}
}

// letterIn is a mail taken apart.
type letterIn struct {
	header  mail.Header
	text    string
	html    string
	picture []byte
	cid     string
}

func parse(t *testing.T, raw string) letterIn {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("not a mail: %v\n%s", err, raw)
	}
	l := letterIn{header: m.Header}
	l.part(t, m.Header.Get, m.Body)
	return l
}

func (l *letterIn) part(t *testing.T, header func(string) string, body io.Reader) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil {
		t.Fatalf("content type %q: %v", header("Content-Type"), err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		for r := multipart.NewReader(body, params["boundary"]); ; {
			p, err := r.NextRawPart()
			if err != nil {
				return
			}
			l.part(t, p.Header.Get, p)
		}
	}
	switch strings.ToLower(header("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("decode %s: %v", kind, err)
	}
	switch kind {
	case "text/plain":
		l.text = string(b)
	case "text/html":
		l.html = string(b)
	case "image/png":
		l.picture, l.cid = b, header("Content-Id")
	}
}

// plain is a whole mail in plain letters.
func plain(t *testing.T) func(string) string {
	return func(raw string) string {
		l := parse(t, raw)
		var b bytes.Buffer
		for k, values := range l.header {
			for _, v := range values {
				decoded, err := new(mime.WordDecoder).DecodeHeader(v)
				if err != nil {
					t.Errorf("header %s: %v", k, err)
				}
				fmt.Fprintf(&b, "%s: %s\n", k, decoded)
			}
		}
		return b.String() + "\n" + l.text + "\n" + l.html
	}
}
