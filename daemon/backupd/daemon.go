// Package backupd is the backup daemon: it takes jobs by lease, fills a head with what an agent read, keeps it up with the
// stored oplog, takes snapshots of it and deletes what has expired. What is done next with a job is decided in job, without side
// effects; in work it is carried out, and here jobs find their daemon. Everything a daemon has on its disk can be made again from the store: a daemon that dies is
// replaced by another, and what it writes late is refused, because the token of its lease is no longer the highest.
package backupd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/daemon/backupd/groom"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/daemon/backupd/work"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Restorer carries out restores while jobs run. Its heads take places in the daemon's Slots.
type Restorer interface {
	// Run claims restores for the daemon and carries them out until the context ends.
	Run(ctx context.Context, daemon string) error
}

// Options are what a Daemon is made of.
type Options struct {
	Store  *store.Store
	Backup *backup.Backup
	// Blockstores opens a block store by its id; the caller keeps them open. store.ErrNotFound for one that is not known.
	Blockstores func(ctx context.Context, id string) (blockstore.Store, error)
	Heads       *head.Manager
	Slots       *slot.Slots // of heads that run at once, shared with Restores
	Restores    Restorer    // nil: restores are carried out elsewhere
	// Events keeps events for people; nil drops them.
	Events func(ctx context.Context, events ...model.Event) error

	Root     string // of the heads; ends with /
	Machine  string // name of this machine
	Version  string // of this program
	BasePort int
	Count    int // of heads at once

	MinWindow time.Duration // least oplog window of a source that is no reason to warn
	TakeOver  time.Duration // silence after which another daemon takes a daemon's jobs; 0 means 15 minutes
	LeaseTTL  time.Duration // 0 means a minute
	Poll      time.Duration // how often a job looks for news; 0 means 5 seconds
	Turn      time.Duration // how long a head runs while others wait for its place; 0 means 2 minutes
	Grace     time.Duration // between the two phases of a deletion; 0 means a day, negative none
	Chores    time.Duration // between two looks at what has expired; 0 means 10 minutes

	Now func() time.Time // nil means time.Now
	Log *slog.Logger
	Reg prometheus.Registerer // nil: nothing is measured
}

func (o *Options) validate() error {
	var errs []error
	missing := func(is bool, name string) {
		if is {
			errs = append(errs, errors.New(name+" is missing"))
		}
	}
	missing(o.Store == nil, "Store")
	missing(o.Backup == nil, "Backup")
	missing(o.Blockstores == nil, "Blockstores")
	missing(o.Heads == nil, "Heads")
	missing(o.Slots == nil, "Slots")
	missing(o.Root == "", "Root")
	missing(o.Machine == "", "Machine")
	return errors.Join(errs...)
}

func (o *Options) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.TakeOver, 15*time.Minute)
	set(&o.LeaseTTL, time.Minute)
	set(&o.Poll, 5*time.Second)
	set(&o.Turn, 2*time.Minute)
	set(&o.Chores, 10*time.Minute)
	set(&o.MinWindow, 3*time.Hour)
	if o.Root[len(o.Root)-1] != '/' {
		o.Root += "/"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
}

// Daemon is a backup daemon.
type Daemon struct {
	o       Options
	id      string
	log     *slog.Logger
	h       *work.Host // of its workers
	started time.Time

	again map[model.ID]bool // jobs that bind has tried for in this process

	mu      sync.Mutex
	me      backup.Daemon // as the last beat gave it
	workers map[model.ID]*work.Worker
	samples []job.Sample
}

