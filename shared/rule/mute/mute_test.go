package mute

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
)

func utc(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestOccurrences(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for name, c := range map[string]struct {
		start, end string
		repeat     *model.Recurrence
		now        string
		want, to   string // "" for none
	}{
		"a window to come":               {"2026-11-21 22:00", "2026-11-22 02:00", nil, "2026-11-21 12:00", "2026-11-21 22:00", "2026-11-22 02:00"},
		"a window that is on":            {"2026-11-21 22:00", "2026-11-22 02:00", nil, "2026-11-22 01:59", "2026-11-21 22:00", "2026-11-22 02:00"},
		"a window that is over":          {"2026-11-21 22:00", "2026-11-22 02:00", nil, "2026-11-22 02:00", "", ""},
		"the end before the start":       {"2026-11-22 02:00", "2026-11-21 22:00", nil, "2026-11-21 12:00", "", ""},
		"every Sunday, on Friday":        {"2026-11-01 01:00", "2026-11-01 03:00", &model.Recurrence{Weekdays: []int{0}}, "2026-11-20 12:00", "2026-11-22 01:00", "2026-11-22 03:00"},
		"every Sunday, in the middle":    {"2026-11-01 01:00", "2026-11-01 03:00", &model.Recurrence{Weekdays: []int{0}}, "2026-11-22 02:00", "2026-11-22 01:00", "2026-11-22 03:00"},
		"every Sunday, just over":        {"2026-11-01 01:00", "2026-11-01 03:00", &model.Recurrence{Weekdays: []int{0}}, "2026-11-22 03:00", "2026-11-29 01:00", "2026-11-29 03:00"},
		"before the first occurrence":    {"2026-11-24 01:00", "2026-11-24 03:00", &model.Recurrence{Weekdays: []int{0}}, "2026-11-01 12:00", "2026-11-24 01:00", "2026-11-24 03:00"},
		"daily over midnight":            {"2026-11-01 23:00", "2026-11-02 01:00", &model.Recurrence{Weekdays: all}, "2026-11-10 00:30", "2026-11-09 23:00", "2026-11-10 01:00"},
		"three days long, each week":     {"2026-11-06 18:00", "2026-11-09 06:00", &model.Recurrence{Weekdays: []int{5}}, "2026-11-15 18:00", "2026-11-13 18:00", "2026-11-16 06:00"},
		"until a day that has passed":    {"2026-11-01 01:00", "2026-11-01 03:00", &model.Recurrence{Weekdays: []int{0}, Until: utc("2026-11-15 12:00")}, "2026-11-16 00:00", "", ""},
		"the last one before the end":    {"2026-11-01 01:00", "2026-11-01 03:00", &model.Recurrence{Weekdays: []int{0}, Until: utc("2026-11-15 12:00")}, "2026-11-15 02:00", "2026-11-15 01:00", "2026-11-15 03:00"},
		"Berlin in winter":               {"2026-07-05 00:00", "2026-07-05 02:00", &model.Recurrence{Weekdays: []int{0}, TimeZone: "Europe/Berlin"}, "2026-11-21 12:00", "2026-11-22 01:00", "2026-11-22 03:00"},
		"Berlin, the clocks go back":     {"2026-07-05 00:00", "2026-07-05 04:00", &model.Recurrence{Weekdays: []int{0}, TimeZone: "Europe/Berlin"}, "2026-10-25 00:30", "2026-10-25 00:00", "2026-10-25 05:00"},
		"Berlin, the clocks go forward":  {"2026-01-04 00:00", "2026-01-04 03:00", &model.Recurrence{Weekdays: []int{0}, TimeZone: "Europe/Berlin"}, "2026-03-28 23:00", "2026-03-29 00:00", "2026-03-29 02:00"},
		"New York, the weekday is local": {"2026-11-08 03:00", "2026-11-08 05:00", &model.Recurrence{Weekdays: []int{6}, TimeZone: "America/New_York"}, "2026-11-20 12:00", "2026-11-22 03:00", "2026-11-22 05:00"},
		"no weekday is a single window":  {"2026-11-21 22:00", "2026-11-22 02:00", &model.Recurrence{}, "2026-11-23 00:00", "", ""},
		"years later":                    {"2020-11-01 01:00", "2020-11-01 03:00", &model.Recurrence{Weekdays: []int{0}}, "2026-11-22 02:00", "2026-11-22 01:00", "2026-11-22 03:00"},
	} {
		w := &model.MaintenanceWindow{Start: utc(c.start), End: utc(c.end), Repeat: c.repeat}
		start, end, ok := Occurrence(w, utc(c.now))
		if ok != (c.want != "") || ok && (!start.Equal(utc(c.want)) || !end.Equal(utc(c.to))) {
			t.Errorf("%s: %v from %s to %s, want %s to %s", name, ok, start, end, c.want, c.to)
		}
	}
}

// TestOccurrencesAgreeWithEachOther walks a year of hours through windows in several zones: whoever is inside one stays
// inside until its end, and the next one never begins before now.
func TestOccurrencesAgreeWithEachOther(t *testing.T) {
	for _, zone := range []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		w := &model.MaintenanceWindow{Start: utc("2026-01-01 01:30"), End: utc("2026-01-01 04:15"), Repeat: &model.Recurrence{Weekdays: []int{1, 3, 0}, TimeZone: zone}}
		var end time.Time
		for now := utc("2026-01-01 00:00"); now.Before(utc("2027-01-01 00:00")); now = now.Add(17 * time.Minute) {
			from, to, ok := Occurrence(w, now)
			if !ok || !to.After(now) || !to.After(from) || to.Sub(from) > 5*time.Hour {
				t.Fatalf("%s at %s: %s to %s, %v", zone, now, from, to, ok)
			}
			if now.Before(end) && !to.Equal(end) {
				t.Fatalf("%s at %s: the window ended at %s before it ended at %s", zone, now, to, end)
			}
			if end = (time.Time{}); !from.After(now) {
				end = to
			}
		}
	}
}

