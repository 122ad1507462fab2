package public

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// serve answers every call, after the challenge of digest authentication.
func serve(t *testing.T, tls bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	challenge := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Digest realm="MMS Public API", domain="", nonce="n", algorithm=MD5, qop="auth", stale=false`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h(w, r)
	})
	s := httptest.NewUnstartedServer(challenge)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	o.PublicKey, o.PrivateKey = "public", "very-private"
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
		hint   string
	}{
		{"a wrong key", 401, `{"error":401,"reason":"Unauthorized","detail":"You are not authorized for this resource."}`, "does not accept the key", "heartwood profile list"},
		{"a weak role", 401, `{"error":401,"errorCode":"USER_UNAUTHORIZED","detail":"The current user is not authorized."}`, "USER_UNAUTHORIZED", "the key has no role"},
		{"an address off the list", 403, `{"error":403,"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST","detail":"IP address 10.1.2.3 is not allowed."}`, "10.1.2.3", "access list"},
		{"no such group", 404, `{"error":404,"errorCode":"GROUP_NOT_FOUND","detail":"No group."}`, "No group.", "--group"},
		{"an upgrade", 405, `{"error":405,"errorCode":"WRITES_NOT_ALLOWED_DURING_APP_UPGRADES","detail":"Not now."}`, "Not now.", "in a minute"},
		{"no API at all", 404, `<html>`, "404 Not Found", "is http"},
		{"a redirect", 302, ``, "302 Found", "is http"},
		{"several faults", 400, `{"error":400,"errorCode":"A","detail":"both","faults":[{"attribute":"a","detail":"One."},{"attribute":"b","detail":"b is wrong."}]}`, "a: One.\nb is wrong.", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			err := client(t, Options{URL: s.URL}).Get(t.Context(), "/groups/x", nil, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(opererr.HintOf(err), c.hint) || strings.Contains(err.Error(), "very-private") {
				t.Errorf("%v\nhint: %s", err, opererr.HintOf(err))
			}
		})
	}
}

func TestListsAreReadPageByPage(t *testing.T) {
	const total = 1201
	calls := 0
	s := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		calls++
		page, _ := strconv.Atoi(r.URL.Query().Get("pageNum"))
		size, _ := strconv.Atoi(r.URL.Query().Get("itemsPerPage"))
		answer := map[string]any{"links": []any{}}
		list := []any{}
		for i := (page - 1) * size; i < min(page*size, total); i++ {
			list = append(list, map[string]any{"id": strconv.Itoa(i), "q": r.URL.Query().Get("q")})
		}
		if page*size < total {
			answer["links"] = []any{map[string]any{"rel": "next", "href": "x"}}
		}
		answer["results"] = list
		_ = json.NewEncoder(w).Encode(answer)
	})
	for _, c := range []struct {
		limit, want, calls int
		more               bool
	}{{0, total, 3, false}, {10, 10, 1, true}, {600, 600, 2, true}, {total, total, 3, false}, {5000, total, 3, false}} {
		t.Run(fmt.Sprint(c.limit), func(t *testing.T) {
			calls = 0
			all, more, err := client(t, Options{URL: s.URL}).List(t.Context(), "/x", map[string][]string{"q": {"a b"}}, c.limit)
			if err != nil || len(all) != c.want || more != c.more || calls != c.calls || all[len(all)-1]["id"] != strconv.Itoa(c.want-1) || all[0]["q"] != "a b" {
				t.Errorf("%d, more %v, %d calls, %v", len(all), more, calls, err)
			}
		})
	}
}

func TestServersThatAreNotReached(t *testing.T) {
	s := serve(t, true, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	err := client(t, Options{URL: s.URL}).Get(t.Context(), "/groups", nil, nil)
	if !strings.Contains(opererr.HintOf(err), "--ca-file") {
		t.Errorf("an unknown authority: %v, %s", err, opererr.HintOf(err))
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{URL: s.URL, CAFile: ca}, {URL: s.URL, Insecure: true}, {URL: s.URL + "/", Insecure: true}} {
		if err := client(t, o).Get(t.Context(), "/groups", nil, nil); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	err = client(t, Options{URL: strings.Replace(s.URL, "https", "http", 1)}).Get(t.Context(), "/groups", nil, nil)
	if err == nil {
		t.Error("plain HTTP to a TLS port worked")
	}
	err = client(t, Options{URL: "http://127.0.0.1:1"}).Get(t.Context(), "/groups", nil, nil)
	if !strings.Contains(opererr.HintOf(err), "HEARTWOOD_URL") || !strings.Contains(err.Error(), "reach http://127.0.0.1:1") {
		t.Errorf("nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client(t, Options{URL: s.URL, Insecure: true}).Get(ctx, "/groups", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	for _, url := range []string{"", "heartwood.example.com", "ftp://a", "http://ann:secret@a", "http://a?x=1"} {
		if _, err := New(Options{URL: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
