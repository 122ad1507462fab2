package backup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const (
	sliceBytes        = 10 << 20 // documents of one slice, uncompressed
	oplogSliceSeconds = 10
	confSoon          = 10 // seconds, while something is about to begin
	missingAtOnce     = 1_000
)

// conf answers a configuration call: whether the agent is the group's active one, and what it is to do.
func (in *Intake) conf(w http.ResponseWriter, r *http.Request) error {
	group, err := in.o.Caller.Authenticate(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	info, _, err := wire.ParseConfQuery(query)
	if err != nil {
		return err
	}
	info.Type = string(model.AgentBackup)
	ctx, now := r.Context(), in.o.Now().UTC()
	c := wire.BackupConf{
		Time: now, State: string(model.AgentActive), ConfSeconds: in.o.ConfSeconds, MaxPost: in.o.MaxPost,
		SliceBytes: min(sliceBytes, in.o.MaxPost-wire.MaxSliceHeader/2), Jobs: []wire.BackupTask{},
	}
	check := wire.IsCheck(query)
	active := check
	if !check {
		if active, err = in.claim(r, &group, &info, now); err != nil {
			return err
		}
	}
	hosts := 0
	if !active {
		c.State = string(model.AgentStandby)
	} else {
		if c.Jobs, err = in.tasks(ctx, &group); err != nil {
			return err
		}
		var soon bool
		if c.Pushes, soon, err = in.pushes(ctx, &group, now); err != nil {
			return err
		}
		if soon {
			c.ConfSeconds = min(c.ConfSeconds, confSoon)
		}
		if len(c.Jobs)+len(c.Pushes) == 0 {
			c.State = string(model.AgentNoProcesses)
		}
		for i := range c.Jobs {
			hosts += len(c.Jobs[i].Hosts)
			if c.Jobs[i].WantEpoch > 0 || len(c.Jobs[i].Missing) > 0 {
				c.ConfSeconds = min(c.ConfSeconds, confSoon)
			}
		}
	}
	if !check {
		if err := in.o.Caller.NoteConf(r, group.ID, &info, model.AgentState(c.State), hosts, now); err != nil {
			return err
		}
	}
	in.o.Log.DebugContext(ctx, "backup agent's configuration call", obs.KeyAgent, info.ID, obs.KeyState, c.State, obs.KeyCount, len(c.Jobs))
	return reply.Answer(w, c)
}

// claim asks for the one place of a group's backup agents.
func (in *Intake) claim(r *http.Request, group *model.Group, info *wire.AgentInfo, now time.Time) (bool, error) {
	ctx := r.Context()
	active, previous, err := in.o.Inventory.ClaimBackup(ctx, group.ID, info.ID, info.Session, now, in.o.SessionTimeout)
	if err != nil {
		return false, fmt.Errorf("claim the active place of backup: %w", err)
	}
	if !active || previous == "" {
		return active, nil
	}
	return true, in.o.Events.AddEvents(ctx, model.Event{
		GroupID: group.ID, Type: model.EventAgentTookOver, At: now, AgentID: info.ID, IP: httpx.ClientIP(ctx).String(),
		Text: fmt.Sprintf("The backup agent on %s took over: the one before was silent for more than %s.", info.Hostname, in.o.SessionTimeout),
	})
}

// tasks lists what the active agent is to do.
func (in *Intake) tasks(ctx context.Context, group *model.Group) ([]wire.BackupTask, error) {
	configs, err := in.o.Area.Configs(ctx, group.ID)
	if err != nil {
		return nil, err
	}
	tasks := []wire.BackupTask{}
	var hosts map[string]model.Host
	for i := range configs {
		c := &configs[i]
		if c.Status == model.BackupInactive || c.Status == model.BackupProvisioning {
			continue
		}
		if c.Status != model.BackupStarted {
			tasks = append(tasks, wire.BackupTask{Job: string(c.ClusterID), Stop: true, Hosts: []wire.Host{}})
			continue
		}
		j, err := in.o.Area.Job(ctx, c.ClusterID)
		if errors.Is(err, store.ErrNotFound) || err == nil && j.StoreID == "" {
			continue // no daemon has taken it yet
		}
		if err != nil {
			return nil, err
		}
		if hosts == nil {
			if hosts, err = in.hosts(ctx, group); err != nil {
				return nil, err
			}
		}
		task, err := in.task(ctx, group, c, &j, hosts)
		if err != nil {
			return nil, fmt.Errorf("backup of cluster %s: %w", c.ClusterID, err)
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

func (in *Intake) task(ctx context.Context, group *model.Group, c *backup.Config, j *backup.Job, hosts map[string]model.Host) (wire.BackupTask, error) {
	t := wire.BackupTask{
		Job: string(j.ID), SyncSource: c.SyncSource, Filter: wire.Filter{Kind: string(c.Filter), Namespaces: c.Namespaces}, OplogSliceSeconds: oplogSliceSeconds,
		BandwidthBytes: in.o.BandwidthBytes, MaxLagSeconds: in.o.MaxLagSeconds, HeartbeatNotes: true, Direct: true, Hosts: []wire.Host{},
	}
	cluster, err := in.o.Inventory.Cluster(ctx, group.ID, c.ClusterID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		t.Stop = true // monitoring forgot the cluster: there is nobody to ask
		return t, nil
	case err != nil:
		return t, err
	}
	t.SetName, t.ReplicaSetID = cluster.ReplicaSet, cluster.ReplicaSetID
	if t.Hosts, err = in.members(ctx, group, c, &cluster, hosts); err != nil {
		return t, err
	}
	if in.o.Presign {
		t.Direct = !in.presigns(ctx, j.StoreID)
	}
	var current *backup.Epoch
	if j.Epoch >= j.First && j.Epoch > 0 {
		e, err := in.o.Area.Epoch(ctx, j.ID, j.Epoch)
		switch {
		case err == nil:
			current = &e
		case !errors.Is(err, store.ErrNotFound):
			return t, err
		}
	}
	t.WantEpoch, t.Why = backup.Wanted(j, current)
	if current == nil {
		return t, nil
	}
	t.Epoch, t.EpochSetID, t.Start, t.StartEntry = current.Number, current.ReplicaSetID, current.Start, current.StartEntry
	t.Scanned, t.Ended = !current.ScanEnd.IsZero(), !current.Ended.IsZero()
	t.Head = wire.Head{Last: current.Head.Last, Sum: current.Head.Sum, Entry: current.Head.Entry}
	if t.WantEpoch == 0 {
		t.Missing = missingOf(j.Missing)
	}
	return t, nil
}

// missingOf is the first part of what is missing: an answer must not become too large.
func missingOf(all []backup.MissingDocs) []wire.MissingDocs {
	var out []wire.MissingDocs
	n := 0
	for _, m := range all {
		ids := m.IDs[:min(len(m.IDs), missingAtOnce-n)]
		if len(ids) == 0 {
			break
		}
		n += len(ids)
		out = append(out, wire.MissingDocs{UUID: m.UUID, NS: m.NS, IDs: ids})
	}
	return out
}

// hosts are the group's hosts by the address that configurations name them by, and by id.
func (in *Intake) hosts(ctx context.Context, group *model.Group) (map[string]model.Host, error) {
	all, err := in.o.Inventory.Hosts(ctx, group.ID)
	if err != nil {
		return nil, err
	}
	by := make(map[string]model.Host, 2*len(all))
	for _, h := range all {
		by[h.Address()], by[string(h.ID)] = h, h
	}
	return by, nil
}

// members are the data-bearing members of a set, with the credentials of the backup, or else those that are kept for the host.
func (in *Intake) members(ctx context.Context, group *model.Group, c *backup.Config, cluster *model.Cluster, hosts map[string]model.Host) ([]wire.Host, error) {
	password, err := in.o.Area.Password(c)
	if err != nil {
		return nil, err
	}
	out := []wire.Host{}
	for _, m := range cluster.Members {
		if m.Arbiter {
			continue
		}
		var w wire.Host
		h, known := hosts[string(m.HostID)]
		if !known {
			h, known = hosts[m.Host]
		}
		if known {
			if w, err = in.o.Caller.Host(ctx, group, &h); err != nil {
				return nil, err
			}
		} else {
			name, port, err := model.SplitAddress(m.Host)
			if err != nil {
				continue // a configuration that names something else is the cluster's trouble, and shown there
			}
			w = wire.Host{Hostname: name, Port: int32(port), Type: string(model.TypeNoData)}
		}
		w.TLS = w.TLS || c.TLS
		if c.Username != "" || c.Mechanism != "" {
			w.Username, w.Password, w.Mechanism, w.Source = c.Username, password.Reveal(), c.Mechanism, ""
		}
		out = append(out, w)
	}
	return out, nil
}

// report keeps what an agent tells of its jobs. Those of other groups, or that are gone, are passed over: the agent hears of it
// with its next configuration.
func (in *Intake) report(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.BackupReport](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	ctx, now := r.Context(), in.o.Now().UTC()
	for i := range m.Jobs {
		rep := &m.Jobs[i]
		if !model.ID(rep.Job).Valid() {
			continue
		}
		err := in.o.Area.UpdateJob(ctx, model.ID(rep.Job), func(j *backup.Job) error {
			if j.GroupID != group.ID {
				return store.ErrUnchanged
			}
			was := j.Tail
			j.Tail = tailOf(rep, &m.Agent, now)
			if j.Tail.Error != "" {
				if j.Tail.ErrorAt = was.ErrorAt; was.Error == "" {
					j.Tail.ErrorAt = now
				}
			}
			// What an agent cannot tell at the moment is not forgotten.
			if j.Tail.Newest.IsZero() {
				j.Tail.Oldest, j.Tail.Newest = was.Oldest, was.Newest
			}
			if j.Tail.Version == "" {
				j.Tail.Version, j.Tail.FCV = was.Version, was.FCV
			}
			if j.Tail.DataBytes == 0 {
				j.Tail.DataBytes = was.DataBytes
			}
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("keep the report of job %s: %w", rep.Job, err)
		}
	}
	return reply.Ack(w, in.o.Now(), false)
}

func tailOf(r *wire.JobReport, a *wire.AgentInfo, now time.Time) backup.Tail {
	return backup.Tail{
		AgentID: reply.Cut(a.ID), Hostname: reply.Cut(a.Hostname), Source: reply.Cut(r.Source), At: now, Version: reply.Cut(r.Version), FCV: reply.Cut(r.FCV), Oldest: r.Oldest, Newest: r.Newest,
		DataBytes: r.DataBytes, Collections: r.Collections, CollectionsDone: r.CollectionsDone, Docs: r.Docs, DocsDone: r.DocsDone,
		Bytes: r.Bytes, BytesDone: r.BytesDone, Spooled: r.Spooled, Throttled: reply.Cut(r.Throttled), Error: reply.CutTo(r.Error, 4<<10), ErrorCode: reply.Cut(r.ErrorCode),
	}
}
