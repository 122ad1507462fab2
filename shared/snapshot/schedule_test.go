package snapshot

import (
	"strings"
	"testing"
	"time"
)

func at(day, hour, minute int) time.Time {
	return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC)
}

func TestAChangeOfTheReferenceNeverBringsASnapshotForward(t *testing.T) {
	for _, c := range []struct {
		name                string
		changed, plan, want time.Time
		hour                int
	}{
		{"earlier today than planned: in intervals after it", at(2, 8, 0), at(2, 12, 0), at(2, 16, 0), 10},
		{"earlier, over midnight", at(2, 23, 0), at(3, 0, 0), at(3, 4, 0), 10},
		{"later than planned: as it is", at(2, 8, 0), at(2, 12, 0), at(2, 19, 0), 19},
		{"an hour before midnight", at(2, 20, 0), at(3, 0, 0), at(3, 1, 0), 19},
		{"the same as planned: an interval later", at(2, 8, 0), at(2, 12, 0), at(2, 18, 0), 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Classic()
			p.ReferenceHour = c.hour
			if got := Reschedule(p, c.plan, c.changed); !got.Equal(c.want) {
				t.Errorf("next is %s, want %s", got, c.want)
			}
		})
	}
}

func TestReferenceTimesCountInTheirZone(t *testing.T) {
	p := Policy{IntervalHours: 24, ReferenceHour: 1, ReferenceMinute: 30, ReferenceZone: 120} // 23:30 UTC
	if got, want := p.Next(at(2, 12, 0)), at(2, 23, 30); !got.Equal(want) {
		t.Errorf("next is %s, want %s", got, want)
	}
	if got, want := p.Next(at(2, 23, 30)), at(3, 23, 30); !got.Equal(want) {
		t.Errorf("at the instant itself the next is %s, want %s", got, want)
	}
}

func TestNextIsAlwaysAfterAndAtMostAnIntervalAway(t *testing.T) {
	for _, interval := range []int{6, 8, 12, 24} {
		for hour := range 24 {
			p := Policy{IntervalHours: interval, ReferenceHour: hour, ReferenceZone: -330}
			for m := 0; m < 48*60; m += 37 {
				now := at(5, 0, 0).Add(time.Duration(m) * time.Minute)
				n := p.Next(now)
				if !n.After(now) || n.Sub(now) > p.interval() || !p.Next(n).Equal(n.Add(p.interval())) {
					t.Fatalf("interval %d, reference %d: next of %s is %s", interval, hour, now, n)
				}
			}
		}
	}
}

func TestDueCountsByTheOplogAndMakesNothingUp(t *testing.T) {
	p := Classic() // 0, 6, 12, 18
	for _, c := range []struct {
		name             string
		planned, applied time.Time
		due              bool
		next             time.Time
	}{
		{"the head is not there yet", at(2, 6, 0), at(2, 5, 59), false, at(2, 6, 0)},
		{"the oplog passes the instant", at(2, 6, 0), at(2, 6, 0), true, at(2, 12, 0)},
		{"two were missed: one is taken", at(2, 6, 0), at(2, 19, 0), true, at(3, 0, 0)},
		{"the first of a job is taken at once", time.Time{}, at(2, 7, 0), true, at(2, 12, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			due, next := Due(p, c.planned, c.applied)
			if due != c.due || !next.Equal(c.next) {
				t.Errorf("due %v, next %s; want %v, %s", due, next, c.due, c.next)
			}
		})
	}
	if Late(p, at(2, 6, 0), at(2, 15, 0)) || !Late(p, at(2, 6, 0), at(2, 15, 1)) || Late(p, time.Time{}, at(2, 15, 0)) {
		t.Error("a snapshot is late after one and a half intervals, and none is not")
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	for _, p := range []Policy{Default(), Classic()} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	err := Policy{IntervalHours: 7, RetentionDays: 6, DailyDays: 366, WeeklyWeeks: 53, MonthlyMonths: 85, PointInTimeHour: -1, ReferenceHour: 24, ReferenceMinute: 60, ReferenceZone: 900}.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, field := range []string{"snapshotIntervalHours", "snapshotRetentionDays", "dailySnapshot", "weeklySnapshot", "monthlySnapshot", "pointInTimeWindow", "referenceHour", "referenceMinute", "referenceTimeZone"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not among the faults: %v", field, err)
		}
	}
	long := Default()
	long.RetentionDays = 30
	if err := long.Validate(); err != nil {
		t.Errorf("30 days with an interval of 24 hours: %v", err)
	}
	long.IntervalHours = 12
	if long.Validate() == nil {
		t.Error("30 days with an interval of 12 hours passed")
	}
}
