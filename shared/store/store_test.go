package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

const things = "things"

type thing struct {
	N    int64    `bson:"n"`
	Tags []string `bson:"tags,omitempty"`
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock is an engine's time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func openAt(t testing.TB, c *clock) *store.Store {
	t.Helper()
	e := storetest.Break(storetest.Engine(t), storetest.Refuse, 0)
	e.SetClock(c.Now)
	return storetest.OpenOn(t, e, docstore.Collection{Name: things})
}

func open(t testing.TB) *store.Store {
	t.Helper()
	return storetest.Open(t, docstore.Collection{Name: things})
}

func TestDocumentsComeAndGo(t *testing.T) {
	s, ctx := open(t), t.Context()
	if _, err := store.Get[thing](ctx, s, things, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("nothing there: %v", err)
	}
	must(t, store.Insert(ctx, s, things, "a", thing{N: 1}))
	if err := store.Insert(ctx, s, things, "a", thing{N: 2}); !errors.Is(err, store.ErrExists) {
		t.Fatalf("taken: %v", err)
	}
	must(t, store.Update(ctx, s, things, "a", func(v *thing) error { v.N++; return nil }))
	must(t, store.Update(ctx, s, things, "a", func(v *thing) error { v.N = 99; return store.ErrUnchanged }))
	mine := errors.New("mine")
	if err := store.Update(ctx, s, things, "a", func(*thing) error { return mine }); !errors.Is(err, mine) {
		t.Fatalf("an error of the change: %v", err)
	}
	if err := store.Update(ctx, s, things, "b", func(*thing) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update of nothing: %v", err)
	}
	must(t, store.Upsert(ctx, s, things, "b", func(v *thing, exists bool) error {
		if exists {
			t.Error("it does not exist")
		}
		v.N = 7
		return nil
	}))
	must(t, store.Put(ctx, s, things, "c", thing{N: 3}))
	var sum int64
	for v, err := range store.ScanAll[thing](ctx, s, docstore.Query{Collection: things, Limit: 2}) {
		must(t, err)
		sum += v.N
	}
	if sum != 2+7+3 {
		t.Fatalf("sum %d", sum)
	}
	must(t, s.Delete(ctx, things, "a"))
	must(t, s.Delete(ctx, things, "a"))
	first, err := store.First[thing](ctx, s, docstore.Query{Collection: things})
	must(t, err)
	if first.N != 7 {
		t.Fatalf("first %+v", first)
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct{ prefix, to string }{{"a/", "a0"}, {"a\xff", "b"}, {"\xff\xff", ""}} {
		if from, to := store.Under(c.prefix); from != c.prefix || to != c.to {
			t.Errorf("Under(%q) = %q, %q", c.prefix, from, to)
		}
	}
	s := open(t)
	if _, err := s.DeleteUnder(t.Context(), things, "", 10); err == nil {
		t.Error("an empty prefix deletes everything")
	}
}

func TestWriteSplitsAndJoinsErrors(t *testing.T) {
	s, ctx := open(t), t.Context()
	ops := make([]docstore.Op, docstore.MaxBatch+5)
	for i := range ops {
		op, err := store.PutOp(things, fmt.Sprintf("%06d", i), thing{N: int64(i)})
		must(t, err)
		ops[i] = op
	}
	must(t, s.Write(ctx, ops...))
	n, err := s.Engine().Count(ctx, docstore.Query{Collection: things}, 1e6)
	must(t, err)
	if n != len(ops) {
		t.Fatalf("%d of %d", n, len(ops))
	}
	taken, err := store.InsertOp(things, "000001", thing{})
	must(t, err)
	fresh, err := store.InsertOp(things, "new", thing{})
	must(t, err)
	gone := docstore.Op{Kind: docstore.Replace, Collection: things, ID: "none", Rev: 5, Body: fresh.Body}
	err = s.Write(ctx, taken, fresh, gone)
	if !errors.Is(err, store.ErrExists) || !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("both should be told: %v", err)
	}
	if _, err := store.Get[thing](ctx, s, things, "new"); err != nil {
		t.Fatalf("the good one of the batch: %v", err)
	}
	if err := s.WriteOnce(ctx, taken, gone); errors.Is(err, store.ErrExists) || !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("WriteOnce: %v", err)
	}
}

