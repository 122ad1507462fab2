package alertedit

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// matcherRow is one condition on where, as typed.
type matcherRow struct {
	N         int
	Fields    []frame.Option
	Operators []frame.Option
	Value     string
	Error     string
}

// noteRow is one notification, as typed.
type noteRow struct {
	N               int
	ID              model.ID
	Channels        []frame.Option
	Channel         notify.Channel
	Delay, Interval string
	Email, SMS      bool
	Roles           []frame.Option
	Fields          []frame.FieldRow
	Errors          []string
	Warnings        []string // what keeps it from reaching anybody
	Tested          []tested
}

// tested is what came of a test message to one recipient.
type tested struct {
	OK   bool
	To   string
	Text string
}

// draft is a configuration while it is written: what was typed, and what that means.
type draft struct {
	Form     *view.Form
	Matchers []int // rows that are there, by their number in the form
	Notes    []int
	values   url.Values
	have     []model.Notification // as stored, for secrets that come back masked
	Config   model.AlertConfig
}

const maxRows = 50

// rowsOf are the numbers of the rows a form has, in their order.
func rowsOf(values url.Values, name string) (out []int) {
	for _, s := range values[name] {
		if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 10_000 && !slices.Contains(out, n) && len(out) < maxRows {
			out = append(out, n)
		}
	}
	return out
}

func mkey(n int, what string) string { return fmt.Sprintf("m%d-%s", n, what) }
func nkey(n int, what string) string { return fmt.Sprintf("n%d-%s", n, what) }

func text(v url.Values, key string) string { return strings.TrimSpace(v.Get(key)) }

// valuesOf writes a configuration as its form would post it.
func valuesOf(c *model.AlertConfig) url.Values {
	v := url.Values{"type": {string(c.EventType)}, "note": {c.Note}, "tags": {strings.Join(c.Tags, ", ")}}
	if c.Enabled {
		v.Set("enabled", "on")
	}
	if c.ForAllGroups {
		v.Set("all", "on")
	}
	for _, id := range c.GroupIDs {
		v.Add("group", string(id))
	}
	if m := c.Metric; m != nil {
		v.Set("metric", m.Metric)
		v.Set("operator", m.Operator)
		v.Set("threshold", plain(m.Value))
		v.Set("units", m.Units)
	}
	if t := c.Threshold; t != nil {
		v.Set("threshold", plain(t.Value))
	}
	for i, m := range c.Matchers {
		v.Add("m", strconv.Itoa(i))
		v.Set(mkey(i, "field"), m.Field)
		v.Set(mkey(i, "operator"), m.Operator)
		v.Set(mkey(i, "value"), m.Value)
	}
	for i, n := range c.Notifications {
		v.Add("n", strconv.Itoa(i))
		v.Set(nkey(i, "id"), string(n.ID))
		v.Set(nkey(i, "channel"), n.Channel)
		v.Set(nkey(i, "delay"), strconv.Itoa(n.DelayMin))
		v.Set(nkey(i, "interval"), strconv.Itoa(n.IntervalMin))
		if n.EmailEnabled {
			v.Set(nkey(i, "email"), "on")
		}
		if n.SMSEnabled {
			v.Set(nkey(i, "sms"), "on")
		}
		for _, r := range n.Roles {
			v.Add(nkey(i, "role"), string(r))
		}
		for name, val := range n.Fields {
			v.Set(nkey(i, name), val)
		}
		for name, secret := range n.Secrets {
			v.Set(nkey(i, name), notify.Mask(secret))
		}
	}
	return v
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// parse reads a posted form. What cannot be read is noted in the draft's form; the rest is for rule.Check.
func parse(values url.Values, was model.AlertConfig) *draft {
	d := &draft{Form: view.NewForm(nil), values: values, Matchers: rowsOf(values, "m"), Notes: rowsOf(values, "n"), have: was.Notifications}
	for _, name := range []string{"type", "metric", "operator", "threshold", "units", "note", "enabled", "all", "tags"} {
		d.Form.Set(name, text(values, name))
	}
	c := &d.Config
	*c = was
	c.EventType, c.Enabled, c.Note = model.EventType(d.Form.Value("type")), d.Form.On("enabled"), d.Form.Value("note")
	c.Metric, c.Threshold, c.Matchers, c.Notifications = nil, nil, nil, nil
	t, _ := rule.TypeOf(c.EventType)
	switch {
	case t.Metric:
		d.metric()
	case t.Threshold != "" && (!t.Optional || d.Form.Value("threshold") != ""):
		c.Threshold = &model.Threshold{Operator: t.Threshold, Value: d.number("threshold")}
	}
	if len(t.MatcherFields) > 0 {
		for _, i := range d.Matchers {
			c.Matchers = append(c.Matchers, model.Matcher{Field: text(values, mkey(i, "field")), Operator: text(values, mkey(i, "operator")), Value: text(values, mkey(i, "value"))})
		}
	}
	for _, i := range d.Notes {
		c.Notifications = append(c.Notifications, d.notification(i, t))
	}
	c.Notifications = notify.KeepAllMasked(d.have, c.Notifications)
	c.ForAllGroups, c.GroupIDs, c.Tags = false, nil, nil
	if was.GroupID == "" {
		c.ForAllGroups = d.Form.On("all")
		for _, id := range values["group"] {
			if model.ID(id).Valid() && !slices.Contains(c.GroupIDs, model.ID(id)) {
				c.GroupIDs = append(c.GroupIDs, model.ID(id))
			}
		}
		for tag := range strings.SplitSeq(d.Form.Value("tags"), ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				c.Tags = append(c.Tags, tag)
			}
		}
	}
	return d
}

