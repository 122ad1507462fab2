package load

import "time"

// Elections lists the moments in (from, to] at which a deployment that elects about every `every` loses its primary.
// Each slot of that length holds one, somewhere in its middle half.
func (m Model) Elections(every time.Duration, from, to time.Time) []time.Time {
	if every <= 0 {
		return nil
	}
	var out []time.Time
	step := every.Milliseconds()
	for k := from.UnixMilli()/step - 1; k <= to.UnixMilli()/step; k++ {
		at := time.UnixMilli(k*step + step/4 + int64(float64(step)/2*m.hash(0xe1ec, uint64(k)))).UTC()
		if at.After(from) && !at.After(to) {
			out = append(out, at)
		}
	}
	return out
}

// lagSlot holds at most one spell of lag.
const lagSlot = 1500.0

// Lag is how far a secondary, one of n members, is behind at t because of the load. In every slot one member at most has
// a spell: it falls behind steadily, slower than time passes, and catches up again. Outside of spells it is 0.
func (m Model) Lag(member, n int, t time.Time) time.Duration {
	if n <= 0 || m.Scale == 0 {
		return 0
	}
	x := seconds(t)
	k := uint64(x / lagSlot)
	if int(m.hash(0x1a6, k)*float64(n+1)) != member { // n+1: now and then nobody lags
		return 0
	}
	peak := 15 + 75*m.hash(0x1a7, k)                    // seconds behind at the worst
	rise, fall := peak/0.6, peak/2                      // falls behind at 0.6 s a second, catches up at 2
	start := (lagSlot - rise - fall) * m.hash(0x1a8, k) // always ends within the slot
	at := x - float64(k)*lagSlot - start                // seconds into the spell
	switch {
	case at <= 0 || at >= rise+fall:
		return 0
	case at < rise:
		return time.Duration(at * 0.6 * float64(time.Second))
	default:
		return time.Duration((rise + fall - at) * 2 * float64(time.Second))
	}
}
