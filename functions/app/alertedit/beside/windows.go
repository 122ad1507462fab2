package beside

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

type windowRow struct {
	model.MaintenanceWindow
	State      view.State
	What       string
	How        string // once, or how it repeats
	Start, End time.Time
	None       bool // it will not come again
	Href       string
}

type windowsPage struct {
	frame.Top
	Rows   []windowRow
	Pager  view.Pager
	Kinds  []frame.Option
	Days   []frame.Option
	Edited *model.MaintenanceWindow
	Action string
	Zone   string
}

const (
	inputFmt = "2006-01-02T15:04"
)

func weekday(d int) string { return time.Weekday(d).String()[:3] }

// windows answers: when is nobody told, because work is planned?
func (p *Pages) windows(ctx context.Context, v *view.Visit) (view.Answer, error) {
	f := view.NewForm(nil)
	from := v.Now.In(v.Zone).Add(time.Hour).Truncate(time.Hour)
	f.Set("start", from.Format(inputFmt)).Set("end", from.Add(time.Hour).Format(inputFmt)).Set("zone", v.Zone.String()).Set("kinds", "HOST,REPLICA_SET,CLUSTER")
	return p.windowsPage(ctx, v, f, nil)
}

// window shows one of them for a change.
func (p *Pages) window(ctx context.Context, v *view.Visit) (view.Answer, error) {
	w, err := p.opt.Alerting.Window(ctx, v.Group.ID, model.ID(v.Request.PathValue("id")))
	if err != nil {
		return view.Answer{}, view.Missing(err, "maintenance window")
	}
	zone := v.Zone
	f := view.NewForm(nil).Set("description", w.Description).Set("kinds", strings.Join(w.Types, ","))
	if r := w.Repeat; r != nil {
		if loc, err := time.LoadLocation(cmp.Or(r.TimeZone, "UTC")); err == nil {
			zone = loc
		}
		f.Set("repeat", "on").Set("days", strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Weekdays), " ", ","), "[]"))
		if !r.Until.IsZero() {
			f.Set("until", r.Until.Add(-time.Second).In(zone).Format("2006-01-02"))
		}
	}
	f.Set("zone", zone.String()).Set("start", w.Start.In(zone).Format(inputFmt)).Set("end", w.End.In(zone).Format(inputFmt))
	return p.windowsPage(ctx, v, f, &w)
}

func (p *Pages) windowsPage(ctx context.Context, v *view.Visit, f *view.Form, edited *model.MaintenanceWindow) (view.Answer, error) {
	list, err := p.opt.Alerting.Windows(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the maintenance windows: %w", err)
	}
	d := windowsPage{Top: frame.NewTop(v, "windows", f), Edited: edited, Action: frame.Side(v) + "windows", Zone: f.Value("zone")}
	if edited != nil {
		d.Action += "/" + string(edited.ID)
	}
	chosen := strings.Split(f.Value("kinds"), ",")
	for _, c := range []rule.Category{rule.Host, rule.ReplicaSet, rule.Cluster, rule.Agent, rule.Backup} {
		d.Kinds = append(d.Kinds, frame.Choice(string(c), words.Category(c), slices.Contains(chosen, string(c))))
	}
	days := strings.Split(f.Value("days"), ",")
	for i := range 7 {
		at := (i + 1) % 7 // weeks begin on Monday
		d.Days = append(d.Days, frame.Choice(strconv.Itoa(at), weekday(at), slices.Contains(days, strconv.Itoa(at))))
	}
	var rows []windowRow
	for i := range list {
		rows = append(rows, windowRowOf(v, list[i]))
	}
	slices.SortStableFunc(rows, func(a, b windowRow) int {
		if a.None != b.None {
			return map[bool]int{true: 1, false: -1}[a.None]
		}
		if a.None {
			return b.End.Compare(a.End)
		}
		return a.Start.Compare(b.Start)
	})
	d.Rows, d.Pager = view.Paged(v, rows)
	return frame.Page("alert-windows.html", "Maintenance windows", &d, f), nil
}

