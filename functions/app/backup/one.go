package backup

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/backup/chainmap"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

type snapshotRow struct {
	backup.Snapshot
	Kept    string
	Restore string
	Href    string
	State   view.State
}

type hole struct {
	From, To time.Time
	Why      string
}

type onePage struct {
	top
	row
	Home       string
	Live       string // what the live part asks again: this page, also where it answers a form
	List       string
	Settings   *view.Form
	Filters    []frame.Option
	Sources    []frame.Option
	Mechanisms []frame.Option
	Intervals  []frame.Option
	Holes      []hole
	Shots      []snapshotRow
	Pager      view.Pager
	Map        template.HTML
	Window     time.Duration // how long the source's oplog reaches back behind what is stored
	HasWindow  bool
	Wished     bool
	Active     bool
	Stored     int64
	NoAgent    bool
	NoDaemon   bool
	Agents     string
	Events     string
	Restores   string
}

// one answers: what can be restored of this replica set, and what keeps the rest from being?
func (p *Pages) one(ctx context.Context, v *view.Visit) (view.Answer, error) {
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return p.onePage(ctx, v, b, nil, nil)
}

func (p *Pages) onePage(ctx context.Context, v *view.Visit, b backups.Backup, schedule, settings *view.Form) (view.Answer, error) {
	if schedule == nil {
		schedule = scheduleForm(b.Config.Schedule)
	}
	if settings == nil {
		settings = settingsForm(&b.Config)
	}
	d := onePage{
		top: newTop(v, schedule), Home: home(v, &b), List: v.GroupPath("/backup"), Settings: settings, Agents: v.GroupPath("/agents"),
		Events: v.GroupPath("/activity?type=backup"), Restores: v.GroupPath("/backup-restores"),
		row: row{Backup: b, Name: b.Cluster.Name, State: state(&b, v.Now), Lag: b.Lag(v.Now), Doing: doing(&b, v.Now)},
	}
	d.Live = d.Home
	if v.Request.Method == http.MethodGet {
		d.Live = v.Link("done", "")
	}
	d.Active = b.Config.Status == model.BackupStarted || b.Config.Status == model.BackupProvisioning
	d.Filters = []frame.Option{
		frame.Choice("", "Everything", settings.Value("filter") == ""), frame.Choice(string(filter.Exclude), "Everything but", settings.Value("filter") == string(filter.Exclude)),
		frame.Choice(string(filter.Include), "Only", settings.Value("filter") == string(filter.Include)),
	}
	for _, s := range []string{"SECONDARY", "PRIMARY"} {
		d.Sources = append(d.Sources, frame.Choice(s, map[string]string{"SECONDARY": "A secondary", "PRIMARY": "The primary"}[s], settings.Value("source") == s))
	}
	for _, m := range b.Cluster.Members {
		if !m.Arbiter {
			d.Sources = append(d.Sources, frame.Choice(m.Host, m.Host, settings.Value("source") == m.Host))
		}
	}
	known := false
	for _, m := range []struct{ value, label string }{
		{"", "As the server offers: SCRAM"}, {"SCRAM-SHA-256", "SCRAM-SHA-256"}, {"SCRAM-SHA-1", "SCRAM-SHA-1"}, {"MONGODB_X509", "X.509 certificate"}, {"PLAIN", "LDAP (PLAIN)"},
	} {
		d.Mechanisms = append(d.Mechanisms, frame.Choice(m.value, m.label, settings.Value("mechanism") == m.value))
		known = known || settings.Value("mechanism") == m.value
	}
	if m := settings.Value("mechanism"); !known {
		d.Mechanisms = append(d.Mechanisms, frame.Choice(m, m, true)) // set through the API
	}
	for _, h := range []string{"6", "8", "12", "24"} {
		d.Intervals = append(d.Intervals, frame.Choice(h, h+" hours", schedule.Value("interval") == h))
	}
	var err error
	if d.NoAgent, d.NoDaemon, err = p.lacking(ctx, v); err != nil {
		return view.Answer{}, err
	}
	if b.Config.Status != model.BackupInactive {
		if err := p.history(ctx, v, &d); err != nil {
			return view.Answer{}, err
		}
	}
	a := page("backup-set.html", "Backup of "+d.Name, &d, schedule)
	if !settings.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a, nil
}

