package repl

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// world is a set in memory on a clock that the test moves.
type world struct {
	t    *testing.T
	set  *Set
	engs []*engine.Engine

	mu  sync.Mutex
	now time.Time
}

func newWorld(t *testing.T, members ...MemberConfig) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)}
	for i := range members {
		members[i].ID = int32(i)
		members[i].Host = string(rune('a'+i)) + ".example.net:27017"
		members[i].Votes = 1
	}
	w.set = New(Options{Name: "rs0", Members: members, Clock: w.clock})
	for i := range members {
		w.engs = append(w.engs, nil)
		w.up(i)
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) up(i int) {
	w.t.Helper()
	if w.set.cfg[i].Arbiter {
		w.set.Up(i, nil)
		return
	}
	e, err := engine.Open(w.set.Hooks(i))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.engs[i] != nil {
		if err := e.CopyFrom(w.engs[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	w.engs[i] = e
	w.set.Up(i, e)
}

// pass lets d go by in steps, with everybody following.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for range d / (500 * time.Millisecond) {
		w.mu.Lock()
		w.now = w.now.Add(500 * time.Millisecond)
		w.mu.Unlock()
		w.set.Tick(w.t.Context())
		w.follow()
	}
}

func (w *world) follow() {
	for i := range w.engs {
		for w.engs[i] != nil && w.set.Pull(w.t.Context(), i) {
			continue
		}
	}
}

func (w *world) run(i int, cmd bson.D) bson.Raw {
	w.t.Helper()
	raw, err := bson.Marshal(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.engs[i].Run(w.t.Context(), &engine.Session{}, "test", raw)
}

func (w *world) insert(i, id int) bson.Raw {
	w.t.Helper()
	return w.run(i, bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}}}}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: 1}}}})
}

func (w *world) count(i int) int64 {
	w.t.Helper()
	for _, n := range w.engs[i].Namespaces("test") {
		if n.NS == "test.c" {
			return n.Docs
		}
	}
	return 0
}

func code(reply bson.Raw) int64 {
	n, _ := reply.Lookup("code").AsInt64OK()
	return n
}

func okay(reply bson.Raw) bool { return reply.Lookup("ok").AsFloat64() == 1 }

func three() []MemberConfig {
	return []MemberConfig{{Priority: 1}, {Priority: 1}, {Priority: 1}}
}

func TestASetElectsAndReplicates(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	if p < 0 {
		t.Fatal("no primary")
	}
	for i := range 20 {
		if r := w.insert(p, i); !okay(r) {
			t.Fatal(r)
		}
	}
	w.follow()
	for i := range 3 {
		if n := w.count(i); n != 20 {
			t.Errorf("member %d has %d documents", i, n)
		}
	}
	if w.set.Committed() != w.engs[p].LastOpTime() {
		t.Errorf("committed %v, primary at %v", w.set.Committed(), w.engs[p].LastOpTime())
	}
	if r := w.insert((p+1)%3, 99); code(r) != 10107 || r.Lookup("topologyVersion").Type == 0 {
		t.Errorf("a secondary takes a write: %v", r)
	}
	if r := w.run((p+1)%3, bson.D{{Key: "find", Value: "c"}}); code(r) != 13435 {
		t.Errorf("a secondary answers a read for primaries: %v", r)
	}
	if r := w.run((p+1)%3, bson.D{{Key: "find", Value: "c"}, {Key: "$readPreference", Value: bson.D{{Key: "mode", Value: "secondary"}}}}); !okay(r) {
		t.Errorf("a secondary refuses a read: %v", r)
	}
}

func TestTheOplogIsThatOfARealSet(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(35 * time.Second)
	p := w.set.Primary()
	w.insert(p, 1)
	w.follow()
	for i := range 3 {
		entries, _ := w.engs[i].OplogAfter(engine.OpTime{}, 100)
		var ops []string
		for _, x := range entries {
			what, _ := x.O.Index(0).Value().StringValueOK()
			ops = append(ops, x.Op+":"+what)
		}
		want := []string{
			"n:initiating set", "c:transactions", "n:new primary", "c:system.indexBuilds", "c:system.keys", "i:", "i:",
			"n:periodic noop", "n:periodic noop", "n:periodic noop", "c:c", "i:",
		}
		if len(ops) != len(want) {
			t.Fatalf("member %d: %v", i, ops)
		}
		for n := range want {
			if ops[n] != want[n] {
				t.Errorf("member %d: entry %d is %s, want %s", i, n, ops[n], want[n])
			}
		}
		if last := entries[len(entries)-1]; last.At.Term != 1 || last.NS != "test.c" {
			t.Errorf("last entry %+v", last)
		}
	}
}

