package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what receivers of X-MMS-Signature verify
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// letter is one mail, taken apart.
type letter struct {
	To, Subject string
	Text, HTML  string
	Picture     []byte
}

// mailbox is a mail server that insists on STARTTLS and on a password.
type mailbox struct {
	Host, CAFile   string
	Port           int
	User, Password string
	mu             sync.Mutex
	letters        []letter
	faults         []string
}

func startMailbox(t *testing.T) *mailbox {
	t.Helper()
	b := &mailbox{Host: "127.0.0.1", User: "heartwood", Password: "Hush-the-mail-3"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	b.CAFile = filepath.Join(t.TempDir(), "mail.pem")
	if err := os.WriteFile(b.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(b)
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	srv.Domain, srv.ReadTimeout, srv.WriteTimeout = "localhost", time.Minute, time.Minute
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.Port = l.Addr().(*net.TCPAddr).Port
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return b
}

// settings are the flags that make a server send its mail here.
func (b *mailbox) settings() []string {
	var args []string
	for k, v := range map[string]string{
		"mms.fromEmailAddr": "heartwood@example.com", "mms.mail.hostname": b.Host, "mms.mail.port": strconv.Itoa(b.Port),
		"mms.mail.username": b.User, "mms.mail.password": b.Password, "mms.mail.tls": "true", "heartwood.mail.CAFile": b.CAFile,
	} {
		args = append(args, "--set", k+"="+v)
	}
	return args
}

func (b *mailbox) fault(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, s)
}

// taken returns the mails so far, and what was wrong with how they came.
func (b *mailbox) taken() ([]letter, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]letter(nil), b.letters...), b.faults
}

// NewSession answers a connection.
func (b *mailbox) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &mailSession{box: b, conn: c}, nil
}

type mailSession struct {
	box  *mailbox
	conn *smtp.Conn
	in   bool
	to   string
}

func (s *mailSession) AuthMechanisms() []string {
	if _, secured := s.conn.TLSConnectionState(); !secured {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.box.User || password != s.box.Password {
			return errors.New("wrong name or password")
		}
		s.in = true
		return nil
	}), nil
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error {
	if _, secured := s.conn.TLSConnectionState(); !secured || !s.in {
		s.box.fault("somebody would send without TLS or without signing in")
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "STARTTLS and AUTH first"}
	}
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = to; return nil }
func (s *mailSession) Reset()                                    { s.to = "" }
func (s *mailSession) Logout() error                             { return nil }

func (s *mailSession) Data(r io.Reader) error {
	l, err := readLetter(r)
	if err != nil {
		s.box.fault("a mail does not read: " + err.Error())
		return nil
	}
	l.To = s.to
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.letters = append(s.box.letters, l)
	return nil
}

func readLetter(r io.Reader) (letter, error) {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return letter{}, err
	}
	var l letter
	if l.Subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return l, err
	}
	return l, l.part(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
}

func (l *letter) part(contentType, encoding string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := l.part(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p); err != nil {
				return err
			}
		}
	}
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	b, err := io.ReadAll(body)
	switch kind {
	case "text/plain":
		l.Text = string(b)
	case "text/html":
		l.HTML = string(b)
	case "image/png":
		l.Picture = b
	}
	return err
}

// hookCall is a message that a webhook took.
type hookCall struct {
	Kind, Key string // X-MMS-Event, Idempotency-Key
	Alert     struct {
		ID, EventTypeName, Status string
		CurrentValue              struct{ Number float64 }
	}
}

// hookCatcher is a receiver of webhooks that checks signatures.
type hookCatcher struct {
	*httptest.Server
	Secret string
	mu     sync.Mutex
	calls  []hookCall
	faults []string
}

func startHooks(t *testing.T) *hookCatcher {
	t.Helper()
	c := &hookCatcher{Secret: "hush-the-hook"}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		h := hmac.New(sha1.New, []byte(c.Secret))
		h.Write(b)
		call := hookCall{Kind: r.Header.Get("X-MMS-Event"), Key: r.Header.Get("Idempotency-Key")}
		if err == nil {
			err = json.Unmarshal(b, &call.Alert)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.faults = append(c.faults, err.Error())
		}
		if got := r.Header.Get("X-MMS-Signature"); got != base64.StdEncoding.EncodeToString(h.Sum(nil)) {
			c.faults = append(c.faults, "the signature of "+call.Key+" is "+got)
		}
		c.calls = append(c.calls, call)
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *hookCatcher) taken() ([]hookCall, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]hookCall(nil), c.calls...), c.faults
}
