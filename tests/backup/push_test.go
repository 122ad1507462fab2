package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// Who writes restores into the source: the roles that the documentation says it needs, and no more.
const (
	restoreUser     = "heartwood-restore"
	restorePassword = "restore-s3cret" //nolint:gosec // of a server that lives for one test
	manyDatabase    = "many"
	manyCollections = 120
)

// pushes is a world whose agent may write.
type pushes struct {
	*world
}

// mayWrite gives the agent its restore credential: a user in the source, and two lines in its configuration.
func (w *world) mayWrite() *pushes {
	w.t.Helper()
	cmd := bson.D{{Key: "createUser", Value: restoreUser}, {Key: "pwd", Value: restorePassword}, {Key: "roles", Value: bson.A{"restore", "readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"}}}
	if err := w.client.Database("admin").RunCommand(w.t.Context(), cmd).Err(); err != nil {
		w.t.Fatal(err)
	}
	file := w.agent.args[2]
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "restoreUsername=%s\nrestorePassword=%s\n", restoreUser, restorePassword)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent.kill()
	w.agent.start()
	return &pushes{w}
}

// job is what `heartwood restore show --json` prints, as far as it matters here.
type job struct {
	ID         string
	StatusName string
	ErrorText  string
	Remedy     string
	Progress   struct{ Step string }
}

// begun starts a push of a second into the source and gives its id.
func (p *pushes) begun(at time.Time, args ...string) string {
	p.t.Helper()
	var j job
	seen := map[string]bool{}
	args = append([]string{"restore", "start", "rs0", "--at", at.UTC().Format(time.RFC3339), "--into", "rs0", "--json"}, args...)
	harness.Eventually(p.t, 3*time.Minute, "the start of a restore", func(ctx context.Context) error {
		err := p.heartwood(ctx, &j, args...)
		if err != nil && ctx.Err() == nil && !seen[err.Error()] { // what is refused may be so only for a moment: the monitoring's view of the target is as old as a ping
			seen[err.Error()] = true
			p.t.Log(err)
		}
		return err
	})
	return j.ID
}

// ended waits for the end of a push.
func (p *pushes) ended(id string) (j job) {
	p.t.Helper()
	harness.Eventually(p.t, 4*time.Minute, "the end of restore "+id, func(ctx context.Context) error {
		if err := p.heartwood(ctx, &j, "restore", "show", "rs0", id, "--json"); err != nil {
			return err
		}
		if j.StatusName == "IN_PROGRESS" {
			return errors.New(j.Progress.Step)
		}
		return nil
	})
	return j
}

func (p *pushes) finished(id string) {
	p.t.Helper()
	if j := p.ended(id); j.StatusName != "FINISHED" {
		p.t.Fatalf("restore %s is %s: %s (%s)\n%s", id, j.StatusName, j.ErrorText, j.Remedy, p.agent.process.Log())
	}
	p.tidy(id)
}

// tidy waits until nothing of a push but its outcome is left in the source.
func (p *pushes) tidy(id string) {
	p.t.Helper()
	harness.Eventually(p.t, time.Minute, "that nothing else is left of restore "+id, func(ctx context.Context) error {
		names, err := p.client.Database("heartwood_restore").ListCollectionNames(ctx, bson.D{{Key: "name", Value: id}})
		if err != nil || len(names) > 0 {
			return errors.Join(err, fmt.Errorf("the journal: %s", names))
		}
		dbs, err := p.client.ListDatabaseNames(ctx, bson.D{})
		if err != nil {
			return err
		}
		for _, db := range dbs {
			if db == "local" || db == "config" {
				continue
			}
			names, err := p.client.Database(db).ListCollectionNames(ctx, bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^hwrestore_"}}}})
			if err != nil || len(names) > 0 {
				return errors.Join(err, fmt.Errorf("staged: %s.%s", db, names))
			}
		}
		return nil
	})
}

// at waits until a push is in a phase, with so many collections in place, as its journal in the source tells.
func (p *pushes) at(id, phase string, placed int64) {
	p.t.Helper()
	journal := p.client.Database("heartwood_restore").Collection(id)
	var said error
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		var s struct{ Phase string }
		err := journal.FindOne(p.t.Context(), bson.D{{Key: "_id", Value: "state"}}).Decode(&s)
		n := int64(0)
		if err == nil {
			n, err = journal.CountDocuments(p.t.Context(), bson.D{{Key: "placed", Value: true}})
		}
		if err == nil && s.Phase == phase && n >= placed {
			return
		}
		if err == nil && (s.Phase == "done" || phase == "stage" && s.Phase == "swap") {
			p.t.Fatalf("restore %s is past it: %s, %d in place", id, s.Phase, n)
		}
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			said = err
		}
		pause(p.t, 2*time.Millisecond)
	}
	p.t.Fatalf("restore %s did not come to %s with %d in place: %v", id, phase, placed, said)
}

