package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// front turns requests into the events that a front of Lambda makes of them, and the answers back, by its documented rules. Each
// event is a recorded one with the request's own parts put in. It is an http.RoundTripper, so that ordinary clients speak through it.
type front struct {
	t    testing.TB
	kind string // alb, alb-single, gateway, url
	to   *instance

	largest int // of the answers, in bytes of JSON
}

// What fronts refuse, as AWS documents it.
const (
	albRequest, albAnswer         = 1 << 20, 1 << 20
	gatewayRequest, gatewayAnswer = 6 << 20, 6 << 20
)

// RoundTrip implements http.RoundTripper. What a front would answer with 502 is an error here.
func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	header := r.Header.Clone()
	if r.ContentLength > 0 {
		header.Set("Content-Length", fmt.Sprint(r.ContentLength))
	}
	var payload []byte
	var limits [2]int
	if strings.HasPrefix(f.kind, "alb") {
		payload, limits = f.balancer(r, header, body), [2]int{albRequest, albAnswer}
	} else {
		payload, limits = f.gateway(r, header, body), [2]int{gatewayRequest, gatewayAnswer}
	}
	if len(body) > limits[0] {
		return &http.Response{StatusCode: http.StatusRequestEntityTooLarge, Request: r, Body: http.NoBody, Header: http.Header{}}, nil
	}
	o := f.to.invoke(payload)
	if o.failed {
		return nil, fmt.Errorf("502: the function failed: %s", o.body)
	}
	f.largest = max(f.largest, len(o.body))
	if len(o.body) > limits[1] {
		return nil, fmt.Errorf("502: the answer has %d bytes", len(o.body))
	}
	return f.answer(r, o.body)
}

func (f *front) balancer(r *http.Request, header http.Header, body []byte) []byte {
	var e map[string]any
	f.decode(read(f.t, "alb.json"), &e)
	many := map[string][]string{}
	for name, values := range e["multiValueHeaders"].(map[string]any) {
		for _, v := range values.([]any) {
			many[name] = append(many[name], v.(string))
		}
	}
	for name, values := range header {
		many[strings.ToLower(name)] = values
	}
	many["host"] = []string{r.URL.Host}
	query := map[string][]string{} // neither names nor values are decoded
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if name, value, _ := strings.Cut(part, "="); name != "" {
			query[name] = append(query[name], value)
		}
	}
	e["httpMethod"], e["path"] = r.Method, r.URL.EscapedPath()
	e["multiValueHeaders"], e["multiValueQueryStringParameters"] = many, query
	if f.kind == "alb-single" { // the last of each
		last := func(all map[string][]string) map[string]string {
			one := map[string]string{}
			for name, values := range all {
				one[name] = values[len(values)-1]
			}
			return one
		}
		e["headers"], e["queryStringParameters"] = last(many), last(query)
		delete(e, "multiValueHeaders")
		delete(e, "multiValueQueryStringParameters")
	}
	kind := header.Get("Content-Type")
	text := header.Get("Content-Encoding") == "" && (strings.HasPrefix(kind, "text/") || kind == "application/json" || kind == "application/javascript" || kind == "application/xml")
	e["body"], e["isBase64Encoded"] = f.body(body, text), len(body) > 0 && !text
	return f.encode(e)
}

func (f *front) gateway(r *http.Request, header http.Header, body []byte) []byte {
	var e map[string]any
	f.decode(read(f.t, f.kind+".json"), &e)
	one := e["headers"].(map[string]any)
	var cookies []string
	for name, values := range header {
		if name == "Cookie" {
			for _, v := range values {
				cookies = append(cookies, strings.Split(v, "; ")...)
			}
			continue
		}
		one[strings.ToLower(name)] = strings.Join(values, ",")
	}
	if len(cookies) > 0 {
		e["cookies"] = cookies
	}
	e["rawPath"], e["rawQueryString"] = r.URL.EscapedPath(), r.URL.RawQuery
	about := e["requestContext"].(map[string]any)["http"].(map[string]any)
	about["method"], about["path"] = r.Method, r.URL.Path
	text := utf8.Valid(body) && header.Get("Content-Encoding") == "" && !strings.Contains(header.Get("Content-Type"), "bson")
	if len(body) > 0 {
		e["body"], e["isBase64Encoded"] = f.body(body, text), !text
	}
	return f.encode(e)
}

func (f *front) body(body []byte, text bool) string {
	if text || len(body) == 0 {
		return string(body)
	}
	return base64.StdEncoding.EncodeToString(body)
}

func (f *front) answer(r *http.Request, out []byte) (*http.Response, error) {
	var a struct {
		StatusCode        int                 `json:"statusCode"`
		StatusDescription string              `json:"statusDescription"`
		Headers           map[string]string   `json:"headers"`
		MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
		Cookies           []string            `json:"cookies"`
		Body              string              `json:"body"`
		IsBase64Encoded   bool                `json:"isBase64Encoded"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, fmt.Errorf("502: %w", err)
	}
	switch {
	case f.kind == "alb" && a.MultiValueHeaders == nil, f.kind != "alb" && a.MultiValueHeaders != nil:
		return nil, fmt.Errorf("502: an answer of another kind: %.200s", out)
	case strings.HasPrefix(f.kind, "alb") && a.StatusDescription == "":
		return nil, fmt.Errorf("502: no statusDescription: %.200s", out)
	}
	header := http.Header(maps.Clone(a.MultiValueHeaders))
	if header == nil {
		header = http.Header{}
	}
	for name, v := range a.Headers { // names that differ in case are headers of their own
		header.Add(name, v)
	}
	for _, c := range a.Cookies {
		header.Add("Set-Cookie", c)
	}
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return nil, fmt.Errorf("502: %w", err)
		}
	}
	return &http.Response{
		StatusCode: a.StatusCode, Status: a.StatusDescription, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

func (f *front) decode(b []byte, into any) {
	f.t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		f.t.Fatal(err)
	}
}

func (f *front) encode(v any) []byte {
	f.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// site is the address that clients use; the front stands in for whatever listens there.
var site = url.URL{Scheme: "https", Host: "heartwood.example.com"}

// page is a request for a path.
func page(t testing.TB, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// get fetches a path through a front, without following redirects.
func get(t testing.TB, f *front, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := page(t, path)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := f.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", f.kind, path, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}
