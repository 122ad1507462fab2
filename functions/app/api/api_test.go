package api_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what digest is made of
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/functions/app/api"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/trial"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 3, 1, 10, 7, 0, 0, time.UTC)

// site is a server with an organization, a group, and keys of several roles.
type site struct {
	t      *testing.T
	inv    *inventory.Inventory
	acc    *access.Access
	events *alerting.Alerting
	series *series.Series
	backup *backup.Backup
	engine docstore.Engine
	http   *httptest.Server
	org    model.Org
	group  model.Group
	owner  key // GLOBAL_OWNER
	other  model.Group

	mu        sync.Mutex
	now       time.Time
	upgrading bool
}

type key struct {
	id              model.ID
	public, private string
}

func (x *site) clock() time.Time { x.mu.Lock(); defer x.mu.Unlock(); return x.now }

func newSite(t *testing.T, change ...func(*api.Options)) *site {
	t.Helper()
	e := storetest.Engine(t)
	s := storetest.OpenOn(t, e, append(areas.Collections(), missing(areas.Collections(), series.Collections())...)...)
	x := &site{t: t, inv: inventory.New(s), acc: access.New(s), events: alerting.New(s), backup: backup.New(s), engine: e, now: t0}
	var err error
	if x.series, err = series.New(series.Options{Engine: e, Now: x.clock}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	x.org = model.Org{ID: "5f00000000000000000000aa", Name: "Acme", Created: t0}
	x.group = model.Group{ID: "5f0000000000000000000001", OrgID: x.org.ID, Name: "prod", Created: t0, Tags: []string{"live"}, Settings: model.DefaultGroupSettings()}
	x.other = model.Group{ID: "5f0000000000000000000002", OrgID: "5f00000000000000000000bb", Name: "test", Created: t0, Settings: model.DefaultGroupSettings()}
	for _, err := range []error{
		x.inv.CreateOrg(ctx, x.org), x.inv.CreateOrg(ctx, model.Org{ID: x.other.OrgID, Name: "Bolt", Created: t0}),
		x.inv.CreateGroup(ctx, x.group), x.inv.CreateGroup(ctx, x.other),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	x.owner = x.key("", model.Grant{Role: model.GlobalOwner})
	log := slog.New(slog.DiscardHandler)
	trials, err := trial.New(trial.Options{Inventory: x.inv, Access: x.acc, Alerting: x.events, Series: x.series, Log: log, Now: x.clock})
	if err != nil {
		t.Fatal(err)
	}
	service, err := backups.New(backups.Options{Store: x.backup, Inventory: x.inv, Alerts: x.events, Log: log, Now: x.clock})
	if err != nil {
		t.Fatal(err)
	}
	o := api.Options{Inventory: x.inv, Access: x.acc, Series: x.series, Events: x.events, Alerting: x.events, Trial: trials, Backups: service, Stores: x.backup, Rest: rest.Options{
		Events: x.events, Log: log, Now: x.clock, NonceKey: []byte("0123456789abcdef"), PublicURL: "https://om.example.com",
		Version: "1.2.3", Revision: strings.Repeat("ab", 20), Upgrading: func(context.Context) bool { x.mu.Lock(); defer x.mu.Unlock(); return x.upgrading },
	}}
	for _, c := range change {
		c(&o)
	}
	h, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	x.http = httptest.NewServer(httpx.Chain(h, httpx.ChainOptions{}))
	t.Cleanup(x.http.Close)
	return x
}

// missing are the collections that are not declared yet.
func missing(have, want []docstore.Collection) []docstore.Collection {
	return slices.DeleteFunc(slices.Clone(want), func(c docstore.Collection) bool {
		return slices.ContainsFunc(have, func(h docstore.Collection) bool { return h.Name == c.Name })
	})
}

func (x *site) key(org model.ID, grants ...model.Grant) key {
	x.t.Helper()
	public, private := auth.NewAPIKey()
	k := model.APIKey{ID: model.NewID(), OrgID: org, Desc: "test", PublicKey: public, HA1: model.Secret(auth.HA1(public, private)), MaskedTail: auth.MaskedTail(private), Grants: grants, Created: t0}
	if err := x.acc.CreateAPIKey(x.t.Context(), k); err != nil {
		x.t.Fatal(err)
	}
	return key{k.ID, public, private}
}

// inGroup makes a key of the organization with one role in the group.
func (x *site) inGroup(r model.Role) key {
	return x.key(x.org.ID, model.Grant{Role: model.OrgMember, OrgID: x.org.ID}, model.Grant{Role: r, GroupID: x.group.ID})
}

type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

// do calls with the digest transport that existing clients use.
func (x *site) do(k key, method, path, body string) answer {
	x.t.Helper()
	return x.raw(&http.Client{Transport: digest.NewTransport(k.public, k.private)}, method, "/api/public/v1.0"+path, body)
}

func (x *site) raw(c *http.Client, method, path, body string, headers ...string) answer {
	x.t.Helper()
	req, err := http.NewRequestWithContext(x.t.Context(), method, x.http.URL, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	// The path goes out as it is written here: clients escape, and fail to escape, in their own ways.
	target, query, _ := strings.Cut(path, "?")
	unescaped, err := url.PathUnescape(target)
	if err != nil {
		x.t.Fatal(err)
	}
	req.URL.Path, req.URL.RawPath, req.URL.RawQuery = unescaped, target, query
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		x.t.Fatal(err)
	}
	_ = json.Unmarshal(a.body, &a.json)
	return a
}

// ok calls and expects a status.
func (x *site) ok(k key, method, path, body string, status int) map[string]any {
	x.t.Helper()
	a := x.do(k, method, path, body)
	if a.status != status {
		x.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a.json
}

func get(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (x *site) host(addr string, change func(*model.Host)) model.Host {
	x.t.Helper()
	name, port, err := model.SplitAddress(addr)
	if err != nil {
		x.t.Fatal(err)
	}
	h := model.Host{ID: model.NewHostID(x.group.ID, name, port), GroupID: x.group.ID, Hostname: name, Port: port, Created: t0, Type: model.TypeNoData, MemberID: -1, Enabled: true, AlertsEnabled: true}
	if change != nil {
		change(&h)
	}
	if err := x.inv.CreateHost(x.t.Context(), h); err != nil {
		x.t.Fatal(err)
	}
	return h
}

func TestChallenge(t *testing.T) {
	x := newSite(t)
	form := regexp.MustCompile(`^Digest realm="MMS Public API", domain="", nonce="[^",]+", algorithm=MD5, qop="auth", stale=false$`)
	for _, c := range []struct{ name, method, path, body, authorization string }{
		{"no credentials", "GET", "/", "", ""},
		{"with a body", "POST", "/groups", `{"name":"x"}`, ""},
		{"with a broken body", "POST", "/groups", `{`, ""},
		{"an unknown path", "GET", "/nothing/here", "", ""},
		{"a wrong method", "DELETE", "/", "", ""},
		{"basic authentication", "GET", "/", "", "Basic YTpi"},
		{"rubbish", "GET", "/", "", "Digest x"},
		{"an agent key", "GET", "/", "", "Basic NWYwMDAwMDAwMDAwMDAwMDAwMDAwMDAxOmFiYw=="},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.raw(http.DefaultClient, c.method, "/api/public/v1.0"+c.path, c.body, "Authorization", c.authorization)
			if a.status != 401 || !form.MatchString(a.header.Get("WWW-Authenticate")) || len(a.header.Values("WWW-Authenticate")) != 1 {
				t.Errorf("%d %q", a.status, a.header.Values("WWW-Authenticate"))
			}
			if strings.TrimSpace(string(a.body)) != `{"detail":"You are not authorized for this resource.","error":401,"reason":"Unauthorized"}` {
				t.Errorf("body %s", a.body)
			}
			if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("type %q", a.header.Get("Content-Type"))
			}
		})
	}
	wrong := x.owner
	wrong.private = "00000000-0000-4000-8000-000000000000"
	if a := x.do(wrong, "GET", "/", ""); a.status != 401 {
		t.Errorf("a wrong key got %d", a.status)
	}
}

func md5hex(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// TestDigestDialects: the ways in which known clients write the header.
func TestDigestDialects(t *testing.T) {
	x := newSite(t)
	nonce := func() string {
		a := x.raw(http.DefaultClient, "GET", "/api/public/v1.0/", "")
		_, rest, _ := strings.Cut(a.header.Get("WWW-Authenticate"), `nonce="`)
		n, _, _ := strings.Cut(rest, `"`)
		return n
	}
	sign := func(format, n, nc, uri string) string {
		ha1 := md5hex(x.owner.public + ":MMS Public API:" + x.owner.private)
		ha2 := md5hex("GET:" + uri)
		response := md5hex(ha1 + ":" + n + ":" + nc + ":abc:auth:" + ha2)
		return fmt.Sprintf(format, x.owner.public, n, uri, response, nc)
	}
	const usual = `Digest username="%s", realm="MMS Public API", nonce="%s", uri="%s", response="%s", cnonce="abc", nc=%s, qop=auth`
	const quoted = `Digest username="%s",realm="MMS Public API",nonce="%s",uri="%s",response="%s",cnonce="abc",nc="%s",qop="auth",algorithm="MD5"`
	for _, c := range []struct{ name, format, nc, path string }{
		{"as the Go client", usual, "00000001", "/api/public/v1.0/"},
		{"as the operator: a short nc", usual, "1", "/api/public/v1.0/"},
		{"everything quoted", quoted, "00000001", "/api/public/v1.0/"},
		{"with a query", usual, "00000001", "/api/public/v1.0/groups?itemsPerPage=1&pageNum=1"},
		{"with an escaped path", usual, "00000001", "/api/public/v1.0/groups/byName/prod%2dx"},
	} {
		a := x.raw(http.DefaultClient, "GET", c.path, "", "Authorization", sign(c.format, nonce(), c.nc, c.path))
		if a.status == 401 {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	// One nonce serves several calls, until it is stale.
	n := nonce()
	for i := range 3 {
		a := x.raw(http.DefaultClient, "GET", "/api/public/v1.0/", "", "Authorization", sign(usual, n, fmt.Sprintf("%08x", i+1), "/api/public/v1.0/"))
		if a.status != 200 {
			t.Errorf("use %d of a nonce: %d", i+1, a.status)
		}
	}
	x.mu.Lock()
	x.now = t0.Add(time.Hour)
	x.mu.Unlock()
	a := x.raw(http.DefaultClient, "GET", "/api/public/v1.0/", "", "Authorization", sign(usual, n, "00000004", "/api/public/v1.0/"))
	if a.status != 401 || !strings.HasSuffix(a.header.Get("WWW-Authenticate"), "stale=true") {
		t.Errorf("an old nonce: %d %s", a.status, a.header.Get("WWW-Authenticate"))
	}
	if other := x.raw(http.DefaultClient, "GET", "/api/public/v1.0/groups", "", "Authorization", sign(usual, nonce(), "00000001", "/api/public/v1.0/")); other.status != 401 {
		t.Errorf("a signature for another path: %d", other.status)
	}
}

func TestConventions(t *testing.T) {
	x := newSite(t)
	for i := range 7 {
		x.host(fmt.Sprintf("db%d.example.com:27017", i), nil)
	}
	g := "/groups/" + string(x.group.ID)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		want                     string // a regular expression
	}{
		{"the root", "GET", "/", "", 200, `^\{"appName":"MongoDB Ops Manager","build":"(ab){20}","links":\[\{"rel":"self","href":"https://om.example.com/api/public/v1.0"`},
		{"the root without a slash", "GET", "", "", 200, `"appName"`},
		{"the root with paging of a shared helper", "GET", "/?itemsPerPage=5&ListOptions=", "", 200, `"appName"`},
		{"a trailing slash", "GET", g + "/hosts/", "", 200, `"totalCount":7`},
		{"an unknown path", "GET", "/nothing", "", 404, `"errorCode":"RESOURCE_NOT_FOUND","parameters":\["/api/public/v1.0/nothing"\],"reason":"Not Found"`},
		{"paths are case-sensitive", "GET", "/Groups", "", 404, `RESOURCE_NOT_FOUND`},
		{"a known path, another method", "PUT", g + "/hosts", "{}", 405, `"error":405`},
		{"HEAD", "HEAD", g + "/hosts", "", 200, `^$`},
		{"an escaped segment", "GET", "/groups/byName/pr%6fd", "", 200, `"name":"prod"`},
		{"a body on GET is ignored", "GET", g + "/hosts", "null", 200, `"totalCount":7`},
		{"page 1", "GET", g + "/hosts?itemsPerPage=3", "", 200, `"rel":"self","href":"https://om.example.com/api/public/v1.0/groups/5f0000000000000000000001/hosts\?itemsPerPage=3&pageNum=1"\},\{"rel":"next"`},
		{"page 2 has both neighbours", "GET", g + "/hosts?itemsPerPage=3&pageNum=2", "", 200, `"rel":"previous","href":"[^"]*pageNum=1"\},\{"rel":"next","href":"[^"]*pageNum=3"`},
		{"the last page has no next", "GET", g + "/hosts?itemsPerPage=3&pageNum=3", "", 200, `"links":\[\{"rel":"self"[^}]*\},\{"rel":"previous"[^}]*\}\]`},
		{"past the end: empty, with the count", "GET", g + "/hosts?pageNum=99", "", 200, `"results":\[\],"totalCount":7`},
		{"too many items are cut to 500", "GET", g + "/hosts?itemsPerPage=9999", "", 200, `itemsPerPage=500`},
		{"without the count", "GET", g + "/hosts?includeCount=false", "", 200, `"results":\[.*\]\}$`},
		{"page 0", "GET", g + "/hosts?pageNum=0", "", 400, `INVALID_QUERY_PARAMETER`},
		{"an item count that is none", "GET", g + "/hosts?itemsPerPage=x", "", 400, `INVALID_QUERY_PARAMETER`},
		{"a boolean that is none", "GET", g + "/hosts?includeCount=yes", "", 400, `INVALID_QUERY_PARAMETER`},
		{"an empty value is absent", "GET", g + "/hosts?pageNum=&clusterId=", "", 200, `"totalCount":7`},
		{"unknown parameters are ignored", "GET", g + "/hosts?Minutes=3&NExamples=", "", 200, `"totalCount":7`},
		{"an empty list", "GET", g + "/clusters", "", 200, `"results":\[\],"totalCount":0`},
		{"pretty", "GET", g + "?pretty=true", "", 200, "^\\{\n  \"activeAgentCount\" ?: 0"},
		{"an envelope around one", "GET", "/?envelope=true", "", 200, `^\{"content":\{"appName".*\},"status":200\}$`},
		{"an envelope around a list", "GET", g + "/clusters?envelope=true", "", 200, `^\{"links":.*"results":\[\],"status":200,"totalCount":0\}$`},
		{"an envelope around an error", "GET", "/nothing?envelope=true", "", 200, `^\{"content":\{.*"error":404,.*\},"status":404\}$`},
		{"malformed JSON", "POST", "/orgs", `{"name":`, 400, `INVALID_JSON"`},
		{"no body", "POST", "/orgs", ``, 400, `INVALID_JSON"`},
		{"a field of a wrong type", "POST", "/orgs", `{"name":7}`, 400, `INVALID_JSON_ATTRIBUTE`},
		{"an unknown field", "POST", "/orgs", `{"name":"x","colour":"red"}`, 400, `"errorCode":"INVALID_ATTRIBUTE","parameters":\["colour"\]`},
		{"a missing field", "POST", "/orgs", `{}`, 400, `"errorCode":"MISSING_ATTRIBUTE","parameters":\["name"\]`},
		{"an unknown parent", "GET", "/groups/5f00000000000000000000ff/clusters", "", 404, `GROUP_NOT_FOUND`},
		{"an id that is none", "GET", "/groups/17/clusters", "", 404, `INVALID_GROUP_ID`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.do(x.owner, c.method, c.path, c.body)
			if a.status != c.status || !regexp.MustCompile(c.want).Match(a.body) {
				t.Errorf("%d %s", a.status, a.body)
			}
			if !regexp.MustCompile(`^gitHash=[0-9a-f]{40}; versionString=[6-9]\.\d+\.\d+\.\d+\.\w+$`).MatchString(a.header.Get("X-MongoDB-Service-Version")) {
				t.Errorf("version header %q", a.header.Get("X-MongoDB-Service-Version"))
			}
			if a.status >= 400 && a.json["error"] != float64(a.status) {
				t.Errorf("error %v", a.json["error"])
			}
		})
	}
	open := x.raw(http.DefaultClient, "GET", "/api/private/unauth/version", "")
	if open.status != 200 || open.header.Get("X-MongoDB-Service-Version") == "" {
		t.Errorf("version without credentials: %d", open.status)
	}
}

// TestOrderOfChecks: credentials, address, membership and role, resource, body, state.
func TestOrderOfChecks(t *testing.T) {
	x := newSite(t)
	reader := x.inGroup(model.GroupReadOnly)
	g := "/groups/" + string(x.group.ID)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"not in the group", "GET", "/groups/" + string(x.other.ID) + "/hosts", "", 401, "NOT_IN_GROUP"},
		{"a group that does not exist looks the same", "GET", "/groups/5f00000000000000000000ff/hosts", "", 401, "NOT_IN_GROUP"},
		{"the role comes before the resource", "DELETE", g + "/hosts/00000000000000000000000000000000", "", 401, "USER_UNAUTHORIZED"},
		{"the role comes before the body", "POST", g + "/hosts", "{", 401, "USER_UNAUTHORIZED"},
		{"not a member of the organization", "GET", "/orgs/" + string(x.other.OrgID), "", 401, "NOT_ORG_ADMIN"},
		{"not an owner of the organization", "PATCH", "/orgs/" + string(x.org.ID), "{}", 401, "NOT_ORG_OWNER"},
		{"not an administrator", "GET", "/admin/apiKeys", "", 401, "USER_UNAUTHORIZED"},
		{"the resource", "GET", g + "/hosts/00000000000000000000000000000000", "", 404, "HOST_NOT_FOUND"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.do(reader, c.method, c.path, c.body)
			if a.status != c.status || a.json["errorCode"] != c.code {
				t.Errorf("%d %s", a.status, a.body)
			}
			if a.header.Get("WWW-Authenticate") != "" {
				t.Error("a weak role was asked to sign in again")
			}
		})
	}
	monitor := x.inGroup(model.GroupMonitoringAdmin)
	if a := x.do(monitor, "PATCH", g+"/hosts/00000000000000000000000000000000", "{"); a.status != 404 {
		t.Errorf("the resource comes before the body: %d %s", a.status, a.body)
	}
}

