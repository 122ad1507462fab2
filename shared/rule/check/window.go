package check

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Bounds of maintenance windows and silences.
const (
	MaxText       = 1000                 // characters of a description or a comment
	maxWindow     = 366 * 24 * time.Hour // length of a window
	maxOccurrence = 24 * time.Hour       // of one that comes again
)

// Window lists everything that is wrong with a maintenance window; paths are those of the Public API, below the window.
func Window(w *model.MaintenanceWindow) (faults []Fault) {
	fault := func(path, code, format string, args ...any) {
		faults = append(faults, Fault{Path: path, Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if w.Start.IsZero() {
		fault("startDate", "MISSING_MAINTENANCE_WINDOW_START_DATE", "The maintenance window needs a startDate.")
	}
	switch {
	case w.End.IsZero():
		fault("endDate", "MISSING_MAINTENANCE_WINDOW_END_DATE", "The maintenance window needs an endDate.")
	case w.Start.IsZero():
	case !w.Start.Before(w.End):
		fault("endDate", "MAINTENANCE_WINDOW_START_DATE_AFTER_END_DATE", "The startDate must be before the endDate.")
	case w.End.Sub(w.Start) > maxWindow:
		fault("endDate", "INVALID_ATTRIBUTE", "A maintenance window is at most a year long.")
	case w.Repeat != nil && w.End.Sub(w.Start) > maxOccurrence:
		fault("endDate", "INVALID_ATTRIBUTE", "A window that comes again is at most a day long.")
	}
	if utf8.RuneCountInString(w.Description) > MaxText {
		fault("description", "INVALID_ATTRIBUTE", "A description has at most %d characters.", MaxText)
	}
	if len(w.Types) == 0 {
		fault("alertTypeNames", "MISSING_MAINTENANCE_WINDOW_ALERT_TYPE_NAME", "Choose at least one kind of alerts: %s.", strings.Join(WindowKinds(), ", "))
	}
	for i, t := range w.Types {
		if !slices.Contains(WindowKinds(), t) {
			fault(fmt.Sprintf("alertTypeNames[%d]", i), "INVALID_ENUM_VALUE", "%q: it may hold %s.", t, strings.Join(WindowKinds(), ", "))
		}
	}
	if r := w.Repeat; r != nil {
		if len(r.Weekdays) == 0 {
			fault("recurrence.weekdays", "MISSING_ATTRIBUTE", "Choose the days on which it comes again.")
		}
		if _, err := time.LoadLocation(r.TimeZone); err != nil || r.TimeZone == "Local" {
			fault("recurrence.timeZone", "INVALID_ATTRIBUTE", "%q is no time zone: a name such as Europe/Berlin is needed.", r.TimeZone)
		}
		if !r.Until.IsZero() && r.Until.Before(w.Start) {
			fault("recurrence.until", "INVALID_ATTRIBUTE", "It ends before it begins.")
		}
	}
	return faults
}

// WindowKinds lists the kinds of alerts that windows may be about.
func WindowKinds() []string { return []string{"HOST", "REPLICA_SET", "CLUSTER", "AGENT", "BACKUP"} }

// Weekdays lists the names of days, Sunday first, as model.Recurrence counts them.
func Weekdays() []string {
	return []string{"SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"}
}
