package file

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Encode writes a file: head, lines of comment, comes first. What is usual is left out. Times are UTC.
func Encode(f *File, head ...string) ([]byte, error) {
	top := newObject()
	top.put("version", plain("!!int", strconv.Itoa(Version)))
	if f.HasConfigs || len(f.Configs) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range f.Configs {
			list.Content = append(list.Content, encodeConfig(&f.Configs[i]))
		}
		top.put("alertConfigs", flowIfEmpty(list))
	}
	if f.HasWindows || len(f.Windows) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range f.Windows {
			list.Content = append(list.Content, encodeWindow(&f.Windows[i]))
		}
		top.put("maintenanceWindows", flowIfEmpty(list))
	}
	var out bytes.Buffer
	for _, line := range head {
		// Names of groups are people's: a line break in one must not end the comment.
		line = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
				return ' '
			}
			return r
		}, line)
		out.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(top.node); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func flowIfEmpty(n *yaml.Node) *yaml.Node {
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	return n
}

// object is a mapping in the making. Values that are nil are left out.
type object struct{ node *yaml.Node }

func newObject() object { return object{&yaml.Node{Kind: yaml.MappingNode}} }

func (o object) put(key string, v *yaml.Node) {
	if v != nil {
		o.node.Content = append(o.node.Content, plain("!!str", key), v)
	}
}

func (o object) flow() *yaml.Node {
	o.node.Style = yaml.FlowStyle
	return o.node
}

