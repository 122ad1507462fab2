package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// soakTime is how long the soak kills: two minutes, or HEARTWOOD_SOAK.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("HEARTWOOD_SOAK")
	if text == "" {
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("HEARTWOOD_SOAK=%s: a duration is wanted, as 30m (%v)", text, err)
	}
	return d
}

// TestSoak kills the server, the backup daemon and the backup agent at random with kill -9, while the replica set is written to
// and elects new primaries, and then restores random seconds of all that time: each equals the model. The site is kept on a
// replica set of its own.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	seed, r := chance(t)
	w := newWorld(t, worldOptions{})
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	first := time.Now()
	elections := w.elect(seed, 40*time.Second)
	w.kill(r, soakTime(t), w.server, w.daemon, w.agent)
	t.Logf("%d elections", elections())
	last := time.Now()
	w.restorable(last)
	end()
	restores := 4
	if soakTime(t) > 10*time.Minute {
		restores = 10
	}
	w.verify(m, w.releases, r, first, last, restores)
}

// TestOneProcess kills the same where server and daemon are one process with the embedded database, for a shorter time, and then
// everything at once, the agents and the replica set, too, as a machine that loses its power: seconds before and after are
// restored as the model says.
func TestOneProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	seed, r := chance(t)
	w := newWorld(t, worldOptions{embedded: true, open: true})
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	first := time.Now()
	w.kill(r, min(30*time.Second, soakTime(t)), w.server, w.agent)
	stopped := time.Now()
	end() // a write whose answer is lost is in no model
	everything := []*part{w.server, w.agent, w.monitoring}
	for _, p := range everything {
		p.kill()
	}
	w.source.KillAll()
	w.source.RestartAll()
	for _, p := range everything {
		p.start()
	}
	w.healthy()
	again := m.begin(t, w.client, seed+1)
	w.tailing()
	m.more(t, 100)
	last := time.Now()
	w.restorable(last)
	again()
	w.verify(m, w.releases, r, first, stopped, 2)
	w.verify(m, w.releases, r, stopped, last, 1)
}

// kill kills parts for some time, and starts each again after a moment.
func (w *world) kill(r *rand.Rand, d time.Duration, parts ...*part) {
	t := w.t
	t.Helper()
	killed := map[string]int{}
	for over := time.Now().Add(d); time.Now().Before(over); {
		pause(t, 3*time.Second+time.Duration(r.Int64N(int64(20*time.Second))))
		p := parts[r.IntN(len(parts))]
		p.kill()
		killed[p.name]++
		pause(t, time.Duration(r.Int64N(int64(3*time.Second))))
		p.start()
		w.healthy()
	}
	var said []string
	for name, n := range killed {
		said = append(said, fmt.Sprintf("%s %d times", name, n))
	}
	t.Logf("killed in %v: %s", d, strings.Join(said, ", "))
}

// elect makes the source elect new primaries, on average that often. What it gives ends that and tells how many there were.
func (w *world) elect(seed uint64, every time.Duration) (end func() int) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a choice
	ctx, stop := context.WithCancel(w.t.Context())
	var n int
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(every/2 + time.Duration(r.Int64N(int64(every)))):
			}
			did, err := w.stepDown(ctx)
			if err != nil && ctx.Err() == nil {
				w.t.Error(err)
				return
			}
			if did {
				n++
			}
		}
	})
	end = func() int {
		stop()
		running.Wait()
		return n
	}
	w.t.Cleanup(func() { end() })
	return end
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.FailNow()
	case <-time.After(d):
	}
}
