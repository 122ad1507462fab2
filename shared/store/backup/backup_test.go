package backup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

const (
	group   = model.ID("5f0000000000000000000001")
	cluster = model.ID("5f0000000000000000000c01")
)

func at(n int) oplog.OpTime { return oplog.OpTime{TS: bson.Timestamp{T: 1000, I: uint32(n)}, Term: 1} }

func noop(t testing.TB, n int) *oplog.Entry {
	t.Helper()
	raw, err := bson.Marshal(bson.D{
		{Key: "ts", Value: at(n).TS},
		{Key: "t", Value: int64(1)},
		{Key: "v", Value: int64(2)},
		{Key: "op", Value: "n"},
		{Key: "ns", Value: ""},
		{Key: "o", Value: bson.D{{Key: "msg", Value: "x"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := oplog.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// slice covers the positions from..to after a head.
func slice(t testing.TB, h chain.Head, n int64, from, to int) OplogSlice {
	t.Helper()
	b := chain.Begin(string(cluster), n, h.Last, h.Sum)
	for i := from; i <= to; i++ {
		e := noop(t, i)
		if err := b.Add(e, e.Raw); err != nil {
			t.Fatal(err)
		}
	}
	s, _, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return OplogSlice{Slice: *s, Key: history.OplogKey(cluster, n, s.First, s.Sum().String()), Stored: 100, At: t0}
}

func open(t testing.TB, e docstore.Engine) *Backup {
	return New(storetest.OpenOn(t, e, Collections()...))
}

func config() Config {
	return Config{GroupID: group, ClusterID: cluster, SyncSource: "secondary", Schedule: snapshot.Default()}
}

// started has a configuration that is STARTED and a job that a daemon bound with token 1.
func started(t testing.TB, b *Backup) {
	t.Helper()
	ctx := t.Context()
	if _, err := b.SaveConfig(ctx, config(), t0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetStatus(ctx, cluster, model.BackupStarted, t0); err != nil {
		t.Fatal(err)
	}
	err := b.UpdateJobAs(ctx, cluster, 1, func(j *Job) error { j.StoreID, j.Daemon = "main", "d"; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.MarkStarted(ctx, cluster, t0); err != nil {
		t.Fatal(err)
	}
}

func begin(n int64, agent string) Epoch {
	return Epoch{Job: cluster, Number: n, AgentID: agent, ReplicaSetID: "aa", SetName: "rs0", Start: at(1), StartEntry: chain.Digest{1}}
}

// tailing has begun epoch 1 at position 1.
func tailing(t testing.TB, b *Backup) {
	t.Helper()
	started(t, b)
	if _, err := b.BeginEpoch(t.Context(), begin(1, "a"), t0); err != nil {
		t.Fatal(err)
	}
}

func prepared(t testing.TB, fill func(t testing.TB, b *Backup)) func(t *testing.T) docstore.Engine {
	t.Helper()
	return storetest.Prepared(t, func(e docstore.Engine) { fill(t, open(t, e)) })
}

func TestChangeOfStatus(t *testing.T) {
	const (
		inactive, provisioning, started, stopped, terminating = model.BackupInactive, model.BackupProvisioning, model.BackupStarted, model.BackupStopped, model.BackupTerminating
	)
	all := []model.BackupStatus{inactive, provisioning, started, stopped, terminating}
	allowed := map[[2]model.BackupStatus]model.BackupStatus{
		{inactive, started}: provisioning, {stopped, started}: started, {started, stopped}: stopped, {provisioning, stopped}: stopped, {stopped, terminating}: terminating,
	}
	for _, have := range all {
		for _, want := range all {
			c := Config{Status: have}
			err := Change(&c, want, t0)
			to, ok := allowed[[2]model.BackupStatus{have, want}]
			if !ok {
				to = have
			}
			var state *StateError
			if c.Status != to || (err == nil) != ok || err != nil && (!errors.As(err, &state) || !errors.Is(err, ErrState) || err.Error() == "") {
				t.Errorf("%s to %s: %s, %v", have, want, c.Status, err)
			}
			if ok && !c.Changed.Equal(t0) || (c.Status == stopped) != !c.StoppedAt.IsZero() && ok {
				t.Errorf("%s to %s: changed %s, stopped %s", have, want, c.Changed, c.StoppedAt)
			}
		}
	}
}

func TestAConfigurationNamesAllItsFaults(t *testing.T) {
	b := open(t, storetest.Engine(t))
	_, err := b.SaveConfig(t.Context(), Config{
		GroupID: "x", ClusterID: "y", SyncSource: "nowhere", Filter: filter.Include, Namespaces: []string{"admin", "."}, NewPassword: "p",
	}, t0)
	for _, want := range []string{"groupId", "clusterId", "syncSource", "excludedNamespaces", "password", "snapshotIntervalHours", "snapshotRetentionDays"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if !errors.Is(err, docstore.ErrInvalid) {
		t.Errorf("%v is no ErrInvalid", err)
	}
	if _, _, err := FilterOf([]string{"a"}, []string{"b"}); err == nil {
		t.Error("both lists were taken")
	}
	if kind, list, err := FilterOf(nil, []string{"b"}); kind != filter.Include || len(list) != 1 || err != nil {
		t.Errorf("%s %v %v", kind, list, err)
	}
}

func TestSettingsOfABackup(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	c := config()
	c.Username, c.NewPassword = "backup", "geheim"
	saved, err := b.SaveConfig(ctx, c, t0)
	if err != nil || saved.Status != model.BackupInactive || saved.SyncSource != SyncSecondary || strings.Contains(string(saved.Password), "geheim") {
		t.Fatalf("%+v, %v", saved, err)
	}
	if p, err := b.Password(&saved); err != nil || p.Reveal() != "geheim" {
		t.Errorf("the password is %q, %v", p.Reveal(), err)
	}
	c.NewPassword = "" // not given: it stays
	saved, err = b.SaveConfig(ctx, c, t0)
	if p, perr := b.Password(&saved); err != nil || perr != nil || p.Reveal() != "geheim" {
		t.Errorf("the password was lost: %v %v", err, perr)
	}
	c.Username = ""
	if saved, err = b.SaveConfig(ctx, c, t0); err != nil || saved.Password != nil {
		t.Errorf("a password without a user stayed: %v", err)
	}
	other := c
	other.GroupID = "5f0000000000000000000002"
	if _, err := b.SaveConfig(ctx, other, t0); !errors.Is(err, ErrState) {
		t.Errorf("another group took the cluster: %v", err)
	}

	started(t, b)
	c.Filter, c.Namespaces = filter.Exclude, []string{"logs"}
	if _, err := b.SaveConfig(ctx, c, t0); err != nil {
		t.Errorf("a narrower filter: %v", err)
	}
	if j, _ := b.Job(ctx, cluster); j.Resync != nil {
		t.Errorf("a narrower filter asks for %+v", j.Resync)
	}
	c.Filter, c.Namespaces = filter.None, nil
	if _, err := b.SaveConfig(ctx, c, t0); !errors.Is(err, ErrWidened) {
		t.Errorf("a wider filter without consent: %v", err)
	}
	if have, _ := b.Config(ctx, cluster); have.Filter != filter.Exclude {
		t.Error("it was saved all the same")
	}
	c.Resync = true
	if _, err := b.SaveConfig(ctx, c, t0); err != nil {
		t.Errorf("a wider filter with consent: %v", err)
	}
	j, err := b.Job(ctx, cluster)
	if err != nil || j.Resync == nil || !strings.Contains(j.Resync.Why, "filter") {
		t.Errorf("no resync is asked for: %+v %v", j.Resync, err)
	}
}

// TestStatusOnEveryFault: whatever write of a start breaks, doing it again ends in the same state, with one job.
func TestStatusOnEveryFault(t *testing.T) {
	fresh := prepared(t, func(t testing.TB, b *Backup) {
		if _, err := b.SaveConfig(t.Context(), config(), t0); err != nil {
			t.Fatal(err)
		}
	})
	run := func(t *testing.T, e docstore.Engine) error {
		_, err := New(attach(t, e)).SetStatus(t.Context(), cluster, model.BackupStarted, t0)
		return err
	}
	storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, failed error) {
		if failed != nil {
			if err := run(t, e); err != nil && !errors.Is(err, ErrState) {
				t.Fatal(err)
			}
		}
		b := New(attach(t, e))
		c, err := b.Config(t.Context(), cluster)
		jobs, jerr := b.Jobs(t.Context())
		if err != nil || jerr != nil || c.Status != model.BackupProvisioning || len(jobs) != 1 || jobs[0].Stage != StageBinding {
			t.Errorf("%+v %+v %v %v", c, jobs, err, jerr)
		}
	})
}

func attach(t testing.TB, e docstore.Engine) *store.Store {
	t.Helper()
	s, err := store.Attach(store.Options{Engine: e, Box: storetest.Box(t), Version: "test", Collections: Collections()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnEpochBeginsOnce(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	started(t, b)
	if _, err := b.BeginEpoch(ctx, begin(2, "a"), t0); !errors.Is(err, ErrState) {
		t.Errorf("number 2 first: %v", err)
	}
	first, err := b.BeginEpoch(ctx, begin(1, "a"), t0)
	if err != nil || first.Why == "" || first.StoreID != "main" {
		t.Fatalf("%+v %v", first, err)
	}
	if again, err := b.BeginEpoch(ctx, begin(1, "a"), t0.Add(time.Minute)); err != nil || !again.Began.Equal(t0) {
		t.Errorf("the same again: %v, %v", again.Began, err)
	}
	if _, err := b.BeginEpoch(ctx, begin(1, "b"), t0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another agent's: %v", err)
	}
	if _, err := b.BeginEpoch(ctx, begin(2, "a"), t0); !errors.Is(err, ErrState) {
		t.Errorf("one that nobody wants: %v", err)
	}
	if err := b.UpdateJob(ctx, cluster, func(j *Job) error { j.Resync = &Resync{Why: "asked"}; return nil }); err != nil {
		t.Fatal(err)
	}
	second, err := b.BeginEpoch(ctx, begin(2, "a"), t0.Add(time.Hour))
	j, _ := b.Job(ctx, cluster)
	was, _ := b.Epoch(ctx, cluster, 1)
	if err != nil || second.Why != "asked" || j.Epoch != 2 || j.Resync != nil || was.Ended.IsZero() || was.EndedWhy != "asked" {
		t.Errorf("%+v %+v %+v %v", second, j, was, err)
	}
	if err := b.EndEpoch(ctx, cluster, 1, "other", t0); err != nil {
		t.Fatal(err)
	}
	if was, _ = b.Epoch(ctx, cluster, 1); was.EndedWhy != "asked" {
		t.Error("the first reason did not stay")
	}
}

// TestAnEpochLeftHalfBegun: an agent dies between the epoch and the job. The next one gets it as the current one.
func TestAnEpochLeftHalfBegun(t *testing.T) {
	fresh := prepared(t, func(t testing.TB, b *Backup) {
		tailing(t, b)
		if err := b.EndEpoch(t.Context(), cluster, 1, "rolled over", t0); err != nil {
			t.Fatal(err)
		}
	})
	run := func(t *testing.T, e docstore.Engine) error {
		_, err := New(attach(t, e)).BeginEpoch(t.Context(), begin(2, "a"), t0)
		return err
	}
	storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, _ error) {
		b := New(attach(t, e))
		got, err := b.BeginEpoch(t.Context(), begin(2, "b"), t0)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		j, _ := b.Job(t.Context(), cluster)
		now, err := b.Epoch(t.Context(), cluster, 2)
		if err != nil || j.Epoch != 2 || now.AgentID != got.AgentID {
			t.Errorf("job at %d, epoch %+v, %v", j.Epoch, now, err)
		}
	})
}

func TestSlicesAreOneChain(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	late := slice(t, chain.Head{}, 1, 2, 5)
	if _, _, err := b.AddSlice(ctx, late, t0); !errors.Is(err, chain.ErrGap) {
		t.Errorf("a first slice behind the start: %v", err)
	}
	var h chain.Head
	var all []OplogSlice
	for i := range 6 {
		s := slice(t, h, 1, 1+10*i, 10+10*i)
		next, repeated, err := b.AddSlice(ctx, s, t0)
		if err != nil || repeated || next.Last != at(10+10*i) {
			t.Fatalf("slice %d: %+v %v %v", i, next, repeated, err)
		}
		if h, repeated, err = b.AddSlice(ctx, s, t0); err != nil || !repeated || h != next {
			t.Fatalf("slice %d again: %v %v", i, repeated, err)
		}
		all = append(all, s)
	}
	if head, repeated, err := b.AddSlice(ctx, all[2], t0); err != nil || !repeated || head != h {
		t.Errorf("an older one again: %v %v", repeated, err)
	}
	if head, _, err := b.AddSlice(ctx, slice(t, h, 1, 71, 80), t0); err != nil || head.Last != at(80) {
		t.Errorf("positions that a filter or the source left out: %v", err)
	}
	if _, _, err := b.AddSlice(ctx, slice(t, h, 1, 61, 65), t0); !errors.Is(err, chain.ErrOverlap) {
		t.Errorf("another one of the same beginning: %v", err)
	}
	e, _ := b.Epoch(ctx, cluster, 1)
	if e.OplogStored != 700 || !e.HeadWall.Equal(t0) {
		t.Errorf("%d bytes, wall %s", e.OplogStored, e.HeadWall)
	}

	// Reading from any position gives what lies behind it, whole slices, in pages of any size.
	for from := range 82 {
		for _, limit := range []int{1, 2, 100} {
			after := at(from)
			if from == 0 {
				after = oplog.OpTime{}
			}
			got, err := b.Slices(ctx, cluster, 1, after, limit)
			if err != nil {
				t.Fatalf("after %d, %d at most: %v", from, limit, err)
			}
			want := 0
			for _, s := range append(all, *e.Last) {
				if after.Before(s.Slice.Last) && want < limit {
					if want >= len(got) || got[want].Slice != s.Slice {
						t.Fatalf("after %d, %d at most: slice %d is missing", from, limit, want)
					}
					want++
				}
			}
			if len(got) != want {
				t.Fatalf("after %d, %d at most: %d slices, want %d", from, limit, len(got), want)
			}
		}
	}

	keys, err := b.ExpireSlices(ctx, cluster, 1, at(31), 2)
	if diff := cmp.Diff([]string{all[0].Key, all[1].Key}, keys); err != nil || diff != "" {
		t.Errorf("expired: %s %v", diff, err)
	}
	if _, err := b.Slices(ctx, cluster, 1, at(15), 10); !errors.Is(err, ErrExpired) {
		t.Errorf("what expired: %v", err)
	}
	if got, err := b.Slices(ctx, cluster, 1, at(20), 10); err != nil || len(got) != 5 {
		t.Errorf("what is left: %d %v", len(got), err)
	}
	keys, err = b.ExpireSlices(ctx, cluster, 1, at(31), 10)
	if err != nil || len(keys) != 1 {
		t.Errorf("the rest: %v %v", keys, err)
	}
	for range 3 {
		if keys, err = b.ExpireSlices(ctx, cluster, 1, at(1000), 10); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 0 {
		t.Errorf("the last slice of an open epoch went: %v", keys)
	}
	if next := slice(t, e.Head, 1, 81, 90); true {
		if _, _, err := b.AddSlice(ctx, next, t0); err != nil {
			t.Errorf("after everything expired: %v", err)
		}
	}
	if err := b.EndEpoch(ctx, cluster, 1, "done", t0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.AddSlice(ctx, slice(t, e.Head, 1, 81, 90), t0); err != nil {
		t.Errorf("a repetition after the end: %v", err)
	}
	e, _ = b.Epoch(ctx, cluster, 1)
	if _, _, err := b.AddSlice(ctx, slice(t, e.Head, 1, 91, 99), t0); !errors.Is(err, ErrEnded) {
		t.Errorf("a slice after the end: %v", err)
	}
	gone := 0
	for {
		keys, err := b.ExpireSlices(ctx, cluster, 1, at(1000), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		gone += len(keys)
	}
	if gone != 2 {
		t.Errorf("%d slices went, want the last two", gone)
	}
	if err := b.DeleteEpoch(ctx, cluster, 1); err != nil {
		t.Errorf("delete the epoch: %v", err)
	}
}

// TestASliceOnEveryFault: whatever write breaks, the slice is there once afterwards or not at all, and sending it again makes it so.
func TestASliceOnEveryFault(t *testing.T) {
	var second OplogSlice
	fresh := prepared(t, func(t testing.TB, b *Backup) {
		tailing(t, b)
		h, _, err := b.AddSlice(t.Context(), slice(t, chain.Head{}, 1, 1, 10), t0)
		if err != nil {
			t.Fatal(err)
		}
		second = slice(t, h, 1, 11, 20)
	})
	run := func(t *testing.T, e docstore.Engine) error {
		_, _, err := New(attach(t, e)).AddSlice(t.Context(), second, t0)
		return err
	}
	storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, failed error) {
		b := New(attach(t, e))
		got, err := b.Slices(t.Context(), cluster, 1, oplog.OpTime{}, 10)
		if err != nil || len(got) < 1 || failed == nil && len(got) != 2 {
			t.Errorf("after the fault: %d slices, %v", len(got), err)
		}
		if _, _, err := b.AddSlice(t.Context(), second, t0); err != nil {
			t.Fatal(err)
		}
		if got, err = b.Slices(t.Context(), cluster, 1, oplog.OpTime{}, 10); err != nil || len(got) != 2 {
			t.Errorf("after sending it again: %d slices, %v", len(got), err)
		}
	})
}

// TestServersExcludeEachOther: several agents that all believe to be the active one post slices of their own cutting, each through
// two servers at once, while others expire. What is stored is one chain, every acknowledgement is kept, nothing counts twice.
func TestServersExcludeEachOther(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			e := storetest.Engine(t)
			tailing(t, open(t, e))
			var mu sync.Mutex
			acked := map[chain.Digest]chain.Slice{}
			var wg sync.WaitGroup
			for agent := range 4 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(agent)))
					servers := []*Backup{New(attach(t, e)), New(attach(t, e))}
					for range 25 {
						have, err := servers[0].Epoch(t.Context(), cluster, 1)
						if err != nil {
							t.Error(err)
							return
						}
						from := int(have.Head.Last.TS.I) + 1
						s := slice(t, have.Head, 1, from, from+rnd.IntN(5))
						var both sync.WaitGroup
						for _, server := range servers {
							both.Go(func() {
								_, _, err := server.AddSlice(t.Context(), s, t0)
								switch {
								case err == nil:
									mu.Lock()
									acked[s.Slice.Sum()] = s.Slice
									mu.Unlock()
								case !errors.Is(err, chain.ErrOverlap):
									t.Errorf("%v", err)
								}
							})
						}
						both.Wait()
					}
				})
			}
			wg.Wait()
			b := New(attach(t, e))
			stored := map[chain.Digest]bool{}
			var after oplog.OpTime
			for {
				page, err := b.Slices(t.Context(), cluster, 1, after, 7)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for _, s := range page {
					if s.Slice.After != after {
						t.Fatalf("%s follows %s, not %s", s.Slice.ID(), s.Slice.After, after)
					}
					stored[s.Slice.Sum()], after = true, s.Slice.Last
				}
			}
			if len(acked) == 0 || len(stored) != len(acked) {
				t.Errorf("%d slices are stored, %d were acknowledged", len(stored), len(acked))
			}
			for sum, s := range acked {
				if !stored[sum] {
					t.Errorf("%s was acknowledged and is not there", s.ID())
				}
			}
		})
	}
}