// history reads the snapshots and ranges, and draws the chain.
func (p *Pages) history(ctx context.Context, v *view.Visit, d *onePage) error {
	ranges, holes, err := p.opt.Service.Ranges(ctx, d.Config.ClusterID)
	if err != nil {
		return fmt.Errorf("read what can be restored: %w", err)
	}
	shots, err := p.opt.Service.Snapshots(ctx, d.Config.ClusterID, true, true)
	if err != nil {
		return fmt.Errorf("read the snapshots: %w", err)
	}
	for _, r := range ranges {
		d.Spans = append(d.Spans, spanOf(r))
	}
	for _, h := range holes {
		d.Holes = append(d.Holes, hole{time.Unix(int64(h.From.T), 0).UTC(), time.Unix(int64(h.To.T), 0).UTC(), sentence(h.Why)})
	}
	d.Map = chainmap.Draw(v, ranges, holes, shots)
	if n := len(d.Spans); n > 0 {
		d.Latest = d.Spans[n-1]
	}
	slices.Reverse(shots)
	var rows []snapshotRow
	for _, s := range shots {
		d.Stored += s.AddedBytes
		rows = append(rows, snapshotRowOf(d, s))
	}
	d.Shots, d.Pager = view.Paged(v, rows)
	if j := d.Job; j != nil {
		d.Wished = len(j.Wishes) > 0
		if newest := d.Newest(); !newest.IsZero() && !j.Tail.Oldest.IsZero() {
			d.Window, d.HasWindow = max(0, newest.Sub(j.Tail.Oldest)), true
		}
	}
	if d.Epoch != nil {
		d.Stored += d.Epoch.OplogStored
	}
	return nil
}

func snapshotRowOf(d *onePage, s backup.Snapshot) snapshotRow {
	r := snapshotRow{Snapshot: s, Href: d.Home + "/snapshots/" + s.ID, Restore: d.Home + "/restore?snapshot=" + s.ID}
	var kinds []string
	for _, k := range s.Kinds {
		kinds = append(kinds, string(k))
	}
	r.Kept = strings.Join(kinds, ", ")
	switch {
	case !s.Complete:
		r.State = view.State{Level: view.Info, Word: "being taken"}
	case s.VerifyError != "":
		r.State = view.State{Level: view.Critical, Word: "damaged", Why: s.VerifyError}
	case !s.Verified.IsZero():
		r.State = view.State{Level: view.OK, Word: "read again", Why: "A part of it was read from the store again and found right."}
	default:
		r.State = view.State{Level: view.OK, Word: "complete"}
	}
	return r
}

// setState starts, stops and reads anew.
func (p *Pages) setState(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	var acts []backups.Act
	want := v.Request.PostFormValue("want")
	switch want {
	case "STARTED", "STOPPED":
		_, acts, err = p.opt.Service.Save(ctx, b, b.Config, model.BackupStatus(want))
	case "RESYNC":
		acts, err = p.opt.Service.Resync(ctx, b, v.Who())
	default:
		return view.Answer{}, view.BadRequest("The state " + want + " is none.")
	}
	p.note(ctx, v, acts)
	if err != nil {
		f := scheduleForm(b.Config.Schedule)
		if err = refused(f, "state", err); err != nil {
			return view.Answer{}, err
		}
		return p.onePage(ctx, v, b, f, nil)
	}
	return view.Redirect(home(v, &b) + "?done=" + want), nil
}

func (p *Pages) confirmTerminate(ctx context.Context, v *view.Visit) (view.Answer, error) {
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return p.askTerminate(v, &b, view.NewForm(nil))
}

