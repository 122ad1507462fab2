package catalog

import (
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Unit is a measurement's unit as the Public API spells it.
type Unit string

// The units.
const (
	Percent         Unit = "PERCENT"
	Milliseconds    Unit = "MILLISECONDS"
	Seconds         Unit = "SECONDS"
	Bytes           Unit = "BYTES"
	Kilobytes       Unit = "KILOBYTES"
	Megabytes       Unit = "MEGABYTES"
	BytesPerSecond  Unit = "BYTES_PER_SECOND"
	MBPerSecond     Unit = "MEGABYTES_PER_SECOND"
	GBPerHour       Unit = "GIGABYTES_PER_HOUR"
	Scalar          Unit = "SCALAR"
	ScalarPerSecond Unit = "SCALAR_PER_SECOND"
)

// Kind is how a value comes about.
type Kind int

// The kinds.
const (
	Gauge    Kind = iota + 1 // values of one row
	Rate                     // growth over time, per second
	Quotient                 // growth over growth; coarse values are ratios of sums
)

// Hosts is a set of kinds of process.
type Hosts uint8

// The kinds of process, and the sets most rows use.
const (
	OnStandalone Hosts = 1 << iota
	OnPrimary
	OnSecondary
	OnArbiter
	OnMongos
	OnConfig

	OnData = OnStandalone | OnPrimary | OnSecondary | OnConfig
	OnAll  = OnData | OnArbiter | OnMongos
)

// hostsOf is the kind of a process type. Nothing is known yet of a host without data, so everything may apply.
func hostsOf(t model.ProcessType) Hosts {
	switch t {
	case model.TypeStandalone, model.TypeShardStandalone:
		return OnStandalone
	case model.TypeReplicaPrimary, model.TypeShardPrimary:
		return OnPrimary
	case model.TypeReplicaSecondary, model.TypeShardSecondary, model.TypeRecovering:
		return OnSecondary
	case model.TypeReplicaArbiter:
		return OnArbiter
	case model.TypeShardMongos:
		return OnMongos
	case model.TypeShardConfig:
		return OnConfig
	default:
		return OnAll
	}
}

// Term is a column's share in a sum.
type Term struct {
	Column   ColumnID
	Factor   float64
	Optional bool // counts as 0 where absent
}

// Form is one way to compute a measurement.
//
//	Gauge:    (sum of Num / sum of Den, or / 1) * Scale * Mul / Div
//	Rate:     (growth of Num / seconds)         * Scale * Mul / Div
//	Quotient: (growth of Num / growth of Den)   * Scale * Mul / Div
type Form struct {
	Kind     Kind
	Num, Den []Term
	Scale    float64  // never 0 in a resolved form
	Mul, Div ColumnID // gauges of the newer row; 0: none
	// Guard is a counter whose growth makes the interval worthless (asserts.rollovers).
	Guard ColumnID
	// Seconds puts the interval's length in the place of Num.
	Seconds bool
	// AtLeastOne raises a denominator of 0 to 1 where the numerator is not 0 (query targeting).
	AtLeastOne bool
	// Clamp counts a backward step of one of its counters as 0 instead of giving up the interval (CPU ticks).
	Clamp bool
	// Positive raises a negative result to 0.
	Positive bool
	// Floor cuts the result to a whole number.
	Floor bool
	// Cap is the largest result; 0: none.
	Cap float64
	// Parts are measurements that are added up instead of all of the above.
	Parts []string
	// Restarts counts the restarts found between the rows instead of all of the above.
	Restarts bool
}

// Measurement is one row of the catalogue.
type Measurement struct {
	ID      uint16 // its number in stored roll-ups; never reused; a twin has its base's
	Name    string
	Unit    Unit
	Kind    Kind
	Scope   Scope
	Hosts   Hosts
	Chart   string   // id of the chart that shows it first, or ""
	Series  string   // its name in that chart
	Aliases []string // other spellings clients use
	// Twin reports whether there is a MAX_ measurement beside it; Max, whether this is one. Base is the name without MAX_.
	Twin, Max bool
	Base      string
	// Forms are tried in order: the first whose columns are all in the row counts.
	Forms []Form
	// Carry is how long a value stands for the times after it (a step line); 0: not at all.
	Carry time.Duration
	// TrailingHour adds up the values of the hour before (RESTARTS_IN_LAST_HOUR).
	TrailingHour bool
}

// AppliesTo reports whether processes of the type have the measurement.
func (m *Measurement) AppliesTo(t model.ProcessType) bool { return m.Hosts&hostsOf(t) != 0 }

// Measurements lists the whole catalogue in order: every row followed by its MAX_ twin where there is one. The slice is
// the caller's; what its rows point at is not.
func Measurements() []Measurement { return append([]Measurement(nil), catalogue().measurements...) }

// Find returns a measurement by name or by one of the other spellings that clients use. The answer has the one name of the
// catalogue.
func Find(name string) (Measurement, bool) {
	t := catalogue()
	m := t.byMeasure[name]
	if m == nil {
		// One documented page prints MAX_ with a blank.
		if rest, ok := strings.CutPrefix(name, "MAX "); ok {
			m = t.byMeasure["MAX_"+rest]
		}
	}
	if m == nil {
		return Measurement{}, false
	}
	return *m, true
}

// ByNumber returns a measurement by its number in stored roll-ups.
func ByNumber(id uint16) (Measurement, bool) {
	if m := catalogue().byNumber[id]; m != nil {
		return *m, true
	}
	return Measurement{}, false
}

// resolveMeasurements turns the rows into measurements with column numbers, adds the twins and the index of names.
func (t *tables) resolveMeasurements() {
	t.byMeasure = map[string]*Measurement{}
	rows := measurementRows()
	t.measurements = make([]Measurement, 0, 2*len(rows))
	for _, r := range rows {
		m := Measurement{
			ID: r.id, Name: r.name, Unit: r.unit, Scope: r.scope, Hosts: r.hosts, Series: r.series, Aliases: r.aliases,
			Twin: r.twin, Base: r.name, Carry: r.carry, TrailingHour: r.trailing,
		}
		for _, f := range r.forms {
			m.Forms = append(m.Forms, t.resolveForm(r.name, f))
		}
		m.Kind = m.Forms[0].Kind
		t.measurements = append(t.measurements, m)
		if r.twin {
			twin := m
			twin.Name, twin.Max, twin.Twin, twin.Aliases = "MAX_"+m.Name, true, false, nil
			for _, a := range r.aliases {
				twin.Aliases = append(twin.Aliases, "MAX_"+a)
			}
			t.measurements = append(t.measurements, twin)
		}
	}
	t.byNumber = map[uint16]*Measurement{}
	for i := range t.measurements {
		m := &t.measurements[i]
		if !m.Max {
			if m.ID == 0 || t.byNumber[m.ID] != nil {
				panic(fmt.Sprintf("catalog: measurement number %d of %s is missing or taken", m.ID, m.Name))
			}
			t.byNumber[m.ID] = m
		}
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			if t.byMeasure[name] != nil {
				panic("catalog: measurement " + name + " is declared twice")
			}
			t.byMeasure[name] = m
		}
	}
}

