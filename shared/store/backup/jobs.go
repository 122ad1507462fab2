package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// Job returns a job, or store.ErrNotFound.
func (b *Backup) Job(ctx context.Context, id model.ID) (Job, error) {
	if err := entry.CheckID("job", id); err != nil {
		return Job{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return store.Get[Job](ctx, b.s, collJobs, string(id))
}

// Jobs lists all jobs, by id.
func (b *Backup) Jobs(ctx context.Context) ([]Job, error) {
	return store.All[Job](ctx, b.s, docstore.Query{Collection: collJobs})
}

// JobsOf lists the jobs of a group, by id.
func (b *Backup) JobsOf(ctx context.Context, group model.ID) ([]Job, error) {
	return store.All[Job](ctx, b.s, docstore.Query{Collection: collJobs, Index: "group", Prefix: []any{string(group)}})
}

// UpdateJob changes a job's fields that belong to agents and people. change may run several times; store.ErrUnchanged ends it
// without a write.
func (b *Backup) UpdateJob(ctx context.Context, id model.ID, change func(*Job) error) error {
	return store.Update(ctx, b.s, collJobs, string(id), func(j *Job) error {
		token, group := j.Token, j.GroupID
		if err := change(j); err != nil {
			return err
		}
		j.ID, j.GroupID, j.Token = id, group, token
		return nil
	})
}

// UpdateJobAs changes a job as the holder of its lease with this token: ErrFenced when a higher one was seen. The first write
// under a token keeps the holders before it out.
func (b *Backup) UpdateJobAs(ctx context.Context, id model.ID, token int64, change func(*Job) error) error {
	if token <= 0 {
		return fmt.Errorf("job %s: %w: %d is no token of a lease", id, docstore.ErrInvalid, token)
	}
	return store.Update(ctx, b.s, collJobs, string(id), func(j *Job) error {
		if j.Token > token {
			return fmt.Errorf("job %s: %w: its token is %d, ours %d", id, ErrFenced, j.Token, token)
		}
		group := j.GroupID
		if err := change(j); err != nil {
			return err
		}
		j.ID, j.GroupID, j.Token = id, group, token
		return nil
	})
}

// SetFound keeps where the documents are that the agent found of Job.Missing. ErrState when none are asked for in this epoch.
func (b *Backup) SetFound(ctx context.Context, job model.ID, f Found, now time.Time) error {
	f.At = now
	return b.UpdateJob(ctx, job, func(j *Job) error {
		switch {
		case j.Found != nil && j.Found.Key == f.Key:
			return store.ErrUnchanged
		case j.Epoch != f.Epoch || len(j.Missing) == 0:
			return fmt.Errorf("job %s: %w: no documents are asked for", job, ErrState)
		}
		j.Found, j.Missing = &f, nil
		return nil
	})
}
