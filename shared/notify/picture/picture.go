// Package picture draws the small chart that goes with an alert's mail: the samples, the threshold, and when the alert opened
// and closed. It is a PNG, because mail shows neither SVG nor scripts.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
)

// The size of a picture. Mail shows it at half of this, so that it is sharp on screens with small dots.
const (
	Width  = 1120
	Height = 360
)

// Chart is what is drawn.
type Chart struct {
	Samples   []model.Sample // oldest first
	Threshold *float64       // in the unit of the samples
	Above     bool           // values above the threshold are bad, otherwise those below
	Unit      string         // as the axis names it
	Marks     []Mark
}

// Mark is a moment worth a line.
type Mark struct {
	At    time.Time
	Label string // ASCII
}

const (
	leastSamples = 2     // make a line
	most         = 1e300 // values beyond it, which nothing measures, are left out: arithmetic with them overflows
)

// OfAlert is the picture of an alert, or nil when it has nothing to draw.
func OfAlert(a *model.Alert) []byte {
	if a == nil || len(a.Samples) < leastSamples {
		return nil
	}
	c := Chart{Samples: a.Samples}
	if a.Value != nil && a.Value.Units != "RAW" && a.Value.Units != string(catalog.Scalar) {
		c.Unit = strings.ToLower(strings.ReplaceAll(a.Value.Units, "_", " "))
	}
	switch {
	case a.Rule.Metric != nil:
		c.Threshold, c.Above = &a.Rule.Metric.Value, a.Rule.Metric.Operator == model.GreaterThan
	case a.Rule.Threshold != nil:
		c.Threshold, c.Above = &a.Rule.Threshold.Value, a.Rule.Threshold.Operator == model.GreaterThan
	}
	if !a.Opened.IsZero() {
		c.Marks = append(c.Marks, Mark{a.Opened, "opened"})
	}
	if !a.Resolved.IsZero() {
		c.Marks = append(c.Marks, Mark{a.Resolved, "closed"})
	}
	b, err := Draw(c)
	if err != nil {
		return nil // a mail without its picture still says everything
	}
	return b
}

// The colours: they stand out on white, to people who do not tell red from green too.
var (
	paper  = color.RGBA{0xff, 0xff, 0xff, 0xff}
	grid   = color.RGBA{0xe3, 0xe6, 0xea, 0xff}
	ink    = color.RGBA{0x4a, 0x52, 0x5c, 0xff}
	line   = color.RGBA{0x1f, 0x5f, 0xa8, 0xff}
	limit  = color.RGBA{0xc6, 0x28, 0x28, 0xff}
	beyond = color.RGBA{0x16, 0x05, 0x05, 0x18} // premultiplied
	mark   = color.RGBA{0x8a, 0x6d, 0x00, 0xff}
)

// The margins of the plot.
const (
	left, right, top, bottom = 132, 28, 40, 52
)

// Draw makes the PNG. It wants at least two samples at different times, all finite.
func Draw(c Chart) ([]byte, error) {
	samples := slices.Clone(c.Samples)
	samples = slices.DeleteFunc(samples, func(s model.Sample) bool { return !(math.Abs(s.Value) < most) })
	slices.SortStableFunc(samples, func(a, b model.Sample) int { return a.At.Compare(b.At) })
	if len(samples) < leastSamples || !samples[len(samples)-1].At.After(samples[0].At) {
		return nil, fmt.Errorf("draw %d samples: a line needs two at different times", len(samples))
	}
	if c.Threshold != nil && !(math.Abs(*c.Threshold) < most) {
		c.Threshold = nil
	}
	f, err := face()
	if err != nil {
		return nil, err
	}
	p := newPlot(samples, c, f)
	p.axes(c.Unit)
	p.limit(c)
	p.line()
	p.marks(c.Marks)
	var out bytes.Buffer
	if err := png.Encode(&out, p.img); err != nil {
		return nil, fmt.Errorf("encode the chart: %w", err)
	}
	return out.Bytes(), nil
}

