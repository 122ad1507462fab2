// Package file is the readable form of alert settings: a YAML file with the Public API's names, from which what is usual is
// left out. It owns the format (Encode, Decode), and the comparison of a file with what a server has (Diff), whose result is
// both what is shown and what is done. It is pure: files, the environment and the server are the caller's.
//
// It may import shared/model, shared/rule and a YAML library only.
package file

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/check"
)

// Version is the version of the format.
const Version = 1

// MaxBytes bounds files.
const MaxBytes = 4 << 20

// Channels is what the format has to know of channels of notifications. Its table is above this package.
type Channels interface {
	// Fields are a channel's own fields; the value says whether they are secret. Name is the channel's usual spelling.
	Fields(channel string) (name string, fields map[string]bool, ok bool)
	// Mask shows of a secret what may be seen of it, as the Public API does.
	Mask(secret model.Secret) string
}

// File is what a file says.
type File struct {
	Configs []Config
	Windows []Window
	// What the file does not speak of is never pruned.
	HasConfigs, HasWindows bool
}

// Config is an alert configuration of a file. Its notifications have no ids.
type Config struct {
	model.AlertConfig
	// Given are the channel's fields that each notification has, be they empty: one that is left out stays what it is.
	Given []map[string]bool
	where lines
}

// Window is a maintenance window of a file.
type Window struct {
	model.MaintenanceWindow
	where lines
}

// Line is where a configuration begins in its file; 0: it comes from none.
func (c *Config) Line() int { return c.where.of("") }

// Line is where a window begins in its file; 0: it comes from none.
func (w *Window) Line() int { return w.where.of("") }

// lines are the places of paths below an entry.
type lines map[string]int

