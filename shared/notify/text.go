package notify

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

const (
	maxSubject = 200
	maxListed  = 50 // alerts of a digest that a text names; the rest are counted
)

// Subject is a message in one line of at most 200 bytes: "OPEN: Host is down: db1.example.com:27017 (Shop)".
func Subject(m Message) string {
	where := ""
	if !m.mixed() {
		where = inGroup(m)
	}
	text := KindWord(m.Kind) + ": " + Headline(m)
	if len(m.Others) > 0 {
		text = Summary(m)
	}
	return Cut(text, maxSubject-len(where)) + where
}

func inGroup(m Message) string {
	if m.Group.Name == "" {
		return ""
	}
	return " (" + line(m.Group.Name, 60) + ")"
}

// mixed reports whether a digest's alerts are of several groups.
func (m *Message) mixed() bool {
	return slices.ContainsFunc(m.Others, func(o Message) bool { return o.Group.ID != m.Group.ID })
}

// Entry is the headline of one alert of a digest, with its group where the digest has several.
func (m *Message) Entry(one Message) string {
	if m.mixed() {
		return Headline(one) + inGroup(one)
	}
	return Headline(one)
}

// Summary counts the alerts of a digest: "12 alerts: 9 open, 3 closed".
func Summary(m Message) string {
	order := []model.DeliveryKind{
		model.DeliverOpen, model.DeliverUpdate, model.DeliverInform, model.DeliverAcknowledge, model.DeliverClose, model.DeliverCancel, model.DeliverTest,
	}
	counts := map[model.DeliveryKind]int{}
	for _, one := range m.All() {
		counts[one.Kind]++
	}
	var parts []string
	for _, k := range order {
		if counts[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[k], strings.ToLower(KindWord(k))))
		}
	}
	return fmt.Sprintf("%d alerts: %s", len(m.Others)+1, strings.Join(parts, ", "))
}

// Headline is the kind of alert and its target: "Host is down: db1.example.com:27017".
func Headline(m Message) string {
	a := m.alert()
	what := cmp.Or(m.TestLabel, Label(a.EventType))
	if a.EventType == model.EventOutsideMetric && a.Rule.Metric != nil {
		what = line(a.Rule.Metric.Metric, 80) + " " + bound(a.Rule.Metric.Threshold)
	}
	if a.NoDataWhy != "" && !a.NoDataSince.IsZero() && !Over(m.Kind) {
		what += ", no data"
	}
	if where := Where(a); where != "" {
		return what + ": " + where
	}
	return what
}

// Label is an event type in words.
func Label(e model.EventType) string {
	if t, ok := rule.TypeOf(e); ok && t.Label != "" {
		return t.Label
	}
	words := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(string(e), "_AUDIT"), "_", " "))
	r, n := utf8.DecodeRuneInString(words)
	if n == 0 {
		return "Alert"
	}
	return string(unicode.ToUpper(r)) + words[n:]
}

// Where names an alert's target: a host, a replica set, a cluster.
func Where(a *model.Alert) string {
	t := &a.Target
	return line(cmp.Or(t.HostName, t.ReplicaSet, t.ClusterName, t.ShardName, t.AgentID), 100)
}

func (m *Message) alert() *model.Alert {
	if m.Alert == nil {
		return &model.Alert{}
	}
	return m.Alert
}

// KindWord is a kind in a word for people.
func KindWord(k model.DeliveryKind) string {
	switch k {
	case model.DeliverOpen:
		return "OPEN"
	case model.DeliverUpdate:
		return "STILL OPEN"
	case model.DeliverAcknowledge:
		return "ACKNOWLEDGED"
	case model.DeliverClose:
		return "CLOSED"
	case model.DeliverCancel:
		return "CANCELLED"
	case model.DeliverInform:
		return "EVENT"
	case model.DeliverTest:
		return "TEST"
	}
	return strings.ToUpper(string(k))
}

// Over reports whether messages of a kind tell that something is over.
func Over(k model.DeliveryKind) bool {
	return k == model.DeliverClose || k == model.DeliverCancel
}

