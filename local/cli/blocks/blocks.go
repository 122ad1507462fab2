// Package blocks is the part of `heartwood store` that looks at block stores: how full they are, whether what backups need is
// there, and what could be freed.
package blocks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Site is an opened site.
type Site struct {
	Store    *store.Store
	Box      *seal.Box
	ReadOnly bool // the database belongs to a running server: nothing can be changed
	Close    func()
}

// Source opens the site that a command's flags name.
type Source interface {
	Register(cmd *cobra.Command) // adds the flags
	Open(cmd *cobra.Command) (*Site, error)
	JSON() bool
}

// picks are the flags that narrow a command down.
type picks struct {
	store, job string
}

func (p *picks) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.store, "store", "", "id of one block store (default: all)")
	cmd.Flags().StringVar(&p.job, "job", "", "id of one backup job (default: all)")
}

// scene is a site's backups with the block stores that were picked.
type scene struct {
	site   *Site
	backup *backup.Backup
	stores []*opened
	jobs   []backup.Job // those that were picked
	note   io.Writer
}

// opened is a block store, or why it is not open.
type opened struct {
	model.BlockStore

	s   blockstore.Store
	err error
}

// open reads what the database says and opens the block stores. A store that cannot be opened is part of the outcome.
func open(ctx context.Context, site *Site, p picks, note io.Writer) (*scene, error) {
	v := &scene{site: site, backup: backup.New(site.Store), note: note}
	all, err := v.backup.Stores(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the block stores: %w", err)
	}
	jobs, err := v.backup.Jobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the backup jobs: %w", err)
	}
	for _, j := range jobs {
		if p.job == "" || string(j.ID) == p.job {
			v.jobs = append(v.jobs, j)
		}
	}
	if p.job != "" && len(v.jobs) == 0 {
		return nil, exit.Usagef("heartwood store stats", "there is no backup job %s", p.job)
	}
	for _, d := range all {
		if p.store == "" || d.ID == p.store {
			o := &opened{BlockStore: d}
			o.s, o.err = stores.Open(ctx, d, stores.Options{Box: site.Box})
			v.stores = append(v.stores, o)
		}
	}
	if p.store != "" && len(v.stores) == 0 {
		return nil, exit.Usagef("heartwood store stats", "there is no block store %s", p.store)
	}
	return v, nil
}

func (v *scene) close() {
	for _, o := range v.stores {
		if o.s != nil {
			_ = stores.Close(o.s)
		}
	}
}

// snapshots are the complete snapshots of a job in a store, newest first: what must be there and what grooming keeps. Those whose
// deletion has begun are among them until their records go.
func (v *scene) snapshots(ctx context.Context, job model.ID, storeID string) ([]backup.Snapshot, error) {
	all, err := v.backup.Snapshots(ctx, job)
	if err != nil {
		return nil, fmt.Errorf("read the snapshots of %s: %w", job, err)
	}
	all = slices.DeleteFunc(all, func(s backup.Snapshot) bool { return s.StoreID != storeID || !s.Complete })
	slices.SortStableFunc(all, func(a, b backup.Snapshot) int { return b.At.Compare(a.At) })
	return all, nil
}

func ids(snaps []backup.Snapshot) []string {
	out := make([]string, len(snaps)) // not nil: nil would mean all to tree.Measure
	for i := range snaps {
		out[i] = snaps[i].ID
	}
	return out
}

// kinds are the folders of objects that belong to jobs.
var kinds = []string{"blocks", "oplog", "pages", "seed", "snapshots"}

// with runs a command on the block stores of the site that its flags name.
func with(cmd *cobra.Command, src Source, p picks, run func(ctx context.Context, v *scene) error) error {
	site, err := src.Open(cmd)
	if err != nil {
		return err
	}
	defer site.Close()
	v, err := open(cmd.Context(), site, p, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer v.close()
	if len(v.stores) == 0 {
		_, _ = fmt.Fprintln(v.note, "no block store is described yet: `heartwood serve --backup` describes one by the settings heartwood.blockstore.*, the admin page others")
	}
	return run(cmd.Context(), v)
}

// show writes the outcome to standard output, as JSON or for people.
func show(cmd *cobra.Command, asJSON bool, outcome any, people func(io.Writer)) error {
	if !asJSON {
		people(cmd.OutOrStdout())
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	if err := enc.Encode(outcome); err != nil {
		return fmt.Errorf("print the outcome: %w", err)
	}
	return nil
}

// why is an error with what to do about it.
func why(err error) string {
	if hint := opererr.HintOf(err); hint != "" {
		return err.Error() + ". " + hint
	}
	return err.Error()
}