func TestAKilledPrimaryIsReplacedAndRollsBack(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	w.insert(p, 1)
	w.follow()
	for i := range 3 { // nobody follows any more
		w.set.SetLag(i, time.Hour)
	}
	w.insert(p, 2)
	w.set.Down(p)
	for i := range 3 {
		w.set.SetLag(i, 0)
	}
	down := w.engs[p]
	w.engs[p] = nil
	w.pass(3 * time.Second)
	q := w.set.Primary()
	if q < 0 || q == p {
		t.Fatalf("primary %d after %d was killed", q, p)
	}
	w.insert(q, 3)
	w.engs[p] = down
	rbid := w.set.View(p).RBID
	w.up(p)
	w.pass(2 * time.Second)
	if st := w.set.Info(p).State; st != model.StateSecondary {
		t.Errorf("old primary is %v", st)
	}
	if got := w.set.View(p).RBID; got != rbid+1 {
		t.Errorf("rollback id %d, want %d", got, rbid+1)
	}
	for i := range 3 {
		if r := w.run(i, bson.D{{Key: "count", Value: "c"}, {Key: "query", Value: bson.D{{Key: "_id", Value: 2}}}, {Key: "$readPreference", Value: bson.D{{Key: "mode", Value: "secondary"}}}}); r.Lookup("n").AsInt64() != 0 {
			t.Errorf("member %d still has what was never replicated: %v", i, r)
		}
		if n := w.count(i); n != 2 {
			t.Errorf("member %d has %d documents, want 2", i, n)
		}
	}
}

func TestAPrimaryCutOffKeepsNoPromise(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	w.set.Cut(p, true)
	if r := w.insert(p, 1); !okay(r) {
		t.Fatalf("a primary that has not noticed refuses: %v", r)
	}
	w.pass(4 * time.Second)
	q := w.set.Primary()
	if q < 0 || q == p {
		t.Fatalf("primary %d", q)
	}
	if st := w.set.Info(p).State; st != model.StateSecondary {
		t.Errorf("the cut-off primary is %v", st)
	}
	if v := w.set.View(p); v.Members[q].Up || v.Primary != -1 {
		t.Errorf("the cut-off member sees the others: %+v", v)
	}
	w.set.Cut(p, false)
	w.pass(2 * time.Second)
	if n := w.count(p); n != 0 {
		t.Errorf("%d documents that nobody else has", n)
	}
}

func TestVotesAndPriorities(t *testing.T) {
	w := newWorld(t, MemberConfig{Priority: 1}, MemberConfig{Priority: 5}, MemberConfig{Hidden: true}, MemberConfig{Arbiter: true})
	w.pass(30 * time.Second)
	if p := w.set.Primary(); p != 1 {
		t.Errorf("primary %d, want the one of highest priority", p)
	}
	w.set.Down(1)
	w.engs[1] = nil
	w.pass(5 * time.Second)
	if p := w.set.Primary(); p != 0 {
		t.Errorf("primary %d, want the only electable one left", p)
	}
	w.set.Down(2)
	w.engs[2] = nil
	w.pass(5 * time.Second)
	if p := w.set.Primary(); p != -1 {
		t.Errorf("primary %d without a majority", p)
	}
	w.up(1)
	w.pass(30 * time.Second)
	if p := w.set.Primary(); p != 1 {
		t.Errorf("primary %d, want the takeover by priority", p)
	}
}