// Text is a message in plain sentences, with its links, of at most max bytes; 0 is no limit.
func Text(m Message, max int) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if len(m.Others) > 0 {
		say("%s", Subject(m))
		all := m.All()
		for i, one := range all {
			if i == maxListed {
				say("\n… and %d more.", len(all)-i)
				break
			}
			say("\n%s: %s", KindWord(one.Kind), m.Entry(one))
			if s := Sentence(one); s != "" {
				say("%s", s)
			}
			if one.URL != "" {
				say("%s", one.URL)
			}
		}
	} else {
		say("%s", Subject(m))
		if s := Sentence(m); s != "" {
			say("\n%s", s)
		}
		say("")
		for _, f := range Facts(m) {
			say("%s: %s", f.Name, f.Value)
		}
		if m.URL != "" {
			say("\nDetails: %s", m.URL)
		}
		if m.AckURL != "" && Acknowledgeable(m.Kind) {
			say("Acknowledge: %s", m.AckURL)
		}
		if !m.NextAt.IsZero() && Acknowledgeable(m.Kind) {
			say("\nThe next message comes at %s unless the alert closes or somebody acknowledges it.", Moment(m.NextAt))
		}
	}
	if max == 0 {
		return b.String()
	}
	return Cut(strings.TrimSpace(b.String()), max)
}

// Acknowledgeable reports whether a message of a kind is about an alert that somebody should take on.
func Acknowledgeable(k model.DeliveryKind) bool {
	return k == model.DeliverOpen || k == model.DeliverUpdate
}

// Sentence says what is wrong, or what became of it.
func Sentence(m Message) string {
	a := m.alert()
	text := line(a.Text, 1000)
	switch m.Kind {
	case model.DeliverTest:
		return "This is a test. Nothing is wrong: somebody wanted to see that messages arrive."
	case model.DeliverClose:
		if d := lasted(a); d != "" {
			return strings.TrimSpace("It is over after " + d + ". It was: " + text)
		}
		return strings.TrimSpace("It is over. It was: " + text)
	case model.DeliverCancel:
		return strings.TrimSpace("It is not watched any more: the alert's configuration or what it was about has changed or is gone. " + text)
	}
	return text
}

func lasted(a *model.Alert) string {
	if a.Since.IsZero() || !a.Resolved.After(a.Since) {
		return ""
	}
	return Span(a.Resolved.Sub(a.Since))
}

// Fact is one line of the table that goes with an alert.
type Fact struct{ Name, Value string }

// Facts are the group, target, value, threshold, times and note of a message's own alert.
func Facts(m Message) []Fact {
	a := m.alert()
	var out []Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, Fact{name, value})
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			add(name, Moment(t))
		}
	}
	add("Site", line(m.Site, 100))
	add("Group", line(m.Group.Name, 100))
	add("Host", line(a.Target.HostName, 260))
	add("Replica set", line(a.Target.ReplicaSet, 100))
	add("Cluster", line(a.Target.ClusterName, 100))
	add("Shard", line(a.Target.ShardName, 100))
	add("Agent", line(a.Target.AgentID, 100))
	if a.Rule.Metric != nil {
		add("Measurement", line(a.Rule.Metric.Metric, 100))
		add("Threshold", bound(a.Rule.Metric.Threshold))
	} else if a.Rule.Threshold != nil {
		add("Threshold", bound(*a.Rule.Threshold))
	}
	if a.Value != nil {
		add("Value", Reading(*a.Value))
	}
	if a.Worst != nil && (a.Value == nil || *a.Worst != *a.Value) {
		add("Worst", Reading(*a.Worst))
	}
	if !a.Inform && m.Kind != model.DeliverTest {
		at("Since", a.Since)
	} else {
		at("At", a.Since)
	}
	if !a.NoDataSince.IsZero() {
		add("No data since", Moment(a.NoDataSince)+": "+line(a.NoDataWhy, 200))
	}
	if Over(m.Kind) {
		at("Ended", a.Resolved)
	}
	if m.Kind == model.DeliverAcknowledge {
		add("Acknowledged by", line(a.AckBy, 100))
		at("Acknowledged until", a.AckUntil)
		add("Comment", line(a.AckComment, 1000))
	}
	if !Over(m.Kind) {
		add("What to do", line(a.Rule.Note, 1000))
	}
	return out
}

