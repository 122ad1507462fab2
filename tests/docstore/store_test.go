package docstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var day0 = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// servers are several servers' stores on one database.
type servers struct {
	*testing.T
	stores  []*store.Store
	engines []docstore.Engine
}

func openServers(t *testing.T, sim *mongosim.Deployment, n int) *servers {
	t.Helper()
	d := newDeployment(t, sim.URI())
	s := &servers{T: t}
	database := "heartwood_" + string(model.NewID())
	for range n {
		e := d.connect(t, mongodoc.Options{URI: sim.URI(), Database: database})
		st, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		s.stores, s.engines = append(s.stores, st), append(s.engines, e)
	}
	return s
}

// elect takes the primary away twice: once it steps down, once it is killed.
func elect(t *testing.T, sim *mongosim.Deployment) {
	t.Helper()
	steps := []func() error{
		func() error { return sim.StepDown(t.Context()) },
		func() error { return sim.WaitPrimary(t.Context()) },
	}
	for _, do := range steps {
		if err := do(); err != nil {
			t.Error(err)
			return
		}
	}
	killed := sim.Primary()
	for _, do := range []func() error{
		func() error { return sim.Kill(killed) }, func() error { return sim.WaitPrimary(t.Context()) }, func() error { return sim.Restart(killed) },
	} {
		if err := do(); err != nil {
			t.Error(err)
			return
		}
	}
}

// through calls work over and over, from several goroutines of each server, until elections have come and gone and each has
// been through it a few times more. A call may fail while there is no primary, but not afterwards.
func (s *servers) through(sim *mongosim.Deployment, each int, work func(ctx context.Context, server, worker int) error) {
	s.Helper()
	over := make(chan struct{})
	var wg sync.WaitGroup
	var failures atomic.Int64
	for server := range s.stores {
		for worker := range each {
			wg.Go(func() {
				for after := 0; after < 3; {
					err := work(s.Context(), server, worker)
					select {
					case <-over:
						after++
						if err != nil && after > 1 {
							s.Errorf("after the elections: %v", err)
						}
					default:
					}
					switch {
					case err == nil:
					case errors.Is(err, docstore.ErrUnavailable), errors.Is(err, docstore.ErrOutcomeUnknown):
						failures.Add(1)
					default:
						s.Errorf("work: %v", err)
						return
					}
				}
			})
		}
	}
	elect(s.T, sim)
	close(over)
	wg.Wait()
	s.Logf("%d calls failed meanwhile", failures.Load())
}

