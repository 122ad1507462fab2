package backupagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/daemon/backupagent/seed"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/daemon/backupagent/tail"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// job works on one replica set: it begins epochs, tails, reads, and starts again whenever the configuration or a failure says so.
type job struct {
	a    *Agent
	id   string
	dir  string // of its outboxes
	log  *slog.Logger
	stop context.CancelFunc
	done sync.WaitGroup

	changed chan struct{} // one token: task is another one

	mu       sync.Mutex
	task     wire.BackupTask
	limits   limits
	seen     int64 // counts configurations: a new start waits for one that is newer than the failure
	tailer   *tail.Tailer
	reader   *seed.Reader
	outbox   *push.Outbox
	err      error // why it does nothing at the moment
	code     string
	floor    oplog.OpTime    // where the last epoch ended: the next one begins no earlier
	idle     bool            // nothing goes on until a configuration comes, or a while passes
	answered map[string]bool // wishes for missing documents that were answered
}

// limits are what the server says to all jobs.
type limits struct{ maxPost, sliceBytes int64 }

// sliceBytes is what a slice may hold so that it fits into a post even when nothing of it can be compressed.
func (l limits) slice(direct bool) int64 {
	n := l.sliceBytes
	if n <= 0 {
		n = 10 << 20
	}
	if direct && l.maxPost > 0 {
		n = min(n, max(l.maxPost-l.maxPost/16-wire.MaxSliceHeader, 256<<10))
	}
	return n
}

// jobConf is what a configuration says of a job.
type jobConf struct {
	task   wire.BackupTask
	limits limits
}

// newJob starts a job, which works until ctx ends or End is called.
func newJob(ctx context.Context, a *Agent, c jobConf) *job {
	working, stop := context.WithCancel(ctx)
	j := &job{
		a: a, id: c.task.Job, dir: filepath.Join(a.self.Dir, "outbox", c.task.Job), stop: stop, changed: make(chan struct{}, 1),
		log: a.log.With(obs.KeyCluster, c.task.Job, obs.KeyRS, c.task.SetName), answered: map[string]bool{},
	}
	j.Configure(c)
	j.done.Go(func() { j.run(working) })
	return j
}

// Configure hands the job a new configuration. What only counts when work begins (the head, which moves with every slice) does
// not disturb it.
func (j *job) Configure(c jobConf) bool {
	t, l := c.task, c.limits
	t.Hosts = slices.Clone(t.Hosts)
	for i := range t.Hosts { // what monitoring learns of a host changes no connection
		h := &t.Hosts[i]
		h.ID, h.Type, h.Logs, h.DBStats = "", "", false, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen++
	before, lBefore := j.task, j.limits
	j.task, j.limits = t, l
	before.Head, before.Scanned, before.Missing, before.Why = t.Head, t.Scanned, t.Missing, t.Why
	if reflect.DeepEqual(before, t) && l == lBefore && !(len(t.Missing) > 0 && !j.answered[wish(t.Missing)]) && !j.idle {
		return true
	}
	j.wake()
	return true
}

func (j *job) setIdle(idle bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.idle = idle
}

func (j *job) wake() {
	select {
	case j.changed <- struct{}{}:
	default:
	}
}

// End stops the job and waits for it.
func (j *job) End() {
	j.stop()
	j.done.Wait()
}

// errIdle says that there is nothing to do until another configuration comes.
var errIdle = errors.New("nothing to do")

// run works until ctx ends.
func (j *job) run(ctx context.Context) {
	var backoff call.Backoff
	for ctx.Err() == nil {
		j.mu.Lock()
		task, l, seen := j.task, j.limits, j.seen
		j.mu.Unlock()
		select {
		case <-j.changed: // this is what it is about
		default:
		}
		working, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() {
			select {
			case <-working.Done():
			case <-j.changed:
				j.wake() // for the wait below
				stop()
			}
		})
		began := time.Now()
		err := j.work(working, task, l)
		stop()
		watching.Wait()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			backoff.Reset()
		}
		switch {
		case errors.Is(err, errIdle):
			j.fail(nil, "")
			j.await(ctx, seen, time.Hour)
		case errors.Is(err, errAsk):
			if !call.Pause(ctx, backoff.Next(0)/4) {
				return
			}
			j.a.self.Hurry()
			j.await(ctx, seen, time.Minute)
		case working.Err() != nil && errors.Is(err, context.Canceled): // another configuration
		default:
			j.fail(err, code(err))
			pause, cancel := context.WithTimeout(ctx, backoff.Next(0))
			select {
			case <-pause.Done():
			case <-j.changed:
				j.wake()
				call.Pause(pause, time.Second)
			}
			cancel()
		}
	}
}

