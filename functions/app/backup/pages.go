// Package backup holds the pages of backups: which replica sets can be restored to which second, one backup with its chain of
// snapshots and oplog, and restores from the choice of a moment to the link. What they do goes through functions/app/backups,
// as the Public API does; every change leaves an event.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Service carries out what people want of backups.
type Service interface {
	List(ctx context.Context, group model.ID) ([]backups.Backup, error)
	One(ctx context.Context, group, cluster model.ID) (backups.Backup, error)
	Save(ctx context.Context, b backups.Backup, next backup.Config, want model.BackupStatus) (backup.Config, []backups.Act, error)
	Resync(ctx context.Context, b backups.Backup, by string) ([]backups.Act, error)
	Snapshots(ctx context.Context, cluster model.ID, complete, incomplete bool) ([]backup.Snapshot, error)
	Take(ctx context.Context, b backups.Backup, days int, by string) (backup.Wish, []backups.Act, error)
	Keep(ctx context.Context, b backups.Backup, id string, forever bool, until time.Time) (backup.Snapshot, []backups.Act, error)
	Delete(ctx context.Context, b backups.Backup, id string) ([]backups.Act, error)
	Ranges(ctx context.Context, cluster model.ID) ([]snapshot.Range, []snapshot.Hole, error)
	Plan(ctx context.Context, b backups.Backup, o backups.Order) (restoreplan.Plan, error)
	Targets(ctx context.Context, groups []model.Group) ([]backups.Choice, error)
	Start(ctx context.Context, b backups.Backup, o backups.Order, by string) (backup.Restore, []backups.Act, error)
	Restore(ctx context.Context, group model.ID, id string) (backup.Restore, error)
	Restores(ctx context.Context, q backup.RestoreQuery) ([]backup.Restore, string, error)
	Cancel(ctx context.Context, r backup.Restore, by string) ([]backups.Act, error)
	Link(r backup.Restore) (string, error)
}

