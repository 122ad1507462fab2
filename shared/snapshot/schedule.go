// Package snapshot decides when snapshots are taken, how long each is kept, which oplog must stay with them and to which
// points a restore can go. Its functions take state and a time and return the decision; nothing here deletes or starts anything.
package snapshot

import (
	"errors"
	"fmt"
	"time"
)

// Policy is a job's schedule, with the fields of the Public API's snapshotSchedule.
type Policy struct {
	IntervalHours   int `bson:"snapshotIntervalHours"`
	RetentionDays   int `bson:"snapshotRetentionDays"`
	DailyDays       int `bson:"dailySnapshotRetentionDays"` // 0: no daily ones; so with weeks and months
	WeeklyWeeks     int `bson:"weeklySnapshotRetentionWeeks"`
	MonthlyMonths   int `bson:"monthlySnapshotRetentionMonths"`
	PointInTimeHour int `bson:"pointInTimeWindowHours"`
	ReferenceHour   int `bson:"referenceHourOfDay"`
	ReferenceMinute int `bson:"referenceMinuteOfHour"`
	ReferenceZone   int `bson:"referenceTimeZoneOffsetMinutes"` // east of Greenwich
}

// Default is the schedule of a new job. Settings brs.snapshotSchedule.* and brs.pitWindowInHours replace its numbers.
func Default() Policy {
	return Policy{IntervalHours: 24, RetentionDays: 2, WeeklyWeeks: 2, MonthlyMonths: 1, PointInTimeHour: 24}
}

// Classic is the schedule of MMS On Prem and early Ops Manager.
func Classic() Policy {
	return Policy{IntervalHours: 6, RetentionDays: 2, DailyDays: 7, WeeklyWeeks: 4, MonthlyMonths: 12, PointInTimeHour: 24}
}

// Validate reports all faults of a policy together, each naming the field of the Public API.
func (p Policy) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	longest := 5
	if p.IntervalHours == 24 {
		longest = 30
	}
	fault(p.IntervalHours != 6 && p.IntervalHours != 8 && p.IntervalHours != 12 && p.IntervalHours != 24, "snapshotIntervalHours: %d is none of 6, 8, 12 and 24", p.IntervalHours)
	fault(p.RetentionDays < 2 || p.RetentionDays > longest, "snapshotRetentionDays: %d is not between 2 and %d (with an interval of %d hours)", p.RetentionDays, longest, p.IntervalHours)
	fault(p.DailyDays < 0 || p.DailyDays > 365, "dailySnapshotRetentionDays: %d is not between 0 and 365", p.DailyDays)
	fault(p.WeeklyWeeks < 0 || p.WeeklyWeeks > 52, "weeklySnapshotRetentionWeeks: %d is not between 0 and 52", p.WeeklyWeeks)
	fault(p.MonthlyMonths < 0 || p.MonthlyMonths > 84, "monthlySnapshotRetentionMonths: %d is not between 0 and 84", p.MonthlyMonths)
	fault(p.PointInTimeHour < 0 || p.PointInTimeHour > maxOplogDays*24, "pointInTimeWindowHours: %d is not between 0 and %d", p.PointInTimeHour, maxOplogDays*24)
	fault(p.PointInTimeHour > p.RetentionDays*24, "pointInTimeWindowHours: %d is longer than snapshots are kept (%d days)", p.PointInTimeHour, p.RetentionDays)
	fault(p.ReferenceHour < 0 || p.ReferenceHour > 23, "referenceHourOfDay: %d is not between 0 and 23", p.ReferenceHour)
	fault(p.ReferenceMinute < 0 || p.ReferenceMinute > 59, "referenceMinuteOfHour: %d is not between 0 and 59", p.ReferenceMinute)
	fault(p.ReferenceZone < -14*60 || p.ReferenceZone > 14*60, "referenceTimeZoneOffset: %d minutes is no time zone", p.ReferenceZone)
	return errors.Join(errs...)
}

func (p Policy) zone() *time.Location { return time.FixedZone("", p.ReferenceZone*60) }

func (p Policy) interval() time.Duration { return time.Duration(p.IntervalHours) * time.Hour }

// reference is the reference time on the day of t, in the policy's zone. Offsets are fixed: no day has 23 or 25 hours.
func (p Policy) reference(t time.Time) time.Time {
	t = t.In(p.zone())
	return time.Date(t.Year(), t.Month(), t.Day(), p.ReferenceHour, p.ReferenceMinute, 0, 0, t.Location())
}

// Next is the first scheduled instant after t.
func (p Policy) Next(t time.Time) time.Time {
	n := p.reference(t).Add(-24 * time.Hour)
	for !n.After(t) {
		n = n.Add(p.interval())
	}
	return n.UTC()
}

// Reschedule is the next scheduled instant after a change of the policy at now, where planned was the next one before it.
// A new reference later than planned counts as it is; an earlier one counts in intervals, so that no snapshot comes
// sooner than was planned.
func Reschedule(p Policy, planned, now time.Time) time.Time {
	n := p.reference(now)
	if planned.Before(now) {
		planned = now
	}
	for !n.After(planned) {
		n = n.Add(p.interval())
	}
	return n.UTC()
}

// Due says whether a snapshot is to be taken now, and what is planned then. What counts is the time of the oplog applied
// to the head: one that lags still yields a snapshot of the right time, and a job without news yields none. Missed
// instants are not made up: one snapshot, then the next in the future of the oplog.
func Due(p Policy, planned, applied time.Time) (due bool, next time.Time) {
	if planned.IsZero() {
		return true, p.Next(applied) // the first one is taken as soon as the head is consistent
	}
	if applied.Before(planned) {
		return false, planned
	}
	return true, p.Next(applied)
}

// Late reports whether the last snapshot is older than one and a half intervals.
func Late(p Policy, last, now time.Time) bool {
	return !last.IsZero() && now.Sub(last) > p.interval()*3/2
}
