package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Actions of a plan.
const (
	Add    = "add"
	Change = "change"
	// Replace is a change that the API has no way for: the new one is made, then the old one removed.
	Replace = "replace"
	Remove  = "remove"
)

// What a plan is about, spelled as the lists of a file.
const (
	Configs = "alertConfigs"
	Windows = "maintenanceWindows"
)

// Plan is what takes a server to what a file says: it is what is shown, and what is carried out.
type Plan struct {
	Steps []Step   `json:"steps"`
	Same  int      `json:"unchanged"`
	Left  []string `json:"notInFile"` // what the server has, the file has not, and nobody asked to prune
	Notes []string `json:"notes"`
}

// Step is one request.
type Step struct {
	Action string        `json:"action"`
	Kind   string        `json:"kind"`
	ID     model.ID      `json:"id,omitempty"` // on the server
	Label  string        `json:"label"`
	Line   int           `json:"line,omitempty"` // in the file
	Fields []FieldChange `json:"fields,omitempty"`

	Config *Config `json:"-"` // what it becomes
	Window *Window `json:"-"`
}

// FieldChange is one field that changes. Secrets are masked; "" is one that is not there.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// DiffOptions say how to compare.
type DiffOptions struct {
	Channels Channels
	Global   bool
	Prune    bool      // remove what the file does not have
	Secrets  bool      // write secrets also where the stored one ends alike
	Now      time.Time // windows that are over are left alone
}

// Diff plans how to get from what a server has to what a file says. Entries belong together by their id, or else by what they
// look for (event type, metric, matchers, direction of the threshold), equal ones in their order.
func Diff(have, want *File, o DiffOptions) (*Plan, Faults) {
	d := &differ{o: o, plan: &Plan{Steps: []Step{}, Left: []string{}, Notes: []string{}}}
	d.configs(have.Configs, want.Configs)
	d.windows(have.Windows, want.Windows)
	if want.HasConfigs {
		d.rest(Configs, len(have.Configs), d.usedConfigs, func(i int) (model.ID, string) { return have.Configs[i].ID, Label(&have.Configs[i].AlertConfig) })
	}
	if want.HasWindows {
		d.rest(Windows, len(have.Windows), d.usedWindows, func(i int) (model.ID, string) {
			return have.Windows[i].ID, WindowLabel(&have.Windows[i].MaintenanceWindow)
		})
	}
	return d.plan, d.faults
}

type differ struct {
	o                        DiffOptions
	plan                     *Plan
	faults                   Faults
	usedConfigs, usedWindows []bool
}

// pair finds for each wanted entry the one that it is on the server, or -1.
func pair(wanted, had int, same ...func(want, have int) bool) (partner []int, used []bool) {
	partner, used = make([]int, wanted), make([]bool, had)
	for i := range partner {
		partner[i] = -1
	}
	for _, fits := range same {
		for i := range partner {
			for j := 0; partner[i] < 0 && j < had; j++ {
				if !used[j] && fits(i, j) {
					partner[i], used[j] = j, true
				}
			}
		}
	}
	return partner, used
}

// key is what a configuration looks for.
func key(c *model.AlertConfig) string {
	k := string(c.EventType)
	if m := c.Metric; m != nil {
		name := m.Metric
		if known, ok := rule.MetricOf(name); ok {
			name = known.Name
		}
		k += "|" + name + "|" + m.Operator
	}
	if t := c.Threshold; t != nil {
		k += "|" + t.Operator
	}
	return k + "|" + matchers(c.Matchers)
}

func (d *differ) configs(have, want []Config) {
	partner, used := pair(len(want), len(have),
		func(i, j int) bool { return want[i].ID != "" && want[i].ID == have[j].ID },
		func(i, j int) bool {
			return key(&want[i].AlertConfig) == key(&have[j].AlertConfig)
		})
	d.usedConfigs = used
	for i := range want {
		next := want[i]
		next.Notifications, next.Given = slices.Clone(next.Notifications), slices.Clone(next.Given)
		step := Step{Kind: Configs, Label: Label(&next.AlertConfig), Line: next.Line(), Config: &next}
		var old *Config
		if partner[i] >= 0 {
			old = &have[partner[i]]
			next.ID = old.ID
		} else {
			next.ID = ""
		}
		step.ID = next.ID
		step.Fields = d.compare(i, old, &next)
		switch {
		case old == nil:
			step.Action = Add
		case len(step.Fields) == 0:
			d.plan.Same++
			continue
		default:
			step.Action = Change
		}
		d.plan.Steps = append(d.plan.Steps, step)
	}
}

// changes collects fields that differ.
type changes []FieldChange

func (c *changes) add(field, old, now string) {
	if old != now {
		*c = append(*c, FieldChange{field, old, now})
	}
}