// many makes many small collections, each with a document and an index.
func (p *pushes) many() {
	p.t.Helper()
	for i := range manyCollections {
		coll := p.client.Database(manyDatabase).Collection(fmt.Sprintf("c%03d", i))
		if _, err := coll.InsertOne(p.t.Context(), bson.D{{Key: "_id", Value: int32(i)}, {Key: "n", Value: int64(i)}}); err != nil {
			p.t.Fatal(err)
		}
		if _, err := coll.Indexes().CreateOne(p.t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "n", Value: 1}}}); err != nil {
			p.t.Fatal(err)
		}
	}
}

// isMany checks a copy of the many collections.
func (p *pushes) isMany(db string) {
	p.t.Helper()
	names, err := p.client.Database(db).ListCollectionNames(p.t.Context(), bson.D{})
	if err != nil || len(names) != manyCollections {
		p.t.Fatalf("%s has %d collections (%v)", db, len(names), err)
	}
	for i := range manyCollections {
		coll := p.client.Database(db).Collection(fmt.Sprintf("c%03d", i))
		var d struct{ N int64 }
		err := coll.FindOne(p.t.Context(), bson.D{{Key: "_id", Value: int32(i)}}).Decode(&d)
		specs, serr := coll.Indexes().ListSpecifications(p.t.Context())
		n, cerr := coll.CountDocuments(p.t.Context(), bson.D{})
		if err := errors.Join(err, serr, cerr); err != nil || d.N != int64(i) || len(specs) != 2 || n != 1 {
			p.t.Fatalf("%s.c%03d: %+v, %d indexes, %d documents: %v", db, i, d, len(specs), n, err)
		}
	}
}

// holds compares a database with what the model says of a second.
func (p *pushes) holds(db string, want state) {
	p.t.Helper()
	got := read(p.t, p.client, db)
	for _, side := range []state{want, got} { // a collection that is empty then may be there or not
		for name, docs := range side {
			if len(docs) == 0 {
				delete(side, name)
			}
		}
	}
	if len(want) == 0 {
		p.t.Error("nothing was written by then")
	}
	if d := cmp.Diff(want, got); d != "" {
		p.t.Errorf("%s is not what the model says (-want +got):\n%s", db, d)
	}
}

func (p *pushes) user(name string) bool {
	p.t.Helper()
	var r struct{ Users []bson.Raw }
	err := p.client.Database("admin").RunCommand(p.t.Context(), bson.D{{Key: "usersInfo", Value: name}}).Decode(&r)
	if err != nil {
		p.t.Fatal(err)
	}
	return len(r.Users) > 0
}

func (p *pushes) admin(cmd bson.D) {
	p.t.Helper()
	if err := p.client.Database("admin").RunCommand(p.t.Context(), cmd).Err(); err != nil {
		p.t.Fatal(err)
	}
}

