package blocks

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Stats is the outcome of `store stats`.
type Stats struct {
	Stores []StoreStats `json:"stores"`
}

// StoreStats is how full one block store is, and with what. Sizes are bytes.
type StoreStats struct {
	ID    string               `json:"id"`
	Type  model.BlockStoreType `json:"type"`
	Free  *int64               `json:"free,omitempty"`  // left for this process, where the storage says so
	Total *int64               `json:"total,omitempty"` // of the storage
	Jobs  []JobStats           `json:"jobs"`
	// Unknown are jobs of which there are objects and which the site does not know: another site's, or a deleted database's.
	Unknown []string `json:"unknown"`
	Error   string   `json:"error,omitempty"` // why there is nothing else
}

// JobStats is what one backup job has in one block store.
type JobStats struct {
	Job string `json:"job"`
	tree.Usage

	Oplog int64  `json:"oplog"` // slices of the oplog
	Seed  int64  `json:"seed"`  // slices of full reads that no snapshot has replaced yet
	Error string `json:"error,omitempty"`
}

// NewStats is `heartwood store stats`.
func NewStats(src Source) *cobra.Command {
	var p picks
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Say what takes how much room in the block stores",
		Long: "Reads the maps of all snapshots and lists the objects of every backup job. LIVE is what snapshots need; DEAD is what grooming\n" +
			"could free; CONDEMNED is the part of it that waits for its grace to pass. Changes nothing.\n\nExit codes: 0 done, 1 failed or a store could not be read, 2 wrong usage.",
		Example: "  heartwood store stats --data /var/lib/heartwood\n  heartwood store stats --store default --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, src, p, func(ctx context.Context, v *scene) error { return v.stats(ctx, cmd, src.JSON()) })
		},
	}
	src.Register(cmd)
	p.register(cmd)
	return cmd
}

func (v *scene) stats(ctx context.Context, cmd *cobra.Command, asJSON bool) error {
	out := Stats{Stores: []StoreStats{}}
	failed := 0
	for _, o := range v.stores {
		s := v.storeStats(ctx, o)
		if s.Error != "" || slices.ContainsFunc(s.Jobs, func(j JobStats) bool { return j.Error != "" }) {
			failed++
		}
		out.Stores = append(out.Stores, s)
	}
	if err := show(cmd, asJSON, out, out.people); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("%d block stores could not be read whole", failed)}
	}
	return nil
}

func (v *scene) storeStats(ctx context.Context, o *opened) StoreStats {
	s := StoreStats{ID: o.ID, Type: o.Type, Jobs: []JobStats{}, Unknown: []string{}}
	if o.err != nil {
		s.Error = why(o.err)
		return s
	}
	if sp, ok := blockstore.SpacerOf(o.s); ok {
		if room, err := sp.Space(ctx); err == nil {
			s.Free, s.Total = &room.Free, &room.Total
		}
	}
	there, err := jobsIn(ctx, o.s)
	if err != nil {
		s.Error = why(err)
		return s
	}
	known, err := v.backup.Jobs(ctx)
	if err != nil {
		s.Error = why(err)
		return s
	}
	for _, id := range there {
		switch {
		case slices.ContainsFunc(v.jobs, func(j backup.Job) bool { return string(j.ID) == id }):
			_, _ = fmt.Fprintf(v.note, "reading the maps of job %s in %s\n", id, o.ID)
			s.Jobs = append(s.Jobs, v.jobStats(ctx, o, id))
		case !slices.ContainsFunc(known, func(j backup.Job) bool { return string(j.ID) == id }):
			s.Unknown = append(s.Unknown, id)
		}
	}
	return s
}

func (v *scene) jobStats(ctx context.Context, o *opened, job string) JobStats {
	j := JobStats{Job: job}
	err := func() error {
		snaps, err := v.snapshots(ctx, model.ID(job), o.ID)
		if err != nil {
			return err
		}
		u, err := tree.Measure(ctx, o.s, job, ids(snaps))
		if err != nil {
			return err
		}
		j.Usage = *u
		if j.Oplog, err = size(ctx, o.s, "oplog/"+job+"/"); err != nil {
			return err
		}
		j.Seed, err = size(ctx, o.s, "seed/"+job+"/")
		return err
	}()
	if err != nil {
		j.Error = why(err)
	}
	return j
}

func size(ctx context.Context, s blockstore.Store, prefix string) (sum int64, err error) {
	for o, err := range blockstore.All(ctx, s, prefix) {
		if err != nil {
			return sum, err
		}
		sum += o.Size
	}
	return sum, nil
}

// jobsIn finds the jobs that have objects, without listing the objects: after one of a job it goes on behind all of the job's.
func jobsIn(ctx context.Context, s blockstore.Store) ([]string, error) {
	found := map[string]bool{}
	for _, kind := range kinds {
		after := ""
		for {
			page, err := s.List(ctx, kind+"/", after, 1)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			job, _, ok := strings.Cut(strings.TrimPrefix(page[0].Key, kind+"/"), "/")
			if !ok {
				after = page[0].Key
				continue
			}
			found[job] = true
			after = kind + "/" + job + "0" // '0' comes after '/'
		}
	}
	out := make([]string, 0, len(found))
	for job := range found {
		out = append(out, job)
	}
	slices.Sort(out)
	return out, nil
}

func bytes(n int64) string { return view.Bytes(float64(n)) }

func (s Stats) people(w io.Writer) {
	for i, st := range s.Stores {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		_, _ = fmt.Fprintf(w, "block store %s (%s)", st.ID, st.Type)
		if st.Free != nil {
			_, _ = fmt.Fprintf(w, ", %s of %s free", bytes(*st.Free), bytes(*st.Total))
		}
		_, _ = fmt.Fprintln(w)
		switch {
		case st.Error != "":
			_, _ = fmt.Fprintf(w, "  cannot be read: %s\n", st.Error)
		case len(st.Jobs) == 0:
			_, _ = fmt.Fprintln(w, "  nothing is stored yet")
		default:
			jobTable(w, st.Jobs)
		}
		if len(st.Unknown) > 0 {
			_, _ = fmt.Fprintf(w, "  objects of jobs that this site does not know: %s\n", strings.Join(st.Unknown, ", "))
		}
	}
}

func jobTable(w io.Writer, jobs []JobStats) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "JOB\tSNAPSHOTS\tLIVE\tDEAD\tCONDEMNED\tOPLOG\tSYNC\tTOTAL")
	for _, j := range jobs {
		if j.Error != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", j.Job, j.Error)
			continue
		}
		_, _ = fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Job, j.Snapshots, bytes(j.Live), bytes(j.Dead), bytes(j.CondemnedBytes), bytes(j.Oplog), bytes(j.Seed),
			bytes(j.Stored+j.Oplog+j.Seed))
	}
	_ = tw.Flush() // its writer's errors are the command's own
}