// compare lists what differs between a configuration on the server (nil: none) and what it shall be, and gives next's
// notifications the ids of those that they are.
func (d *differ) compare(i int, old, next *Config) []FieldChange {
	var c changes
	was := model.AlertConfig{}
	if old != nil {
		was = old.AlertConfig
		c.add("enabled", strconv.FormatBool(was.Enabled), strconv.FormatBool(next.Enabled))
	} else {
		c.add("enabled", "", strconv.FormatBool(next.Enabled))
	}
	c.add("eventTypeName", string(was.EventType), string(next.EventType))
	c.add("matchers", matchers(was.Matchers), matchers(next.Matchers))
	metric := func(m *model.MetricThreshold) string {
		if m == nil {
			return ""
		}
		return m.Metric + " " + m.Operator + " " + amount(m.Threshold)
	}
	c.add("metricThreshold", metric(was.Metric), metric(next.Metric))
	threshold := func(t *model.Threshold) string {
		if t == nil {
			return ""
		}
		return t.Operator + " " + amount(*t)
	}
	c.add("threshold", threshold(was.Threshold), threshold(next.Threshold))
	c.add("note", was.Note, next.Note)
	if d.o.Global {
		c.add("forAllGroups", strconv.FormatBool(was.ForAllGroups), strconv.FormatBool(next.ForAllGroups))
		c.add("groupIds", joined(was.GroupIDs), joined(next.GroupIDs))
		c.add("tags", joined(was.Tags), joined(next.Tags))
	}
	d.notifications(i, was.Notifications, next, &c)
	return c
}

func joined[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = string(s)
	}
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), ", ")
}

func (d *differ) notifications(i int, have []model.Notification, next *Config, c *changes) {
	want := next.Notifications
	partner, used := pair(len(want), len(have),
		func(i, j int) bool { return d.alike(&want[i], &have[j], next.given(i), true) },
		func(i, j int) bool { return d.alike(&want[i], &have[j], next.given(i), false) },
		func(i, j int) bool { return want[i].Channel == have[j].Channel && !d.foreign(&want[i], &have[j]) })
	for k := range want {
		n, given := &want[k], next.given(k)
		path := fmt.Sprintf("notifications[%d]", k)
		var old *model.Notification
		if partner[k] >= 0 {
			old = &have[partner[k]]
		}
		d.masked(i, next, k, old)
		if old == nil {
			n.ID = ""
			c.add(path, "", d.summary(n, given))
			continue
		}
		n.ID = old.ID
		c.add(path+".delayMin", strconv.Itoa(old.DelayMin), strconv.Itoa(n.DelayMin))
		c.add(path+".intervalMin", strconv.Itoa(old.IntervalMin), strconv.Itoa(n.IntervalMin))
		c.add(path+".emailEnabled", strconv.FormatBool(old.EmailEnabled), strconv.FormatBool(n.EmailEnabled))
		c.add(path+".smsEnabled", strconv.FormatBool(old.SMSEnabled), strconv.FormatBool(n.SMSEnabled))
		c.add(path+".roles", joined(old.Roles), joined(n.Roles))
		kept := map[string]bool{}
		for _, name := range sortedKeys(given) {
			switch {
			case d.same(old, n, name):
				kept[name] = true
			case value(n, name) != "" && d.show(n, name) == value(old, name):
				c.add(path+"."+name, value(old, name), d.show(n, name)+" (written anew)")
			default:
				c.add(path+"."+name, value(old, name), d.show(n, name))
			}
		}
		// What stays is left out of the request: the server keeps it.
		next.Given[k] = minus(given, kept)
	}
	for j := range have {
		if !used[j] {
			c.add(fmt.Sprintf("notifications: %s", have[j].Channel), d.summary(&have[j], nil), "")
		}
	}
}

func minus(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		if !b[k] {
			out[k] = true
		}
	}
	return out
}

// alike reports whether a wanted notification goes where a stored one goes; exactly: at the same times too.
func (d *differ) alike(want, have *model.Notification, given map[string]bool, exactly bool) bool {
	if want.Channel != have.Channel || exactly && (want.DelayMin != have.DelayMin || want.IntervalMin != have.IntervalMin || joined(want.Roles) != joined(have.Roles)) {
		return false
	}
	for name := range given {
		if !d.same(have, want, name) {
			return false
		}
	}
	return true
}

// isMasked reports whether a secret is only what may be seen of one.
func isMasked(s string) bool { return strings.HasPrefix(s, "****") }

// foreign reports whether a notification repeats, masked, another's secret than the stored one has.
func (d *differ) foreign(want, have *model.Notification) bool {
	for name, s := range want.Secrets {
		if isMasked(s.Reveal()) && s.Reveal() != have.Secrets[name].Reveal() {
			return true
		}
	}
	return false
}

// same reports whether a wanted field is what is stored. Stored secrets are masked: one that shows the same end counts as the
// same, unless all are to be written.
func (d *differ) same(have, want *model.Notification, name string) bool {
	s, secret := want.Secrets[name]
	if !secret || s.Reveal() == "" {
		return value(want, name) == value(have, name)
	}
	stored := have.Secrets[name].Reveal()
	if isMasked(s.Reveal()) {
		return s.Reveal() == stored
	}
	mask := d.o.Channels.Mask(s)
	return !d.o.Secrets && mask == stored && strings.Trim(mask, "*") != ""
}

