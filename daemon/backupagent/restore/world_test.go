package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// content is an entry of a push with its documents.
type content struct {
	dump.Entry
	docs []bson.Raw
}

func doc(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// heartwood is a server that has one push, as ingestion serves it.
type heartwood struct {
	mu      sync.Mutex
	push    wire.Push
	objects [][]byte
	said    []wire.PushProgress
	ended   string // "", FINISHED, BROKEN or KILLED
	begun   bool
	cleaned bool
	finally wire.PushProgress // that ended it
	// fault decides about a call, by how many came before; nil: all is well.
	fault func(what string) error
	calls int
}

func (h *heartwood) called(what string) error {
	h.calls++
	if h.fault == nil {
		return nil
	}
	return h.fault(what)
}

func (h *heartwood) Push(_ context.Context, restore string) (wire.Push, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.called("push"); err != nil {
		return wire.Push{}, err
	}
	p := h.push
	p.Restore, p.Cancel = restore, h.ended != ""
	return p, nil
}

func (h *heartwood) Object(_ context.Context, _ string, n int, offset int64) (io.ReadCloser, int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.called("object"); err != nil {
		return nil, 0, err
	}
	if h.ended != "" {
		return nil, 0, stopped()
	}
	return io.NopCloser(bytes.NewReader(h.objects[n][offset:])), offset, nil
}

func stopped() error {
	return &call.Refusal{Status: 409, Code: wire.CodeStopped, Reason: "the restore has ended"}
}

func (h *heartwood) Progress(_ context.Context, _ string, p wire.PushProgress) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.called("progress"); err != nil {
		return err
	}
	h.said = append(h.said, p)
	if h.ended != "" {
		if !p.Cleaned && !(p.Finished && h.ended == "FINISHED") && !(p.Error != "" && h.ended == "BROKEN") {
			return stopped()
		}
		if p.Cleaned && !h.cleaned {
			h.cleaned = true
			h.finally.Error = strings.TrimPrefix(h.finally.Error+"; "+p.Error, "; ")
		}
		return nil
	}
	h.begun = h.begun || !p.Waiting
	switch {
	case p.Error != "":
		h.ended, h.finally = "BROKEN", p
	case p.Finished:
		h.ended, h.finally = "FINISHED", p
	}
	return nil
}

func (h *heartwood) state() (ended string, cleaned bool, finally wire.PushProgress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended, h.cleaned, h.finally
}

