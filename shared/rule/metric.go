package rule

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
)

// missingAfter is how long a measurement that used to arrive stays away before that is an alert of its own.
const missingAfter = 10 * time.Minute

// whyNothing is why a measurement cannot be judged while its host answers.
const whyNothing = "nothing arrives of this measurement"

// outside judges the mean of the newest points. Of disks and databases the part that is farthest beyond the threshold
// decides.
func (j *judge) outside(v *Verdict, i int) {
	h, s := &j.s.Hosts[i], j.s
	st, ok := j.answers(v, h)
	if !ok {
		return
	}
	if s.Points == nil {
		unknown(v, "there are no points")
		return
	}
	name, part := j.metric.Base, ""
	now := s.Now.Add(j.clocks[st.AgentID]) // samples have the agent's time
	worst := j.mean(s.Points(h.ID, name), now)
	if j.metric.Scope != catalog.Process && s.Parts != nil {
		for _, p := range s.Parts(h.ID, name) {
			m := j.mean(s.Points(h.ID, name+"/"+p), now)
			if m.n > 0 && (worst.n == 0 || j.worse(m.value(), worst.value())) {
				worst, part = m, p
			}
		}
	}
	if worst.n == 0 {
		j.missing(v, i, name, st)
		return
	}
	x := worst.value() * j.factor
	v.State = Good
	bad := j.beyond(x)
	if bad || j.detail {
		v.Value, v.Samples = &model.Reading{Number: x, Units: j.units()}, j.samples(worst.points)
	}
	if !bad {
		return
	}
	v.State, v.Since = Bad, j.crossed(worst.points).Add(-j.clocks[st.AgentID])
	word := ", above "
	if j.threshold.Operator == model.LessThan {
		word = ", below "
	}
	what := j.name() + " of " + s.address(i)
	if part != "" {
		what += " (" + part + ")"
	}
	v.Text = what + " is " + number(x) + j.unitWord() + word + number(j.threshold.Value) + j.unitWord() + meanOf(worst.n)
}

func (j *judge) worse(a, b float64) bool {
	if j.threshold.Operator == model.LessThan {
		return a < b
	}
	return a > b
}

// missing judges a measurement of which nothing arrives although its host answers.
func (j *judge) missing(v *Verdict, i int, name string, st model.HostStatus) {
	h, s := &j.s.Hosts[i], j.s
	unknown(v, whyNothing)
	if st.Reach != model.ReachUp {
		v.Why = "the agent may not or cannot read the host's figures"
		return
	}
	v.NoData = true
	if s.LastPoint == nil || j.stale {
		return
	}
	last := s.LastPoint(h.ID, name)
	if j.metric.Scope != catalog.Process && s.Parts != nil {
		for _, p := range s.Parts(h.ID, name) {
			if at := s.LastPoint(h.ID, name+"/"+p); at.After(last) {
				last = at
			}
		}
	}
	if last.IsZero() {
		return
	}
	silent := s.since(last.Add(-j.clocks[st.AgentID]))
	if s.Now.Sub(silent) < missingAfter+j.metric.Carry {
		return
	}
	v.State, v.Since, v.Why = Bad, silent, ""
	v.Text = j.name() + " of " + s.address(i) + " stopped arriving at " + when(last) + " though the host answers: nobody can tell whether it is within its threshold."
}

// mean is the average of some points.
type mean struct {
	points []model.Sample
	sum    float64
	n      int
}

// mean takes the newest of points, which are in order. Of a measurement that stands for a while after each point it is the
// last one; what is older or comes from the future never counts.
func (j *judge) mean(points []model.Sample, now time.Time) (m mean) {
	window := j.s.patience()
	if j.metric.Carry > window {
		window = j.metric.Carry
	}
	end := len(points)
	if end > 0 && points[end-1].At.After(now.Add(clockNoise)) {
		end, _ = slices.BinarySearchFunc(points, now.Add(clockNoise), func(p model.Sample, t time.Time) int { return p.At.Compare(t) })
	}
	first := end
	for first > 0 && points[first-1].At.After(now.Add(-window)) && (j.metric.Carry == 0 || first == end) {
		first--
	}
	m.points = points[first:end]
	for _, p := range m.points {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			m.sum += p.Value
			m.n++
		}
	}
	return m
}

func (m *mean) value() float64 { return m.sum / float64(m.n) }

// crossed is when the points last went beyond the threshold and stayed there.
func (j *judge) crossed(points []model.Sample) time.Time {
	since := j.s.Now
	for i := len(points) - 1; i >= 0 && j.beyond(points[i].Value*j.factor); i-- {
		since = points[i].At
	}
	return since
}

// samples are points in the threshold's units.
func (j *judge) samples(points []model.Sample) []model.Sample {
	out := make([]model.Sample, len(points))
	for i, p := range points {
		out[i] = model.Sample{At: p.At, Value: p.Value * j.factor}
	}
	return out
}

// name is the measurement as the configuration calls it.
func (j *judge) name() string { return j.c.Metric.Metric }

func (j *judge) units() string {
	if j.threshold.Units == "" {
		return "RAW"
	}
	return j.threshold.Units
}

// unitWord is the unit in a text. Of plain numbers the catalogue's unit says what they are, if anything.
func (j *judge) unitWord() string {
	u := j.units()
	if u == "RAW" {
		switch j.metric.Unit {
		case catalog.Percent:
			return " %"
		case catalog.Scalar:
			return ""
		case catalog.ScalarPerSecond:
			return "/s"
		}
		u = string(j.metric.Unit)
	}
	short := map[string]string{
		"MILLISECONDS": " ms", "SECONDS": " s", "MINUTES": " min", "HOURS": " h", "DAYS": " days",
		"BITS": " bits", "KILOBITS": " kbit", "MEGABITS": " Mbit", "GIGABITS": " Gbit", "BYTES": " bytes", "KILOBYTES": " kB", "MEGABYTES": " MB",
		"GIGABYTES": " GB", "TERABYTES": " TB", "PETABYTES": " PB", "BYTES_PER_SECOND": " bytes", "MEGABYTES_PER_SECOND": " MB", "GIGABYTES_PER_HOUR": " GB",
	}[u]
	switch j.metric.Unit {
	case catalog.BytesPerSecond, catalog.MBPerSecond:
		short += "/s"
	case catalog.GBPerHour:
		short += "/h"
	}
	return short
}

// number is a number for people.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1000 || a == math.Trunc(a):
		return strconv.FormatFloat(math.Round(x), 'f', -1, 64)
	case a >= 1:
		return strconv.FormatFloat(math.Round(x*100)/100, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

func meanOf(n int) string {
	if n == 1 {
		return " (the newest point)."
	}
	return " (mean of the last " + strconv.Itoa(n) + " points)."
}

func plural(n int, word string) string {
	if n == 1 {
		return "one " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
