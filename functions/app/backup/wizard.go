package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

type preset struct {
	Label string
	Href  string
}

type wizardPage struct {
	top
	Name    string
	Home    string
	List    string
	Zone    string
	Shots   []frame.Option
	Spans   []span
	Presets []preset
	Formats []frame.Option
	Into    targets
	Agents  string // how to install a backup agent
	Plan    *restoreplan.Plan
	At      time.Time // of the plan
	Fields  [][2]string
	Nothing bool // there is nothing to restore from
}

// targets are the replica sets that the visitor may restore into.
type targets struct {
	Groups []targetGroup
	Any    bool // one of them has an agent that would write
	All    int
}

type targetGroup struct {
	Name string
	Sets []target
}

type target struct {
	frame.Option
	Why string // why it cannot be chosen
}

// Fields of the wizard, kept from the choice to the plan and from the plan to the start.
var wizardFields = []string{"snapshot", "at", "way", "into", "drop", "users", "format", "namespaces", "rename", "hours", "downloads"}

// wayPush is the value of the field way for a restore into a running deployment; an archive otherwise.
const wayPush = "push"

// momentFmt is a datetime-local input with seconds.
const momentFmt = "2006-01-02T15:04:05"

// wizard answers: to which moment, what, and how? The address carries the choice, so that it can be shown to somebody else.
func (p *Pages) wizard(ctx context.Context, v *view.Visit) (view.Answer, error) {
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(nil)
	for _, name := range wizardFields {
		f.Set(name, v.Query(name))
	}
	if f.Value("hours") == "" {
		f.Set("hours", fmt.Sprint(backups.DefaultLinkHours)).Set("downloads", "1")
	}
	if ago := v.Query("ago"); ago != "" {
		if d, err := time.ParseDuration(ago); err == nil && d > 0 {
			f.Set("at", v.Now.Add(-d).In(v.Zone).Format(momentFmt))
		}
	}
	return p.wizardPage(ctx, v, b, f, v.Query("plan") != "")
}

func (p *Pages) wizardPage(ctx context.Context, v *view.Visit, b backups.Backup, f *view.Form, plan bool) (view.Answer, error) {
	d := wizardPage{top: newTop(v, f), Name: b.Cluster.Name, Home: home(v, &b), List: v.GroupPath("/backup"), Zone: v.Zone.String()}
	ranges, _, err := p.opt.Service.Ranges(ctx, b.Config.ClusterID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read what can be restored: %w", err)
	}
	for _, r := range ranges {
		d.Spans = append(d.Spans, spanOf(r))
	}
	shots, err := p.opt.Service.Snapshots(ctx, b.Config.ClusterID, true, false)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the snapshots: %w", err)
	}
	slices.Reverse(shots)
	d.Nothing = len(shots) == 0
	d.Shots = append(d.Shots, frame.Choice("", "Everything up to the second below", f.Value("snapshot") == ""))
	for _, s := range shots[:min(len(shots), 200)] {
		label := "The snapshot of " + v.At(s.At)
		if s.VerifyError != "" {
			label += " (damaged)"
		}
		d.Shots = append(d.Shots, frame.Choice(s.ID, label, f.Value("snapshot") == s.ID))
	}
	for _, ago := range []struct{ label, d string }{{"a minute ago", "1m"}, {"10 minutes ago", "10m"}, {"an hour ago", "1h"}, {"6 hours ago", "6h"}} {
		back, err := time.ParseDuration(ago.d)
		if err != nil {
			return view.Answer{}, err
		}
		if slices.ContainsFunc(d.Spans, func(s span) bool { return s.holds(v.Now.Add(-back)) }) {
			d.Presets = append(d.Presets, preset{ago.label, d.Home + "/restore?ago=" + ago.d})
		}
	}
	if n := len(d.Spans); n > 0 && d.Spans[n-1].Seconds {
		newest := d.Spans[n-1].To.In(v.Zone).Format(momentFmt)
		d.Presets = append([]preset{{"the newest second", d.Home + "/restore?at=" + url.QueryEscape(newest)}}, d.Presets...)
	}
	d.Formats = []frame.Option{
		frame.Choice(string(restoreplan.Files), "Data files: start a mongod on them", f.Value("format") != string(restoreplan.BSON)),
		frame.Choice(string(restoreplan.BSON), "BSON files: load them with mongorestore", f.Value("format") == string(restoreplan.BSON)),
	}
	d.Agents = v.GroupPath("/agents") + "#install-backup"
	if d.Into, err = p.targets(ctx, v, &b, f.Value("into")); err != nil {
		return view.Answer{}, err
	}
	if plan {
		if err := p.preview(ctx, v, b, f, shots, &d); err != nil {
			return view.Answer{}, err
		}
	}
	return page("backup-restore.html", "Restore "+d.Name, &d, f), nil
}

