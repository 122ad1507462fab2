package ingestion

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// configDocs are documents of the config database, as an agent sends them.
func configDocs(t testing.TB, file string) bson.D {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "shared", "topology", "testdata", "recorded", "sharded", file))
	if err != nil {
		t.Fatal(err)
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(`{"docs":`+string(b)+`}`), true, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestShardedCluster starts from one mongos and ends with the whole cluster, tied together.
func TestShardedCluster(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	seed := x.host("127.0.0.1:27150")
	if err := x.inv.SetHostCredentials(ctx, x.group.ID, seed.ID, model.Credentials{Username: "mon", Password: "geheim"}); err != nil {
		t.Fatal(err)
	}
	mongos := append(recorded(t, "sharded/mongos", "hello", "serverStatus", "getCmdLineOpts"),
		bson.E{Key: "configShards", Value: configDocs(t, "config.shards.json")}, bson.E{Key: "configVersion", Value: configDocs(t, "config.version.json")},
		bson.E{Key: "configMongos", Value: configDocs(t, "config.mongos.json")})
	find := func(addr string) model.Host {
		h, err := x.inv.FindHost(ctx, x.group.ID, addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		return h
	}
	round := func(at time.Time) {
		x.setNow(at)
		pings := []wire.Ping{answered(t, find("127.0.0.1:27150"), at, mongos)}
		for addr, dir := range map[string]string{"127.0.0.1:27140": "sharded/config-primary", "127.0.0.1:27141": "sharded/shard-primary"} {
			if h, err := x.inv.FindHost(ctx, x.group.ID, addr); err == nil {
				pings = append(pings, answered(t, h, at, recorded(t, dir, all...)))
			}
		}
		if ack := x.post(pings...); len(ack.Rejected) > 0 {
			t.Fatalf("%+v", ack.Rejected)
		}
	}
	for i := range 4 { // one hop a round
		round(t0.Add(time.Duration(i) * time.Minute))
	}
	if creds, err := x.inv.HostCredentials(ctx, x.group.ID, find("127.0.0.1:27141").ID); err != nil || creds.Username != "mon" || creds.Password.Reveal() != "geheim" {
		t.Errorf("a discovered host did not inherit the credentials: %v %+v", err, creds)
	}
	clusters, err := x.inv.Clusters(ctx, x.group.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	ids := map[model.ClusterType]model.ID{}
	for _, c := range clusters {
		got = append(got, strings.Join([]string{string(c.Type), c.Name, c.ReplicaSet, c.ShardName}, "|"))
		ids[c.Type] = c.ID
	}
	slices.Sort(got)
	want := []string{"CONFIG_SERVER_REPLICA_SET|csrs|csrs|", "REPLICA_SET|csrs|shard0|shard0", "SHARDED_REPLICA_SET|csrs||"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("clusters (-want +got)\n%s", d)
	}
	for _, c := range clusters {
		if c.Type != model.ClusterSharded && c.ParentID != ids[model.ClusterSharded] {
			t.Errorf("%s is tied to %q", c.ReplicaSet, c.ParentID)
		}
	}
	shard := find("127.0.0.1:27141")
	if shard.Type != model.TypeShardPrimary || shard.ShardName != "shard0" || find("127.0.0.1:27140").Type != model.TypeShardConfig || find("127.0.0.1:27150").ClusterID != ids[model.ClusterSharded] {
		t.Errorf("shard member %+v", shard)
	}
	// A person gives the cluster a name: it stays, and its parts follow.
	err = x.inv.UpsertCluster(ctx, x.group.ID, ids[model.ClusterSharded], func(c *model.Cluster) error { c.Name = "orders"; return nil })
	if err != nil {
		t.Fatal(err)
	}
	round(t0.Add(10 * time.Minute))
	for _, c := range clusters {
		if now, err := x.inv.Cluster(ctx, x.group.ID, c.ID); err != nil || now.Name != "orders" {
			t.Errorf("%v: %s is called %q", err, c.ReplicaSet, now.Name)
		}
	}
	// dbStats is asked of the members, not through the mongos.
	conf := x.conf("agent1", "s1")
	for _, h := range conf.Hosts {
		if h.DBStats != (h.Type != "SHARD_MONGOS" && h.Type != "NO_DATA") && h.Type != "NO_DATA" {
			t.Errorf("%s %s: dbStats %v", h.Hostname, h.Type, h.DBStats)
		}
	}
}

// TestMembersThatSayLittle: an arbiter under access control and a member that never answered belong to their set all the same.
func TestMembersThatSayLittle(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	primary := x.host("127.0.0.1:27117")
	arbiter, dead := x.host("127.0.0.1:27120"), x.host("127.0.0.1:27119")
	alone := x.host("10.0.0.9:27017")
	down := func(h model.Host, at time.Time) wire.Ping {
		return wire.Ping{HostID: string(h.ID), At: at, Address: h.Address(), Errors: []wire.Failure{{Command: "connect", Code: 6, Message: "no such host"}}}
	}
	for i := range 3 {
		at := t0.Add(time.Duration(i) * time.Minute)
		x.setNow(at)
		ack := x.post(
			answered(t, arbiter, at, recorded(t, "arbiter", "hello")), down(dead, at), down(alone, at),
			answered(t, primary, at.Add(time.Millisecond), recorded(t, "primary", all...)),
		)
		if ack.Accepted != 4 {
			t.Fatalf("%+v", ack)
		}
	}
	get := func(h model.Host) model.Host {
		h, err := x.inv.Host(ctx, x.group.ID, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	set := get(primary).ClusterID
	if h := get(arbiter); set == "" || h.ClusterID != set || h.MemberID != 3 || h.Type != model.TypeReplicaArbiter {
		t.Errorf("arbiter %+v", h)
	}
	if h := get(dead); h.ClusterID != set || h.ReplicaSet != "rs0" || h.MemberID != -1 || h.Type != model.TypeNoData {
		t.Errorf("silent member %+v", h)
	}
	if st, err := x.inv.Status(ctx, x.group.ID, dead.ID); err != nil || st.State != model.StateDown {
		t.Errorf("%v: a silent member is %s", err, st.State)
	}
	if h := get(alone); h.ClusterID != "" {
		t.Errorf("a host of no set %+v", h)
	}
	c, err := x.inv.Cluster(ctx, x.group.ID, set)
	if err != nil || c.Members[3].HostID != arbiter.ID {
		t.Errorf("%v %+v", err, c.Members)
	}
}

// TestPostsAtOnce: members of one set, posted side by side and each twice, end in one consistent picture.
func TestPostsAtOnce(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	roles := map[string]string{"127.0.0.1:27117": "primary", "127.0.0.1:27118": "secondary", "127.0.0.1:27119": "hidden", "127.0.0.1:27120": "arbiter"}
	var bodies [][]byte
	hosts := map[string]model.Host{}
	for addr, dir := range roles {
		hosts[addr] = x.host(addr)
		for range 2 {
			body, err := wire.EncodePost(x.message(answered(t, hosts[addr], t0, recorded(t, dir, all...))))
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, body)
		}
	}
	var wg sync.WaitGroup
	for _, body := range bodies {
		wg.Go(func() {
			if status, _, _ := x.call(x.request(http.MethodPost, wire.PathPings, body)); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
		})
	}
	wg.Wait()
	clusters, err := x.inv.Clusters(t.Context(), x.group.ID)
	if err != nil || len(clusters) != 1 {
		t.Fatalf("%v: %d clusters", err, len(clusters))
	}
	c := clusters[0]
	if c.PrimaryID != hosts["127.0.0.1:27117"].ID {
		t.Errorf("primary %q", c.PrimaryID)
	}
	for _, m := range c.Members {
		if m.HostID != hosts[m.Host].ID {
			t.Errorf("member %s is tied to %q", m.Host, m.HostID)
		}
	}
	all, err := x.inv.Hosts(t.Context(), x.group.ID)
	if err != nil || len(all) != len(roles) {
		t.Errorf("%v: %d hosts", err, len(all))
	}
	if n := x.countRows(); n != len(roles) {
		t.Errorf("%d rows", n)
	}
	if events := x.eventTypes(); len(events) > 0 {
		t.Errorf("first sight raised %v", events)
	}
}
