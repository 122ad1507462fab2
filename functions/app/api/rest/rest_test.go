package rest

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	for in, want := range map[string]string{
		"2026-09-27": "2026-09-27T00:00:00Z", "2026-09-27T16:00Z": "2026-09-27T16:00:00Z", "2026-09-27T16:00:05.5Z": "2026-09-27T16:00:05.5Z",
		"2026-09-27T16:00:00-04:00": "2026-09-27T20:00:00Z", "2026-09-27T16:00:00-0400": "2026-09-27T20:00:00Z", "2026-09-27T16:00-0400": "2026-09-27T20:00:00Z",
		"2026-09-27T16:00:00 02:00": "2026-09-27T14:00:00Z", "2026-09-27T16:00:00": "2026-09-27T16:00:00Z",
		"27.9.2026": "", "": "", "2026-13-01": "", "now": "",
	} {
		got, ok := ParseDate(in)
		if ok != (want != "") || ok && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %v %v, want %s", in, got, ok, want)
		}
	}
}

func TestParsePeriod(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"PT10S": 10 * time.Second, "PT1M": time.Minute, "PT1H": time.Hour, "P1D": day, "P1DT12H": 36 * time.Hour, "P1T12H": 36 * time.Hour, "p2t1h": 49 * time.Hour, "P1W": 7 * day, "P1M": 30 * day, "p1d": day,
		"": 0, "P": 0, "PT": 0, "P1": 0, "PT1T1H": 0, "1D": 0, "P0D": 0, "PT1.5H": 0, "P99999999999999999999D": 0, "P100Y": 0,
	} {
		if got, ok := ParsePeriod(in); got != want && ok || ok != (want != 0) {
			t.Errorf("%q: %v %v, want %v", in, got, ok, want)
		}
	}
}

func TestRouter(t *testing.T) {
	var rt router
	for _, path := range []string{
		"/", "/groups", "/groups/byName/{}", "/groups/{}", "/orgs/{}/apiKeys/{}/accessList/{slashes}",
		"/hosts/{}/disks", "/hosts/{}/disks/{slashes}/measurements", "/hosts/{}/disks/{slashes}",
	} {
		rt.add(Route{Method: http.MethodGet, Path: path})
	}
	for _, c := range []struct {
		path string
		want string
		args string
	}{
		{"", "/", ""},
		{"/", "/", ""},
		{"/groups/", "/groups", ""},
		{"/groups/5f", "/groups/{}", "5f"},
		{"/groups/byName/a%2Fb", "/groups/byName/{}", "a/b"},
		{"/orgs/o/apiKeys/k/accessList/10.0.0.0%2F24", "/orgs/{}/apiKeys/{}/accessList/{slashes}", "o k 10.0.0.0/24"},
		{"/orgs/o/apiKeys/k/accessList/10.0.0.0/24/", "/orgs/{}/apiKeys/{}/accessList/{slashes}", "o k 10.0.0.0/24"},
		{"/hosts/h/disks//data/db/measurements/", "/hosts/{}/disks/{slashes}/measurements", "h /data/db"},
		{"/hosts/h/disks/%2Fdata%2Fdb", "/hosts/{}/disks/{slashes}", "h /data/db"},
		{"/hosts/h/disks//data/db", "/hosts/{}/disks/{slashes}", "h /data/db"},
		{"/hosts/h/disks//", "/hosts/{}/disks", "h"},
		{"/groups/a/b", "", ""},
		{"/groups/%zz", "", ""},
	} {
		r, args, allowed := rt.find(http.MethodGet, c.path)
		if found := len(allowed) > 0; found != (c.want != "") || found && (r.Path != c.want || strings.Join(args, " ") != c.args) {
			t.Errorf("%q: %v %q", c.path, r, args)
		}
	}
	if r, _, allowed := rt.find(http.MethodPost, "/groups"); r != nil || strings.Join(allowed, " ") != "GET HEAD" {
		t.Error("a known path with another method is not unknown")
	}
	if r, _, _ := rt.find(http.MethodHead, "/groups"); r == nil {
		t.Error("HEAD is not GET")
	}
}

func FuzzQueries(f *testing.F) {
	f.Add("P1DT12H", "2026-09-27T16:00:00-0400", "/groups/%2f/x")
	f.Add("P1T12H", "2026", "//")
	f.Fuzz(func(t *testing.T, period, date, path string) {
		if d, ok := ParsePeriod(period); ok && (d <= 0 || d > MaxPeriod) {
			t.Errorf("%q is %v", period, d)
		}
		ParseDate(date)
		rt := router{routes: []Route{{Method: "GET", Path: "/groups/{}/x/{slashes}"}, {Method: "GET", Path: "/"}}}
		rt.find("GET", path)
	})
}
