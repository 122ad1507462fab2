// Package push talks to the server: it fetches the agent's configuration, and posts what the spool holds until the server has
// it. It knows which refusals mean "later", which "not this one", and which need a person.
package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Client is one group's access to the server.
type Client struct {
	base  string
	group string
	key   model.Secret
	http  *http.Client
	now   func() time.Time
}

// NewClient returns a client; h decides about proxies, TLS and time limits.
func NewClient(baseURL, group string, key model.Secret, h *http.Client, now func() time.Time) *Client {
	return &Client{base: strings.TrimRight(baseURL, "/"), group: group, key: key, http: h, now: now}
}

// Refusal is an answer other than success.
type Refusal struct {
	Status     int
	Code       string // of wire.Problem; empty when something between agent and server answered
	Reason     string
	RetryAfter time.Duration
}

// Error is the reason, for the log.
func (r *Refusal) Error() string {
	if r.Code == "" {
		return fmt.Sprintf("the server answered %d: %s", r.Status, r.Reason)
	}
	return fmt.Sprintf("the server answered %d (%s): %s", r.Status, r.Code, r.Reason)
}

// Verdict says what to do with what was refused.
type Verdict uint8

// The verdicts.
const (
	Later   Verdict = iota // the server, the way to it, or something a person must mend: keep everything, try again
	Smaller                // too large: send less at once
	Never                  // the server will not take this message
)

// Judge decides what an error of Post means.
func Judge(err error) Verdict {
	var r *Refusal
	if !errors.As(err, &r) {
		return Later
	}
	switch {
	case r.Status == http.StatusRequestEntityTooLarge || r.Code == wire.CodeTooLarge:
		return Smaller
	case r.Code == wire.CodeMalformed:
		return Never
	case r.Code != "": // key, version, clock: mended on either side, and then everything is welcome
		return Later
	case r.Status == http.StatusBadRequest || r.Status == http.StatusUnprocessableEntity:
		return Never
	}
	return Later
}

// Conf fetches the agent's configuration. The offset is what to add to this machine's clock to get the server's, to half a
// round trip. With check the server is asked to answer without taking note of the agent.
func (c *Client) Conf(ctx context.Context, info wire.AgentInfo, seeds []string, check bool) (conf wire.Conf, offset time.Duration, err error) {
	q := wire.ConfQuery(info, seeds)
	if check {
		q.Set(wire.ParamCheck, "1")
	}
	sent := c.now()
	body, err := c.do(ctx, http.MethodGet, wire.PathConf, q, nil)
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
	answer, err := c.do(ctx, http.MethodPost, wire.PathPings, nil, body)
	if err != nil {
		return wire.Ack{}, err
	}
	ack, err := wire.DecodeAck(answer)
	if err != nil {
		return wire.Ack{}, fmt.Errorf("read the acknowledgement: %w", err)
	}
	return ack, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte) ([]byte, error) {
	u := c.base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.group, c.key.Reveal())
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set("Accept", wire.ContentType)
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error // its text repeats the URL with all parameters
		if errors.As(err, &ue) {
			err = ue.Err
		}
		var op *net.OpError
		if errors.As(err, &op) { // without our own port, which makes each failure look like a new one
			same := *op
			same.Source = nil
			err = &same
		}
		return nil, fmt.Errorf("reach the server at %s: %w", c.base, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return answer, nil
	}
	return nil, refusal(res, answer)
}

func refusal(res *http.Response, answer []byte) *Refusal {
	r := &Refusal{Status: res.StatusCode}
	if secs, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && secs > 0 {
		r.RetryAfter = min(time.Duration(secs)*time.Second, maxBackoff)
	}
	if p, err := wire.DecodeProblem(answer); err == nil {
		r.Code, r.Reason = p.Code, p.Reason
		return r
	}
	r.Reason = http.StatusText(res.StatusCode)
	if line, _, _ := strings.Cut(strings.TrimSpace(string(answer)), "\n"); line != "" && !strings.HasPrefix(line, "<") {
		r.Reason = strings.ToValidUTF8(line[:min(len(line), 200)], "?")
	}
	return r
}
