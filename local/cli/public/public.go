// Package public calls a server's Public API for the command line: digest authentication, paging, and errors that say what to
// do. It knows no resource.
package public

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Prefix is where the API lives below a server's address.
const Prefix = "/api/public/v1.0"

const (
	timeout   = 60 * time.Second // of one call; trying a setting on history takes up to 15 s
	maxAnswer = 64 << 20
	pageSize  = 500
	maxPages  = 10_000
)

// Options say which server to call, and as whom.
type Options struct {
	URL        string
	PublicKey  string
	PrivateKey model.Secret
	CAFile     string // certificates to trust besides the system's
	Insecure   bool   // do not check the server's certificate
}

// Client calls one server.
type Client struct {
	base string
	http *http.Client
}

// New returns a client. It does not call yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, opererr.New("use the server's address", fmt.Errorf("%q is no URL", o.URL), "give an address such as https://heartwood.example.com:8443")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, opererr.New("use the server's address", errors.New("the URL holds more than scheme, host and path"), "give an address such as https://heartwood.example.com:8443")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure} //nolint:gosec // only when asked for
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, opererr.New("read the certificates to trust", err, "give a readable PEM file with --ca-file")
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, opererr.New("read the certificates to trust", fmt.Errorf("%s holds no certificate", o.CAFile), "give a PEM file with --ca-file")
		}
		conf.RootCAs = pool
	}
	plain := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
	signed := digest.NewTransport(o.PublicKey, o.PrivateKey.Reveal())
	signed.Transport = plain
	return &Client{
		base: strings.TrimSuffix(o.URL, "/") + Prefix,
		http: &http.Client{Transport: signed, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Error is an error that the API answered.
type Error struct {
	Status int     `json:"error"`
	Code   string  `json:"errorCode"`
	Detail string  `json:"detail"`
	Faults []Fault `json:"faults"`
}

// Fault is one of several things that are wrong with a request.
type Fault struct {
	Attribute string `json:"attribute"`
	Code      string `json:"errorCode"`
	Detail    string `json:"detail"`
}

func (e *Error) Error() string {
	if len(e.Faults) > 1 {
		lines := make([]string, len(e.Faults))
		for i, f := range e.Faults {
			if lines[i] = f.Detail; !strings.HasPrefix(f.Detail, f.Attribute) {
				lines[i] = f.Attribute + ": " + f.Detail
			}
		}
		return strings.Join(lines, "\n")
	}
	switch {
	case e.Detail == "":
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	case e.Code == "":
		return e.Detail
	}
	return e.Detail + " (" + e.Code + ")"
}

// Get reads what is at a path below the API.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends a body.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, in, out)
}

// Put replaces.
func (c *Client) Put(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPut, path, in, out)
}

// Patch changes.
func (c *Client) Patch(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPatch, path, in, out)
}

// Delete removes. What is gone already is fine.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.call(ctx, http.MethodDelete, path, nil, nil)
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound && strings.HasSuffix(e.Code, "_NOT_FOUND") && e.Code != "GROUP_NOT_FOUND" && e.Code != "RESOURCE_NOT_FOUND" {
		return nil
	}
	return err
}

// List reads a list, page by page; limit 0 means all of it. More says that there is more than the limit.
func (c *Client) List(ctx context.Context, path string, query url.Values, limit int) (all []map[string]any, more bool, err error) {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	size := pageSize
	if limit > 0 && limit < size {
		size = limit
	}
	all = []map[string]any{}
	for page := 1; page <= maxPages; page++ {
		q.Set("pageNum", strconv.Itoa(page))
		q.Set("itemsPerPage", strconv.Itoa(size))
		var answer struct {
			Results []map[string]any
			Links   []struct{ Rel string }
		}
		if err := c.Get(ctx, path, q, &answer); err != nil {
			return nil, false, err
		}
		next := false
		for _, l := range answer.Links {
			next = next || l.Rel == "next"
		}
		all = append(all, answer.Results...)
		switch {
		case limit > 0 && len(all) > limit:
			return all[:limit], true, nil
		case limit > 0 && len(all) == limit:
			return all, next, nil
		case !next:
			return all, false, nil
		}
	}
	return all, true, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "heartwood/"+obs.Build().Version)
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreached(ctx, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.unreached(ctx, err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("the answer of %s %s has more than %d MiB", method, path, maxAnswer>>20)
	}
	if resp.StatusCode/100 != 2 {
		return c.refused(resp, b)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return opererr.New("read the server's answer", err, c.strange())
	}
	return nil
}

func (c *Client) strange() string {
	return "is " + strings.TrimSuffix(c.base, Prefix) + " the address of Heartwood's web UI and API (default port 8080)?"
}

// unreached says what to do when nothing was answered.
func (c *Client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the address is said below
	}
	server := strings.TrimSuffix(c.base, Prefix)
	hint := "is the server running there? give its address with --url or HEARTWOOD_URL, or: heartwood profile set NAME --url URL ..."
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var timed net.Error
	switch {
	case errors.As(err, &unknown):
		hint = "trust the server's certificate authority with --ca-file FILE, or, to try only, use --insecure"
	case errors.As(err, &host) || errors.As(err, &invalid):
		hint = "use the address that the certificate names, with --url"
	case errors.As(err, &record):
		hint = "the server does not speak TLS there: use http:// in --url"
	case errors.As(err, &timed) && timed.Timeout():
		hint = "is a firewall between? give another address with --url or HEARTWOOD_URL"
	}
	return opererr.New("reach "+server, err, hint)
}

// refused turns an error of the API into one that says what to do.
func (c *Client) refused(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode}
	if json.Unmarshal(body, e) != nil || e.Status == 0 {
		e = &Error{Status: resp.StatusCode}
	}
	hint := ""
	switch {
	case e.Code == "USER_UNAUTHORIZED" || e.Code == "NOT_IN_GROUP":
		hint = "the key has no role for this, or the group is another's: see --group, and the key's roles in the web UI"
	case e.Code == "GROUP_NOT_FOUND" || e.Code == "INVALID_GROUP_ID":
		hint = "give the group's id or name with --group or HEARTWOOD_GROUP; heartwood profile check lists the groups the key sees"
	case e.Code == "IP_ADDRESS_NOT_ON_ACCESS_LIST" || e.Code == "ORG_REQUIRES_ACCESS_LIST" || e.Code == "GLOBAL_USER_OUTSIDE_SUBNET":
		hint = "add this machine's address to the key's access list (for a global key: to the global one) in the web UI, or use a machine that is on it"
	case e.Code == "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES" || resp.StatusCode == http.StatusServiceUnavailable:
		hint = "try again in a minute"
	case resp.StatusCode == http.StatusUnauthorized && e.Code == "":
		e.Detail = "the server does not accept the key"
		hint = "check public and private key: heartwood profile list; a new key is made in the web UI or by POST .../apiKeys, and its private key is shown only once"
	case e.Code == "" || resp.StatusCode/100 == 3:
		hint = c.strange()
	}
	return opererr.New(resp.Request.Method+" "+strings.TrimPrefix(resp.Request.URL.Path, Prefix), e, hint)
}