// A lost answer must neither lose nor double an update: counting is not idempotent, so it shows.
func TestALostAnswerDoesNotCountTwice(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Blink, storetest.Miss} {
		e := storetest.Engine(t)
		s := storetest.OpenOn(t, e, docstore.Collection{Name: things})
		must(t, store.Put(t.Context(), s, things, "a", thing{N: 1}))
		s = storetest.OpenOn(t, storetest.Break(e, fault, 1), docstore.Collection{Name: things})
		must(t, store.Update(t.Context(), s, things, "a", func(v *thing) error { v.N++; return nil }))
		got, err := store.Get[thing](t.Context(), s, things, "a")
		must(t, err)
		if got.N != 2 {
			t.Errorf("fault %d: counted to %d", fault, got.N)
		}

		s = storetest.OpenOn(t, storetest.Break(e, fault, 1), docstore.Collection{Name: things})
		must(t, store.Insert(t.Context(), s, things, "b", thing{N: 5}))
		s = storetest.OpenOn(t, storetest.Break(e, fault, 1), docstore.Collection{Name: things})
		if err := store.Insert(t.Context(), s, things, "b", thing{N: 6}); !errors.Is(err, store.ErrExists) {
			t.Errorf("fault %d: somebody else's document was taken for ours: %v", fault, err)
		}
		s = storetest.OpenOn(t, storetest.Break(e, fault, 1), docstore.Collection{Name: things})
		must(t, store.Upsert(t.Context(), s, things, "c", func(v *thing, _ bool) error { v.N++; return nil }))
		if got, err = store.Get[thing](t.Context(), s, things, "c"); err != nil || got.N != 1 {
			t.Errorf("fault %d: upsert gave %+v, %v", fault, got, err)
		}
	}
}

func openWith(t *testing.T, e docstore.Engine, key string, migrations ...store.Migration) (*store.Store, error) {
	t.Helper()
	box, err := seal.New([]byte(key))
	must(t, err)
	return store.Open(t.Context(), store.Options{
		Engine: e, Box: box, Version: fmt.Sprintf("0.%d", len(migrations)+1), Migrations: migrations,
		Collections: []docstore.Collection{{Name: things}},
	})
}

func wantRefusal(t *testing.T, err error, words ...string) {
	t.Helper()
	var refusal *opererr.Error
	if !errors.As(err, &refusal) || refusal.Hint == "" {
		t.Fatalf("want a refusal with a hint, got %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not mention %q", err, w)
		}
	}
}

func TestAnotherKeyIsRefused(t *testing.T) {
	e := storetest.Engine(t)
	must(t, store.CheckNoKey(t.Context(), e, "/x/gen.key")) // nothing there yet: a key may be made
	s, err := openWith(t, e, storetest.GenKey)
	must(t, err)
	_, err = openWith(t, e, "another key of 24 bytes.")
	wantRefusal(t, err, "gen.key", s.Box().Fingerprint())
	wantRefusal(t, store.CheckNoKey(t.Context(), e, "/x/gen.key"), "/x/gen.key", "initialised", s.Box().Fingerprint())
	if _, err := openWith(t, e, storetest.GenKey); err != nil {
		t.Fatal(err)
	}
}