// New makes a daemon; Run runs it.
func New(o Options) (*Daemon, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("backup daemon: %w", err)
	}
	o.defaults()
	m, err := work.NewMetrics(o.Reg)
	if err != nil {
		return nil, fmt.Errorf("backup daemon: metrics: %w", err)
	}
	d := &Daemon{o: o, id: o.Machine + ":" + o.Root, log: o.Log, again: map[model.ID]bool{}, workers: map[model.ID]*work.Worker{}}
	d.h = &work.Host{
		ID: d.id, Root: o.Root, Backup: o.Backup, Blockstores: o.Blockstores, Heads: o.Heads, Slots: o.Slots, Metrics: m, Event: d.event, Self: d.self,
		MinWindow: o.MinWindow, Poll: o.Poll, Turn: o.Turn, Grace: o.Grace, Chores: o.Chores, Now: o.Now, Log: o.Log,
	}
	return d, nil
}

// ID is the daemon's: "<machine>:<head root>".
func (d *Daemon) ID() string { return d.id }

// Periods of the daemon's own work.
const (
	beatEvery  = 15 * time.Second
	bindEvery  = 10 * time.Second
	sweepEvery = time.Hour
	maxSamples = 24 * 7
	byeLimit   = 10 * time.Second
)

// Run works until the context ends. Then every job finishes its batch, heads are stopped cleanly, leases are given back. It
// returns an error only when it could not begin.
func (d *Daemon) Run(ctx context.Context) error {
	unlock, err := head.Lock(d.o.Root)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	d.started = d.now()
	d.h.Shares = snap.Shares(ctx, d.o.Root)
	if err := d.beat(ctx); err != nil {
		return fmt.Errorf("say that this daemon runs: %w", err)
	}
	d.log.InfoContext(ctx, "backup daemon runs", obs.KeyInstance, d.id, obs.KeyPath, d.o.Root, obs.KeyCount, d.o.Count)
	// Beats go on until the last head is down: nobody may take a job over before.
	beating, quiet := context.WithCancel(context.WithoutCancel(ctx))
	var beats sync.WaitGroup
	beats.Go(func() { d.every(beating, beatEvery, "beat", d.beat) })

	var parts sync.WaitGroup
	if d.o.Restores != nil {
		parts.Go(func() {
			if err := d.o.Restores.Run(ctx, d.id); err != nil && ctx.Err() == nil {
				d.log.ErrorContext(ctx, "restores are no longer carried out", obs.KeyErr, err)
			}
		})
	}
	parts.Go(func() { d.every(ctx, sweepEvery, "sweep", d.sweep) })
	d.bindLoop(ctx, &parts)
	parts.Wait()
	quiet()
	beats.Wait()
	bye, stop := context.WithTimeout(context.WithoutCancel(ctx), byeLimit)
	defer stop()
	if err := d.say(bye, true); err != nil {
		d.log.WarnContext(ctx, "could not say goodbye", obs.KeyErr, err)
	}
	return nil
}