// of is the line of a path, or else of the nearest one above it.
func (l lines) of(path string) int {
	for {
		if n := l[path]; n > 0 || path == "" {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// Fault is something wrong with a file.
type Fault struct {
	Line int    `json:"line,omitempty"`
	Path string `json:"path,omitempty"` // "alertConfigs[0].notifications[1].webhookUrl"
	Code string `json:"errorCode,omitempty"`
	Text string `json:"text"`
}

func (f Fault) String() string {
	s := f.Text
	if f.Path != "" && !strings.HasPrefix(f.Text, f.Path) {
		s = f.Path + ": " + s
	}
	if f.Line > 0 {
		s = fmt.Sprintf("line %d: %s", f.Line, s)
	}
	return s
}

// Faults are everything that is wrong with a file. As an error it has a line for each.
type Faults []Fault

func (f Faults) Error() string {
	all := make([]string, len(f))
	for i := range f {
		all[i] = f[i].String()
	}
	return strings.Join(all, "\n")
}

// Place makes a fault of a server or of rule.Check, whose path is below a configuration, one of the file.
func (c *Config) Place(i int, path, code, text string) Fault {
	return Fault{Line: c.where.of(path), Path: below(fmt.Sprintf("alertConfigs[%d]", i), path), Code: code, Text: text}
}

func below(base, path string) string {
	switch {
	case path == "":
		return base
	case base == "" || path[0] == '[':
		return base + path
	}
	return base + "." + path
}

// Check lists what is wrong with the settings of a file beyond its form. Group is the group they are for, or empty: the site.
// channels checks a notification's own fields, knowing that those left out and those masked may be on the server.
func (f *File) Check(group model.ID, channels func(n model.Notification, global bool) []rule.Fault) Faults {
	var faults Faults
	for i := range f.Configs {
		c := &f.Configs[i]
		whole := c.AlertConfig
		whole.GroupID = group
		for _, x := range rule.Check(&whole, channels) {
			faults = append(faults, c.Place(i, x.Path, x.Code, x.Text))
		}
	}
	for i := range f.Windows {
		w := &f.Windows[i]
		for _, x := range check.Window(&w.MaintenanceWindow) {
			path := below(fmt.Sprintf("maintenanceWindows[%d]", i), x.Path)
			faults = append(faults, Fault{Line: w.where.of(x.Path), Path: path, Code: x.Code, Text: x.Text})
		}
	}
	return append(faults, f.twice()...)
}

// twice finds ids that two entries have.
func (f *File) twice() (faults Faults) {
	seen := map[model.ID]int{}
	note := func(kind string, i int, id model.ID, line int) {
		switch first, dup := seen[id]; {
		case id == "":
		case !id.Valid():
			faults = append(faults, Fault{Line: line, Path: fmt.Sprintf("%s[%d].id", kind, i), Code: "INVALID_ATTRIBUTE", Text: fmt.Sprintf("%q is no id: ids have 24 hexadecimal digits; leave it out for what is new", string(id))})
		case dup:
			faults = append(faults, Fault{Line: line, Path: fmt.Sprintf("%s[%d].id", kind, i), Code: "INVALID_ATTRIBUTE", Text: fmt.Sprintf("line %d has the id %s too", first, id)})
		default:
			seen[id] = line
		}
	}
	for i := range f.Configs {
		note("alertConfigs", i, f.Configs[i].ID, f.Configs[i].where.of("id"))
	}
	for i := range f.Windows {
		note("maintenanceWindows", i, f.Windows[i].ID, f.Windows[i].where.of("id"))
	}
	return faults
}

// Resolve puts the values of environment variables in the place of ${NAME}, which secrets may be given as. Lookup is
// os.LookupEnv.
func (f *File) Resolve(lookup func(name string) (string, bool)) (faults Faults) {
	for i := range f.Configs {
		c := &f.Configs[i]
		for k := range c.Notifications {
			n := &c.Notifications[k]
			for _, field := range sortedKeys(n.Secrets) {
				name, ok := variable(n.Secrets[field].Reveal())
				if !ok {
					continue
				}
				value, set := lookup(name)
				if !set || value == "" {
					path := fmt.Sprintf("notifications[%d].%s", k, field)
					faults = append(faults, c.Place(i, path, "", fmt.Sprintf("the environment has no %s: set it to the secret", name)))
					continue
				}
				n.Secrets[field] = model.Secret(value)
			}
		}
	}
	return faults
}

// variable is the name in "${NAME}".
func variable(s string) (string, bool) {
	name, ok := strings.CutPrefix(s, "${")
	if !ok || !strings.HasSuffix(name, "}") {
		return "", false
	}
	name = strings.TrimSuffix(name, "}")
	plain := func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
	}
	return name, name != "" && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0
}

// Label is a configuration's name for people: what it looks for, and where.
func Label(c *model.AlertConfig) string {
	name := string(c.EventType)
	if m := c.Metric; m != nil {
		name = m.Metric + " " + comparison(m.Operator) + " " + amount(m.Threshold)
	} else if t := c.Threshold; t != nil {
		name += " " + comparison(t.Operator) + " " + amount(*t)
	}
	if where := matchers(c.Matchers); where != "" {
		name += " where " + where
	}
	return name
}

func comparison(operator string) string {
	switch operator {
	case model.GreaterThan:
		return ">"
	case model.LessThan:
		return "<"
	}
	return operator
}

func amount(t model.Threshold) string {
	return strings.TrimSpace(number(t.Value) + " " + strings.TrimPrefix(units(t.Units), "RAW"))
}

// units is a unit in the spelling that says it: none is RAW.
func units(u string) string {
	if u == "" {
		return "RAW"
	}
	return u
}

func matchers(all []model.Matcher) string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = m.Field + " " + m.Operator + " " + m.Value
	}
	slices.Sort(texts) // all must hold: their order says nothing
	return strings.Join(texts, ", ")
}

// WindowLabel is a maintenance window's name for people.
func WindowLabel(w *model.MaintenanceWindow) string {
	if w.Description != "" {
		return w.Description
	}
	return stamp(w.Start) + " to " + stamp(w.End)
}