func TestManyOpenANewDatabaseAtOnce(t *testing.T) {
	e := storetest.Engine(t)
	var wg sync.WaitGroup
	ids := make([]model.ID, 8)
	for i := range ids {
		wg.Go(func() {
			s, err := openWith(t, e, storetest.GenKey)
			if err != nil {
				t.Error(err)
				return
			}
			site, err := s.Site(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = site.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("they opened different sites: %v", ids)
		}
	}
}

// grow is a migration that adds one to every thing that it did not add to yet, one document a write.
func grow(version, minReader int) store.Migration {
	tag := fmt.Sprintf("v%d", version)
	return store.Migration{Version: version, Name: "grow", MinReader: minReader, Run: func(ctx context.Context, s *store.Store) error {
		for doc, err := range s.Docs(ctx, docstore.Query{Collection: things}) {
			if err != nil {
				return err
			}
			err := store.Update(ctx, s, things, doc.ID, func(v *thing) error {
				for _, have := range v.Tags {
					if have == tag {
						return store.ErrUnchanged
					}
				}
				v.N++
				v.Tags = append(v.Tags, tag)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

func old(t *testing.T) docstore.Engine {
	t.Helper()
	e := storetest.Engine(t)
	makeOld(t, e)
	return e
}

func makeOld(t *testing.T, e docstore.Engine) {
	t.Helper()
	s, err := openWith(t, e, storetest.GenKey)
	must(t, err)
	for i := range 3 {
		must(t, store.Put(t.Context(), s, things, fmt.Sprint(i), thing{}))
	}
}

func TestMigrationsEndWhateverBreaks(t *testing.T) {
	migrations := []store.Migration{grow(2, 0), grow(3, 3)}
	c := &clock{now: t0}
	with := func(e docstore.Engine) docstore.Engine {
		f := storetest.Break(e, storetest.Refuse, 0)
		f.SetClock(c.Now)
		return f
	}
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) { makeOld(t, e) }), func(t *testing.T, e docstore.Engine) error {
		e.(*storetest.Faulty).SetClock(c.Now)
		_, err := openWith(t, e, storetest.GenKey, migrations...)
		return err
	}, func(t *testing.T, e docstore.Engine, failed error) {
		c.Advance(time.Hour) // a lease of the dead one runs out
		s, err := openWith(t, with(e), storetest.GenKey, migrations...)
		must(t, err)
		for v, err := range store.ScanAll[thing](t.Context(), s, docstore.Query{Collection: things}) {
			must(t, err)
			if v.N != 2 {
				t.Errorf("a thing was grown %d times, want 2", v.N)
			}
		}
		site, err := s.Site(t.Context())
		must(t, err)
		if site.Schema != 3 || site.MinReader != 3 || site.By != "0.3" {
			t.Errorf("site %+v", site)
		}
	})
}

func TestSeveralServersMigrateOnce(t *testing.T) {
	e := old(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			box, err := seal.New([]byte(storetest.GenKey))
			if err == nil {
				_, err = store.Open(t.Context(), store.Options{
					Engine: e, Box: box, Migrations: []store.Migration{grow(2, 0)}, Collections: []docstore.Collection{{Name: things}},
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := openWith(t, e, storetest.GenKey, grow(2, 0))
	must(t, err)
	for v, err := range store.ScanAll[thing](t.Context(), s, docstore.Query{Collection: things}) {
		must(t, err)
		if v.N != 1 {
			t.Errorf("a thing was grown %d times", v.N)
		}
	}
}

func TestASchemaTooNewIsRefused(t *testing.T) {
	e := old(t)
	before, err := openWith(t, e, storetest.GenKey)
	must(t, err)
	must(t, before.Register(t.Context(), model.Instance{ID: "i1"}))

	_, err = openWith(t, e, storetest.GenKey, grow(2, 0)) // older binaries can still read that
	must(t, err)
	if _, err := openWith(t, e, storetest.GenKey); err != nil {
		t.Fatalf("an older binary beside it: %v", err)
	}
	must(t, before.Heartbeat(t.Context(), "i1"))

	_, err = openWith(t, e, storetest.GenKey, grow(2, 0), grow(3, 3))
	must(t, err)
	_, err = openWith(t, e, storetest.GenKey, grow(2, 0))
	wantRefusal(t, err, "minReader is 3", "knows schema 2", "newer heartwood")
	wantRefusal(t, before.Heartbeat(t.Context(), "i1"), "minReader is 3")
}

func TestMinReaderIsRaisedBeforeTheMigrationWrites(t *testing.T) {
	e := old(t)
	broken := store.Migration{Version: 2, Name: "broken", MinReader: 2, Run: func(context.Context, *store.Store) error {
		return errors.New("half way")
	}}
	_, err := openWith(t, e, storetest.GenKey, broken)
	wantRefusal(t, err, "half way", "broken")
	_, err = openWith(t, e, storetest.GenKey)
	wantRefusal(t, err, "minReader is 2")
}

func TestMigrationVersionsMustFollowEachOther(t *testing.T) {
	if _, err := openWith(t, storetest.Engine(t), storetest.GenKey, grow(3, 0)); err == nil {
		t.Fatal("a gap was taken")
	}
}

func TestAnUnfinishedCopyIsRefused(t *testing.T) {
	e, ctx := storetest.Engine(t), t.Context()
	box := storetest.Box(t)
	site := store.Site{ID: "aa", Fingerprint: box.Fingerprint(), Schema: store.BaseSchema, MinReader: store.BaseSchema}
	must(t, store.BeginCopy(ctx, e, site, false))
	must(t, store.BeginCopy(ctx, e, site, false))
	wantRefusal(t, store.BeginCopy(ctx, e, store.Site{ID: "bb"}, true), "aa")
	_, err := openWith(t, e, storetest.GenKey)
	wantRefusal(t, err, "not completed")
	must(t, store.EndCopy(ctx, e, site))
	_, err = openWith(t, e, storetest.GenKey)
	must(t, err)
	wantRefusal(t, store.BeginCopy(ctx, e, store.Site{ID: "bb"}, true), "another site")
	wantRefusal(t, store.BeginCopy(ctx, e, site, false), "complete copy")
	must(t, store.BeginCopy(ctx, e, site, true))
}

func TestLeasesExcludeAndRunOut(t *testing.T) {
	c := &clock{now: t0}
	s, ctx := openAt(t, c), t.Context()
	a, ok, err := s.Lease(ctx, "job", "a", time.Minute)
	must(t, err)
	if !ok || a.Token != 1 {
		t.Fatalf("first: %v, token %d", ok, a.Token)
	}
	for _, holder := range []string{"b", "a"} {
		if _, ok, err := s.Lease(ctx, "job", holder, time.Minute); ok || err != nil {
			t.Fatalf("%s got a held lease: %v", holder, err)
		}
	}
	c.Advance(50 * time.Second)
	must(t, a.Renew(ctx))
	c.Advance(50 * time.Second)
	if _, ok, _ := s.Lease(ctx, "job", "b", time.Minute); ok {
		t.Fatal("a renewed lease was taken")
	}
	c.Advance(10 * time.Second)
	must(t, a.Renew(ctx)) // it had run out in this moment, but nobody took it
	c.Advance(2 * time.Minute)
	b, ok, err := s.Lease(ctx, "job", "b", time.Minute)
	must(t, err)
	if !ok || b.Token != 2 {
		t.Fatalf("after it ran out: %v, token %d", ok, b.Token)
	}
	if err := a.Renew(ctx); !errors.Is(err, store.ErrLeaseLost) {
		t.Fatalf("the first renews: %v", err)
	}
	must(t, a.Release(ctx)) // no effect on b's
	if _, ok, _ := s.Lease(ctx, "job", "c", time.Minute); ok {
		t.Fatal("the first released the second's lease")
	}
	must(t, b.Release(ctx))
	if got, ok, _ := s.Lease(ctx, "job", "c", time.Minute); !ok || got.Token != 3 {
		t.Fatalf("after release: %v, token %d", ok, got.Token)
	}
}

func TestAHolderTakesItsLeaseAgain(t *testing.T) {
	s, ctx := openAt(t, &clock{now: t0}), t.Context()
	before, _, err := s.Lease(ctx, "job", "a", time.Minute)
	must(t, err)
	if _, ok, err := s.LeaseAgain(ctx, "job", "b", time.Minute); ok || err != nil {
		t.Fatalf("another holder got it: %v", err)
	}
	got, ok, err := s.LeaseAgain(ctx, "job", "a", time.Minute)
	must(t, err)
	if !ok || got.Token != before.Token+1 {
		t.Fatalf("%v, token %d after %d", ok, got.Token, before.Token)
	}
	if err := before.Renew(ctx); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("the process before renews: %v", err)
	}
}

func TestOneOfManyGetsTheLease(t *testing.T) {
	s, ctx := open(t), t.Context()
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			_, ok, err := s.Lease(ctx, "job", "same holder", time.Minute)
			if err != nil {
				t.Error(err)
			}
			if ok {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d got it", won)
	}
}

func TestALeaseWhoseAnswerWasLostIsHeld(t *testing.T) {
	for _, fault := range []storetest.Fault{storetest.Blink, storetest.Miss} {
		e := storetest.Engine(t)
		storetest.OpenOn(t, e)
		s := storetest.OpenOn(t, storetest.Break(e, fault, 1))
		l, ok, err := s.Lease(t.Context(), "job", "a", time.Minute)
		must(t, err)
		if !ok || l.Token != 1 {
			t.Fatalf("fault %d: %v, token %d", fault, ok, l.Token)
		}
		must(t, l.Renew(t.Context()))
	}
}

func TestKeepEndsTheContextWhenTheLeaseIsLost(t *testing.T) {
	s, ctx := open(t), t.Context()
	l, _, err := s.Lease(ctx, "job", "a", 90*time.Millisecond)
	must(t, err)
	kept, stop := l.Keep(ctx)
	defer stop()
	must(t, s.Delete(ctx, "leases", "job"))
	<-kept.Done()
	if !errors.Is(context.Cause(kept), store.ErrLeaseLost) {
		t.Fatalf("cause %v", context.Cause(kept))
	}
}

func TestPassesRunWhenDue(t *testing.T) {
	s, ctx := open(t), t.Context()
	ran := 0
	var answer store.PassReport
	var fail error
	run := func(after time.Duration) store.PassState {
		t.Helper()
		state, err := s.RunPass(ctx, "rollup", time.Minute, t0.Add(after), func(context.Context, time.Time) (store.PassReport, error) {
			ran++
			return answer, fail
		})
		if err != nil && !errors.Is(err, fail) {
			t.Fatal(err)
		}
		return state
	}
	want := func(state store.PassState, ranNow bool, total int) {
		t.Helper()
		if state.Ran != ranNow || ran != total {
			t.Fatalf("ran %v (%d in all), want %v (%d)", state.Ran, ran, ranNow, total)
		}
	}
	answer.Done = 5
	want(run(0), true, 1)
	want(run(30*time.Second), false, 1)
	state := run(58 * time.Second) // a ticker that is a little early
	want(state, true, 2)
	if state.Late != 0 || state.Report.Done != 5 || state.Runs != 2 {
		t.Fatalf("state %+v", state)
	}
	state = run(178 * time.Second)
	want(state, true, 3)
	if state.Late != time.Minute {
		t.Fatalf("late %v", state.Late)
	}
	answer.More = true
	want(run(5*time.Minute), true, 4)
	want(run(5*time.Minute), true, 5) // there was more to do
	answer.More, fail = false, errors.New("broken")
	state = run(5 * time.Minute)
	want(state, true, 6)
	if state.Failures != 1 || state.Error != "broken" || !state.LastOK.Equal(t0.Add(5*time.Minute)) {
		t.Fatalf("state %+v", state)
	}
	want(run(5*time.Minute+10*time.Second), false, 6) // no busy loop on failure
	fail = nil
	states, err := s.PassStates(ctx)
	must(t, err)
	if len(states) != 1 || states[0].Failures != 1 || states[0].Lateness(t0.Add(10*time.Minute)) != 4*time.Minute {
		t.Fatalf("states %+v", states)
	}
	if state = run(6 * time.Minute); state.Failures != 0 || state.Error != "" {
		t.Fatalf("after recovery %+v", state)
	}
}

func TestAPassIsSingle(t *testing.T) {
	s, ctx := open(t), t.Context()
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := s.RunPass(ctx, "p", time.Minute, t0, func(context.Context, time.Time) (store.PassReport, error) {
			close(inside)
			<-leave
			return store.PassReport{}, nil
		})
		done <- err
	}()
	<-inside
	state, err := s.RunPass(ctx, "p", time.Minute, t0, func(context.Context, time.Time) (store.PassReport, error) {
		t.Error("two at once")
		return store.PassReport{}, nil
	})
	if err != nil || state.Ran {
		t.Fatalf("%+v, %v", state, err)
	}
	close(leave)
	must(t, <-done)
}

func TestAPassCutShortStaysDue(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.RunPass(ctx, "p", time.Minute, t0, func(ctx context.Context, _ time.Time) (store.PassReport, error) {
		cancel() // the server stops
		return store.PassReport{}, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	state, err := s.RunPass(t.Context(), "p", time.Minute, t0.Add(time.Second), func(context.Context, time.Time) (store.PassReport, error) {
		return store.PassReport{}, nil
	})
	if err != nil || !state.Ran || state.Runs != 1 || state.Failures != 0 {
		t.Fatalf("%+v, %v", state, err)
	}
}

func TestSettings(t *testing.T) {
	e := storetest.Engine(t)
	s, ctx := storetest.OpenOn(t, e), t.Context()
	must(t, s.SetSetting(ctx, "mms.centralUrl", "http://a"))
	must(t, s.SetSetting(ctx, "mms.centralUrl", "http://b"))
	must(t, s.SetSecretSetting(ctx, "mms.mail.password", "hush-hush"))
	all, err := s.Settings(ctx)
	must(t, err)
	if len(all) != 2 || all["mms.centralUrl"] != "http://b" || all["mms.mail.password"] != "hush-hush" {
		t.Fatalf("settings %v", all)
	}
	docs, err := e.Get(ctx, "settings", "mms.mail.password")
	must(t, err)
	if strings.Contains(string(docs[0].Body), "hush") {
		t.Fatal("the secret is in the database in clear")
	}
	must(t, s.DeleteSetting(ctx, "mms.centralUrl"))
	if _, err := s.Setting(ctx, "mms.centralUrl"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("deleted: %v", err)
	}
	if err := s.SetSetting(ctx, "", "x"); err == nil {
		t.Fatal("a setting without a key")
	}
}

func TestInstances(t *testing.T) {
	c := &clock{now: t0}
	s, ctx := openAt(t, c), t.Context()
	must(t, s.Register(ctx, model.Instance{ID: "a", Hostname: "one", Role: "server"}))
	must(t, s.Register(ctx, model.Instance{ID: "b", Hostname: "two", Role: "server", Version: "0.9"}))
	c.Advance(90 * time.Second)
	must(t, s.Heartbeat(ctx, "a"))
	c.Advance(time.Minute)
	running, err := s.Running(ctx)
	must(t, err)
	if len(running) != 1 || running[0].ID != "a" || running[0].Version != "test" || running[0].Schema != store.BaseSchema || !running[0].Started.Equal(t0) {
		t.Fatalf("running %+v", running)
	}
	must(t, s.ForgetInstances(ctx, 2*time.Minute))
	all, err := s.Instances(ctx)
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("instances %+v", all)
	}
	must(t, s.Unregister(ctx, "a"))
	if err := s.Heartbeat(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("heartbeat of a forgotten instance: %v", err)
	}
}

func TestADutyDoesNotWaitForAClockThatWentBack(t *testing.T) {
	for name, c := range map[string]struct {
		back time.Duration
		ran  bool
	}{
		"servers whose clocks differ take turns":  {30 * time.Second, false},
		"a clock that was an hour ahead is right": {time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.Open(t)
			run := func(now time.Time) bool {
				state, err := s.RunPass(t.Context(), "p", time.Minute, now, func(context.Context, time.Time) (store.PassReport, error) {
					return store.PassReport{}, nil
				})
				must(t, err)
				return state.Ran
			}
			if !run(t0) {
				t.Fatal("the first one did not run")
			}
			if got := run(t0.Add(-c.back)); got != c.ran {
				t.Errorf("ran %v, want %v", got, c.ran)
			}
			if c.ran && run(t0.Add(30*time.Second-c.back)) {
				t.Error("it ran again before its time")
			}
		})
	}
}
