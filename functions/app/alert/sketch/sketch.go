// Package sketch draws a line with its threshold and the spans in which an alert would have been open, as SVG made on the
// server: what a rule would have done is seen without a script. It knows numbers and times, nothing of alerts.
package sketch

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// Span is a stretch of time: when the condition began to hold, when people were told, when it ended (zero: not yet).
type Span struct{ Since, Opened, Closed time.Time }

// Drawing is what is to be drawn. Times and Values are of equal length; NaN is a gap. Without Values only the spans are drawn.
type Drawing struct {
	Label     string // for those who do not see the picture
	From, To  time.Time
	Zone      *time.Location
	Times     []time.Time
	Values    []float64
	Threshold *float64
	Spans     []Span
	Amount    func(float64) string
}

// The picture's size in its own units; the page scales it to its width.
const (
	width, left, right = 720.0, 64.0, 8.0
	lineHeight         = 150.0
	barHeight          = 30.0
	foot               = 18.0
)

// SVG is the picture.
func (d *Drawing) SVG() template.HTML {
	h := lineHeight
	if len(d.Values) == 0 {
		h = barHeight
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="sketch" viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, h+foot, template.HTMLEscapeString(d.Label))
	d.spans(&b, h)
	if len(d.Values) > 0 {
		d.lines(&b, h)
	}
	d.ticks(&b, h)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and text that is escaped
}

func (d *Drawing) x(t time.Time) float64 {
	whole := d.To.Sub(d.From)
	if whole <= 0 {
		return left
	}
	part := float64(t.Sub(d.From)) / float64(whole)
	return left + (width-left-right)*min(max(part, 0), 1)
}

func (d *Drawing) spans(b *strings.Builder, h float64) {
	rect := func(class string, from, to time.Time) {
		if to.IsZero() {
			to = d.To
		}
		if to.Before(d.From) || from.After(d.To) {
			return
		}
		x0, x1 := d.x(from), d.x(to)
		fmt.Fprintf(b, `<rect class="%s" x="%s" y="4" width="%s" height="%s"/>`, class, num(x0), num(max(x1-x0, 1.5)), num(h-4))
	}
	for _, s := range d.Spans {
		if s.Opened.IsZero() {
			rect("sk-track", s.Since, s.Closed)
			continue
		}
		if s.Since.Before(s.Opened) {
			rect("sk-track", s.Since, s.Opened)
		}
		rect("sk-open", s.Opened, s.Closed)
	}
}

func (d *Drawing) lines(b *strings.Builder, h float64) {
	low, high := 0.0, 0.0
	for _, v := range d.Values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	if d.Threshold != nil {
		low, high = min(low, *d.Threshold), max(high, *d.Threshold)
	}
	if high <= low {
		high = low + 1
	}
	high += (high - low) * 0.08
	y := func(v float64) float64 { return 4 + (h-4)*(1-(v-low)/(high-low)) }
	fmt.Fprintf(b, `<line class="sk-axis" x1="%g" y1="%s" x2="%g" y2="%s"/>`, left, num(y(low)), width-right, num(y(low)))
	d.text(b, "end", left-6, y(high/1.08)+8, d.amount(high/1.08))
	d.text(b, "end", left-6, y(low), d.amount(low))
	var path strings.Builder
	pen := false
	for i, v := range d.Values {
		if i >= len(d.Times) || math.IsNaN(v) || math.IsInf(v, 0) {
			pen = false
			continue
		}
		op := "L"
		if !pen {
			op = "M"
		}
		path.WriteString(op + num(d.x(d.Times[i])) + " " + num(y(v)))
		if next := i + 1; !pen && (next == len(d.Values) || math.IsNaN(d.Values[next])) {
			path.WriteString("h1.5") // a value between two gaps would be invisible as a line
		}
		pen = true
	}
	fmt.Fprintf(b, `<path class="sk-line" d="%s"/>`, path.String())
	if d.Threshold != nil {
		at := y(*d.Threshold)
		fmt.Fprintf(b, `<line class="sk-limit" x1="%g" y1="%s" x2="%g" y2="%s"/>`, left, num(at), width-right, num(at))
		d.text(b, "start", left+4, at-4, d.amount(*d.Threshold))
	}
}

func (d *Drawing) amount(v float64) string {
	if d.Amount != nil {
		return d.Amount(v)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func (d *Drawing) text(b *strings.Builder, anchor string, x, y float64, s string) {
	fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="%s">%s</text>`, num(x), num(max(y, 10)), anchor, template.HTMLEscapeString(s))
}

// ticks writes the times at the ends and in the middle.
func (d *Drawing) ticks(b *strings.Builder, h float64) {
	zone := d.Zone
	if zone == nil {
		zone = time.UTC
	}
	layout := "Jan 2 15:04"
	if d.To.Sub(d.From) <= 36*time.Hour {
		layout = "15:04"
	}
	for i, anchor := range []string{"start", "middle", "end"} {
		at := d.From.Add(d.To.Sub(d.From) * time.Duration(i) / 2)
		d.text(b, anchor, left+(width-left-right)*float64(i)/2, h+14, at.In(zone).Format(layout))
	}
}

func num(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
