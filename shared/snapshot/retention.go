package snapshot

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxOplogDays is how long oplog is kept at most for a head that lags.
const maxOplogDays = 14

// Kind is what a snapshot is kept as.
type Kind string

// The kinds. A snapshot may be several; the longest time wins.
const (
	Base    Kind = "base"
	Daily   Kind = "daily"
	Weekly  Kind = "weekly"
	Monthly Kind = "monthly"
	Manual  Kind = "on demand"
)

// Snapshot is what decisions need of one.
type Snapshot struct {
	ID          string
	Epoch       int64
	At          time.Time // of the oplog it holds, which is what schedule and retention count by
	Kinds       []Kind
	Expires     time.Time // zero: not set yet
	DoNotDelete bool
	Complete    bool
	Damaged     bool      // a re-read found that its content is not what was stored: nothing relies on it
	Created     time.Time // when it was begun
	// Applied is the last position it holds; ReplayFrom the position from which the oplog must be read to go on from it: the
	// oldest transaction that was open then, or Applied.
	Applied    bson.Timestamp
	ReplayFrom bson.Timestamp
}

// good reports whether a restore can rely on it.
func (s Snapshot) good() bool { return s.Complete && !s.Damaged }

func (s Snapshot) is(k Kind) bool { return slices.Contains(s.Kinds, k) }

// Promote says what a new scheduled snapshot of the time at is kept as, and until when: the first one of a day, week or
// month is also the daily, weekly or monthly one. have are the complete snapshots of the job; those of before a change
// of the policy keep what they were.
func Promote(p Policy, have []Snapshot, at time.Time) (kinds []Kind, expires time.Time) {
	local := at.In(p.zone())
	first := func(k Kind, same func(a, b time.Time) bool) bool {
		return !slices.ContainsFunc(have, func(s Snapshot) bool {
			return s.Complete && s.is(k) && same(s.At.In(p.zone()), local)
		})
	}
	add := func(k Kind, until time.Time) {
		kinds = append(kinds, k)
		if until.After(expires) {
			expires = until
		}
	}
	add(Base, at.AddDate(0, 0, p.RetentionDays))
	if p.DailyDays > 0 && first(Daily, sameDay) {
		add(Daily, at.AddDate(0, 0, p.DailyDays))
	}
	if p.WeeklyWeeks > 0 && first(Weekly, sameWeek) {
		add(Weekly, at.AddDate(0, 0, 7*p.WeeklyWeeks))
	}
	if p.MonthlyMonths > 0 && first(Monthly, sameMonth) {
		add(Monthly, addMonths(at, p.MonthlyMonths))
	}
	return kinds, expires.UTC()
}

func sameDay(a, b time.Time) bool {
	return a.Year() == b.Year() && a.YearDay() == b.YearDay()
}

func sameWeek(a, b time.Time) bool {
	ay, aw := a.ISOWeek()
	by, bw := b.ISOWeek()
	return ay == by && aw == bw
}

func sameMonth(a, b time.Time) bool { return a.Year() == b.Year() && a.Month() == b.Month() }

// addMonths stays within the month it arrives in: a month after 31 January is the last of February.
func addMonths(t time.Time, n int) time.Time {
	to := t.AddDate(0, n, 0)
	for want := (int(t.Month())-1+n)%12 + 1; int(to.Month()) != want; {
		to = to.AddDate(0, 0, -1)
	}
	return to
}

// abandonedAfter is when an incomplete snapshot is taken for the remains of a crash.
const abandonedAfter = 24 * time.Hour

// Expired lists the snapshots that may be deleted, oldest first. Those marked stay, and so does the newest complete one
// of an active job, whatever its time, until a newer one is complete: there is always something to restore. running is
// the ID of the snapshot that is being taken, "" for none.
func Expired(have []Snapshot, now time.Time, active bool, running string) []Snapshot {
	newest := -1
	for i, s := range have {
		if s.good() && (newest < 0 || have[newest].Applied.Before(s.Applied) || have[newest].Applied.Equal(s.Applied) && have[newest].Created.Before(s.Created)) {
			newest = i
		}
	}
	var out []Snapshot
	for i, s := range have {
		switch {
		case s.DoNotDelete || s.ID == running:
		case !s.Complete:
			if now.Sub(s.Created) > abandonedAfter {
				out = append(out, s)
			}
		case active && i == newest:
		case !s.Expires.IsZero() && !now.Before(s.Expires):
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return a.At.Compare(b.At) })
	return out
}

// extension is by how much the time for which oplog is kept grows when a head lags.
const extension = 3 * time.Hour

// Oplog says from which position on oplog must be kept, and whether the window had to grow because the head lags
// (OPLOG_TTL_RESIZE). applied is the time of the oplog applied to the head, openFrom the oldest open transaction's first
// entry (zero: none). What a snapshot of the window needs stays with it.
func Oplog(p Policy, have []Snapshot, applied time.Time, openFrom bson.Timestamp, now time.Time) (from bson.Timestamp, window time.Duration) {
	window = time.Duration(p.PointInTimeHour) * time.Hour
	for !applied.IsZero() && applied.Before(now.Add(-window).Add(time.Hour)) && window < maxOplogDays*24*time.Hour {
		window += extension
	}
	window = min(window, max(maxOplogDays*24*time.Hour, time.Duration(p.PointInTimeHour)*time.Hour))
	start := now.Add(-window)
	from = bson.Timestamp{T: seconds(start)}
	// The window begins in the reach of the newest snapshot before it: its oplog bridges the way there.
	base := -1
	for i, s := range have {
		if s.Complete && !s.Applied.After(from) && (base < 0 || have[base].Applied.Before(s.Applied)) {
			base = i
		}
	}
	lower := func(t bson.Timestamp) {
		if !t.IsZero() && t.Before(from) {
			from = t
		}
	}
	if base >= 0 {
		lower(have[base].replayFrom())
	}
	for _, s := range have {
		if s.Complete && s.Applied.After(bson.Timestamp{T: seconds(start)}) {
			lower(s.replayFrom()) // open transactions may reach back before the window
		}
	}
	lower(openFrom)
	return from, window
}

func (s Snapshot) replayFrom() bson.Timestamp {
	if s.ReplayFrom.IsZero() || s.Applied.Before(s.ReplayFrom) {
		return s.Applied
	}
	return s.ReplayFrom
}

func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), 1<<32-1))
}