func windowRowOf(v *view.Visit, w model.MaintenanceWindow) windowRow {
	r := windowRow{MaintenanceWindow: w, How: "once", Href: frame.Side(v) + "windows/" + string(w.ID)}
	var what []string
	for _, t := range w.Types {
		what = append(what, strings.ToLower(words.Category(rule.Category(t))))
	}
	r.What = strings.Join(what, ", ")
	if w.Repeat != nil {
		r.How = "every " + strings.Join(dayNames(w.Repeat.Weekdays), ", ")
		if len(w.Repeat.Weekdays) == 7 {
			r.How = "every day"
		}
		r.How += ", " + cmp.Or(w.Repeat.TimeZone, "UTC")
		if !w.Repeat.Until.IsZero() {
			r.How += ", until " + w.Repeat.Until.Add(-time.Second).In(v.Zone).Format("2006-01-02")
		}
	}
	var ok bool
	r.Start, r.End, ok = rule.Occurrence(&w, v.Now)
	switch {
	case !ok:
		r.None, r.Start, r.End = true, w.Start, w.End
		r.State = view.State{Level: view.Unknown, Word: "over"}
	case r.Start.After(v.Now):
		r.State = view.State{Level: view.Info, Word: "planned"}
	default:
		r.State = view.State{Level: view.Warning, Word: "on now", Why: "Nobody is told of alerts of these kinds."}
	}
	return r
}

func dayNames(days []int) (out []string) {
	days = slices.Clone(days)
	slices.SortFunc(days, func(a, b int) int { return (a+6)%7 - (b+6)%7 })
	for _, d := range days {
		out = append(out, weekday(d))
	}
	return out
}

// readWindow reads the form; what is wrong is noted in it.
func readWindow(v *view.Visit) (model.MaintenanceWindow, *view.Form) {
	f := view.NewForm(v.Request, "start", "end", "description", "repeat", "zone", "until")
	post := v.Request.PostForm
	f.Set("kinds", strings.Join(post["kind"], ",")).Set("days", strings.Join(post["day"], ","))
	w := model.MaintenanceWindow{Description: strings.TrimSpace(f.Value("description"))}
	zone, err := time.LoadLocation(strings.TrimSpace(f.Value("zone")))
	if err != nil || f.Value("zone") == "" || f.Value("zone") == "Local" {
		f.Fail("zone", "Give a time zone's IANA name, such as UTC or Europe/Berlin.")
		zone = v.Zone
	}
	at := func(name string) time.Time {
		t, err := time.ParseInLocation(inputFmt, strings.TrimSpace(f.Value(name)), zone)
		if err != nil || t.Year() < 2000 || t.Year() > 2200 {
			f.Fail(name, "Give a date and time, such as 2026-03-01T10:07.")
		}
		return t.UTC()
	}
	w.Start, w.End = at("start"), at("end")
	for _, c := range []rule.Category{rule.Host, rule.ReplicaSet, rule.Cluster, rule.Agent, rule.Backup} {
		if slices.Contains(post["kind"], string(c)) {
			w.Types = append(w.Types, string(c))
		}
	}
	if f.On("repeat") {
		w.Repeat = repeat(f, zone, post["day"])
	}
	if f.OK() && !w.Start.Before(w.End) {
		f.Fail("end", "The end must come after the beginning.")
	}
	for _, fault := range rule.CheckWindow(&w) {
		f.Fail(fieldOf(fault.Path), fault.Text)
	}
	if f.OK() && w.Repeat == nil && !w.End.After(v.Now) {
		f.Fail("end", "This window is over already.")
	}
	return w, f
}

// fieldOf is the form's field of what the Public API calls so.
func fieldOf(attribute string) string {
	switch attribute {
	case "startDate":
		return "start"
	case "endDate":
		return "end"
	case "alertTypeNames":
		return "kind"
	case "recurrence.weekdays":
		return "day"
	case "recurrence.timeZone":
		return "zone"
	case "recurrence.until":
		return "until"
	}
	return attribute
}

func repeat(f *view.Form, zone *time.Location, days []string) *model.Recurrence {
	r := &model.Recurrence{TimeZone: zone.String()}
	for i := range 7 {
		if slices.Contains(days, strconv.Itoa(i)) {
			r.Weekdays = append(r.Weekdays, i)
		}
	}
	if s := strings.TrimSpace(f.Value("until")); s != "" {
		t, err := time.ParseInLocation("2006-01-02", s, zone)
		if err != nil {
			f.Fail("until", "Give a date, such as 2026-03-01.")
		}
		r.Until = t.AddDate(0, 0, 1).UTC() // that day is still in it
	}
	return r
}

