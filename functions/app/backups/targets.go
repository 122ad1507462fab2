package backups

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// silence is after how long an agent counts as not there, and a host as not watched.
const silence = 5 * time.Minute

// Limits of what is looked at for a target.
const (
	maxTargetGroups = 100 // groups whose replica sets are offered as targets
	maxTargets      = 500
	maxDisks        = 16 // members of a target whose disks are read
)

// Choice is a replica set that a person may restore into.
type Choice struct {
	Group   model.Group
	Cluster model.Cluster
	Agent   bool // a backup agent of its group is calling: without one nothing can be written
}

// Targets lists the replica sets of groups that can be restored into, in the order of the groups, at most 500 of the first
// 100 groups. Which groups somebody may write into is for the caller to know.
func (s *Service) Targets(ctx context.Context, groups []model.Group) ([]Choice, error) {
	var all []Choice
	for _, g := range groups[:min(len(groups), maxTargetGroups)] {
		clusters, err := s.o.Inventory.Clusters(ctx, g.ID)
		if err != nil {
			return nil, err
		}
		clusters = slices.DeleteFunc(clusters, func(c model.Cluster) bool { return !Backable(&c) })
		if len(clusters) == 0 {
			continue
		}
		agent, err := s.agent(ctx, g.ID)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(clusters, func(a, b model.Cluster) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
		for _, c := range clusters {
			all = append(all, Choice{Group: g, Cluster: c, Agent: agent})
		}
		if len(all) >= maxTargets {
			return all[:maxTargets], nil
		}
	}
	return all, nil
}

// agent reports whether a backup agent of a group is calling.
func (s *Service) agent(ctx context.Context, group model.ID) (bool, error) {
	agents, err := s.o.Inventory.Agents(ctx, group)
	return slices.ContainsFunc(agents, func(a model.Agent) bool {
		return a.Type == model.AgentBackup && s.o.Now().Sub(a.LastConf) <= silence
	}), err
}

// target is what is known of the deployment that is pushed into; nil where none is named. What its collections are only its agent
// sees: it looks again before it writes.
func (s *Service) target(ctx context.Context, b *Backup, o *Order) (*restoreplan.Target, error) {
	if o.TargetGroup == "" || o.Target == "" {
		return nil, nil //nolint:nilnil // the plan says that one is needed
	}
	clusters, err := s.o.Inventory.Clusters(ctx, o.TargetGroup)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(clusters, func(c model.Cluster) bool { return c.ID == o.Target })
	if i < 0 {
		return nil, restoreplan.RefuseTarget("the target is no cluster of that group")
	}
	c := &clusters[i]
	t := &restoreplan.Target{
		Name: c.Name, Cluster: string(c.ID), ReplicaSet: Backable(c),
		SameSet: c.ID == b.Config.ClusterID || b.Epoch != nil && c.ReplicaSetID != "" && c.ReplicaSetID == b.Epoch.ReplicaSetID,
	}
	if !t.ReplicaSet {
		return t, nil
	}
	if t.Agent, err = s.agent(ctx, o.TargetGroup); err != nil {
		return nil, err
	}
	open, err := s.o.Store.OpenRestores(ctx)
	if err != nil {
		return nil, err
	}
	for i := range open {
		if r := &open[i]; r.Method == model.DeliverPush && r.TargetID == o.Target {
			t.Busy = r.ID
		}
	}
	if err := s.watched(ctx, o.TargetGroup, t); err != nil {
		return nil, err
	}
	return t, s.held(ctx, t)
}

// watched adds what monitoring knows of the target's members.
func (s *Service) watched(ctx context.Context, group model.ID, t *restoreplan.Target) error {
	hosts, err := s.o.Inventory.Hosts(ctx, group)
	if err != nil {
		return err
	}
	hosts = slices.DeleteFunc(hosts, func(h model.Host) bool { return string(h.ClusterID) != t.Cluster || !h.Visible() })
	statuses, err := s.o.Inventory.Statuses(ctx, group)
	if err != nil {
		return err
	}
	primary := model.HostID("")
	for i := range statuses {
		st := &statuses[i]
		if s.o.Now().Sub(st.At) > silence || !slices.ContainsFunc(hosts, func(h model.Host) bool { return h.ID == st.HostID }) {
			continue
		}
		t.Watched = true
		if st.Reach == model.ReachUp && st.State == model.StatePrimary {
			t.Primary, primary = true, st.HostID
		}
	}
	hosts = slices.DeleteFunc(hosts, func(h model.Host) bool { return h.Type == model.TypeReplicaArbiter })
	for i := range hosts {
		h := &hosts[i]
		if h.Version != "" && (t.Version == "" || restoreplan.Older(h.Version, t.Version)) {
			t.Version = h.Version
		}
		if h.FCV != "" && (t.FCV == "" || restoreplan.Older(h.FCV, t.FCV)) {
			t.FCV = h.FCV
		}
	}
	if s.o.Series == nil {
		return nil
	}
	// The primary knows best what is there, so it is asked first.
	slices.SortStableFunc(hosts, func(a, b model.Host) int { return cmp.Compare(btoi(b.ID == primary), btoi(a.ID == primary)) })
	for i := range hosts[:min(len(hosts), maxDisks)] {
		if err := s.measured(ctx, &hosts[i], t); err != nil {
			return err
		}
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// measured adds the databases of a member, if those of none are known yet, and the room on its disk.
func (s *Service) measured(ctx context.Context, h *model.Host, t *restoreplan.Target) error {
	if !t.Listed {
		names, err := s.o.Series.Dimensions(ctx, h.ID, catalog.Database)
		if err != nil {
			return err
		}
		t.Listed = len(names) > 0 // each has an admin database at least
		for _, n := range names {
			if n != "admin" && n != "config" && n != "local" {
				t.Databases = append(t.Databases, n)
			}
		}
	}
	disks, err := s.o.Series.Dimensions(ctx, h.ID, catalog.Disk)
	if err != nil {
		return err
	}
	disk := diskOf(disks, h.DBPath)
	if disk == "" {
		return nil
	}
	now := s.o.Now()
	res, err := s.o.Series.Read(ctx, series.Query{Host: h.ID, Measurements: []string{"DISK_PARTITION_SPACE_FREE"}, Dimension: disk, From: now.Add(-time.Hour), To: now, Step: 5 * time.Minute})
	if err != nil || len(res.Lines) != 1 {
		return err
	}
	values := res.Lines[0].Values
	for i := len(values) - 1; i >= 0; i-- {
		if math.IsNaN(values[i]) {
			continue
		}
		if free := int64(values[i]); t.Free == 0 || free < t.Free {
			t.Free, t.FreeOn = max(1, free), h.Address()
		}
		break
	}
	return nil
}

// diskOf is the disk on which a folder is: the longest mount point above it, or the volume that dbStats tells of; "" for none.
func diskOf(disks []string, folder string) string {
	best := ""
	for _, d := range disks {
		if strings.HasPrefix(d, "/") && (d == "/" || folder == d || strings.HasPrefix(folder, d+"/")) && folder != "" && len(d) > len(best) {
			best = d
		}
	}
	if best == "" && slices.Contains(disks, catalog.DataVolume) {
		return catalog.DataVolume
	}
	return best
}

// held adds the collections that the target had at its last snapshot, where it is backed up too, and a feature compatibility
// version that its backup agent has seen where monitoring has none.
func (s *Service) held(ctx context.Context, t *restoreplan.Target) error {
	job, err := s.o.Store.Job(ctx, model.ID(t.Cluster))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	t.FCV = cmp.Or(t.FCV, job.Tail.FCV)
	if job.Last == "" {
		return nil
	}
	contents, err := s.o.Store.Contents(ctx, job.ID, job.Last)
	for _, c := range contents {
		t.Namespaces = append(t.Namespaces, c.NS)
	}
	return err
}

// At is the step of its plan that a restore is at: one of restoreplan's, "" before the first, while it waits for a head or an agent, and
// at the end.
func At(r *backup.Restore) string {
	if r.Status != model.RestoreInProgress || r.Waits {
		return ""
	}
	return r.Do
}

// Trouble is what an agent that writes a restore waits for, as a part of a sentence: what a person must do, or what it hopes to pass;
// "" for nothing. What it is at is told before it.
func Trouble(r *backup.Restore) (at, trouble string) {
	if r.Method == model.DeliverPush && r.Status == model.RestoreInProgress && len(r.Objects) > 0 {
		at, trouble, _ = strings.Cut(r.Step, "; ")
		return at, trouble
	}
	return r.Step, ""
}

// StepState is how it stands with a step of a plan.
type StepState string

// The states of a step.
const (
	StepDone    StepState = "DONE"
	StepRunning StepState = "RUNNING"
	StepWaiting StepState = "WAITING"
)

// Progress is how far a restore is.
type Progress struct {
	Steps []StepState   // of the plan's, in order
	Left  time.Duration // about how long it still takes, without waiting for anybody; negative where that cannot be told
}

// ProgressOf works out how far a restore is, from its plan and what was told last.
func ProgressOf(r *backup.Restore, plan *restoreplan.Plan) Progress {
	p := Progress{Steps: make([]StepState, len(plan.Steps)), Left: -1}
	next := max(0, slices.IndexFunc(plan.Steps, func(s restoreplan.Step) bool { return s.Do == r.Do }))
	if r.Status == model.RestoreFinished {
		next = len(plan.Steps)
	}
	running := -1
	if At(r) != "" {
		running = next
	}
	for i := range p.Steps {
		switch {
		case i < next:
			p.Steps[i] = StepDone
		case i == running:
			p.Steps[i] = StepRunning
		default:
			p.Steps[i] = StepWaiting
		}
	}
	if r.Status != model.RestoreInProgress || next >= len(plan.Steps) {
		return p
	}
	left := float64(0)
	for _, s := range plan.Steps[next+1:] {
		left += float64(max(1, s.Seconds))
	}
	left += ofStep(r, plan.Steps[next], running >= 0)
	p.Left = time.Duration(left * float64(time.Second)).Round(time.Second)
	return p
}

// ofStep is how many seconds a step still takes: by the pace at which it went so far, else as planned.
func ofStep(r *backup.Restore, s restoreplan.Step, running bool) float64 {
	planned := float64(max(1, s.Seconds))
	if !running || r.Total <= 0 {
		return planned
	}
	done, all := float64(min(r.Done, r.Total)), float64(r.Total)
	if spent := r.Beat.Sub(r.Since).Seconds(); spent >= 5 && r.Done > r.From {
		return (all - done) / float64(r.Done-r.From) * spent
	}
	return planned * (all - done) / all
}
