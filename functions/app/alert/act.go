package alert

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/outbox"
	"github.com/heartwood-db/heartwood/shared/rule"
)

const (
	maxComment = 4000                       // characters, as in the Public API
	maxAtOnce  = view.PageRows              // alerts acknowledged by one form
	forever    = 100 * 365 * 24 * time.Hour // as clients of the Public API write it
)

// Ends are the ends that acknowledgements and silences are offered with.
func Ends() []Option {
	return []Option{{"1h", "for 1 hour", true}, {"4h", "for 4 hours", false}, {"tomorrow", "until tomorrow 9:00", false}, {"forever", "for ever", false}, {"custom", "until …", false}}
}

// EndOf reads an end from a form: one of Ends, with the time of "custom" in the field At in the viewer's zone.
func EndOf(v *view.Visit, f *view.Form, name string) time.Time {
	switch f.Value(name) {
	case "1h":
		return v.Now.Add(time.Hour)
	case "4h":
		return v.Now.Add(4 * time.Hour)
	case "tomorrow":
		day := v.Now.In(v.Zone).AddDate(0, 0, 1)
		return time.Date(day.Year(), day.Month(), day.Day(), 9, 0, 0, 0, v.Zone).UTC()
	case "forever":
		return v.Now.Add(forever)
	case "custom":
		at, err := time.ParseInLocation("2006-01-02T15:04", strings.TrimSpace(f.Value(name+"At")), v.Zone)
		switch {
		case err != nil:
			f.Fail(name+"At", "Give a date and time, such as 2026-03-01T10:07.")
		case !at.After(v.Now):
			f.Fail(name+"At", "The end must be in the future.")
		case at.Year() > 2200:
			f.Fail(name+"At", "That is too far away. Choose “for ever” instead.")
		}
		return at.UTC()
	}
	f.Fail(name, "Choose until when.")
	return time.Time{}
}

func comment(f *view.Form) string {
	s := strings.TrimSpace(f.Value("comment"))
	if utf8.RuneCountInString(s) > maxComment {
		f.Fail("comment", fmt.Sprintf("A comment has at most %d characters.", maxComment))
	}
	return s
}

// doneText is the sentence after an action; the address carries only its name, so that nobody can put words on a page.
func doneText(name string) string {
	switch name {
	case "acknowledged":
		return "Acknowledged. Nobody is told of it again until then, unless it closes."
	case "unacknowledged":
		return "The acknowledgement has ended. Notifications resume."
	case "silenced":
		return "Silenced. Alerts still open and close, but nobody is told."
	case "none":
		return "Nothing was chosen, or what was chosen has ended meanwhile. Nothing changed."
	}
	return ""
}

// acknowledge takes one alert on, or gives it back.
func (p *Pages) acknowledge(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(editRight(v)); err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "until", "untilAt", "comment", "do")
	var until time.Time
	if f.Value("do") != "unacknowledge" {
		until = EndOf(v, f, "until")
	}
	text := comment(f)
	if !f.OK() {
		return p.detailPage(ctx, v, f, view.NewForm(nil))
	}
	id := model.ID(v.Request.PathValue("id"))
	if _, err := p.opt.Alerting.Alert(ctx, groupID(v), id); err != nil {
		return view.Answer{}, view.Missing(err, "alert")
	}
	changed, err := p.take(ctx, v, id, until, text)
	if err != nil {
		return view.Answer{}, err
	}
	return view.Redirect(base(v) + "/" + string(id) + "?done=" + outcome(changed, until)), nil
}

func outcome(changed bool, until time.Time) string {
	switch {
	case !changed:
		return "none"
	case until.IsZero():
		return "unacknowledged"
	}
	return "acknowledged"
}

// acknowledgeSome does the same to those chosen in the list.
func (p *Pages) acknowledgeSome(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(editRight(v)); err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "until", "untilAt", "comment", "do", "back")
	var until time.Time
	if f.Value("do") != "unacknowledge" {
		until = EndOf(v, f, "until")
	}
	text := comment(f)
	if !f.OK() {
		return view.Answer{}, &view.Problem{
			Status: http.StatusUnprocessableEntity, Title: "Nothing was changed", What: f.Errors[f.Order[0]], Do: "Go back to the list: what you chose there is still chosen.",
		}
	}
	ids := v.Request.PostForm["id"]
	if len(ids) > maxAtOnce {
		return view.Answer{}, view.BadRequest(fmt.Sprintf("At most %d alerts can be changed at once.", maxAtOnce))
	}
	n := 0
	for _, id := range ids {
		changed, err := p.take(ctx, v, model.ID(id), until, text)
		if err != nil {
			return view.Answer{}, err
		}
		if changed {
			n++
		}
	}
	return view.Redirect(backTo(v, f.Value("back"), outcome(n > 0, until))), nil
}

// backTo is the list a form came from, saying what was done.
func backTo(v *view.Visit, back, done string) string {
	u, err := url.Parse(view.SafePath(back))
	if err != nil || u.Path != base(v) {
		u = &url.URL{Path: base(v)}
	}
	q := u.Query()
	q.Set("done", done)
	u.RawQuery = q.Encode()
	return u.String()
}

// errSame stops an update that would change nothing.
var errSame = errors.New("nothing to change")

