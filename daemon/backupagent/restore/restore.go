// Package restore writes what was restored into a running replica set: the agent's part of a push.
//
// It fetches the parts (package dump) from the server, writes every collection beside those that are there under a name of its own
// (hwrestore_…, in the same database), builds its indexes, and only when everything has arrived whole puts it in place, each
// collection by one rename. Until then nothing that was in the target has changed. What servers do not rename (views, time series,
// system.js, users) follows: that is written in place.
//
// How far it is, is kept in the target itself, in the database heartwood_restore: an agent that was killed, or another that
// takes over, goes on from there. Every command may happen twice. An election is not an error; a server that is away is waited
// for. What cannot be mended ends the restore, which then removes what it staged and says what became of the target.
package restore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/fetch"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Heartwood is what is needed of the Heartwood server.
type Heartwood interface {
	fetch.Objects
	// Push says what a restore holds.
	Push(ctx context.Context, restore string) (wire.Push, error)
	// Progress tells how far it is.
	Progress(ctx context.Context, restore string, p wire.PushProgress) error
}

// Options are what Run needs.
type Options struct {
	Task      wire.PushTask
	Heartwood Heartwood
	// Connect connects to a member of the target, with the restore credential.
	Connect func(host wire.Host) (target.Server, error)
	// Configured says whether there is a credential.
	Configured bool
	Dir        string // for parts, of this restore alone
	AgentID    string
	Session    string
	Log        *slog.Logger
	// Pause waits, and says false when ctx ended first; nil means a timer.
	Pause func(ctx context.Context, d time.Duration) bool
}

// work is one restore that is being written.
type work struct {
	o       Options
	t       *target.Target
	j       *journal
	f       *fetch.Parts
	log     *slog.Logger
	staging string // how names of what is staged begin

	push    wire.Push
	plan    plan
	entries []dump.Entry
	bytes   int64 // of all documents
	version string
	fcv     string

	mu      sync.Mutex
	do      string // the step of the plan; "" until it is known
	step    string
	done    int64
	all     int64
	trouble string // why nothing goes on
	waiting bool   // nothing was begun, and a person must do something first
}

// plan is what is needed of restoreplan.Plan.
type plan struct {
	FCV string `bson:"fcv"`
}

