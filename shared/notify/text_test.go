package notify

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func down(kind model.DeliveryKind) Message {
	return Message{
		Key: "a/" + string(kind), Kind: kind, Group: model.Group{ID: "g", Name: "Shop"}, Site: "heartwood.example.com", URL: "https://h/a", AckURL: "https://h/a/ack",
		At: noon, NextAt: noon.Add(time.Hour),
		Alert: &model.Alert{
			ID: "a", EventType: model.EventHostDown, Target: model.Target{HostName: "db1:27017", ReplicaSet: "rs0"}, Since: noon.Add(-125 * time.Minute), Resolved: noon,
			Text: "db1:27017 does not answer.", Rule: model.AlertConfig{Note: "Call Ann."}, AckBy: "ann", AckComment: "on it", AckUntil: noon.Add(time.Hour),
		},
	}
}

func TestSubjects(t *testing.T) {
	long := down(model.DeliverOpen)
	long.Alert.Target.HostName, long.Group.Name = strings.Repeat("ü", 300), strings.Repeat("g", 300)
	evil := down(model.DeliverOpen)
	evil.Group.Name, evil.Alert.Target.HostName = "a\r\nBcc: x@y", "db\x1b[31m\u202e1"
	several := down(model.DeliverOpen)
	several.Others = []Message{down(model.DeliverOpen), down(model.DeliverClose)}
	mixed := several
	mixed.Others = append(mixed.Others[:1:1], Message{Kind: model.DeliverOpen, Group: model.Group{ID: "g2", Name: "Bank"}})
	metric := down(model.DeliverUpdate)
	metric.Alert.EventType = model.EventOutsideMetric
	metric.Alert.Rule.Metric = &model.MetricThreshold{Metric: "OPLOG_MASTER_TIME", Threshold: model.Threshold{Operator: model.LessThan, Value: 24, Units: "HOURS"}}
	site := Message{Kind: model.DeliverOpen, Alert: &model.Alert{EventType: "SOMETHING_NEW_AUDIT"}}
	for _, c := range []struct {
		m    Message
		want string
	}{
		{down(model.DeliverOpen), "OPEN: Host is down: db1:27017 (Shop)"},
		{down(model.DeliverClose), "CLOSED: Host is down: db1:27017 (Shop)"},
		{metric, "STILL OPEN: OPLOG_MASTER_TIME below 24 h: db1:27017 (Shop)"},
		{several, "3 alerts: 2 open, 1 closed (Shop)"},
		{mixed, "3 alerts: 3 open"},
		{evil, "OPEN: Host is down: db [31m 1 (a Bcc: x@y)"},
		{site, "OPEN: Something new"},
		{Message{Kind: model.DeliverTest}, "TEST: Alert"},
	} {
		if got := Subject(c.m); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := Subject(long); len(got) > maxSubject || !utf8.ValidString(got) || !strings.Contains(got, "ggg") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestTextsSayWhatAPersonNeeds(t *testing.T) {
	for _, c := range []struct {
		kind         model.DeliveryKind
		want, absent []string
	}{
		{model.DeliverOpen, []string{"does not answer", "Since: 2026-03-01 09:55:00 UTC", "https://h/a/ack", "Call Ann.", "2026-03-01 13:00:00"}, []string{"Ended", "on it"}},
		{model.DeliverAcknowledge, []string{"Acknowledged by: ann", "Comment: on it", "13:00:00"}, []string{"https://h/a/ack"}},
		{model.DeliverClose, []string{"over after 2 h 5 min", "Ended: 2026-03-01 12:00:00 UTC"}, []string{"https://h/a/ack", "Call Ann.", "next message"}},
		{model.DeliverCancel, []string{"not watched any more"}, []string{"https://h/a/ack"}},
		{model.DeliverTest, []string{"This is a test"}, []string{"https://h/a/ack", "Since"}},
	} {
		got := Text(down(c.kind), 0)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", c.kind, w, got)
			}
		}
		for _, w := range c.absent {
			if strings.Contains(got, w) {
				t.Errorf("%s: %q in\n%s", c.kind, w, got)
			}
		}
	}
	many := down(model.DeliverOpen)
	for range 80 {
		many.Others = append(many.Others, down(model.DeliverClose))
	}
	many.Others[0].Group = model.Group{ID: "g2", Name: "Bank"}
	if got := Text(many, 0); !strings.Contains(got, "… and 31 more.") || !strings.Contains(got, "CLOSED: Host is down: db1:27017 (Bank)") {
		t.Errorf("got %s", got)
	}
	for _, max := range []int{1, 3, 50, 160, 100_000} {
		if got := Text(many, max); len(got) > max || !utf8.ValidString(got) {
			t.Errorf("%d bytes of %d", len(got), max)
		}
	}
}

