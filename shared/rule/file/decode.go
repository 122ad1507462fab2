package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/check"
)

// Options say how to read settings.
type Options struct {
	Channels Channels
	Global   bool // they are of the site, not of a group
}

// Decode reads a file: its own format, or what the Public API answers (a configuration, or a list of them). Everything that is
// wrong with its form is in Faults; then the file is of no use.
func Decode(b []byte, o Options) (*File, Faults) {
	if len(b) > MaxBytes {
		return nil, Faults{{Text: fmt.Sprintf("the file has more than %d MiB", MaxBytes>>20)}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, Faults{{Text: "the file is empty: an empty list of settings is written alertConfigs: []"}}
	} else if err != nil {
		return nil, Faults{syntax(err)}
	}
	d := &decoder{o: o, left: maxNodes}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		d.fault(&more, "", "", "a file has one document: there must be no second one after ---")
	}
	f := d.file(&doc)
	if len(d.faults) > 0 {
		return nil, d.faults
	}
	return f, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func syntax(err error) Fault {
	f := Fault{Text: err.Error()}
	if m := yamlLine.FindStringSubmatch(f.Text); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.Text = f.Text[len(m[0]):]
	}
	f.Text = "this is not YAML: " + f.Text
	return f
}

// FromAPI reads a configuration as the Public API answers it, decoded from JSON. What a newer server says besides is left out.
func FromAPI(v map[string]any, o Options) (Config, error) {
	d := &decoder{o: o, lenient: true, left: maxNodes}
	c := d.config(node(v), "")
	if len(d.faults) > 0 {
		return c, d.faults
	}
	return c, nil
}

// WindowFromAPI is FromAPI for maintenance windows.
func WindowFromAPI(v map[string]any) (Window, error) {
	d := &decoder{lenient: true, left: maxNodes}
	w := d.window(node(v), "")
	if len(d.faults) > 0 {
		return w, d.faults
	}
	return w, nil
}

// node makes a tree of decoded JSON.
func node(v any) *yaml.Node {
	scalar := func(tag, s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s} }
	switch v := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			n.Content = append(n.Content, scalar("!!str", k), node(v[k]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, e := range v {
			n.Content = append(n.Content, node(e))
		}
		return n
	case string:
		return scalar("!!str", v)
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case float64:
		return scalar("!!float", strconv.FormatFloat(v, 'g', -1, 64))
	case nil:
		return scalar("!!null", "null")
	}
	return scalar("!!str", fmt.Sprint(v))
}

// maxNodes bounds what aliases may blow a file up to; maxFaults how much is said about one.
const (
	maxNodes  = 200_000
	maxFaults = 200
	maxDepth  = 20
)

// decoder reads a tree and collects what is wrong with it.
type decoder struct {
	o       Options
	lenient bool // unknown fields are left out
	left    int
	full    bool
	faults  Faults
}

func (d *decoder) fault(n *yaml.Node, path, code, format string, args ...any) {
	if len(d.faults) >= maxFaults {
		return
	}
	if code == "" {
		code = "INVALID_ATTRIBUTE"
	}
	d.faults = append(d.faults, Fault{Line: n.Line, Path: path, Code: code, Text: fmt.Sprintf(format, args...)})
}

// real follows aliases. A nil answer was faulted.
func (d *decoder) real(n *yaml.Node, path string) *yaml.Node {
	if d.left--; d.left < 0 {
		if !d.full {
			d.fault(n, path, "", "the file is too large, or its aliases multiply")
		}
		d.full = true
		return nil
	}
	for range maxDepth {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			return n
		}
		n = n.Alias
	}
	return n
}

// fields are the readers of an object's fields; nil ones are known and left out.
type fields map[string]func(n *yaml.Node, path string)

