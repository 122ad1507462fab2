package evaluate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Backups is what it reads of backups.
type Backups interface {
	RunningConfigs(ctx context.Context) ([]backup.Config, error)
	Jobs(ctx context.Context) ([]backup.Job, error)
	Epoch(ctx context.Context, job model.ID, n int64) (backup.Epoch, error)
	Snapshot(ctx context.Context, job model.ID, id string) (backup.Snapshot, error)
	Daemons(ctx context.Context) ([]backup.Daemon, error)
}

// backups reads how the backups and daemons of the site do.
func (p *pass) backups(ctx context.Context) error {
	configs, err := p.o.Backups.RunningConfigs(ctx)
	if err != nil {
		return fmt.Errorf("read backup configurations: %w", err)
	}
	daemons, err := p.o.Backups.Daemons(ctx)
	if err != nil {
		return fmt.Errorf("read backup daemons: %w", err)
	}
	for i := range daemons {
		d := &daemons[i]
		p.daemons = append(p.daemons, rule.DaemonFact{ID: d.ID, Machine: d.Machine, Beat: d.Beat, Stopped: d.Stopped, Jobs: d.Jobs, Free: d.Free, Size: d.Size})
	}
	if len(configs) == 0 {
		return nil
	}
	jobs, err := p.o.Backups.Jobs(ctx)
	if err != nil {
		return fmt.Errorf("read backup jobs: %w", err)
	}
	byID := make(map[model.ID]*backup.Job, len(jobs))
	for i := range jobs {
		byID[jobs[i].ID] = &jobs[i]
	}
	for i := range configs {
		job := byID[configs[i].ClusterID]
		if job == nil {
			job = &backup.Job{ID: configs[i].ClusterID, GroupID: configs[i].GroupID, Stage: backup.StageBinding, StageSince: configs[i].Changed}
		}
		f, err := p.backupFact(ctx, &configs[i], job)
		if err != nil {
			return fmt.Errorf("read the backup of cluster %s: %w", job.ID, err)
		}
		p.backedUp = append(p.backedUp, f)
	}
	return nil
}

func (p *pass) backupFact(ctx context.Context, c *backup.Config, job *backup.Job) (rule.BackupFact, error) {
	f := rule.BackupFact{GroupID: c.GroupID, ClusterID: c.ClusterID, Name: string(c.ClusterID), Status: c.Status, Since: c.Changed, Source: -1}
	if job.Stage == backup.StageBinding {
		f.Unbound = job.StageSince
	}
	if r := job.Resync; r != nil {
		f.Resync, f.ResyncWhy = r.At, r.Why
	}
	f.Agent = job.Tail.Error
	if pr := job.Problem; pr != nil {
		f.Problem, f.Remedy, f.ProblemAt, f.Retries = pr.Text, pr.Remedy, pr.Since, pr.Retries
		if pr.Next.IsZero() {
			f.Retries = 0 // it waits for a person
		}
		if pr.Resync && f.Resync.IsZero() {
			f.Resync, f.ResyncWhy = pr.Since, pr.Text
		}
	}
	if job.Epoch > 0 {
		e, err := p.o.Backups.Epoch(ctx, job.ID, job.Epoch)
		switch {
		case errors.Is(err, docstore.ErrNotFound):
		case err != nil:
			return f, err
		default:
			f.Name, f.Reading = e.SetName, e.Seeded.IsZero()
			if f.Newest = e.HeadWall; f.Newest.IsZero() && !e.Head.Last.IsZero() {
				f.Newest = time.Unix(int64(e.Head.Last.TS.T), 0).UTC()
			}
			if !f.Newest.IsZero() && !job.Tail.Oldest.IsZero() {
				f.Source = max(0, f.Newest.Sub(job.Tail.Oldest))
			}
		}
	}
	if job.Last != "" {
		s, err := p.o.Backups.Snapshot(ctx, job.ID, job.Last)
		switch {
		case errors.Is(err, docstore.ErrNotFound):
		case err != nil:
			return f, err
		default:
			f.LastShot = s.Rule().At
			f.LateShot = snapshot.Late(c.Schedule, f.LastShot, p.now)
		}
	}
	return f, nil
}

// backupsOf are the backups of a group.
func (p *pass) backupsOf(group model.ID) (of []rule.BackupFact) {
	for _, f := range p.backedUp {
		if f.GroupID == group {
			of = append(of, f)
		}
	}
	return of
}