// TestStoreThroughElections: what several servers rely on to be single, once or complete stays so while the primary changes.
func TestStoreThroughElections(t *testing.T) {
	sim := startSim(t)

	t.Run("leases exclude", func(t *testing.T) {
		s := openServers(t, sim, 2)
		var holders, highest, granted atomic.Int64
		s.through(sim, 3, func(ctx context.Context, server, worker int) error {
			l, ok, err := s.stores[server].Lease(ctx, "job", fmt.Sprint(server, worker), 5*time.Second)
			if err != nil || !ok {
				return err
			}
			if n := holders.Add(1); n > 1 {
				t.Errorf("%d hold it", n)
			}
			if last := highest.Swap(l.Token); l.Token <= last {
				t.Errorf("token %d after %d", l.Token, last)
			}
			granted.Add(1)
			holders.Add(-1)
			return l.Release(ctx)
		})
		if granted.Load() < 3 {
			t.Errorf("granted %d times", granted.Load())
		}
	})

	t.Run("passes are single", func(t *testing.T) {
		s := openServers(t, sim, 2)
		var running, runs atomic.Int64
		s.through(sim, 2, func(ctx context.Context, server, _ int) error {
			_, err := s.stores[server].RunPass(ctx, "duty", time.Millisecond, time.Now(), func(context.Context, time.Time) (store.PassReport, error) {
				if n := running.Add(1); n > 1 {
					t.Errorf("%d at once", n)
				}
				runs.Add(1)
				running.Add(-1)
				return store.PassReport{Done: 1}, nil
			})
			return err
		})
		states, err := s.stores[0].PassStates(t.Context())
		if err != nil || len(states) != 1 || states[0].Runs == 0 || states[0].Runs > runs.Load() {
			t.Errorf("%d runs, states %+v, %v", runs.Load(), states, err)
		}
	})

	t.Run("one agent of a group is active", func(t *testing.T) {
		s := openServers(t, sim, 2)
		group := model.ID("0123456789abcdef01234567")
		var mu sync.Mutex
		active := map[int64]string{} // by round
		var round atomic.Int64
		s.through(sim, 3, func(ctx context.Context, server, worker int) error {
			n := round.Load()
			id := fmt.Sprintf("agent%d.%d", server, worker)
			yes, _, err := inventory.New(s.stores[server]).ClaimActive(ctx, group, id, "s", day0.Add(time.Duration(n)*time.Hour), 2*time.Minute)
			if err != nil || !yes {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if have := active[n]; have != "" && have != id {
				t.Errorf("round %d: %s and %s are active", n, have, id)
			}
			active[n] = id
			round.CompareAndSwap(n, n+1) // an hour of silence: anybody may take over
			return nil
		})
		if len(active) < 3 {
			t.Errorf("%d rounds", len(active))
		}
	})

	t.Run("the first user is one", func(t *testing.T) {
		s := openServers(t, sim, 2)
		var made atomic.Int64
		s.through(sim, 2, func(ctx context.Context, server, worker int) error {
			name := fmt.Sprintf("user%d.%d", server, worker)
			err := access.New(s.stores[server]).CreateFirstUser(ctx, model.User{ID: model.NewID(), Username: name, Created: day0, PasswordHash: "x"})
			if err == nil {
				made.Add(1)
			}
			if errors.Is(err, store.ErrExists) {
				return nil
			}
			return err
		})
		users, err := access.New(s.stores[0]).Users(t.Context())
		if err != nil || len(users) != 1 || made.Load() > 1 {
			t.Errorf("%d made, %d users, %v", made.Load(), len(users), err)
		}
	})

	t.Run("compaction changes no answer", func(t *testing.T) {
		s := openServers(t, sim, 2)
		now := day0.Add(26 * time.Hour)
		numbers := make([]*series.Series, len(s.engines))
		for i, e := range s.engines {
			var err error
			if numbers[i], err = series.New(series.Options{Engine: e, Now: func() time.Time { return now }, MaxHours: 5}); err != nil {
				t.Fatal(err)
			}
		}
		hosts := make([]model.HostID, 4)
		var ops []docstore.Op
		for h := range hosts {
			hosts[h] = model.HostID(strings.Repeat(fmt.Sprint(h), 32))
			for i := range int64(4 * 60) {
				op, err := numbers[0].RowOp(hosts[h], catalog.Row{
					At: day0.Add(20*time.Hour + time.Duration(i)*time.Minute), UptimeMS: 1000 + i*60_000, Process: "p",
					Cells: []catalog.Cell{{Column: "connections.current", Value: catalog.Int(10 + i%7)}, {Column: "opcounters.insert", Value: catalog.Int(int64(h+1) * i * i)}},
				})
				if err != nil {
					t.Fatal(err)
				}
				ops = append(ops, op)
			}
		}
		if err := s.stores[0].Write(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
		read := func() (all []series.Result) {
			for _, h := range hosts {
				for _, step := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
					r, err := numbers[1].Read(t.Context(), series.Query{
						Host: h, Measurements: []string{"CONNECTIONS", "OPCOUNTER_INSERT"}, From: day0.Add(20 * time.Hour), To: now, Step: step,
					})
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, r)
				}
			}
			return all
		}
		before := read()
		// Both servers compact, as no lease would let them.
		s.through(sim, 1, func(ctx context.Context, server, _ int) error {
			_, err := numbers[server].Compact(ctx, now)
			if err == nil {
				_, err = numbers[server].Rollup(ctx, now)
			}
			if errors.Is(err, docstore.ErrConflict) || errors.Is(err, docstore.ErrExists) { // who was overtaken has nothing left to do
				return nil
			}
			return err
		})
		for more := true; more; {
			r, err := numbers[0].Compact(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			more = r.More
		}
		if n, err := s.engines[0].Count(t.Context(), docstore.Query{Collection: "series.rows"}, 10_000); err != nil || n != 0 {
			t.Errorf("%d rows are left, %v", n, err)
		}
		if diff := cmp.Diff(before, read(), cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-6, 1e-6)); diff != "" {
			t.Errorf("answers (-before +after):\n%s", diff)
		}
	})
}
