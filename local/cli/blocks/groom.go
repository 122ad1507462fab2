package blocks

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Groomed is the outcome of `store groom`. With DryRun it says what would be done.
type Groomed struct {
	DryRun bool         `json:"dryRun"`
	Jobs   []GroomedJob `json:"jobs"`
	Stores []Leftovers  `json:"leftovers"` // of writers that were killed; none are looked for in a dry run
}

// GroomedJob is the grooming of one job in one store.
type GroomedJob struct {
	Store string `json:"store"`
	Job   string `json:"job"`
	tree.GroomReport

	Skipped string `json:"skipped,omitempty"` // why nothing was done
	Error   string `json:"error,omitempty"`
}

// Leftovers are what killed writers left in one store and is gone now.
type Leftovers struct {
	Store string `json:"store"`
	blockstore.Cleaned

	Error string `json:"error,omitempty"`
}

// jobLease is for how long a job's lease is taken at a time; it is renewed while grooming lasts.
const jobLease = time.Minute

// NewGroom is `heartwood store groom`.
func NewGroom(src Source) *cobra.Command {
	var (
		p      picks
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "groom",
		Short: "Free what no snapshot needs in the block stores, or say what could be freed",
		Long: "Backup daemons groom by themselves; this is for looking at it (--dry-run), and for stores whose daemon is gone. What is found\n" +
			"unneeded is condemned first and deleted by a later run, a day after. Packs of which less than half is alive are rewritten. Jobs that a\n" +
			"daemon is at work on are left to it.\n\nExit codes: 0 done, 1 failed, 2 wrong usage.",
		Example: "  heartwood store groom --dry-run --data /var/lib/heartwood\n  heartwood store groom --store default --job 0123456789abcdef01234567 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, src, p, func(ctx context.Context, v *scene) error { return v.groom(ctx, cmd, dryRun, src.JSON()) })
		},
	}
	src.Register(cmd)
	p.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be condemned, deleted and rewritten, and change nothing")
	return cmd
}

func (v *scene) groom(ctx context.Context, cmd *cobra.Command, dryRun, asJSON bool) error {
	if v.site.ReadOnly && !dryRun {
		return opererr.New("groom the block stores", fmt.Errorf("the server is running on this database"),
			"Its daemon grooms by itself. To look at it add --dry-run; to do it by hand stop the server first (heartwood stop).")
	}
	out := Groomed{DryRun: dryRun, Jobs: []GroomedJob{}, Stores: []Leftovers{}}
	failed := 0
	for _, o := range v.stores {
		for i := range v.jobs {
			g, some := v.groomJob(ctx, o, &v.jobs[i], dryRun)
			if some {
				out.Jobs = append(out.Jobs, g)
			}
			if g.Error != "" {
				failed++
			}
		}
		if !dryRun && o.err == nil {
			l := Leftovers{Store: o.ID}
			now, err := v.site.Store.Engine().Now(ctx)
			if err == nil {
				l.Cleaned, err = blockstore.Clean(ctx, o.s, now.Add(-blockstore.LeftoverAge))
			}
			if err != nil {
				l.Error = why(err)
				failed++
			}
			out.Stores = append(out.Stores, l)
		}
	}
	if err := show(cmd, asJSON, out, out.people); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("grooming failed in %d places", failed)}
	}
	return nil
}

// groomJob grooms what a job has in a store. some is false where it has no snapshot there: there is nothing to measure by.
func (v *scene) groomJob(ctx context.Context, o *opened, job *backup.Job, dryRun bool) (g GroomedJob, some bool) {
	g = GroomedJob{Store: o.ID, Job: string(job.ID)}
	fail := func(err error) (GroomedJob, bool) {
		g.Error = why(err)
		return g, true
	}
	if o.err != nil {
		return fail(o.err)
	}
	token := int64(0)
	if !dryRun {
		host, _ := os.Hostname()
		lease, got, err := v.site.Store.Lease(ctx, backup.LeaseName(job.ID), fmt.Sprintf("store groom on %s", host), jobLease)
		if err != nil {
			return fail(err)
		}
		if !got {
			g.Skipped = "daemon " + job.Daemon + " is at work on it and grooms it"
			return g, true
		}
		defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }()
		token = lease.Token
		kept, stop := lease.Keep(ctx)
		defer stop()
		ctx = kept
	}
	snaps, err := v.snapshots(ctx, job.ID, o.ID)
	if err != nil {
		return fail(err)
	}
	if len(snaps) == 0 {
		return g, false
	}
	now, err := v.site.Store.Engine().Now(ctx)
	if err != nil {
		return fail(err)
	}
	_, _ = fmt.Fprintf(v.note, "reading the maps of job %s in %s\n", job.ID, o.ID)
	r, err := tree.Groom(ctx, o.s, string(job.ID), ids(snaps), tree.GroomOptions{DryRun: dryRun, Now: now, Token: token})
	if err != nil {
		return fail(err)
	}
	g.GroomReport = *r
	return g, true
}

func (g Groomed) people(w io.Writer) {
	would := ""
	if g.DryRun {
		would = "would be "
	}
	if len(g.Jobs) == 0 {
		_, _ = fmt.Fprintln(w, "there is no snapshot, so there is nothing to groom")
	}
	for _, j := range g.Jobs {
		_, _ = fmt.Fprintf(w, "job %s in %s: ", j.Job, j.Store)
		switch {
		case j.Error != "":
			_, _ = fmt.Fprintln(w, j.Error)
			continue
		case j.Skipped != "":
			_, _ = fmt.Fprintln(w, "left alone:", j.Skipped)
			continue
		}
		_, _ = fmt.Fprintf(w, "%s live, %s dead in %d snapshots\n", bytes(j.Usage.Live), bytes(j.Usage.Dead), j.Usage.Snapshots)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintf(tw, "  %scondemned\t%d objects\n", would, len(j.Condemned))
		_, _ = fmt.Fprintf(tw, "  %sdeleted\t%d objects\t%s\n", would, len(j.Deleted), bytes(j.Freed))
		_, _ = fmt.Fprintf(tw, "  %srewritten\t%d packs\t%s to %s\n", would, len(j.Rewritten), bytes(j.RewrittenFrom), bytes(j.RewrittenTo))
		_ = tw.Flush() // its writer's errors are the command's own
	}
	for _, l := range g.Stores {
		switch {
		case l.Error != "":
			_, _ = fmt.Fprintf(w, "leftovers of killed writers in %s: %s\n", l.Store, l.Error)
		case l.Leftovers > 0:
			_, _ = fmt.Fprintf(w, "leftovers of %d killed writers removed in %s: %s\n", l.Leftovers, l.Store, bytes(l.Bytes))
		}
	}
}
