package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

const group = model.ID("0123456789abcdef01234567")

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func open(t testing.TB) *inventory.Inventory {
	t.Helper()
	return inventory.New(storetest.Open(t, inventory.Collections()...))
}

func openOn(t testing.TB, e docstore.Engine) *inventory.Inventory {
	t.Helper()
	return inventory.New(storetest.OpenOn(t, e, inventory.Collections()...))
}

func host(name string, port int, aliases ...string) model.Host {
	return model.Host{
		ID: model.NewHostID(group, name, port), GroupID: group, Hostname: name, Port: port, Aliases: aliases,
		Created: t0, Type: model.TypeNoData, MemberID: -1, Enabled: true,
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostsAreListedByNameAndPort(t *testing.T) {
	in, ctx := open(t), t.Context()
	for _, h := range []model.Host{host("b", 27017), host("a", 27018), host("a", 9000), host("a-b", 1)} {
		must(t, in.CreateHost(ctx, h))
	}
	other := host("a", 1)
	other.GroupID = "ffffffffffffffffffffffff"
	must(t, in.CreateHost(ctx, other))
	hosts, err := in.Hosts(ctx, group)
	must(t, err)
	var got []string
	for _, h := range hosts {
		got = append(got, h.Address())
	}
	if want := []string{"a:9000", "a:27018", "a-b:1", "b:27017"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if err := in.CreateHost(ctx, host("b", 27017)); !errors.Is(err, store.ErrExists) {
		t.Fatalf("the same host again: %v", err)
	}
}

func TestAHostIsFoundByEveryAddress(t *testing.T) {
	in, ctx := open(t), t.Context()
	h := host("db1.example.com", 27017, "10.0.0.1:27017")
	must(t, in.CreateHost(ctx, h))
	find := func(address string) model.HostID {
		t.Helper()
		found, err := in.FindHost(ctx, group, address)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return found.ID
	}
	for _, a := range []string{"db1.example.com:27017", "DB1.example.com", "10.0.0.1"} {
		if find(a) != h.ID {
			t.Errorf("%s is not found", a)
		}
	}
	for _, a := range []string{"db1.example.com:27018", "10.0.0.2", "not an address", ""} {
		if got := find(a); got != "" {
			t.Errorf("%q found %s", a, got)
		}
	}

	must(t, in.UpdateHost(ctx, group, h.ID, func(h *model.Host) error {
		h.Aliases = []string{"10.0.0.2:27017"}
		return nil
	}))
	if find("10.0.0.2") != h.ID || find("10.0.0.1") != "" {
		t.Error("the new alias is not found, or the old one still is")
	}

	// A duplicate that is hidden shares the address; the visible one is meant.
	twin := host("10.0.0.2", 27017)
	twin.Hidden = true
	must(t, in.CreateHost(ctx, twin))
	if find("10.0.0.2") != h.ID {
		t.Error("the hidden twin is found instead of the visible host")
	}
	must(t, in.DeleteHost(ctx, group, h.ID))
	if find("10.0.0.2") != twin.ID || find("db1.example.com") != "" {
		t.Error("after deletion the hidden twin should be found, and the host not")
	}
}

func TestCredentialsAreSealed(t *testing.T) {
	e := storetest.Engine(t)
	in, ctx := openOn(t, e), t.Context()
	h := host("a", 27017)
	h.Credentials = model.Credentials{Username: "mon", Password: "pa55word-in-clear", Mechanism: "SCRAM-SHA-256", Source: "admin"}
	must(t, in.CreateHost(ctx, h))
	got, err := in.HostCredentials(ctx, group, h.ID)
	must(t, err)
	if got != h.Credentials {
		t.Fatalf("got %+v", got)
	}
	docs, err := e.Get(ctx, "hosts", string(group)+"/"+string(h.ID))
	must(t, err)
	if strings.Contains(string(docs[0].Body), "pa55word") || strings.Contains(string(docs[0].Body), "mon\x00") {
		t.Fatal("the database holds credentials in clear")
	}
	read, err := in.Host(ctx, group, h.ID)
	must(t, err)
	if read.Credentials != (model.Credentials{}) || !read.HasCredentials {
		t.Fatalf("a listed host: %+v", read)
	}

	// An update of anything else keeps them, even one that writes the flag.
	must(t, in.UpdateHost(ctx, group, h.ID, func(h *model.Host) error {
		h.Version, h.HasCredentials = "7.0.14", false
		return nil
	}))
	got, err = in.HostCredentials(ctx, group, h.ID)
	must(t, err)
	if got != h.Credentials {
		t.Fatalf("after an update: %+v", got)
	}
	must(t, in.SetHostCredentials(ctx, group, h.ID, model.Credentials{}))
	if got, err = in.HostCredentials(ctx, group, h.ID); err != nil || got != (model.Credentials{}) {
		t.Fatalf("after clearing: %+v, %v", got, err)
	}
	if read, _ = in.Host(ctx, group, h.ID); read.HasCredentials {
		t.Fatal("the flag stays after clearing")
	}
}

func TestStatusesAndLastPings(t *testing.T) {
	s := storetest.Open(t, inventory.Collections()...)
	in, ctx := inventory.New(s), t.Context()
	lag := int64(0)
	st := model.HostStatus{
		HostID: model.NewHostID(group, "a", 1), GroupID: group, At: t0, LastPing: t0, Reach: model.ReachUp, ReachSince: t0,
		State: model.StateSecondary, StateSince: t0, LagMS: &lag, Skews: []int64{-1, 2},
	}
	op, err := in.StatusOp(st)
	must(t, err)
	ping := model.LastPing{HostID: st.HostID, GroupID: group, At: t0, Replies: []byte{1, 2, 3}}
	pingOp, err := in.LastPingOp(ping)
	must(t, err)
	for range 2 { // a ping that comes twice
		must(t, s.Write(ctx, op, pingOp))
	}
	all, err := in.Statuses(ctx, group)
	must(t, err)
	one, err := in.Status(ctx, group, st.HostID)
	must(t, err)
	byID, err := in.StatusesByID(ctx, group, "none", st.HostID)
	must(t, err)
	for _, got := range [][]model.HostStatus{all, {one}, byID} {
		if diff := cmp.Diff([]model.HostStatus{st}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	gotPing, err := in.LastPing(ctx, group, st.HostID)
	must(t, err)
	if diff := cmp.Diff(ping, gotPing); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := in.LastPing(ctx, group, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no ping: %v", err)
	}
}

func TestGroupNamesAreUnique(t *testing.T) {
	in, ctx := open(t), t.Context()
	a := model.Group{ID: "a0", Name: "Production", Settings: model.DefaultGroupSettings()}
	b := model.Group{ID: "b0", Name: "Staging"}
	must(t, in.CreateGroup(ctx, a))
	must(t, in.CreateGroup(ctx, b))
	if err := in.CreateGroup(ctx, model.Group{ID: "c0", Name: " PRODUCTION "}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("a taken name: %v", err)
	}
	rename := func(g *model.Group) error { g.Name = "production"; return nil }
	if err := in.UpdateGroup(ctx, "b0", rename); !errors.Is(err, store.ErrExists) {
		t.Fatalf("renaming to a taken name: %v", err)
	}
	must(t, in.UpdateGroup(ctx, "a0", rename))
	found, err := in.GroupByName(ctx, "pRoduction")
	must(t, err)
	if found.ID != "a0" || found.Name != "production" {
		t.Fatalf("found %+v", found)
	}
	must(t, in.DeleteGroup(ctx, "a0"))
	must(t, in.CreateGroup(ctx, model.Group{ID: "d0", Name: "Production"}))
	groups, err := in.Groups(ctx)
	must(t, err)
	if len(groups) != 2 || groups[0].ID != "d0" || groups[1].ID != "b0" {
		t.Fatalf("groups %+v", groups)
	}
	if _, err := in.Group(ctx, "a0"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a deleted group: %v", err)
	}
}

// populate makes a group with something in every collection.
func populate(t *testing.T, in *inventory.Inventory, s *store.Store, id model.ID) {
	t.Helper()
	ctx := t.Context()
	must(t, in.CreateGroup(ctx, model.Group{ID: id, Name: "g" + string(id)}))
	h := host("a", 27017, "b:27017")
	h.GroupID = id
	must(t, in.CreateHost(ctx, h))
	op, err := in.StatusOp(model.HostStatus{HostID: h.ID, GroupID: id})
	must(t, err)
	ping, err := in.LastPingOp(model.LastPing{HostID: h.ID, GroupID: id})
	must(t, err)
	must(t, s.Write(ctx, op, ping))
	must(t, in.UpsertCluster(ctx, id, "c1", func(c *model.Cluster) error { c.Name = "rs0"; return nil }))
	must(t, in.UpsertAgent(ctx, id, "agent", func(a *model.Agent) error { a.Hostname = "x"; return nil }))
	_, _, err = in.ClaimActive(ctx, id, "agent", "s", t0, time.Minute)
	must(t, err)
	must(t, in.AddChanges(ctx, model.Change{GroupID: id, HostID: h.ID, At: t0, Kind: "version", Path: "version"}))
}

// left counts what is in the inventory about a group.
func left(t *testing.T, e docstore.Engine, id model.ID) (n int) {
	t.Helper()
	for _, c := range inventory.Collections() {
		from, to := store.Under(string(id))
		count, err := e.Count(t.Context(), docstore.Query{Collection: c.Name, From: from, To: to}, 1000)
		must(t, err)
		n += count
	}
	return n
}

func TestDeletingAGroupEndsWhateverBreaks(t *testing.T) {
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) {
		s := storetest.OpenOn(t, e, inventory.Collections()...)
		populate(t, inventory.New(s), s, "aa")
		populate(t, inventory.New(s), s, "bb")
	}), func(t *testing.T, e docstore.Engine) error {
		return openOn(t, e).DeleteGroup(t.Context(), "aa")
	}, func(t *testing.T, e docstore.Engine, failed error) {
		in := openOn(t, e)
		if _, err := in.Group(t.Context(), "aa"); err == nil && failed == nil {
			t.Error("the group is still there")
		} else if err == nil {
			must(t, in.DeleteGroup(t.Context(), "aa")) // nothing was done: once more
		}
		for {
			report, err := in.FlushGroups(t.Context(), t0)
			must(t, err)
			if !report.More {
				break
			}
		}
		if n := left(t, e, "aa"); n != 0 {
			t.Errorf("%d documents of the deleted group are left", n)
		}
		if n := left(t, e, "bb"); n != 10 { // 1 group, 1 host, 2 addresses, 1 each of six
			t.Errorf("the other group has %d documents, want 10", n)
		}
	})
}

func TestCreatingAndChangingAHostEndsWhateverBreaks(t *testing.T) {
	h := host("a", 27017, "b:27017")
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) { openOn(t, e) }), func(t *testing.T, e docstore.Engine) error {
		in := openOn(t, e)
		if err := in.CreateHost(t.Context(), h); err != nil {
			return err
		}
		return in.UpdateHost(t.Context(), group, h.ID, func(h *model.Host) error {
			h.Aliases = []string{"c:27017"}
			return nil
		})
	}, func(t *testing.T, e docstore.Engine, failed error) {
		in, ctx := openOn(t, e), t.Context()
		hosts, err := in.Hosts(ctx, group)
		must(t, err)
		if failed == nil && len(hosts) != 1 {
			t.Fatal("the host is lost")
		}
		for _, address := range []string{"a", "b", "c"} {
			found, err := in.FindHost(ctx, group, address)
			listed := len(hosts) == 1 && (address == "a" || slices.Contains(hosts[0].Aliases, address+":27017"))
			if listed != (err == nil) || err == nil && found.ID != h.ID {
				t.Errorf("address %s: listed %v, found %q, %v", address, listed, found.ID, err)
			}
		}
		// Doing it again completes it.
		if err := in.CreateHost(ctx, h); err != nil && !errors.Is(err, store.ErrExists) {
			t.Error(err)
		}
		must(t, in.UpdateHost(ctx, group, h.ID, func(h *model.Host) error { h.Aliases = []string{"c:27017"}; return nil }))
		if _, err := in.FindHost(ctx, group, "c"); err != nil {
			t.Error(err)
		}
	})
}