// Inventory is what is known of the group beside its backups.
type Inventory interface {
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Daemons tells which daemons there are, and where backups are kept.
type Daemons interface {
	Daemons(ctx context.Context) ([]backup.Daemon, error)
	Stores(ctx context.Context) ([]model.BlockStore, error)
}

// Options are what the pages need from outside.
type Options struct {
	Service   Service
	Inventory Inventory
	Daemons   Daemons
	Events    alert.Noter
	PullURL   string // where archives are fetched; empty: this server
	Log       *slog.Logger
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Service == nil || o.Inventory == nil || o.Daemons == nil || o.Events == nil || o.Log == nil {
		return nil, errors.New("backup pages: Service, Inventory, Daemons, Events and Log are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	const one = "/g/{group}/backup/{cluster}"
	return []view.Route{
		{Pattern: "GET /g/{group}/backup", Handler: p.overview},
		{Pattern: "GET " + one, Handler: p.one},
		{Pattern: "POST " + one + "/state", Handler: p.setState},
		{Pattern: "GET " + one + "/terminate", Handler: p.confirmTerminate},
		{Pattern: "POST " + one + "/terminate", Handler: p.terminate},
		{Pattern: "POST " + one + "/schedule", Handler: p.saveSchedule},
		{Pattern: "POST " + one + "/settings", Handler: p.saveSettings},
		{Pattern: "POST " + one + "/snapshots", Handler: p.take},
		{Pattern: "POST " + one + "/snapshots/{id}/keep", Handler: p.keep},
		{Pattern: "GET " + one + "/snapshots/{id}/delete", Handler: p.confirmDelete},
		{Pattern: "POST " + one + "/snapshots/{id}/delete", Handler: p.deleteSnapshot},
		{Pattern: "GET " + one + "/restore", Handler: p.wizard},
		{Pattern: "POST " + one + "/restore", Handler: p.order},
		{Pattern: "GET /admin/backup", Handler: p.admin},
		{Pattern: "GET /g/{group}/backup-restores", Handler: p.restores},
		{Pattern: "GET /g/{group}/backup-restores/{id}", Handler: p.restore},
		{Pattern: "POST /g/{group}/backup-restores/{id}/cancel", Handler: p.cancel},
	}
}

// top is what all these pages share.
type top struct {
	May  bool
	Why  string
	Said string
	Form *view.Form
}

func newTop(v *view.Visit, f *view.Form) top {
	return top{May: v.May(view.OperateBackup), Why: "You cannot change this: " + view.OperateBackup.Reason(), Said: said(v.Query("done")), Form: f}
}

// page is an answer with a form, which is refused where the form has errors.
func page(template, title string, data any, f *view.Form) view.Answer {
	a := view.Answer{Template: template, Title: title, Nav: "backup", Data: data}
	if f != nil && !f.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a
}

// said is the sentence after an action; the address carries only its name, so that nobody can put words on a page.
func said(name string) string {
	return map[string]string{
		"STARTED":  "The backup was started. A daemon takes it and a backup agent reads everything once; this page follows them.",
		"STOPPED":  "The backup was stopped. Its snapshots stay until they expire, and can be restored.",
		"DELETED":  "The backup is being deleted with everything it holds.",
		"RESYNC":   "Everything will be read anew. What was stored before stays restorable until it expires.",
		"schedule": "The schedule was saved. Snapshots that are there keep their expiry.",
		"settings": "The settings were saved.",
		"wished":   "A snapshot was asked for. It is taken as soon as the head has reached the present.",
		"kept":     "Saved.",
		"gone":     "The snapshot is being deleted.",
		"killed":   "The restore was cancelled.",
	}[name]
}

// note keeps the events of what was done.
func (p *Pages) note(ctx context.Context, v *view.Visit, acts []backups.Act) {
	for _, a := range acts {
		alert.Note(ctx, v, p.opt.Events, p.opt.Log, a)
	}
}

// find is the backup of the page's address.
func (p *Pages) find(ctx context.Context, v *view.Visit) (backups.Backup, error) {
	b, err := p.opt.Service.One(ctx, v.Group.ID, model.ID(v.Request.PathValue("cluster")))
	if errors.Is(err, backups.ErrNotBackedUp) {
		return b, &view.Problem{Status: http.StatusNotFound, Title: "This cluster has no backup of its own", What: "Only replica sets that are no part of a sharded cluster are backed up by this build."}
	}
	if err != nil {
		return b, view.Missing(err, "replica set")
	}
	return b, nil
}

func home(v *view.Visit, b *backups.Backup) string {
	return v.GroupPath("/backup/" + string(b.Config.ClusterID))
}

// refused puts the service's refusals into the form; what is not one of them is a failure of the page.
func refused(f *view.Form, field string, err error) error {
	for _, known := range []error{backup.ErrState, backup.ErrWidened, backups.ErrWishes, backups.ErrNoBackup, backups.ErrNotBackedUp, restoreplan.ErrImpossible, docstore.ErrInvalid} {
		if errors.Is(err, known) {
			f.Fail(field, sentence(err.Error()))
			return nil
		}
	}
	return err
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// state is how a backup does, in a word.
func state(b *backups.Backup, now time.Time) view.State {
	j := b.Job
	switch {
	case b.Config.Status == model.BackupInactive || b.Config.Status == "":
		return view.State{Level: view.Unknown, Word: "not backed up"}
	case b.Config.Status == model.BackupStopped:
		return view.State{Level: view.Unknown, Word: "stopped", Why: "Its snapshots stay until they expire."}
	case b.Config.Status == model.BackupTerminating:
		return view.State{Level: view.Info, Word: "being deleted"}
	case j == nil:
		return view.State{Level: view.Info, Word: "starting"}
	case j.Problem != nil && j.Problem.Snapshots:
		return view.State{Level: view.Warning, Word: "snapshots fail", Why: j.Problem.Text}
	case j.Problem != nil:
		return view.State{Level: view.Critical, Word: "stands still", Why: j.Problem.Text}
	case j.Resync != nil || b.Epoch != nil && !b.Epoch.Ended.IsZero():
		return view.State{Level: view.Warning, Word: "must read anew", Why: why(b)}
	}
	if t := j.Tail; t.Error != "" && now.Sub(t.ErrorAt) >= trouble {
		return view.State{Level: view.Warning, Word: "agent in trouble", Why: t.Error}
	}
	if lag := b.Lag(now); j.Stage == backup.StageTailing && lag > lagging {
		return view.State{Level: view.Warning, Word: "behind", Why: "The newest stored oplog is " + view.Duration(lag) + " old."}
	}
	switch j.Stage {
	case backup.StageTailing:
		return view.State{Level: view.OK, Word: "continuous"}
	case backup.StageBinding:
		return view.State{Level: view.Info, Word: "waits for a daemon", Why: j.Reason}
	case backup.StageSync:
		return view.State{Level: view.Info, Word: "reading everything"}
	case backup.StageBuild:
		return view.State{Level: view.Info, Word: "filling the head"}
	case backup.StageCatchUp:
		return view.State{Level: view.Info, Word: "catching up"}
	}
	return view.State{Level: view.Unknown, Word: strings.ToLower(string(cmp.Or(j.Stage, "starting")))}
}

const (
	lagging = 10 * time.Minute // from when on a backup counts as behind; an alert comes at 75 minutes
	trouble = time.Minute      // for how long an agent's error is taken for one that passes, as elections do
)

func why(b *backups.Backup) string {
	if b.Job.Resync != nil {
		return sentence(b.Job.Resync.Why)
	}
	return sentence(b.Epoch.EndedWhy)
}

// progress is long work for people.
type progress struct {
	What    string
	Done    float64 // of a hundred; negative: not known
	Detail  string
	Left    string // about how long; "" where it cannot be told
	Percent string
}

func progressOf(what string, since time.Time, done, all int64, unit string, now time.Time) *progress {
	amount := func(n int64) string {
		if unit == "" || unit == "bytes" {
			return view.Bytes(float64(n))
		}
		return fmt.Sprintf("%s %s", view.Count(n), unit)
	}
	p := &progress{What: what, Done: -1, Detail: amount(done)}
	if all > 0 {
		p.Done = min(100, 100*float64(done)/float64(all))
		p.Detail, p.Percent = amount(min(done, all))+" of "+amount(all), fmt.Sprintf("%.0f %%", p.Done)
		if spent := now.Sub(since); done > 0 && spent > 5*time.Second && done < all {
			p.Left = "about " + view.Duration(time.Duration(float64(spent)*float64(all-done)/float64(done)).Round(time.Second)) + " left"
		}
	}
	return p
}

// doing is what a backup is at.
func doing(b *backups.Backup, now time.Time) *progress {
	j := b.Job
	switch {
	case j == nil:
		return nil
	case j.Activity != nil:
		a := j.Activity
		word := map[string]string{"snapshot": "Taking a snapshot", "seed": "Filling the head", "apply": "Applying oplog", "index": "Building indexes", "restore": "Making the head from a snapshot", "groom": "Grooming"}[a.What]
		return progressOf(cmp.Or(word, a.What), a.Since, a.Done, a.Total, a.Unit, now)
	case j.Stage == backup.StageSync && j.Tail.Collections > 0:
		p := progressOf("Reading every collection", j.StageSince, j.Tail.BytesDone, j.Tail.Bytes, "bytes", now)
		p.Detail += fmt.Sprintf(", %s of %s collections", view.Count(j.Tail.CollectionsDone), view.Count(j.Tail.Collections))
		if j.Tail.Throttled != "" {
			p.Detail += ", slowed down: " + j.Tail.Throttled
		}
		return p
	}
	return nil
}

// span is what of a backup can be restored.
type span struct {
	From, To time.Time
	Seconds  bool // any second between; else only the snapshot of From
}

// holds reports whether a moment can be restored.
func (s span) holds(at time.Time) bool {
	return s.Seconds && !at.Before(s.From) && !at.After(s.To)
}

func spanOf(r snapshot.Range) span {
	first, last, ok := r.Window()
	if !ok {
		at := time.Unix(int64(r.From.T), 0).UTC()
		return span{From: at, To: at}
	}
	return span{From: first, To: last, Seconds: true}
}

type row struct {
	backups.Backup
	Name   string
	Href   string
	State  view.State
	Spans  []span
	Lag    time.Duration
	Doing  *progress
	Latest span
}

type overviewPage struct {
	top
	Rows     []row
	Others   []model.Cluster // sharded: not backed up by this build
	NoAgent  bool
	NoDaemon bool
	Sets     bool // there is a replica set
	Agents   string
	Restores string
}

// overview answers: is every replica set restorable, to which second, how far behind?
func (p *Pages) overview(ctx context.Context, v *view.Visit) (view.Answer, error) {
	list, err := p.opt.Service.List(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the backups: %w", err)
	}
	d := overviewPage{top: newTop(v, nil), Agents: v.GroupPath("/agents"), Restores: v.GroupPath("/backup-restores"), Sets: len(list) > 0}
	for i := range list {
		r := row{Backup: list[i], Name: list[i].Cluster.Name, Href: home(v, &list[i]), State: state(&list[i], v.Now), Lag: list[i].Lag(v.Now), Doing: doing(&list[i], v.Now)}
		if r.Config.Status != model.BackupInactive {
			ranges, _, err := p.opt.Service.Ranges(ctx, r.Config.ClusterID)
			if err != nil {
				return view.Answer{}, fmt.Errorf("read what can be restored: %w", err)
			}
			for _, x := range ranges {
				r.Spans = append(r.Spans, spanOf(x))
			}
			if n := len(r.Spans); n > 0 {
				r.Latest = r.Spans[n-1]
			}
		}
		d.Rows = append(d.Rows, r)
	}
	clusters, err := p.opt.Inventory.Clusters(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the clusters: %w", err)
	}
	for _, c := range clusters {
		if c.Type == model.ClusterSharded {
			d.Others = append(d.Others, c)
		}
	}
	if d.NoAgent, d.NoDaemon, err = p.lacking(ctx, v); err != nil {
		return view.Answer{}, err
	}
	return page("backup.html", "Backup", &d, nil), nil
}

// silence is after how long an agent or a daemon counts as not there.
const silence = 5 * time.Minute

func (p *Pages) lacking(ctx context.Context, v *view.Visit) (agent, daemon bool, err error) {
	agents, err := p.opt.Inventory.Agents(ctx, v.Group.ID)
	if err != nil {
		return false, false, fmt.Errorf("read the agents: %w", err)
	}
	daemons, err := p.opt.Daemons.Daemons(ctx)
	if err != nil {
		return false, false, fmt.Errorf("read the backup daemons: %w", err)
	}
	agent, daemon = true, true
	for _, a := range agents {
		agent = agent && (a.Type != model.AgentBackup || v.Now.Sub(a.LastConf) > silence)
	}
	for _, x := range daemons {
		daemon = daemon && (x.Stopped || v.Now.Sub(x.Beat) > silence)
	}
	return agent, daemon, nil
}