// parsed is the font; faces made of it are not safe for use by several at once, so each picture makes its own.
var parsed = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(goregular.TTF) })

func face() (font.Face, error) {
	f, err := parsed()
	if err != nil {
		return nil, fmt.Errorf("parse the font: %w", err)
	}
	made, err := opentype.NewFace(f, &opentype.FaceOptions{Size: 22, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return nil, fmt.Errorf("make the font: %w", err)
	}
	return made, nil
}

// plot is a picture in the making.
type plot struct {
	img      *image.RGBA
	face     font.Face
	samples  []model.Sample
	from, to time.Time
	low, hi  float64 // of the axis
	step     float64 // between its lines
}

func newPlot(samples []model.Sample, c Chart, f font.Face) *plot {
	p := &plot{img: image.NewRGBA(image.Rect(0, 0, Width, Height)), face: f, samples: samples, from: samples[0].At, to: samples[len(samples)-1].At}
	draw.Draw(p.img, p.img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	low, hi := samples[0].Value, samples[0].Value
	for _, s := range samples {
		low, hi = min(low, s.Value), max(hi, s.Value)
	}
	if c.Threshold != nil {
		low, hi = min(low, *c.Threshold), max(hi, *c.Threshold)
	}
	p.low, p.hi, p.step = scale(low, hi)
	return p
}

// scale widens a range to round numbers and says how far apart its lines are. Zero is in sight unless it is far off.
func scale(low, hi float64) (from, to, step float64) {
	if low > 0 && low < hi/2 {
		low = 0
	}
	if hi < 0 && hi > low/2 {
		hi = 0
	}
	if hi-low < math.Abs(hi)*1e-9 || hi == low {
		pad := max(math.Abs(hi)*0.1, 1)
		low, hi = low-pad, hi+pad
	}
	step = math.Pow(10, math.Floor(math.Log10(hi/4-low/4)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi/m-low/m)/step <= 5 {
			step *= m
			break
		}
	}
	from, to = math.Floor(low/step)*step, math.Ceil(hi/step)*step
	if from == low && low != 0 { // no sample lies on the frame
		from -= step
	}
	if to == hi && hi != 0 {
		to += step
	}
	return from, to, step
}

func (p *plot) x(at time.Time) float32 {
	part := float64(at.Sub(p.from)) / float64(p.to.Sub(p.from))
	return left + float32(part)*(Width-left-right)
}

func (p *plot) y(v float64) float32 {
	part := (v/2 - p.low/2) / (p.hi/2 - p.low/2)
	return Height - bottom - float32(part)*(Height-top-bottom)
}

// axes draws the grid with its numbers and times.
func (p *plot) axes(unit string) {
	lines := int(math.Round((p.hi - p.low) / p.step))
	for i := range lines + 1 {
		v := p.low + float64(i)*p.step
		y := p.y(v)
		p.stroke(grid, 2, pt{left, y}, pt{Width - right, y})
		p.text(left-14, y+8, number(v, p.step), ink, 1)
	}
	p.text(left, top-16, unit, ink, 0)
	const ticks = 4
	layout := "15:04"
	if p.to.Sub(p.from) > 20*time.Hour {
		layout = "2 Jan 15:04"
	} else if p.to.Sub(p.from) < 20*time.Minute {
		layout = "15:04:05"
	}
	for i := range ticks + 1 {
		at := p.from.Add(p.to.Sub(p.from) * time.Duration(i) / ticks)
		p.text(p.x(at), Height-bottom+34, at.UTC().Format(layout), ink, [...]float32{0, 0.5, 0.5, 0.5, 1}[i])
	}
	p.text(Width-right, top-16, "UTC", ink, 1)
}

// number writes a value of the axis in few letters.
func number(v, step float64) string {
	if math.Abs(v) < step/1e6 {
		return "0"
	}
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.size {
			if math.Abs(v) >= u.size*1e4 {
				return strconv.FormatFloat(v, 'g', 3, 64)
			}
			return strconv.FormatFloat(v/u.size, 'g', 4, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// limit draws the threshold and shades what lies beyond it.
func (p *plot) limit(c Chart) {
	if c.Threshold == nil {
		return
	}
	y := p.y(*c.Threshold)
	shade := image.Rect(left, int(y), Width-right, Height-bottom)
	if c.Above {
		shade = image.Rect(left, top, Width-right, int(y))
	}
	draw.Draw(p.img, shade, image.NewUniform(beyond), image.Point{}, draw.Over)
	for x := float32(left); x < Width-right; x += 20 {
		p.stroke(limit, 3, pt{x, y}, pt{min(x+12, Width-right), y})
	}
	up := y - 8
	if up < top+20 {
		up = y + 26
	}
	p.text(Width-right-6, up, "threshold "+number(*c.Threshold, p.step), limit, 1)
}

// line draws the samples. Where they are few, each has its dot.
func (p *plot) line() {
	points := make([]pt, len(p.samples))
	for i, s := range p.samples {
		points[i] = pt{p.x(s.At), p.y(s.Value)}
	}
	p.stroke(line, 4, points...)
	if len(points) <= 60 {
		for _, at := range points {
			p.dot(line, at, 6)
		}
	}
}

// marks draws the moments that lie in the picture.
func (p *plot) marks(marks []Mark) {
	for _, m := range marks {
		if m.At.Before(p.from) || m.At.After(p.to) {
			continue
		}
		x := p.x(m.At)
		p.stroke(mark, 3, pt{x, top}, pt{x, Height - bottom})
		align := float32(0)
		at := x + 8
		if x > Width/2 {
			align, at = 1, x-8
		}
		p.text(at, top+20, m.Label, mark, align)
	}
}

// pt is a point of the picture.
type pt struct{ x, y float32 }

// stroke draws a line of a width through points.
func (p *plot) stroke(c color.Color, width float32, points ...pt) {
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		dx, dy := b.x-a.x, b.y-a.y
		length := float32(math.Hypot(float64(dx), float64(dy)))
		if length == 0 {
			continue
		}
		nx, ny := -dy/length*width/2, dx/length*width/2
		p.fill(c, pt{a.x + nx, a.y + ny}, pt{b.x + nx, b.y + ny}, pt{b.x - nx, b.y - ny}, pt{a.x - nx, a.y - ny})
		if i > 1 {
			p.dot(c, a, width/2) // a round joint
		}
	}
}

// dot draws a filled circle.
func (p *plot) dot(c color.Color, at pt, radius float32) {
	var corners [16]pt
	for i := range corners {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(len(corners)))
		corners[i] = pt{at.x + radius*float32(cos), at.y + radius*float32(sin)}
	}
	p.fill(c, corners[:]...)
}

// fill draws a polygon. It works on the polygon's own rectangle only: the whole picture for each would take a hundred times
// as long.
func (p *plot) fill(c color.Color, corners ...pt) {
	low, high := corners[0], corners[0]
	for _, k := range corners {
		low = pt{min(low.x, k.x), min(low.y, k.y)}
		high = pt{max(high.x, k.x), max(high.y, k.y)}
	}
	box := image.Rect(int(low.x), int(low.y), int(high.x)+1, int(high.y)+1).Intersect(p.img.Bounds())
	if box.Empty() {
		return
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	x, y := float32(box.Min.X), float32(box.Min.Y)
	for i, k := range corners {
		if i == 0 {
			r.MoveTo(k.x-x, k.y-y)
		} else {
			r.LineTo(k.x-x, k.y-y)
		}
	}
	r.ClosePath()
	r.Draw(p.img, box, image.NewUniform(c), image.Point{})
}

// text writes at a baseline; align is the part of the text that lies left of x.
func (p *plot) text(x, y float32, s string, c color.Color, align float32) {
	d := font.Drawer{Dst: p.img, Src: image.NewUniform(c), Face: p.face}
	w := float32(d.MeasureString(s)) / 64
	d.Dot = fixed.Point26_6{X: fixed.Int26_6((x - w*align) * 64), Y: fixed.Int26_6(y * 64)}
	d.DrawString(s)
}
