package series

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
)

func recorded(tb testing.TB, name string) bson.D {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "catalog", "testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON(text, true, &d); err != nil {
		tb.Fatal(err)
	}
	return d
}

// load makes rows of a host whose counters advance as between the two recorded serverStatus replies, ten seconds apart,
// with noise, and whose gauges move between the two.
type load struct {
	first catalog.Row
	cells []loadCell
	busy  map[string]bool // columns that differ between the recordings
}

type loadCell struct {
	column, dim string
	counter     bool
	round       bool // only in the pings with a dbStats round
	from, to    float64
	float       bool
}

func newLoad(tb testing.TB) *load {
	tb.Helper()
	at := time.Unix(0, 0)
	replies := recorded(tb, "replies-primary.json")
	extract := func(status string) catalog.Row {
		d := append(bson.D{}, replies...)
		for i := range d {
			if d[i].Key == "serverStatus" {
				d[i].Value = recorded(tb, status)
			}
		}
		raw, err := bson.Marshal(d)
		if err != nil {
			tb.Fatal(err)
		}
		row, err := catalog.Extract(raw, at)
		if err != nil {
			tb.Fatal(err)
		}
		return row
	}
	first, later := extract("serverStatus-primary.json"), extract("serverStatus-primary-10s-later.json")
	l := &load{first: first, busy: map[string]bool{}}
	for _, c := range first.Cells {
		col, _ := catalog.ColumnByName(c.Column)
		v, _ := later.Get(c.Column, c.Dim)
		cell := loadCell{
			column: c.Column, dim: c.Dim, counter: col.Counter, from: c.Value.Float64(), to: v.Float64(), float: c.Value.IsFloat(),
			round: col.Scope == catalog.Database || col.Sparse > time.Hour,
		}
		if cell.from != cell.to {
			l.busy[c.Column] = true
		}
		// Of the machine there is one recording: let its counters advance as a moderately used machine's do.
		if col.Counter && col.Clock == catalog.MachineClock {
			cell.to = cell.from + cell.from/5000
		}
		l.cells = append(l.cells, cell)
	}
	return l
}

// host is one host's load at a moment.
type loadHost struct {
	l      *load
	rnd    *rand.Rand
	values []float64
	up     int64
	n      int
	id     string
}

func (l *load) host(n int) *loadHost {
	h := &loadHost{l: l, rnd: rand.New(rand.NewPCG(uint64(n), 7)), up: 3_600_000 + int64(n)*1000, id: fmt.Sprintf("%024x", n+1)} //nolint:gosec // test data
	for _, c := range l.cells {
		h.values = append(h.values, c.from)
	}
	return h
}

// next is the row after step; each counter grows by its share with noise.
func (h *loadHost) next(at time.Time, step time.Duration) catalog.Row {
	jitter := int64(h.rnd.IntN(7)) - 3
	h.up += step.Milliseconds() + jitter
	row := catalog.Row{At: at, UptimeMS: h.up, Process: h.id, PID: 4711, Local: at.Add(time.Duration(20+h.rnd.IntN(9)) * time.Millisecond)}
	tens := step.Seconds() / 10
	level := 0.5 + h.rnd.Float64()
	for i, c := range h.l.cells {
		if c.round && h.n%20 != 0 {
			continue
		}
		v := h.values[i]
		switch {
		case c.column == "machine.at":
			v = float64(at.UnixMilli() / 1000 * 1000)
		case c.counter:
			d := (c.to - c.from) * tens * level * (0.8 + 0.4*h.rnd.Float64())
			v += float64(int64(d))
		case c.from != c.to:
			v = c.from + (c.to-c.from)*h.rnd.Float64()
			if !c.float {
				v = float64(int64(v))
			}
		}
		h.values[i] = v
		row.Cells = append(row.Cells, catalog.Cell{Column: c.column, Dim: c.dim, Value: catalog.Float(v)})
	}
	h.n++
	return row
}

func hostID(n int) model.HostID { return model.NewHostID("g", fmt.Sprintf("host%d", n), 27017) }