// take acknowledges an alert, or ends that when until is zero. Those to be told are in the outbox before the alert changes: a
// crash between repeats the decision under the same ids.
func (p *Pages) take(ctx context.Context, v *view.Visit, id model.ID, until time.Time, text string) (bool, error) {
	group := groupID(v)
	a, err := p.opt.Alerting.Alert(ctx, group, id)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the alert: %w", err)
	}
	if !a.Status.Live() || until.IsZero() && !a.Acknowledged(v.Now) {
		return false, nil
	}
	owner := a.GroupID
	if a.Global {
		owner = ""
	}
	c, err := p.opt.Alerting.Config(ctx, owner, a.ConfigID)
	if err != nil && !missing(err) {
		return false, fmt.Errorf("read the alert's configuration: %w", err)
	}
	rules := &c
	if missing(err) {
		rules = nil
	}
	_, due := rule.Acknowledge(&a, rules, until, v.User.Username, text, v.Now)
	if err := p.queue(ctx, v, &a, due); err != nil {
		return false, err
	}
	err = p.opt.Alerting.UpdateAlert(ctx, group, id, func(now *model.Alert) error {
		if !now.Status.Live() {
			return errSame
		}
		next, _ := rule.Acknowledge(now, rules, until, v.User.Username, text, v.Now)
		if next == nil {
			return errSame
		}
		*now = *next
		return nil
	})
	if errors.Is(err, errSame) || missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("change the alert: %w", err)
	}
	e := model.Event{
		Type: model.EventAlertAcknowledged, GroupID: a.GroupID, AlertID: id, ConfigID: a.ConfigID, HostID: a.Target.HostID, HostName: a.Target.HostName, ClusterID: a.Target.ClusterID,
		Text: "Alert acknowledged " + Until(v, until) + ": " + headline(&a),
	}
	if until.IsZero() {
		e.Type, e.Text = model.EventAlertUnacknowledged, "Acknowledgement ended: "+headline(&a)
	}
	p.note(ctx, v, e)
	return true, nil
}

func headline(a *model.Alert) string {
	if t := words.Target(&a.Target); t != "" {
		return words.Condition(&a.Rule) + ", " + t
	}
	return words.Condition(&a.Rule)
}

// queue puts what is due into the outbox.
func (p *Pages) queue(ctx context.Context, v *view.Visit, a *model.Alert, due []rule.Due) error {
	if len(due) == 0 {
		return nil
	}
	src := outbox.Source{People: notify.People{GroupID: a.GroupID, Admin: p.opt.Admin}}
	var err error
	if a.GroupID != "" {
		g, err := p.opt.Inventory.Group(ctx, a.GroupID)
		if err != nil && !missing(err) {
			return fmt.Errorf("read the group: %w", err)
		}
		src.People.OrgID = g.OrgID
		if src.Integrations, err = p.opt.Alerting.Integrations(ctx, a.GroupID); err != nil {
			return fmt.Errorf("read the integrations: %w", err)
		}
	}
	if src.People.Users, err = p.opt.Access.Users(ctx); err != nil {
		return fmt.Errorf("read the users: %w", err)
	}
	if outbox.NeedsFormer(due) {
		owner := a.GroupID
		if a.Global {
			owner = ""
		}
		if src.Former, err = p.opt.Alerting.FormerNotifications(ctx, owner, a.ConfigID); err != nil {
			return fmt.Errorf("read former notifications: %w", err)
		}
	}
	ds, _ := outbox.Deliveries(a, due, src, v.Now)
	if len(ds) == 0 {
		return nil
	}
	if err := p.opt.Alerting.AddDeliveries(ctx, ds...); err != nil {
		return fmt.Errorf("keep what is to be sent: %w", err)
	}
	return nil
}

// silence keeps alerts like this one from telling anybody until an end.
func (p *Pages) silence(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(editRight(v)); err != nil {
		return view.Answer{}, err
	}
	id := model.ID(v.Request.PathValue("id"))
	a, err := p.opt.Alerting.Alert(ctx, groupID(v), id)
	if err != nil {
		return view.Answer{}, view.Missing(err, "alert")
	}
	f := view.NewForm(v.Request, "what", "until", "untilAt", "comment")
	s := model.Silence{ID: model.NewID(), GroupID: a.GroupID, Start: v.Now, End: EndOf(v, f, "until"), Comment: comment(f), By: v.User.Username, Created: v.Now}
	here := matcherOf(&a.Target)
	switch what := f.Value("what"); {
	case what == "rule-here" && here != nil:
		s.ConfigID, s.Matchers = a.ConfigID, []model.Matcher{*here}
	case what == "here" && here != nil:
		s.Matchers = []model.Matcher{*here}
	case what == "rule":
		s.ConfigID = a.ConfigID
	default:
		f.Fail("what", "Choose what to silence.")
	}
	if !f.OK() {
		return p.detailPage(ctx, v, view.NewForm(nil), f)
	}
	if err := p.opt.Alerting.CreateSilence(ctx, s); err != nil {
		return view.Answer{}, fmt.Errorf("keep the silence: %w", err)
	}
	p.note(ctx, v, model.Event{
		Type: model.EventSilenceAdded, ConfigID: s.ConfigID, AlertID: id, HostID: a.Target.HostID, HostName: a.Target.HostName, ClusterID: a.Target.ClusterID,
		Text: "Silenced " + Until(v, s.End) + ": " + headline(&a),
	})
	return view.Redirect(base(v) + "/" + string(id) + "?done=silenced"), nil
}

// matcherOf is the matcher that fits a target alone; nil for those that matchers do not know.
func matcherOf(t *model.Target) *model.Matcher {
	switch {
	case t.HostName != "":
		return &model.Matcher{Field: "HOSTNAME_AND_PORT", Operator: "EQUALS", Value: t.HostName}
	case t.ReplicaSet != "":
		return &model.Matcher{Field: "REPLICA_SET_NAME", Operator: "EQUALS", Value: t.ReplicaSet}
	case t.ClusterName != "":
		return &model.Matcher{Field: "CLUSTER_NAME", Operator: "EQUALS", Value: t.ClusterName}
	}
	return nil
}