// object reads a mapping. Null counts as one without fields. Other takes fields that have no reader of their own; it may be nil.
func (d *decoder) object(n *yaml.Node, path string, known fields, other func(key string, n *yaml.Node, path string) bool) {
	if n = d.real(n, path); n == nil || null(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "an object with fields is needed here")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := below(path, key.Value)
		if seen[key.Value] {
			d.fault(key, at, "", "%s is given twice", key.Value)
			continue
		}
		seen[key.Value] = true
		read, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fault(key, path, "", "the name of a field is needed here")
		case ok && read != nil:
			read(value, at)
		case ok || other != nil && other(key.Value, value, at) || d.lenient:
		default:
			d.fault(key, at, "", "there is no field %s here%s", key.Value, meant(key.Value, known))
		}
	}
}

// meant suggests a field that is spelled almost so.
func meant(key string, known fields) string {
	for name := range known {
		if strings.EqualFold(strings.ReplaceAll(key, "_", ""), name) {
			return ": did you mean " + name + "?"
		}
	}
	return ""
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func (d *decoder) list(n *yaml.Node, path string, each func(n *yaml.Node, path string)) {
	if n = d.real(n, path); n == nil || null(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "a list is needed here")
		return
	}
	for i, e := range n.Content {
		each(e, fmt.Sprintf("%s[%d]", path, i))
	}
}

// text takes any scalar: people do not quote the port of a matcher.
func (d *decoder) text(into *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n = d.real(n, path); n == nil || null(n) {
			return
		}
		if n.Kind != yaml.ScalarNode {
			d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "a text is needed here")
			return
		}
		*into = n.Value
	}
}

func (d *decoder) texts(into *[]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		*into = []string{}
		d.list(n, path, func(n *yaml.Node, path string) {
			var s string
			d.text(&s)(n, path)
			*into = append(*into, s)
		})
	}
}

func (d *decoder) flag(into *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n = d.real(n, path); n == nil || null(n) {
			return
		}
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(into) != nil {
			d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "true or false is needed here")
		}
	}
}

func (d *decoder) number(into *float64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n = d.real(n, path); n == nil || null(n) {
			return
		}
		tag := n.ShortTag()
		if n.Kind != yaml.ScalarNode || tag != "!!int" && tag != "!!float" || n.Decode(into) != nil || math.IsNaN(*into) || math.IsInf(*into, 0) {
			*into = 0
			d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "a number is needed here")
		}
	}
}

func (d *decoder) minutes(into *int) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var f float64
		d.number(&f)(n, path)
		if f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
			d.fault(n, path, "INVALID_JSON_ATTRIBUTE", "a whole number of minutes is needed here")
			return
		}
		*into = int(f)
	}
}

func (d *decoder) date(into *time.Time) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var s string
		d.text(&s)(n, path)
		if s == "" {
			return
		}
		var ok bool
		if *into, ok = parseDate(s); !ok {
			d.fault(n, path, "", "%q is no date such as 2026-12-24T18:00:00Z", s)
			*into = time.Unix(0, 0).UTC() // not missing besides
		}
	}
}

func (d *decoder) file(doc *yaml.Node) *File {
	f := &File{}
	if len(doc.Content) != 1 {
		d.fault(doc, "", "", "the file is empty: an empty list of settings is written alertConfigs: []")
		return f
	}
	root := d.real(doc.Content[0], "")
	if root == nil || root.Kind != yaml.MappingNode {
		d.fault(doc.Content[0], "", "", "the file must begin with fields: version, alertConfigs, maintenanceWindows")
		return f
	}
	add := func(n *yaml.Node, path string) {
		f.HasConfigs = true
		f.Configs = append(f.Configs, d.config(n, path))
	}
	has := func(name string) bool {
		for i := 0; i < len(root.Content); i += 2 {
			if root.Content[i].Value == name {
				return true
			}
		}
		return false
	}
	switch {
	case has("eventTypeName"): // one configuration, as the Public API has it
		add(root, "alertConfigs[0]")
		return f
	case has("results"):
		d.object(root, "", fields{
			"links": nil, "totalCount": nil,
			"results": func(n *yaml.Node, _ string) { d.list(n, "alertConfigs", add) },
		}, nil)
		f.HasConfigs = true
		return f
	}
	version := float64(Version)
	d.object(root, "", fields{
		"version": d.number(&version),
		"alertConfigs": func(n *yaml.Node, path string) {
			f.HasConfigs = true
			d.list(n, path, add)
		},
		"maintenanceWindows": func(n *yaml.Node, path string) {
			if f.HasWindows = true; d.o.Global {
				d.fault(n, path, "", "maintenance windows are of groups: leave them out of a file of global settings")
			}
			d.list(n, path, func(n *yaml.Node, path string) { f.Windows = append(f.Windows, d.window(n, path)) })
		},
	}, nil)
	if version != Version {
		d.fault(root, "version", "", "this program reads version %d of the format, not %v", Version, version)
	}
	if !f.HasConfigs && !f.HasWindows {
		d.fault(root, "", "", "there is neither alertConfigs nor maintenanceWindows")
	}
	return f
}

