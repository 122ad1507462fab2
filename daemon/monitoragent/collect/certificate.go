package collect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// lookAgain is how long a certificate counts as the one in use. Connections last for weeks, and processes renew their
// certificates without closing them.
const lookAgain = 6 * time.Hour

// maxSubject bounds a subject: whoever runs the process writes it.
const maxSubject = 256

// certificate is what a process showed, and when it was looked at.
type certificate struct {
	wire.Certificate
	seen time.Time
}

// shown notes the certificate of a handshake.
func (c *driverConn) shown(s tls.ConnectionState) error {
	if len(s.PeerCertificates) > 0 {
		c.note(s.PeerCertificates[0])
	}
	return nil
}

func (c *driverConn) note(leaf *x509.Certificate) {
	subject := strings.ToValidUTF8(leaf.Subject.String(), "\uFFFD")
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "")
	}
	c.cert.Store(&certificate{wire.Certificate{Until: leaf.NotAfter.UTC(), Subject: subject}, time.Now()})
}

// refused notes the certificate that the agent did not trust: an expired one is worth knowing about most of all.
func (c *driverConn) refused(err error) {
	if leaf := unverified(err); leaf != nil {
		c.note(leaf)
	}
}

// unverified finds the certificate that was refused in an error of the driver, which keeps the causes of a failed selection beside
// the chain of errors.
func unverified(err error) *x509.Certificate {
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) && len(bad.UnverifiedCertificates) > 0 {
		return bad.UnverifiedCertificates[0]
	}
	var selection topology.ServerSelectionError
	if errors.As(err, &selection) {
		for _, s := range selection.Desc.Servers {
			if errors.As(s.LastError, &bad) && len(bad.UnverifiedCertificates) > 0 {
				return bad.UnverifiedCertificates[0]
			}
		}
	}
	return nil
}

// Certificate is what the process showed last. When that was long ago it is looked at again, over a connection of its own.
func (c *driverConn) Certificate(ctx context.Context) *wire.Certificate {
	cert := c.cert.Load()
	if cert == nil {
		return nil
	}
	if c.again != nil && time.Since(cert.seen) > lookAgain {
		if err := c.again(ctx); err != nil {
			c.refused(err)
			// Whether the process answers is found out elsewhere: not asked again with the next ping.
			c.cert.CompareAndSwap(cert, &certificate{cert.Certificate, time.Now()})
		}
		cert = c.cert.Load()
	}
	shown := cert.Certificate
	return &shown
}

// handshake makes the function that looks at a host's certificate.
func (d *Dialer) handshake(cfg *tls.Config, host wire.Host) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, d.Patience())
		defer cancel()
		own := cfg.Clone()
		if own.ServerName == "" {
			own.ServerName = host.Hostname
		}
		dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: d.Patience()}, Config: own}
		conn, err := dialer.DialContext(ctx, "tcp", model.Address(host.Hostname, int(host.Port)))
		if err != nil {
			return fmt.Errorf("look at the certificate: %w", err)
		}
		return conn.Close()
	}
}