// serve makes the parts of contents, cut after few documents.
func serve(t testing.TB, all []content, cut int, p wire.Push) *heartwood {
	t.Helper()
	h := &heartwood{push: p}
	var names []string
	add := func(write func(w *dump.Writer)) {
		var out bytes.Buffer
		w, err := dump.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		write(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		h.objects = append(h.objects, out.Bytes())
		names = append(names, dump.PartName(len(h.objects)))
	}
	add(func(*dump.Writer) {}) // the catalogue's place
	var w *dump.Writer
	var out bytes.Buffer
	n := 0
	end := func() {
		if w == nil {
			return
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		h.objects = append(h.objects, slices.Clone(out.Bytes()))
		names = append(names, dump.PartName(len(h.objects)))
		out.Reset()
		w, n = nil, 0
	}
	for i := range all {
		e := &all[i].Entry
		e.Number = int64(i + 1)
		if i > 0 && e.Direct() != all[i-1].Direct() {
			end()
		}
		for _, d := range all[i].docs {
			if w == nil {
				var err error
				if w, err = dump.NewWriter(&out); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Doc(e.Number, d); err != nil {
				t.Fatal(err)
			}
			if e.Docs == 0 {
				e.First = int64(len(h.objects))
			}
			e.Last = int64(len(h.objects))
			e.Docs++
			e.Bytes += int64(len(d))
			if n++; n == cut {
				end()
			}
		}
	}
	end()
	catalogue := h.objects[1:]
	h.objects = nil
	add(func(w *dump.Writer) {
		for i := range all {
			if err := w.Entry(&all[i].Entry); err != nil {
				t.Fatal(err)
			}
		}
	})
	h.objects = append(h.objects, catalogue...)
	for i, o := range h.objects {
		sum := sha256.Sum256(o)
		h.push.Objects = append(h.push.Objects, wire.PushObject{Name: names[i], Bytes: int64(len(o)), SHA256: hex.EncodeToString(sum[:])})
	}
	if h.push.Plan == nil {
		h.push.Plan = doc(t, bson.D{{Key: "fcv", Value: "7.0"}})
	}
	return h
}

// world is a replica set that is restored into.
type world struct {
	t      testing.TB
	d      *mongosim.Deployment
	client *mongo.Client
	hosts  []wire.Host
}

func newWorld(t testing.TB, o mongosim.Options) *world {
	t.Helper()
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
	client, err := mongo.Connect(options.Client().ApplyURI(d.URI()).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	w := &world{t: t, d: d, client: client}
	for _, a := range d.Addresses() {
		host, port, err := model.SplitAddress(a)
		if err != nil {
			t.Fatal(err)
		}
		w.hosts = append(w.hosts, wire.Host{Hostname: host, Port: int32(port)})
	}
	return w
}

// plain connects as a user, or as nobody.
type plain struct{ user, password string }

func (p plain) Options(host wire.Host, _ bool) *options.ClientOptions {
	o := options.Client().SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true).SetServerSelectionTimeout(2 * time.Second)
	if p.user != "" {
		o.SetAuth(options.Credential{Username: p.user, Password: p.password})
	}
	return o
}

// faulty fails calls of servers: the n-th that all together make.
type faulty struct {
	target.Server
	f *faults
}

type faults struct {
	mu    sync.Mutex
	n     int  // the call that fails, from 1; 0: none
	after bool // it happened, its answer is lost
	calls int
	hit   func() // when it fails
}

var errLost = errors.New("the connection was reset")

func (s *faulty) Run(ctx context.Context, db string, cmd any) (bson.Raw, error) {
	s.f.mu.Lock()
	s.f.calls++
	mine := s.f.calls == s.f.n
	after, hit := s.f.after, s.f.hit
	s.f.mu.Unlock()
	if !mine {
		return s.Server.Run(ctx, db, cmd)
	}
	if after {
		if raw, err := s.Server.Run(ctx, db, cmd); err != nil {
			return raw, err
		}
	}
	if hit != nil {
		hit()
	}
	return nil, errLost
}

// pause passes time at once, but for what tells and waits, which would spin.
func pause(ctx context.Context, d time.Duration) bool {
	return call.Pause(ctx, min(d, 20*time.Millisecond))
}

const restoreID = "5f0000000000000000000f11"

func (w *world) options(h *heartwood, f *faults, dir string) Options {
	connect := target.Connect(plain{})
	return Options{
		Task: wire.PushTask{Restore: restoreID, SetName: "rs0", Hosts: w.hosts}, Heartwood: h, Dir: dir, AgentID: "a", Session: "s", Pause: pause,
		Connect: func(host wire.Host) (target.Server, error) {
			s, err := connect(host)
			if err != nil || f == nil {
				return s, err
			}
			return &faulty{s, f}, nil
		},
	}
}

// run carries a push out to its end.
func (w *world) run(o Options) {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), time.Minute)
	defer stop()
	Run(ctx, o)
	if ctx.Err() != nil {
		w.t.Fatal("the restore did not end within a minute")
	}
}

// held is what a collection or view holds.
type held struct {
	Type    string
	Docs    []string // extended JSON, in the order of insertion for capped collections, else sorted
	Indexes []string // names
}

// holds reads everything of the target but what servers keep themselves.
func (w *world) holds() map[string]held {
	w.t.Helper()
	ctx := w.t.Context()
	out := map[string]held{}
	dbs, err := w.client.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, db := range dbs {
		if db == "local" || db == "config" {
			continue
		}
		specs, err := w.client.Database(db).ListCollectionSpecifications(ctx, bson.D{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range specs {
			if strings.HasPrefix(s.Name, "system.views") || strings.HasPrefix(s.Name, dump.Buckets) || db == "admin" && s.Name != "tempusers" && s.Name != "temproles" {
				continue
			}
			x := held{Type: s.Type}
			cur, err := w.client.Database(db).Collection(s.Name).Find(ctx, bson.D{})
			if err != nil {
				w.t.Fatal(err)
			}
			for cur.Next(ctx) {
				text, err := bson.MarshalExtJSON(cur.Current, true, false)
				if err != nil {
					w.t.Fatal(err)
				}
				x.Docs = append(x.Docs, string(text))
			}
			if err := cur.Err(); err != nil {
				w.t.Fatal(err)
			}
			if capped, err := s.Options.LookupErr("capped"); err != nil || !capped.Boolean() {
				slices.Sort(x.Docs)
			}
			if s.Type == dump.Collection {
				list, err := w.client.Database(db).Collection(s.Name).Indexes().ListSpecifications(ctx)
				if err != nil {
					w.t.Fatal(err)
				}
				for _, i := range list {
					x.Indexes = append(x.Indexes, i.Name)
				}
				slices.Sort(x.Indexes)
			}
			out[db+"."+s.Name] = x
		}
	}
	return out
}

func (w *world) wants(want map[string]held) {
	w.t.Helper()
	if d := cmp.Diff(want, w.holds()); d != "" {
		w.t.Errorf("the target (-want +got):\n%s", d)
	}
}

// clear drops everything.
func (w *world) clear() {
	w.t.Helper()
	dbs, err := w.client.ListDatabaseNames(w.t.Context(), bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, db := range dbs {
		if db == "local" || db == "config" || db == "admin" {
			continue
		}
		if err := w.client.Database(db).Drop(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func texts(t testing.TB, docs []bson.Raw, sorted bool) (out []string) {
	t.Helper()
	for _, d := range docs {
		text, err := bson.MarshalExtJSON(d, true, false)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	if sorted {
		slices.Sort(out)
	}
	return out
}

func numbered(t testing.TB, n int, text string) (docs []bson.Raw) {
	t.Helper()
	for i := range n {
		docs = append(docs, doc(t, bson.D{{Key: "_id", Value: int32(i)}, {Key: "n", Value: fmt.Sprintf("%s %d", text, i)}}))
	}
	return docs
}
