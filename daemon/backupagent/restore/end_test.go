package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	simwire "github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// TestCancelled cancels a restore at each call of the target: nothing of it is left but what was put in place, which is said;
// every collection is as it was or as it is in the backup, never between.
func TestCancelled(t *testing.T) {
	w := newWorld(t, one())
	untouched, partly := 0, 0
	for n := 1; ; n += 1 + n/12 {
		f := &faults{n: n}
		var h *heartwood
		f.hit = func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.ended == "" {
				h.ended = "KILLED"
			}
		}
		t.Run(fmt.Sprintf("at call %d", n), func(t *testing.T) {
			w.t = t
			w.clear()
			if _, err := w.client.Database("shop").Collection("orders").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "old"}}); err != nil {
				t.Fatal(err)
			}
			before := w.holds()
			all, want := shop(t)
			h = serve(t, all, 7, wire.Push{Drop: true})
			w.run(w.options(h, f, t.TempDir()))
			ended, cleaned, last := h.state()
			if !cleaned {
				t.Fatal("it was not cleaned up")
			}
			if ended == "FINISHED" {
				w.wants(want)
				return
			}
			got := w.holds()
			in := 0
			for ns, x := range got {
				switch {
				case cmp.Equal(x, want[ns]):
					in++
				case !cmp.Equal(x, before[ns]) && ns != "shop.system.js": // that one is written in place
					t.Errorf("%s is neither as it was nor as it is to be: %+v", ns, x)
				}
			}
			if in == 0 {
				untouched++
				w.wants(before)
				if last.Error != "" && !strings.Contains(last.Error, "nothing in the target was changed") && !strings.Contains(last.Error, "0 of 6") {
					t.Errorf("told %q", last.Error)
				}
				return
			}
			partly++
			if !strings.Contains(last.Error, fmt.Sprintf("%d of 6 collections are in place", in)) {
				t.Errorf("%d are in place, told %q", in, last.Error)
			}
		})
		if t.Failed() || f.calls < n {
			break
		}
	}
	if !t.Failed() && (untouched < 3 || partly < 2) {
		t.Errorf("cancelled %d times before anything was in place, %d times between", untouched, partly)
	}
}

// changing changes answers of a server.
type changing struct {
	target.Server
	change func(cmd string, raw bson.Raw) bson.Raw
}

func (s *changing) Run(ctx context.Context, db string, cmd any) (bson.Raw, error) {
	raw, err := s.Server.Run(ctx, db, cmd)
	if d, ok := cmd.(bson.D); ok && err == nil {
		raw = s.change(d[0].Key, raw)
	}
	return raw, err
}

// TestWhatIsRefused ends restores that cannot come to a good end, before anything is written.
func TestWhatIsRefused(t *testing.T) {
	w := newWorld(t, one())
	full := doc(t, bson.D{{Key: "ok", Value: 1}, {Key: "fsTotalSize", Value: int64(1000)}, {Key: "fsUsedSize", Value: int64(900)}})
	for name, c := range map[string]struct {
		there  string // a collection that is there
		change func(h *heartwood, o *Options)
		why    string
	}{
		"an older target":                 {"", func(h *heartwood, _ *Options) { h.push.Plan = doc(t, bson.D{{Key: "fcv", Value: "99.0"}}) }, "the backup's is 99.0"},
		"a database that differs in case": {"Shop.x", func(*heartwood, *Options) {}, "would stand beside Shop"},
		"a name of ours":                  {"shop.hwrestore_5f000000_1", func(h *heartwood, _ *Options) { h.push.Drop = true }, "is how this restore would call"},
		"no room": {"", func(_ *heartwood, o *Options) {
			connect := o.Connect
			o.Connect = func(host wire.Host) (target.Server, error) {
				s, err := connect(host)
				return &changing{s, func(cmd string, raw bson.Raw) bson.Raw {
					if cmd == "dbStats" {
						return full
					}
					return raw
				}}, err
			}
		}, "of disk left"},
		"a damaged part": {"", func(h *heartwood, _ *Options) {
			h.objects[0] = bytes.Clone(h.objects[0])
			h.objects[0][40] ^= 1
		}, "SHA-256"},
		"a part cut short": {"", func(h *heartwood, _ *Options) { h.objects[0] = h.objects[0][:100] }, "it ends after 100 bytes"},
		"no part of a push": {"", func(h *heartwood, _ *Options) {
			h.objects[0] = []byte("something else")
			h.push.Objects[0].Bytes, h.push.Objects[0].SHA256 = 14, sum(h.objects[0])
		}, "not a part of a push"},
		"no plan":  {"", func(h *heartwood, _ *Options) { h.push.Plan = bson.Raw{1} }, "plan cannot be read"},
		"no parts": {"", func(h *heartwood, _ *Options) { h.push.Objects = nil }, "0 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.clear()
			if db, coll, ok := strings.Cut(c.there, "."); ok {
				if err := w.client.Database(db).CreateCollection(t.Context(), coll); err != nil {
					t.Fatal(err)
				}
			}
			before := w.holds()
			all, _ := shop(t)
			h := serve(t, all, 7, wire.Push{})
			o := w.options(h, nil, t.TempDir())
			c.change(h, &o)
			w.run(o)
			ended, cleaned, last := h.state()
			if ended != "BROKEN" || !cleaned || !strings.Contains(last.Error, c.why) || last.Remedy == "" {
				t.Errorf("%s %v: %q (%s)", ended, cleaned, last.Error, last.Remedy)
			}
			if c.there == "shop.hwrestore_5f000000_1" {
				delete(before, c.there) // what has such a name is removed with the rest
			}
			w.wants(before)
		})
	}
}

