package alertedit

import (
	"context"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/alert/sketch"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

// tried is what a setting would have done, ready to be shown.
type tried struct {
	trial.Trial
	Days     int
	Group    string
	Channels []count
	Whom     []count // recipients
	Pictures []picture
	Hidden   int // targets with alerts that have no picture
	Openings []opening
	More     int // openings that are not listed
}

type count struct {
	Name string
	N    int
}

type picture struct {
	Name, Path string
	SVG        template.HTML
	Opened     int
}

type opening struct {
	trial.Span
	About string
	Path  string
	Worst string
	Told  string
	Kinds string
}

// Bounds of what is shown of a trial.
const (
	maxPictures = 8
	maxOpenings = 100
)

// try asks what the draft would have done over the last days, in the group at hand or, for a global setting, in a chosen one.
func (p *Pages) try(ctx context.Context, v *view.Visit, f *facts, d *draft, days, in string) (*tried, error) {
	n := map[string]int{"1": 1, "7": 7, "30": 30}[days]
	if n == 0 {
		return nil, view.BadRequest("It can be tried on 1, 7 or 30 days.")
	}
	g := v.Group
	if g == nil {
		for i := range v.Groups {
			if d.Config.Covers(&v.Groups[i]) && (g == nil || string(v.Groups[i].ID) == in) {
				g = &v.Groups[i]
			}
		}
		if g == nil {
			return nil, view.BadRequest("The setting covers no group: choose one to try it on.")
		}
	}
	c := d.Config
	c.Enabled = true
	c.Notifications = slices.Clone(c.Notifications)
	for i := range c.Notifications {
		c.Notifications[i] = filled(f, c.Notifications[i])
		if c.Notifications[i].ID == "" {
			c.Notifications[i].ID = model.DeriveID("draft", fmt.Sprint(i))
		}
	}
	got, err := p.opt.Trial.Try(ctx, *g, c, n)
	if err != nil {
		return nil, fmt.Errorf("try the setting on history: %w", err)
	}
	return show(v, got, n, g), nil
}

func show(v *view.Visit, got trial.Trial, days int, g *model.Group) *tried {
	t := &tried{Trial: got, Days: days}
	if v.Group == nil {
		t.Group = g.Name
	}
	for name, n := range got.Count {
		t.Channels = append(t.Channels, count{words.Channel(name), n})
	}
	whom := map[string]int{}
	home := "/g/" + string(g.ID)
	for i := range got.Targets {
		one := &got.Targets[i]
		name, path := words.Target(&one.Target), alert.PathOf(home, &one.Target)
		opened := 0
		for _, s := range one.Spans {
			if s.Opened.IsZero() {
				continue
			}
			opened++
			for _, n := range s.Notifications {
				whom[strings.TrimSpace(words.Channel(n.Channel)+" "+n.Recipient)]++
			}
			if len(t.Openings) < maxOpenings {
				t.Openings = append(t.Openings, opening{Span: s, About: name, Path: path, Worst: words.Reading(s.Worst, ""), Told: told(s)})
			} else {
				t.More++
			}
		}
		switch {
		case len(one.Spans) == 0 && len(one.Values) == 0:
		case len(t.Pictures) == maxPictures && opened > 0:
			t.Hidden++
		case len(t.Pictures) < maxPictures:
			t.Pictures = append(t.Pictures, picture{Name: name, Path: path, SVG: draw(v, got, one), Opened: opened})
		}
	}
	for name, n := range whom {
		t.Whom = append(t.Whom, count{name, n})
	}
	most := func(a, b count) int {
		if a.N != b.N {
			return b.N - a.N
		}
		return strings.Compare(a.Name, b.Name)
	}
	slices.SortFunc(t.Channels, most)
	slices.SortFunc(t.Whom, most)
	slices.SortStableFunc(t.Openings, func(a, b opening) int { return b.Opened.Compare(a.Opened) })
	return t
}

func told(s trial.Span) string {
	if s.Muted != "" {
		return "nobody: " + s.Muted
	}
	n := len(s.Notifications) + s.More
	if n == 0 {
		return "nobody"
	}
	return view.Count(int64(n)) + map[bool]string{true: " notification", false: " notifications"}[n == 1]
}

func draw(v *view.Visit, got trial.Trial, one *trial.TargetTrial) template.HTML {
	d := sketch.Drawing{
		Label: "History of " + words.Target(&one.Target), From: got.From, To: got.To, Zone: v.Zone, Times: one.Times, Values: one.Values, Threshold: one.Threshold,
		Amount: func(x float64) string { return words.Number(x, one.Units, "") },
	}
	for _, s := range one.Spans {
		d.Spans = append(d.Spans, sketch.Span{Since: s.Since, Opened: s.Opened, Closed: s.Closed})
	}
	return d.SVG()
}
