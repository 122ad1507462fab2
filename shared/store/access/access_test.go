package access_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *access.Access {
	t.Helper()
	return openOn(t, storetest.Engine(t))
}

func openOn(t testing.TB, e docstore.Engine) *access.Access {
	t.Helper()
	return access.New(storetest.OpenOn(t, e, access.Collections()...))
}

func user(id model.ID, name string) model.User {
	return model.User{ID: id, Username: name, Created: t0, PasswordHash: "$argon2id$..."}
}

func TestUserNamesAreUnique(t *testing.T) {
	a, ctx := open(t), t.Context()
	must(t, a.CreateUser(ctx, user("u1", "Ann@Example.com ")))
	must(t, a.CreateUser(ctx, user("u2", "bob@example.com")))
	if err := a.CreateUser(ctx, user("u3", "ann@example.COM")); !errors.Is(err, store.ErrExists) {
		t.Fatalf("a taken name: %v", err)
	}
	if err := a.UpdateUser(ctx, "u2", func(u *model.User) error { u.Username = "ann@example.com"; return nil }); !errors.Is(err, store.ErrExists) {
		t.Fatalf("renaming to a taken name: %v", err)
	}
	found, err := a.UserByName(ctx, " ANN@example.com")
	must(t, err)
	want := user("u1", "ann@example.com")
	if diff := cmp.Diff(want, found); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if _, err := a.UserByName(ctx, "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("nobody: %v", err)
	}
	must(t, a.DeleteUser(ctx, "u1"))
	must(t, a.CreateUser(ctx, user("u3", "ann@example.com")))
	users, err := a.Users(ctx)
	must(t, err)
	n, err := a.CountUsers(ctx)
	must(t, err)
	if n != 2 || len(users) != 2 || users[0].ID != "u3" || users[1].ID != "u2" {
		t.Fatalf("%d users: %+v", n, users)
	}
	for _, bad := range []model.User{user("", "x"), user("u9", "  "), user("a/b", "x")} {
		if err := a.CreateUser(ctx, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestTheFirstUserIsOne(t *testing.T) {
	a, ctx := open(t), t.Context()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 10 {
		wg.Go(func() {
			err := a.CreateFirstUser(ctx, user(model.ID(fmt.Sprintf("u%d", i)), fmt.Sprintf("user%d", i)), model.Grant{Role: model.GlobalOwner})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case !errors.Is(err, store.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	users, err := a.Users(ctx)
	must(t, err)
	if made != 1 || len(users) != 1 || len(users[0].Grants) != 1 || users[0].Grants[0].Role != model.GlobalOwner {
		t.Fatalf("%d made, users %+v", made, users)
	}
	must(t, a.CreateUser(ctx, user("other", "other")))
	must(t, a.DeleteUser(ctx, users[0].ID))
	if err := a.CreateFirstUser(ctx, user("late", "late")); !errors.Is(err, store.ErrExists) {
		t.Fatalf("with another user there: %v", err)
	}
}

func TestTheFirstUserIsOneWhateverBreaks(t *testing.T) {
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) { openOn(t, e) }), func(t *testing.T, e docstore.Engine) error {
		return openOn(t, e).CreateFirstUser(t.Context(), user("u1", "ann"))
	}, func(t *testing.T, e docstore.Engine, failed error) {
		a := openOn(t, e)
		n, err := a.CountUsers(t.Context())
		must(t, err)
		if failed == nil && n != 1 {
			t.Errorf("it said yes and there are %d users", n)
		}
		err = a.CreateFirstUser(t.Context(), user("u2", "bob"))
		if (n == 0) != (err == nil) {
			t.Errorf("with %d users: %v", n, err)
		}
	})
}

func TestSessions(t *testing.T) {
	a, ctx := open(t), t.Context()
	session := func(key string, user model.ID, minutes int) model.Session {
		return model.Session{Key: key, UserID: user, CSRF: "c", Created: t0, Seen: t0, Expires: t0.Add(time.Duration(minutes) * time.Minute)}
	}
	for _, se := range []model.Session{session("k1", "u1", 10), session("k2", "u1", 20), session("k3", "u2", 30), session("k4", "u2", 5)} {
		must(t, a.CreateSession(ctx, se))
	}
	got, err := a.Session(ctx, "k1")
	must(t, err)
	if diff := cmp.Diff(session("k1", "u1", 10), got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	for _, none := range []string{"", "k9"} {
		if _, err := a.Session(ctx, none); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("session %q: %v", none, err)
		}
	}
	must(t, a.TouchSession(ctx, "k1", t0.Add(9*time.Minute), t0.Add(60*time.Minute)))
	n, err := a.ExpireSessions(ctx, t0.Add(25*time.Minute), 1)
	must(t, err)
	if n != 1 {
		t.Fatalf("a bounded pass expired %d", n)
	}
	n, err = a.ExpireSessions(ctx, t0.Add(25*time.Minute), 100)
	must(t, err)
	if n != 1 {
		t.Fatalf("expired %d more", n)
	}
	of1, err := a.SessionsOf(ctx, "u1")
	must(t, err)
	of2, err := a.SessionsOf(ctx, "u2")
	must(t, err)
	if len(of1) != 1 || of1[0].Key != "k1" || len(of2) != 1 || of2[0].Key != "k3" {
		t.Fatalf("left %+v and %+v", of1, of2)
	}
	if err := a.TouchSession(ctx, "k2", t0, t0); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("touching an expired session: %v", err)
	}
	must(t, a.CreateSession(ctx, session("k5", "u2", 90)))
	must(t, a.DeleteSessionsOf(ctx, "u2", "k5"))
	if of2, _ = a.SessionsOf(ctx, "u2"); len(of2) != 1 || of2[0].Key != "k5" {
		t.Fatalf("left %+v", of2)
	}
	must(t, a.DeleteSession(ctx, "k5"))
	must(t, a.DeleteSession(ctx, "k5"))

	must(t, a.CreateUser(ctx, user("u1", "ann")))
	must(t, a.DeleteUser(ctx, "u1"))
	if of1, _ = a.SessionsOf(ctx, "u1"); len(of1) != 0 {
		t.Fatalf("a deleted user has sessions: %+v", of1)
	}
}

func TestAPIKeys(t *testing.T) {
	e := storetest.Engine(t)
	a, ctx := openOn(t, e), t.Context()
	key := model.APIKey{
		ID: "k1", OrgID: "o1", Desc: "ci", PublicKey: "abcdefgh", HA1: "0123456789abcdef0123456789abcdef", MaskedTail: "db2c132ca78d",
		Grants: []model.Grant{{Role: model.GroupReadOnly, GroupID: "g1"}, {Role: model.OrgMember, OrgID: "o1"}}, Created: t0,
		AccessList: []model.AccessEntry{{CIDR: "10.0.0.0/8", Created: t0}},
	}
	must(t, a.CreateAPIKey(ctx, key))
	global := model.APIKey{ID: "k2", PublicKey: "globalky", HA1: "x", Created: t0}
	must(t, a.CreateAPIKey(ctx, global))
	if err := a.CreateAPIKey(ctx, model.APIKey{ID: "k3", PublicKey: "abcdefgh", HA1: "x"}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("a taken public key: %v", err)
	}
	found, err := a.APIKeyByPublic(ctx, "abcdefgh")
	must(t, err)
	if diff := cmp.Diff(key, found); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	docs, err := e.Get(ctx, "apikeys", "k1")
	must(t, err)
	if strings.Contains(string(docs[0].Body), key.HA1.Reveal()) {
		t.Fatal("HA1 is in the database in clear")
	}
	if plain, _ := a.APIKey(ctx, "k1"); plain.HA1 != "" || plain.Desc != "ci" {
		t.Fatalf("listed key %+v", plain)
	}

	must(t, a.UpdateAPIKey(ctx, "k1", func(k *model.APIKey) error { k.Desc = "cd"; return nil }))
	if found, _ = a.APIKeyByPublic(ctx, "abcdefgh"); found.HA1 != key.HA1 || found.Desc != "cd" {
		t.Fatalf("after a change: %+v", found)
	}
	must(t, a.UpdateAPIKey(ctx, "k1", func(k *model.APIKey) error { k.HA1 = "another"; return nil }))
	if found, _ = a.APIKeyByPublic(ctx, "abcdefgh"); found.HA1 != "another" {
		t.Fatal("HA1 was not replaced")
	}

	for org, want := range map[model.ID]int{"o1": 1, "": 1, "o2": 0} {
		keys, err := a.APIKeys(ctx, org)
		must(t, err)
		if len(keys) != want {
			t.Errorf("organization %q has %d keys, want %d", org, len(keys), want)
		}
	}
	must(t, a.ForgetGroup(ctx, "g1"))
	if plain, _ := a.APIKey(ctx, "k1"); len(plain.Grants) != 1 || plain.Grants[0].Role != model.OrgMember {
		t.Fatalf("grants of a deleted group stay: %+v", plain.Grants)
	}
	must(t, a.DeleteAPIKey(ctx, "k1"))
	if _, err := a.APIKeyByPublic(ctx, "abcdefgh"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("deleted: %v", err)
	}

	list, err := a.GlobalAccessList(ctx)
	if err != nil || len(list) != 0 {
		t.Fatalf("new site's list: %v, %v", list, err)
	}
	must(t, a.SetGlobalAccessList(ctx, key.AccessList))
	if list, _ = a.GlobalAccessList(ctx); len(list) != 1 || list[0].CIDR != "10.0.0.0/8" {
		t.Fatalf("list %+v", list)
	}
}

func TestAgentKeys(t *testing.T) {
	e := storetest.Engine(t)
	a, ctx := openOn(t, e), t.Context()
	add := func(group, id model.ID, key string) {
		t.Helper()
		must(t, a.CreateAgentKey(ctx, model.AgentKey{
			ID: id, GroupID: group, Digest: access.KeyDigest(key), Last4: access.Last4(key), Created: t0, CreatedBy: "USER",
		}))
	}
	add("g1", "k1", "secret-one")
	add("g1", "k2", "secret-two")
	add("g2", "k1", "secret-three")
	for _, c := range []struct {
		group model.ID
		key   string
		want  model.ID
	}{
		{"g1", "secret-one", "k1"},
		{"g1", "secret-two", "k2"},
		{"g2", "secret-three", "k1"},
		{"g1", "secret-three", ""},
		{"g1", "", ""},
		{"g3", "secret-one", ""},
		{"", "secret-one", ""},
		{"g1/k1", "secret-one", ""},
	} {
		k, ok, err := a.CheckAgentKey(ctx, c.group, c.key)
		if err != nil || ok != (c.want != "") || k.ID != c.want {
			t.Errorf("%s with %q: %q, %v, %v", c.group, c.key, k.ID, ok, err)
		}
	}
	group, err := a.GroupByAgentKey(ctx, "secret-three")
	if err != nil || group != "g2" {
		t.Fatalf("group %q, %v", group, err)
	}
	keys, err := a.AgentKeys(ctx, "g1")
	must(t, err)
	if len(keys) != 2 || keys[0].Last4 != "-one" {
		t.Fatalf("keys %+v", keys)
	}
	docs, err := e.Get(ctx, "agentkeys", "g1/k1")
	must(t, err)
	if strings.Contains(string(docs[0].Body), "secret") {
		t.Fatal("the key is in the database in clear")
	}
	must(t, a.DeleteAgentKey(ctx, "g1", "k1"))
	if _, ok, _ := a.CheckAgentKey(ctx, "g1", "secret-one"); ok {
		t.Fatal("a deleted key is good")
	}
	if err := a.CreateAgentKey(ctx, model.AgentKey{ID: "k9", GroupID: "g1", Digest: []byte("the key itself")}); err == nil {
		t.Fatal("a key without digest was taken")
	}
}

func TestForgettingAGroupEndsWhateverBreaks(t *testing.T) {
	grants := []model.Grant{{Role: model.GroupOwner, GroupID: "g1"}, {Role: model.GroupOwner, GroupID: "g2"}}
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) {
		a, ctx := openOn(t, e), t.Context()
		u := user("u1", "ann")
		u.Grants = grants
		must(t, a.CreateUser(ctx, u))
		must(t, a.CreateAPIKey(ctx, model.APIKey{ID: "k1", PublicKey: "p", HA1: "h", Grants: grants}))
		for _, g := range []model.ID{"g1", "g2"} {
			must(t, a.CreateAgentKey(ctx, model.AgentKey{ID: "k1", GroupID: g, Digest: access.KeyDigest(string(g))}))
		}
	}), func(t *testing.T, e docstore.Engine) error {
		return openOn(t, e).ForgetGroup(t.Context(), "g1")
	}, func(t *testing.T, e docstore.Engine, failed error) {
		a, ctx := openOn(t, e), t.Context()
		if failed != nil {
			must(t, a.ForgetGroup(ctx, "g1"))
		}
		u, err := a.User(ctx, "u1")
		must(t, err)
		k, err := a.APIKey(ctx, "k1")
		must(t, err)
		if diff := cmp.Diff([][]model.Grant{grants[1:], grants[1:]}, [][]model.Grant{u.Grants, k.Grants}); diff != "" {
			t.Errorf("grants (-want +got):\n%s", diff)
		}
		_, one, _ := a.CheckAgentKey(ctx, "g1", "g1")
		_, two, _ := a.CheckAgentKey(ctx, "g2", "g2")
		if one || !two {
			t.Errorf("agent keys: of the forgotten group %v, of the other %v", one, two)
		}
	})
}