func (p *Pages) askTerminate(v *view.Visit, b *backups.Backup, f *view.Form) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	c := frame.Confirm{
		What: "backup", Name: b.Cluster.Name, Button: "Delete", Action: home(v, b) + "/terminate", Back: home(v, b), Form: f,
		Loses: "Every snapshot and all stored oplog of this replica set are deleted for ever: nothing of it can be restored afterwards. The replica set itself is not touched.",
	}
	a := c.Answer()
	a.Nav = "backup"
	return a, nil
}

func (p *Pages) terminate(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "name")
	if strings.TrimSpace(f.Value("name")) != b.Cluster.Name {
		f.Fail("name", "Type the name as it stands above.")
		return p.askTerminate(v, &b, f)
	}
	_, acts, err := p.opt.Service.Save(ctx, b, b.Config, model.BackupTerminating)
	p.note(ctx, v, acts)
	if err != nil {
		if err = refused(f, "name", err); err != nil {
			return view.Answer{}, err
		}
		return p.askTerminate(v, &b, f)
	}
	return view.Redirect(home(v, &b) + "?done=DELETED"), nil
}

// The fields of a schedule's form, with what they set.
var scheduleFields = []struct {
	name string
	of   func(p *snapshot.Policy) *int
}{
	{"interval", func(p *snapshot.Policy) *int { return &p.IntervalHours }},
	{"days", func(p *snapshot.Policy) *int { return &p.RetentionDays }},
	{"daily", func(p *snapshot.Policy) *int { return &p.DailyDays }},
	{"weekly", func(p *snapshot.Policy) *int { return &p.WeeklyWeeks }},
	{"monthly", func(p *snapshot.Policy) *int { return &p.MonthlyMonths }},
	{"window", func(p *snapshot.Policy) *int { return &p.PointInTimeHour }},
	{"hour", func(p *snapshot.Policy) *int { return &p.ReferenceHour }},
}

func scheduleForm(pol snapshot.Policy) *view.Form {
	f := view.NewForm(nil)
	for _, x := range scheduleFields {
		f.Set(x.name, strconv.Itoa(*x.of(&pol)))
	}
	return f
}

func (p *Pages) saveSchedule(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	var names []string
	for _, x := range scheduleFields {
		names = append(names, x.name)
	}
	f := view.NewForm(v.Request, names...)
	next := b.Config
	for _, x := range scheduleFields {
		n, err := strconv.Atoi(strings.TrimSpace(f.Value(x.name)))
		if err != nil {
			f.Fail(x.name, "A whole number is needed.")
			continue
		}
		was := *x.of(&next.Schedule)
		*x.of(&next.Schedule) = n
		if err := next.Schedule.Validate(); err != nil && was != n {
			f.Fail(x.name, inWords(err))
			*x.of(&next.Schedule) = was
		}
	}
	if !f.OK() {
		return p.onePage(ctx, v, b, f, nil)
	}
	_, acts, err := p.opt.Service.Save(ctx, b, next, "")
	p.note(ctx, v, acts)
	if err != nil {
		if err = refused(f, "interval", err); err != nil {
			return view.Answer{}, err
		}
		return p.onePage(ctx, v, b, f, nil)
	}
	return view.Redirect(home(v, &b) + "?done=schedule"), nil
}

// inWords is what is wrong with a field, without the API's name of it.
func inWords(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	if _, text, ok := strings.Cut(first, ": "); ok {
		first = text
	}
	return sentence(first)
}

func settingsForm(c *backup.Config) *view.Form {
	source := c.SyncSource
	if source == "" {
		source = "SECONDARY"
	}
	f := view.NewForm(nil).Set("source", source).Set("filter", string(c.Filter)).Set("namespaces", strings.Join(c.Namespaces, "\n")).
		Set("username", c.Username).Set("mechanism", c.Mechanism)
	if c.TLS {
		f.Set("tls", "on")
	}
	return f
}