// await waits for a configuration that came after the one with the given count.
func (j *job) await(ctx context.Context, seen int64, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	j.setIdle(true)
	defer j.setIdle(false)
	for {
		j.mu.Lock()
		newer := j.seen > seen
		j.mu.Unlock()
		if newer {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-j.changed:
		}
	}
}

// errAsk is in the chain of errors after which the server must be asked how things stand.
var errAsk = errors.New("the server is asked how things stand")

func (j *job) fail(err error, code string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && (j.err == nil || j.err.Error() != err.Error()) {
		j.log.Warn("the backup does not go on", obs.KeyReason, err, obs.KeyHint, opererr.HintOf(err))
	}
	j.err, j.code = err, code
}

// Codes of JobReport.
const (
	codeAuth        = "AUTH"
	codePrivileges  = "PRIVILEGES"
	codeNoSource    = "NO_SOURCE"
	codeUnreachable = "UNREACHABLE"
	codeInternal    = "INTERNAL"
	codeServer      = "SERVER" // the server, or the way to it
)

// errRights is in the chain of errors about privileges that are missing.
var errRights = errors.New("privileges are missing")

func code(err error) string {
	var refused *call.Refusal
	switch {
	case errors.As(err, &refused):
		return codeServer
	case errors.Is(err, errRights):
		return codePrivileges
	case source.Denied(err) || source.NotSignedIn(err):
		return codeAuth
	case errors.Is(err, source.ErrNoSource):
		return codeNoSource
	case errors.Is(err, context.DeadlineExceeded):
		return codeUnreachable
	}
	return codeInternal
}

// work does what a task says, until it is done, ctx ends or something fails.
func (j *job) work(ctx context.Context, task wire.BackupTask, l limits) error {
	if task.Stop {
		return errIdle
	}
	f, err := filter.New(filter.Kind(task.Filter.Kind), task.Filter.Namespaces)
	if err != nil {
		return err
	}
	set := source.NewSet(task.SetName, task.Hosts, j.a.dialer)
	defer set.Close()
	begin := task.WantEpoch > task.Epoch
	if !begin && (task.Epoch == 0 || task.Ended) {
		return errIdle
	}
	m, top, err := set.Pick(ctx, task.SyncSource, "", nil)
	if err != nil {
		if hint := source.Hint(err, ""); hint != "" {
			err = opererr.New("sign in", err, hint)
		}
		return err
	}
	rights, err := m.Rights(ctx)
	if err != nil {
		if hint := source.Hint(err, rights.User); hint != "" {
			err = opererr.New("read "+m.Address, err, hint)
		}
		return err
	}
	if err := rights.Check(m.Address); err != nil {
		return opererr.New("backup of "+task.SetName, fmt.Errorf("%w: %w", errRights, err), opererr.HintOf(err))
	}
	if begin {
		return j.begin(ctx, &task, m, top)
	}
	id, err := bson.ObjectIDFromHex(task.EpochSetID)
	if err != nil {
		return fmt.Errorf("the server tells no id of the replica set of epoch %d", task.Epoch)
	}
	return j.epoch(ctx, task, l, set, f, id)
}

// begin takes the position and tells the server of the new epoch. Nothing was read before, and the answer to the next
// configuration call says how it goes on.
func (j *job) begin(ctx context.Context, task *wire.BackupTask, m *source.Member, top *source.Topology) error {
	version, fcv, err := m.Version(ctx)
	if err != nil {
		return err
	}
	j.mu.Lock()
	floor := j.floor
	j.mu.Unlock()
	entry, err := m.Start(ctx, floor)
	if err != nil {
		return err
	}
	saved := source.Saved(entry, top.ID)
	err = j.a.client.Begin(ctx, wire.BeginEpoch{
		Job: j.id, Number: task.WantEpoch, AgentID: j.a.home.ID, Session: j.a.self.Session, Why: task.Why,
		Start: saved.At, StartEntry: saved.Entry, ReplicaSetID: top.ID.Hex(), SetName: task.SetName, ServerVer: version, FCV: fcv,
	})
	if err != nil {
		return asking(err)
	}
	j.log.Info("a new epoch begins", obs.KeyCount, task.WantEpoch, obs.KeyFrom, saved.At.String(), obs.KeyReason, task.Why, obs.KeyHost, m.Address)
	return errAsk
}

