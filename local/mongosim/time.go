package mongosim

import (
	"context"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
)

// clock is the deployment's wall clock. Virtual, it stands where it was put.
type clock struct {
	mu      sync.Mutex
	virtual bool
	at      time.Time
}

func newClock(start time.Time) *clock { return &clock{virtual: !start.IsZero(), at: start.UTC()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.virtual {
		return c.at
	}
	return time.Now().UTC()
}

func (c *clock) live() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.virtual
}

func (c *clock) set(t time.Time, virtual bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.virtual = t.UTC(), virtual
}

// step is how finely virtual time moves: events within are brought to its end.
const step = 10 * time.Second

// Now is the deployment's present time.
func (d *Deployment) Now() time.Time { return d.clock.now() }

// AdvanceTo moves virtual time to t: no-ops, elections, lag and load of the time between happen, and when it returns every
// member answers as of t. It does nothing when time is live or already later.
func (d *Deployment) AdvanceTo(ctx context.Context, t time.Time) error {
	d.time.Lock()
	defer d.time.Unlock()
	for {
		from := d.clock.now()
		if d.clock.live() || !from.Before(t) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		to := from.Add(step)
		if to.After(t) {
			to = t
		}
		d.clock.set(to, true)
		d.happen(ctx, from, to, d.o.HistoryElectionEvery)
	}
}

// happen does what is due between two moments, and lets the secondaries follow.
func (d *Deployment) happen(ctx context.Context, from, to time.Time, electionEvery time.Duration) {
	if d.o.Workload && from.Truncate(time.Minute) != to.Truncate(time.Minute) {
		d.work(ctx, to)
	}
	if d.set == nil {
		return
	}
	d.scheduledElection(from, to, electionEvery)
	d.set.Tick(ctx)
	for i := range d.members {
		if !d.o.Members[i].Arbiter {
			for d.set.Pull(ctx, i) {
				continue
			}
		}
	}
}

func (d *Deployment) scheduledElection(from, to time.Time, every time.Duration) {
	if len(d.o.Load.Elections(every, from, to)) == 0 {
		return
	}
	if p := d.set.Primary(); p >= 0 {
		if err := d.set.StepDown(p, 20*time.Second, 10*time.Second, false); err != nil {
			d.o.Log.Debug("scheduled election put off", "error", err)
		}
	}
}

// GoLive ends virtual time: from now on the wall clock rules.
func (d *Deployment) GoLive() {
	d.time.Lock()
	defer d.time.Unlock()
	d.clock.set(time.Now(), false)
}

// live does what happens of itself while time is live: scheduled elections and the workload.
func (d *Deployment) live(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	last := d.clock.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !d.clock.live() {
			continue
		}
		now := d.clock.now()
		if last.Before(now.Add(-time.Minute)) { // just gone live
			last = now
		}
		if d.set != nil {
			d.scheduledElection(last, now, d.o.ElectionEvery)
		}
		if d.o.Workload {
			d.work(ctx, now)
		}
		last = now
	}
}

// workDB is the database that the workload writes, and that the load's data is said to be in.
const workDB = "shop"

// work writes a few documents: an insert and an update in a ring of customers and orders, so that the data stay small
// while the oplog moves.
func (d *Deployment) work(ctx context.Context, now time.Time) {
	p := d.Primary()
	if p < 0 {
		return
	}
	eng := d.members[p].engine()
	if eng == nil {
		return
	}
	n := now.Unix()
	s := &engine.Session{ID: -1, Remote: "127.0.0.1:0", AppName: "workload", Since: now, Users: d.internalUsers()}
	for _, cmd := range []bson.D{
		{{Key: "update", Value: "customers"}, {Key: "updates", Value: bson.A{bson.D{
			{Key: "q", Value: bson.D{{Key: "_id", Value: int32(n % 97)}}},
			{Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "seen", Value: bson.NewDateTimeFromTime(now)}}}, {Key: "$inc", Value: bson.D{{Key: "visits", Value: int32(1)}}}}},
			{Key: "upsert", Value: true},
		}}}},
		{{Key: "update", Value: "orders"}, {Key: "updates", Value: bson.A{bson.D{
			{Key: "q", Value: bson.D{{Key: "_id", Value: int32(n % 499)}}},
			{Key: "u", Value: bson.D{{Key: "customer", Value: int32(n % 97)}, {Key: "at", Value: bson.NewDateTimeFromTime(now)}, {Key: "total", Value: float64(n%100) * 1.25}, {Key: "lines", Value: bson.A{"apple", "pear", "plum"}}}},
			{Key: "upsert", Value: true},
		}}}},
	} {
		cmd = append(cmd, bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: int32(1)}}}, bson.E{Key: "$db", Value: workDB})
		raw, err := bson.Marshal(cmd)
		if err != nil {
			d.o.Log.Warn("workload", "error", err)
			return
		}
		if reply := eng.Run(ctx, s, workDB, raw); reply.Lookup("ok").AsFloat64() != 1 { // an election; the next second is another chance
			d.o.Log.Debug("workload", "reply", reply.String())
			return
		}
	}
}

func (d *Deployment) internalUsers() []engine.Principal {
	return []engine.Principal{{Name: "__system", DB: "local", Roles: []engine.Role{{Role: "root", DB: "admin"}}}}
}
