package monitoragent

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// simulate starts a replica set with access control and an agent that signs in to it.
func simulate(t *testing.T, o mongosim.Options) (*mongosim.Deployment, *server, *Agent) {
	t.Helper()
	o.Username, o.Password = "monitor", "secret"
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
	s := newServer()
	for i, addr := range d.Addresses() {
		host, port, err := model.SplitAddress(addr)
		if err != nil {
			t.Fatal(err)
		}
		s.conf.Hosts = append(s.conf.Hosts, wire.Host{ID: strconv.Itoa(i), Hostname: host, Port: int32(port), DBStats: true}) //nolint:gosec // a port
	}
	a, _ := newAgent(t, s, t.TempDir(), func(opt *Options) {
		opt.Config.AuthUsername, opt.Config.AuthPassword, opt.Config.SelectionSeconds = "monitor", "secret", 2
	})
	t.Cleanup(func() { _ = a.Close() })
	return d, s, a
}

// round makes a round and gives the pings by host.
func round(t *testing.T, s *server, a *Agent, at time.Time) map[string]wire.Ping {
	t.Helper()
	if err := a.Round(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := map[string]wire.Ping{}
	s.set(func(s *server) {
		for _, p := range s.pings {
			out[p.HostID] = p
		}
		s.pings = nil
	})
	return out
}

// TestSimulatedReplicaSet takes the agent through a member's death and return on every version it is made for.
func TestSimulatedReplicaSet(t *testing.T) {
	for _, version := range []string{"4.2.24", "4.4.29", "5.0.31", "6.0.19", "7.0.14", "8.0.4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel() // most of the time goes by in waiting for a member that is dead
			replicaSetOf(t, version)
		})
	}
}

func replicaSetOf(t *testing.T, version string) {
	d, s, a := simulate(t, mongosim.Options{
		Members: []mongosim.MemberOptions{{}, {}, {Arbiter: true}}, Version: version,
	})
	if err := d.WaitPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Truncate(time.Second)
	pings := round(t, s, a, at)
	if len(pings) != d.Len() {
		t.Fatalf("%d pings of %d members", len(pings), d.Len())
	}
	for id, p := range pings {
		if len(p.Errors) > 0 {
			t.Errorf("member %s: %+v", id, p.Errors)
		}
		r, err := wire.DecodeReplies(p.Replies)
		if err != nil {
			t.Fatal(err)
		}
		_, status := r.LookupErr("replSetGetStatus")
		if arbiter, _ := r.Lookup("hello", "arbiterOnly").BooleanOK(); arbiter != (status != nil) {
			t.Errorf("member %s: arbiter %v, status %v", id, arbiter, status)
		}
		if got, err := r.LookupErr("serverStatus", "version"); err == nil {
			if got.StringValue() != version {
				t.Errorf("member %s is a %s", id, got)
			}
			if row, err := catalog.Extract(r, p.At); err != nil || len(row.Cells) < 100 {
				t.Errorf("member %s: %d values, %v", id, len(row.Cells), err)
			}
		}
	}
	victim := 0
	if err := d.Kill(victim); err != nil {
		t.Fatal(err)
	}
	p := round(t, s, a, at.Add(time.Minute))["0"]
	if len(p.Errors) != 1 || p.Errors[0].Command != "connect" {
		t.Errorf("a killed member: %+v", p.Errors)
	}
	if err := d.Restart(victim); err != nil {
		t.Fatal(err)
	}
	// The driver may still answer from its last look at the dead member: it looks again within half a second of being asked.
	for i := range 20 {
		if p = round(t, s, a, at.Add(time.Duration(i+2)*time.Minute))["0"]; len(p.Errors) == 0 {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	if len(p.Errors) > 0 {
		t.Errorf("a restarted member: %+v", p.Errors)
	}
	r, err := wire.DecodeReplies(p.Replies)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.LookupErr("hostInfo"); err != nil {
		t.Error("a restarted member was not asked everything again")
	}
}

// TestVirtualPast collects hours of a simulated past through the same path as live pings.
func TestVirtualPast(t *testing.T) {
	from := time.Now().Add(-24 * time.Hour).Truncate(time.Minute)
	d, s, a := simulate(t, mongosim.Options{StartAt: from, Load: load.New(1)})
	var last int64
	for m := range 60 {
		at := from.Add(time.Duration(m) * time.Minute)
		if err := d.AdvanceTo(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		pings := round(t, s, a, at)
		for id, p := range pings {
			if !p.Late || !p.At.Equal(at.UTC()) || p.SkewMS < -2000 || p.SkewMS > 2000 {
				t.Fatalf("minute %d, member %s: at %v late %v skew %d", m, id, p.At, p.Late, p.SkewMS)
			}
		}
		r, err := wire.DecodeReplies(pings["0"].Replies)
		if err != nil {
			t.Fatal(err)
		}
		n, ok := r.Lookup("serverStatus", "network", "numRequests").AsInt64OK()
		if !ok || n < last {
			t.Errorf("minute %d: %d requests after %d", m, n, last)
		}
		last = n
	}
	if last == 0 {
		t.Error("counters do not move")
	}
}

// TestCheckOnTheSimulator holds the matrix against all the simulator knows: a command that it does not answer shows here.
func TestCheckOnTheSimulator(t *testing.T) {
	d, s, a := simulate(t, mongosim.Options{})
	a.seeds = d.Addresses()
	s.conf.Hosts = nil
	r := a.check(t.Context())
	if !r.OK || len(r.Hosts) != d.Len() {
		t.Errorf("%s", r.text())
	}
	for _, h := range r.Hosts {
		i := slices.IndexFunc(h.Commands, func(c CheckCommand) bool { return c.Note != "" })
		if i >= 0 {
			t.Errorf("%s: %s: %s", h.Address, h.Commands[i].Command, h.Commands[i].Note)
		}
	}
}