func TestAccessLists(t *testing.T) {
	x := newSite(t)
	ctx := t.Context()
	k := x.key(x.org.ID, model.Grant{Role: model.OrgOwner, OrgID: x.org.ID})
	base := "/orgs/" + string(x.org.ID) + "/apiKeys/" + string(k.id) + "/accessList"
	added := x.ok(k, "POST", base, `[{"ipAddress":"127.0.0.1"},{"cidrBlock":"10.0.0.0/24"}]`, 200)
	if added["totalCount"] != float64(2) || get(added, "results", 0, "cidrBlock") != "127.0.0.1/32" || get(added, "results", 0, "ipAddress") != "127.0.0.1" || get(added, "results", 1, "ipAddress") != nil {
		t.Errorf("%v", added)
	}
	for _, path := range []string{base + "/127.0.0.1", base + "/10.0.0.0%2F24", base + "/10.0.0.0/24", strings.Replace(base, "accessList", "whitelist", 1) + "/127.0.0.1/32"} {
		x.ok(k, "GET", path, "", 200)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", base, `[{"ipAddress":"127.0.0.1"}]`, 409, "ADDRESS_ALREADY_IN_ACCESS_LIST"},
		{"POST", base, `[{"ipAddress":"1.1.1.1"},{"cidrBlock":"1.1.1.1/32"}]`, 400, "DUPLICATE_ADDRESSES_IN_INPUT"},
		{"POST", base, `[{"ipAddress":"1.1.1.1","cidrBlock":"1.1.1.1/32"}]`, 400, "BAD_ACCESS_LIST_ADD_REQUEST"},
		{"GET", base + "/10.0.0.7", "", 404, "API_KEY_ACCESS_LIST_NOT_FOUND"},
		{"DELETE", base + "/127.0.0.1", "", 400, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST"},
	} {
		if a := x.do(k, c.method, c.path, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
	x.ok(k, "DELETE", base+"/10.0.0.0/24", "", 204)
	err := x.acc.UpdateAPIKey(ctx, k.id, func(k *model.APIKey) error {
		k.AccessList = []model.AccessEntry{{CIDR: "192.0.2.0/24", Created: t0}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := x.do(k, "GET", "/", ""); a.status != 403 || a.json["errorCode"] != "IP_ADDRESS_NOT_ON_ACCESS_LIST" || get(a.json, "parameters", 0) != "127.0.0.1" {
		t.Errorf("%d %s", a.status, a.body)
	}
	bare := x.key(x.org.ID, model.Grant{Role: model.OrgMember, OrgID: x.org.ID})
	if err := x.inv.UpdateOrg(ctx, x.org.ID, func(o *model.Org) error { o.RequireAccessList = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if a := x.do(bare, "GET", "/", ""); a.status != 403 || a.json["errorCode"] != "ORG_REQUIRES_ACCESS_LIST" {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The site's own list, by both its names.
	entry := x.ok(x.owner, "POST", "/admin/whitelist", `{"cidrBlock":"127.0.0.0/8","description":"here"}`, 200)
	x.ok(x.owner, "GET", "/admin/accessList/"+fmt.Sprint(entry["id"]), "", 200)
	if a := x.do(x.owner, "POST", "/admin/accessList", `{"cidrBlock":"127.0.0.0/8","description":"again"}`); a.status != 409 || a.json["errorCode"] != "DUPLICATE_GLOBAL_WHITELIST_ENTRY" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := x.acc.SetGlobalAccessList(ctx, []model.AccessEntry{{CIDR: "192.0.2.0/24"}}); err != nil {
		t.Fatal(err)
	}
	if a := x.do(x.owner, "GET", "/", ""); a.status != 403 || a.json["errorCode"] != "GLOBAL_USER_OUTSIDE_SUBNET" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestFirstUser(t *testing.T) {
	x := newSite(t)
	const path = "/api/public/v1.0/unauth/users?whitelist=127.0.0.1&accessList=10.0.0.0/8"
	body := `{"username":"Ann@example.com","password":"Passw0rd!","firstName":"Ann","lastName":"Lee"}`
	for bad, code := range map[string]string{
		`{"username":"ann@example.com"}`: "MISSING_ATTRIBUTE",
		`{"username":"ann@example.com","password":"abc","firstName":"A","lastName":"L"}`:                             "WEAK_PASSWORD",
		`{"username":"a b","password":"Passw0rd!","firstName":"A","lastName":"L"}`:                                   "INVALID_USERNAME",
		`{"username":"ann","password":"Passw0rd!","firstName":"A","lastName":"L","emailAddress":"somewhere"}`:        "INVALID_EMAIL_ADDRESS",
		`{"username":"ann","password":"Passw0rd!","firstName":"A","lastName":"L","isAdmin":true}`:                    "INVALID_ATTRIBUTE",
		`{"username":"ann","password":"Passw0rd!","firstName":"A","lastName":"L","roles":[{"roleName":"X"}],"x":""}`: "INVALID_ATTRIBUTE",
	} {
		if a := x.raw(http.DefaultClient, "POST", path, bad); a.status != 400 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	a := x.raw(http.DefaultClient, "POST", path, body)
	if a.status != 201 || get(a.json, "user", "username") != "ann@example.com" || get(a.json, "user", "roles", 0, "roleName") != "GLOBAL_OWNER" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if bytes.Contains(a.body, []byte("Passw0rd")) || bytes.Contains(a.body, []byte("argon2")) {
		t.Error("the password, or its hash, is in the answer")
	}
	k := key{public: fmt.Sprint(get(a.json, "programmaticApiKey", "publicKey")), private: fmt.Sprint(get(a.json, "programmaticApiKey", "privateKey"))}
	if k.private != a.json["apiKey"] {
		t.Error("the two generations of keys differ")
	}
	x.ok(k, "GET", "/", "", 200)
	user := x.ok(k, "GET", "/users/byName/ann@example.com", "", 200)
	x.ok(k, "GET", "/users/"+fmt.Sprint(user["id"]), "", 200)
	if list := x.ok(k, "GET", "/admin/whitelist", "", 200); list["totalCount"] != float64(2) {
		t.Errorf("%v", list)
	}
	if a := x.raw(http.DefaultClient, "POST", path, body); a.status != 403 || a.json["errorCode"] != "CANNOT_CREATE_FIRST_USER_USERS_ALREADY_EXIST" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for path, code := range map[string]string{"/users/1": "INVALID_USER_ID", "/users/5f00000000000000000000ff": "USER_NOT_FOUND", "/users/byName/bob": "USERNAME_NOT_FOUND"} {
		if a := x.do(k, "GET", path, ""); a.status != 404 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestOrganizationsAndGroups(t *testing.T) {
	x := newSite(t)
	org := x.ok(x.owner, "POST", "/orgs", `{"name":"Cog"}`, 200)
	id := fmt.Sprint(org["id"])
	if list := x.ok(x.owner, "GET", "/orgs?name=co", "", 200); list["totalCount"] != float64(1) || get(list, "results", 0, "name") != "Cog" {
		t.Errorf("by name: %v", list)
	}
	if o := x.ok(x.owner, "PATCH", "/orgs/"+id, `{"id":"`+id+`","name":"Cogs","isDeleted":false}`, 200); o["name"] != "Cogs" {
		t.Errorf("%v", o)
	}
	g := x.ok(x.owner, "POST", "/groups", `{"name":"shop","orgId":"`+id+`","withDefaultAlertsSettings":false}`, 201)
	if !regexp.MustCompile(`^[0-9a-f]{32,56}$`).MatchString(fmt.Sprint(g["agentApiKey"])) {
		t.Errorf("agent key %v", g["agentApiKey"])
	}
	for _, kind := range []string{"arbiter", "config", "master", "mongos", "primary", "secondary", "slave"} {
		if get(g, "hostCounts", kind) != float64(0) {
			t.Errorf("hostCounts.%s is %v", kind, get(g, "hostCounts", kind))
		}
	}
	gid := fmt.Sprint(g["id"])
	if again := x.ok(x.owner, "GET", "/groups/byAgentApiKey/"+fmt.Sprint(g["agentApiKey"]), "", 200); again["id"] != g["id"] || again["agentApiKey"] != nil {
		t.Errorf("%v", again)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/groups", `{"name":"shop","orgId":"` + id + `"}`, 409, "GROUP_ALREADY_EXISTS"},
		{"POST", "/groups", `{"orgId":"` + id + `"}`, 400, "MISSING_ATTRIBUTE"},
		{"POST", "/groups", `{"name":"y","orgId":"5f00000000000000000000ff"}`, 404, "ORG_NOT_FOUND"},
		{"PATCH", "/groups/" + gid, `{"name":"prod"}`, 409, "GROUP_ALREADY_EXISTS"},
		{"PATCH", "/groups/" + gid, `{"orgId":"5f00000000000000000000aa"}`, 400, "ATTRIBUTE_READ_ONLY"},
		{"PATCH", "/groups/" + gid, `{"tags":["no space"]}`, 400, "INVALID_GROUP_TOKEN"},
		{"GET", "/groups/byName/none", "", 404, "GROUP_NAME_NOT_FOUND"},
		{"GET", "/groups/byAgentApiKey/0123456789abcdef0123456789abcdef", "", 404, "GROUP_API_KEY_NOT_FOUND"},
		{"DELETE", "/orgs/" + id, "", 409, "CANNOT_DELETE_ORG_ACTIVE_GROUPS"},
	} {
		if a := x.do(x.owner, c.method, c.path, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
	// A client may send the whole entity back.
	whole := x.do(x.owner, "GET", "/groups/"+gid, "")
	if a := x.do(x.owner, "PATCH", "/groups/"+gid, string(whole.body)); a.status != 200 {
		t.Errorf("an echo: %d %s", a.status, a.body)
	}
	if g := x.ok(x.owner, "PATCH", "/groups/"+gid, `{"name":"store","tags":["live"]}`, 200); g["name"] != "store" || get(g, "tags", 0) != "live" {
		t.Errorf("%v", g)
	}
	if list := x.ok(x.owner, "GET", "/groups?tag=live", "", 200); list["totalCount"] != float64(2) {
		t.Errorf("%v", list)
	}
	reader := x.inGroup(model.GroupReadOnly)
	if list := x.ok(reader, "GET", "/groups", "", 200); list["totalCount"] != float64(1) || len(get(list, "results", 0, "tags").([]any)) != 0 {
		t.Errorf("a reader sees %v", list)
	}
	if list := x.ok(reader, "GET", "/orgs", "", 200); list["totalCount"] != float64(1) {
		t.Errorf("a reader sees %v", list)
	}
	old := x.ok(x.owner, "POST", "/groups", `{"name":"alone"}`, 201)
	if o := x.ok(x.owner, "GET", "/orgs/"+fmt.Sprint(old["orgId"]), "", 200); o["name"] != "alone" {
		t.Errorf("a group without organization got %v", o)
	}
	x.ok(x.owner, "DELETE", "/groups/"+gid, "", 204)
	x.ok(x.owner, "DELETE", "/orgs/"+id, "", 204)
	if a := x.do(x.owner, "GET", "/groups/"+gid, ""); a.status != 404 || a.json["errorCode"] != "GROUP_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAgents(t *testing.T) {
	x := newSite(t)
	g := "/groups/" + string(x.group.ID)
	made := x.ok(x.owner, "POST", g+"/agentapikeys", `{"desc":"agents eu"}`, 200)
	full, id := fmt.Sprint(made["key"]), fmt.Sprint(made["_id"])
	a := x.do(x.owner, "GET", g+"/agentapikeys", "")
	var keys []map[string]any
	if err := json.Unmarshal(a.body, &keys); err != nil || len(keys) != 1 {
		t.Fatalf("a bare array is due: %s", a.body)
	}
	if keys[0]["_id"] != id || keys[0]["key"] != strings.Repeat("*", 28)+full[len(full)-4:] || keys[0]["createdTime"] != float64(t0.UnixMilli()) || keys[0]["createdBy"] != "PUBLIC_API" {
		t.Errorf("%v", keys[0])
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", g + "/agentapikeys", `{}`, 400, "MISSING_ATTRIBUTE"},
		{"DELETE", g + "/agentapikeys/5f00000000000000000000ff", "", 404, "GROUP_API_KEY_NOT_FOUND"},
		{"GET", g + "/agents/FLYING", "", 400, "INVALID_AGENT_TYPE_NAME"},
	} {
		if a := x.do(x.owner, c.method, c.path, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
	x.ok(x.owner, "DELETE", g+"/agentapikeys/"+id, "", 204)
	err := x.inv.UpsertAgent(t.Context(), x.group.ID, "a1", func(a *model.Agent) error {
		a.Type, a.Hostname, a.Version, a.State, a.LastConf, a.LastPing, a.ConfCount, a.PingCount = model.AgentMonitoring, "watch1.example.com", "1.2.3", model.AgentActive, t0, t0, 3, 5
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list := x.ok(x.owner, "GET", g+"/agents/MONITORING", "", 200)
	if get(list, "results", 0, "lastConf") != "2026-03-01T10:07:00Z" || get(list, "results", 0, "stateName") != "ACTIVE" || get(list, "results", 0, "confCount") != float64(3) {
		t.Errorf("%v", list)
	}
	if l := x.ok(x.owner, "GET", g+"/agents/BACKUP", "", 200); l["totalCount"] != float64(0) {
		t.Errorf("%v", l)
	}
	index := x.ok(x.owner, "GET", g+"/agents", "", 200)
	if index["totalCount"] != float64(0) || get(index, "links", 2, "rel") != "http://mms.mongodb.com/monitoringAgents" {
		t.Errorf("%v", index)
	}
	versions := x.ok(x.owner, "GET", g+"/agents/versions", "", 200)
	if versions["count"] != float64(1) || get(versions, "entries", 0, "lastConf") != float64(t0.UnixMilli()) || get(versions, "entries", 0, "hostnameShort") != "watch1" {
		t.Errorf("%v", versions)
	}
	x.ok(x.owner, "GET", "/softwareComponents/versions/", "", 200)
}

func TestHosts(t *testing.T) {
	x := newSite(t)
	g := "/groups/" + string(x.group.ID)
	monitor := x.inGroup(model.GroupMonitoringAdmin)
	for _, c := range []struct{ body, code string }{
		{`{"port":27017}`, "MISSING_ATTRIBUTE"},
		{`{"hostname":"db1"}`, "MISSING_ATTRIBUTE"},
		{`{"hostname":"db 1","port":27017}`, "INVALID_HOSTNAME"},
		{`{"hostname":"db1","port":70000}`, "INVALID_HOST_PORT"},
		{`{"hostname":"db1","port":27017,"authMechanismName":"MAGIC"}`, "INVALID_AUTH_MECHANISM"},
		{`{"hostname":"db1","port":27017,"authMechanismName":"SCRAM-SHA-256"}`, "MISSING_CREDENTIALS_FOR_AUTH_MECHANISM"},
		{`{"hostname":"db1","port":27017,"username":"u"}`, "MISSING_PASSWORD"},
		{`{"hostname":"db1","port":27017,"authMechanismName":"MONGODB_X509"}`, "AUTH_MECHANISM_REQUIRES_SSL"},
		{`{"hostname":"db1","port":27017,"authMechanismName":"NONE","username":"u","password":"p"}`, "CANNOT_SET_CREDENTIALS_FOR_AUTH_MECHANISM"},
		{`{"hostname":"db1","port":27017,"authMechanismName":"GSSAPI","username":"u","password":"p"}`, "CANNOT_SET_PASSWORD_FOR_AUTH_MECHANISM"},
	} {
		if a := x.do(monitor, "POST", g+"/hosts", c.body); a.status != 400 || a.json["errorCode"] != c.code {
			t.Errorf("%s: %d %s", c.body, a.status, a.body)
		}
	}
	h := x.ok(monitor, "POST", g+"/hosts", `{"hostname":"DB1.example.com","port":27017,"username":"mon","password":"geheim","authMechanismName":"SCRAM_SHA_256","sslEnabled":true}`, 201)
	id := fmt.Sprint(h["id"])
	if len(id) != 32 || h["hostname"] != "db1.example.com" || h["typeName"] != "NO_DATA" || h["username"] != "mon" || h["authMechanismName"] != "SCRAM-SHA-256" || h["sslEnabled"] != true || h["port"] != float64(27017) {
		t.Errorf("%v", h)
	}
	if _, known := h["lastPing"]; known {
		t.Error("a host that never answered has a last ping")
	}
	if _, known := h["password"]; known {
		t.Error("the password is in the answer")
	}
	creds, err := x.inv.HostCredentials(t.Context(), x.group.ID, model.HostID(id))
	if err != nil || creds.Password.Reveal() != "geheim" {
		t.Errorf("%v %v", err, creds)
	}
	at := g + "/hosts/" + id
	for path, status := range map[string]int{
		g + "/hosts/byName/db1.example.com:27017": 200, g + "/hosts/byName/DB1.example.com%3A27017": 200,
		g + "/hosts/byName/db1.example.com:1": 404, g + "/hosts/byName/db1.example.com": 404,
	} {
		a := x.do(x.owner, "GET", path, "")
		if a.status != status || status == 404 && a.json["errorCode"] != "HOSTNAME_AND_PORT_NOT_FOUND" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, c := range []struct {
		body   string
		status int
		code   any
	}{
		{`{"hostname":"","port":0,"alertsEnabled":false}`, 200, nil}, // as the SDK sends it
		{`{"hostname":"db1.example.com","port":27017,"logsEnabled":true}`, 200, nil},
		{`{"hostname":"db2.example.com"}`, 400, "ATTRIBUTE_READ_ONLY"},
		{`{"typeName":"STANDALONE"}`, 400, "ATTRIBUTE_READ_ONLY"},
		{`{"version":""}`, 200, nil},
		{`{"colour":"red"}`, 400, "INVALID_ATTRIBUTE"},
		{`{"authMechanismName":"NONE"}`, 200, nil},
	} {
		if a := x.do(monitor, "PATCH", at, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s: %d %s", c.body, a.status, a.body)
		}
	}
	whole := x.do(monitor, "GET", at, "")
	if whole.json["alertsEnabled"] != false || whole.json["logsEnabled"] != true || whole.json["username"] != nil {
		t.Errorf("%s", whole.body)
	}
	if a := x.do(monitor, "PATCH", at, string(whole.body)); a.status != 200 {
		t.Errorf("an echo: %d %s", a.status, a.body)
	}
	x.ok(monitor, "DELETE", at, "", 204)
	if a := x.do(monitor, "GET", at, ""); a.status != 404 || a.json["errorCode"] != "HOST_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if list := x.ok(monitor, "GET", g+"/hosts", "", 200); list["totalCount"] != float64(0) {
		t.Errorf("%v", list)
	}
	if again := x.ok(monitor, "POST", g+"/hosts", `{"hostname":"db1.example.com","port":27017}`, 201); again["id"] != id {
		t.Errorf("added again it is %v", again["id"])
	}
	events, _, err := x.events.Events(t.Context(), alerting.EventQuery{GroupID: x.group.ID})
	if err != nil {
		t.Fatal(err)
	}
	audited := map[model.EventType]bool{}
	for _, e := range events {
		audited[e.Type] = e.APIKey == monitor.public && e.IP == "127.0.0.1"
	}
	if !audited[model.EventHostAdded] || !audited[model.EventHostUpdated] || !audited[model.EventHostDeleted] {
		t.Errorf("audit %v", audited)
	}
}

func TestHostEntity(t *testing.T) {
	x := newSite(t)
	h := x.host("db1.example.com:27017", func(h *model.Host) {
		h.Type, h.ReplicaSet, h.Version, h.ClusterID, h.IP, h.MemSizeMB, h.NumCores = model.TypeReplicaPrimary, "rs0", "7.0.5", "5f0000000000000000000c01", "192.0.2.10", 2048, 2
		h.Aliases, h.LastRestart, h.DelaySecs, h.LastDataBytes = []string{"db1:27017"}, t0.Add(-time.Hour), 60, 1.5
	})
	x.host("db2.example.com:27017", func(h *model.Host) { h.Hidden = true })
	op, err := x.inv.StatusOp(model.HostStatus{HostID: h.ID, GroupID: x.group.ID, At: t0, LastPing: t0, Reach: model.ReachUp, ReachSince: t0, State: model.StatePrimary, StateSince: t0, UptimeMS: 864000000})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := x.engine.Write(t.Context(), []docstore.Op{op}, true); err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	list := x.ok(x.owner, "GET", "/groups/"+string(x.group.ID)+"/hosts", "", 200)
	if list["totalCount"] != float64(1) {
		t.Errorf("hidden hosts are listed: %v", list["totalCount"])
	}
	o, _ := get(list, "results", 0).(map[string]any)
	for key, want := range map[string]any{
		"typeName": "REPLICA_PRIMARY", "replicaStateName": "PRIMARY", "replicaSetName": "rs0", "uptimeMsec": float64(864000000), "lastPing": "2026-03-01T10:07:00Z",
		"lastRestart": "2026-03-01T09:07:00Z", "ipAddress": "192.0.2.10", "secondaryDelaySecs": float64(60), "slaveDelaySec": float64(60),
		"hostEnabled": true, "hidden": false, "deactivated": false, "lastDataSizeBytes": 1.5, "clusterId": "5f0000000000000000000c01",
	} {
		if o[key] != want {
			t.Errorf("%s is %v, want %v", key, o[key], want)
		}
	}
	if get(o, "systemInfo", "memSizeMB") != float64(2048) || get(o, "aliases", 0) != "db1:27017" || get(o, "shardName") != nil {
		t.Errorf("%v", o)
	}
	if links, _ := o["links"].([]any); len(links) != 1 {
		t.Errorf("inside a list an entity has only self: %v", links)
	}
	if one := x.ok(x.owner, "GET", "/groups/"+string(x.group.ID)+"/hosts/"+string(h.ID), "", 200); len(one["links"].([]any)) < 5 {
		t.Errorf("%v", one["links"])
	}
	if a := x.do(x.owner, "GET", "/groups/"+string(x.group.ID)+"/hosts/"+string(h.ID)+"/lastPing", ""); a.status != 404 || a.json["errorCode"] != "HOST_LAST_PING_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestClusters(t *testing.T) {
	x := newSite(t)
	ctx := t.Context()
	parent, shard, plain := model.ID("5f0000000000000000000c00"), model.ID("5f0000000000000000000c01"), model.ID("5f0000000000000000000c02")
	for id, c := range map[model.ID]model.Cluster{
		parent: {Type: model.ClusterSharded, Name: "big", Created: t0},
		shard:  {Type: model.ClusterReplicaSet, Name: "big", ReplicaSet: "s0", ShardName: "shard0", ParentID: parent, Created: t0},
		plain:  {Type: model.ClusterReplicaSet, Name: "rs0", ReplicaSet: "rs0", Created: t0},
	} {
		if err := x.inv.UpsertCluster(ctx, x.group.ID, id, func(old *model.Cluster) error { *old = c; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	in := x.host("db1:27017", func(h *model.Host) { h.ClusterID, h.Type, h.ReplicaSet = shard, model.TypeShardPrimary, "s0" })
	x.host("db2:27017", func(h *model.Host) { h.ClusterID, h.Type = plain, model.TypeReplicaPrimary })
	g := "/groups/" + string(x.group.ID)
	if l := x.ok(x.owner, "GET", g+"/clusters", "", 200); l["totalCount"] != float64(3) {
		t.Errorf("%v", l)
	}
	l := x.ok(x.owner, "GET", g+"/clusters?parentClusterId="+string(parent), "", 200)
	if l["totalCount"] != float64(1) || get(l, "results", 0, "shardName") != "shard0" || get(l, "results", 0, "clusterName") != "big" || get(l, "results", 0, "typeName") != "REPLICA_SET" {
		t.Errorf("%v", l)
	}
	hosts := x.ok(x.owner, "GET", g+"/hosts?clusterId="+string(parent), "", 200)
	if hosts["totalCount"] != float64(1) || get(hosts, "results", 0, "id") != string(in.ID) {
		t.Errorf("%v", hosts)
	}
	top := x.ok(x.owner, "GET", g+"/clusters/"+string(parent), "", 200)
	if _, named := top["replicaSetName"]; named || top["typeName"] != "SHARDED_REPLICA_SET" {
		t.Errorf("%v", top)
	}
	if c := x.ok(x.owner, "PATCH", g+"/clusters/"+string(parent), `{"clusterName":"huge","id":"`+string(parent)+`"}`, 200); c["clusterName"] != "huge" {
		t.Errorf("%v", c)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"PATCH", g + "/clusters/" + string(plain), `{"clusterName":"x"}`, 400, "NOT_SHARDED"},
		{"PATCH", g + "/clusters/" + string(parent), `{"clusterName":"x","typeName":"REPLICA_SET"}`, 400, "ATTRIBUTE_READ_ONLY"},
		{"PATCH", g + "/clusters/" + string(parent), `{}`, 400, "MISSING_ATTRIBUTE"},
		{"GET", g + "/clusters/5f00000000000000000000ff", "", 404, "CLUSTER_NOT_FOUND"},
		{"GET", g + "/clusters/x", "", 404, "INVALID_CLUSTER_ID"},
		{"GET", g + "/hosts?clusterId=5f00000000000000000000ff", "", 404, "CLUSTER_NOT_FOUND"},
	} {
		if a := x.do(x.owner, c.method, c.path, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
	all := x.ok(x.inGroup(model.GroupReadOnly), "GET", "/clusters", "", 200)
	if all["totalCount"] != float64(1) || get(all, "results", 0, "groupName") != "prod" || get(all, "results", 0, "planType") != "Ops Manager" || len(get(all, "results", 0, "clusters").([]any)) != 2 {
		t.Errorf("%v", all)
	}
}

func TestAPIKeys(t *testing.T) {
	x := newSite(t)
	o := "/orgs/" + string(x.org.ID) + "/apiKeys"
	made := x.ok(x.owner, "POST", o, `{"desc":"ci","roles":["ORG_OWNER"]}`, 200)
	id, private := fmt.Sprint(made["id"]), fmt.Sprint(made["privateKey"])
	k := key{model.ID(id), fmt.Sprint(made["publicKey"]), private}
	if get(made, "roles", 0, "roleName") != "ORG_OWNER" || get(made, "roles", 0, "orgId") != string(x.org.ID) || len(private) != 36 || len(k.public) != 8 {
		t.Errorf("%v", made)
	}
	x.ok(k, "GET", "/groups/"+string(x.group.ID), "", 200) // an owner of the organization owns its groups
	if got := x.ok(k, "GET", o+"/"+id, "", 200); got["privateKey"] != "********-****-****-"+private[len(private)-12:] {
		t.Errorf("%v", got["privateKey"])
	}
	if got := x.ok(k, "PATCH", o+"/"+id, `{"desc":"cd"}`, 200); got["desc"] != "cd" || get(got, "roles", 0, "roleName") != "ORG_OWNER" {
		t.Errorf("%v", got)
	}
	assigned := x.ok(k, "PATCH", "/groups/"+string(x.group.ID)+"/apiKeys/"+id, `{"roles":["GROUP_READ_ONLY"]}`, 200)
	if get(assigned, "roles", 1, "groupId") != string(x.group.ID) {
		t.Errorf("%v", assigned)
	}
	if l := x.ok(k, "GET", "/groups/"+string(x.group.ID)+"/apiKeys", "", 200); l["totalCount"] != float64(1) {
		t.Errorf("%v", l)
	}
	x.ok(k, "DELETE", "/groups/"+string(x.group.ID)+"/apiKeys/"+id, "", 204)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", o, `{"desc":"x","roles":["GLOBAL_OWNER"]}`, 400, "INVALID_ENUM_VALUE"},
		{"POST", o, `{"desc":"x"}`, 400, "MISSING_ATTRIBUTE"},
		{"POST", o, `{"desc":"` + strings.Repeat("x", 251) + `","roles":["ORG_OWNER"]}`, 400, "INVALID_ATTRIBUTE"},
		{"GET", o + "/5f00000000000000000000ff", "", 400, "API_KEY_NOT_FOUND"},
		{"GET", o + "/x", "", 404, "INVALID_KEY_ID"},
		{"GET", o + "/" + string(x.owner.id), "", 400, "API_KEY_NOT_FOUND"}, // a global one
	} {
		if a := x.do(x.owner, c.method, c.path, c.body); a.status != c.status || a.json["errorCode"] != c.code {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
	x.ok(x.owner, "DELETE", o+"/"+id, "", 204)
	if a := x.do(k, "GET", "/", ""); a.status != 401 {
		t.Errorf("a deleted key got %d", a.status)
	}
	global := x.ok(x.owner, "POST", "/admin/apiKeys", `{"desc":"users","roles":["GLOBAL_USER_ADMIN"]}`, 200)
	admin := key{public: fmt.Sprint(global["publicKey"]), private: fmt.Sprint(global["privateKey"])}
	if a := x.do(admin, "POST", "/admin/apiKeys", `{"desc":"more","roles":["GLOBAL_OWNER"]}`); a.status != 403 || a.json["errorCode"] != "CANNOT_ADD_GLOBAL_ROLE" {
		t.Errorf("%d %s", a.status, a.body)
	}
	x.ok(admin, "GET", "/admin/apiKeys/roles", "", 200)
}

func TestUpgradeMode(t *testing.T) {
	x := newSite(t)
	x.mu.Lock()
	x.upgrading = true
	x.mu.Unlock()
	x.ok(x.owner, "GET", "/groups", "", 200)
	if a := x.do(x.owner, "POST", "/orgs", `{"name":"x"}`); a.status != 405 || a.json["errorCode"] != "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
