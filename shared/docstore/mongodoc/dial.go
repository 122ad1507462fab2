package mongodoc

import (
	"context"
	"net"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// dialer remembers the connections it made, so that Close can end them. The driver's own disconnecting may wait for the
// answer to a heartbeat that has just begun, which a healthy server holds back for seconds.
type dialer struct {
	next options.ContextDialer

	mu    sync.Mutex
	conns map[*conn]struct{}
}

type conn struct {
	net.Conn
	d *dialer
}

func newDialer(next options.ContextDialer) *dialer {
	if next == nil {
		next = &net.Dialer{}
	}
	return &dialer{next: next, conns: map[*conn]struct{}{}}
}

// DialContext is options.ContextDialer's.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := d.next.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, d: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = struct{}{}
	return c, nil
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.d.mu.Lock()
	delete(c.d.conns, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// hangUp closes every connection.
func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Conn.Close()
	}
}