// TestPartsThatLie finds documents missing although every digest is right: nothing is put in place.
func TestPartsThatLie(t *testing.T) {
	w := newWorld(t, one())
	all, _ := shop(t)
	h := serve(t, all, 7, wire.Push{})
	all[0].Docs++
	all[0].Bytes += 100
	var out bytes.Buffer
	p, err := dump.NewWriter(&out)
	for i := range all {
		err = errors.Join(err, p.Entry(&all[i].Entry))
	}
	if err = errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	h.objects[0] = out.Bytes()
	h.push.Objects[0].Bytes, h.push.Objects[0].SHA256 = int64(out.Len()), sum(out.Bytes())
	w.run(w.options(h, nil, t.TempDir()))
	if ended, cleaned, last := h.state(); ended != "BROKEN" || !cleaned || !strings.Contains(last.Error, "27 documents in the backup, and 26 arrived") {
		t.Errorf("%s %v: %q", ended, cleaned, last.Error)
	}
	w.wants(map[string]held{})
}

// TestTheServerIsAway loses calls of the Heartwood server now and then: every one is made again.
func TestTheServerIsAway(t *testing.T) {
	w := newWorld(t, one())
	all, want := shop(t)
	h := serve(t, all, 7, wire.Push{})
	h.fault = func(string) error {
		if h.calls%3 != 0 {
			return errLost
		}
		return nil
	}
	w.run(w.options(h, nil, t.TempDir()))
	if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned {
		t.Fatalf("%s: %+v", ended, last)
	}
	w.wants(want)
}

// TestElections steps the primary down while a restore is written.
func TestElections(t *testing.T) {
	w := newWorld(t, mongosim.Options{})
	for _, n := range []int{12, 25} {
		w.clear()
		all, want := shop(t)
		h := serve(t, all, 7, wire.Push{})
		f := &faults{n: n, hit: func() {
			if err := w.d.StepDown(context.Background()); err != nil {
				t.Error(err)
			}
		}}
		w.run(w.options(h, f, t.TempDir()))
		if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned {
			t.Fatalf("%s: %+v", ended, last)
		}
		w.wants(want)
	}
}