func bound(t model.Threshold) string {
	word := map[string]string{model.GreaterThan: "above", model.LessThan: "below"}[t.Operator]
	return strings.TrimSpace(cmp.Or(word, line(t.Operator, 40)) + " " + Reading(model.Reading{Number: t.Value, Units: t.Units}))
}

// Reading is a value with its unit: "812", "1.5 s", "3.25 GB".
func Reading(r model.Reading) string {
	n := r.Number
	if math.Abs(n) >= 100 && math.Abs(n) < 1e15 {
		n = math.Round(n*10) / 10
	} else if math.Abs(n) < 1e15 {
		n = math.Round(n*1000) / 1000
	}
	text := strconv.FormatFloat(n, 'f', -1, 64)
	if math.Abs(n) >= 1e15 {
		text = strconv.FormatFloat(n, 'g', 6, 64)
	}
	unit, ok := units[r.Units]
	if !ok {
		unit = " " + strings.ToLower(strings.ReplaceAll(line(r.Units, 40), "_", " "))
	}
	return strings.TrimSpace(text + unit)
}

var units = map[string]string{
	"": "", "RAW": "", "SCALAR": "", "SCALAR_PER_SECOND": "/s", "PERCENT": " %", "BITS": " bit", "KILOBITS": " kbit", "MEGABITS": " Mbit", "GIGABITS": " Gbit",
	"BYTES": " B", "KILOBYTES": " kB", "MEGABYTES": " MB", "GIGABYTES": " GB", "TERABYTES": " TB", "PETABYTES": " PB",
	"BYTES_PER_SECOND": " B/s", "MEGABYTES_PER_SECOND": " MB/s", "GIGABYTES_PER_HOUR": " GB/h",
	"MILLISECONDS": " ms", "SECONDS": " s", "MINUTES": " min", "HOURS": " h", "DAYS": " d",
}

// Span is a length of time in its two largest units: "2 h 5 min".
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	parts := []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	var out []string
	for _, p := range parts {
		if n := d / p.unit; n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, p.name))
			d -= n * p.unit
		} else if len(out) > 0 {
			break
		}
		if len(out) == 2 {
			break
		}
	}
	if len(out) == 0 {
		return "0 s"
	}
	return strings.Join(out, " ")
}

// TestMessage is a message that proves a channel works. It has an example of an alert, so that it looks like a real one.
func TestMessage(g model.Group, site, url string, at time.Time) Message {
	id := model.NewID()
	return Message{
		Key: "test/" + string(id), Kind: model.DeliverTest, Group: g, Site: site, URL: url, At: at, TestLabel: "Test of a notification",
		Alert: &model.Alert{
			ID: id, GroupID: g.ID, ConfigID: id, EventType: model.EventHostDown, Status: model.AlertClosed, Inform: true,
			Target: model.Target{Key: "test", HostName: "host.example.com:27017"}, Text: "This is a test. Nothing is wrong.",
			Since: at, Created: at, Updated: at, Resolved: at,
		},
	}
}

// Moment is a time as messages write it.
func Moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Cut shortens a text to at most max bytes, at a rune and where possible a word, and says so by an ellipsis.
func Cut(s string, max int) string {
	const ellipsis = "…"
	if len(s) <= max {
		return s
	}
	if max < len(ellipsis) {
		return ""
	}
	n := max - len(ellipsis)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	s = s[:n]
	if i := strings.LastIndexByte(s, ' '); i > len(s)*3/4 {
		s = s[:i]
	}
	return s + ellipsis
}

// line makes one line of a text: control characters and runs of blanks become one blank. It is cut to max bytes; 0 is no
// limit. What goes through it cannot start a header, a new line of a mail or a control sequence.
func line(s string, max int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
	if max > 0 {
		return Cut(s, max)
	}
	return s
}
