package twin

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

const group model.ID = "5f0000000000000000000001"

var t0 = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

func newHost(addr string) model.Host {
	name, port, err := model.SplitAddress(addr)
	if err != nil {
		panic(err)
	}
	return model.Host{ID: model.NewHostID(group, name, port), GroupID: group, Hostname: name, Port: port, Created: t0, Type: model.TypeNoData, MemberID: -1, Enabled: true}
}

func TestSameProcess(t *testing.T) {
	seed := newHost("localhost:27017")
	seed.Seed, seed.ProcessID, seed.ReplicaSet = true, "p1", "rs0"
	found := newHost("db1.example.net:27017")
	found.Created, found.ProcessID, found.ReplicaSet, found.MemberID = t0.Add(time.Minute), "p1", "rs0", 0
	same := func(a, b model.Host) bool { return Same(Sighting{Host: &a}, Sighting{Host: &b}) }
	if !same(seed, found) {
		t.Fatal("one process under two names was taken for two")
	}
	keep, hide := Merge(found, seed, model.GroupSettings{})
	if keep.ID != seed.ID || keep.Address() != "db1.example.net:27017" || !cmp.Equal(keep.Aliases, []string{"localhost:27017"}) {
		t.Errorf("kept %s as %s, aliases %v", keep.ID, keep.Address(), keep.Aliases)
	}
	if !hide.Hidden || hide.DuplicateOf != seed.ID || hide.ID != found.ID {
		t.Errorf("hid %+v", hide)
	}
	for _, c := range []struct {
		name   string
		change func(*model.Host)
		want   bool
	}{
		{"another process", func(h *model.Host) { h.ProcessID = "p2" }, false},
		{"another set", func(h *model.Host) { h.ReplicaSet = "rs1" }, false},
		{"another group", func(h *model.Host) { h.GroupID = "x" }, false},
		{"no process id, same member of the same set", func(h *model.Host) { h.ProcessID = "" }, true},
		{"no process id, another member", func(h *model.Host) { h.ProcessID, h.MemberID = "", 1 }, false},
	} {
		a, b := seed, found
		a.ClusterID, b.ClusterID, a.MemberID, b.MemberID = "c", "c", 0, 0
		c.change(&b)
		if same(a, b) != c.want || same(b, a) != c.want {
			t.Error(c.name)
		}
	}
}

// TestSameStart: processes without an identity of their own are told apart by all of pid, start, own name with port, and version.
func TestSameStart(t *testing.T) {
	type one struct {
		host   model.Host
		status model.HostStatus
	}
	base := one{newHost("192.0.2.1:27017"), model.HostStatus{PID: 1, Started: t0}}
	base.host.Self, base.host.Version = "mongo:27017", "4.2.24"
	for _, c := range []struct {
		name   string
		change func(*one)
		want   bool
	}{
		{"the same under another address", func(*one) {}, true},
		{"its start estimated a little otherwise", func(o *one) { o.status.Started = t0.Add(-2 * time.Second) }, true},
		{"a container with the same host name and pid, started later", func(o *one) { o.status.Started = t0.Add(3 * time.Second) }, false},
		{"a container with the same host name and pid on another port", func(o *one) { o.host.Self = "mongo:27018" }, false},
		{"another pid", func(o *one) { o.status.PID = 2 }, false},
		{"another version", func(o *one) { o.host.Version = "4.2.23" }, false},
		{"another name of its own", func(o *one) { o.host.Self = "mongo2:27017" }, false},
		{"nothing known of its start", func(o *one) { o.status.Started = time.Time{} }, false},
		{"no pid", func(o *one) { o.status.PID = 0 }, false},
		{"no name of its own", func(o *one) { o.host.Self = "" }, false},
		{"no version", func(o *one) { o.host.Version = "" }, false},
		{"another group", func(o *one) { o.host.GroupID = "x" }, false},
		{"an identity on one side only", func(o *one) { o.host.ProcessID = "p" }, true},
		{"a member of another set of that name", func(o *one) { o.host.ClusterID = "other" }, false},
		{"a member of a set, seen first", func(o *one) { o.host.ReplicaSet, o.host.ClusterID, o.host.MemberID = "rs0", "", 1 }, true},
	} {
		a, b := base, base
		a.host.ClusterID, b.host.ClusterID = "c", "c"
		b.host.ID = model.NewHostID(group, "mongo.example.net", 27017)
		c.change(&b)
		x, y := Sighting{&a.host, &a.status}, Sighting{&b.host, &b.status}
		if Same(x, y) != c.want || Same(y, x) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
	if Same(Sighting{Host: &base.host}, Sighting{&base.host, &base.status}) {
		t.Error("a host is its own duplicate")
	}
}

// TestMembersOfASetAreNeverTheSame: not even when everything that is known of them is equal.
func TestMembersOfASetAreNeverTheSame(t *testing.T) {
	for _, processID := range []string{"", "p"} {
		for _, clusters := range [][2]model.ID{{"c", "c"}, {"c", ""}, {"", ""}} {
			member := func(addr string, id int, cluster model.ID) Sighting {
				h := newHost(addr)
				h.Self, h.Version, h.ReplicaSet, h.ClusterID, h.MemberID, h.ProcessID = "mongo:27017", "4.2.24", "rs0", cluster, id, processID
				return Sighting{&h, &model.HostStatus{PID: 1, Started: t0}}
			}
			if Same(member("192.0.2.1:27017", 0, clusters[0]), member("192.0.2.2:27017", 1, clusters[1])) {
				t.Errorf("two members were taken for one process (process id %q, clusters %q)", processID, clusters)
			}
			if !Same(member("192.0.2.1:27017", 0, clusters[0]), member("db1:27017", 0, clusters[1])) {
				t.Errorf("one member under two addresses was taken for two (process id %q, clusters %q)", processID, clusters)
			}
		}
	}
}

func TestNameRank(t *testing.T) {
	for _, c := range []struct {
		better, worse string
		preferred     string
	}{
		{"db1.example.net", "db1", ""},
		{"db1", "192.0.2.1", ""},
		{"192.0.2.1", "127.0.0.1", ""},
		{"db1", "localhost", ""},
		{"192.0.2.1", "::1", ""},
		{"db1.corp", "db1.example.net", ".corp"},
		{"db1-x", "db1.example.net", "/^db[0-9]-x$/"},
		{"db1", "192.0.2.1", "/(/"},
	} {
		if rank(c.better, false, c.preferred) < rank(c.worse, false, c.preferred) || rank(c.better, false, c.preferred) == rank(c.worse, false, c.preferred) {
			t.Errorf("%s is not better than %s", c.better, c.worse)
		}
	}
	if rank("127.0.0.1", true, "") >= rank("db1", false, "") {
		t.Error("a configured loopback address beats a name")
	}
}
