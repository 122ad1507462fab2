package snapshot

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func ts(t time.Time) bson.Timestamp { return bson.Timestamp{T: seconds(t), I: 1} }

func TestAYearOfSnapshotsKeepsWhatThePolicySays(t *testing.T) {
	p := Classic()
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	var have []Snapshot
	for now := start; now.Before(start.AddDate(1, 0, 0)); now = p.Next(now) {
		kinds, expires := Promote(p, have, now)
		have = append(have, Snapshot{ID: now.String(), Epoch: 1, At: now, Kinds: kinds, Expires: expires, Complete: true, Created: now, Applied: ts(now)})
		gone := Expired(have, now, true, "")
		have = slices.DeleteFunc(have, func(s Snapshot) bool {
			return slices.ContainsFunc(gone, func(g Snapshot) bool { return g.ID == s.ID })
		})
	}
	count := map[Kind]int{}
	now := have[len(have)-1].At
	for _, s := range have {
		for _, k := range s.Kinds {
			life := map[Kind]time.Time{Base: s.At.AddDate(0, 0, 2), Daily: s.At.AddDate(0, 0, 7), Weekly: s.At.AddDate(0, 0, 28), Monthly: s.At.AddDate(1, 0, 0)}[k]
			if life.After(now) {
				count[k]++
			}
		}
	}
	want := map[Kind]int{Base: 8, Daily: 7, Weekly: 4, Monthly: 12}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("after a year %v are in force, want %v", count, want)
	}
	if len(have) > 8+7+4+12 {
		t.Errorf("%d snapshots are kept", len(have))
	}
}

func TestPromotionCountsCalendarDaysOfThePolicysZone(t *testing.T) {
	p := Policy{IntervalHours: 6, RetentionDays: 2, DailyDays: 7, ReferenceZone: 120}
	evening := Snapshot{Complete: true, Kinds: []Kind{Base, Daily}, At: at(2, 21, 0)} // 23:00 there
	if k, _ := Promote(p, []Snapshot{evening}, at(2, 22, 0)); !slices.Contains(k, Daily) {
		t.Errorf("22:00 UTC is the next day there, kinds are %v", k)
	}
	evening.Complete = false
	if k, _ := Promote(p, []Snapshot{evening}, at(2, 21, 30)); !slices.Contains(k, Daily) {
		t.Errorf("an incomplete snapshot took the day, kinds are %v", k)
	}
	p = Policy{IntervalHours: 24, RetentionDays: 2, MonthlyMonths: 1}
	if _, until := Promote(p, nil, time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)); !until.Equal(time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("a month after 31 January is %s", until)
	}
}

func TestTheLastRestorableSnapshotIsNeverDeleted(t *testing.T) {
	now := at(20, 0, 0)
	old := Snapshot{ID: "old", Complete: true, At: at(1, 0, 0), Applied: ts(at(1, 0, 0)), Expires: at(3, 0, 0), Created: at(1, 0, 0)}
	older := Snapshot{ID: "older", Complete: true, At: at(1, 0, 0).AddDate(0, 0, -1), Applied: ts(at(1, 0, 0).AddDate(0, 0, -1)), Expires: at(2, 0, 0)}
	broken := Snapshot{ID: "broken", At: at(19, 0, 0), Applied: ts(at(19, 0, 0)), Created: at(19, 23, 0)}
	remains := Snapshot{ID: "remains", At: at(10, 0, 0), Created: at(10, 0, 0)}
	marked := Snapshot{ID: "marked", Complete: true, At: at(1, 0, 0).AddDate(0, 0, -2), Applied: ts(at(1, 0, 0).AddDate(0, 0, -2)), Expires: at(2, 0, 0), DoNotDelete: true}
	ids := func(list []Snapshot) string {
		var s []string
		for _, x := range list {
			s = append(s, x.ID)
		}
		return strings.Join(s, " ")
	}
	have := []Snapshot{old, older, broken, remains, marked}
	if got := ids(Expired(have, now, true, "")); got != "older remains" {
		t.Errorf("of an active job these may go: %s", got)
	}
	if got := ids(Expired(have, now, false, "")); got != "older old remains" {
		t.Errorf("of a stopped job these may go: %s", got)
	}
	if got := ids(Expired(have, now, true, "remains")); got != "older" {
		t.Errorf("the running one may go: %s", got)
	}
	newer := Snapshot{ID: "newer", Complete: true, At: at(20, 0, 0), Applied: ts(at(20, 0, 0)), Expires: at(22, 0, 0)}
	if got := ids(Expired(append(have, newer), now, true, "")); got != "older old remains" {
		t.Errorf("with a newer good one these may go: %s", got)
	}
}