func TestOneOfManyClaimantsIsActive(t *testing.T) {
	in, ctx := open(t), t.Context()
	const agents = 12
	for round := range 3 {
		now := t0.Add(time.Duration(round) * time.Hour) // silence long enough to take over
		var mu sync.Mutex
		var winners []string
		var wg sync.WaitGroup
		for i := range agents {
			wg.Go(func() {
				id := fmt.Sprintf("agent%d", i)
				active, previous, err := in.ClaimActive(ctx, group, id, "s", now, 2*time.Minute)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if active {
					winners = append(winners, id)
				} else if previous == "" || previous == id {
					t.Errorf("%s was refused for %q", id, previous)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: active are %v", round, winners)
		}
	}
}

func TestTakingOver(t *testing.T) {
	in, ctx := open(t), t.Context()
	steps := []struct {
		name, agent, session string
		after                time.Duration
		active               bool
		previous             string
	}{
		{"the place is free", "a", "s1", 0, true, ""},
		{"it is the holder's", "a", "s1", time.Minute, true, ""},
		{"another waits", "b", "s1", 2 * time.Minute, false, "a"},
		{"another waits until the timeout", "b", "s1", 3 * time.Minute, false, "a"},
		{"silence for longer than the timeout", "b", "s1", 3*time.Minute + time.Second, true, "a"},
		{"the first comes back and waits", "a", "s1", 4 * time.Minute, false, "b"},
		{"the holder restarts", "b", "s2", 4 * time.Minute, true, ""},
		{"a late call does not turn time back", "b", "s2", time.Minute, true, ""},
		{"so the other still waits", "a", "s1", 5 * time.Minute, false, "b"},
	}
	for _, s := range steps {
		active, previous, err := in.ClaimActive(ctx, group, s.agent, s.session, t0.Add(s.after), 2*time.Minute)
		if err != nil || active != s.active || previous != s.previous {
			t.Fatalf("%s: active %v, previous %q, %v", s.name, active, previous, err)
		}
	}
	must(t, in.ReleaseActive(ctx, group, "b", "s1")) // an earlier run: no effect
	if active, _, _ := in.ClaimActive(ctx, group, "a", "s1", t0.Add(5*time.Minute), 2*time.Minute); active {
		t.Fatal("released by an earlier run")
	}
	must(t, in.ReleaseActive(ctx, group, "b", "s2"))
	if active, previous, err := in.ClaimActive(ctx, group, "a", "s1", t0.Add(5*time.Minute), 2*time.Minute); !active || previous != "" || err != nil {
		t.Fatalf("after release: %v, %q, %v", active, previous, err)
	}
}

func TestChanges(t *testing.T) {
	in, ctx := open(t), t.Context()
	h1, h2 := model.NewHostID(group, "a", 1), model.NewHostID(group, "b", 1)
	change := func(h model.HostID, minute int, path string) model.Change {
		return model.Change{GroupID: group, HostID: h, At: t0.Add(time.Duration(minute) * time.Minute), Kind: "parameters", Path: path, Before: "1", After: "2"}
	}
	all := []model.Change{change(h1, 0, "x"), change(h1, 1, "x"), change(h2, 2, "x"), change(h1, 2, "y"), change(h1, 3, "x")}
	for range 2 { // a ping that comes twice
		must(t, in.AddChanges(ctx, all...))
	}
	minute := func(m int) time.Time { return t0.Add(time.Duration(m) * time.Minute) }
	for name, c := range map[string]struct {
		host     model.HostID
		from, to time.Time
		limit    int
		want     []string
	}{
		"one host":      {h1, time.Time{}, time.Time{}, 0, []string{"3x", "2y", "1x", "0x"}},
		"a span":        {h1, minute(1), minute(3), 0, []string{"2y", "1x"}},
		"a limit":       {h1, time.Time{}, time.Time{}, 1, []string{"3x"}},
		"another host":  {h2, minute(0), minute(9), 0, []string{"2x"}},
		"whole group":   {"", minute(2), time.Time{}, 0, []string{"3x", "2x", "2y"}},
		"nothing there": {"none", time.Time{}, time.Time{}, 0, nil},
	} {
		changes, err := in.Changes(ctx, group, c.host, c.from, c.to, c.limit)
		must(t, err)
		var got []string
		for _, ch := range changes {
			got = append(got, fmt.Sprintf("%d%s", int(ch.At.Sub(t0).Minutes()), ch.Path))
		}
		if c.host == "" {
			slices.Sort(got[1:]) // equal times
			slices.Sort(c.want[1:])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	in, ctx := open(t), t.Context()
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := in.UpsertAgent(ctx, group, "agent", func(a *model.Agent) error { a.PingCount++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	a, err := in.Agent(ctx, group, "agent")
	must(t, err)
	if a.PingCount != writers*each {
		t.Fatalf("%d of %d updates are there", a.PingCount, writers*each)
	}
}

func TestIdsThatReachIntoOthersAreRefused(t *testing.T) {
	in, ctx := open(t), t.Context()
	nothing := func(*model.Agent) error { return nil }
	for _, id := range []string{"", "a/b", "a\x00", strings.Repeat("x", 300)} {
		if err := in.UpsertAgent(ctx, group, id, nothing); err == nil {
			t.Errorf("agent %q was taken", id)
		}
		if _, _, err := in.ClaimActive(ctx, group, id, "s", t0, time.Minute); err == nil {
			t.Errorf("agent %q became active", id)
		}
	}
}

func tenThousand(b *testing.B) *inventory.Inventory {
	b.Helper()
	s := storetest.Open(b, inventory.Collections()...)
	in := inventory.New(s)
	var ops []docstore.Op
	for i := range 10_000 {
		h := host(fmt.Sprintf("mongo-%05d.prod.example.com", i), 27017, fmt.Sprintf("10.0.%d.%d:27017", i/256, i%256))
		h.Type, h.Version, h.ReplicaSet, h.ClusterID = model.TypeReplicaSecondary, "7.0.14", fmt.Sprintf("rs%04d", i/3), model.NewID()
		h.ProcessID, h.OS, h.StorageEngine, h.DBPath, h.FCV = string(model.NewID()), "Ubuntu 22.04", "wiredTiger", "/var/lib/mongodb", "7.0"
		h.Journaling, h.AuthEnabled, h.AlertsEnabled, h.MemSizeMB, h.NumCores, h.Votes, h.Priority = true, true, true, 64000, 16, 1, 1
		op, err := store.PutOp("hosts", string(group)+"/"+string(h.ID), h)
		must(b, err)
		lag, window := int64(120), int64(86400)
		st, err := in.StatusOp(model.HostStatus{
			HostID: h.ID, GroupID: group, At: t0, LastPing: t0, Reach: model.ReachUp, ReachSince: t0, State: model.StateSecondary, StateSince: t0,
			UptimeMS: 1e9, LagMS: &lag, WindowSecs: &window, Conns: 120, RTTMicros: 800, SkewMS: 3, Skews: []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
			AgentID: "0123456789abcdef",
		})
		must(b, err)
		ops = append(ops, op, st)
	}
	must(b, s.Write(context.Background(), ops...))
	return in
}

func BenchmarkHosts10000(b *testing.B) {
	in := tenThousand(b)
	for b.Loop() {
		hosts, err := in.Hosts(b.Context(), group)
		must(b, err)
		if len(hosts) != 10_000 {
			b.Fatal(len(hosts))
		}
	}
}

func BenchmarkStatuses10000(b *testing.B) {
	in := tenThousand(b)
	for b.Loop() {
		statuses, err := in.Statuses(b.Context(), group)
		must(b, err)
		if len(statuses) != 10_000 {
			b.Fatal(len(statuses))
		}
	}
}