// preview puts the plan of what the form asks for on the page, or what is wrong with it into the form.
func (p *Pages) preview(ctx context.Context, v *view.Visit, b backups.Backup, f *view.Form, shots []backup.Snapshot, d *wizardPage) error {
	o, ok := read(v, f)
	if !ok && !unconfirmed(f) {
		return nil
	}
	made, err := p.opt.Service.Plan(ctx, b, o)
	if err != nil {
		return refusedAt(f, err)
	}
	for i := range shots {
		if shots[i].ID == made.Snapshot && shots[i].VerifyError != "" {
			made.Warnings = append([]string{"This restore begins with a snapshot that is damaged: " + shots[i].VerifyError + ". It may fail: choose a moment that another snapshot reaches."}, made.Warnings...)
		}
	}
	d.Plan, d.At = &made, time.Unix(int64(made.Target.T), 0).UTC()
	for _, name := range wizardFields {
		d.Fields = append(d.Fields, [2]string{name, f.Value(name)})
	}
	return nil
}

// unconfirmed reports whether nothing is wrong with a form but that the target's name was not typed.
func unconfirmed(f *view.Form) bool { return len(f.Errors) == 1 && f.Errors["confirm"] != "" }

// refusedAt puts a refusal beside the field that it is about.
func refusedAt(f *view.Form, err error) error {
	if errors.Is(err, restoreplan.ErrTarget) {
		return refused(f, "into", err)
	}
	return refused(f, "at", err)
}

