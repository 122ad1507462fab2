// Package standing is the list of open alerts at the top of pages about something else: a deployment, a cluster, a host.
package standing

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Alerts are those that are open now.
type Alerts interface {
	LiveAlerts(ctx context.Context, group model.ID) ([]alerting.Live, error)
}

// Row is an alert as the pages of what is monitored show it.
type Row struct {
	Href  string
	Text  string
	About string
	State view.State
	Since time.Time
	Taken string // who has taken it on
}

// List is what is shown at the top of a page.
type List struct {
	Rows []Row
	More int // open ones that are not listed
	All  string
}

const maxOpen = 5

// Read reads the open alerts of the group that fit: those nobody has taken on first, then the newest.
func Read(ctx context.Context, from Alerts, v *view.Visit, filter string, fits func(*model.Alert) bool) (List, error) {
	out := List{All: v.GroupPath("/alerts?state=open" + filter)}
	live, err := from.LiveAlerts(ctx, v.Group.ID)
	if err != nil {
		return out, fmt.Errorf("read the open alerts: %w", err)
	}
	var found []model.Alert
	for i := range live {
		if a := &live[i].Alert; a.Status == model.AlertOpen && fits(a) {
			found = append(found, *a)
		}
	}
	slices.SortStableFunc(found, func(a, b model.Alert) int {
		if x, y := a.Acknowledged(v.Now), b.Acknowledged(v.Now); x != y {
			return map[bool]int{true: 1, false: -1}[x]
		}
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID))
	})
	for i := range found {
		if i == maxOpen {
			out.More = len(found) - maxOpen
			break
		}
		a := &found[i]
		row := Row{
			Href: v.GroupPath("/alerts/" + string(a.ID)), Text: words.Condition(&a.Rule), About: words.Target(&a.Target), State: words.State(a, v.Now), Since: a.Since,
		}
		if a.Acknowledged(v.Now) {
			row.Taken = a.AckBy
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

// OfHost reads those of one host.
func OfHost(ctx context.Context, from Alerts, v *view.Visit, id model.HostID) (List, error) {
	return Read(ctx, from, v, "&host="+string(id), func(a *model.Alert) bool { return a.Target.HostID == id })
}

// OfCluster reads those of a cluster and its members.
func OfCluster(ctx context.Context, from Alerts, v *view.Visit, id model.ID) (List, error) {
	return Read(ctx, from, v, "&cluster="+string(id), func(a *model.Alert) bool { return a.Target.ClusterID == id })
}

// Maker is where a setting about something is made, or why the reader cannot.
type Maker struct{ To, Why string }

// NewMaker is for a thing by its kind ("host", "set") and name.
func NewMaker(v *view.Visit, kind, name string) Maker {
	if !v.May(view.EditAlerts) {
		return Maker{Why: "You cannot do this: " + view.EditAlerts.Reason()}
	}
	return Maker{To: v.GroupPath("/alert-settings/new?" + url.Values{kind: {name}}.Encode())}
}