// TestPush restores seconds of a replica set into the same set while it runs: beside what is there, in its place, with agent and
// server killed in the middle of each phase, cancelled, and with users.
func TestPush(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	seed, _ := chance(t)
	w := newWorld(t, worldOptions{})
	p := w.mayWrite()
	p.many()
	p.admin(bson.D{{Key: "createUser", Value: "was-there"}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "read"}, {Key: "db", Value: "shop"}}}}})
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	m.more(t, 200)
	at := time.Now().Truncate(time.Second)
	for !m.sure(uint32(at.Unix())) { //nolint:gosec // this century
		at = at.Add(-time.Second)
	}
	m.more(t, 100)
	w.restorable(at)
	end()
	want := func() state { return m.at(uint32(at.Unix())) } //nolint:gosec // this century
	now := read(t, w.client, database)

	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() {
			f(t)
			t.Logf("done: %s", name)
		}
	}
	step("a second under another name", func(t *testing.T) {
		p.finished(p.begun(at, "--namespace", database, "--rename", database+"=copy"))
		p.holds("copy", want())
		if d := cmp.Diff(now, read(t, w.client, database)); d != "" {
			t.Errorf("the original changed (-before +after):\n%s", d)
		}
	})
	step("what is there is not replaced unasked", func(t *testing.T) {
		var j job
		err := p.heartwood(t.Context(), &j, "restore", "start", "rs0", "--at", at.UTC().Format(time.RFC3339), "--into", "rs0", "--namespace", database, "--json")
		if err == nil { // the server may not know yet what the target holds: the agent does
			if e := p.ended(j.ID); e.StatusName != "BROKEN" || !strings.Contains(e.ErrorText, "there already") || e.Remedy == "" {
				t.Errorf("%+v", e)
			}
			p.tidy(j.ID)
		} else if !strings.Contains(err.Error(), "there already") {
			t.Error(err)
		}
		if d := cmp.Diff(now, read(t, w.client, database)); d != "" {
			t.Errorf("the target changed (-before +after):\n%s", d)
		}
	})
	step("in its place", func(*testing.T) {
		p.finished(p.begun(at, "--namespace", database, "--drop"))
		p.holds(database, want())
	})
	step("the agent is killed while it stages, the server too", func(*testing.T) {
		id := p.begun(at, "--namespace", manyDatabase, "--rename", manyDatabase+"=killed")
		p.at(id, "stage", 0)
		w.agent.kill()
		w.server.kill()
		w.agent.start()
		w.server.start()
		w.healthy()
		p.finished(id)
		p.isMany("killed")
	})
	step("the agent is killed while it puts collections in place", func(*testing.T) {
		id := p.begun(at, "--namespace", manyDatabase, "--drop")
		p.at(id, "swap", 3)
		w.agent.kill()
		w.agent.start()
		p.finished(id)
		p.isMany(manyDatabase)
	})
	step("cancelled while it stages", func(t *testing.T) {
		id := p.begun(at, "--namespace", manyDatabase, "--rename", manyDatabase+"=never")
		w.gate.delay(3 * time.Second) // it is still fetching its parts when the cancellation comes
		defer w.gate.delay(0)
		p.at(id, "stage", 0)
		if err := p.heartwood(t.Context(), nil, "restore", "cancel", "rs0", id); err != nil {
			t.Fatal(err)
		}
		if j := p.ended(id); j.StatusName != "KILLED" {
			t.Errorf("%+v", j)
		}
		p.tidy(id)
		if names, err := w.client.Database("never").ListCollectionNames(t.Context(), bson.D{}); err != nil || len(names) > 0 {
			t.Errorf("%s %v", names, err)
		}
	})
	step("users", func(t *testing.T) {
		p.admin(bson.D{{Key: "dropUser", Value: "was-there"}})
		p.admin(bson.D{{Key: "createUser", Value: "came-later"}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{}}})
		p.finished(p.begun(at, "--rename", database+"=withusers", "--rename", manyDatabase+"=withmany", "--users"))
		p.holds("withusers", want())
		p.isMany("withmany")
		for _, name := range []string{"was-there", "came-later", agentUser, restoreUser} {
			if !p.user(name) {
				t.Errorf("the user %s is not there", name)
			}
		}
	})
}
