package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

// Trial explains what happened, and what did not.
type Trial interface {
	Why(ctx context.Context, q trial.WhyQuery) ([]trial.Reason, error)
}

// maxWhy bounds the window that is explained.
const maxWhy = 31 * 24 * time.Hour

type reason struct {
	trial.Reason
	State   view.State
	About   string
	Path    string
	Alert   string
	Config  string
	Nearest string
	Limit   string
}

type whyPage struct {
	Form    *view.Form
	Asked   bool
	Rows    []reason
	Told    int // reasons that say somebody was told
	Pager   view.Pager
	List    string
	From    time.Time
	To      time.Time
	Presets []Option
}

// why answers: why was I not paged?
func (p *Pages) why(ctx context.Context, v *view.Visit) (view.Answer, error) {
	f := view.NewForm(nil)
	for _, name := range []string{"from", "to", "host", "who"} {
		f.Set(name, strings.TrimSpace(v.Query(name)))
	}
	d := whyPage{Form: f, List: base(v), Asked: len(v.Request.URL.Query()) > 0}
	d.To, d.From = v.Now, v.Now.Add(-12*time.Hour)
	moment(v, f, "from", &d.From)
	moment(v, f, "to", &d.To)
	switch {
	case !f.OK():
	case !d.From.Before(d.To):
		f.Fail("to", "The end must come after the beginning.")
	case d.To.Sub(d.From) > maxWhy:
		f.Fail("from", "At most 31 days can be explained at once.")
	}
	f.Set("from", d.From.In(v.Zone).Format("2006-01-02T15:04")).Set("to", d.To.In(v.Zone).Format("2006-01-02T15:04"))
	if name := f.Value("host"); name != "" && !model.HostID(name).Valid() {
		if _, _, err := model.SplitAddress(name); err != nil {
			f.Fail("host", "Give a host name and port, such as db1.example.com:27017.")
		}
	}
	for _, o := range []struct {
		label string
		back  time.Duration
	}{{"last hour", time.Hour}, {"last 12 hours", 12 * time.Hour}, {"last 24 hours", 24 * time.Hour}, {"last 7 days", 7 * 24 * time.Hour}} {
		d.Presets = append(d.Presets, Option{Label: o.label, Value: v.Link("from", v.Now.Add(-o.back).Format(time.RFC3339), "to", v.Now.Format(time.RFC3339))})
	}
	answer := view.Answer{Template: "alerts-why.html", Title: "Why was I not paged?", Nav: "alerts", Data: &d}
	if !f.OK() {
		answer.Status = 400
		return answer, nil
	}
	if !d.Asked {
		return answer, nil
	}
	list, err := p.opt.Trial.Why(ctx, trial.WhyQuery{GroupID: v.Group.ID, From: d.From.UTC(), To: d.To.UTC(), Host: f.Value("host"), Username: f.Value("who")})
	if err != nil {
		return view.Answer{}, fmt.Errorf("explain: %w", err)
	}
	names, err := p.names(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	rows := make([]reason, 0, len(list))
	for i := range list {
		r := reasonOf(v, list[i])
		if name := names[r.ConfigID]; name != "" {
			r.Label = name
		}
		if r.Verdict == trial.Paged {
			d.Told++
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b reason) int { return weight(a.Verdict) - weight(b.Verdict) })
	d.Rows, d.Pager = view.Paged(v, rows)
	return answer, nil
}

// names are the settings that cover the group, as their list calls them: several may look for the same kind of event.
func (p *Pages) names(ctx context.Context, v *view.Visit) (map[model.ID]string, error) {
	out := map[model.ID]string{}
	for _, g := range []model.ID{v.Group.ID, ""} {
		configs, err := p.opt.Alerting.Configs(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("read the alert settings: %w", err)
		}
		for i := range configs {
			c := &configs[i]
			out[c.ID] = words.Condition(c)
			if where := words.Where(c); where != "" {
				out[c.ID] += ", where " + where
			}
		}
	}
	return out, nil
}

// moment reads a time of the address, in the viewer's zone unless it names its own.
func moment(v *view.Visit, f *view.Form, name string, out *time.Time) {
	s := f.Value(name)
	if s == "" {
		return
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, v.Zone); err == nil && t.Year() > 1970 && t.Year() < 2500 {
			*out = t.UTC()
			return
		}
	}
	f.Fail(name, "Give a date and time, such as 2026-03-01T10:07.")
}

func reasonOf(v *view.Visit, r trial.Reason) reason {
	out := reason{Reason: r, State: VerdictState(r.Verdict), About: words.Target(&r.Target), Path: PathOf(v.GroupPath(""), &r.Target)}
	if r.Label == "" && r.EventType != "" {
		out.Label = words.Type(r.EventType)
	}
	if r.AlertID != "" {
		out.Alert = base(v) + "/" + string(r.AlertID)
	}
	switch {
	case r.ConfigID == "":
	case !r.Global:
		out.Config = v.GroupPath("/alert-settings/" + string(r.ConfigID))
	case v.SeesSite():
		out.Config = "/admin/alert-settings/" + string(r.ConfigID)
	}
	out.Nearest, out.Limit = words.Reading(r.Nearest, ""), words.Reading(r.Threshold, "")
	return out
}

// VerdictState is a verdict in a word, with how much it matters to somebody who expected a page.
func VerdictState(x trial.Verdict) view.State {
	s := func(l view.Level, word string) view.State { return view.State{Level: l, Word: word} }
	switch x {
	case trial.Paged:
		return s(view.OK, "told")
	case trial.Pending:
		return s(view.Warning, "being sent")
	case trial.Failed:
		return s(view.Critical, "delivery failed")
	case trial.NoAddress:
		return s(view.Critical, "no address")
	case trial.LacksRole:
		return s(view.Warning, "lacks the role")
	case trial.NotMeant:
		return s(view.Info, "tells others")
	case trial.NoNotifications:
		return s(view.Critical, "tells nobody")
	case trial.Muted:
		return s(view.Warning, "muted")
	case trial.Acknowledged:
		return s(view.Warning, "acknowledged")
	case trial.BeforeDelay:
		return s(view.Info, "too short")
	case trial.StillTracking:
		return s(view.Info, "tracking")
	case trial.NotDue:
		return s(view.Info, "not due yet")
	case trial.NotCrossed:
		return s(view.OK, "not crossed")
	case trial.NotBad:
		return s(view.OK, "all was well")
	case trial.NoData:
		return s(view.Warning, "no data")
	case trial.AgentDown:
		return s(view.Critical, "agent down")
	case trial.NotRunning:
		return s(view.Critical, "not evaluated")
	case trial.NotMatched:
		return s(view.Info, "does not match")
	case trial.AlertsOff:
		return s(view.Warning, "alerts off")
	case trial.Disabled:
		return s(view.Info, "switched off")
	case trial.TooNew:
		return s(view.Info, "rule too new")
	case trial.NotRaised:
		return s(view.Unknown, "never raised")
	}
	return s(view.Unknown, strings.ToLower(strings.ReplaceAll(string(x), "_", " ")))
}

// weight puts what went wrong first, then what somebody decided, then what was told, then the quiet rest.
func weight(x trial.Verdict) int {
	switch l := VerdictState(x).Level; {
	case x == trial.NotCrossed || x == trial.NotBad:
		return 4
	case x == trial.Paged:
		return 3
	case l == view.Critical:
		return 0
	case l == view.Warning:
		return 1
	case l == view.Info:
		return 2
	}
	return 4
}