// TestCredentials waits for a credential, then for its roles, says what is to be done, and goes on once it is. Users come along
// last, and lock nobody out.
func TestCredentials(t *testing.T) {
	all, want := shop(t)
	o := one()
	o.Username, o.Password = "root", "secret"
	o.Users = []simwire.User{
		{Name: "reader", DB: "admin", Password: "r", Roles: roleNames("readAnyDatabase", "clusterMonitor")},
		{Name: "writer", DB: "admin", Password: "w", Roles: roleNames("restore", "readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor")},
	}
	w := newWorld(t, o)
	users := content{Entry: dump.Entry{NS: dump.Users, Type: dump.Collection}, docs: []bson.Raw{
		doc(t, bson.D{{Key: "_id", Value: "shop.ann"}, {Key: "user", Value: "ann"}, {Key: "db", Value: "shop"}, {Key: "credentials", Value: bson.D{}}, {Key: "roles", Value: bson.A{}}}),
		doc(t, bson.D{{Key: "_id", Value: "admin.writer"}, {Key: "user", Value: "writer"}, {Key: "db", Value: "admin"}, {Key: "credentials", Value: bson.D{}}, {Key: "roles", Value: bson.A{}}}),
	}}
	all = append(all[:5:5], users, all[5])
	h := serve(t, all, 7, wire.Push{Users: true})
	var mu sync.Mutex
	as := plain{}
	op := w.options(h, nil, t.TempDir())
	op.Connect = func(host wire.Host) (target.Server, error) {
		return &asking{connect: func() (target.Server, error) {
			mu.Lock()
			defer mu.Unlock()
			return target.Connect(as)(host)
		}}, nil
	}
	said := func(part string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			h.mu.Lock()
			for _, p := range h.said {
				if strings.Contains(p.Step, part) && p.Waiting {
					h.mu.Unlock()
					return
				}
			}
			last := wire.PushProgress{}
			if len(h.said) > 0 {
				last = h.said[len(h.said)-1]
			}
			h.mu.Unlock()
			if time.Now().After(deadline) || !pause(t.Context(), 10*time.Millisecond) {
				t.Fatalf("never told %q, the last is %+v", part, last)
			}
		}
	}
	var running sync.WaitGroup
	running.Go(func() { w.run(op) })
	become := func(p plain) {
		mu.Lock()
		defer mu.Unlock()
		as = p
	}
	said("set restoreUsername and restorePassword")
	become(plain{"reader", "r"})
	said(`the user "reader" lacks insert on every database`)
	become(plain{"writer", "w"})
	running.Wait()
	if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned {
		t.Fatalf("%s: %+v", ended, last)
	}
	w.wants(want)
	var r struct{ Users []struct{ User string } }
	if err := w.client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "usersInfo", Value: bson.D{{Key: "forAllDBs", Value: true}}}}).Decode(&r); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, u := range r.Users {
		names[u.User] = true
	}
	if !names["ann"] || !names["writer"] || !names["root"] || !names["reader"] {
		t.Errorf("users %v", r.Users)
	}
	if trial := target.Try(t.Context(), "rs0", w.hosts, target.Connect(plain{"writer", "w"}), true); !trial.OK || trial.User != "writer" {
		t.Errorf("a trial as writer: %+v", trial)
	}
	if trial := target.Try(t.Context(), "rs0", w.hosts, target.Connect(plain{"reader", "r"}), true); trial.OK || !strings.Contains(trial.Reason, "lacks insert") || !strings.Contains(trial.Reason, "grantRolesToUser") {
		t.Errorf("a trial as reader: %+v", trial)
	}
	if trial := target.Try(t.Context(), "rs0", w.hosts, target.Connect(plain{}), false); trial.OK || !strings.Contains(trial.Reason, "set restoreUsername") {
		t.Errorf("a trial as nobody: %+v", trial)
	}
}

// asking connects anew for every command, as whoever it is just then.
type asking struct{ connect func() (target.Server, error) }

func (a *asking) Run(ctx context.Context, db string, cmd any) (bson.Raw, error) {
	s, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Run(ctx, db, cmd)
}

func (a *asking) Close() {}

// TestTimeSeries writes buckets into the collection that a server makes for them.
func TestTimeSeries(t *testing.T) {
	source, w := newWorld(t, one()), newWorld(t, one())
	db := source.client.Database("iot")
	create := bson.D{{Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}}}
	if err := db.RunCommand(t.Context(), append(bson.D{{Key: "create", Value: "weather"}}, create...)).Err(); err != nil {
		t.Skip("time series are not to be had here:", err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 20 {
		_, err := db.Collection("weather").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int32(i)}, {Key: "t", Value: at.Add(time.Duration(i) * time.Second)}, {Key: "m", Value: int32(i % 3)}, {Key: "v", Value: int32(i)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	buckets := read(t, source, "iot", dump.Buckets+"weather")
	for round := range 2 { // the second drops the first
		h := serve(t, []content{{Entry: dump.Entry{NS: "iot.weather", Type: dump.TimeSeries, Options: doc(t, create)}, docs: buckets}}, 2, wire.Push{Drop: round > 0})
		w.run(w.options(h, nil, t.TempDir()))
		if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned {
			t.Fatalf("%s: %+v", ended, last)
		}
		if d := cmp.Diff(texts(t, read(t, source, "iot", "weather"), true), texts(t, read(t, w, "iot", "weather"), true)); d != "" {
			t.Error(d)
		}
	}
}

func read(t *testing.T, w *world, db, coll string) (docs []bson.Raw) {
	t.Helper()
	cur, err := w.client.Database(db).Collection(coll).Find(t.Context(), bson.D{})
	if err == nil {
		err = cur.All(t.Context(), &docs)
	}
	if err != nil || len(docs) == 0 {
		t.Fatal(len(docs), err)
	}
	return docs
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func roleNames(names ...string) (out []engine.Role) {
	for _, n := range names {
		out = append(out, engine.Role{Role: n, DB: "admin"})
	}
	return out
}