func TestAnAlertWithoutDataSaysSo(t *testing.T) {
	m := down(model.DeliverUpdate)
	m.Alert.NoDataSince, m.Alert.NoDataWhy = noon.Add(-time.Hour), "the monitoring agent is down"
	if got := Text(m, 0); !strings.Contains(got, "Host is down, no data: db1:27017") || !strings.Contains(got, "No data since: 2026-03-01 11:00:00 UTC: the monitoring agent is down") {
		t.Errorf("got %s", got)
	}
}

func TestATestMessageLooksLikeOne(t *testing.T) {
	m := TestMessage(model.Group{ID: "g", Name: "Shop"}, "h", "https://h/", noon)
	if Subject(m) != "TEST: Test of a notification: host.example.com:27017 (Shop)" || !strings.Contains(Text(m, 0), "Nothing is wrong") || m.Key == "" || SeverityOf(m) != Info {
		t.Errorf("%s\n%s", Subject(m), Text(m, 0))
	}
}

func TestReadings(t *testing.T) {
	for _, c := range []struct {
		n    float64
		unit string
		want string
	}{
		{812, "RAW", "812"},
		{1.23456, "SECONDS", "1.235 s"},
		{1234.567, "MEGABYTES", "1234.6 MB"},
		{0.1, "PERCENT", "0.1 %"},
		{-3, "", "-3"},
		{2.5e18, "BYTES", "2.5e+18 B"},
		{7, "BANANAS_PER_SECOND", "7 bananas per second"},
	} {
		if got := Reading(model.Reading{Number: c.n, Units: c.unit}); got != c.want {
			t.Errorf("%v %s: got %q, want %q", c.n, c.unit, got, c.want)
		}
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1499 * time.Millisecond: "1 s", 90 * time.Second: "1 min 30 s", time.Hour: "1 h", time.Hour + time.Second: "1 h", 50 * time.Hour: "2 d 2 h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s    string
		max  int
		want string
	}{
		{"short", 10, "short"}, {"exactly10!", 10, "exactly10!"}, {"one two three four", 12, "one two…"}, {"ünïcödé", 6, "ün…"}, {"ünïcödé", 5, "ü…"}, {"x", 0, ""}, {"abcdef", 3, "…"}, {"abcdef", 2, ""},
	} {
		if got := Cut(c.s, c.max); got != c.want {
			t.Errorf("%q to %d: got %q, want %q", c.s, c.max, got, c.want)
		}
	}
}

func TestAllIsEachAlone(t *testing.T) {
	m := down(model.DeliverOpen)
	m.Others = []Message{down(model.DeliverClose)}
	all := m.All()
	if len(all) != 2 || len(all[0].Others) != 0 || len(m.Others) != 1 {
		t.Errorf("got %d", len(all))
	}
	if d := cmp.Diff([]model.DeliveryKind{model.DeliverOpen, model.DeliverClose}, []model.DeliveryKind{all[0].Kind, all[1].Kind}); d != "" {
		t.Error(d)
	}
}
