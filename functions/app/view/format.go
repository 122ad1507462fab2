package view

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/web"
)

// Duration is a span for people: two significant steps at most, never a false precision.
func Duration(d time.Duration) string {
	switch s := int64(math.Round(d.Seconds())); {
	case d < time.Second && d > 0:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case s < 120:
		return strconv.FormatInt(s, 10) + " s"
	case s < 2*3600:
		return strconv.FormatInt(s/60, 10) + " min"
	case s < 48*3600:
		return strconv.FormatInt(s/3600, 10) + " h"
	default:
		return strconv.FormatInt(s/86400, 10) + " d"
	}
}

// Bytes is a size in units of 1,024.
func Bytes(n float64) string {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for math.Abs(n) >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return number(n) + " " + units[i]
}

// Measure is a measurement's value in its unit (metrics.md 2.1), scaled for reading. NaN is a dash.
func Measure(v float64, unit string) string {
	if math.IsNaN(v) {
		return "–"
	}
	switch unit {
	case "PERCENT":
		return number(v) + " %"
	case "MILLISECONDS":
		return number(v) + " ms"
	case "SECONDS":
		if math.Abs(v) < 120 {
			return number(v) + " s"
		}
		return Duration(time.Duration(v * float64(time.Second)))
	case "BYTES":
		return Bytes(v)
	case "KILOBYTES":
		return Bytes(v * 1024)
	case "MEGABYTES":
		return Bytes(v * 1024 * 1024)
	case "GIGABYTES":
		return Bytes(v * 1024 * 1024 * 1024)
	case "BYTES_PER_SECOND":
		return Bytes(v) + "/s"
	case "MEGABYTES_PER_SECOND":
		return Bytes(v*1024*1024) + "/s"
	case "GIGABYTES_PER_HOUR":
		return number(v) + " GB/h"
	case "SCALAR_PER_SECOND":
		return number(v) + "/s"
	}
	return number(v)
}

// UnitLabel is a unit beside a chart's title.
func UnitLabel(unit string) string {
	switch unit {
	case "PERCENT":
		return "%"
	case "MILLISECONDS":
		return "ms"
	case "SECONDS":
		return "time"
	case "SCALAR_PER_SECOND":
		return "per second"
	case "BYTES", "KILOBYTES", "MEGABYTES", "GIGABYTES":
		return "bytes"
	case "BYTES_PER_SECOND", "MEGABYTES_PER_SECOND":
		return "bytes per second"
	case "GIGABYTES_PER_HOUR":
		return "GB per hour"
	}
	return ""
}

func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e15:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case a >= 10000:
		return thousands(int64(math.Round(v)))
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.01:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
}

// Count is a whole number with its thousands set apart.
func Count(n int64) string { return thousands(n) }

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

// Middle shortens a long name in its middle: both ends of a host name tell hosts apart.
func Middle(s string, limit int) string {
	r := []rune(s)
	if len(r) <= limit || limit < 5 {
		return s
	}
	tail := limit * 2 / 5
	return string(r[:limit-1-tail]) + "…" + string(r[len(r)-tail:])
}

// short is a name that fits its place. The whole of it is in the title, and the page's script copies that.
func short(s string) template.HTML {
	cut := Middle(s, 48)
	if cut == s {
		return template.HTML(template.HTMLEscapeString(s)) //nolint:gosec // escaped here
	}
	return template.HTML(`<span class="cut" title="` + template.HTMLEscapeString(s) + `">` + template.HTMLEscapeString(cut) + `</span>`) //nolint:gosec // escaped here
}

// At is a moment in the viewer's zone.
func (v *Visit) At(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.In(v.Zone).Format("2006-01-02 15:04:05")
}

