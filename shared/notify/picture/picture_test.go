package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"os"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

var start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func samples(values ...float64) []model.Sample {
	var s []model.Sample
	for i, v := range values {
		s = append(s, model.Sample{At: start.Add(time.Duration(i) * time.Minute), Value: v})
	}
	return s
}

func decoded(t *testing.T, b []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("not a PNG: %v", err)
	}
	if img.Bounds().Dx() != Width || img.Bounds().Dy() != Height {
		t.Fatalf("it is %v", img.Bounds())
	}
	return img
}

// count says how many dots of a picture have a colour.
func count(img image.Image, c color.RGBA) (n int) {
	flat := image.NewRGBA(img.Bounds())
	draw.Draw(flat, flat.Bounds(), img, image.Point{}, draw.Src)
	for i := 0; i < len(flat.Pix); i += 4 {
		if [4]byte(flat.Pix[i:i+4]) == [4]byte{c.R, c.G, c.B, c.A} {
			n++
		}
	}
	return n
}

func BenchmarkDraw(b *testing.B) {
	c := Chart{Samples: samples(20, 35, 60, 180, 310, 330, 290)}
	for b.Loop() {
		if _, err := Draw(c); err != nil {
			b.Fatal(err)
		}
	}
}

func TestThePictureOfAnAlertShowsSamplesThresholdAndOpening(t *testing.T) {
	a := &model.Alert{
		Samples: samples(20, 35, 60, 180, 310, 330, 290), Opened: start.Add(4 * time.Minute),
		Value: &model.Reading{Number: 310, Units: "RAW"},
		Rule:  model.AlertConfig{Metric: &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 200}}},
	}
	b := OfAlert(a)
	img := decoded(t, b)
	if len(b) > 30_000 {
		t.Errorf("%d bytes are too many for every mail", len(b))
	}
	if to := os.Getenv("PICTURE_TO"); to != "" { // to look at it
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]color.RGBA{"line": line, "threshold": limit, "opening": mark, "numbers": ink} {
		if n := count(img, c); n < 100 {
			t.Errorf("the %s has %d dots", what, n)
		}
	}
	// The highest sample is above the threshold, the first below: their dots are where they belong.
	p := newPlot(a.Samples, Chart{Threshold: &a.Rule.Metric.Value}, nil)
	for i, s := range a.Samples {
		r, g, bl, _ := img.At(int(p.x(s.At)), int(p.y(s.Value))).RGBA()
		if got := (color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(bl >> 8), 0xff}); got != line && got != mark {
			t.Errorf("sample %d is not at its place: %v", i, got)
		}
	}
	if p.y(330) >= p.y(200) || p.y(20) <= p.y(200) {
		t.Error("up and down are mixed")
	}
}

func TestWithoutSamplesThereIsNoPicture(t *testing.T) {
	for name, a := range map[string]*model.Alert{
		"no alert": nil, "no samples": {}, "one sample": {Samples: samples(1)},
		"samples at one time":  {Samples: []model.Sample{{At: start, Value: 1}, {At: start, Value: 2}}},
		"nothing but nonsense": {Samples: samples(math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64)},
	} {
		if b := OfAlert(a); b != nil {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
}

func TestStrangeValuesAreDrawnToo(t *testing.T) {
	far, zero := 1e300, 0.0
	for name, c := range map[string]Chart{
		"all equal":           {Samples: samples(5, 5, 5)},
		"all zero":            {Samples: samples(0, 0), Threshold: &zero, Above: true},
		"tiny":                {Samples: samples(1e-300, 2e-300)},
		"huge":                {Samples: samples(-9e299, 9e299)},
		"negative":            {Samples: samples(-7, -2)},
		"threshold far away":  {Samples: samples(1, 2), Threshold: &far},
		"a gap":               {Samples: append(samples(1, 2), model.Sample{At: start.Add(48 * time.Hour), Value: 3})},
		"newest first":        {Samples: []model.Sample{{At: start.Add(time.Hour), Value: 1}, {At: start, Value: 2}}},
		"a nonsense between":  {Samples: samples(1, math.NaN(), 3)},
		"marks outside of it": {Samples: samples(1, 2), Marks: []Mark{{start.Add(-time.Hour), "opened"}, {start.Add(time.Hour), "closed"}}},
		"nearly equal":        {Samples: samples(1e15, 1e15+0.125)},
	} {
		b, err := Draw(c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if img := decoded(t, b); count(img, line) < 50 {
			t.Errorf("%s: no line", name)
		}
		if name == "marks outside of it" && count(decoded(t, b), mark) > 0 {
			t.Error("a mark that is not in the picture was drawn")
		}
	}
}

func TestTheScaleHasFewRoundLinesAroundTheValues(t *testing.T) {
	for _, c := range [][2]float64{{0, 1}, {20, 330}, {99, 101}, {-5, 5}, {0, 0}, {7, 7}, {1e-9, 2e-9}, {1e12, 3e12}, {-100, -1}} {
		from, to, step := scale(c[0], c[1])
		lines := (to - from) / step
		if from > c[0] || to < c[1] || lines < 1 || lines > 9 || math.Abs(lines-math.Round(lines)) > 1e-6 {
			t.Errorf("%v: %v to %v by %v", c, from, to, step)
		}
	}
	for v, want := range map[float64]string{0: "0", 1500: "1.5k", 2.5e9: "2.5G", 0.25: "0.25", -1e6: "-1M", 1e20: "1e+20"} {
		if got := number(v, 0.01); got != want {
			t.Errorf("%v is written %s", v, got)
		}
	}
}

func FuzzDraw(f *testing.F) {
	f.Add(1.0, 2.0, 3.0, int64(60))
	f.Fuzz(func(t *testing.T, a, b, limit float64, seconds int64) {
		c := Chart{Samples: []model.Sample{{At: start, Value: a}, {At: start.Add(time.Duration(seconds) * time.Second), Value: b}}}
		if !math.IsNaN(limit) && !math.IsInf(limit, 0) {
			c.Threshold = &limit
		}
		if png, err := Draw(c); (err == nil) == (len(png) == 0) {
			t.Fatalf("%d bytes, %v", len(png), err)
		}
	})
}
