package collect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/heartwood-db/heartwood/daemon/agent/dial"
	"github.com/heartwood-db/heartwood/shared/config"
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

// Dialer connects through the MongoDB driver, to one process at a time.
type Dialer struct{ *dial.Dialer }

// NewDialer reads certificates and the connection string.
func NewDialer(cfg *config.Agent, version string) (*Dialer, error) {
	d, err := dial.New(cfg, "Heartwood Monitoring Agent v"+version)
	if err != nil {
		return nil, err
	}
	return &Dialer{d}, nil
}

// Connect prepares a connection: one for samples, one for slow commands, and the driver's own that watches the process.
func (d *Dialer) Connect(host wire.Host, auth bool) (Conn, error) {
	c := &driverConn{}
	o := d.Options(host, auth).SetRetryReads(false).SetRetryWrites(false).
		SetMaxPoolSize(2).SetMinPoolSize(0).SetMaxConnIdleTime(5 * time.Minute).
		SetHeartbeatInterval(time.Minute).
		SetDialer(&dialer{conn: c, net: net.Dialer{Timeout: d.Patience(), KeepAlive: 2 * time.Minute}})
	if o.TLSConfig != nil {
		o.TLSConfig.VerifyConnection = c.shown
		c.again = d.handshake(o.TLSConfig, host)
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
