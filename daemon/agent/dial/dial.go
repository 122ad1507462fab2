// Package dial knows how an agent connects to the processes of a deployment: as whom, over which TLS. It owns what the
// agent's configuration says about that; connections belong to their users.
package dial

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/pemfile"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Dialer knows how to connect to processes: with the agent's own credentials and TLS settings; what the server keeps about a
// host is used where the agent has none.
type Dialer struct {
	appName string
	auth    *options.Credential // the agent's own; nil: the host's
	tls     *tls.Config         // used where TLS is on
	tlsAll  bool
	dial    time.Duration
	wait    time.Duration
	seeds   []string
}

// New reads certificates and the connection string. A mongodb+srv string is resolved here.
func New(cfg *config.Agent, appName string) (*Dialer, error) {
	d := &Dialer{
		appName: appName, tlsAll: cfg.TLSAll,
		dial: time.Duration(cfg.DialSeconds) * time.Second, wait: time.Duration(cfg.SelectionSeconds) * time.Second,
	}
	var err error
	if d.tls, err = TLSConfig(cfg.TLSCAFile, cfg.TLSCertFile, cfg.TLSCertPass, cfg.TLSVerify); err != nil {
		return nil, fmt.Errorf("TLS to mongods: %w", err)
	}
	if cfg.MongoURI != "" {
		if err := d.fromURI(cfg.MongoURI, cfg.TLSCAFile+cfg.TLSCertFile != "" || !cfg.TLSVerify); err != nil {
			return nil, fmt.Errorf("mongoUri: %w", err)
		}
	}
	for _, s := range cfg.SeedHosts {
		d.seeds = append(d.seeds, strings.TrimSpace(s))
	}
	if cfg.AuthUsername != "" || cfg.AuthMechanism != "" {
		d.auth = &options.Credential{
			Username: cfg.AuthUsername, Password: cfg.AuthPassword.Reveal(), PasswordSet: cfg.AuthPassword != "",
			AuthMechanism: cfg.AuthMechanism, AuthSource: cfg.AuthSource,
		}
		if cfg.AuthMechanism == "MONGODB-X509" {
			d.auth.PasswordSet = false
			d.tlsAll = true
		}
	}
	return d, nil
}

func (d *Dialer) fromURI(uri string, ownTLS bool) error {
	o := options.Client().ApplyURI(uri)
	if err := o.Validate(); err != nil {
		return err
	}
	d.seeds = append(d.seeds, o.Hosts...)
	d.auth = o.Auth
	if o.TLSConfig != nil {
		d.tlsAll = true
		if !ownTLS {
			d.tls = o.TLSConfig
		}
	}
	return nil
}

// As is a dialer that connects as another user, whatever is kept of a host, and as nobody where neither a name nor a mechanism
// is given.
func (d *Dialer) As(username string, password model.Secret, mechanism, source string) *Dialer {
	other := *d
	other.auth = nil
	if username != "" || mechanism != "" {
		x509 := mechanism == "MONGODB-X509"
		other.auth = &options.Credential{Username: username, Password: password.Reveal(), PasswordSet: password != "" && !x509, AuthMechanism: mechanism, AuthSource: source}
		other.tlsAll = d.tlsAll || x509
	}
	return &other
}

// Seeds are the addresses of the agent's own configuration, as host:port.
func (d *Dialer) Seeds() []string {
	seeds := make([]string, 0, len(d.seeds))
	for _, s := range d.seeds {
		if host, port, err := model.SplitAddress(s); err == nil {
			seeds = append(seeds, model.Address(host, port))
		}
	}
	return seeds
}

// TLSConfig makes the client side of TLS from PEM files; empty names mean none. A client certificate's key may be encrypted.
func TLSConfig(caFile, certFile string, password model.Secret, verify bool) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify} //nolint:gosec // an operator's explicit setting
	var err error
	if caFile != "" {
		if cfg.RootCAs, err = pemfile.Authorities(caFile); err != nil {
			return nil, err
		}
	}
	if certFile != "" {
		pair, err := pemfile.KeyPair(certFile, password)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func (d *Dialer) credential(host wire.Host) *options.Credential {
	if d.auth != nil {
		return d.auth
	}
	mechanism := strings.ReplaceAll(strings.ToUpper(host.Mechanism), "_", "-")
	switch mechanism {
	case "NONE":
		return nil
	case "MONGODB-CR", "": // the old API's name for every password
		mechanism = ""
	}
	if host.Username == "" && mechanism != "MONGODB-X509" {
		return nil
	}
	return &options.Credential{
		Username: host.Username, Password: host.Password, PasswordSet: host.Password != "", AuthMechanism: mechanism,
		AuthSource: host.Source,
	}
}

// HasCredentials reports whether the agent signs in to the host, and as whom.
func (d *Dialer) HasCredentials(host wire.Host) (string, bool) {
	c := d.credential(host)
	if c == nil {
		return "", false
	}
	return c.Username, true
}

// Patience is how long connecting may take.
func (d *Dialer) Patience() time.Duration { return d.dial }

// Options are the driver's, for a direct connection to one process: never to another member of its set. Without auth it signs
// in nowhere. The TLS configuration, if there is one, is the caller's own copy.
func (d *Dialer) Options(host wire.Host, auth bool) *options.ClientOptions {
	o := options.Client().
		SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true).SetAppName(d.appName).
		SetReadPreference(readpref.SecondaryPreferred()).SetServerMonitoringMode("poll").
		SetConnectTimeout(d.dial).SetServerSelectionTimeout(d.wait).SetDisableOCSPEndpointCheck(true)
	if d.tlsAll || host.TLS {
		o.SetTLSConfig(d.tls.Clone())
	}
	if auth {
		if cred := d.credential(host); cred != nil {
			o.SetAuth(*cred)
		}
	}
	return o
}
