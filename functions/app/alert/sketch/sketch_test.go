package sketch

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

var from = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return from.Add(time.Duration(minutes) * time.Minute) }

func wellFormed(t *testing.T, s string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in %s", err, s)
		}
	}
}

func TestALineWithItsThresholdAndSpans(t *testing.T) {
	limit := 50.0
	d := Drawing{
		Label: `CONNECTIONS of "db1" <x>`, From: from, To: at(60), Threshold: &limit, Amount: func(v float64) string { return "<" + num(v) + ">" },
		Times: []time.Time{at(0), at(10), at(20), at(30), at(40)}, Values: []float64{10, 80, math.NaN(), 90, math.NaN()},
		Spans: []Span{{Since: at(5), Opened: at(10), Closed: at(20)}, {Since: at(30), Opened: at(30)}, {Since: at(50), Closed: at(55)}, {Since: at(-90), Opened: at(-80), Closed: at(-70)}},
	}
	got := string(d.SVG())
	wellFormed(t, got)
	for text, n := range map[string]int{`class="sk-open"`: 2, `class="sk-track"`: 2, `class="sk-limit"`: 1, "M": 2, "h1.5": 1, "<text": 6} {
		if strings.Count(got, text) != n {
			t.Errorf("%d of %q, want %d: %s", strings.Count(got, text), text, n, got)
		}
	}
	if strings.Contains(got, `"db1"`) || strings.Contains(got, "style=") {
		t.Errorf("not escaped, or an inline style: %s", got)
	}
}

func TestSpansAlone(t *testing.T) {
	d := Drawing{Label: "rs0", From: from, To: at(60), Spans: []Span{{Since: at(10), Opened: at(12), Closed: at(13)}}}
	got := string(d.SVG())
	wellFormed(t, got)
	if strings.Contains(got, "sk-line") || !strings.Contains(got, "sk-open") || !strings.Contains(got, ">08:30<") {
		t.Errorf("%s", got)
	}
}

func TestNothingToDrawIsDrawn(t *testing.T) {
	for _, d := range []Drawing{
		{},
		{From: from, To: from},
		{From: from, To: at(1), Times: []time.Time{at(0)}, Values: []float64{math.Inf(1), math.NaN()}},
		{From: from, To: at(60 * 24 * 30), Times: []time.Time{at(0)}, Values: []float64{-5}},
	} {
		got := string(d.SVG())
		wellFormed(t, got)
		if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
			t.Errorf("%s", got)
		}
	}
}
