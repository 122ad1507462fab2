package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// headDirty is head.ErrDirty, under a name that its package's does not hide.
var headDirty = head.ErrDirty

// running is a head that runs, with what works on it.
type running struct {
	head    *head.Head
	release func() // of its slot
	waiting func() int
	since   time.Time
	turn    time.Duration
	applier *apply.Applier // nil while it is filled
	feed    *stored.Oplog
	odd     map[string]int64 // oddities already told
	ends    int              // breaks already kept
}

// tired reports whether others should have the place: one that has work keeps it for its turn, an idle one for a quarter of it.
func (r *running) tired(idle bool) bool {
	turn := r.turn
	if idle {
		turn /= 4
	}
	return r.waiting() > 0 && time.Since(r.since) >= turn
}

// died reports whether the process has ended.
func (r *running) died() bool {
	select {
	case <-r.head.Done():
		return true
	default:
		return false
	}
}

// reader reads what is stored of the current epoch.
func (w *Worker) reader(ctx context.Context, s *job.State) (*stored.Reader, error) {
	id := s.Epoch.StoreID
	if id == "" {
		id = s.Job.StoreID
	}
	bs, err := w.h.Blockstores(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", id, err)
	}
	return &stored.Reader{Records: w.h.Backup, Blocks: bs, Job: w.id, Epoch: s.Epoch.Number, Start: s.Epoch.Start}, nil
}

// startHead starts the head, if it does not run, in its turn; and the applier, if it was filled.
func (w *Worker) startHead(ctx context.Context, s *job.State) error {
	if w.head == nil {
		if err := w.launch(ctx, s); err != nil {
			return err
		}
	}
	if w.mark.Phase != job.Window && w.mark.Phase != job.Ready {
		return nil
	}
	to, only, err := mark.Narrowed(w.mark.Filter, &mark.Held{Kind: s.Config.Filter, Namespaces: s.Config.Namespaces})
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	if w.head.applier != nil {
		if to.Same(w.mark.Filter) {
			return nil
		}
		w.note()
		if err := w.head.applier.Close(); err != nil {
			return fmt.Errorf("end applying by the old list of namespaces: %w", err)
		}
		w.head.applier = nil
	}
	a, err := apply.Open(ctx, apply.Options{Client: w.head.head.Client(), Dir: w.dir(), Filter: only, Log: w.log})
	if err != nil {
		return fmt.Errorf("begin to apply: %w", err)
	}
	w.head.applier = a
	if err := w.narrow(ctx, s); err != nil {
		return err
	}
	if !to.Same(w.mark.Filter) {
		w.mark.Filter = to
		if err := mark.Write(w.dir(), w.mark); err != nil {
			return err
		}
	}
	return w.follow(ctx, s)
}

// narrow drops from the head what has been excluded since. What is restorable begins anew behind it: an earlier snapshot holds
// what was excluded, and the oplog since then does not.
func (w *Worker) narrow(ctx context.Context, s *job.State) error {
	a := w.head.applier
	out := a.Unwanted()
	if len(out) == 0 {
		return nil
	}
	w.log.InfoContext(ctx, "excluded collections are dropped from the head", obs.KeyCount, len(out), obs.KeyCollect, out[0])
	if w.mark.Phase == job.Ready {
		why := fmt.Sprintf("%s was excluded", out[0])
		if len(out) > 1 {
			why = fmt.Sprintf("%s and %d more were excluded", out[0], len(out)-1)
		}
		if err := w.h.Backup.AddBreak(ctx, w.id, s.Epoch.Number, backup.Break{At: a.Applied().TS, Why: why}); err != nil {
			return err
		}
	}
	return a.Narrow(ctx)
}

// follow begins to read the stored oplog where the applier is.
func (w *Worker) follow(ctx context.Context, s *job.State) error {
	r, err := w.reader(ctx, s)
	if err != nil {
		return err
	}
	w.head.feed = r.Oplog(w.head.applier.Applied(), w.head.applier.ReplayFrom())
	w.head.odd, w.head.ends = map[string]int64{}, 0
	return nil
}

func (w *Worker) launch(ctx context.Context, s *job.State) error {
	release, err := w.h.Slots.Acquire(ctx)
	if err != nil {
		return err
	}
	fcv, err := apply.FCV(w.dir())
	if err != nil {
		release()
		return err
	}
	fcv = cmp.Or(fcv, s.Epoch.FCV)
	pick, err := w.h.Heads.Pick(ctx, s.Epoch.Version, fcv)
	if err != nil {
		release()
		return err
	}
	h, err := w.h.Heads.Start(ctx, head.Spec{Dir: w.dir(), Release: pick, FCV: fcv})
	if err != nil {
		release()
		return fmt.Errorf("start the head: %w", err)
	}
	w.h.Metrics.heads.Inc()
	w.head = &running{
		head: h, since: time.Now(), turn: w.h.Turn, waiting: w.h.Slots.Waiting,
		release: func() {
			release()
			w.h.Metrics.heads.Dec()
		},
	}
	w.log.InfoContext(ctx, "head started", obs.KeyVersion, h.Version, obs.KeyPort, h.Port)
	return nil
}

// headStopLimit bounds a clean stop here; the manager kills a head after its own limit.
const headStopLimit = 65 * time.Minute

// stopHead stops the head cleanly, also when the context has ended. One that had to be killed is dirty.
func (w *Worker) stopHead(ctx context.Context) {
	if w.head == nil {
		return
	}
	h := w.head
	w.note()
	w.head = nil
	defer h.release()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), headStopLimit)
	defer stop()
	err := h.close()
	err = errors.Join(err, h.head.Stop(ctx))
	if err != nil {
		w.log.WarnContext(ctx, "the head was not stopped cleanly", obs.KeyErr, err)
		w.mark.Dirty = w.mark.Dirty || errors.Is(err, head.ErrDirty)
	}
	if err := mark.Write(w.dir(), w.mark); err != nil {
		w.log.WarnContext(ctx, "the mark of the head was not written", obs.KeyErr, err)
	}
}

// killHead ends a head after a failure: cleanly where its files are still of use.
func (w *Worker) killHead(ctx context.Context, dirty bool) {
	if w.head == nil {
		return
	}
	if !dirty && !w.head.died() {
		w.stopHead(ctx)
		return
	}
	h := w.head
	w.head = nil
	defer h.release()
	if err := errors.Join(h.close(), h.head.Kill()); err != nil {
		w.log.DebugContext(ctx, "head killed", obs.KeyErr, err)
	}
}

func (r *running) close() error {
	if r.applier == nil {
		return nil
	}
	return r.applier.Close()
}

// note takes over from the applier how far the head is.
func (w *Worker) note() {
	if w.head == nil || w.head.applier == nil {
		return
	}
	w.mark.Applied, w.mark.ReplayFrom = w.head.applier.Applied(), w.head.applier.ReplayFrom()
}
