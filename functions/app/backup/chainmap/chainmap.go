// Package chainmap draws what of a backup can be restored.
package chainmap

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// The picture's coordinates. It is scaled to the page's width; texts are beside it, not in it.
const (
	mapWidth  = 1000.0
	mapHeight = 56
	barTop    = 22
	barHeight = 14
)

// Draw draws what can be restored on an axis of time: bars are oplog from which any second can be restored, marks are snapshots,
// hatched parts are holes, each named by its title.
func Draw(v *view.Visit, ranges []snapshot.Range, holes []snapshot.Hole, shots []backup.Snapshot) template.HTML {
	var from, to time.Time
	extend := func(at time.Time) {
		if at.IsZero() {
			return
		}
		if from.IsZero() || at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	at := func(t uint32) time.Time { return time.Unix(int64(t), 0).UTC() }
	for _, r := range ranges {
		extend(at(r.From.T))
		extend(at(r.To.T))
	}
	for i := range shots {
		extend(shots[i].At)
	}
	if from.IsZero() {
		return ""
	}
	if to.Sub(from) < time.Minute {
		from = to.Add(-time.Minute)
	}
	x := func(t time.Time) float64 { return 8 + (mapWidth-16)*float64(t.Sub(from))/float64(to.Sub(from)) }
	var b strings.Builder
	title := func(format string, args ...any) string {
		return "<title>" + template.HTMLEscapeString(fmt.Sprintf(format, args...)) + "</title>"
	}
	fmt.Fprintf(&b, `<svg class="chain" viewBox="0 0 %.0f %d" preserveAspectRatio="none" role="img" aria-label="What can be restored, from %s to %s">`,
		mapWidth, mapHeight, template.HTMLEscapeString(v.At(from)), template.HTMLEscapeString(v.At(to)))
	fmt.Fprintf(&b, `<rect class="axis" x="8" y="%d" width="%.0f" height="1"/>`, barTop+barHeight/2, mapWidth-16)
	for _, r := range ranges {
		a, z := x(at(r.From.T)), x(at(r.To.T))
		fmt.Fprintf(&b, `<rect class="oplog" x="%.1f" y="%d" width="%.1f" height="%d" rx="2">%s</rect>`, a, barTop, max(2, z-a), barHeight,
			title("Any second from %s to %s", v.At(at(r.From.T)), v.At(at(r.To.T))))
	}
	for _, h := range holes {
		a, z := x(at(h.From.T)), x(at(h.To.T))
		fmt.Fprintf(&b, `<rect class="hole" x="%.1f" y="%d" width="%.1f" height="%d">%s</rect>`, a, barTop+3, max(2, z-a), barHeight-6,
			title("Not restorable from %s to %s: %s", v.At(at(h.From.T)), v.At(at(h.To.T)), h.Why))
	}
	making, bad := false, false
	for i := range shots {
		s := &shots[i]
		class := "shot"
		switch {
		case !s.Complete:
			class, making = "shot making", true
		case s.VerifyError != "":
			class, bad = "shot bad", true
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%d" width="4" height="%d" rx="1">%s</rect>`, class, x(s.At)-2, barTop-10, barHeight+20, title("Snapshot of %s", v.At(s.At)))
	}
	b.WriteString("</svg>")
	key := []struct{ class, text string }{{"oplog", "any second"}, {"shot", "snapshot"}}
	if making {
		key = append(key, struct{ class, text string }{"shot making", "snapshot being taken"})
	}
	if bad {
		key = append(key, struct{ class, text string }{"shot bad", "damaged snapshot"})
	}
	if len(holes) > 0 {
		key = append(key, struct{ class, text string }{"hole", "not restorable"})
	}
	fmt.Fprintf(&b, `<div class="chain-ends"><span>%s</span><span>%s</span></div>`, template.HTMLEscapeString(v.At(from)), template.HTMLEscapeString(v.At(to)))
	b.WriteString(`<p class="chain-key">`)
	for _, k := range key {
		fmt.Fprintf(&b, `<span><i class="%s" aria-hidden="true"></i>%s</span>`, k.class, k.text)
	}
	b.WriteString("</p>")
	return template.HTML(b.String()) //nolint:gosec // every text is escaped above
}
