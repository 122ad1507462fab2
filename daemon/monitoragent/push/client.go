// Package push talks to the server: it fetches the agent's configuration, and posts what the spool holds until the server has
// it.
package push

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Client is what a monitoring agent calls the server for.
type Client struct {
	*call.Client
	now func() time.Time
}

// NewClient returns a client that measures the server's clock by now.
func NewClient(c *call.Client, now func() time.Time) *Client { return &Client{Client: c, now: now} }

// Conf fetches the agent's configuration. The offset is what to add to this machine's clock to get the server's, to half a
// round trip. With check the server is asked to answer without taking note of the agent.
func (c *Client) Conf(ctx context.Context, info wire.AgentInfo, seeds []string, check bool) (conf wire.Conf, offset time.Duration, err error) {
	q := wire.ConfQuery(info, seeds)
	if check {
		q.Set(wire.ParamCheck, "1")
	}
	sent := c.now()
	body, err := c.Do(ctx, http.MethodGet, wire.PathConf, q, wire.ContentType, nil)
	if err != nil {
		return wire.Conf{}, 0, err
	}
	took := c.now().Sub(sent)
	if conf, err = wire.DecodeConf(body); err != nil {
		return wire.Conf{}, 0, fmt.Errorf("read the configuration: %w", err)
	}
	return conf, conf.Time.Sub(sent.Add(took / 2)), nil
}

// Post delivers a post of which body is the encoded form.
func (c *Client) Post(ctx context.Context, body []byte) (wire.Ack, error) {
	answer, err := c.Do(ctx, http.MethodPost, wire.PathPings, nil, wire.ContentType, body)
	if err != nil {
		return wire.Ack{}, err
	}
	ack, err := wire.DecodeAck(answer)
	if err != nil {
		return wire.Ack{}, fmt.Errorf("read the acknowledgement: %w", err)
	}
	return ack, nil
}
