package lambdahttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// balancer answers an event of an Application Load Balancer. Its query parameters come as the client wrote them, percent signs
// included; its headers are single or multi-valued as the target group says, and the answer must be of the same kind.
func (f *Function) balancer(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.ALBTargetGroupRequest
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("event of a load balancer: %w", err)
	}
	multi := e.MultiValueHeaders != nil
	header := http.Header{}
	for name, value := range e.Headers {
		header.Add(name, value)
	}
	if multi {
		header = http.Header{}
		for name, values := range e.MultiValueHeaders {
			for _, v := range values {
				header.Add(name, v)
			}
		}
	}
	params := e.MultiValueQueryStringParameters
	if params == nil {
		params = map[string][]string{}
		for name, value := range e.QueryStringParameters {
			params[name] = []string{value}
		}
	}
	body, err := bodyOf(e.Body, e.IsBase64Encoded)
	if err != nil {
		return nil, err
	}
	// The right-most hop is the client as the balancer saw it; everything left of it was written by strangers.
	hops := strings.Split(strings.Join(header.Values("X-Forwarded-For"), ","), ",")
	r, err := request(ctx, e.HTTPMethod, e.Path, joinQuery(params), header, body, hops[len(hops)-1], header.Get("X-Forwarded-Proto") == "https")
	if err != nil {
		return nil, err
	}
	a := f.serve(r, limitALB)
	text, encoded := a.text()
	out := events.ALBTargetGroupResponse{
		StatusCode: a.status, StatusDescription: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), Body: text, IsBase64Encoded: encoded,
	}
	if multi {
		out.MultiValueHeaders = a.header
	} else {
		out.Headers = a.single()
		// A balancer without multi-value headers takes one of each: further cookies differ in the case of their header's name.
		for i, cookie := range a.header.Values("Set-Cookie") {
			delete(out.Headers, "Set-Cookie")
			if i < 1<<len("setcookie") {
				out.Headers[caseOf("set-cookie", i)] = cookie
			}
		}
	}
	return encode(out)
}

// gateway answers an event of API Gateway with payload format 2.0 or of a function URL, which has the same form.
func (f *Function) gateway(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("event of API Gateway: %w", err)
	}
	header := http.Header{}
	for name, value := range e.Headers {
		header.Add(name, value) // values of one name are joined by commas already
	}
	if len(e.Cookies) > 0 {
		header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	body, err := bodyOf(e.Body, e.IsBase64Encoded)
	if err != nil {
		return nil, err
	}
	path := e.RawPath
	if stage := e.RequestContext.Stage; stage != "" && stage != "$default" {
		path = strings.TrimPrefix(path, "/"+stage)
	}
	r, err := request(ctx, e.RequestContext.HTTP.Method, path, e.RawQueryString, header, body, e.RequestContext.HTTP.SourceIP, true)
	if err != nil {
		return nil, err
	}
	a := f.serve(r, limitGateway)
	text, encoded := a.text()
	out := events.APIGatewayV2HTTPResponse{StatusCode: a.status, Headers: a.single(), Body: text, IsBase64Encoded: encoded, Cookies: a.header.Values("Set-Cookie")}
	delete(out.Headers, "Set-Cookie")
	return encode(out)
}

func bodyOf(text string, encoded bool) ([]byte, error) {
	if !encoded {
		return []byte(text), nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the event's body: %w", err)
	}
	return b, nil
}

// joinQuery writes parameters that are still percent-encoded as a query. The order of their names is lost; it is settled by name.
// The values of one keep theirs.
func joinQuery(params map[string][]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, v := range params[name] {
			parts = append(parts, name+"="+v)
		}
	}
	return strings.Join(parts, "&")
}

// request builds what the handler sees.
func request(ctx context.Context, method, path, query string, header http.Header, body []byte, client string, secure bool) (*http.Request, error) {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	uri := path
	if query != "" {
		uri += "?" + query
	}
	uri = requestURI(uri, header.Get("Authorization"))
	u, err := url.ParseRequestURI(uri)
	if err != nil || strings.ContainsFunc(uri, func(c rune) bool { return c <= ' ' || c > '~' }) {
		// Some fronts hand over the path decoded: encode it again.
		u = &url.URL{Path: path, RawQuery: query}
		uri = u.RequestURI()
	}
	r, err := http.NewRequestWithContext(ctx, method, "/", io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return nil, fmt.Errorf("the event's method: %w", err)
	}
	r.URL, r.RequestURI, r.Header, r.Host = u, uri, header, header.Get("Host")
	r.ContentLength = int64(len(body))
	header.Del("Host")
	r.RemoteAddr = net.JoinHostPort(strings.TrimSpace(client), "0")
	if secure {
		r.TLS = &tls.ConnectionState{} // it came over TLS to the front; nothing more is known of it
	}
	return r, nil
}

// requestURI is the address as the client wrote it. Fronts decode paths and lose the order of parameters, while a digest
// signature covers the exact text and carries it: that text is taken where it says the same as the event.
func requestURI(got, authorization string) string {
	if len(authorization) < 7 || !strings.EqualFold(authorization[:7], "Digest ") {
		return got
	}
	_, rest, ok := strings.Cut(authorization, `uri="`)
	if !ok {
		return got
	}
	signed, _, ok := strings.Cut(rest, `"`)
	if !ok || signed == got {
		return got
	}
	a, errA := url.ParseRequestURI(signed)
	b, errB := url.ParseRequestURI(got)
	if errA != nil || errB != nil || a.Path != b.Path {
		return got
	}
	qa, errA := url.ParseQuery(a.RawQuery)
	qb, errB := url.ParseQuery(b.RawQuery)
	if errA != nil || errB != nil || len(qa) != len(qb) {
		return got
	}
	for name, values := range qa {
		if !slices.Equal(values, qb[name]) {
			return got
		}
	}
	return signed
}

// caseOf writes a name with the i-th pattern of upper and lower case letters.
func caseOf(name string, i int) string {
	b := []byte(name)
	for k, bit := range b {
		if bit < 'a' || bit > 'z' {
			continue
		}
		if i&1 == 1 {
			b[k] -= 'a' - 'A'
		}
		i >>= 1
	}
	return string(b)
}
