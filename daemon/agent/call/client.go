// Package call is how agents talk to the server: every request is theirs, with the group's key. It knows which refusals mean
// "later", which "not this one", and which need a person.
package call

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
}

// NewClient returns a client; h decides about proxies, TLS and time limits.
func NewClient(baseURL, group string, key model.Secret, h *http.Client) *Client {
	return &Client{base: strings.TrimRight(baseURL, "/"), group: group, key: key, http: h}
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

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// Do makes one request with a body of the given content type, and gives the answer's. An answer other than 200 is a *Refusal.
func (c *Client) Do(ctx context.Context, method, path string, q url.Values, contentType string, body []byte) ([]byte, error) {
	u := c.base + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.group, c.key.Reveal())
	req.Header.Set("Content-Type", contentType)
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

// Remedy is what a person can do about an error of Do, "" where nothing is known.
func Remedy(err error) string {
	var r *Refusal
	if !errors.As(err, &r) {
		return "check mmsBaseUrl, httpProxy and the TLS settings, and that the server's agent port can be reached from here: curl -v <mmsBaseUrl>/monitor/health"
	}
	switch {
	case r.Code == wire.CodeBadKey || r.Status == http.StatusUnauthorized:
		return "the key does not belong to the group: create one under Settings > Agents and put it into mmsApiKey, next to that group's mmsGroupId"
	case r.Code == wire.CodeBadVersion:
		return "install the same release of Heartwood on the server and here"
	case r.Status == http.StatusNotFound:
		return "mmsBaseUrl does not lead to the server's agent port (8081 unless configured otherwise)"
	case r.Code == wire.CodeUnavailable:
		return "the server is there but cannot reach its database: see its log"
	}
	return ""
}
