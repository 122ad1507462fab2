package lambdahttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// seen is what a handler got.
type seen struct {
	Method, URI, Path, Host, Remote, Body string
	TLS                                   bool
	Header                                http.Header
}

func function(t *testing.T, answer http.HandlerFunc, passes ...store.Pass) (*Function, *seen) {
	t.Helper()
	got := &seen{}
	f, err := New(Options{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			*got = seen{r.Method, r.RequestURI, r.URL.Path, r.Host, r.RemoteAddr, string(b), r.TLS != nil, r.Header}
			if answer != nil {
				answer(w, r)
			}
		}),
		Passes: func() []store.Pass { return passes }, Log: obs.Discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, got
}

// reply is the union of the fronts' answers.
type reply struct {
	StatusCode        int
	StatusDescription string
	Headers           map[string]string
	MultiValueHeaders map[string][]string
	Cookies           []string
	Body              string
	IsBase64Encoded   bool
}

func invoke(t *testing.T, f *Function, event string) reply {
	t.Helper()
	out, err := f.Invoke(t.Context(), []byte(event))
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	var r reply
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	albEvent = `{"requestContext":{"elb":{"targetGroupArn":"arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/app/1"}},"httpMethod":"GET",
"path":"/api/public/v1.0/groups","multiValueQueryStringParameters":{"pageNum":["2"],"q":["a%20b","c%2Fd"]},
"multiValueHeaders":{"host":["hw.example.com"],"x-forwarded-for":["6.6.6.6, 203.0.113.9"],"x-forwarded-proto":["https"],"cookie":["a=1; b=2"],"accept":["text/html","*/*"]},
"body":"","isBase64Encoded":false}`
	gatewayEvent = `{"version":"2.0","routeKey":"$default","rawPath":"/g/x","rawQueryString":"a=1&a=2&b=%20","cookies":["s=1","t=2"],
"headers":{"host":"id.execute-api.eu-central-1.amazonaws.com","accept":"*/*"},"requestContext":{"stage":"$default","http":{"method":"POST","path":"/g/x","sourceIp":"203.0.113.7"}},
"body":"AP8=","isBase64Encoded":true}`
	urlEvent = `{"version":"2.0","rawPath":"/live","rawQueryString":"","headers":{"host":"x.lambda-url.eu-central-1.on.aws","x-forwarded-for":"203.0.113.8"},
"requestContext":{"domainName":"x.lambda-url.eu-central-1.on.aws","http":{"method":"GET","path":"/live","sourceIp":"203.0.113.8"}},"isBase64Encoded":false}`
)

func TestAHandlerSeesWhatTheClientSent(t *testing.T) {
	for _, c := range []struct {
		name, event string
		want        seen
		header      map[string]string
	}{
		{
			"load balancer", albEvent,
			seen{"GET", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd", "/api/public/v1.0/groups", "hw.example.com", "203.0.113.9:0", "", true, nil},
			map[string]string{"Cookie": "a=1; b=2", "Accept": "text/html"},
		},
		{
			"load balancer without multi-value headers", `{"requestContext":{"elb":{}},"httpMethod":"POST","path":"/login","queryStringParameters":{"n":"%2F"},
"headers":{"host":"h","x-forwarded-for":"203.0.113.9","x-forwarded-proto":"http"},"body":"a=b","isBase64Encoded":false}`,
			seen{"POST", "/login?n=%2F", "/login", "h", "203.0.113.9:0", "a=b", false, nil},
			nil,
		},
		{
			"API Gateway", gatewayEvent,
			seen{"POST", "/g/x?a=1&a=2&b=%20", "/g/x", "id.execute-api.eu-central-1.amazonaws.com", "203.0.113.7:0", "\x00\xff", true, nil},
			map[string]string{"Cookie": "s=1; t=2"},
		},
		{
			"API Gateway with a named stage", strings.NewReplacer(`"$default","http"`, `"prod","http"`, `"/g/x","rawQ`, `"/prod/g/x","rawQ`).Replace(gatewayEvent),
			seen{"POST", "/g/x?a=1&a=2&b=%20", "/g/x", "id.execute-api.eu-central-1.amazonaws.com", "203.0.113.7:0", "\x00\xff", true, nil},
			nil,
		},
		{"function URL", urlEvent, seen{"GET", "/live", "/live", "x.lambda-url.eu-central-1.on.aws", "203.0.113.8:0", "", true, nil}, nil},
		{
			"a path that the front decoded", `{"version":"2.0","rawPath":"/g/a b","headers":{},"requestContext":{"http":{"method":"GET","sourceIp":"::1"}}}`,
			seen{"GET", "/g/a%20b", "/g/a b", "", "[::1]:0", "", true, nil},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, got := function(t, nil)
			if r := invoke(t, f, c.event); r.StatusCode != http.StatusOK {
				t.Fatalf("%+v", r)
			}
			header := got.Header
			got.Header = nil
			if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
			for name, want := range c.header {
				if header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, header.Get(name), want)
				}
			}
		})
	}
}