func (d *draft) metric() {
	m := &model.MetricThreshold{Metric: d.Form.Value("metric"), Threshold: model.Threshold{Operator: cmp.Or(d.Form.Value("operator"), model.GreaterThan), Units: d.Form.Value("units")}}
	if known, ok := rule.MetricOf(m.Metric); ok {
		if units := rule.Units(known); len(units) > 0 && !slices.Contains(units, m.Units) { // of the metric chosen before
			m.Units = units[0]
			d.Form.Set("units", m.Units)
		}
	}
	m.Value = d.number("threshold")
	d.Config.Metric = m
}

func (d *draft) number(name string) float64 {
	s := strings.ReplaceAll(d.Form.Value(name), ",", ".")
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		d.Form.Fail(name, "Give a number, such as 80 or 0.5.")
		return 0
	}
	return v
}

func (d *draft) notification(i int, t rule.Type) model.Notification {
	ch, known := notify.ChannelOf(text(d.values, nkey(i, "channel")))
	n := model.Notification{ID: model.ID(text(d.values, nkey(i, "id"))), Channel: ch.Name, Fields: map[string]string{}, Secrets: map[string]model.Secret{}}
	if !known {
		n.Channel = text(d.values, nkey(i, "channel"))
	}
	n.DelayMin = d.minutes(nkey(i, "delay"), 0)
	n.IntervalMin = d.minutes(nkey(i, "interval"), 60)
	if t.Inform && text(d.values, nkey(i, "interval")) == "" {
		n.IntervalMin = 0
	}
	if ch.People {
		n.EmailEnabled, n.SMSEnabled = text(d.values, nkey(i, "email")) != "", text(d.values, nkey(i, "sms")) != ""
	}
	if ch.Roles {
		for _, r := range d.values[nkey(i, "role")] {
			if r != "" {
				n.Roles = append(n.Roles, model.Role(r))
			}
		}
	}
	for _, f := range ch.Fields {
		val := text(d.values, nkey(i, f.Name))
		switch {
		case val == "":
		case f.Secret:
			n.Secrets[f.Name] = model.Secret(val)
		default:
			n.Fields[f.Name] = val
		}
	}
	return n
}

func (d *draft) minutes(key string, empty int) int {
	s := text(d.values, key)
	if s == "" {
		return empty
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		what := "after which somebody is told"
		if strings.HasSuffix(key, "interval") {
			what = "after which they are told again"
		}
		d.Form.Fail(key, "Give whole minutes "+what+", such as 15.")
		return empty
	}
	return n
}

var place = regexp.MustCompile(`^(matchers|notifications)\[(\d+)\](?:\.(\w+))?$`)

// check notes every fault of the configuration at its field.
func (d *draft) check(f *facts) bool {
	for _, fault := range rule.Check(&d.Config, func(n model.Notification, global bool) []rule.Fault { return notify.Check(filled(f, n), global) }) {
		d.Form.Fail(d.field(&fault), words.Sentence(fault.Text))
	}
	if c := &d.Config; c.GroupID == "" && !c.ForAllGroups && len(c.GroupIDs) == 0 && len(c.Tags) == 0 {
		if t, ok := rule.TypeOf(c.EventType); ok && !t.Global {
			d.Form.Fail("all", "Choose groups, or all of them.")
		}
	}
	return d.Form.OK()
}

// field is the form's field of a fault, whose text then speaks of labels.
func (d *draft) field(fault *rule.Fault) string {
	switch path := fault.Path; path {
	case "eventTypeName":
		return "type"
	case "metricThreshold.metricName":
		return "metric"
	case "metricThreshold.operator", "threshold.operator":
		return "operator"
	case "metricThreshold.units", "threshold.units":
		return "units"
	case "metricThreshold.threshold", "threshold.threshold", "metricThreshold", "threshold":
		return "threshold"
	case "note":
		return "note"
	}
	m := place.FindStringSubmatch(fault.Path)
	if m == nil {
		return fault.Path
	}
	at, err := strconv.Atoi(m[2])
	if err != nil {
		return fault.Path
	}
	if m[1] == "matchers" {
		if at < len(d.Matchers) {
			return mkey(d.Matchers[at], "value")
		}
		return "matchers"
	}
	if at >= len(d.Notes) {
		return "notifications"
	}
	what := m[3]
	if ch, ok := notify.ChannelOf(d.Config.Notifications[at].Channel); ok {
		if f, ok := ch.Field(what); ok {
			fault.Text = strings.Replace(fault.Text, f.Name, f.Label, 1)
		}
	}
	switch what {
	case "delayMin":
		what = "delay"
	case "intervalMin":
		what = "interval"
	case "emailEnabled":
		what, fault.Text = "email", "Choose mail, SMS or both, or nobody is told"
	case "typeName", "":
		what = "channel"
	case "roles":
		what = "role"
	}
	return nkey(d.Notes[at], what)
}

