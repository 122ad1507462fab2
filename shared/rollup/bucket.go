package rollup

import (
	"math"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Bucket is the start of the bucket a time falls in. Days begin at midnight UTC.
func Bucket(at time.Time, step time.Duration) time.Time { return at.UTC().Truncate(step) }

// Agg is what a bucket keeps of the points in it: enough to be merged into coarser buckets without loss.
type Agg struct {
	Count               int64
	Sum, Min, Max, Last float64
	Num, Den            float64 // sums of what quotients were made of
}

// Add takes in one point, later than those before. Points that are not OK change nothing.
func (a *Agg) Add(p Point) {
	if !p.OK {
		return
	}
	if a.Count == 0 {
		a.Min, a.Max = p.Value, p.Value
	}
	a.Count++
	a.Sum += p.Value
	a.Min, a.Max, a.Last = min(a.Min, p.Value), max(a.Max, p.Value), p.Value
	a.Num += p.Num
	a.Den += p.Den
}

// Merge takes in the bucket that follows.
func (a *Agg) Merge(b Agg) {
	if b.Count == 0 {
		return
	}
	if a.Count == 0 {
		*a = b
		return
	}
	a.Count += b.Count
	a.Sum += b.Sum
	a.Min, a.Max, a.Last = min(a.Min, b.Min), max(a.Max, b.Max), b.Last
	a.Num += b.Num
	a.Den += b.Den
}

// Value is what a bucket shows for a measurement: the largest sample for a MAX_ twin, the last for a step line, the ratio of
// sums for a quotient, the number in the bucket for restarts, else the mean. NaN when nothing is in it.
func (a *Agg) Value(m *catalog.Measurement) float64 {
	switch {
	case a.Count == 0:
		return math.NaN()
	case m.Max:
		return a.Max
	case m.TrailingHour:
		return a.Sum
	case m.Carry > 0 && m.Kind == catalog.Gauge:
		return a.Last
	case m.Kind == catalog.Quotient && (a.Den > 0 || a.Num > 0):
		den := a.Den
		if m.Forms[0].AtLeastOne {
			den = max(1, den)
		}
		if den > 0 {
			return a.Num / den
		}
	}
	return a.Sum / float64(a.Count)
}

// Steady is how much later samples are taken to be so that each gets a bucket of its own. A host is sampled at its own moment
// of the period, give or take some milliseconds; where that moment is the border of two buckets, one bucket would get two
// samples and the next none, which looks like a gap.
func Steady(samples []Identity, step time.Duration) time.Duration {
	if Period(samples) != step {
		return 0
	}
	var before, behind int
	for i := range samples {
		switch phase := samples[i].At.Sub(samples[i].At.Truncate(step)); {
		case phase >= step*7/8:
			before++
		case phase < step/8:
			behind++
		}
	}
	if before == 0 || behind == 0 || before+behind <= len(samples)/2 {
		return 0
	}
	return step / 4
}