func TestASignedAddressIsTakenAsItWasWritten(t *testing.T) {
	auth := func(uri string) string { return `Digest username=\"u\", realm=\"r\", uri=\"` + uri + `\", qop=auth` }
	for _, c := range []struct{ name, signed, want string }{
		{"another order of parameters", "/api/public/v1.0/groups?q=a%20b&q=c%2Fd&pageNum=2", "/api/public/v1.0/groups?q=a%20b&q=c%2Fd&pageNum=2"},
		{"another spelling of a space", "/api/public/v1.0/groups?pageNum=2&q=a+b&q=c/d", "/api/public/v1.0/groups?pageNum=2&q=a+b&q=c/d"},
		{"another page", "/api/public/v1.0/groups?q=a%20b&q=c%2Fd&pageNum=3", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd"},
		{"another path", "/api/public/v1.0/users?q=a%20b&q=c%2Fd&pageNum=2", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd"},
		{"one parameter more", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd&x=1", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd"},
		{"no address", "::", "/api/public/v1.0/groups?pageNum=2&q=a%20b&q=c%2Fd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, got := function(t, nil)
			invoke(t, f, strings.Replace(albEvent, `"cookie":["a=1; b=2"]`, `"authorization":["`+auth(c.signed)+`"]`, 1))
			if got.URI != c.want {
				t.Errorf("%s, want %s", got.URI, c.want)
			}
		})
	}
}

func TestValuesOfOneParameterKeepTheirOrder(t *testing.T) {
	const signed = "/api/public/v1.0/groups?m=b&pageNum=2&m=a"
	event := strings.Replace(albEvent, `"q":["a%20b","c%2Fd"]`, `"m":["b","a"]`, 1)
	f, got := function(t, nil)
	if invoke(t, f, event); got.URI != "/api/public/v1.0/groups?m=b&m=a&pageNum=2" {
		t.Error(got.URI)
	}
	invoke(t, f, strings.Replace(event, `"cookie":["a=1; b=2"]`, `"authorization":["Digest username=\"u\", uri=\"`+signed+`\""]`, 1))
	if got.URI != signed {
		t.Errorf("signed: %s", got.URI)
	}
}

func TestAnswersAreOfTheFrontsForm(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		w.Header().Add("Vary", "Cookie")
		w.Header().Add("Vary", "Accept")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "<p>ä</p>")
	}
	f, _ := function(t, answer)

	alb := invoke(t, f, albEvent)
	if alb.StatusCode != 418 || alb.StatusDescription != "418 I'm a teapot" || alb.Body != "<p>ä</p>" || alb.IsBase64Encoded || alb.Headers != nil {
		t.Errorf("load balancer: %+v", alb)
	}
	if got := fmt.Sprint(alb.MultiValueHeaders["Set-Cookie"], alb.MultiValueHeaders["Vary"]); got != "[a=1 b=2] [Cookie Accept]" {
		t.Error(got)
	}
	single := invoke(t, f, `{"requestContext":{"elb":{}},"httpMethod":"GET","path":"/","headers":{"host":"h"}}`)
	if single.MultiValueHeaders != nil || single.Headers["Vary"] != "Cookie, Accept" || single.Headers["set-cookie"] != "a=1" || single.Headers["Set-cookie"] != "b=2" {
		t.Errorf("load balancer without multi-value headers: %+v", single)
	}
	v2 := invoke(t, f, gatewayEvent)
	if v2.StatusCode != 418 || fmt.Sprint(v2.Cookies) != "[a=1 b=2]" || v2.Headers["Vary"] != "Cookie, Accept" || v2.Headers["Set-Cookie"] != "" {
		t.Errorf("API Gateway: %+v", v2)
	}
}

