package repl

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// bare makes members that wait for a configuration; d.example.net is also known as e.example.net.
func bare(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)}
	var members []MemberConfig
	for _, name := range []string{"a", "b", "c", "d"} {
		members = append(members, MemberConfig{Host: name + ".example.net:27017"})
	}
	members[3].Names = []string{"e.example.net:27017"}
	w.set = New(Options{Name: "rs0", Members: members, Clock: w.clock, Empty: true})
	for i := range members {
		w.engs = append(w.engs, nil)
		w.up(i)
	}
	return w
}

func config(t *testing.T, version int32, hosts ...string) bson.Raw {
	t.Helper()
	members := bson.A{}
	for _, h := range hosts {
		members = append(members, bson.D{{Key: "_id", Value: int32(h[0] - 'a')}, {Key: "host", Value: h + ".example.net:27017"}})
	}
	b, err := bson.Marshal(bson.D{{Key: "_id", Value: "rs0"}, {Key: "version", Value: version}, {Key: "members", Value: members}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantCode(t *testing.T, err *engine.Error, code int32) {
	t.Helper()
	if err == nil || err.Code != code {
		t.Errorf("got %v, want code %d", err, code)
	}
}

// TestMembersComeAndGo makes a set of three, adds a fourth, removes it, and adds it again under its other name.
func TestMembersComeAndGo(t *testing.T) {
	w := bare(t)
	w.pass(5 * time.Second)
	if s := w.set.Info(0).State; s != model.StateStartup || w.set.Primary() >= 0 {
		t.Fatalf("%s before anybody initiated it", s)
	}
	wantCode(t, w.set.Configured(0), 94)
	wantCode(t, w.set.Reconfig(0, config(t, 1, "a"), true), 94)
	wantCode(t, w.set.Initiate(0, config(t, 1, "b", "c")), 74)
	wantCode(t, w.set.Initiate(0, config(t, 1, "a", "x")), 74)
	if err := w.set.Initiate(0, config(t, 1, "a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.set.Initiate(1, config(t, 1, "a", "b", "c")), 23)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	if p < 0 || p == 3 {
		t.Fatalf("primary %d", p)
	}
	wantCode(t, w.set.Configured(3), 94)
	if reply := w.insert(p, 1); !okay(reply) {
		t.Fatal(reply)
	}
	if v := w.set.View(p); len(v.Members) != 3 || v.Members[v.Primary].Host != w.set.cfg[p].Host {
		t.Errorf("%+v", v)
	}
	if v := w.set.View(3); len(v.Members) != 1 || v.Members[v.Self].State != model.StateStartup {
		t.Errorf("who is not in it says %+v", v)
	}

	wantCode(t, w.set.Reconfig(p, config(t, 2, "a", "b", "c", "d", "e"), false), 103)
	if err := w.set.Reconfig(p, config(t, 2, "a", "b", "c", "d"), false); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if s := w.set.Info(3); s.State != model.StateSecondary || w.count(3) != 1 {
		t.Errorf("the new member is %s with %d documents", s.State, w.count(3))
	}
	for _, name := range []string{"a", "b", "c"} { // the leader cannot leave itself out
		if w.set.cfg[p].Host[:1] == name {
			continue
		}
		wantCode(t, w.set.Reconfig(p, config(t, 3, "d", name), false), 74)
	}
	if err := w.set.Reconfig(p, config(t, 3, "a", "b", "c"), false); err != nil {
		t.Fatal(err)
	}
	if s := w.set.Info(3).State; s != model.StateRemoved {
		t.Errorf("after its removal %s", s)
	}
	wantCode(t, w.set.Configured(3), 93)
	w.insert(p, 2)
	if err := w.set.Reconfig(p, config(t, 4, "a", "b", "c", "e"), false); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if s := w.set.Info(3); s.Host != "e.example.net:27017" || s.State != model.StateSecondary || w.count(3) != 2 {
		t.Errorf("under its other name: %+v with %d documents", s, w.count(3))
	}
	// What was added votes: two of four are no majority, three are.
	w.set.Cut((p+1)%3, true)
	w.pass(3 * time.Second)
	if w.set.Primary() != p {
		t.Error("three of four lost their primary")
	}
	w.set.Cut(3, true)
	w.pass(3 * time.Second)
	if w.set.Primary() >= 0 {
		t.Error("two of four have a primary")
	}
}