// TestForgetOrg: the keys of the organization go, and nobody else's: the global ones belong to no organization.
func TestForgetOrg(t *testing.T) {
	a, ctx := open(t), t.Context()
	u := user("u1", "ann")
	u.Grants = []model.Grant{{Role: model.OrgOwner, OrgID: "o1"}, {Role: model.OrgMember, OrgID: "o2"}, {Role: model.GlobalOwner}}
	must(t, a.CreateUser(ctx, u))
	for id, org := range map[model.ID]model.ID{"k1": "o1", "k2": "o2", "k3": ""} {
		must(t, a.CreateAPIKey(ctx, model.APIKey{ID: id, OrgID: org, PublicKey: "p" + string(id), HA1: "h"}))
	}
	if err := a.ForgetOrg(ctx, ""); err == nil {
		t.Error("the global keys were forgotten")
	}
	must(t, a.ForgetOrg(ctx, "o1"))
	must(t, a.ForgetOrg(ctx, "o1"))
	for id, want := range map[model.ID]bool{"k1": false, "k2": true, "k3": true} {
		if _, err := a.APIKey(ctx, id); (err == nil) != want {
			t.Errorf("key %s: %v", id, err)
		}
	}
	if u, err := a.User(ctx, "u1"); err != nil || len(u.Grants) != 2 || u.Grants[0].OrgID != "o2" {
		t.Errorf("%v %v", err, u.Grants)
	}
}

// TestUpdateGlobalAccessList: it begins without a list, and an error changes nothing.
func TestUpdateGlobalAccessList(t *testing.T) {
	a, ctx := open(t), t.Context()
	add := func(cidr string, fail error) error {
		return a.UpdateGlobalAccessList(ctx, func(have []model.AccessEntry) ([]model.AccessEntry, error) {
			return append(have, model.AccessEntry{CIDR: cidr}), fail
		})
	}
	no := errors.New("no")
	must(t, add("10.0.0.0/8", nil))
	if err := add("11.0.0.0/8", no); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	must(t, add("12.0.0.0/8", nil))
	if list, err := a.GlobalAccessList(ctx); err != nil || len(list) != 2 || list[1].CIDR != "12.0.0.0/8" {
		t.Errorf("%v %v", err, list)
	}
}