func plain(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// text is a text, quoted where it would be read as something else; nil when it is empty.
func text(s string) *yaml.Node {
	if s == "" {
		return nil
	}
	n := &yaml.Node{}
	n.SetString(s) // several lines become a block
	if strings.ContainsAny(s, "\r\t") || strings.Contains(s, " \n") || strings.HasPrefix(s, "\n") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func flag(name string, on bool, o object) {
	if on {
		o.put(name, plain("!!bool", "true"))
	}
}

func texts(all []string) *yaml.Node {
	if len(all) == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range all {
		n.Content = append(n.Content, orEmpty(text(s)))
	}
	return n
}

func orEmpty(n *yaml.Node) *yaml.Node {
	if n == nil {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle}
	}
	return n
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func encodeThreshold(metric string, t model.Threshold) *yaml.Node {
	o := newObject()
	o.put("metricName", text(metric))
	o.put("operator", text(t.Operator))
	o.put("threshold", plain("!!float", number(t.Value)))
	if u := units(t.Units); u != "RAW" {
		o.put("units", text(u))
	}
	return o.flow()
}

func encodeConfig(c *Config) *yaml.Node {
	o := newObject()
	o.put("id", text(string(c.ID)))
	o.put("eventTypeName", text(string(c.EventType)))
	if !c.Enabled {
		o.put("enabled", plain("!!bool", "false"))
	}
	if len(c.Matchers) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, m := range c.Matchers {
			e := newObject()
			e.put("fieldName", text(m.Field))
			e.put("operator", text(m.Operator))
			e.put("value", orEmpty(text(m.Value)))
			list.Content = append(list.Content, e.flow())
		}
		o.put("matchers", list)
	}
	if c.Metric != nil {
		o.put("metricThreshold", encodeThreshold(c.Metric.Metric, c.Metric.Threshold))
	}
	if c.Threshold != nil {
		o.put("threshold", encodeThreshold("", *c.Threshold))
	}
	o.put("note", text(c.Note))
	flag("forAllGroups", c.ForAllGroups, o)
	groups := make([]string, len(c.GroupIDs))
	for i, g := range c.GroupIDs {
		groups[i] = string(g)
	}
	o.put("groupIds", texts(groups))
	o.put("tags", texts(c.Tags))
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range c.Notifications {
		list.Content = append(list.Content, encodeNotification(&c.Notifications[i], c.given(i)))
	}
	o.put("notifications", flowIfEmpty(list))
	return o.node
}

// given are the fields that a notification has; those of one that was not decoded are the ones with a value.
func (c *Config) given(i int) map[string]bool {
	if i < len(c.Given) {
		return c.Given[i]
	}
	g := map[string]bool{}
	for name := range c.Notifications[i].Fields {
		g[name] = true
	}
	for name := range c.Notifications[i].Secrets {
		g[name] = true
	}
	return g
}

func encodeNotification(n *model.Notification, given map[string]bool) *yaml.Node {
	o := newObject()
	o.put("typeName", orEmpty(text(n.Channel)))
	minutes := func(name string, v int) {
		if v != 0 {
			o.put(name, plain("!!int", strconv.Itoa(v)))
		}
	}
	minutes("delayMin", n.DelayMin)
	minutes("intervalMin", n.IntervalMin)
	flag("emailEnabled", n.EmailEnabled, o)
	flag("smsEnabled", n.SMSEnabled, o)
	roles := make([]string, len(n.Roles))
	for i, r := range n.Roles {
		roles[i] = string(r)
	}
	o.put("roles", texts(roles))
	for _, name := range sortedKeys(given) {
		o.put(name, orEmpty(text(value(n, name))))
	}
	return o.node
}

// value is a channel's field, secret or not.
func value(n *model.Notification, name string) string {
	if s := n.Secrets[name].Reveal(); s != "" {
		return s
	}
	return n.Fields[name]
}

func encodeWindow(w *Window) *yaml.Node {
	o := newObject()
	o.put("id", text(string(w.ID)))
	o.put("description", text(w.Description))
	o.put("startDate", date(stamp(w.Start)))
	o.put("endDate", date(stamp(w.End)))
	o.put("alertTypeNames", texts(w.Types))
	if w.Repeat != nil {
		r := newObject()
		r.put("weekdays", texts(days(w.Repeat.Weekdays)))
		r.put("timeZone", text(zone(w.Repeat.TimeZone)))
		r.put("until", date(stamp(w.Repeat.Until)))
		o.put("recurrence", r.node)
	}
	return o.node
}

func date(s string) *yaml.Node {
	if s == "" {
		return nil
	}
	return plain("!!timestamp", s)
}

// Body is the configuration as the Public API takes it. A notification with an id keeps what it does not give.
func (c *Config) Body(global bool) map[string]any {
	b := map[string]any{"eventTypeName": c.EventType, "enabled": c.Enabled, "note": c.Note}
	if c.ID != "" {
		b["id"] = c.ID
	}
	all := []map[string]any{}
	for _, m := range c.Matchers {
		all = append(all, map[string]any{"fieldName": m.Field, "operator": m.Operator, "value": m.Value})
	}
	b["matchers"] = all
	threshold := func(t model.Threshold) map[string]any {
		o := map[string]any{"operator": t.Operator, "threshold": t.Value}
		if t.Units != "" {
			o["units"] = t.Units
		}
		return o
	}
	if c.Threshold != nil {
		b["threshold"] = threshold(*c.Threshold)
	}
	if c.Metric != nil {
		m := threshold(c.Metric.Threshold)
		m["metricName"], m["mode"], m["units"] = c.Metric.Metric, "AVERAGE", units(c.Metric.Units)
		b["metricThreshold"] = m
	}
	if global {
		b["forAllGroups"], b["groupIds"], b["tags"] = c.ForAllGroups, append([]model.ID{}, c.GroupIDs...), append([]string{}, c.Tags...)
	}
	notifications := make([]map[string]any, len(c.Notifications))
	for i := range c.Notifications {
		n := &c.Notifications[i]
		o := map[string]any{"typeName": n.Channel, "delayMin": n.DelayMin, "intervalMin": n.IntervalMin}
		if n.ID != "" {
			o["notifierId"] = n.ID
		}
		if n.EmailEnabled || n.SMSEnabled {
			o["emailEnabled"], o["smsEnabled"] = n.EmailEnabled, n.SMSEnabled
		}
		if len(n.Roles) > 0 {
			o["roles"] = slices.Clone(n.Roles)
		}
		for name := range c.given(i) {
			o[name] = value(n, name)
		}
		notifications[i] = o
	}
	b["notifications"] = notifications
	return b
}
