package web

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tokens reads the colour table of app.css: name -> {light, dark}.
func tokens(t *testing.T) map[string][2]string {
	t.Helper()
	css, err := static.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for _, m := range regexp.MustCompile(`--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);`).FindAllStringSubmatch(string(css), -1) {
		out[m[1]] = [2]string{m[2], m[3]}
	}
	if len(out) < 30 {
		t.Fatalf("only %d colours found in app.css", len(out))
	}
	return out
}

// luminance and contrast are those of WCAG 2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(shift int) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestContrast(t *testing.T) {
	table := tokens(t)
	grounds := []string{"bg", "panel", "raised"}
	type pair struct {
		front, back string
		least       float64
	}
	var pairs []pair
	for _, ground := range grounds {
		for _, text := range []string{"text", "muted", "accent", "ok", "warn", "crit", "unknown", "info"} {
			pairs = append(pairs, pair{text, ground, 4.5})
		}
		pairs = append(pairs, pair{"control", ground, 3})
	}
	for _, state := range []string{"ok", "warn", "crit", "info"} {
		pairs = append(pairs, pair{state, state + "-soft", 4.5}, pair{"text", state + "-soft", 4.5})
	}
	pairs = append(pairs, pair{"muted", "unknown-soft", 4.5}, pair{"accent", "accent-soft", 4.5}, pair{"on-accent", "accent", 4.5}, pair{"accent", "info-soft", 4.5}, pair{"bg", "text", 4.5})
	for _, mark := range []string{"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "mark-restart", "mark-primary", "mark-secondary"} {
		pairs = append(pairs, pair{mark, "panel", 3})
	}
	for _, p := range pairs {
		for theme, name := range []string{"light", "dark"} {
			front, ok := table[p.front]
			back, ok2 := table[p.back]
			if !ok || !ok2 {
				t.Fatalf("no colour %s or %s", p.front, p.back)
			}
			if got := contrast(t, front[theme], back[theme]); got < p.least {
				t.Errorf("%s: --%s %s on --%s %s has contrast %.2f, less than %.1f", name, p.front, front[theme], p.back, back[theme], got, p.least)
			}
		}
	}
}

// TestSeriesColoursDiffer: all eight of the palette stay apart for people with the common kinds of colour blindness. The
// measure is the distance in a simulation of deuteranopia and protanopia (Viénot, Brettel and Mollon 1999), in Lab.
func TestSeriesColoursDiffer(t *testing.T) {
	table := tokens(t)
	for theme, name := range []string{"light", "dark"} {
		for i := 1; i <= 7; i++ {
			for k := i + 1; k <= 8; k++ {
				a, b := table["s"+strconv.Itoa(i)][theme], table["s"+strconv.Itoa(k)][theme]
				for kind, m := range map[string][9]float64{
					"deuteranopia": {0.29275, 0.70725, 0, 0.29275, 0.70725, 0, -0.02234, 0.02234, 1},
					"protanopia":   {0.11238, 0.88762, 0, 0.11238, 0.88762, 0, 0.00401, -0.00401, 1},
				} {
					if d := distance(simulate(t, a, m), simulate(t, b, m)); d < 10 {
						t.Errorf("%s, %s: --s%d %s and --s%d %s are %.1f apart, less than 10", name, kind, i, a, k, b, d)
					}
				}
			}
		}
	}
}

func simulate(t *testing.T, hex string, m [9]float64) [3]float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	var c [3]float64
	for i := range c {
		v := float64(n>>(16-8*i)&0xff) / 255
		if v <= 0.04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	var out [3]float64
	for i := range out {
		out[i] = min(1, max(0, m[3*i]*c[0]+m[3*i+1]*c[1]+m[3*i+2]*c[2]))
	}
	return lab(out)
}

func lab(c [3]float64) [3]float64 {
	f := func(v float64) float64 {
		if v > 216.0/24389 {
			return math.Cbrt(v)
		}
		return (24389.0/27*v + 16) / 116
	}
	x := f((0.4124*c[0] + 0.3576*c[1] + 0.1805*c[2]) / 0.95047)
	y := f(0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2])
	z := f((0.0193*c[0] + 0.1192*c[1] + 0.9505*c[2]) / 1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

func distance(a, b [3]float64) float64 {
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}
