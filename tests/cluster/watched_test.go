package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/mongod"
)

// TestDiscoveryDeathAndReturn finds a whole set from one of its members, under TLS and access control, and sees its primary
// killed and come back.
func TestDiscoveryDeathAndReturn(t *testing.T) {
	t.Parallel()
	db := mongod.Start(t, mongod.Options{Auth: true, TLS: true, Members: []mongod.MemberOptions{{}, {}, {}, {Hidden: true}, {Arbiter: true}}})
	w := watch(t, db, db.Name(1))
	w.healthy("a set found from one member", 0, 1, 2)
	w.see("the hidden member and the arbiter", []int{3, 4}, func(i int, s model.HostStatus) bool {
		return s.Reach == model.ReachUp && s.State == map[int]model.MemberState{3: model.StateSecondary, 4: model.StateArbiter}[i]
	})
	clusters, err := w.srv.Site().Inventory.Clusters(t.Context(), w.group())
	if err != nil || len(clusters) != 1 {
		t.Errorf("%d clusters of one set: %v", len(clusters), err)
	}
	w.alerts()

	since := time.Now().Add(-time.Second)
	killed := db.WaitPrimary()
	db.Kill(killed)
	elected := db.WaitPrimary(killed)
	w.see("the death and the election", others(4), func(i int, s model.HostStatus) bool {
		switch i {
		case killed:
			return s.Reach == model.ReachDown && s.Error != ""
		case elected:
			return s.Reach == model.ReachUp && s.State == model.StatePrimary
		}
		return s.Reach == model.ReachUp && s.State == model.StateSecondary
	})
	w.alerts(killed)
	if host := w.api(killed); !strings.Contains(fmt.Sprint(host), "DOWN") {
		t.Errorf("the API says of the dead member: %v", host)
	}
	if page := w.page("/deployment?view=hosts"); !strings.Contains(page, db.Name(killed)) || !strings.Contains(strings.ToUpper(page), "DOWN") {
		t.Error("the page of hosts does not show that it is down")
	}
	if page := w.page("/alerts"); !strings.Contains(page, db.Name(killed)) {
		t.Error("the page of alerts does not name it")
	}
	health(t, w.base, 200)

	db.Restart(killed)
	w.healthy("the return", others(3)...)
	w.alerts()
	for i := range 4 {
		name, want := db.Name(i), 0
		if i == killed {
			want = 1
		}
		for _, what := range []model.EventType{model.EventHostDown, model.EventHostUp} {
			if n := w.events(since, what)[name]; n != want {
				t.Errorf("%d events %s of %s, want %d", n, what, name, want)
			}
		}
	}
	if n := w.events(since, model.EventHostNowPrimary)[db.Name(elected)]; n != 1 {
		t.Errorf("%d events of the election", n)
	}
}

// TestPartition cuts the primary off the others, which clients still reach, and then a member off clients, which the others
// still reach. What is seen is what each side says, and only what nobody here can reach is down.
func TestPartition(t *testing.T) {
	t.Parallel()
	db := mongod.Start(t, mongod.Options{})
	w := watch(t, db, db.Name(0))
	w.healthy("a set", 0, 1, 2)

	alone := db.WaitPrimary()
	db.Cut(alone, mongod.Peers)
	elected := db.WaitPrimary(alone)
	w.see("both sides of a partition", others(3), func(i int, s model.HostStatus) bool {
		switch i {
		case elected:
			return s.Reach == model.ReachUp && s.State == model.StatePrimary
		default: // the one that is alone has stepped down by itself
			return s.Reach == model.ReachUp && s.State == model.StateSecondary
		}
	})
	if h, err := db.Hello(t.Context(), alone); err != nil || h.Primary != "" {
		t.Errorf("the member that is alone follows %q: %v", h.Primary, err)
	}
	w.alerts()
	db.Heal(alone, mongod.Peers)
	w.healthy("the end of the partition", 0, 1, 2)

	unseen := (db.WaitPrimary() + 1) % 3
	leader := db.WaitPrimary()
	db.Cut(unseen, mongod.Clients)
	w.see("a member that only the others reach", others(3), func(i int, s model.HostStatus) bool {
		if i == unseen {
			return s.Reach == model.ReachDown && s.Error != ""
		}
		return s.Reach == model.ReachUp
	})
	if p := db.WaitPrimary(); p != leader {
		t.Errorf("the set elected %d for what only clients miss", p)
	}
	w.alerts(unseen)
	db.Heal(unseen, mongod.Clients)
	w.healthy("it is reached again", 0, 1, 2)
	w.alerts()

	db.Pause(leader)
	next := db.WaitPrimary(leader)
	w.see("a member that hangs", []int{leader, next}, func(i int, s model.HostStatus) bool {
		return (i == leader) == (s.Reach == model.ReachDown) && (i != next || s.State == model.StatePrimary)
	})
	db.Unpause(leader)
	w.healthy("it goes on", 0, 1, 2)
}

// TestMembersComeAndGo restarts the members one after another, adds one, removes it, and adds it again under another name.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	db := mongod.Start(t, mongod.Options{Members: []mongod.MemberOptions{{}, {}, {}, {Spare: true}}})
	w := watch(t, db, db.Name(0))
	w.healthy("a set", 0, 1, 2)

	first := db.WaitPrimary()
	for _, i := range others(3, first) { // as upgrades go: the primary last, after it handed over
		db.Stop(i)
		db.Restart(i)
		db.WaitMember(i)
	}
	if p := db.StepDown(); p == first {
		t.Errorf("%d still leads", p)
	}
	db.Stop(first)
	db.Restart(first)
	db.WaitMember(first)
	w.healthy("a rolling restart", 0, 1, 2)
	w.alerts()

	const added = 3
	db.Add(added)
	w.healthy("a new member, found by itself", 0, 1, 2, added)
	before, err := w.status(t.Context(), added)
	if err != nil {
		t.Fatal(err)
	}

	db.Remove(added)
	w.see("a member that was removed", []int{added}, func(_ int, s model.HostStatus) bool {
		return s.State != model.StatePrimary && s.State != model.StateSecondary
	})
	w.healthy("the others without it", 0, 1, 2)

	db.Rename(added)
	db.Add(added)
	w.healthy("it is back under another name", 0, 1, 2, added)
	harness.Eventually(t, patience, "one host for one process", func(ctx context.Context) error {
		hosts, err := w.srv.Site().Inventory.Hosts(ctx, w.group())
		if err != nil {
			return err
		}
		var visible []string
		for i := range hosts {
			if hosts[i].Visible() {
				visible = append(visible, hosts[i].Address())
			}
		}
		if len(visible) != 4 {
			return fmt.Errorf("hosts %v", visible)
		}
		return nil
	})
	after, err := w.status(t.Context(), added)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the renamed member was host %s and is host %s", before.HostID, after.HostID)
	clusters, err := w.srv.Site().Inventory.Clusters(t.Context(), w.group())
	if err != nil || len(clusters) != 1 {
		t.Errorf("%d clusters of one set: %v", len(clusters), err)
	}
}