// mark notes where the fields below an entry are.
func mark(into lines, n *yaml.Node, path string, depth int) {
	if n.Kind == yaml.AliasNode || depth > maxDepth || len(into) > 2000 {
		return
	}
	if _, ok := into[path]; !ok {
		into[path] = n.Line
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := below(path, n.Content[i].Value)
			into[at] = n.Content[i].Line
			mark(into, n.Content[i+1], at, depth+1)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			mark(into, e, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.AliasNode:
	}
}

func (d *decoder) config(n *yaml.Node, path string) Config {
	c := Config{where: lines{}}
	c.Enabled = true
	mark(c.where, n, "", 0)
	var id, event string
	known := fields{
		"id": d.text(&id), "eventTypeName": d.text(&event), "enabled": d.flag(&c.Enabled), "note": d.text(&c.Note),
		"matchers": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { d.matcher(&c, n, path) })
		},
		"threshold":       func(n *yaml.Node, path string) { c.Threshold = d.threshold(n, path, nil) },
		"metricThreshold": func(n *yaml.Node, path string) { c.Metric = d.metric(n, path) },
		"notifications": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { d.notification(&c, n, path) })
		},
		// What the Public API answers besides.
		"links": nil, "groupId": nil, "typeName": nil, "created": nil, "updated": nil, "origin": nil, "warnings": nil,
	}
	var groups []string
	if d.o.Global {
		known["forAllGroups"], known["groupIds"], known["tags"] = d.flag(&c.ForAllGroups), d.texts(&groups), d.texts(&c.Tags)
	}
	d.object(n, path, known, func(key string, n *yaml.Node, path string) bool {
		if key != "forAllGroups" && key != "groupIds" && key != "tags" {
			return false
		}
		d.fault(n, path, "", "%s is for global settings: use --global", key)
		return true
	})
	c.ID, c.EventType, c.Note = model.ID(id), model.EventType(strings.TrimSpace(event)), strings.TrimSpace(c.Note)
	for _, g := range groups {
		c.GroupIDs = append(c.GroupIDs, model.ID(g))
	}
	return c
}

func (d *decoder) matcher(c *Config, n *yaml.Node, path string) {
	var m model.Matcher
	d.object(n, path, fields{"fieldName": d.text(&m.Field), "operator": d.text(&m.Operator), "value": d.text(&m.Value)}, nil)
	c.Matchers = append(c.Matchers, m)
}

func (d *decoder) threshold(n *yaml.Node, path string, more fields) *model.Threshold {
	if null(n) {
		return nil
	}
	t := &model.Threshold{}
	known := fields{"operator": d.text(&t.Operator), "threshold": d.number(&t.Value), "units": d.text(&t.Units)}
	maps.Copy(known, more)
	d.object(n, path, known, nil)
	return t
}