func TestOplogIsKeptForTheWindowItsBaseAndALaggingHead(t *testing.T) {
	p := Default()
	now := at(20, 12, 0)
	day := now.Add(-24 * time.Hour)
	base := Snapshot{Complete: true, Applied: ts(at(19, 3, 0)), ReplayFrom: ts(at(19, 2, 0))}
	gone := Snapshot{Complete: true, Applied: ts(at(18, 3, 0))}
	if from, window := Oplog(p, nil, now, bson.Timestamp{}, now); from.T != seconds(day) || window != 24*time.Hour {
		t.Errorf("without snapshots it is kept from %v, %s", from, window)
	}
	if from, _ := Oplog(p, []Snapshot{gone, base}, now, bson.Timestamp{}, now); from != base.ReplayFrom {
		t.Errorf("it is kept from %v, want the base's %v", from, base.ReplayFrom)
	}
	late := Snapshot{Complete: true, Applied: ts(at(20, 3, 0)), ReplayFrom: ts(at(19, 1, 0))}
	if from, _ := Oplog(p, []Snapshot{base, late}, now, bson.Timestamp{}, now); from != late.ReplayFrom {
		t.Errorf("a transaction open for long is not kept: %v", from)
	}
	if from, _ := Oplog(p, nil, now, ts(at(17, 0, 0)), now); from != ts(at(17, 0, 0)) {
		t.Errorf("the open transaction is not kept: %v", from)
	}
	if _, window := Oplog(p, nil, now.Add(-23*time.Hour-time.Minute), bson.Timestamp{}, now); window != 27*time.Hour {
		t.Errorf("an hour before an entry the head needs would go, the window is %s", window)
	}
	if _, window := Oplog(p, nil, now.AddDate(0, 0, -30), bson.Timestamp{}, now); window != 14*24*time.Hour {
		t.Errorf("the window grows to %s", window)
	}
}

func stamp(t uint32) bson.Timestamp { return bson.Timestamp{T: t, I: 5} }

func snap(id string, epoch int64, t uint32) Snapshot {
	return Snapshot{ID: id, Epoch: epoch, Complete: true, Applied: stamp(t)}
}