func (t *tables) resolveForm(measurement string, f form) Form {
	out := Form{
		Kind: f.kind, Scale: f.scale, Mul: t.column(measurement, f.mul), Div: t.column(measurement, f.div),
		Guard: t.column(measurement, f.guard), Seconds: f.seconds, AtLeastOne: f.atLeastOne, Clamp: f.clamp,
		Positive: f.positive, Floor: f.floor, Cap: f.limit, Parts: f.parts, Restarts: f.restarts,
		Num: t.terms(measurement, f.num), Den: t.terms(measurement, f.den),
	}
	if out.Scale == 0 {
		out.Scale = 1
	}
	return out
}

func (t *tables) column(measurement, name string) ColumnID {
	if name == "" {
		return 0
	}
	c := t.byName[name]
	if c == nil {
		panic(fmt.Sprintf("catalog: %s refers to column %q, which does not exist", measurement, name))
	}
	return c.ID
}

// terms reads a sum written as "a - b + c?": the question mark makes a term optional, "2*a" gives a factor.
func (t *tables) terms(measurement, sum string) []Term {
	var out []Term
	sign := 1.0
	for _, word := range strings.Fields(sum) {
		switch word {
		case "+":
			sign = 1
			continue
		case "-":
			sign = -1
			continue
		}
		term := Term{Factor: sign}
		word, term.Optional = strings.CutSuffix(word, "?")
		if factor, rest, ok := strings.Cut(word, "*"); ok {
			var f float64
			if _, err := fmt.Sscanf(factor, "%g", &f); err != nil {
				panic(fmt.Sprintf("catalog: %s has the bad factor %q", measurement, factor))
			}
			term.Factor *= f
			word = rest
		}
		term.Column = t.column(measurement, word)
		out = append(out, term)
	}
	return out
}
