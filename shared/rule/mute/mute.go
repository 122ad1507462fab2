// Package mute says when people are not to be told: in maintenance windows, once or again and again on the wall clock of a
// time zone, and under silences.
//
// It may import shared/model and the packages kind and match beside it.
package mute

import (
	"slices"
	"strconv"
	"time"
	_ "time/tzdata" // windows recur on the wall clock of a zone, also where the machine has no table of zones

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// Mute says why nobody is to be told of a target's alerts now, or "".
type Mute func(c *model.AlertConfig, t kind.Type, target model.Target, now time.Time) string

// Muted makes a Mute of a group's maintenance windows and silences. hosts are those that silences' matchers may name. A
// silence whose matchers cannot be read silences nothing.
func Muted(windows []model.MaintenanceWindow, silences []model.Silence, hosts []model.Host) Mute {
	if len(windows) == 0 && len(silences) == 0 {
		return func(*model.AlertConfig, kind.Type, model.Target, time.Time) string { return "" }
	}
	var list []silence
	byID := map[model.HostID]*model.Host{}
	for i := range silences {
		set, err := match.Compile(silences[i].Matchers)
		if err != nil {
			continue
		}
		list = append(list, silence{&silences[i], set})
		if len(set) > 0 && len(byID) == 0 {
			for j := range hosts {
				byID[hosts[j].ID] = &hosts[j]
			}
		}
	}
	return func(c *model.AlertConfig, t kind.Type, target model.Target, now time.Time) string {
		for i := range windows {
			w := &windows[i]
			if !slices.Contains(w.Types, string(t.Category)) {
				continue
			}
			if start, _, ok := Occurrence(w, now); ok && !start.After(now) {
				return Name(w)
			}
		}
		for _, s := range list {
			if s.covers(c, now) && matches(s.Silence, s.set, target, byID) {
				return nameOfSilence(s.Silence)
			}
		}
		return ""
	}
}

// silence is a silence with its matchers compiled.
type silence struct {
	*model.Silence
	set match.Set
}

func (s *silence) covers(c *model.AlertConfig, now time.Time) bool {
	return !now.Before(s.Start) && now.Before(s.End) && (s.ConfigID == "" || s.ConfigID == c.ID) &&
		(s.EventType == "" || s.EventType == c.EventType) && (s.ConfigID != "" || s.EventType != "" || len(s.Matchers) > 0)
}

// matches: a matcher of a field that the target has not, such as the port of a cluster, does not hold.
func matches(s *model.Silence, set match.Set, target model.Target, hosts map[model.HostID]*model.Host) bool {
	if len(set) == 0 {
		return true
	}
	subject := match.Subject{
		Host: hosts[target.HostID], Address: target.HostName, ReplicaSet: target.ReplicaSet, ShardName: target.ShardName,
		ClusterName: target.ClusterName,
	}
	for _, m := range s.Matchers {
		if !subject.Has(m.Field) {
			return false
		}
	}
	return set.Holds(&subject)
}

// Name is what people call a maintenance window.
func Name(w *model.MaintenanceWindow) string {
	if w.Description != "" {
		return "the maintenance window " + strconv.Quote(w.Description)
	}
	return "the maintenance window of " + w.Start.UTC().Format("2006-01-02 15:04 UTC")
}

func nameOfSilence(s *model.Silence) string {
	name := "the silence"
	if s.By != "" {
		name += " by " + s.By
	}
	if s.Comment != "" {
		name += " (" + s.Comment + ")"
	}
	return name
}

// Occurrence is the occurrence of a maintenance window that is on at now, else the next one; ok is false when none will be.
// Start and end are wall clock times of the window's zone: on the day the clocks change an occurrence is longer or shorter.
// Its first occurrence happens whatever the weekday.
func Occurrence(w *model.MaintenanceWindow, now time.Time) (start, end time.Time, ok bool) {
	if w.Repeat == nil || len(w.Repeat.Weekdays) == 0 {
		return w.Start, w.End, w.End.After(now) && w.End.After(w.Start)
	}
	zone := time.UTC
	if l, err := time.LoadLocation(w.Repeat.TimeZone); err == nil && w.Repeat.TimeZone != "" {
		zone = l
	}
	first, firstEnd := w.Start.In(zone), w.End.In(zone)
	days := dayNumber(firstEnd) - dayNumber(first) // from the day it begins to the day it ends
	if days < 0 || days > 366 {
		return time.Time{}, time.Time{}, false
	}
	from := max(dayNumber(first), dayNumber(now.In(zone))-days-1)
	// Within a week every weekday comes once.
	for day := from; day <= from+days+9; day++ {
		date := time.Unix(int64(day)*86400, 0).UTC()
		if day != dayNumber(first) && !slices.Contains(w.Repeat.Weekdays, int(date.Weekday())) {
			continue
		}
		start, end = on(day, first, false), on(day+days, firstEnd, true)
		if !w.Repeat.Until.IsZero() && start.After(w.Repeat.Until) {
			return time.Time{}, time.Time{}, false
		}
		if end.After(start) && end.After(now) {
			return start.UTC(), end.UTC(), true
		}
	}
	return time.Time{}, time.Time{}, false
}

// dayNumber counts days of a time's own calendar.
func dayNumber(t time.Time) int {
	y, m, d := t.Date()
	return int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// on is the time of day of clock on another day of its zone. When the clocks go back a time of day comes twice: a window
// begins with the first and ends with the second.
func on(day int, clock time.Time, last bool) time.Time {
	y, m, d := time.Unix(int64(day)*86400, 0).UTC().Date()
	t := time.Date(y, m, d, clock.Hour(), clock.Minute(), clock.Second(), clock.Nanosecond(), clock.Location())
	_, offset := t.Zone()
	for _, near := range []time.Time{t.Add(-24 * time.Hour), t.Add(24 * time.Hour)} {
		_, other := near.Zone()
		twin := t.Add(time.Duration(offset-other) * time.Second)
		if twin.Hour() == t.Hour() && twin.Minute() == t.Minute() && twin.Day() == t.Day() && twin.After(t) == last {
			t, offset = twin, other
		}
	}
	return t
}