func (p *Pages) saveWindow(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	w, f := readWindow(v)
	id := model.ID(v.Request.PathValue("id"))
	var was model.MaintenanceWindow
	if id != "" {
		var err error
		if was, err = p.opt.Alerting.Window(ctx, v.Group.ID, id); err != nil {
			return view.Answer{}, view.Missing(err, "maintenance window")
		}
	}
	if !f.OK() {
		if id == "" {
			return p.windowsPage(ctx, v, f, nil)
		}
		return p.windowsPage(ctx, v, f, &was)
	}
	e := model.Event{Type: model.EventMaintenanceAdded, WindowID: id}
	if id == "" {
		w.ID, w.GroupID, w.Created, w.Updated, w.By = model.NewID(), v.Group.ID, v.Now, v.Now, v.User.Username
		if err := p.opt.Alerting.CreateWindow(ctx, w); err != nil {
			return view.Answer{}, fmt.Errorf("keep the maintenance window: %w", err)
		}
		e.WindowID, e.Text = w.ID, "Maintenance planned: "+span(&w)
	} else {
		err := p.opt.Alerting.UpdateWindow(ctx, v.Group.ID, id, func(now *model.MaintenanceWindow) error {
			now.Start, now.End, now.Types, now.Description, now.Repeat, now.Updated = w.Start, w.End, w.Types, w.Description, w.Repeat, v.Now
			return nil
		})
		if err != nil {
			return view.Answer{}, view.Missing(err, "maintenance window")
		}
		e.Type, e.Text = model.EventMaintenanceChanged, "Maintenance changed: "+span(&w)+" It was: "+span(&was)
	}
	p.note(ctx, v, e)
	return view.Redirect(frame.Side(v) + "windows?done=window"), nil
}

// span is a window in a sentence, for events.
func span(w *model.MaintenanceWindow) string {
	out := w.Start.UTC().Format("2006-01-02 15:04") + " to " + w.End.UTC().Format("2006-01-02 15:04 UTC")
	if w.Repeat != nil {
		out += ", again every " + strings.Join(dayNames(w.Repeat.Weekdays), ", ")
	}
	if w.Description != "" {
		out += ", " + view.Middle(w.Description, 100)
	}
	return out + "."
}

func (p *Pages) windowForm(ctx context.Context, v *view.Visit) (*frame.Confirm, *model.MaintenanceWindow, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return nil, nil, err
	}
	w, err := p.opt.Alerting.Window(ctx, v.Group.ID, model.ID(v.Request.PathValue("id")))
	if err != nil {
		return nil, nil, view.Missing(err, "maintenance window")
	}
	return &frame.Confirm{
		What: "maintenance window", Name: cmp.Or(w.Description, w.Start.UTC().Format("2006-01-02 15:04")), Button: "Delete", Form: view.NewForm(nil), Back: frame.Side(v) + "windows",
		Action: frame.Side(v) + "windows/" + string(w.ID) + "/delete", Loses: "Alerts that are open and were muted by it tell people from now on.",
	}, &w, nil
}

func (p *Pages) confirmDeleteWindow(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := p.windowForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return d.Answer(), nil
}

func (p *Pages) deleteWindow(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, w, err := p.windowForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	if !d.Typed(v) {
		return d.Answer(), nil
	}
	if err := p.opt.Alerting.DeleteWindow(ctx, v.Group.ID, w.ID); err != nil {
		return view.Answer{}, view.Missing(err, "maintenance window")
	}
	p.note(ctx, v, model.Event{Type: model.EventMaintenanceDeleted, WindowID: w.ID, Text: "Maintenance window deleted: " + span(w)})
	return view.Redirect(frame.Side(v) + "windows?done=window-deleted"), nil
}

type silenceRow struct {
	model.Silence
	What  string
	Until string
	On    bool
}

type silencesPage struct {
	frame.Top
	Rows    []silenceRow
	Pager   view.Pager
	Configs []frame.Option
	Types   []frame.Heading
	Fields  []frame.Option
	Ends    []alert.Option
}

// silences answers: what is nobody told of, by whose choice, and until when?
func (p *Pages) silences(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return p.silencesPage(ctx, v, view.NewForm(nil))
}