// every calls f at once and then every period until the context ends.
func (d *Daemon) every(ctx context.Context, period time.Duration, what string, f func(context.Context) error) {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "part of the backup daemon failed", obs.KeyPass, what, obs.KeyErr, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (d *Daemon) now() time.Time { return d.o.Now().UTC() }

// self is what is known of this daemon.
func (d *Daemon) self() backup.Daemon {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.me
}

func (d *Daemon) beat(ctx context.Context) error { return d.say(ctx, false) }

// say tells the store how this daemon does, and learns what administrators set.
func (d *Daemon) say(ctx context.Context, goodbye bool) error {
	now, err := d.o.Store.Now(ctx) // one clock for all daemons
	if err != nil {
		return err
	}
	me := backup.Daemon{
		ID: d.id, Machine: d.o.Machine, HeadRoot: d.o.Root, Version: d.o.Version, Started: d.started, Beat: now, Stopped: goodbye,
		BasePort: d.o.BasePort, Heads: d.o.Count,
	}
	releases, err := d.o.Heads.Releases(ctx)
	if err != nil {
		me.Error = err.Error()
	}
	for _, r := range releases {
		me.Releases = append(me.Releases, r.Version)
	}
	if me.Free, me.Size, err = head.Space(d.o.Root); err != nil {
		me.Error = err.Error()
	}
	d.mu.Lock()
	me.Jobs = len(d.workers)
	me.Full = d.sample(me.Size-me.Free, me.Size)
	d.mu.Unlock()
	if me, err = d.o.Backup.Beat(ctx, me); err != nil {
		return err
	}
	d.h.Metrics.Space(me)
	d.mu.Lock()
	d.me = me
	d.mu.Unlock()
	return nil
}

// sample notes how full the disk is, once an hour, and predicts when it will be full. The lock is held.
func (d *Daemon) sample(used, size int64) time.Time {
	now := d.now()
	if n := len(d.samples); n == 0 || now.Sub(d.samples[n-1].At) >= time.Hour {
		d.samples = append(d.samples, job.Sample{At: now, Used: used})
		if len(d.samples) > maxSamples {
			d.samples = d.samples[1:]
		}
	}
	return job.Full(d.samples, size, now)
}

// bindLoop looks for jobs until the context ends, and waits for their workers.
func (d *Daemon) bindLoop(ctx context.Context, parts *sync.WaitGroup) {
	t := time.NewTicker(min(bindEvery, 2*d.o.Poll))
	defer t.Stop()
	for {
		if err := d.bind(ctx, parts); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "could not look for backups to take", obs.KeyErr, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// bind takes the jobs that are for this daemon.
func (d *Daemon) bind(ctx context.Context, parts *sync.WaitGroup) error {
	configs, err := d.o.Backup.RunningConfigs(ctx)
	if err != nil {
		return err
	}
	jobs, err := d.o.Backup.Jobs(ctx)
	if err != nil {
		return err
	}
	daemons, err := d.o.Backup.Daemons(ctx)
	if err != nil {
		return err
	}
	stores, err := d.o.Backup.Stores(ctx)
	if err != nil {
		return err
	}
	now, err := d.o.Store.Now(ctx)
	if err != nil {
		return err
	}
	c := job.Candidate{Me: d.self(), Stores: stores, StoreJobs: map[string]int{}, TakeOver: d.o.TakeOver, Now: now}
	byID := map[model.ID]backup.Job{}
	for i := range jobs {
		byID[jobs[i].ID] = jobs[i]
		c.StoreJobs[jobs[i].StoreID]++
	}
	c.Reserved = d.reserved(byID)
	d.h.Metrics.Jobs.Set(float64(len(d.running())))
	for _, cfg := range configs {
		j, ok := byID[cfg.ClusterID]
		if !ok || d.has(cfg.ClusterID) {
			continue
		}
		c.Config, c.Job, c.Owner, c.Release = cfg, j, nil, nil
		for i := range daemons {
			if daemons[i].ID == j.Daemon {
				c.Owner = &daemons[i]
			}
		}
		if v := j.Tail.Version; v != "" && j.Daemon != d.id {
			_, c.Release = d.o.Heads.Pick(ctx, v, j.Tail.FCV)
		}
		if err := d.try(ctx, parts, &c); err != nil {
			d.log.WarnContext(ctx, "could not take a backup", obs.KeyCluster, cfg.ClusterID, obs.KeyErr, err)
		}
	}
	return nil
}

// try takes one job, if it is for this daemon and nobody else is faster.
func (d *Daemon) try(ctx context.Context, parts *sync.WaitGroup, c *job.Candidate) error {
	ok, none, reasons := job.Bind(*c)
	if none {
		return nil
	}
	if !ok {
		return d.unbound(ctx, &c.Job, reasons)
	}
	storeID := c.Job.StoreID
	if storeID == "" {
		storeID, _ = job.ChooseStore(c.Config, c.Job, c.Stores, c.StoreJobs)
	}
	// What this daemon held before it was killed it takes again at once: the lock of its folder says that the process before has ended.
	// Once only, so that two daemons which are called the same, each in a box of its own, do not take turns for ever.
	acquire := d.o.Store.Lease
	if c.Job.Daemon == d.id && !d.again[c.Job.ID] {
		acquire = d.o.Store.LeaseAgain
	}
	d.again[c.Job.ID] = true
	lease, ok, err := acquire(ctx, backup.LeaseName(c.Job.ID), d.id, d.o.LeaseTTL)
	if err != nil || !ok {
		return err
	}
	w := work.New(d.h, c.Job.ID, lease)
	if err := w.Take(ctx, storeID); err != nil {
		return errors.Join(err, work.Release(ctx, &lease))
	}
	c.StoreJobs[storeID]++
	c.Reserved += job.Need(c.Job.Tail.DataBytes)
	d.mu.Lock()
	d.workers[c.Job.ID] = w
	d.mu.Unlock()
	parts.Go(func() {
		defer func() {
			d.mu.Lock()
			delete(d.workers, c.Job.ID)
			d.mu.Unlock()
		}()
		w.Run(ctx)
	})
	return nil
}

// unbound notes why nobody takes a job. Several daemons may have reasons: the first one's stand for a minute.
func (d *Daemon) unbound(ctx context.Context, j *backup.Job, reasons []string) error {
	now := d.now()
	p := backup.Problem{Code: job.CodeBind, Text: "no backup daemon takes this backup: " + joinReasons(reasons), Since: now, Next: now.Add(bindEvery), Remedy: "It is taken by itself as soon as a daemon has what is missing."}
	if have := j.Problem; have != nil {
		if have.Code != job.CodeBind || have.Text == p.Text && now.Sub(have.Next) < time.Minute || now.Before(have.Next) {
			return nil
		}
		p.Since, p.Retries = have.Since, have.Retries
	}
	p.Retries++
	p.Next = now.Add(job.Back(p.Retries))
	d.log.WarnContext(ctx, "a backup cannot be taken", obs.KeyCluster, j.ID, obs.KeyReason, p.Text)
	return d.o.Backup.UpdateJob(ctx, j.ID, func(j *backup.Job) error {
		if j.Problem != nil && j.Problem.Code != job.CodeBind {
			return store.ErrUnchanged
		}
		j.Problem, j.Reason = &p, p.Text
		return nil
	})
}

func joinReasons(reasons []string) string {
	var b []byte
	for i, r := range reasons {
		if i > 0 {
			b = append(b, "; "...)
		}
		b = append(b, r...)
	}
	return string(b)
}

func (d *Daemon) has(id model.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.workers[id] != nil
}

func (d *Daemon) running() map[model.ID]*work.Worker {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[model.ID]*work.Worker, len(d.workers))
	for id, w := range d.workers {
		all[id] = w
	}
	return all
}

// reserved is how much of the disk jobs of this daemon will still fill.
func (d *Daemon) reserved(jobs map[model.ID]backup.Job) int64 {
	var sum int64
	for id := range d.running() {
		if j := jobs[id]; j.HeadBytes == 0 {
			sum += job.Need(j.Tail.DataBytes)
		}
	}
	return sum
}

// sweep removes the heads of jobs that another daemon has, or that are gone.
func (d *Daemon) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(d.o.Root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := model.ID(e.Name())
		if !e.IsDir() || !id.Valid() || d.has(id) {
			continue
		}
		mine, err := d.stillMine(ctx, id)
		if err != nil {
			return err
		}
		if mine {
			continue
		}
		if err := d.h.Discard(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) stillMine(ctx context.Context, id model.ID) (bool, error) {
	j, err := d.o.Backup.Job(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err != nil || j.Daemon == "" || j.Daemon == d.id, err
}

// event keeps an event for people; that it cannot be kept is only logged.
func (d *Daemon) event(ctx context.Context, e model.Event) {
	if d.o.Events == nil {
		return
	}
	e.ID, e.At = model.NewID(), d.now()
	if err := d.o.Events(ctx, e); err != nil {
		d.log.WarnContext(ctx, "an event was not kept", obs.KeyReason, string(e.Type), obs.KeyErr, err)
	}
}

var _ groom.Records = (*backup.Backup)(nil)
