package catalog

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TestLagFromRecordings goes through an election and a kill as each member saw it.
func TestLagFromRecordings(t *testing.T) {
	steps, err := recorded(t, "election.json").Lookup("steps").Array().Values()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range steps {
		d := s.Document()
		key := fmt.Sprint(d.Lookup("at").StringValue(), " ", d.Lookup("port").AsInt64())
		ms, ok := ReplicationLag(marshal(t, bson.M{"replSetGetStatus": d.Lookup("replSetGetStatus").Document()}))
		got[key] = fmt.Sprint(ms, " ", ok)
	}
	for key, want := range map[string]string{
		"before 27117": "0 false", "before 27118": "0 true", "before 27119": "0 true", "before 27120": "0 false",
		"stepdown+0s 27117": "0 false", "stepdown+0s 27118": "0 true", "stepdown+0s 27120": "0 false",
		"killed+3s 27118": "0 false", "killed+3s 27119": "0 true",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
}

type member struct {
	state  int
	self   bool
	health float64
	wall   time.Duration // before now; 0: absent
	date   time.Duration // before now
	optime any           // nil: a usual one
}

func status(t *testing.T, members ...member) bson.Raw {
	t.Helper()
	now := time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	list := bson.A{}
	for _, m := range members {
		d := bson.M{"state": m.state, "health": m.health, "optimeDate": now.Add(-m.date).Truncate(time.Second)}
		d["optime"] = m.optime
		if m.optime == nil {
			d["optime"] = bson.M{"ts": bson.Timestamp{T: 5, I: 1}, "t": int64(3)}
		}
		if m.self {
			d["self"] = true
			delete(d, "health")
		}
		if m.wall > 0 {
			d["lastAppliedWallTime"] = now.Add(-m.wall)
		}
		list = append(list, d)
	}
	return marshal(t, bson.M{"replSetGetStatus": bson.M{"members": list}})
}

func TestReplicationLag(t *testing.T) {
	me := member{state: 2, self: true, date: 10 * time.Second}
	primary := member{state: 1, health: 1, date: 3 * time.Second}
	changed := func(m member, change func(*member)) member {
		change(&m)
		return m
	}
	cases := []struct {
		name    string
		members []member
		ms      int64
		ok      bool
	}{
		{"whole seconds", []member{primary, me}, 7000, true},
		{"milliseconds where both have wall times", []member{changed(primary, func(m *member) { m.wall = 250 * time.Millisecond }), changed(me, func(m *member) { m.wall = 3 * time.Second })}, 2750, true},
		{"one wall time is not enough", []member{changed(primary, func(m *member) { m.wall = time.Second }), me}, 7000, true},
		{"a heartbeat older than our own progress", []member{changed(primary, func(m *member) { m.date = time.Minute }), me}, 0, true},
		{"recovering", []member{primary, changed(me, func(m *member) { m.state = 3 })}, 7000, true},
		{"no primary", []member{me, {state: 2, health: 1}}, 0, false},
		{"a primary that is not healthy", []member{changed(primary, func(m *member) { m.health = 0 }), me}, 0, false},
		{"the primary itself", []member{{state: 1, self: true, date: time.Second}, {state: 2, health: 1}}, 0, false},
		{"an arbiter", []member{primary, {state: 7, self: true}}, 0, false},
		{"initial sync", []member{primary, changed(me, func(m *member) { m.optime = bson.M{"ts": bson.Timestamp{}, "t": int64(-1)} })}, 0, false},
		{"before its first term", []member{primary, changed(me, func(m *member) { m.optime = bson.M{"ts": bson.Timestamp{T: 1}, "t": int64(-1)} })}, 0, false},
		{"a plain optime", []member{changed(primary, func(m *member) { m.optime = bson.Timestamp{T: 9} }), me}, 7000, true},
		{"an empty plain optime", []member{primary, changed(me, func(m *member) { m.optime = bson.Timestamp{} })}, 0, false},
		{"nobody", nil, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ms, ok := ReplicationLag(status(t, c.members...))
			if ms != c.ms || ok != c.ok {
				t.Errorf("%d %v, want %d %v", ms, ok, c.ms, c.ok)
			}
		})
	}
	if _, ok := ReplicationLag(marshal(t, bson.M{"replSetGetStatus": bson.M{"ok": 0, "code": 76}})); ok {
		t.Error("a standalone has no lag")
	}
}

func TestOplogWindow(t *testing.T) {
	ts := func(s uint32) bson.Timestamp { return bson.Timestamp{T: s, I: 1} }
	oplog := func(first, last any) bson.M {
		return bson.M{"serverStatus": bson.M{"oplog": bson.M{"earliestOptime": first, "latestOptime": last}}}
	}
	cases := []struct {
		name    string
		replies bson.M
		secs    int64
		ok      bool
	}{
		{"from serverStatus", oplog(ts(100), ts(3700)), 3600, true},
		{"as documents", oplog(bson.M{"ts": ts(100)}, bson.M{"ts": ts(160)}), 60, true},
		{"earliest not known", oplog(ts(0), ts(3700)), 0, false},
		{"latest before earliest", oplog(ts(200), ts(100)), 0, false},
		{"one entry", oplog(ts(200), ts(200)), 0, false},
		{"from the bounds the agent read", bson.M{"oplogBounds": bson.M{"first": bson.M{"ts": ts(5)}, "last": bson.M{"ts": ts(65)}}}, 60, true},
		{"bounds as timestamps", bson.M{"oplogBounds": bson.M{"first": ts(5), "last": ts(65)}}, 60, true},
		{"no oplog", bson.M{"serverStatus": bson.M{"pid": 1}}, 0, false},
		{"not a timestamp", oplog("a", "b"), 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			secs, ok := OplogWindow(marshal(t, c.replies))
			if secs != c.secs || ok != c.ok {
				t.Errorf("%d %v, want %d %v", secs, ok, c.secs, c.ok)
			}
		})
	}
}