func (p *Pages) silencesPage(ctx context.Context, v *view.Visit, f *view.Form) (view.Answer, error) {
	list, err := p.opt.Alerting.Silences(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the silences: %w", err)
	}
	configs, err := p.ownAndGlobal(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := silencesPage{Top: frame.NewTop(v, "silences", f), Ends: alert.Ends(), Types: frame.TypeOptions(false, model.EventType(f.Value("type")))}
	names := map[model.ID]string{}
	for i := range configs {
		names[configs[i].ID] = words.Rule(&configs[i])
		d.Configs = append(d.Configs, frame.Choice(string(configs[i].ID), strings.TrimSuffix(words.Rule(&configs[i]), "."), string(configs[i].ID) == f.Value("config")))
	}
	d.Fields = frame.Options([]string{"HOSTNAME_AND_PORT", "HOSTNAME", "REPLICA_SET_NAME", "CLUSTER_NAME"}, words.Field, f.Value("field"))
	rows := make([]silenceRow, len(list))
	for i, s := range list {
		rows[i] = silenceRow{Silence: s, What: whatOf(&s, names), Until: alert.Until(v, s.End), On: s.End.After(v.Now)}
	}
	slices.SortStableFunc(rows, func(a, b silenceRow) int { return b.End.Compare(a.End) })
	d.Rows, d.Pager = view.Paged(v, rows)
	return frame.Page("alert-silences.html", "Silences", &d, f), nil
}

func (p *Pages) ownAndGlobal(ctx context.Context, v *view.Visit) ([]model.AlertConfig, error) {
	var out []model.AlertConfig
	for _, g := range []model.ID{v.Group.ID, ""} {
		list, err := p.opt.Alerting.Configs(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("read the alert settings: %w", err)
		}
		for i := range list {
			if list[i].Covers(v.Group) {
				out = append(out, list[i])
			}
		}
	}
	return out, nil
}

// whatOf says what a silence is about.
func whatOf(s *model.Silence, names map[model.ID]string) string {
	what := "Everything"
	switch name := names[s.ConfigID]; {
	case s.ConfigID != "" && name != "":
		what = strings.TrimSuffix(name, ".")
	case s.ConfigID != "":
		what = "A setting that is gone"
	case s.EventType != "":
		what = words.Type(s.EventType)
	}
	if where := words.Where(&model.AlertConfig{Matchers: s.Matchers}); where != "" {
		what += ", where " + where
	}
	return what
}

func (p *Pages) addSilence(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "config", "type", "field", "value", "until", "untilAt", "comment")
	s := model.Silence{
		ID: model.NewID(), GroupID: v.Group.ID, Start: v.Now, End: alert.EndOf(v, f, "until"), By: v.User.Username, Created: v.Now,
		ConfigID: model.ID(f.Value("config")), EventType: model.EventType(f.Value("type")), Comment: strings.TrimSpace(f.Value("comment")),
	}
	if val := strings.TrimSpace(f.Value("value")); val != "" {
		m := model.Matcher{Field: f.Value("field"), Operator: "EQUALS", Value: val}
		if !slices.Contains([]string{"HOSTNAME_AND_PORT", "HOSTNAME", "REPLICA_SET_NAME", "CLUSTER_NAME"}, m.Field) || len(val) > 300 {
			f.Fail("value", "Give the name of a host, replica set or cluster.")
		}
		s.Matchers = []model.Matcher{m}
	}
	configs, err := p.ownAndGlobal(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	names := map[model.ID]string{}
	for i := range configs {
		names[configs[i].ID] = words.Rule(&configs[i])
	}
	if s.ConfigID != "" && names[s.ConfigID] == "" {
		f.Fail("config", "There is no such alert setting.")
	}
	if _, ok := rule.TypeOf(s.EventType); s.EventType != "" && !ok {
		f.Fail("type", "There is no such kind of alert.")
	}
	if utf8.RuneCountInString(s.Comment) > rule.MaxText {
		f.Fail("comment", fmt.Sprintf("A reason has at most %d characters.", rule.MaxText))
	}
	if s.ConfigID == "" && s.EventType == "" && len(s.Matchers) == 0 {
		f.Fail("value", "Say what to silence: a setting, a kind of alert, a host, or several of these.")
	}
	if !f.OK() {
		return p.silencesPage(ctx, v, f)
	}
	if err := p.opt.Alerting.CreateSilence(ctx, s); err != nil {
		return view.Answer{}, fmt.Errorf("keep the silence: %w", err)
	}
	p.note(ctx, v, model.Event{Type: model.EventSilenceAdded, ConfigID: s.ConfigID, Text: "Silenced " + alert.Until(v, s.End) + ": " + whatOf(&s, names)})
	return view.Redirect(frame.Side(v) + "silences?done=silenced"), nil
}

func (p *Pages) endSilence(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	id := model.ID(v.Request.PathValue("id"))
	if err := p.opt.Alerting.EndSilence(ctx, v.Group.ID, id, v.Now); err != nil {
		return view.Answer{}, view.Missing(err, "silence")
	}
	p.note(ctx, v, model.Event{Type: model.EventSilenceEnded, Text: "Silence ended by hand"})
	return view.Redirect(frame.Side(v) + "silences?done=silence-ended"), nil
}