func TestStepDownHandsOver(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	if err := w.set.StepDown((p+1)%3, time.Minute, 0, false); err == nil || err.Code != 10107 {
		t.Errorf("a secondary steps down: %v", err)
	}
	w.insert(p, 1)
	topo := w.set.Info(p).Topology
	if err := w.set.StepDown(p, time.Minute, 10*time.Second, false); err != nil {
		t.Fatal(err)
	}
	w.pass(3 * time.Second)
	q := w.set.Primary()
	if q < 0 || q == p {
		t.Fatalf("primary %d", q)
	}
	if n := w.count(q); n != 1 {
		t.Errorf("the handover lost a write: %d", n)
	}
	if w.set.Info(p).Topology <= topo {
		t.Error("topologyVersion did not move")
	}
	if v := w.set.View(q); v.Election == nil || v.Election.Prior != p || v.Term != 2 {
		t.Errorf("election %+v", v.Election)
	}
	if err := w.set.StepUp(p); err != nil {
		t.Fatal(err)
	}
	w.pass(90 * time.Second)
	if got := w.set.Primary(); got == q {
		t.Errorf("primary still %d after a step-up of %d", got, p)
	}
}

// TestADeposedPrimaryCommitsNothing: neither an open transaction nor, once more, one whose answer was lost. Either could be a promise
// that a rollback breaks.
func TestADeposedPrimaryCommitsNothing(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	w.insert(p, 0)
	in := func(session byte, cmd ...bson.E) bson.D {
		id := bson.Binary{Subtype: 4, Data: append(make([]byte, 15), session)}
		return append(cmd, bson.E{Key: "lsid", Value: bson.D{{Key: "id", Value: id}}}, bson.E{Key: "txnNumber", Value: int64(1)}, bson.E{Key: "autocommit", Value: false})
	}
	admin := func(cmd bson.D) bson.Raw {
		raw, err := bson.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return w.engs[p].Run(t.Context(), &engine.Session{}, "admin", raw)
	}
	commit := func(session byte) bson.Raw {
		return admin(in(session, bson.E{Key: "commitTransaction", Value: 1}, bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: 1}}}))
	}
	for session := range byte(2) {
		insert := in(session, bson.E{Key: "insert", Value: "c"}, bson.E{Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: int(session) + 1}}}}, bson.E{Key: "startTransaction", Value: true})
		if r := w.run(p, insert); !okay(r) {
			t.Fatalf("insert: %v", r)
		}
	}
	if r := commit(0); !okay(r) {
		t.Fatalf("commit: %v", r)
	}
	if err := w.set.StepDown(p, time.Minute, 10*time.Second, false); err != nil {
		t.Fatal(err)
	}
	for session, what := range []string{"committed before", "open"} {
		r := commit(byte(session)) //nolint:gosec // two of them
		if label, err := r.LookupErr("errorLabels", "0"); okay(r) || code(r) != 10107 || err != nil || label.StringValue() != "RetryableWriteError" {
			t.Errorf("the commit of a transaction that was %s: %v", what, r)
		}
	}
	if r := admin(in(1, bson.E{Key: "abortTransaction", Value: 1})); code(r) != 10107 {
		t.Errorf("abort: %v", r)
	}
	w.pass(90 * time.Second)
	if err := w.set.StepUp(p); err != nil {
		t.Fatal(err)
	}
	w.pass(90 * time.Second)
	if w.set.Primary() != p {
		t.Fatalf("primary %d, want %d again", w.set.Primary(), p)
	}
	if r := commit(1); code(r) != 251 {
		t.Errorf("the open transaction outlived the step-down: %v", r)
	}
	if r := commit(0); !okay(r) || w.count(p) != 2 {
		t.Errorf("the committed one is lost: %v, %d documents", r, w.count(p))
	}
}

func TestLagAndDelay(t *testing.T) {
	w := newWorld(t, MemberConfig{Priority: 1}, MemberConfig{Priority: 1}, MemberConfig{Hidden: true, Delay: 30 * time.Second})
	w.pass(40 * time.Second)
	p := w.set.Primary()
	w.insert(p, 1)
	w.pass(5 * time.Second)
	if w.count(2) != 0 {
		t.Error("the delayed member has the write already")
	}
	w.pass(40 * time.Second)
	if w.count(2) != 1 {
		t.Error("the delayed member never got the write")
	}
	s := 1 - p
	w.set.SetLag(s, 20*time.Second)
	w.insert(p, 2)
	w.pass(5 * time.Second)
	v := w.set.View(p)
	if lag := v.Members[p].AppliedWall.Sub(v.Members[s].AppliedWall); lag <= 0 {
		t.Errorf("no lag to be seen: %v", lag)
	}
	w.set.SetLag(s, 0)
	w.pass(time.Second)
	if w.count(s) != 2 {
		t.Error("lag does not end")
	}
}

