package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/pemfile"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Conn talks to one process, and never to another member of its set.
type Conn interface {
	// Run sends one command. An error is what Classify understands.
	Run(ctx context.Context, db string, cmd bson.D) (bson.Raw, error)
	// Remote is the address the name resolved to, and whether it is this machine's. Empty before the first success.
	Remote() (ip string, local bool)
	// Certificate is what the process showed last; nil without TLS, and before a first handshake.
	Certificate(ctx context.Context) *wire.Certificate
	Close()
}

// Connector makes connections lazily: it fails only for settings that can never work. Without auth it signs in nowhere.
type Connector interface {
	Connect(host wire.Host, auth bool) (Conn, error)
	// HasCredentials reports whether Connect with auth would sign in to the host, and as whom.
	HasCredentials(host wire.Host) (user string, ok bool)
}

// Dialer connects through the MongoDB driver with the agent's own credentials and TLS settings; what the server keeps about a
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

// NewDialer reads certificates and the connection string. A mongodb+srv string is resolved here.
func NewDialer(cfg *config.Agent, version string) (*Dialer, error) {
	d := &Dialer{
		appName: "Heartwood Monitoring Agent v" + version, tlsAll: cfg.TLSAll,
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

// Connect prepares a connection: one for samples, one for slow commands, and the driver's own that watches the process.
func (d *Dialer) Connect(host wire.Host, auth bool) (Conn, error) {
	c := &driverConn{}
	o := options.Client().
		SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true).SetAppName(d.appName).
		SetReadPreference(readpref.SecondaryPreferred()).SetRetryReads(false).SetRetryWrites(false).
		SetMaxPoolSize(2).SetMinPoolSize(0).SetMaxConnIdleTime(5 * time.Minute).
		SetServerMonitoringMode("poll").SetHeartbeatInterval(time.Minute).
		SetConnectTimeout(d.dial).SetServerSelectionTimeout(d.wait).
		SetDisableOCSPEndpointCheck(true).
		SetDialer(&dialer{conn: c, net: net.Dialer{Timeout: d.dial, KeepAlive: 2 * time.Minute}})
	if d.tlsAll || host.TLS {
		cfg := d.tls.Clone()
		cfg.VerifyConnection = c.shown
		o.SetTLSConfig(cfg)
		c.again = d.handshake(cfg, host)
	}
	if auth {
		if cred := d.credential(host); cred != nil {
			o.SetAuth(*cred)
		}
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.client = client
	return c, nil
}

// dialer notes which address a connection was made to.
type dialer struct {
	conn *driverConn
	net  net.Dialer
}

// DialContext dials and takes the address down.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	local, okLocal := c.LocalAddr().(*net.TCPAddr)
	if ok && okLocal {
		// A connection from an address to itself never left the machine.
		d.conn.remote.Store(&peer{ip: remote.IP.String(), local: remote.IP.Equal(local.IP)})
	}
	return c, nil
}

type peer struct {
	ip    string
	local bool
}

type driverConn struct {
	client *mongo.Client
	remote atomic.Pointer[peer]
	cert   atomic.Pointer[certificate]
	again  func(context.Context) error // connects anew, only to look at the certificate; nil without TLS
}

// untimed hides the deadline of a context, not its end: the driver would turn the deadline into a maxTimeMS of its own.
type untimed struct{ context.Context }

// Deadline reports none.
func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

// The driver sends maxTimeMS two seconds under the time limit, so that a server gives up before the connection is cut.
const maxTimeMargin = 2 * time.Second

// Run sends one command on one of the two pooled connections.
func (c *driverConn) Run(ctx context.Context, db string, cmd bson.D) (bson.Raw, error) {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, context.DeadlineExceeded
		}
		if limit := left - maxTimeMargin; limit > 0 && cmd[0].Key != "hello" && cmd[0].Key != "isMaster" {
			cmd = append(cmd[:len(cmd):len(cmd)], bson.E{Key: "maxTimeMS", Value: limit.Milliseconds()})
		}
	}
	res := c.client.Database(db).RunCommand(untimed{ctx}, cmd, options.RunCmd().SetReadPreference(readpref.SecondaryPreferred()))
	raw, err := res.Raw()
	if err == nil {
		return raw, nil
	}
	c.refused(err)
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return nil, err // the driver gives the refusal's document too, which is no reply
}

// Remote is what the last dialled connection led to.
func (c *driverConn) Remote() (string, bool) {
	p := c.remote.Load()
	if p == nil {
		return "", false
	}
	return p.ip, p.local
}

// Close cuts off what is under way.
func (c *driverConn) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what is still running is cut off, not waited for
	_ = c.client.Disconnect(ctx)
}