// asking makes an error that calls for a new configuration of one that says that ours is out of date.
func asking(err error) error {
	if push.Refused(err, wire.CodeConflict, wire.CodeEpoch, wire.CodeStopped, wire.CodeGap, wire.CodeOverlap, wire.CodeSplice) {
		return fmt.Errorf("%w: %w", errAsk, err)
	}
	return err
}

// outboxDir is the folder of an epoch's outbox.
func (j *job) outboxDir(epoch int64) string {
	return filepath.Join(j.dir, strconv.FormatInt(epoch, 10))
}

// epoch tails, sends and reads until something says that it cannot go on like this.
func (j *job) epoch(ctx context.Context, task wire.BackupTask, l limits, set *source.Set, f *filter.Filter, setID bson.ObjectID) (err error) {
	keepOnly(j.dir, strconv.FormatInt(task.Epoch, 10), j.log)
	out, err := push.Open(push.Options{
		Dir: j.outboxDir(task.Epoch), MaxBytes: j.a.self.Config.SpoolMaxBytes, Job: j.id, Epoch: task.Epoch, Head: task.Head, Log: j.log,
		Send: func(ctx context.Context, h wire.OplogHeader, content []byte) (wire.Head, error) {
			return j.a.client.Oplog(ctx, h, content, task.Direct)
		},
	})
	if err != nil {
		return opererr.New("open the outbox", err, "set stateDir to a folder the agent may write to, on a disk with room")
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	tailer := tail.New(tail.Options{
		Job: j.id, Epoch: task.Epoch, Set: set, Want: task.SyncSource, Filter: f, Place: place(&task, out.End(), setID),
		SliceBytes: l.slice(task.Direct), SliceEvery: time.Duration(task.OplogSliceSeconds) * time.Second, Notes: task.HeartbeatNotes,
		Sink: out, Log: j.log,
	})
	var reader *seed.Reader
	if !task.Scanned {
		reader = j.newReader(&task, l, set, f)
	}
	j.mu.Lock()
	j.tailer, j.reader, j.outbox = tailer, reader, out
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.tailer, j.reader, j.outbox = nil, nil, nil
		j.mu.Unlock()
	}()
	j.fail(nil, "")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := tailer.Run(ctx)
		var ended *tail.Ended
		if errors.As(err, &ended) {
			return j.over(ctx, out, &task, ended)
		}
		return err
	})
	g.Go(func() error {
		err := out.Run(ctx)
		if errors.Is(err, push.ErrStale) || errors.Is(err, push.ErrStopped) {
			j.log.Info("the oplog is not taken as it is", obs.KeyReason, err)
			return fmt.Errorf("%w: %w", errAsk, err)
		}
		return err
	})
	if reader != nil {
		g.Go(func() error { return j.scan(ctx, &task, reader) })
	}
	if len(task.Missing) > 0 {
		g.Go(func() error { return j.missing(ctx, &task, set) })
	}
	return g.Wait()
}

// place is where tailing goes on: behind what waits on disk, behind what the server has, or at the start.
func place(task *wire.BackupTask, end *chain.Slice, setID bson.ObjectID) tail.Place {
	switch {
	case end != nil:
		return tail.Place{Saved: chain.Saved{At: end.Last, Entry: end.LastEntry, ReplicaSetID: setID}, Sum: end.Sum(), Begun: true}
	case !task.Head.Last.IsZero():
		return tail.Place{Saved: chain.Saved{At: task.Head.Last, Entry: task.Head.Entry, ReplicaSetID: setID}, Sum: task.Head.Sum, Begun: true}
	}
	return tail.Place{Saved: chain.Saved{At: task.Start, Entry: task.StartEntry, ReplicaSetID: setID}}
}

// lastWords is how long the end of an epoch waits for what was read of it to be sent.
const lastWords = time.Minute

