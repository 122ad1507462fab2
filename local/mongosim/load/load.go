// Package load is the load that a simulated deployment appears to be under. Everything in it is a pure function of time:
// a counter at any moment is an integral that has a closed form, so that a day of history can be asked for as cheaply, and
// comes out the same, as the present. It owns the shape of the load (daily and short cycles, noise, bursts, lag, elections)
// and the rates of each member role; it knows nothing of replies.
package load

import (
	"math"
	"time"
)

// Model is one process's load. The zero value is a silent process; New gives a busy one.
type Model struct {
	Seed  uint64  // equal seeds give equal numbers
	Scale float64 // 1 is a moderately busy member: some hundreds of operations a second
}

// New is a busy process whose noise depends on seed.
func New(seed uint64) Model { return Model{Seed: seed, Scale: 1} }

// Member is the model of one member of a deployment under m: the same cycles, other noise.
func (m Model) Member(i int) Model {
	m.Seed = mix(m.Seed + uint64(i+1)*0x9e3779b97f4a7c15)
	return m
}

// The cycles, as (period in seconds, share of the mean). Together with noise and bursts they keep the activity between
// about 0.25 and 6 times its mean, never at 0: counters then always advance.
const (
	day, dayShare               = 86400.0, 0.30
	mid, midShare               = 3600.0, 0.08
	short, shortShare           = 420.0, 0.07
	texturePeriod, textureShare = 5400.0, 0.24 // a counter's own, which others do not share
)

// burstSlot holds one burst each; every burst adds the same volume, narrow and high or wide and low, so that full slots
// need no summing.
const (
	burstSlot   = 1800.0
	burstVolume = 180.0
)

// noiseStep is the width of one step of the noise; the integral of the noise is bounded by noiseDepth*noiseStep, its rate
// by twice noiseDepth.
const (
	noiseStep  = 20.0
	noiseDepth = 0.11
)

// seconds is t in seconds, cut to milliseconds: finer differences would drown in the rounding of large floats.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// Activity is the load at t relative to its mean: 1 on average, always above 0.
func (m Model) Activity(t time.Time) float64 {
	const h = 0.5
	x := seconds(t)
	return (m.integral(x+h, 0) - m.integral(x-h, 0)) / (2 * h)
}

// Smooth is the load at t without noise and bursts, for gauges that follow the load slowly.
func (m Model) Smooth(t time.Time) float64 {
	x := seconds(t)
	return 1 + dayShare*math.Sin(2*math.Pi*x/day-1.9) + midShare*math.Sin(2*math.Pi*x/mid+m.phase(2))
}

// Integral is the activity between a and b in seconds of mean load; it never decreases in b.
func (m Model) Integral(a, b time.Time) float64 {
	return m.integral(seconds(b), 0) - m.integral(seconds(a), 0)
}

// integral is the antiderivative of the activity at x. texture selects an independent noise: two counters with different
// textures keep the same cycles but not the same ratio, as latencies and operations do.
func (m Model) integral(x float64, texture uint64) float64 {
	wave := func(period, share, phase float64) float64 {
		w := 2 * math.Pi / period
		return -share / w * math.Cos(w*x+phase)
	}
	v := 0.9*x +
		wave(day, dayShare, -1.9) + // the day's peak is in the afternoon, UTC
		wave(mid, midShare, m.phase(2)) +
		wave(short, shortShare, m.phase(3+texture)) +
		m.noise(x, 5+texture)
	if texture != 0 {
		v += wave(texturePeriod*(0.6+0.8*m.hash(4, texture)), textureShare, m.phase(200+texture))
	}
	return v + m.bursts(x)
}

// noise is the integral of a noise that is constant within each step: straight lines between hashed heights.
func (m Model) noise(x float64, texture uint64) float64 {
	k, f := math.Modf(x / noiseStep)
	a, b := m.hash(texture, uint64(k)), m.hash(texture, uint64(k)+1)
	return noiseDepth * noiseStep * (a + (b-a)*f)
}

// bursts is the integral of the bursts up to x.
func (m Model) bursts(x float64) float64 {
	k, f := math.Modf(x / burstSlot)
	at := f * burstSlot
	width := 60 + 540*m.hash(0xb5, uint64(k))
	start := (burstSlot - width) * m.hash(0xb6, uint64(k))
	done := min(max((at-start)/width, 0), 1)
	return burstVolume * (k + done)
}

func (m Model) phase(n uint64) float64 { return 2 * math.Pi * m.hash(0xfa5e, n) }

// hash is a number in [0, 1) that looks random and depends only on its arguments and the seed.
func (m Model) hash(a, b uint64) float64 {
	return float64(mix(m.Seed^mix(a*0xd1342543de82ef95+b))>>11) / (1 << 53)
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
