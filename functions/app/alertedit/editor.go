package alertedit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

type editor struct {
	frame.Top
	New      bool
	Title    string
	Action   string
	Delete   string
	Types    []frame.Heading
	Type     rule.Type
	Known    bool
	Metrics  []frame.Heading
	Units    []frame.Option
	ChartOf  string // title of the measurement's chart
	Sentence string
	Matches  string
	Warnings []string
	Rows     []matcherRow
	Notes    []noteRow
	Next     int // number of the next notification
	NextRow  int // number of the next matcher
	Groups   []frame.Option
	Trial    *tried
	Days     string // of the trial that is shown
	TryIn    []frame.Option
	TryWhy   string // why it cannot be tried
	// TryFaults says what is wrong where the trial would stand: the script shows only that part of the answer.
	TryFaults bool
}

// add answers: what shall be looked for, and who is told?
func (p *Pages) add(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := frame.NeedRead(v); err != nil {
		return view.Answer{}, err
	}
	t := model.EventHostDown
	if _, ok := rule.TypeOf(model.EventType(v.Query("type"))); ok {
		t = model.EventType(v.Query("type"))
	}
	values := url.Values{"enabled": {"on"}}
	if m, ok := rule.MetricOf(v.Query("metric")); ok {
		t = model.EventOutsideMetric
		values.Set("metric", m.Name)
	}
	values.Set("type", string(t))
	if host := strings.TrimSpace(v.Query("host")); host != "" && len(host) < 300 {
		values["m"] = []string{"0"}
		values.Set(mkey(0, "field"), "HOSTNAME_AND_PORT")
		values.Set(mkey(0, "operator"), "EQUALS")
		values.Set(mkey(0, "value"), host)
	} else if set := strings.TrimSpace(v.Query("set")); set != "" && len(set) < 300 {
		values["m"] = []string{"0"}
		values.Set(mkey(0, "field"), "REPLICA_SET_NAME")
		values.Set(mkey(0, "operator"), "EQUALS")
		values.Set(mkey(0, "value"), set)
	}
	addNote(values, 0, v.Group == nil)
	f, err := p.facts(ctx, v.Group)
	if err != nil {
		return view.Answer{}, err
	}
	d := parse(p.preset(values), model.AlertConfig{GroupID: frame.GroupID(v)})
	d.Form = clean(d.Form) // nothing was typed yet: nothing is wrong
	return p.editor(ctx, v, f, d, nil)
}

// clean is a form without its errors.
func clean(f *view.Form) *view.Form {
	out := view.NewForm(nil)
	for name, val := range f.Values {
		out.Set(name, val)
	}
	return out
}

// addNote adds the usual notification: mail to everybody in the group, or to the operators.
func addNote(values url.Values, n int, site bool) {
	values.Add("n", strconv.Itoa(n))
	values.Set(nkey(n, "channel"), notify.Group)
	if site {
		values.Set(nkey(n, "channel"), notify.Admin)
	}
	values.Set(nkey(n, "email"), "on")
	values.Set(nkey(n, "interval"), "60")
}

// preset fills in what a type needs and nobody has typed.
func (p *Pages) preset(values url.Values) url.Values {
	t, _ := rule.TypeOf(model.EventType(values.Get("type")))
	switch {
	case t.Metric:
		if _, ok := rule.MetricOf(values.Get("metric")); !ok {
			values.Set("metric", "CONNECTIONS")
		}
		if values.Get("operator") == "" {
			values.Set("operator", model.GreaterThan)
		}
	case t.Threshold != "" && values.Get("threshold") == "":
		values.Set("threshold", plain(t.Default))
	}
	return values
}

// edit shows a setting as it is.
func (p *Pages) edit(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := frame.NeedRead(v); err != nil {
		return view.Answer{}, err
	}
	c, err := p.opt.Alerting.Config(ctx, frame.GroupID(v), model.ID(v.Request.PathValue("id")))
	if err != nil {
		return view.Answer{}, view.Missing(err, "alert setting")
	}
	f, err := p.facts(ctx, v.Group)
	if err != nil {
		return view.Answer{}, err
	}
	return p.editor(ctx, v, f, parse(valuesOf(&c), c), nil)
}

// save takes the form: to save it, to try it, to test a notification, or to draw it again with a row more or less.
func (p *Pages) save(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	was := model.AlertConfig{GroupID: frame.GroupID(v)}
	if id := model.ID(v.Request.PathValue("id")); id != "" {
		var err error
		if was, err = p.opt.Alerting.Config(ctx, frame.GroupID(v), id); err != nil {
			return view.Answer{}, view.Missing(err, "alert setting")
		}
	}
	f, err := p.facts(ctx, v.Group)
	if err != nil {
		return view.Answer{}, err
	}
	values := maps.Clone(v.Request.PostForm)
	do, arg, _ := strings.Cut(values.Get("do"), "-")
	switch do {
	case "save":
		d := parse(values, was)
		if !d.check(f) {
			return p.editor(ctx, v, f, d, nil)
		}
		return p.keep(ctx, v, d, was)
	case "try":
		d := parse(values, was)
		if !d.check(f) {
			return p.editor(ctx, v, f, d, nil)
		}
		shown, err := p.try(ctx, v, f, d, arg, values.Get("tryGroup"))
		if err != nil {
			return view.Answer{}, err
		}
		return p.editor(ctx, v, f, d, func(e *editor) { e.Trial, e.Days = shown, arg })
	case "test":
		d := parse(values, was)
		return p.test(ctx, v, f, d, arg)
	}
	return p.redraw(ctx, v, f, values, was, do, arg)
}