// refusal is a failure that no further attempt mends.
type refusal struct {
	err    error
	remedy string
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

func refuse(remedy, format string, args ...any) error {
	return &refusal{fmt.Errorf(format, args...), remedy}
}

// Times.
const (
	tellEvery = 5 * time.Second
	tellLimit = 30 * time.Second
	lookAgain = 30 * time.Second // at what a person was to do
	maxStep   = 500              // bytes of a text
)

// Run writes a restore, or removes what it left, until the server knows the end or ctx ends: whoever runs it again then goes on.
func Run(ctx context.Context, o Options) {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Pause == nil {
		o.Pause = call.Pause
	}
	w := &work{o: o, log: o.Log.With(obs.KeyKey, o.Task.Restore, obs.KeyRS, o.Task.SetName), staging: "hwrestore_" + o.Task.Restore[:min(8, len(o.Task.Restore))] + "_"}
	w.t = &target.Target{Set: o.Task.SetName, Hosts: o.Task.Hosts, Connect: o.Connect, Pause: o.Pause, Waits: w.waits}
	defer w.t.Close()
	w.j = &journal{t: w.t, coll: o.Task.Restore}
	w.f = &fetch.Parts{Server: o.Heartwood, Restore: o.Task.Restore, Dir: o.Dir, Pause: o.Pause, Waits: w.waits}
	w.begin("begins", 0, 0)
	w.waiting = true

	working, stop := context.WithCancelCause(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { w.telling(working, stop) })
	err := w.carry(working)
	stop(nil)
	telling.Wait()
	if ctx.Err() == nil && err != nil {
		w.fail(ctx, err)
	}
}

// carry goes through the restore, again and again while something passes or waits for a person.
func (w *work) carry(ctx context.Context) error {
	var backoff call.Backoff
	for {
		err := w.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var wait *target.Waiting
		if target.Denied(err) {
			err = &target.Waiting{What: fmt.Sprintf("%s refuses what the agent must do: %v. On the primary run: %s", w.t.Set, err, target.Grant("<restoreUsername>"))}
		}
		var refused *call.Refusal
		switch {
		case errors.As(err, &wait):
			w.mu.Lock()
			news := w.trouble != wait.What
			w.trouble, w.waiting = wait.What, !w.j.begun()
			w.mu.Unlock()
			if news {
				w.log.WarnContext(ctx, "the restore waits for somebody", obs.KeyReason, wait.What)
			}
			if !w.o.Pause(ctx, lookAgain) {
				return context.Cause(ctx)
			}
			continue
		case push.Refused(err, wire.CodeStopped):
			return fetch.ErrStopped
		case errors.As(err, &refused), errors.Is(err, errAway):
			w.waits(err.Error())
			if !w.o.Pause(ctx, backoff.Next(0)) {
				return context.Cause(ctx)
			}
			continue
		}
		return err
	}
}

// errAway is in the chain of errors about the Heartwood server that pass.
var errAway = errors.New("the server is away")

// once carries the restore out from where it is.
func (w *work) once(ctx context.Context) error {
	var err error
	if w.push, err = w.o.Heartwood.Push(ctx, w.o.Task.Restore); err != nil {
		if push.Refused(err, wire.CodeStopped) {
			return fetch.ErrStopped
		}
		return fmt.Errorf("%w: %w", errAway, err)
	}
	if w.push.Cancel {
		return fetch.ErrStopped
	}
	if err := bson.Unmarshal(w.push.Plan, &w.plan); err != nil {
		return refuse("Start the restore again.", "its plan cannot be read: %w", err)
	}
	if len(w.push.Objects) == 0 || len(w.push.Objects) > dump.MaxParts {
		return refuse("Start the restore again.", "it has %d parts", len(w.push.Objects))
	}
	w.f.Objects = w.push.Objects
	if err := w.meet(ctx); err != nil {
		return err
	}
	if err := w.j.load(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	w.waiting = !w.j.begun()
	w.mu.Unlock()
	if w.j.state.Phase == phaseDone {
		return w.finish(ctx)
	}
	w.begin("reads the catalogue", 0, 0)
	if w.entries, err = w.f.Catalogue(ctx); err != nil {
		return err
	}
	w.bytes = 0
	for i := range w.entries {
		w.bytes += w.entries[i].Bytes
	}
	digest := w.digest()
	switch {
	case !w.j.begun():
		w.begin("checks the target", 0, 0)
		if err := w.check(ctx); err != nil {
			return err
		}
		// The server must know that this has begun before there is anything to clean up: of a restore that nobody began it
		// tells no agent when it is cancelled.
		w.mu.Lock()
		w.waiting = false
		w.mu.Unlock()
		if err := w.tell(ctx, wire.PushProgress{}); err != nil {
			return err
		}
		if err := w.j.setState(ctx, state{Phase: phaseStage, Digest: digest, Users: w.push.Users, Entries: int64(len(w.entries))}); err != nil {
			return err
		}
		w.log.InfoContext(ctx, "a restore is written", obs.KeyCount, len(w.entries), obs.KeyBytes, w.bytes)
	case string(w.j.state.Digest) != string(digest):
		return refuse("Start the restore again.", "its journal in the target is of other parts")
	default:
		w.log.InfoContext(ctx, "a restore goes on", obs.KeyState, w.j.state.Phase)
	}
	if w.j.state.Phase == phaseStage {
		w.at(restoreplan.DoStage)
		if err := w.stage(ctx); err != nil {
			return err
		}
		// The last moment to hear of a cancellation before the target changes: a server that is away is waited for.
		w.begin("everything is staged", w.bytes, w.bytes)
		if err := w.tell(ctx, wire.PushProgress{}); err != nil {
			return err
		}
		if err := w.j.phase(ctx, phaseSwap); err != nil {
			return err
		}
	}
	w.at(restoreplan.DoSwap)
	if err := w.swap(ctx); err != nil {
		return err
	}
	if err := w.j.phase(ctx, phaseDone); err != nil {
		return err
	}
	return w.finish(ctx)
}

// meet finds the target and what the agent may do there.
func (w *work) meet(ctx context.Context) error {
	w.begin("looks for the primary of "+w.t.Set, 0, 0)
	r, err := w.t.Rights(ctx, w.push.Users)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.Check(w.t.Set, err, w.o.Configured); err != nil {
		return err
	}
	w.version, w.fcv, err = w.t.Version(ctx)
	return err
}

// digest is of the list of parts.
func (w *work) digest() []byte {
	h := sha256.New()
	for _, o := range w.push.Objects {
		_, _ = fmt.Fprintf(h, "%s %d %s\n", o.Name, o.Bytes, o.SHA256)
	}
	return h.Sum(nil)
}

// finish tells that everything is in place, then forgets the journal: should the agent end between the two, the restore is
// listed until its journal is gone.
func (w *work) finish(ctx context.Context) error {
	w.begin("everything is in place", w.bytes, w.bytes)
	if err := w.tell(ctx, wire.PushProgress{Finished: true}); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "a restore is in place")
	return w.clean(ctx, wire.PushProgress{Finished: true})
}

// clean removes everything and tells so, with what else there is to say.
func (w *work) clean(ctx context.Context, p wire.PushProgress) error {
	became, err := w.tidy(ctx)
	if err != nil {
		return err
	}
	if became != "" {
		p.Error = joined(p.Error, became)
	}
	p.Cleaned = true
	return w.tell(ctx, p)
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// fail ends a restore that came to no good end, or that somebody else ended: people are told, then the target is tidied up.
func (w *work) fail(ctx context.Context, err error) {
	if errors.Is(err, fetch.ErrStopped) {
		w.log.InfoContext(ctx, "a restore was ended by somebody else: what it left in the target is removed")
	} else {
		w.log.ErrorContext(ctx, "a restore failed", obs.KeyErr, err)
		p := wire.PushProgress{Error: err.Error(), Remedy: "Start the restore again. If it fails the same way, look at the log of the backup agent."}
		var r *refusal
		if errors.As(err, &r) {
			p.Remedy = r.remedy
		}
		if err := w.tell(ctx, p); err != nil && !errors.Is(err, fetch.ErrStopped) {
			return
		}
	}
	for {
		err := w.clean(ctx, wire.PushProgress{})
		if err == nil || ctx.Err() != nil || errors.Is(err, fetch.ErrStopped) {
			return
		}
		w.log.WarnContext(ctx, "what a restore left in the target was not removed", obs.KeyErr, err)
		if !w.o.Pause(ctx, lookAgain) {
			return
		}
	}
}

// telling tells the server how far the restore is, every few seconds, and ends it when the server says so.
func (w *work) telling(ctx context.Context, stop context.CancelCauseFunc) {
	for w.o.Pause(ctx, tellEvery) {
		err := w.say(ctx, wire.PushProgress{})
		switch {
		case push.Refused(err, wire.CodeStopped):
			stop(fetch.ErrStopped)
			return
		case err != nil && ctx.Err() == nil:
			w.log.DebugContext(ctx, "the server was not told how far a restore is", obs.KeyErr, err)
		}
	}
}

// say tells once.
func (w *work) say(ctx context.Context, p wire.PushProgress) error {
	w.mu.Lock()
	p.AgentID, p.Session = w.o.AgentID, w.o.Session
	p.Do, p.Step, p.Done, p.Total, p.Waiting = w.do, w.step, w.done, w.all, w.waiting
	if w.trouble != "" {
		p.Step = joined(w.step, w.trouble)
	}
	w.mu.Unlock()
	if p.Finished || p.Cleaned || p.Error != "" {
		p.Waiting = false
	}
	p.Step = p.Step[:min(len(p.Step), maxStep)]
	ctx, cancel := context.WithTimeoutCause(ctx, tellLimit, errors.New("the server did not answer in time"))
	defer cancel()
	return w.o.Heartwood.Progress(ctx, w.o.Task.Restore, p)
}

// tell tells until it is taken. A restore that somebody else ended is fetch.ErrStopped.
func (w *work) tell(ctx context.Context, p wire.PushProgress) error {
	var backoff call.Backoff
	for {
		err := w.say(ctx, p)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case push.Refused(err, wire.CodeStopped):
			return fetch.ErrStopped
		}
		w.log.WarnContext(ctx, "the server was not told of a restore's end", obs.KeyErr, err)
		if !w.o.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

// at names the step of the plan that is done now.
func (w *work) at(do string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.do = do
}

// begin says in words what is done now.
func (w *work) begin(step string, done, all int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step, w.done, w.all, w.trouble = step, done, all, ""
}

func (w *work) progress(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += bytes
}

// waits notes why nothing goes on, "" when it does.
func (w *work) waits(why string) {
	if len(why) > maxStep {
		why = why[:maxStep]
	}
	w.mu.Lock()
	news := why != "" && w.trouble == ""
	w.trouble = why
	w.mu.Unlock()
	if news {
		w.log.Warn("a restore waits", obs.KeyReason, why)
	}
}

// Clear removes the folders of restores that are none of those named.
func Clear(root string, keep map[string]bool) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range entries {
		if !keep[e.Name()] {
			errs = append(errs, os.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	return errors.Join(errs...)
}
