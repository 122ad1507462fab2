package snapshot

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Segment is an unbroken stretch of stored oplog of one epoch: every position after After up to Last.
type Segment struct {
	Epoch int64
	After bson.Timestamp // zero: it holds the oplog from the beginning of the epoch, whose snapshot needs no more
	Last  bson.Timestamp
	// Why says why it ends, where something did end it: "the oplog rolled over".
	Why string
}

// Break is a point behind which the oplog of an epoch cannot be replayed: a change of the feature compatibility version, a resharding.
type Break struct {
	Epoch int64
	At    bson.Timestamp // the last position that can still be restored
	Why   string
}

// Range is an unbroken range of points that can be restored, all from snapshots of one epoch.
type Range struct {
	Epoch     int64
	Snapshots []Snapshot     // its bases, oldest first
	From      bson.Timestamp // the first snapshot itself
	To        bson.Timestamp // the last position
	Why       string         // why it ends, "" for one that goes on
}

// Hole is what lies between two ranges.
type Hole struct {
	From, To bson.Timestamp // exclusive: the last point before it, the first after it
	Why      string
}

// Ranges works out what can be restored, in order of time, and the holes between. Every point of a range is reached from a
// complete snapshot and oplog without a gap; ranges of different epochs are never joined.
func Ranges(have []Snapshot, segments []Segment, breaks []Break) ([]Range, []Hole) {
	have = slices.DeleteFunc(slices.Clone(have), func(s Snapshot) bool { return !s.good() })
	slices.SortStableFunc(have, func(a, b Snapshot) int {
		if a.Epoch != b.Epoch {
			return int(a.Epoch - b.Epoch)
		}
		return a.Applied.Compare(b.Applied)
	})
	var out []Range
	for _, s := range have {
		to, why := reach(s, segments, breaks)
		if n := len(out); n > 0 && out[n-1].Epoch == s.Epoch && !out[n-1].To.Before(s.Applied) {
			out[n-1].Snapshots = append(out[n-1].Snapshots, s)
			if out[n-1].To.Before(to) {
				out[n-1].To, out[n-1].Why = to, why
			}
			continue
		}
		out = append(out, Range{Epoch: s.Epoch, Snapshots: []Snapshot{s}, From: s.Applied, To: to, Why: why})
	}
	slices.SortStableFunc(out, func(a, b Range) int { return a.From.Compare(b.From) })
	var holes []Hole
	for i := 1; i < len(out); i++ {
		if !out[i-1].To.Before(out[i].From) {
			continue
		}
		why := out[i-1].Why
		if why == "" && out[i-1].Epoch != out[i].Epoch {
			why = "the history of the source was broken and begins anew"
		}
		if why == "" {
			why = "the oplog between is no longer kept"
		}
		holes = append(holes, Hole{From: out[i-1].To, To: out[i].From, Why: why})
	}
	return out, holes
}

// reach is how far the oplog leads from a snapshot.
func reach(s Snapshot, segments []Segment, breaks []Break) (to bson.Timestamp, why string) {
	to = s.Applied
	for _, g := range segments {
		// The oplog must hold what open transactions need, and reach to the snapshot: what begins after it leaves a gap.
		if g.Epoch != s.Epoch || !covers(g, s) || g.Last.Before(to) {
			continue
		}
		to, why = g.Last, g.Why
	}
	for _, b := range breaks {
		if b.Epoch == s.Epoch && !b.At.Before(s.Applied) && b.At.Before(to) {
			to, why = b.At, b.Why
		}
	}
	return to, why
}

// covers: nothing that a replay from the snapshot needs lies before the segment. Where no transaction was open, that is
// what follows Applied; else it begins with the first entry of the oldest one.
func covers(g Segment, s Snapshot) bool {
	if from := s.replayFrom(); from.Before(s.Applied) {
		return g.After.Before(from)
	}
	return !g.After.After(s.Applied)
}

// ErrNotRestorable is in the chain of errors about points that no restore reaches.
var ErrNotRestorable = errors.New("not restorable")

// Window is the seconds of a range that a person may ask for: from the second after its first snapshot (that second is the
// snapshot itself) to the last one that is known to be whole, because a later entry was seen. ok is false where no
// second is left; the snapshots can be restored all the same.
func (r Range) Window() (first, last time.Time, ok bool) {
	f, l := int64(r.From.T)+1, int64(r.To.T)-1
	return time.Unix(f, 0).UTC(), time.Unix(l, 0).UTC(), f <= l
}

// Second finds the range and the base for a restore to the end of a second: everything with a timestamp in it is part of the outcome.
func Second(ranges []Range, holes []Hole, at time.Time) (Range, Snapshot, bson.Timestamp, error) {
	target := bson.Timestamp{T: seconds(at), I: math.MaxUint32}
	for _, r := range slices.Backward(ranges) {
		if first, last, ok := r.Window(); ok && !at.Truncate(time.Second).Before(first) && !at.Truncate(time.Second).After(last) {
			return r, r.base(target), target, nil
		}
	}
	return Range{}, Snapshot{}, target, refuse(ranges, holes, target, at.UTC().Format(time.RFC3339))
}

// Point finds the range and the base for a restore to an exact position, inclusive.
func Point(ranges []Range, holes []Hole, target bson.Timestamp) (Range, Snapshot, error) {
	for _, r := range slices.Backward(ranges) {
		if !target.Before(r.From) && !target.After(r.To) {
			return r, r.base(target), nil
		}
	}
	return Range{}, Snapshot{}, refuse(ranges, holes, target, fmt.Sprintf("%d.%d", target.T, target.I))
}

// base is the newest snapshot at or before a target within the range.
func (r Range) base(target bson.Timestamp) Snapshot {
	best := r.Snapshots[0]
	for _, s := range r.Snapshots {
		if !s.Applied.After(target) {
			best = s
		}
	}
	return best
}

func refuse(ranges []Range, holes []Hole, target bson.Timestamp, text string) error {
	when := func(t bson.Timestamp) string { return time.Unix(int64(t.T), 0).UTC().Format(time.RFC3339) }
	if len(ranges) == 0 {
		return fmt.Errorf("%s is %w: there is no complete snapshot", text, ErrNotRestorable)
	}
	for _, h := range holes {
		if h.From.Before(target) && target.Before(h.To) {
			return fmt.Errorf("%s is %w: it lies between %s and %s, where %s", text, ErrNotRestorable, when(h.From), when(h.To), h.Why)
		}
	}
	first, last := ranges[0], ranges[0]
	for _, r := range ranges {
		if last.To.Before(r.To) {
			last = r
		}
	}
	if target.Before(first.From) {
		return fmt.Errorf("%s is %w: the first snapshot is of %s", text, ErrNotRestorable, when(first.From))
	}
	if target.T >= last.To.T {
		return fmt.Errorf("%s is %w: the newest stored oplog is of %s, and its last second may not be whole", text, ErrNotRestorable, when(last.To))
	}
	return fmt.Errorf("%s is %w: it falls on the second of a snapshot: restore the snapshot, or a second later", text, ErrNotRestorable)
}
