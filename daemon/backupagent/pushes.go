package backupagent

import (
	"context"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// writer writes one restore into a replica set.
type writer struct {
	task wire.PushTask
	stop context.CancelFunc
	done sync.WaitGroup
	over atomic.Bool
}

// restoresDir is the folder of parts that wait to be written.
const restoresDir = "restores"

// newWriter starts to write a restore, or to remove what it left, until ctx ends or End is called.
func (a *Agent) newWriter(ctx context.Context, t wire.PushTask) *writer {
	working, stop := context.WithCancel(ctx)
	w := &writer{task: t, stop: stop}
	w.done.Go(func() {
		restore.Run(working, restore.Options{
			Task: t, Heartwood: a.client, Connect: target.Connect(a.writeDialer()), Configured: a.mayRestore(),
			Dir: filepath.Join(a.self.Dir, restoresDir, t.Restore), AgentID: a.home.ID, Session: a.self.Session, Log: a.log,
		})
		w.over.Store(true)
	})
	return w
}

// writeDialer connects with the credential of restores, and no other.
func (a *Agent) writeDialer() target.Dialer {
	cfg := &a.self.Config
	return a.dialer.As(cfg.RestoreUsername, cfg.RestorePassword, cfg.RestoreMechanism, cfg.RestoreSource)
}

// mayRestore reports whether there is a credential for restores.
func (a *Agent) mayRestore() bool {
	return a.self.Config.RestoreUsername != "" || a.self.Config.RestoreMechanism != ""
}

// tryRestores tries whether restores could be written into a set.
func (a *Agent) tryRestores(ctx context.Context, set string, hosts []wire.Host) target.Trial {
	return target.Try(ctx, set, addresses(hosts), target.Connect(a.writeDialer()), a.mayRestore())
}

// addresses are hosts without what the server keeps of them: credentials for writing are the agent's own.
func addresses(hosts []wire.Host) []wire.Host {
	out := make([]wire.Host, len(hosts))
	for i, h := range hosts {
		out[i] = wire.Host{Hostname: h.Hostname, Port: h.Port, TLS: h.TLS}
	}
	return out
}

// Configure implements agent.Worker. A restore that is to be cancelled, whose members are others now, or that has ended and is
// listed all the same, begins anew: it goes on from where it was.
func (w *writer) Configure(t wire.PushTask) bool {
	return reflect.DeepEqual(t, w.task) && !w.over.Load()
}

// End implements agent.Worker.
func (w *writer) End() {
	w.stop()
	w.done.Wait()
}

// write starts and ends the writing of restores until it is what conf says; nil means none.
func (a *Agent) write(ctx context.Context, conf *wire.BackupConf) {
	var wanted []wire.PushTask
	keep := map[string]bool{}
	if conf != nil {
		for _, t := range conf.Pushes {
			if !model.ID(t.Restore).Valid() { // it names a folder
				a.log.Error("the server told of a restore with an id that is none", obs.KeyKey, t.Restore)
				continue
			}
			t.Hosts = addresses(t.Hosts)
			wanted = append(wanted, t)
			keep[t.Restore] = true
		}
	}
	a.writers.Apply(wanted, func(t wire.PushTask) string { return t.Restore }, func(t wire.PushTask) *writer { return a.newWriter(ctx, t) })
	if conf == nil {
		return
	}
	if err := restore.Clear(filepath.Join(a.self.Dir, restoresDir), keep); err != nil {
		a.log.WarnContext(ctx, "the folder of a restore was not removed", obs.KeyErr, err)
	}
}
