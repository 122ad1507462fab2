package file

import (
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/check"
)

// Over reports whether a window will never be on again.
func Over(w *model.MaintenanceWindow, now time.Time) bool {
	if w.Repeat != nil {
		return !w.Repeat.Until.IsZero() && !w.Repeat.Until.After(now)
	}
	return !w.End.After(now)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// layouts are how dates may be written; without a zone they are UTC.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

func parseDate(s string) (time.Time, bool) {
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil && t.Year() >= 1970 && t.Year() < 2500 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// Body is the window as the Public API takes it.
func (w *Window) Body() map[string]any {
	b := map[string]any{"startDate": stamp(w.Start), "endDate": stamp(w.End), "alertTypeNames": append([]string{}, w.Types...), "description": w.Description}
	if w.Repeat != nil {
		r := map[string]any{"weekdays": days(w.Repeat.Weekdays), "timeZone": zone(w.Repeat.TimeZone)}
		if !w.Repeat.Until.IsZero() {
			r["until"] = stamp(w.Repeat.Until)
		}
		b["recurrence"] = r
	}
	return b
}

func zone(name string) string {
	if name == "" {
		return "UTC"
	}
	return name
}

func days(numbers []int) []string {
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	out := []string{}
	for _, n := range slices.Compact(numbers) {
		if n >= 0 && n < len(check.Weekdays()) {
			out = append(out, check.Weekdays()[n])
		}
	}
	return out
}
