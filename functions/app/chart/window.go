package chart

import (
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
)

// Preset is a range people choose with one click.
type Preset struct {
	Label   string
	Seconds int64
	Href    string
	On      bool
}

// Window is the time range of a page. With a preset it ends now and moves on.
type Window struct {
	From, To time.Time
	Seconds  int64  // of the preset; 0 for a range with fixed ends
	Preset   string // its label
}

type span struct {
	label string
	d     time.Duration
}

func presets() []span {
	const day = 24 * time.Hour
	return []span{{"1h", time.Hour}, {"6h", 6 * time.Hour}, {"24h", day}, {"2d", 2 * day}, {"7d", 7 * day}, {"30d", 30 * day}}
}

// usual is the range of a reader who chose none.
const usual = "24h"

// WindowOf reads range, or from and to, of the page's address. What cannot be read counts as not given: a link must not
// break a page. A range may also be a number of seconds, as the zoom of a page makes them.
func WindowOf(v *view.Visit) Window {
	from, okFrom := parseTime(v.Query("from"))
	to, okTo := parseTime(v.Query("to"))
	if okFrom && okTo && from.Before(to) {
		return Window{From: from, To: to}
	}
	name := v.Query("range")
	for _, p := range presets() {
		if p.label == name || strconv.Itoa(int(p.d.Seconds()))+"s" == name {
			return last(v.Now, p)
		}
	}
	for _, p := range presets() {
		if p.label == usual {
			return last(v.Now, p)
		}
	}
	return Window{}
}

func last(now time.Time, p span) Window {
	return Window{From: now.Add(-p.d), To: now, Seconds: int64(p.d.Seconds()), Preset: p.label}
}

// Presets are the links of the range bar.
func (w Window) Presets(v *view.Visit) []Preset {
	out := make([]Preset, 0, len(presets()))
	for _, p := range presets() {
		out = append(out, Preset{
			Label: p.label, Seconds: int64(p.d.Seconds()), On: p.label == w.Preset,
			Href: v.Link("range", p.label, "from", "", "to", ""),
		})
	}
	return out
}

// FromUnix is the window's begin for scripts.
func (w Window) FromUnix() int64 { return w.From.Unix() }

// ToUnix is the window's end for scripts.
func (w Window) ToUnix() int64 { return w.To.Unix() }

// FromInput is the window's begin for a date field, in UTC.
func (w Window) FromInput() string { return w.From.UTC().Format("2006-01-02T15:04") }

// ToInput is the window's end for a date field, in UTC.
func (w Window) ToInput() string { return w.To.UTC().Format("2006-01-02T15:04") }

// parseTime reads a moment as links and date fields write it: RFC 3339, or without a zone for UTC.
func parseTime(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1970 && t.Year() < 2200 {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