// metricOptions are all measurements of the catalogue, by the chart that shows them.
func metricOptions(on string) (out []frame.Heading) {
	if m, ok := rule.MetricOf(on); ok {
		on = m.Name
	}
	place := map[string]int{}
	for _, m := range catalog.Measurements() {
		label := "Other"
		if c, ok := catalog.ChartByID(m.Chart); ok {
			label = c.Title
		}
		i, ok := place[label]
		if !ok {
			i = len(out)
			place[label], out = i, append(out, frame.Heading{Label: label})
		}
		name := m.Series
		if name == "" {
			name = label
		}
		if m.Max {
			name = "largest " + name
		}
		out[i].Options = append(out[i].Options, frame.Choice(m.Name, name+" · "+m.Name, m.Name == on))
	}
	return out
}

func (p *Pages) matcherRows(d *draft, t rule.Type) (out []matcherRow) {
	for _, i := range d.Matchers {
		out = append(out, matcherRow{
			N: i, Fields: frame.Options(t.MatcherFields, words.Field, text(d.values, mkey(i, "field"))),
			Operators: frame.Options(rule.Operators(), words.Operator, text(d.values, mkey(i, "operator"))),
			Value:     text(d.values, mkey(i, "value")), Error: d.Form.Errors[mkey(i, "value")],
		})
	}
	return out
}

func (p *Pages) noteRows(v *view.Visit, f *facts, d *draft) (out []noteRow) {
	for k, i := range d.Notes {
		n := d.Config.Notifications[k]
		r := noteRow{
			N: i, ID: n.ID, Delay: cmp.Or(text(d.values, nkey(i, "delay")), "0"), Interval: cmp.Or(text(d.values, nkey(i, "interval")), "60"),
			Email: n.EmailEnabled, SMS: n.SMSEnabled, Warnings: p.unreached(v, f, n),
		}
		r.Channel, _ = notify.ChannelOf(n.Channel)
		for _, c := range notify.Channels() {
			if !c.GlobalOnly || v.Group == nil || c.Name == n.Channel {
				r.Channels = append(r.Channels, frame.Choice(c.Name, c.Label, c.Name == n.Channel))
			}
		}
		if r.Channel.Roles {
			for _, role := range rolesOf(n.Channel) {
				r.Roles = append(r.Roles, frame.Choice(string(role), words.Role(role), slices.Contains(n.Roles, role)))
			}
		}
		for _, field := range r.Channel.Fields {
			row := frame.FieldRow{Field: field, Key: nkey(i, field.Name), Value: text(d.values, nkey(i, field.Name)), Error: d.Form.Errors[nkey(i, field.Name)]}
			if field.Secret { // what was typed is not sent back; what is stored shows masked
				row.Value = ""
				for _, have := range d.have {
					if have.ID == n.ID && have.Channel == n.Channel && n.Secrets[field.Name] == have.Secrets[field.Name] {
						row.Value = notify.Mask(have.Secrets[field.Name])
					}
				}
			}
			for _, c := range field.Choices {
				row.Options = append(row.Options, frame.Choice(c, c, c == row.Value))
			}
			r.Fields = append(r.Fields, row)
		}
		for _, what := range []string{"channel", "delay", "interval", "email", "role"} {
			if e := d.Form.Errors[nkey(i, what)]; e != "" {
				r.Errors = append(r.Errors, e)
			}
		}
		out = append(out, r)
	}
	return out
}

func rolesOf(channel string) []model.Role {
	if channel == notify.Org {
		return []model.Role{model.OrgOwner, model.OrgGroupCreator, model.OrgMember, model.OrgReadOnly}
	}
	return []model.Role{
		model.GroupOwner, model.GroupMonitoringAdmin, model.GroupBackupAdmin, model.GroupUserAdmin, model.GroupReadOnly,
	}
}

// next is a number no row has yet.
func next(rows []int) int {
	n := 0
	for _, r := range rows {
		n = max(n, r+1)
	}
	return n
}

// without drops a row's values from a form.
func without(values url.Values, list string, n int) url.Values {
	out := maps.Clone(values)
	out[list] = slices.DeleteFunc(slices.Clone(values[list]), func(s string) bool { return s == strconv.Itoa(n) })
	return out
}