func TestMuted(t *testing.T) {
	now := utc("2026-11-21 12:00")
	hosts := []model.Host{{ID: "h1", Hostname: "db1", Port: 27017, Type: model.TypeReplicaPrimary}, {ID: "h2", Hostname: "db2", Port: 27017}}
	target := model.Target{Key: "host/h1", HostID: "h1", HostName: "db1:27017", ReplicaSet: "rs0", ClusterName: "shop"}
	set := model.Target{Key: "cluster/c", ReplicaSet: "rs0", ClusterName: "shop"}
	c := &model.AlertConfig{ID: "c1", EventType: model.EventHostDown}
	hostDown, _ := kind.TypeOf(model.EventHostDown)
	window := func(types ...string) []model.MaintenanceWindow {
		return []model.MaintenanceWindow{{Start: now.Add(-time.Hour), End: now.Add(time.Hour), Types: types, Description: "disks"}}
	}
	silence := func(s model.Silence) []model.Silence {
		s.Start, s.End, s.By = now.Add(-time.Hour), now.Add(time.Hour), "ann"
		return []model.Silence{s}
	}
	match := func(field, value string) []model.Matcher {
		return []model.Matcher{{Field: field, Operator: "EQUALS", Value: value}}
	}
	for name, q := range map[string]struct {
		windows  []model.MaintenanceWindow
		silences []model.Silence
		target   model.Target
		at       time.Time
		want     string
	}{
		"nothing":                           {nil, nil, target, now, ""},
		"a window of hosts":                 {window("REPLICA_SET", "HOST"), nil, target, now, `the maintenance window "disks"`},
		"a window of agents":                {window("AGENT"), nil, target, now, ""},
		"a window that is over":             {window("HOST"), nil, target, now.Add(time.Hour), ""},
		"a window to come":                  {window("HOST"), nil, target, now.Add(-2 * time.Hour), ""},
		"a silence of the rule":             {nil, silence(model.Silence{ConfigID: "c1", Comment: "known"}), target, now, "the silence by ann (known)"},
		"a silence of another rule":         {nil, silence(model.Silence{ConfigID: "c2"}), target, now, ""},
		"a silence of the type":             {nil, silence(model.Silence{EventType: model.EventHostDown}), target, now, "the silence by ann"},
		"a silence of the host":             {nil, silence(model.Silence{Matchers: match("HOSTNAME", "DB1")}), target, now, "the silence by ann"},
		"a silence of the set":              {nil, silence(model.Silence{Matchers: match("REPLICA_SET_NAME", "rs0")}), set, now, "the silence by ann"},
		"a silence of all but a host":       {nil, silence(model.Silence{Matchers: []model.Matcher{{Field: "HOSTNAME", Operator: "NOT_EQUALS", Value: "db9"}}}), set, now, ""},
		"a silence of a primary":            {nil, silence(model.Silence{Matchers: match("TYPE_NAME", "PRIMARY")}), target, now, "the silence by ann"},
		"a silence of another host":         {nil, silence(model.Silence{EventType: model.EventHostDown, Matchers: match("HOSTNAME", "db2")}), target, now, ""},
		"a silence of nothing":              {nil, silence(model.Silence{}), target, now, ""},
		"a silence that is over":            {nil, silence(model.Silence{ConfigID: "c1"}), target, now.Add(time.Hour), ""},
		"a silence that has not begun":      {nil, silence(model.Silence{ConfigID: "c1"}), target, now.Add(-61 * time.Minute), ""},
		"a silence nobody can read":         {nil, silence(model.Silence{Matchers: []model.Matcher{{Field: "HOSTNAME", Operator: "REGEX", Value: "("}}}), target, now, ""},
		"a silence beside one nobody reads": {nil, append(silence(model.Silence{Matchers: []model.Matcher{{Field: "X"}}}), silence(model.Silence{ConfigID: "c1"})...), target, now, "the silence by ann"},
	} {
		if got := Muted(q.windows, q.silences, hosts)(c, hostDown, q.target, q.at); got != q.want {
			t.Errorf("%s: %q, want %q", name, got, q.want)
		}
	}
}

func FuzzOccurrence(f *testing.F) {
	f.Add(int64(1.7e9), int64(7200), int64(1.8e9), 0, "Europe/Berlin", int64(0))
	f.Fuzz(func(t *testing.T, start, length, now int64, weekday int, zone string, until int64) {
		const span = 1 << 33
		w := &model.MaintenanceWindow{Start: time.Unix(start%span, 0), Repeat: &model.Recurrence{Weekdays: []int{weekday}, TimeZone: zone}}
		w.End = w.Start.Add(time.Duration(length%(1<<26)) * time.Second)
		if until != 0 {
			w.Repeat.Until = time.Unix(until%span, 0)
		}
		at := time.Unix(now%span, 0)
		from, to, ok := Occurrence(w, at)
		if ok && (!to.After(at) || !to.After(from)) {
			t.Errorf("%s to %s at %s", from, to, at)
		}
	})
}