// Both is a moment in the viewer's zone and in UTC, for titles.
func (v *Visit) Both(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if v.Zone == time.UTC {
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return t.In(v.Zone).Format("2006-01-02 15:04:05 MST") + " (" + t.UTC().Format("15:04:05") + " UTC)"
}

// Stamp is a moment as a time element with both readings in its title.
func (v *Visit) Stamp(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="muted">never</span>`
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, //nolint:gosec // digits and zone names only
		t.UTC().Format(time.RFC3339), template.HTMLEscapeString(v.Both(t)), template.HTMLEscapeString(v.At(t))))
}

// Ago is a moment as its distance from now, ticking in the browser, with the absolute time in its title.
func (v *Visit) Ago(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="muted">never</span>`
	}
	var b strings.Builder
	b.WriteString(`<time data-ago="`)
	b.WriteString(strconv.FormatInt(t.UnixMilli(), 10))
	b.WriteString(`" title="`)
	b.WriteString(template.HTMLEscapeString(v.Both(t)))
	b.WriteString(`">`)
	b.WriteString(Duration(max(0, v.Now.Sub(t)).Truncate(time.Second)))
	b.WriteString(` ago</time>`)
	return template.HTML(b.String()) //nolint:gosec // made of digits and escaped zone names
}

// Theme is the page's chosen theme, "" for the system's.
func (v *Visit) Theme() string {
	if v.User != nil && (v.User.Prefs.Theme == "light" || v.User.Prefs.Theme == "dark") {
		return v.User.Prefs.Theme
	}
	return ""
}

// Who is the visitor's name in the top bar.
func (v *Visit) Who() string {
	if v.User == nil {
		return ""
	}
	if name := strings.TrimSpace(v.User.FirstName + " " + v.User.LastName); name != "" {
		return name
	}
	return v.User.Username
}

// Unix is the server's clock for scripts, in milliseconds.
func (v *Visit) Unix() int64 { return v.Now.UnixMilli() }

func funcs(assets *web.Assets) template.FuncMap {
	return template.FuncMap{
		"static":   assets.URL,
		"st":       badge,
		"short":    short,
		"bytes":    func(n float64) string { return Bytes(n) },
		"size":     func(n int64) string { return Bytes(float64(n)) },
		"dur":      Duration,
		"secs":     func(n int64) string { return Duration(time.Duration(n) * time.Second) },
		"millis":   func(n int64) string { return Duration(time.Duration(n) * time.Millisecond) },
		"count":    thousands,
		"int":      func(n int) string { return thousands(int64(n)) },
		"unit":     func(u catalog.Unit) string { return UnitLabel(string(u)) },
		"field":    newField,
		"list":     func(v ...any) []any { return v },
		"typeWord": TypeWord,
		"reason":   Right.Reason,
		"right": func(name string) Right {
			return map[string]Right{"hosts": ManageHosts, "keys": ManageKeys, "alerts": EditAlerts}[name]
		},
		"add": func(a, b int) int { return a + b },
	}
}

// badge is a state's shape and word; the sentence goes into the title.
func badge(s State) template.HTML {
	title := ""
	if s.Why != "" {
		title = ` title="` + template.HTMLEscapeString(s.Why) + `"`
	}
	return template.HTML(`<span class="st ` + s.Level.Class() + `"` + title + `><span class="word">` + //nolint:gosec // escaped here
		template.HTMLEscapeString(s.Word) + `</span></span>`)
}

// TypeWord is a process type in running text.
func TypeWord(t model.ProcessType) string {
	switch t {
	case model.TypeReplicaPrimary, model.TypeReplicaSecondary, model.TypeRecovering:
		return "replica set member"
	case model.TypeReplicaArbiter:
		return "arbiter"
	case model.TypeStandalone:
		return "standalone"
	case model.TypeShardMongos:
		return "mongos"
	case model.TypeShardConfig:
		return "config server"
	case model.TypeShardPrimary, model.TypeShardSecondary, model.TypeShardStandalone:
		return "shard member"
	case model.TypeNoData:
	}
	return "not reached yet"
}

// For is how long something has lasted, with its begin in the title.
func (v *Visit) For(since time.Time) template.HTML {
	if since.IsZero() {
		return ""
	}
	return template.HTML(`<span title="since ` + template.HTMLEscapeString(v.Both(since)) + `">` + //nolint:gosec // escaped here
		Duration(max(0, v.Now.Sub(since)).Truncate(time.Second)) + `</span>`)
}

// ClockOff says how far a clock is ahead or behind; "" while that is too little to matter (metrics.md 3.4: 2 s).
func ClockOff(off time.Duration) string {
	switch {
	case off.Abs() < rollup.SkewShown:
		return ""
	case off < 0:
		return "clock " + Duration(-off) + " behind"
	}
	return "clock " + Duration(off) + " ahead"
}