func TestRangesSayWhatCanBeRestoredAndWhyNot(t *testing.T) {
	open := snap("open", 4, 1000)
	open.ReplayFrom = stamp(980)
	have := []Snapshot{
		snap("a", 1, 100), snap("b", 1, 200), // joined by oplog
		snap("c", 1, 500),                          // the oplog rolled over before it
		snap("d", 2, 700), snap("e", 2, 800), open, // a new epoch; FCV changed at 750; oplog that came too late for a transaction
		{ID: "x", Epoch: 1, Applied: stamp(300)}, // incomplete
	}
	segments := []Segment{
		{Epoch: 1, After: stamp(50), Last: stamp(300), Why: "the oplog rolled over"},
		{Epoch: 1, After: stamp(400), Last: stamp(600)},
		{Epoch: 2, After: stamp(700), Last: stamp(900)},
		{Epoch: 4, After: stamp(990), Last: stamp(1100)},
	}
	breaks := []Break{{Epoch: 2, At: stamp(750), Why: "the feature compatibility version changed"}}
	ranges, holes := Ranges(have, segments, breaks)
	var got []string
	for _, r := range ranges {
		got = append(got, fmt.Sprintf("%d: %d-%d (%d)", r.Epoch, r.From.T, r.To.T, len(r.Snapshots)))
	}
	if want := "1: 100-300 (2); 1: 500-600 (1); 2: 700-750 (1); 2: 800-900 (1); 4: 1000-1000 (1)"; strings.Join(got, "; ") != want {
		t.Errorf("ranges are %s\nwant %s", strings.Join(got, "; "), want)
	}
	got = nil
	for _, h := range holes {
		got = append(got, fmt.Sprintf("%d-%d %s", h.From.T, h.To.T, h.Why))
	}
	want := "300-500 the oplog rolled over; 600-700 the history of the source was broken and begins anew; " +
		"750-800 the feature compatibility version changed; 900-1000 the history of the source was broken and begins anew"
	if strings.Join(got, "; ") != want {
		t.Errorf("holes are %s\nwant %s", strings.Join(got, "; "), want)
	}

	for _, c := range []struct {
		name string
		at   int64
		base string // "" for a refusal
		why  string
	}{
		{"before everything", 99, "", "first snapshot"},
		{"the second of the first snapshot", 100, "", "falls on the second"},
		{"a second later", 101, "a", ""},
		{"after the second snapshot", 250, "b", ""},
		{"the last whole second", 299, "b", ""},
		{"the last second, which may go on", 300, "", ""},
		{"inside a hole", 400, "", "rolled over"},
		{"past the change of version", 760, "", "compatibility"},
		{"later than the newest oplog", 1200, "", "newest stored"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, base, target, err := Second(ranges, holes, time.Unix(c.at, 0))
			if c.base == "" {
				if !errors.Is(err, ErrNotRestorable) || !strings.Contains(err.Error(), c.why) {
					t.Errorf("want a refusal about %q, got %v (base %s)", c.why, err, base.ID)
				}
				return
			}
			if err != nil || base.ID != c.base || target.I != math.MaxUint32 {
				t.Errorf("base %s, target %v, %v; want %s", base.ID, target, err, c.base)
			}
		})
	}
	if _, base, err := Point(ranges, holes, stamp(200)); err != nil || base.ID != "b" {
		t.Errorf("the position of a snapshot: %s, %v", base.ID, err)
	}
	if _, _, err := Point(ranges, holes, bson.Timestamp{T: 300, I: 6}); !errors.Is(err, ErrNotRestorable) {
		t.Errorf("one entry past the end: %v", err)
	}
	if _, _, err := Point(nil, nil, stamp(1)); err == nil {
		t.Error("a restore from nothing")
	}
}

// TestNothingReliesOnADamagedSnapshot: the last good one stays although its time is over and a damaged one is newer, and moments
// are restored from it.
func TestNothingReliesOnADamagedSnapshot(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	shot := func(id string, hours int, damaged bool) Snapshot {
		when := at.Add(time.Duration(hours) * time.Hour)
		return Snapshot{ID: id, Epoch: 1, At: when, Created: when, Expires: when.Add(time.Hour), Complete: true, Damaged: damaged, Applied: bson.Timestamp{T: uint32(when.Unix()), I: 1}}
	}
	have := []Snapshot{shot("good", 0, false), shot("bad", 24, true)}
	got := Expired(have, at.Add(100*time.Hour), true, "")
	if len(got) != 1 || got[0].ID != "bad" {
		t.Errorf("expired: %+v", got)
	}
	end := bson.Timestamp{T: uint32(at.Add(30 * time.Hour).Unix()), I: 1}
	ranges, _ := Ranges(have, []Segment{{Epoch: 1, Last: end}}, nil)
	_, base, _, err := Second(ranges, nil, at.Add(26*time.Hour))
	if err != nil || base.ID != "good" {
		t.Errorf("base %q, %v", base.ID, err)
	}
}