func TestReconfig(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	doc := func(version int32, prio float64, host string) bson.Raw {
		members := bson.A{}
		for i, c := range w.set.cfg {
			m := bson.D{{Key: "_id", Value: int32(i)}, {Key: "host", Value: c.Host}}
			if i == (p+1)%3 {
				m = bson.D{{Key: "_id", Value: int32(i)}, {Key: "host", Value: host}, {Key: "priority", Value: prio}, {Key: "hidden", Value: prio == 0}}
			}
			members = append(members, m)
		}
		b, err := bson.Marshal(bson.D{{Key: "_id", Value: "rs0"}, {Key: "version", Value: version}, {Key: "members", Value: members}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	host := w.set.cfg[(p+1)%3].Host
	for name, c := range map[string]struct {
		member int
		cfg    bson.Raw
		code   int32
	}{
		"on a secondary": {(p + 1) % 3, doc(2, 0, host), 10107},
		"old version":    {p, doc(1, 0, host), 103},
		"another host":   {p, doc(3, 0, "elsewhere:1"), 74},
		"fine":           {p, doc(2, 0, host), 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.set.Reconfig(c.member, c.cfg, false)
			if c.code == 0 && err != nil || c.code != 0 && (err == nil || err.Code != c.code) {
				t.Errorf("got %v, want code %d", err, c.code)
			}
		})
	}
	if v := w.set.View(p); v.ConfigVersion != 2 || !v.Members[(p+1)%3].Hidden {
		t.Errorf("configuration %+v", v)
	}
}

func TestWritesWaitForTheMajority(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	w.insert(p, 1)
	at := w.engs[p].LastOpTime()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := w.set.wait(ctx, p, engine.WriteConcern{W: "majority"}, at); err == nil || err.Code != 11601 {
		t.Errorf("majority before anybody followed: %v", err)
	}
	if err := w.set.wait(t.Context(), p, engine.WriteConcern{W: "majority", WTimeout: time.Millisecond}, at); err == nil || err.Code != 64 {
		t.Errorf("wtimeout: %v", err)
	}
	if err := w.set.wait(t.Context(), p, engine.WriteConcern{W: "4"}, at); err == nil || err.Code != 100 {
		t.Errorf("more members than there are: %v", err)
	}
	if err := w.set.wait(t.Context(), p, engine.WriteConcern{W: "nonsense"}, at); err == nil || err.Code != 79 {
		t.Errorf("unknown mode: %v", err)
	}
	w.follow()
	for _, mode := range []string{"majority", "3", "1", ""} {
		if err := w.set.wait(t.Context(), p, engine.WriteConcern{W: mode}, at); err != nil {
			t.Errorf("w %q after all followed: %v", mode, err)
		}
	}
	if err := w.set.wait(t.Context(), (p+1)%3, engine.WriteConcern{W: "majority"}, at); err == nil || err.Code != 189 {
		t.Errorf("a member that no longer leads promises: %v", err)
	}
}

// TestAPrimaryThatHangsPromisesNothing: what its successor commits is newer than what it wrote, and not the same.
func TestAPrimaryThatHangsPromisesNothing(t *testing.T) {
	w := newWorld(t, three()...)
	w.pass(2 * time.Second)
	p := w.set.Primary()
	w.set.Pause(p, true)
	w.insert(p, 1) // was under way
	at := w.engs[p].LastOpTime()
	w.pass(4 * time.Second)
	q := w.set.Primary()
	if q < 0 || q == p {
		t.Fatalf("primary %d", q)
	}
	w.insert(q, 2)
	w.follow()
	if !at.Before(w.set.Committed()) {
		t.Fatal("the successor committed nothing")
	}
	for _, mode := range []string{"majority", "2"} {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := w.set.wait(ctx, p, engine.WriteConcern{W: mode}, at); err == nil || err.Code != engine.CodeInterrupted {
			t.Errorf("w %q while it hangs: %v", mode, err)
		}
	}
	w.set.Pause(p, false)
	if err := w.set.wait(t.Context(), p, engine.WriteConcern{W: "majority"}, at); err == nil || err.Code != engine.CodePrimarySteppedDown {
		t.Errorf("when it wakes up: %v", err)
	}
	w.pass(2 * time.Second)
	if n := w.count(p); n != 1 {
		t.Errorf("%d documents, one was rolled back and one is the successor's", n)
	}
}
