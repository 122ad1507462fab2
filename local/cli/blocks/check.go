package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Checked is the outcome of `store check --blocks`.
type Checked struct {
	Stores    int     `json:"stores"`
	Snapshots int64   `json:"snapshots"`
	Files     int64   `json:"files"`
	Pages     int64   `json:"pages"`
	Blocks    int64   `json:"blocks"`
	Frames    int64   `json:"frames"` // re-read and hashed
	Bytes     int64   `json:"bytes"`  // of re-read blocks
	Slices    int64   `json:"slices"` // of the oplog, that are there in their size
	Faults    []Fault `json:"faults"`
	More      int64   `json:"more"` // faults beyond those listed
}

// Fault is something that a backup needs and that is not as it should be.
type Fault struct {
	Store    string `json:"store"`
	Job      string `json:"job,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
	What     string `json:"what"`
}

// maxFaults is how many faults are listed.
const maxFaults = 1000

func (c *Checked) fault(f Fault) {
	if len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, f)
	} else {
		c.More++
	}
}

// Check are the flags of `heartwood store check --blocks`.
type Check struct {
	On     bool // look at the block stores
	sample float64
	p      picks
}

// Register adds the flags to the command that checks the database.
func (c *Check) Register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.On, "blocks", false, "check what backups have in the block stores instead of the database")
	cmd.Flags().Float64Var(&c.sample, "sample", 0.05, "with --blocks: share of the stored data that is read again and compared with its hash, 0 to 1")
	c.p.register(cmd)
}

// Run checks the block stores.
func (c *Check) Run(cmd *cobra.Command, src Source) error {
	if c.sample < 0 || c.sample > 1 {
		return exit.Usagef("heartwood store check --blocks --sample 0.1", "--sample %v is not within 0 to 1", c.sample)
	}
	return with(cmd, src, c.p, func(ctx context.Context, v *scene) error {
		out := &Checked{Faults: []Fault{}}
		rnd := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // picks a sample
		for _, o := range v.stores {
			if o.err != nil {
				out.fault(Fault{Store: o.ID, What: why(o.err)})
				continue
			}
			out.Stores++
			for i := range v.jobs {
				if err := v.check(ctx, o, &v.jobs[i], c.sample, rnd, out); err != nil {
					return opererr.New(fmt.Sprintf("check job %s in %s", v.jobs[i].ID, o.ID), err, opererr.HintOf(err))
				}
			}
		}
		if err := show(cmd, src.JSON(), out, out.people); err != nil {
			return err
		}
		if n := int64(len(out.Faults)) + out.More; n > 0 {
			return &exit.Error{Code: exit.Failed, Err: opererr.New("check the block stores", fmt.Errorf("%d faults", n),
				"Snapshots that are named cannot be restored whole. Find out what happened to the storage, then take a new snapshot; where oplog is missing, resync the backup.")}
		}
		return nil
	})
}

func (v *scene) check(ctx context.Context, o *opened, job *backup.Job, share float64, rnd *rand.Rand, out *Checked) error {
	snaps, err := v.snapshots(ctx, job.ID, o.ID)
	if err != nil {
		return err
	}
	for i, s := range snaps {
		if !s.Condemned.IsZero() {
			continue // it is being deleted
		}
		_, _ = fmt.Fprintf(v.note, "checking snapshot %s of job %s (%d of %d)\n", s.ID, job.ID, i+1, len(snaps))
		m, err := tree.Load(ctx, o.s, string(job.ID), s.ID)
		if errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, blockstore.ErrDamaged) {
			out.fault(Fault{Store: o.ID, Job: string(job.ID), Snapshot: s.ID, What: err.Error()})
			continue
		}
		if err != nil {
			return err
		}
		r, err := tree.Check(ctx, o.s, m, share, rnd)
		if err != nil {
			return err
		}
		out.Snapshots++
		out.Files, out.Pages, out.Blocks = out.Files+r.Files, out.Pages+r.Pages, out.Blocks+r.Blocks
		out.Frames, out.Bytes, out.More = out.Frames+r.Frames, out.Bytes+r.Bytes, out.More+r.More
		for i := range r.Faults {
			out.fault(Fault{Store: o.ID, Job: string(job.ID), Snapshot: s.ID, What: r.Faults[i].Error()})
		}
	}
	return v.checkOplog(ctx, o, job, out)
}

// checkOplog compares the slices that the database names with the objects that are there.
func (v *scene) checkOplog(ctx context.Context, o *opened, job *backup.Job, out *Checked) error {
	epochs, err := v.backup.Epochs(ctx, job.ID)
	if err != nil {
		return err
	}
	for i := range epochs {
		e := &epochs[i]
		if e.StoreID != o.ID {
			continue
		}
		sizes := map[string]int64{}
		for obj, err := range blockstore.All(ctx, o.s, fmt.Sprintf("oplog/%s/%d/", job.ID, e.Number)) {
			if err != nil {
				return err
			}
			sizes[obj.Key] = obj.Size
		}
		if err := v.checkSlices(ctx, o, job.ID, e, sizes, out); err != nil {
			return err
		}
	}
	return nil
}

// slicesAtOnce is how many records of slices are read with one request.
const slicesAtOnce = 1000

func (v *scene) checkSlices(ctx context.Context, o *opened, job model.ID, e *backup.Epoch, sizes map[string]int64, out *Checked) error {
	after := oplog.OpTime{}
	if !e.Kept.IsZero() {
		after = e.Kept
	}
	for {
		page, err := v.backup.Slices(ctx, job, e.Number, after, slicesAtOnce)
		if errors.Is(err, backup.ErrExpired) {
			return nil // it went while this was looking
		}
		if err != nil {
			return err
		}
		for _, s := range page {
			size, there := sizes[s.Key]
			switch {
			case !there:
				out.fault(Fault{Store: o.ID, Job: string(job), What: fmt.Sprintf("oplog up to %v: object %s is missing", s.Slice.Last, s.Key)})
			case size != s.Stored:
				out.fault(Fault{Store: o.ID, Job: string(job), What: fmt.Sprintf("oplog up to %v: object %s has %d bytes, not %d", s.Slice.Last, s.Key, size, s.Stored)})
			default:
				out.Slices++
			}
			after = s.Slice.Last
		}
		if len(page) == 0 {
			return nil
		}
	}
}

func (c *Checked) people(w io.Writer) {
	for _, f := range c.Faults {
		_, _ = fmt.Fprintf(w, "fault: %s", f.Store)
		if f.Job != "" {
			_, _ = fmt.Fprintf(w, ": job %s", f.Job)
		}
		_, _ = fmt.Fprintf(w, ": %s\n", f.What)
	}
	if c.More > 0 {
		_, _ = fmt.Fprintf(w, "and %d more faults\n", c.More)
	}
	_, _ = fmt.Fprintf(w, "%d block stores: %d snapshots with %d files and %d blocks, %d slices of oplog; %s read again: %d faults\n",
		c.Stores, c.Snapshots, c.Files, c.Blocks, c.Slices, bytes(c.Bytes), int64(len(c.Faults))+c.More)
}
