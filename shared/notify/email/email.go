// Package email sends mail by SMTP. It owns the connections, which serve several messages, and the meaning of the server's
// answers. A server that does not let us in, or does not like our address, is a matter of this site's settings: such messages
// are tried again, because the settings may be mended. Only what the server says of the recipient or the message is for good.
package email

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/letter/post"
)

// Options are what a Notifier needs.
type Options struct {
	Host     string
	Port     int            // 0: 465 with Implicit, otherwise 25
	Implicit bool           // TLS from the first byte (smtps)
	StartTLS bool           // insist on STARTTLS
	Roots    *x509.CertPool // nil: this machine's
	Username string         // "": without signing in
	Password model.Secret
	Sender   *post.Sender
	Timeout  time.Duration // of one message; 0: 20 s
	Idle     time.Duration // how long a connection waits for the next message; 0: 10 s
}

// Notifier sends mail.
type Notifier struct {
	o    Options
	idle *pool
}

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) (*Notifier, error) {
	switch {
	case o.Host == "":
		return nil, fmt.Errorf("%w: set mms.mail.hostname", notify.ErrNotConfigured)
	case o.Sender == nil:
		return nil, fmt.Errorf("%w: set mms.fromEmailAddr", notify.ErrNotConfigured)
	}
	if o.Port == 0 {
		if o.Port = gomail.DefaultPort; o.Implicit {
			o.Port = gomail.DefaultPortSSL
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 20 * time.Second
	}
	if o.Idle <= 0 {
		o.Idle = 10 * time.Second
	}
	return &Notifier{o: o, idle: &pool{}}, nil
}

// Secrets are what must not be seen in errors.
func (n *Notifier) Secrets() []model.Secret { return []model.Secret{n.o.Password} }

// Close ends the connections that wait for a next message.
func (n *Notifier) Close() { n.idle.close() }

// Notify sends a message to one address.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	if err := ctx.Err(); err != nil {
		return notify.Result{}, n.failed(ctx, err)
	}
	msg, err := n.o.Sender.Message(to.Address, m)
	if err != nil {
		return notify.Result{}, err
	}
	ctx, stop := context.WithTimeoutCause(ctx, n.o.Timeout, context.DeadlineExceeded)
	defer stop()
	l := n.idle.take()
	if l != nil {
		err = l.send(ctx, msg)
		if stale(err) && ctx.Err() == nil { // it was closed while it waited; nothing was sent
			l.drop()
			l = nil
		}
	}
	if l == nil {
		if l, err = n.dial(ctx); err != nil {
			return notify.Result{}, n.notIn(ctx, err)
		}
		err = l.send(ctx, msg)
	}
	switch {
	case msg.IsDelivered():
		if err == nil {
			n.idle.give(l, n.o.Idle)
		} else {
			l.drop()
		}
		return notify.Result{Text: strings.TrimSpace("taken by " + n.o.Host + ": " + msg.ServerResponse()), ID: n.o.Sender.MessageID(m.Key)}, nil
	case err == nil:
		err = errors.New("it was not sent")
	}
	l.drop()
	return notify.Result{}, n.refused(ctx, to.Address, err)
}

// dial opens a connection, with TLS and signed in as the settings say.
func (n *Notifier) dial(ctx context.Context) (*link, error) {
	conf := &tls.Config{ServerName: n.o.Host, RootCAs: n.o.Roots, MinVersion: tls.VersionTLS12}
	l := &link{}
	unwatch := func() bool { return true }
	connect := func(dialing context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: n.o.Timeout}).DialContext(dialing, network, address)
		if err != nil {
			return nil, err
		}
		l.conn = c
		unwatch = context.AfterFunc(ctx, func() { _ = c.Close() }) // the library watches the context while it connects only
		if !n.o.Implicit {
			return c, nil
		}
		secured := tls.Client(c, conf)
		if err := secured.HandshakeContext(dialing); err != nil {
			return nil, err
		}
		return secured, nil
	}
	policy := gomail.NoTLS
	if n.o.StartTLS && !n.o.Implicit {
		policy = gomail.TLSMandatory
	}
	opts := []gomail.Option{
		gomail.WithPort(n.o.Port), gomail.WithTimeout(n.o.Timeout), gomail.WithTLSConfig(conf), gomail.WithTLSPolicy(policy), gomail.WithDialContextFunc(connect),
	}
	if n.o.Username != "" {
		opts = append(opts, gomail.WithOpportunisticSMTPAuth(n.mechanisms()...), gomail.WithUsername(n.o.Username), gomail.WithPassword(n.o.Password.Reveal()))
	}
	client, err := gomail.NewClient(n.o.Host, opts...)
	if err != nil {
		return nil, err
	}
	l.client = client
	l.smtp, err = client.DialToSMTPClientWithContext(ctx)
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if l.conn != nil {
			_ = l.conn.Close() // the library leaves it open
		}
		return nil, err
	}
	return l, nil
}

