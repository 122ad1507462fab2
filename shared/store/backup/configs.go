package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// Config returns the configuration of a cluster, or store.ErrNotFound.
func (b *Backup) Config(ctx context.Context, cluster model.ID) (Config, error) {
	if err := entry.CheckID("cluster", cluster); err != nil {
		return Config{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return store.Get[Config](ctx, b.s, collConfigs, string(cluster))
}

// Configs lists the configurations of a group, by cluster id.
func (b *Backup) Configs(ctx context.Context, group model.ID) ([]Config, error) {
	return store.All[Config](ctx, b.s, docstore.Query{Collection: collConfigs, Index: "group", Prefix: []any{string(group)}})
}

// RunningConfigs lists the configurations of all groups that are not INACTIVE, by cluster id.
func (b *Backup) RunningConfigs(ctx context.Context) ([]Config, error) {
	running := []Config{}
	for c, err := range store.ScanAll[Config](ctx, b.s, docstore.Query{Collection: collConfigs}) {
		if err != nil {
			return nil, err
		}
		if c.Status != model.BackupInactive {
			running = append(running, c)
		}
	}
	return running, nil
}

// SaveConfig checks and keeps the settings of a configuration. Status and what else the area keeps in it stay as they are; a
// new one is INACTIVE. All faults are in the error (docstore.ErrInvalid). A change that calls for a full read of a backup that
// has data is ErrWidened unless c.Resync says that it is meant.
func (b *Backup) SaveConfig(ctx context.Context, c Config, now time.Time) (Config, error) {
	if err := c.validate(); err != nil {
		return c, err
	}
	why := ""
	var saved Config
	err := store.Upsert(ctx, b.s, collConfigs, string(c.ClusterID), func(have *Config, exists bool) error {
		why = ""
		next := c
		next.Status, next.Changed, next.StoppedAt, next.LastEpoch = model.BackupInactive, now, time.Time{}, 0
		if exists {
			if have.GroupID != c.GroupID {
				return fmt.Errorf("%w: cluster %s belongs to another group", ErrState, c.ClusterID)
			}
			next.Status, next.StoppedAt, next.LastEpoch = have.Status, have.StoppedAt, have.LastEpoch
			if have.Status != model.BackupInactive {
				if why = resyncFor(have, &next); why != "" && !c.Resync {
					return fmt.Errorf("%w: give syncSource with the change to have everything read anew", ErrWidened)
				}
			}
		}
		switch {
		case c.NewPassword != "":
			next.Password = b.s.Box().Seal([]byte(c.NewPassword.Reveal()), passwordContext(c.ClusterID))
		case c.Username == "":
			next.Password = nil
		case exists && c.Password == nil && c.Username == have.Username:
			next.Password = have.Password
		}
		*have, saved = next, next
		return nil
	})
	if err != nil || why == "" {
		return saved, err
	}
	// The wish is noted after the settings: an agent that begins the new epoch in between would read by the new ones all the
	// same, and reads once more.
	err = b.UpdateJob(ctx, c.ClusterID, func(j *Job) error {
		j.Resync = &Resync{Why: why, At: now}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		err = nil // nothing was read yet
	}
	return saved, err
}

func passwordContext(cluster model.ID) string { return "backup/password/" + string(cluster) }

// Password opens the password of a configuration, "" if it has none.
func (b *Backup) Password(c *Config) (model.Secret, error) {
	if c.Password == nil {
		return "", nil
	}
	plain, err := b.s.Box().Open(c.Password, passwordContext(c.ClusterID))
	if err != nil {
		return "", fmt.Errorf("the password of backup %s: %w", c.ClusterID, err)
	}
	return model.Secret(plain), nil
}

// SetStatus carries out Change. Starting makes the job, if there is none.
func (b *Backup) SetStatus(ctx context.Context, cluster model.ID, want model.BackupStatus, now time.Time) (Config, error) {
	c, err := b.Config(ctx, cluster)
	if err != nil {
		return c, err
	}
	trial := c
	if err := Change(&trial, want, now); err != nil {
		return c, err
	}
	if want == model.BackupStarted { // the job first: a running configuration always has one
		j := Job{ID: cluster, GroupID: c.GroupID, Stage: StageBinding, StageSince: now, Epoch: c.LastEpoch, First: c.LastEpoch + 1}
		if err := b.insertJob(ctx, j); err != nil {
			return c, err
		}
	}
	done := false
	err = store.Update(ctx, b.s, collConfigs, string(cluster), func(have *Config) error {
		if done && have.Status == trial.Status && have.Changed.Equal(trial.Changed) {
			c = *have
			return store.ErrUnchanged // an attempt that was thought lost
		}
		if err := Change(have, want, now); err != nil {
			return err
		}
		c, done = *have, true
		return nil
	})
	return c, err
}

// insertJob makes a job if there is none, and wakes one that waits for a person: starting again is what he did.
func (b *Backup) insertJob(ctx context.Context, j Job) error {
	err := store.Insert(ctx, b.s, collJobs, string(j.ID), j)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

// MarkStarted turns PROVISIONING into STARTED: a daemon has bound the job. In any other status it changes nothing.
func (b *Backup) MarkStarted(ctx context.Context, cluster model.ID, now time.Time) error {
	return store.Update(ctx, b.s, collConfigs, string(cluster), func(c *Config) error {
		if c.Status != model.BackupProvisioning {
			return store.ErrUnchanged
		}
		c.Status, c.Changed = model.BackupStarted, now
		return nil
	})
}

// Terminated ends a deletion: the job goes, and the configuration is INACTIVE. ErrState while the configuration is not
// TERMINATING, or something of the job is left.
func (b *Backup) Terminated(ctx context.Context, cluster model.ID, now time.Time) error {
	c, err := b.Config(ctx, cluster)
	if err != nil {
		return err
	}
	if c.Status != model.BackupTerminating {
		return &StateError{Have: c.Status, Want: model.BackupInactive}
	}
	left, err := b.Left(ctx, cluster)
	if err != nil {
		return err
	}
	if left == "" {
		left = collSnapshots
		from, to := store.Under(entry.Under(cluster))
		n, err := b.s.Engine().Count(ctx, docstore.Query{Collection: collSnapshots, From: from, To: to}, 1)
		if err != nil {
			return fmt.Errorf("count the snapshots of backup %s: %w", cluster, err)
		}
		if n == 0 {
			left = ""
		}
	}
	if left != "" {
		return fmt.Errorf("%w: backup %s still has %s", ErrState, cluster, left)
	}
	last := c.LastEpoch
	j, err := b.Job(ctx, cluster)
	switch {
	case err == nil:
		last = max(last, j.Epoch)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	// Numbers of epochs are never used twice, so the last one is kept before the job that knows it goes.
	err = store.Update(ctx, b.s, collConfigs, string(cluster), func(c *Config) error {
		c.LastEpoch = max(c.LastEpoch, last)
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.s.Delete(ctx, collJobs, string(cluster)); err != nil {
		return err
	}
	return store.Update(ctx, b.s, collConfigs, string(cluster), func(c *Config) error {
		if c.Status == model.BackupTerminating {
			c.Status, c.Changed, c.StoppedAt = model.BackupInactive, now, time.Time{}
		}
		return nil
	})
}