// redraw answers with the form changed: another row, one less, or the fields of another type or channel.
func (p *Pages) redraw(ctx context.Context, v *view.Visit, f *facts, values url.Values, was model.AlertConfig, do, arg string) (view.Answer, error) {
	n, err := strconv.Atoi(arg)
	switch {
	case do == "matcher":
		at := next(rowsOf(values, "m"))
		values.Add("m", strconv.Itoa(at))
	case do == "note":
		addNote(values, next(rowsOf(values, "n")), v.Group == nil)
	case do == "dropmatcher" && err == nil:
		values = without(values, "m", n)
	case do == "dropnote" && err == nil:
		values = without(values, "n", n)
	}
	d := parse(p.preset(values), was)
	d.Form = clean(d.Form)
	return p.editor(ctx, v, f, d, nil)
}

// keep writes the configuration, and an event that says what it was and is.
func (p *Pages) keep(ctx context.Context, v *view.Visit, d *draft, was model.AlertConfig) (view.Answer, error) {
	c := d.Config
	for i := range c.Notifications {
		if c.Notifications[i].ID == "" {
			c.Notifications[i].ID = model.NewID()
		}
	}
	c.Updated = v.Now
	if was.ID == "" {
		c.ID, c.Created = model.NewID(), v.Now
		if err := p.opt.Alerting.CreateConfig(ctx, c); err != nil {
			return view.Answer{}, fmt.Errorf("add the alert setting: %w", err)
		}
		p.note(ctx, v, model.Event{Type: model.EventAlertConfigAdded, ConfigID: c.ID, Text: "Alert setting added: " + words.Rule(&c)})
		return view.Redirect(frame.Base(v) + "?done=added"), nil
	}
	err := p.opt.Alerting.UpdateConfig(ctx, frame.GroupID(v), was.ID, func(now *model.AlertConfig) error {
		if !now.Updated.Equal(was.Updated) {
			return errChanged
		}
		*now = c
		return nil
	})
	switch {
	case errors.Is(err, errChanged):
		return view.Answer{}, &view.Problem{
			Status: 409, Title: "Somebody else changed this meanwhile", What: "Your change was not saved.", Do: "Go back, look at the new values, and repeat the change.",
		}
	case err != nil:
		return view.Answer{}, view.Missing(err, "alert setting")
	}
	say := "Alert setting changed: " + words.Rule(&c)
	if before := words.Rule(&was); before != words.Rule(&c) {
		say += " It was: " + before
	}
	p.note(ctx, v, model.Event{Type: model.EventAlertConfigChanged, ConfigID: c.ID, Text: say})
	return view.Redirect(frame.Base(v) + "?done=saved"), nil
}

var errChanged = errors.New("changed meanwhile")

// editor is the page of a draft.
func (p *Pages) editor(_ context.Context, v *view.Visit, f *facts, d *draft, more func(*editor)) (view.Answer, error) {
	c := &d.Config
	t, known := rule.TypeOf(c.EventType)
	e := editor{
		Top: frame.NewTop(v, "rules", d.Form), New: c.ID == "", Type: t, Known: known, Action: frame.Base(v) + "/new", Title: "New alert setting",
		Types: frame.TypeOptions(v.Group == nil, c.EventType), Rows: p.matcherRows(d, t), Notes: p.noteRows(v, f, d), Next: next(d.Notes), NextRow: next(d.Matchers),
		Sentence: words.Rule(c),
	}
	e.TryFaults = v.Partial()
	if t.Metric && d.Form.Value("threshold") == "" || d.Form.Errors["threshold"] != "" {
		e.Sentence = ""
	}
	if !e.New {
		e.Title, e.Action, e.Delete = words.Condition(c), frame.Base(v)+"/"+string(c.ID), frame.Base(v)+"/"+string(c.ID)+"/delete"
	}
	if t.Metric {
		e.Metrics = metricOptions(d.Form.Value("metric"))
		if m, ok := rule.MetricOf(d.Form.Value("metric")); ok {
			for _, u := range rule.Units(m) {
				label := words.UnitShort(u)
				if u == "RAW" {
					label = rawLabel(m.Unit)
				}
				e.Units = append(e.Units, frame.Choice(u, label, u == d.Form.Value("units")))
			}
			if ch, ok := catalog.ChartByID(m.Chart); ok {
				e.ChartOf = ch.Title
			}
		}
	}
	if d.Form.OK() {
		e.Warnings = about(v, f, c)
	}
	switch {
	case v.Group == nil:
		for i := range v.Groups {
			g := &v.Groups[i]
			e.Groups = append(e.Groups, frame.Choice(string(g.ID), g.Name, slices.Contains(c.GroupIDs, g.ID)))
			if c.Covers(g) {
				e.TryIn = append(e.TryIn, frame.Choice(string(g.ID), g.Name, string(g.ID) == text(d.values, "tryGroup")))
			}
		}
		e.Matches = groupsOf(v, c)
		switch {
		case t.Global:
			e.TryWhy = "What the site does itself is not kept: this cannot be tried on history."
		case len(e.TryIn) == 0:
			e.TryWhy = "Choose a group first: it is tried on the history of one."
		}
	case known && d.Form.OK() && rule.Check(c, nil) == nil:
		e.Matches = matches(v, f, c, t)
	}
	if more != nil {
		more(&e)
	}
	answer := frame.Page("alert-edit.html", e.Title, &e, d.Form)
	if v.Partial() {
		answer.Status = 0 // the script shows the answer in its place, faults and all
	}
	return answer, nil
}

