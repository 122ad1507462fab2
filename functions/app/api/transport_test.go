package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/functions/app/api"
)

// TestTargets: what clients put after the host.
func TestTargets(t *testing.T) {
	x := newSite(t)
	x.refused(x.owner, "GET", "groups", "", 404, "RESOURCE_NOT_FOUND") // "v1.0groups"
	var long strings.Builder
	for i := range 400 {
		fmt.Fprintf(&long, "&m=DISK_PARTITION_LATENCY_%04d", i)
	}
	x.ok(x.owner, "GET", "/groups?x=1"+long.String(), "", 200) // the signature repeats the query in its header
	x.refused(x.owner, "GET", "/groups/"+strings.Repeat("x", 20_000), "", 404, "INVALID_GROUP_ID")
	for path, want := range map[string]int{"/?pretty=yes": 400, "/?envelope=1": 400, "/?pretty=false&envelope=false": 200, "/?pretty=": 200} {
		a := x.do(x.owner, "GET", path, "")
		if a.status != want || want == 400 && a.json["errorCode"] != "INVALID_QUERY_PARAMETER" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	a := x.do(x.owner, "DELETE", "/", "")
	if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d, allowed %q", a.status, a.header.Get("Allow"))
	}
}

// TestBehindPrefix: a proxy that strips a prefix cannot change what the client signed.
func TestBehindPrefix(t *testing.T) {
	x := newSite(t, func(o *api.Options) { o.Rest.PublicURL = "https://om.example.com/watch/" })
	inner := x.http.Config.Handler
	x.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r2 := r.Clone(r.Context())
		r2.URL.Path, r2.RequestURI = strings.TrimPrefix(r.URL.Path, "/watch"), strings.TrimPrefix(r.RequestURI, "/watch")
		inner.ServeHTTP(w, r2)
	})
	client := func() *http.Client {
		return &http.Client{Transport: digest.NewTransport(x.owner.public, x.owner.private)}
	}
	a := x.raw(client(), "GET", "/watch/api/public/v1.0/groups?itemsPerPage=1", "")
	if a.status != 200 || get(a.json, "links", 1, "href") != "https://om.example.com/watch/api/public/v1.0/groups?itemsPerPage=1&pageNum=2" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := x.raw(client(), "GET", "/api/public/v1.0/groups", ""); a.status != 200 {
		t.Errorf("past the proxy: %d", a.status)
	}
}