// over ends an epoch: what was read of it goes first.
func (j *job) over(ctx context.Context, out *push.Outbox, task *wire.BackupTask, ended *tail.Ended) error {
	j.log.Error("the history of the oplog ends", obs.KeyState, ended.Verdict, obs.KeyReason, ended.Why)
	waiting, cancel := context.WithTimeout(ctx, lastWords)
	for out.Waiting() > 0 && call.Pause(waiting, 200*time.Millisecond) {
		continue
	}
	cancel()
	var backoff call.Backoff
	for {
		err := j.a.client.End(ctx, wire.EndEpoch{Job: j.id, Epoch: task.Epoch, Verdict: ended.Verdict, Why: ended.Why, At: j.a.self.Clock().UTC()})
		switch {
		case err == nil:
			j.mu.Lock()
			j.floor = ended.At
			j.mu.Unlock()
			return fmt.Errorf("%w: %w", errAsk, ended)
		case errors.Is(asking(err), errAsk):
			return asking(err)
		}
		j.fail(fmt.Errorf("%w (and the server does not take that: %w)", ended, err), codeInternal)
		if !call.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

func (j *job) newReader(task *wire.BackupTask, l limits, set *source.Set, f *filter.Filter) *seed.Reader {
	refused := func(err error) error {
		if err != nil && errors.Is(asking(err), errAsk) {
			return &seed.Refused{Err: asking(err)}
		}
		return err
	}
	return seed.New(seed.Options{
		Job: j.id, Epoch: task.Epoch, Start: task.Start, Set: set, Want: task.SyncSource, Filter: f, SliceBytes: l.slice(task.Direct),
		Bandwidth: task.BandwidthBytes, MaxLag: time.Duration(task.MaxLagSeconds) * time.Second, Log: j.log,
		Known: func(ctx context.Context) ([]wire.CollectionInfo, error) {
			list, err := j.a.client.Collections(ctx, j.id, task.Epoch)
			return list, refused(err)
		},
		Put: func(ctx context.Context, list []wire.CollectionInfo) error {
			return refused(j.a.client.PutCollections(ctx, j.id, task.Epoch, list))
		},
		Send: func(ctx context.Context, h wire.SeedHeader, content []byte) error {
			err := j.a.client.Seed(ctx, h, content, task.Direct)
			if push.Refused(err, wire.CodeConflict) {
				return &seed.Conflict{Err: err}
			}
			return refused(err)
		},
	})
}

// scan reads the collections and tells the server when all were read.
func (j *job) scan(ctx context.Context, task *wire.BackupTask, reader *seed.Reader) error {
	end, err := reader.Run(ctx)
	if err != nil {
		return err
	}
	p := reader.Progress()
	var backoff call.Backoff
	for {
		err := j.a.client.Scanned(ctx, wire.Scanned{Job: j.id, Epoch: task.Epoch, ScanEnd: end, Collections: p.Collections})
		if err == nil {
			j.log.Info("every collection was read", obs.KeyCount, p.CollectionsDone, obs.KeyBytes, p.BytesDone, obs.KeyTo, end.String())
			return nil
		}
		if errors.Is(asking(err), errAsk) {
			return asking(err)
		}
		j.log.Warn("the end of the full read was not taken", obs.KeyReason, err)
		if !call.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

// report says how the job is.
func (j *job) report() wire.JobReport {
	j.mu.Lock()
	tailer, reader, out, err, reason := j.tailer, j.reader, j.outbox, j.err, j.code
	j.mu.Unlock()
	r := wire.JobReport{Job: j.id}
	if tailer != nil {
		s := tailer.Status()
		r.Source, r.Version, r.FCV, r.Oldest, r.Newest = s.Source, s.Version, s.FCV, s.Ends.OldestWall, s.Ends.NewestWall
		if s.Err != nil {
			err, reason = s.Err, code(s.Err)
		}
	}
	if reader != nil {
		p := reader.Progress()
		r.Collections, r.CollectionsDone, r.Docs, r.DocsDone, r.Bytes, r.BytesDone = p.Collections, p.CollectionsDone, p.Docs, p.DocsDone, p.Bytes, p.BytesDone
		r.DataBytes, r.Throttled = p.Bytes, p.Throttled
		if p.Err != nil && err == nil {
			err, reason = p.Err, code(p.Err)
		}
	}
	if out != nil {
		r.Spooled = out.Waiting()
		if e := out.Trouble(); e != nil && err == nil {
			err, reason = e, codeServer
		}
		if out.Full() {
			r.Throttled = "the spool is full: the oplog stays on the source until the server takes more"
		}
	}
	if err != nil {
		r.Error, r.ErrorCode = err.Error(), reason
		hint := opererr.HintOf(err)
		if hint == "" {
			hint = source.Hint(err, "")
		}
		if hint != "" {
			r.Error += ". " + hint
		}
	}
	return r
}