func rawLabel(u catalog.Unit) string {
	switch u {
	case catalog.Percent:
		return "%"
	case catalog.ScalarPerSecond:
		return "per second"
	case catalog.GBPerHour:
		return "GB per hour"
	case catalog.Scalar, catalog.Milliseconds, catalog.Seconds, catalog.Bytes, catalog.Kilobytes, catalog.Megabytes, catalog.BytesPerSecond, catalog.MBPerSecond:
	}
	return "plain number"
}

// Bounds of a test.
const (
	testTimeout = 40 * time.Second
	maxTested   = 20
)

// test sends a test message by one notification of the draft, saved or not.
func (p *Pages) test(ctx context.Context, v *view.Visit, f *facts, d *draft, arg string) (view.Answer, error) {
	at, err := strconv.Atoi(arg)
	k := slices.Index(d.Notes, at)
	if err != nil || k < 0 {
		return view.Answer{}, view.BadRequest("There is no such notification in the form.")
	}
	d.Form = clean(d.Form)
	n := filled(f, d.Config.Notifications[k])
	var results []tested
	for _, fault := range notify.Check(n, v.Group == nil) {
		fault.Path = strings.TrimSuffix(fmt.Sprintf("notifications[%d].%s", k, fault.Path), ".")
		name := d.field(&fault)
		results = append(results, tested{To: words.Channel(n.Channel), Text: words.Sentence(fault.Text)})
		d.Form.Fail(name, words.Sentence(fault.Text))
	}
	if len(results) == 0 {
		results = p.sendTest(ctx, v, f, n)
	}
	d.Form = keepErrors(d.Form, nkey(at, ""))
	return p.editor(ctx, v, f, d, func(e *editor) {
		for i := range e.Notes {
			if e.Notes[i].N == at {
				e.Notes[i].Tested = results
			}
		}
	})
}

// keepErrors leaves only those of one row: the rest of the form is not what was tested.
func keepErrors(f *view.Form, prefix string) *view.Form {
	out := clean(f)
	for _, name := range f.Order {
		if strings.HasPrefix(name, prefix) {
			out.Fail(name, f.Errors[name])
		}
	}
	return out
}

func (p *Pages) sendTest(ctx context.Context, v *view.Visit, f *facts, n model.Notification) (out []tested) {
	ctx, stop := context.WithTimeout(ctx, testTimeout)
	defer stop()
	to, absent := notify.Expand(n, f.people)
	for _, a := range absent {
		out = append(out, tested{To: words.Channel(n.Channel), Text: words.Sentence(a)})
	}
	var g model.Group
	link := p.siteURL(v)
	if v.Group != nil {
		g, link = *v.Group, link+v.GroupPath("/alert-settings")
	}
	if len(to) > maxTested {
		out = append(out, tested{To: words.Channel(n.Channel), Text: fmt.Sprintf("It goes to %d people; only the first %d got the test.", len(to), maxTested)})
		to = to[:maxTested]
	}
	for _, r := range to {
		m := notify.TestMessage(g, p.siteURL(v), link, v.Now)
		m.Key = "test/" + string(model.NewID())
		res, err := p.opt.Sender.Send(ctx, notify.TargetOf(n, r), m)
		one := tested{OK: err == nil, To: words.Channel(r.Channel) + " " + r.Address, Text: res.Text}
		if err != nil {
			one.Text = words.Sentence(err.Error())
		}
		out = append(out, one)
	}
	if len(out) == 0 {
		out = append(out, tested{To: words.Channel(n.Channel), Text: "Nobody is behind this notification."})
	}
	return out
}
