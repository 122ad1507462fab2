package job

import (
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Overrun is how far the source's oplog reaches back behind what is stored: for how long the backup may stand still before it
// must begin anew, at the present rate of writing. ok is false while it is not known.
func Overrun(t backup.Tail, e *backup.Epoch, now time.Time) (left time.Duration, ok bool) {
	if e == nil || t.Oldest.IsZero() || t.At.IsZero() {
		return 0, false
	}
	stored := Time(e.Head.Last.TS)
	if stored.IsZero() {
		stored = Time(e.Start.TS)
	}
	if stored.IsZero() {
		return 0, false
	}
	oldest := t.Oldest
	if silent := now.Sub(t.At); silent > 0 { // meanwhile it has gone on rolling
		oldest = oldest.Add(silent)
	}
	return stored.Sub(oldest), true
}

// Sample is how full a disk was.
type Sample struct {
	At   time.Time
	Used int64
}

// What a prediction needs, and how far it looks.
const (
	leastSpan    = 6 * time.Hour
	farthestFull = 180 * 24 * time.Hour
)

// Full predicts when a disk of size bytes will be full, by the straight line through the samples (least squares). Zero: it does
// not fill, not within half a year, or there are samples of less than six hours.
func Full(samples []Sample, total int64, now time.Time) time.Time {
	n := len(samples)
	if n < 2 || total <= 0 || samples[n-1].At.Sub(samples[0].At) < leastSpan {
		return time.Time{}
	}
	var st, su, stt, stu float64
	for _, s := range samples {
		t, u := s.At.Sub(samples[0].At).Seconds(), float64(s.Used)
		st, su, stt, stu = st+t, su+u, stt+t*t, stu+t*u
	}
	f := float64(n)
	den := f*stt - st*st
	if den <= 0 {
		return time.Time{}
	}
	perSecond := (f*stu - st*su) / den
	if perSecond <= 0 {
		return time.Time{}
	}
	left := (float64(total) - float64(samples[n-1].Used)) / perSecond
	if left > farthestFull.Seconds() {
		return time.Time{}
	}
	return now.Add(time.Duration(max(0, left) * float64(time.Second)))
}

// Warning is something that is not a fault yet.
type Warning struct {
	Code   string
	Text   string
	Remedy string
}

// Codes of warnings.
const (
	WarnWindow   = "OPLOG_WINDOW_SHORT"
	WarnLate     = "SNAPSHOT_LATE"
	WarnBehind   = "HEAD_BEHIND"
	WarnDiskFull = "HEAD_DISK_FILLS"
)

// Thresholds of backup.md 1.14 and of the prediction.
const (
	headBehind = time.Hour
	fullSoon   = 7 * 24 * time.Hour
)

// Warnings lists what will become a fault if nobody does anything: the source's oplog reaches back for less than window behind
// what is stored, a snapshot is late, the head is more than an hour behind what is stored, or its disk fills up within a week.
func Warnings(s State, window time.Duration) []Warning {
	var out []Warning
	warn := func(code, remedy, format string, args ...any) {
		out = append(out, Warning{Code: code, Text: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	if left, ok := Overrun(s.Job.Tail, s.Epoch, s.Now); ok && left < window {
		warn(WarnWindow, "make the oplog of the source larger (replSetResizeOplog), or find out why the backup lags",
			"the source's oplog reaches back %s behind what is stored; when that is used up the backup must begin anew", left.Round(time.Minute))
	}
	if last := newest(s.Snapshots); s.Head.Phase == Ready && snapshot.Late(s.Config.Schedule, last, s.Now) {
		warn(WarnLate, "see what the backup waits for", "the newest snapshot is of %s", last.UTC().Format(time.RFC3339))
	}
	if s.Epoch != nil && s.Head.Phase == Ready {
		if lag := Time(s.Epoch.Head.Last.TS).Sub(Time(s.Head.Applied.TS)); lag > headBehind {
			warn(WarnBehind, "the daemon's machine is too slow for this backup, or too many share it", "the head is %s behind the stored oplog", lag.Round(time.Minute))
		}
	}
	if full := s.Daemon.Full; !full.IsZero() && full.Sub(s.Now) < fullSoon {
		warn(WarnDiskFull, "make room on "+s.Daemon.HeadRoot+" of "+s.Daemon.Machine+", or enlarge the disk", "the disk of the heads will be full on %s", full.UTC().Format(time.DateOnly))
	}
	return out
}

func newest(have []backup.Snapshot) time.Time {
	var last time.Time
	for _, s := range have {
		if s.Complete && s.At.After(last) {
			last = s.At
		}
	}
	return last
}