func (d *decoder) metric(n *yaml.Node, path string) *model.MetricThreshold {
	m := &model.MetricThreshold{}
	mode := "AVERAGE"
	t := d.threshold(n, path, fields{"metricName": d.text(&m.Metric), "mode": d.text(&mode)})
	if t == nil {
		return nil
	}
	if mode != "AVERAGE" && mode != "" {
		d.fault(n, below(path, "mode"), "INVALID_ENUM_VALUE", "mode must be AVERAGE, or be left out")
	}
	m.Threshold = *t
	return m
}

func (d *decoder) notification(c *Config, n *yaml.Node, path string) {
	var x model.Notification
	var roles []string
	var ids [2]string
	given := map[string]bool{}
	type own struct {
		key, value, path string
		n                *yaml.Node
	}
	var rest []own
	d.object(n, path, fields{
		"typeName": d.text(&x.Channel), "delayMin": d.minutes(&x.DelayMin), "intervalMin": d.minutes(&x.IntervalMin),
		"emailEnabled": d.flag(&x.EmailEnabled), "smsEnabled": d.flag(&x.SMSEnabled), "roles": d.texts(&roles),
		"id": d.text(&ids[0]), "notifierId": d.text(&ids[1]), "links": nil,
	}, func(key string, n *yaml.Node, path string) bool {
		o := own{key: key, path: path, n: n}
		if r := d.real(n, path); r != nil && !null(r) {
			d.text(&o.value)(n, path)
			rest = append(rest, o)
		}
		return true
	})
	for _, r := range roles {
		x.Roles = append(x.Roles, model.Role(r))
	}
	if d.lenient { // ids are the server's: a file has none
		if x.ID = model.ID(ids[0]); x.ID == "" {
			x.ID = model.ID(ids[1])
		}
	}
	name, table, ok := "", map[string]bool(nil), false
	if d.o.Channels != nil {
		name, table, ok = d.o.Channels.Fields(x.Channel)
	}
	if ok {
		x.Channel = name
	}
	for _, o := range rest {
		secret, has := table[o.key]
		switch {
		case !ok || d.lenient && !has: // what is wrong with the channel is said once
			continue
		case !has:
			d.fault(o.n, o.path, "", "%s has no field %s: it has %s", x.Channel, o.key, oneOf(table))
			continue
		}
		given[o.key] = true
		switch {
		case o.value == "":
		case secret:
			put(&x.Secrets, o.key, model.Secret(o.value))
		default:
			put(&x.Fields, o.key, o.value)
		}
	}
	c.Notifications, c.Given = append(c.Notifications, x), append(c.Given, given)
}

func oneOf(table map[string]bool) string {
	if len(table) == 0 {
		return "none of its own"
	}
	return strings.Join(sortedKeys(table), ", ")
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (d *decoder) window(n *yaml.Node, path string) Window {
	w := Window{where: lines{}}
	mark(w.where, n, "", 0)
	var id string
	d.object(n, path, fields{
		"id": d.text(&id), "startDate": d.date(&w.Start), "endDate": d.date(&w.End), "alertTypeNames": d.texts(&w.Types), "description": d.text(&w.Description),
		"recurrence": func(n *yaml.Node, path string) {
			if !null(n) {
				w.Repeat = d.recurrence(n, path)
			}
		},
		"links": nil, "groupId": nil, "created": nil, "updated": nil, "nextStartDate": nil, "nextEndDate": nil,
	}, nil)
	w.ID, w.Description = model.ID(id), strings.TrimSpace(w.Description)
	return w
}

func (d *decoder) recurrence(n *yaml.Node, path string) *model.Recurrence {
	r := &model.Recurrence{}
	var names []string
	d.object(n, path, fields{"weekdays": d.texts(&names), "timeZone": d.text(&r.TimeZone), "until": d.date(&r.Until)}, nil)
	for _, name := range names {
		i := slices.Index(check.Weekdays(), strings.ToUpper(name))
		if i < 0 {
			d.fault(n, below(path, "weekdays"), "INVALID_ENUM_VALUE", "%q is none of %s", name, strings.Join(check.Weekdays(), ", "))
			continue
		}
		r.Weekdays = append(r.Weekdays, i)
	}
	return r
}
