package chart

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
)

func (a *Answer) write(w http.ResponseWriter, v *view.Visit, name string) error {
	if v.Query("format") == "csv" {
		return a.writeCSV(w, name)
	}
	body := a.json()
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(body)
	if err != nil {
		return nil //nolint:nilerr // the browser went away: nobody is left to tell
	}
	return nil
}

// json is compact on purpose: a page of charts is tens of thousands of numbers. Times are a start and a step; values
// have five significant digits, more than a screen can show.
func (a *Answer) json() []byte {
	size := 256
	for i := range a.Charts {
		for _, l := range a.Charts[i].Lines {
			size += 64 + 8*len(l.Values)
		}
	}
	b := make([]byte, 0, size)
	b = append(b, `{"start":`...)
	b = strconv.AppendInt(b, a.start(), 10)
	b = append(b, `,"step":`...)
	b = strconv.AppendInt(b, int64(a.Step/time.Second), 10)
	b = append(b, `,"n":`...)
	b = strconv.AppendInt(b, int64(a.N), 10)
	b = append(b, `,"resolution":`...)
	b = text(b, Resolution(a.Step))
	b = append(b, `,"marks":[`...)
	for i, m := range a.Marks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"t":`...)
		b = strconv.AppendFloat(b, float64(m.At.UnixMilli())/1000, 'f', -1, 64)
		b = append(b, `,"kind":`...)
		b = text(b, markKind(m.Type))
		b = append(b, `,"text":`...)
		b = text(b, m.Text)
		b = append(b, '}')
	}
	b = append(b, `],"charts":[`...)
	for i := range a.Charts {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.Charts[i].json(b, a.N)
	}
	return append(b, "]}\n"...)
}

func (d *Drawn) json(b []byte, n int) []byte {
	b = append(b, `{"id":`...)
	b = text(b, d.ID)
	b = append(b, `,"unit":`...)
	b = text(b, string(d.Unit))
	if d.Stacked {
		b = append(b, `,"stacked":true`...)
	}
	if d.Percent {
		b = append(b, `,"max":100`...)
	}
	if d.Why != "" {
		b = append(b, `,"why":`...)
		b = text(b, d.Why)
	}
	if len(d.Limits) > 0 {
		b = append(b, `,"limits":[`...)
		for i, l := range d.Limits {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"v":`...)
			b = value(b, l.Value)
			b = append(b, `,"text":`...)
			b = text(b, l.Text)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = append(b, `,"series":[`...)
	for i, l := range d.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = text(b, l.Name)
		b = append(b, `,"c":`...)
		b = strconv.AppendInt(b, int64(l.Colour), 10)
		if l.Unit != "" {
			b = append(b, `,"u":`...)
			b = text(b, string(l.Unit))
		}
		b = append(b, `,"v":[`...)
		for k := range n {
			if k > 0 {
				b = append(b, ',')
			}
			if k >= len(l.Values) || math.IsNaN(l.Values[k]) || math.IsInf(l.Values[k], 0) {
				b = append(b, "null"...)
				continue
			}
			b = value(b, l.Values[k])
		}
		b = append(b, "]}"...)
	}
	return append(b, "]}"...)
}

// value writes integers up to a million as they are, which is most counts, and the rest with five digits.
func value(b []byte, x float64) []byte {
	if x == math.Trunc(x) && math.Abs(x) < 1e6 {
		return strconv.AppendInt(b, int64(x), 10)
	}
	return strconv.AppendFloat(b, x, 'g', 5, 64)
}

func text(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // strings always marshal
		return append(b, `""`...)
	}
	return append(b, q...)
}

func (a *Answer) start() int64 {
	if a.Start.IsZero() {
		return 0
	}
	return a.Start.Unix()
}

// Resolution is a step in words, as shown beside a chart.
func Resolution(step time.Duration) string {
	switch step {
	case 0:
		return ""
	case time.Minute:
		return "1 min"
	case time.Hour:
		return "1 h"
	case 24 * time.Hour:
		return "1 d"
	}
	return view.Duration(step)
}

func (a *Answer) writeCSV(w http.ResponseWriter, name string) error {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename=%q`, fileName(name)+".csv"))
	out := csv.NewWriter(w)
	row := []string{"time (UTC)"}
	for i := range a.Charts {
		for _, l := range a.Charts[i].Lines {
			unit := l.Unit
			if unit == "" {
				unit = a.Charts[i].Unit
			}
			row = append(row, a.Charts[i].ID+" "+l.Name+" ("+string(unit)+")")
		}
	}
	if err := out.Write(row); err != nil {
		return nil //nolint:nilerr // the browser went away: nobody is left to tell
	}
	for k := range a.N {
		row = append(row[:0], a.Start.Add(time.Duration(k)*a.Step).UTC().Format(time.RFC3339))
		for i := range a.Charts {
			for _, l := range a.Charts[i].Lines {
				cell := ""
				if k < len(l.Values) && !math.IsNaN(l.Values[k]) {
					cell = strconv.FormatFloat(l.Values[k], 'g', -1, 64)
				}
				row = append(row, cell)
			}
		}
		if err := out.Write(row); err != nil {
			return nil //nolint:nilerr // as above
		}
	}
	out.Flush()
	return nil
}

// fileName keeps what is safe in a file's name.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, s)
	if s == "" {
		return "series"
	}
	return s
}