// mechanisms are the ways of signing in, best first. Those that show the password are for connections that nobody can
// listen to.
func (n *Notifier) mechanisms() []gomail.SMTPAuthType {
	hiding := []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthCramMD5}
	showing := []gomail.SMTPAuthType{gomail.SMTPAuthPlain, gomail.SMTPAuthLogin}
	switch {
	case n.o.StartTLS || n.o.Implicit:
		return slices.Concat(hiding[:1], showing, hiding[1:])
	case slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, n.o.Host):
		return slices.Concat(hiding, showing)
	}
	return hiding
}

// server is how messages name the server.
func (n *Notifier) server() string {
	return "the mail server " + net.JoinHostPort(n.o.Host, strconv.Itoa(n.o.Port))
}

// failed is about the end of waiting, or nil when that is not what err is.
func (n *Notifier) failed(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled) || ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s was not waited for: %w", n.server(), context.Canceled)
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s did not answer in time: %w", n.server(), context.DeadlineExceeded)
	}
	return nil
}

// notIn says why there is no connection. All of it can be mended, by the settings or on the server.
func (n *Notifier) notIn(ctx context.Context, err error) error {
	if f := n.failed(ctx, err); f != nil {
		return f
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return notify.Later(0, "%s has a certificate that is not trusted here: %v: use the name that the certificate is for as mms.mail.hostname, "+
			"or name the CA that issued it in heartwood.mail.CAFile", n.server(), bad.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return notify.Later(0, "%s does not speak TLS from the first byte: set mms.mail.transport=smtp, with mms.mail.tls=true if it knows STARTTLS", n.server())
	}
	if said, ok := errors.AsType[*textproto.Error](err); ok {
		if strings.Contains(err.Error(), "SMTP AUTH") {
			return notify.Later(0, "%s does not let %s in: %v: check mms.mail.username and mms.mail.password", n.server(), n.o.Username, said)
		}
		return notify.Later(0, "%s does not want to talk: %v", n.server(), said)
	}
	switch text := err.Error(); {
	case strings.Contains(text, "does not support STARTTLS"):
		return notify.Later(0, "%s does not offer STARTTLS: set mms.mail.transport=smtps if its port is one for TLS, or mms.mail.tls=false", n.server())
	case errors.Is(err, gomail.ErrNoSupportedAuthDiscovered) && !n.o.StartTLS && !n.o.Implicit:
		return notify.Later(0, "%s offers no way of signing in that hides the password, and the connection has no TLS: set mms.mail.tls=true or mms.mail.transport=smtps", n.server())
	case strings.Contains(text, "does not support SMTP AUTH") && !n.o.StartTLS && !n.o.Implicit:
		return notify.Later(0, "%s offers no signing in without TLS: set mms.mail.tls=true or mms.mail.transport=smtps, or leave mms.mail.username empty", n.server())
	}
	return notify.Later(0, "%s cannot be used: %v", n.server(), err)
}

// refused says what the server's answer to a message means.
func (n *Notifier) refused(ctx context.Context, to string, err error) error {
	if f := n.failed(ctx, err); f != nil {
		return f
	}
	text, code, reason := err.Error(), 0, gomail.ErrAmbiguous
	if se, ok := errors.AsType[*gomail.SendError](err); ok {
		code, reason = se.ErrorCode(), se.Reason
		text, _, _ = strings.Cut(se.Error(), ", affected ")
		text = strings.TrimPrefix(text, se.Reason.String()+": ")
	}
	switch {
	case strings.Contains(text, "i/o timeout"): // the library keeps the text only
		return fmt.Errorf("%s did not answer in time: %w", n.server(), context.DeadlineExceeded)
	case slices.Contains([]int{530, 534, 535, 538}, code):
		return notify.Later(0, "%s wants callers to sign in: %s: set mms.mail.username and mms.mail.password", n.server(), text)
	case code >= 500 && reason == gomail.ErrSMTPMailFrom:
		return notify.Later(0, "%s takes no mail from %s: %s: check mms.fromEmailAddr", n.server(), n.o.Sender.From(), text)
	case code >= 500:
		return notify.Refused("%s refuses the mail to %s: %s", n.server(), to, text)
	}
	return notify.Later(0, "%s did not take the mail to %s: %s", n.server(), to, text)
}

// stale reports whether a message failed before anything of it was sent, because its connection was gone.
func stale(err error) bool {
	se, ok := errors.AsType[*gomail.SendError](err)
	return ok && se.Reason == gomail.ErrConnCheck
}