// masked faults secrets that are masked and not kept by what is stored.
func (d *differ) masked(i int, next *Config, k int, old *model.Notification) {
	n := &next.Notifications[k]
	for _, name := range sortedKeys(n.Secrets) {
		if s := n.Secrets[name].Reveal(); !isMasked(s) || old != nil && s == old.Secrets[name].Reveal() {
			continue
		}
		d.faults = append(d.faults, next.Place(i, fmt.Sprintf("notifications[%d].%s", k, name), "INVALID_ATTRIBUTE",
			name+" is masked, and the server has no such secret to keep: give it as ${NAME_OF_A_VARIABLE}"))
	}
}

// show is a field's value as it may be seen.
func (d *differ) show(n *model.Notification, name string) string {
	if s, ok := n.Secrets[name]; ok {
		if isMasked(s.Reveal()) {
			return s.Reveal()
		}
		return d.o.Channels.Mask(s)
	}
	return n.Fields[name]
}

// summary says in one line where a notification goes and when. Given nil means all its fields.
func (d *differ) summary(n *model.Notification, given map[string]bool) string {
	parts := []string{n.Channel}
	if given == nil {
		given = map[string]bool{}
		for name := range n.Fields {
			given[name] = true
		}
		for name := range n.Secrets {
			given[name] = true
		}
	}
	for _, name := range sortedKeys(given) {
		parts = append(parts, name+" "+d.show(n, name))
	}
	if n.EmailEnabled {
		parts = append(parts, "by mail")
	}
	if n.SMSEnabled {
		parts = append(parts, "by SMS")
	}
	if len(n.Roles) > 0 {
		parts = append(parts, "to "+joined(n.Roles))
	}
	if n.DelayMin > 0 {
		parts = append(parts, fmt.Sprintf("after %d min", n.DelayMin))
	}
	if n.IntervalMin > 0 {
		parts = append(parts, fmt.Sprintf("every %d min", n.IntervalMin))
	}
	return strings.Join(parts, ", ")
}

func (d *differ) windows(have, want []Window) {
	name := func(w *Window) string {
		if w.Description != "" {
			return "d|" + w.Description
		}
		return "t|" + stamp(w.Start) + "|" + joined(w.Types)
	}
	partner, used := pair(len(want), len(have),
		func(i, j int) bool { return want[i].ID != "" && want[i].ID == have[j].ID },
		func(i, j int) bool { return name(&want[i]) == name(&have[j]) })
	for j := range have {
		used[j] = used[j] || Over(&have[j].MaintenanceWindow, d.o.Now)
	}
	d.usedWindows = used
	for i := range want {
		next := want[i]
		step := Step{Kind: Windows, Label: WindowLabel(&next.MaintenanceWindow), Line: next.Line(), Window: &next, Action: Add}
		var c changes
		was := model.MaintenanceWindow{}
		if partner[i] >= 0 {
			was = have[partner[i]].MaintenanceWindow
			step.Action = Change
		} else if Over(&next.MaintenanceWindow, d.o.Now) {
			d.plan.Notes = append(d.plan.Notes, fmt.Sprintf("line %d: the maintenance window “%s” is over and is not made", step.Line, step.Label))
			continue
		}
		next.ID, step.ID = was.ID, was.ID
		c.add("description", was.Description, next.Description)
		c.add("startDate", stamp(was.Start), stamp(next.Start))
		c.add("endDate", stamp(was.End), stamp(next.End))
		c.add("alertTypeNames", joined(was.Types), joined(next.Types))
		c.add("recurrence", recurrence(was.Repeat), recurrence(next.Repeat))
		if step.Action == Change && len(c) == 0 {
			d.plan.Same++
			continue
		}
		if was.Repeat != nil && next.Repeat == nil {
			step.Action = Replace
		}
		step.Fields = c
		d.plan.Steps = append(d.plan.Steps, step)
	}
}

func recurrence(r *model.Recurrence) string {
	if r == nil {
		return ""
	}
	s := strings.Join(days(r.Weekdays), ", ") + " " + zone(r.TimeZone)
	if !r.Until.IsZero() {
		s += " until " + stamp(r.Until)
	}
	return s
}

// rest removes what the file does not have, or says that it stays.
func (d *differ) rest(kind string, n int, used []bool, what func(i int) (model.ID, string)) {
	for i := range n {
		if used[i] {
			continue
		}
		id, label := what(i)
		if !d.o.Prune {
			d.plan.Left = append(d.plan.Left, fmt.Sprintf("%s %s: %s", kind, id, label))
			continue
		}
		d.plan.Steps = append(d.plan.Steps, Step{Action: Remove, Kind: kind, ID: id, Label: label})
	}
}
