package backupd

import (
	"context"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Head is the one that runs for a job; nil for none. The daemon must be idle.
func (d *Daemon) Head(id model.ID) *head.Head {
	if w := d.running()[id]; w != nil {
		return w.Head()
	}
	return nil
}

// JobDir is the folder of a job.
func (d *Daemon) JobDir(id model.ID) string { return d.h.JobDir(id) }

// Root is that of the heads.
func (d *Daemon) Root() string { return d.o.Root }

// Sweep removes the heads of others.
func (d *Daemon) Sweep(ctx context.Context) error { return d.sweep(ctx) }