func (p *Pages) saveSettings(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "source", "filter", "namespaces", "username", "password", "mechanism", "tls", "anew")
	next := b.Config
	next.SyncSource, next.Username, next.Mechanism, next.TLS = f.Value("source"), strings.TrimSpace(f.Value("username")), strings.TrimSpace(f.Value("mechanism")), f.On("tls")
	next.NewPassword, next.Resync = model.Secret(f.Value("password")), f.On("anew")
	if next.Username == "" {
		next.Password = nil
		if next.Mechanism != "MONGODB_X509" { // the certificate says who the agent is
			next.Mechanism = ""
		}
	}
	next.Filter, next.Namespaces = filter.Kind(f.Value("filter")), strings.Fields(f.Value("namespaces"))
	if next.Filter == filter.None {
		next.Namespaces = nil
	}
	if _, err := filter.New(next.Filter, next.Namespaces); err != nil {
		f.Fail("namespaces", sentence(err.Error()))
		return p.onePage(ctx, v, b, nil, f)
	}
	_, acts, err := p.opt.Service.Save(ctx, b, next, "")
	p.note(ctx, v, acts)
	if errors.Is(err, backup.ErrWidened) {
		f.Fail("anew", "The list lets in what was never read: tick this to have everything read anew.")
		err = nil
	}
	if err != nil {
		err = refused(f, "source", err)
	}
	if err != nil {
		return view.Answer{}, err
	}
	if !f.OK() {
		return p.onePage(ctx, v, b, nil, f)
	}
	return view.Redirect(home(v, &b) + "?done=settings"), nil
}

// take asks for a snapshot now.
func (p *Pages) take(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	days, _ := strconv.Atoi(v.Request.PostFormValue("days"))
	_, acts, err := p.opt.Service.Take(ctx, b, max(0, min(days, 3650)), v.Who())
	p.note(ctx, v, acts)
	if err != nil {
		f := scheduleForm(b.Config.Schedule)
		if err = refused(f, "state", err); err != nil {
			return view.Answer{}, err
		}
		return p.onePage(ctx, v, b, f, nil)
	}
	return view.Redirect(home(v, &b) + "?done=wished"), nil
}

func (p *Pages) keep(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.OperateBackup); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	forever := v.Request.PostFormValue("how") == "forever"
	_, acts, err := p.opt.Service.Keep(ctx, b, v.Request.PathValue("id"), forever, time.Time{})
	if err != nil {
		return view.Answer{}, view.Missing(err, "snapshot")
	}
	p.note(ctx, v, acts)
	return view.Redirect(home(v, &b) + "?done=kept"), nil
}

func (p *Pages) confirmDelete(ctx context.Context, v *view.Visit) (view.Answer, error) {
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return p.askDelete(v, &b, view.NewForm(nil))
}

func (p *Pages) askDelete(v *view.Visit, b *backups.Backup, f *view.Form) (view.Answer, error) {
	if err := v.Need(view.DeleteSnapshots); err != nil {
		return view.Answer{}, err
	}
	id := v.Request.PathValue("id")
	c := frame.Confirm{
		What: "snapshot", Name: id, Button: "Delete", Action: home(v, b) + "/snapshots/" + url.PathEscape(id) + "/delete", Back: home(v, b), Form: f,
		Loses: "Moments that are restored from this snapshot can no longer be restored, unless an earlier one with oplog up to them is there.",
	}
	a := c.Answer()
	a.Nav = "backup"
	return a, nil
}

func (p *Pages) deleteSnapshot(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.DeleteSnapshots); err != nil {
		return view.Answer{}, err
	}
	b, err := p.find(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "name")
	if strings.TrimSpace(f.Value("name")) != v.Request.PathValue("id") {
		f.Fail("name", "Type the id as it stands above.")
		return p.askDelete(v, &b, f)
	}
	acts, err := p.opt.Service.Delete(ctx, b, v.Request.PathValue("id"))
	if err != nil {
		if err = refused(f, "name", err); err != nil {
			return view.Answer{}, view.Missing(err, "snapshot")
		}
		return p.askDelete(v, &b, f)
	}
	p.note(ctx, v, acts)
	return view.Redirect(home(v, &b) + "?done=gone"), nil
}