// targets lists what the visitor may restore into, their own group first.
func (p *Pages) targets(ctx context.Context, v *view.Visit, b *backups.Backup, chosen string) (t targets, err error) {
	groups := []model.Group{}
	for _, g := range v.Groups {
		if mayInto(v, g.ID) {
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(x, y model.Group) int {
		return cmp.Compare(btoi(y.ID == v.Group.ID), btoi(x.ID == v.Group.ID))
	})
	choices, err := p.opt.Service.Targets(ctx, groups)
	if err != nil {
		return t, fmt.Errorf("read what can be restored into: %w", err)
	}
	t.All = len(choices)
	for i := range choices {
		c := &choices[i]
		if i == 0 || choices[i-1].Group.ID != c.Group.ID {
			t.Groups = append(t.Groups, targetGroup{Name: c.Group.Name})
		}
		label := c.Cluster.Name
		if c.Cluster.ID == b.Config.ClusterID {
			label += " (the backup is of it)"
		}
		x := target{Option: frame.Choice(intoOf(c.Group.ID, c.Cluster.ID), label, chosen == intoOf(c.Group.ID, c.Cluster.ID))}
		if !c.Agent {
			x.Why = "no backup agent of its group is calling"
		}
		t.Any = t.Any || c.Agent
		g := &t.Groups[len(t.Groups)-1]
		g.Sets = append(g.Sets, x)
	}
	return t, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// intoOf is a target as the form has it.
func intoOf(group, cluster model.ID) string { return string(group) + "/" + string(cluster) }

// mayInto reports whether the visitor may restore into the replica sets of a group.
func mayInto(v *view.Visit, group model.ID) bool {
	i := slices.IndexFunc(v.Groups, func(g model.Group) bool { return g.ID == group })
	return i >= 0 && v.User != nil && v.Allowed != nil && v.Allowed(view.OperateBackup, group, v.Groups[i].OrgID)
}

// read is what a form asks for.
func read(v *view.Visit, f *view.Form) (o backups.Order, ok bool) {
	zone := v.Zone
	o.Format = restoreplan.Format(f.Value("format"))
	o.Compress = true
	if o.Snapshot = f.Value("snapshot"); o.Snapshot == "" {
		at, err := time.ParseInLocation(momentFmt, f.Value("at"), zone)
		if err != nil {
			at, err = time.ParseInLocation("2006-01-02T15:04", f.Value("at"), zone)
		}
		if err != nil {
			f.Fail("at", "Say to which second, or choose a snapshot.")
		}
		o.Second = at
	}
	o.Namespaces = strings.Fields(f.Value("namespaces"))
	for _, line := range strings.Split(f.Value("rename"), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		from, to, found := strings.Cut(line, "=")
		if !found {
			f.Fail("rename", "Each line is OLD=NEW, a database or a collection.")
			continue
		}
		if o.Rename == nil {
			o.Rename = map[string]string{}
		}
		o.Rename[strings.TrimSpace(from)] = strings.TrimSpace(to)
	}
	if f.Value("way") == wayPush {
		group, cluster, _ := strings.Cut(f.Value("into"), "/")
		o.Push, o.Format, o.Compress, o.Drop, o.Users = true, "", false, f.On("drop"), f.On("users")
		o.TargetGroup, o.Target = model.ID(group), model.ID(cluster)
		if cluster == "" || !mayInto(v, o.TargetGroup) {
			f.Fail("into", "Choose the replica set to write into.")
		}
		return o, f.OK()
	}
	for _, n := range []struct {
		name string
		into *int
		most int
	}{{"hours", &o.LinkHours, backups.MaxLinkHours}, {"downloads", &o.Downloads, backups.MaxDownloads}} {
		if _, err := fmt.Sscan(f.Value(n.name), n.into); err != nil || *n.into < 1 || *n.into > n.most {
			f.Fail(n.name, fmt.Sprintf("A whole number from 1 to %d is needed.", n.most))
		}
	}
	return o, f.OK()
}

// order plans, or starts what was planned.
func (p *Pages) order(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, append([]string{"confirm"}, wizardFields...)...)
	f.Set("namespaces", strings.ReplaceAll(f.Value("namespaces"), "\r", "")).Set("rename", strings.ReplaceAll(f.Value("rename"), "\r", ""))
	if v.Request.PostFormValue("do") != "start" {
		return p.wizardPage(ctx, v, b, f, true)
	}
	o, ok := read(v, f)
	if !ok {
		return p.wizardPage(ctx, v, b, f, false)
	}
	if o.Push {
		if err := p.confirmed(ctx, b, o, f); err != nil || !f.OK() {
			if err != nil {
				return view.Answer{}, err
			}
			return p.wizardPage(ctx, v, b, f, unconfirmed(f))
		}
	}
	r, acts, err := p.opt.Service.Start(ctx, b, o, v.Who())
	p.note(ctx, v, acts)
	if err != nil {
		if err = refusedAt(f, err); err != nil {
			return view.Answer{}, err
		}
		return p.wizardPage(ctx, v, b, f, false)
	}
	return view.Redirect(v.GroupPath("/backup-restores/" + r.ID)), nil
}

// confirmed checks that the name of the target was typed where something of it is replaced.
func (p *Pages) confirmed(ctx context.Context, b backups.Backup, o backups.Order, f *view.Form) error {
	plan, err := p.opt.Service.Plan(ctx, b, o)
	if err != nil {
		return refusedAt(f, err)
	}
	if plan.Destroys() && strings.TrimSpace(f.Value("confirm")) != plan.Into.Name {
		f.Fail("confirm", "Type "+plan.Into.Name+", the name of the replica set that is written into.")
	}
	return nil
}

type restoreRow struct {
	backup.Restore
	Name  string
	Into  string // the name of the deployment that it is written into; "" for an archive
	Href  string
	To    time.Time
	State view.State
	Doing *progress
}

type restoresPage struct {
	top
	List    string
	Rows    []restoreRow
	Next    string
	Backups bool
}

// restores answers: which restores were made, and what came of them?
func (p *Pages) restores(ctx context.Context, v *view.Visit) (view.Answer, error) {
	found, next, err := p.opt.Service.Restores(ctx, backup.RestoreQuery{Group: v.Group.ID, After: v.Query("after"), Limit: 50})
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the restores: %w", err)
	}
	names, err := p.names(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := restoresPage{top: newTop(v, nil), List: v.GroupPath("/backup")}
	for i := range found {
		d.Rows = append(d.Rows, restoreRowOf(v, &found[i], names))
	}
	if next != "" {
		d.Next = v.GroupPath("/backup-restores?after=" + next)
	}
	return page("backup-restores.html", "Restores", &d, nil), nil
}

func (p *Pages) names(ctx context.Context, v *view.Visit) (map[model.ID]string, error) {
	clusters, err := p.opt.Inventory.Clusters(ctx, v.Group.ID)
	if err != nil {
		return nil, fmt.Errorf("read the clusters: %w", err)
	}
	names := map[model.ID]string{}
	for _, c := range clusters {
		names[c.ID] = c.Name
	}
	return names, nil
}

func restoreRowOf(v *view.Visit, r *backup.Restore, names map[model.ID]string) restoreRow {
	row := restoreRow{Restore: *r, Name: names[r.Job], Href: v.GroupPath("/backup-restores/" + r.ID)}
	if row.Name == "" {
		row.Name = string(r.Job)
	}
	plan, planned := backups.PlanOf(r)
	if planned {
		row.To = time.Unix(int64(plan.Target.T), 0).UTC()
	}
	if r.Method == model.DeliverPush {
		if row.Into = string(r.TargetID); plan.Into != nil {
			row.Into = plan.Into.Name
		}
	}
	switch r.Status {
	case model.RestoreFinished:
		row.State = view.State{Level: view.OK, Word: "ready"}
		if row.Into != "" {
			row.State.Word = "in place"
			break
		}
		switch r.Delivery.StatusAt(r.Objects, v.Now) {
		case model.DeliveryExpired:
			row.State = view.State{Level: view.Unknown, Word: "expired", Why: "The link is over."}
		case model.DeliveryMaxDownloads, model.DeliveryFinished:
			row.State = view.State{Level: view.OK, Word: "fetched"}
		case model.DeliveryTransferring:
			row.State = view.State{Level: view.Info, Word: "being fetched"}
		}
	case model.RestoreBroken:
		row.State = view.State{Level: view.Critical, Word: "failed", Why: r.Error}
	case model.RestoreKilled:
		row.State = view.State{Level: view.Unknown, Word: "cancelled", Why: r.Error}
	default:
		row.State = view.State{Level: view.Info, Word: "in progress"}
		at, _ := backups.Trouble(r)
		row.Doing = progressOf(sentence(at), time.Time{}, r.Done, r.Total, "bytes", v.Now)
		row.Doing.What, row.Doing.Left = strings.TrimSuffix(row.Doing.What, "."), ""
		if r.Done == 0 && r.Total == 0 || backups.At(r) == restoreplan.DoSwap { // what it says counts collections
			row.Doing.Detail = ""
		}
		if planned {
			if left := backups.ProgressOf(r, &plan).Left; left >= 0 {
				row.Doing.Left = "about " + view.Duration(left) + " left"
			}
		}
	}
	return row
}

type restorePage struct {
	top
	restoreRow
	List    string
	Backups string
	Set     string // the page of the backup
	Again   string // the wizard with the same choice; "" while it runs
	Plan    *restoreplan.Plan
	Steps   []stepRow
	Told    bool // how it stands with each step is known
	Link    string
	File    backup.Object
	Has     bool
	Silent  time.Duration // since its daemon, or the agent that writes, was last heard of
	Leaves  string        // what cancelling leaves
	Waits   bool          // for the agent beside the target
	Asks    string        // what that agent says must be done first
	Untidy  bool          // that agent has not said yet that nothing of it is left but what it is for
	Cluster string        // the page of the target, where it is in this group
}

type stepRow struct {
	restoreplan.Step
	State view.State
}

// restore answers: how far is it, and where do I fetch it?
func (p *Pages) restore(ctx context.Context, v *view.Visit) (view.Answer, error) {
	r, err := p.opt.Service.Restore(ctx, v.Group.ID, v.Request.PathValue("id"))
	if err != nil {
		return view.Answer{}, view.Missing(err, "restore")
	}
	return p.restorePage(ctx, v, &r, view.NewForm(nil))
}

func (p *Pages) restorePage(ctx context.Context, v *view.Visit, r *backup.Restore, f *view.Form) (view.Answer, error) {
	names, err := p.names(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := restorePage{top: newTop(v, f), restoreRow: restoreRowOf(v, r, names), List: v.GroupPath("/backup-restores"), Backups: v.GroupPath("/backup"), Set: v.GroupPath("/backup/" + string(r.Job))}
	if r.Status != model.RestoreInProgress {
		d.Again = again(v, r, d.Set)
	}
	if plan, ok := backups.PlanOf(r); ok {
		d.Plan, d.Steps = &plan, stepsOf(r, &plan)
		d.Told = r.Status == model.RestoreInProgress || r.Status == model.RestoreFinished
	}
	if len(r.Objects) > 0 && r.Method == model.DeliverHTTP {
		d.File, d.Has = r.Objects[0], true
	}
	d.Leaves = sentence(backups.Leaves(r))
	pushed := r.Method == model.DeliverPush && len(r.Objects) > 0
	d.Waits = pushed && r.Status == model.RestoreInProgress && r.Delivery.Status == model.DeliveryReady
	if _, trouble := backups.Trouble(r); trouble != "" {
		d.Asks = sentence(strings.TrimSuffix(trouble, "."))
	}
	d.Error = sentence(strings.TrimSuffix(r.Error, "."))
	d.Untidy = pushed && r.Status != model.RestoreInProgress && r.Delivery.Status == model.DeliveryTransferring
	if r.TargetGroup == v.Group.ID && names[r.TargetID] != "" {
		d.Cluster = v.GroupPath("/clusters/" + string(r.TargetID))
	}
	if d.May {
		link, err := p.opt.Service.Link(*r)
		if err != nil && !errors.Is(err, backup.ErrLink) && !errors.Is(err, backup.ErrLinkEnded) {
			return view.Answer{}, err
		}
		if link != "" {
			d.Link = p.pullURL(v) + link
		}
	}
	if !r.Beat.IsZero() && r.Status == model.RestoreInProgress && !d.Waits {
		if d.Silent = v.Now.Sub(r.Beat); d.Silent > 2*time.Minute {
			d.Doing.Left = ""
		}
	}
	return page("backup-restored.html", "Restore of "+d.Name, &d, f), nil
}

// stepsOf are the steps of a plan with how it stands with each.
func stepsOf(r *backup.Restore, plan *restoreplan.Plan) []stepRow {
	words := map[backups.StepState]view.State{
		backups.StepDone: {Level: view.OK, Word: "done"}, backups.StepRunning: {Level: view.Info, Word: "in progress"}, backups.StepWaiting: {Level: view.Unknown, Word: "to come"},
	}
	p := backups.ProgressOf(r, plan)
	rows := make([]stepRow, len(plan.Steps))
	for i, s := range plan.Steps {
		rows[i] = stepRow{Step: s, State: words[p.Steps[i]]}
	}
	return rows
}

// again is the wizard with what a restore asked for.
func again(v *view.Visit, r *backup.Restore, set string) string {
	q := url.Values{"format": {r.Format}, "plan": {"1"}}
	if r.PointInTime {
		q.Set("at", time.Unix(int64(r.Target.T), 0).In(v.Zone).Format(momentFmt))
	} else {
		q.Set("snapshot", r.SnapshotID)
	}
	if r.Method == model.DeliverPush {
		q.Set("way", wayPush)
		q.Set("into", intoOf(r.TargetGroup, r.TargetID))
		for name, on := range map[string]bool{"drop": r.Drop, "users": r.Users} {
			if on {
				q.Set(name, "on")
			}
		}
	}
	if len(r.Namespaces) > 0 {
		q.Set("namespaces", strings.Join(r.Namespaces, "\n"))
	}
	var renames []string
	for from, to := range r.Rename {
		renames = append(renames, from+"="+to)
	}
	if slices.Sort(renames); len(renames) > 0 {
		q.Set("rename", strings.Join(renames, "\n"))
	}
	return set + "/restore?" + q.Encode()
}

// pullURL is where archives are fetched.
func (p *Pages) pullURL(v *view.Visit) string {
	if p.opt.PullURL != "" {
		return strings.TrimSuffix(p.opt.PullURL, "/")
	}
	return here(v)
}

// here is this server as the visitor reaches it.
func here(v *view.Visit) string {
	scheme := "http"
	if v.Secure {
		scheme = "https"
	}
	return scheme + "://" + v.Request.Host
}

func (p *Pages) cancel(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	r, err := p.opt.Service.Restore(ctx, v.Group.ID, v.Request.PathValue("id"))
	if err != nil {
		return view.Answer{}, view.Missing(err, "restore")
	}
	acts, err := p.opt.Service.Cancel(ctx, r, v.Who())
	p.note(ctx, v, acts)
	if err != nil {
		f := view.NewForm(nil)
		if err = refused(f, "cancel", err); err != nil {
			return view.Answer{}, err
		}
		return p.restorePage(ctx, v, &r, f)
	}
	return view.Redirect(v.GroupPath("/backup-restores/" + r.ID + "?done=killed")), nil
}