func TestBinaryAnswersTravelEncoded(t *testing.T) {
	for name, body := range map[string][]byte{"no text": {0, 0xff}, "compressed, by chance text": []byte("abc")} {
		f, _ := function(t, func(w http.ResponseWriter, _ *http.Request) {
			if name != "no text" {
				w.Header().Set("Content-Encoding", "gzip")
			}
			_, _ = w.Write(body)
		})
		r := invoke(t, f, albEvent)
		got, err := base64.StdEncoding.DecodeString(r.Body)
		if err != nil || !r.IsBase64Encoded || !bytes.Equal(got, body) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestAnAnswerThatTheFrontWouldNotTakeIsRefusedWithAReason(t *testing.T) {
	big := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, strings.Repeat("\"", n)) // each takes two bytes in JSON
		}
	}
	for _, c := range []struct {
		name, event string
		n, status   int
	}{
		{"fits the load balancer", albEvent, limitALB/2 - 4096, 200},
		{"too large for the load balancer", albEvent, limitALB / 2, 413},
		{"fits API Gateway", gatewayEvent, limitALB, 200},
		{"too large for API Gateway", gatewayEvent, limitGateway / 2, 413},
	} {
		f, _ := function(t, big(c.n))
		out, err := f.Invoke(t.Context(), []byte(c.event))
		if err != nil {
			t.Fatal(err)
		}
		if limit := map[bool]int{true: limitALB, false: limitGateway}[c.event == albEvent]; len(out) > limit {
			t.Errorf("%s: %d bytes", c.name, len(out))
		}
		r := invoke(t, f, c.event)
		if r.StatusCode != c.status || c.status == 413 && (!strings.Contains(r.Body, "Ask for less") || c.event == albEvent && !strings.Contains(r.Body, `"errorCode":"RESPONSE_TOO_LARGE"`)) {
			t.Errorf("%s: %d %.200s", c.name, r.StatusCode, r.Body)
		}
	}
}

func TestAHandlerThatGivesUpSendsNoHalfAnswer(t *testing.T) {
	f, _ := function(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	if r := invoke(t, f, albEvent); r.StatusCode != 500 || strings.Contains(r.Body, "half") {
		t.Errorf("%+v", r)
	}
}

func TestSchedulesRunPasses(t *testing.T) {
	var ran []string
	pass := func(name string, err error) store.Pass {
		return store.Pass{Name: name, Run: func(context.Context, time.Time) error {
			ran = append(ran, name)
			return err
		}}
	}
	boom := errors.New("boom")
	f, _ := function(t, nil, pass("compact", nil), pass("rollup", boom), pass("expire", nil))
	for _, c := range []struct{ event, ran, fails string }{
		{`{"passes":["compact","expire"]}`, "compact expire", ""},
		{`{"passes":["rollup","expire"]}`, "rollup expire", "boom"},
		{`{"passes":["expire","nonsense"]}`, "expire", `no pass "nonsense"`},
		{`{"version":"0","source":"aws.events","detail-type":"Scheduled Event","resources":["arn:aws:events:eu-central-1:1:rule/x"]}`, "compact rollup expire", "boom"},
		{`{"hello":1}`, "", "no known kind"},
		{`[]`, "", "no JSON object"},
		{`{"requestContext":{"elb":{}},"body":"%%%","isBase64Encoded":true}`, "", "body"},
		{`{"requestContext":{"elb":{}},"httpMethod":"GE T","path":"/"}`, "", "method"},
	} {
		ran = nil
		_, err := f.Invoke(t.Context(), []byte(c.event))
		if got := strings.Join(ran, " "); got != c.ran || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: ran %q, %v", c.event, got, err)
		}
	}
}

func FuzzInvoke(f *testing.F) {
	for _, e := range []string{albEvent, gatewayEvent, urlEvent, `{"passes":["x"]}`} {
		f.Add([]byte(e))
	}
	fn, err := New(Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), Log: obs.Discard()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		out, err := fn.Invoke(t.Context(), payload)
		if err == nil && !json.Valid(out) {
			t.Errorf("no JSON: %q", out)
		}
	})
}
