package page

import (
	"context"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
)

type hit struct{ Text, Note, Href string }

type searchPage struct {
	Query    string
	Clusters []hit
	Hosts    []hit
	Pages    []hit
	More     bool
}

// maxFound bounds the hosts of a search: who sees this many narrows it down.
const maxFound = 20

// search looks through the hosts and clusters of the groups at hand, and the pages and actions.
func (p *Pages) search(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d := searchPage{Query: strings.TrimSpace(v.Query("q"))}
	answer := view.Answer{Template: "search.html", Title: "Search", Data: &d}
	if d.Query == "" {
		return answer, nil
	}
	q := strings.ToLower(d.Query)
	here := v.Query("group")
	for i := range v.Groups {
		g := &v.Groups[i]
		base := "/g/" + string(g.ID)
		if here == "" || here == string(g.ID) {
			for _, pg := range []hit{
				{"Deployment", g.Name, base + "/deployment"},
				{"Hosts", g.Name, base + "/deployment?view=hosts"},
				{"Needs attention", g.Name, base + "/deployment?view=hosts&state=attention"},
				{"Backup", g.Name, base + "/backup"},
				{"Restores of backups", g.Name, base + "/backup-restores"},
				{"Activity", g.Name, base + "/activity"},
				{"Agents", g.Name, base + "/agents"},
				{"Install an agent", g.Name, base + "/agents#install"},
				{"Install a backup agent", g.Name, base + "/agents#install-backup"},
				{"Settings", g.Name, base + "/settings"},
				{"Add a host", g.Name, base + "/settings/hosts"},
				{"Agent API keys", g.Name, base + "/settings/agent-keys"},
				{"Programmatic API keys", g.Name, base + "/settings/api-keys"},
			} {
				if strings.Contains(strings.ToLower(pg.Text), q) {
					d.Pages = append(d.Pages, pg)
				}
			}
		}
		if strings.Contains(strings.ToLower(g.Name), q) {
			d.Pages = append(d.Pages, hit{g.Name, "group", base + "/deployment"})
		}
		clusters, err := p.opt.Inventory.ClusterNames(ctx, g.ID)
		if err != nil {
			return view.Answer{}, fmt.Errorf("search clusters: %w", err)
		}
		for k := range clusters {
			if name := clusterName(&clusters[k]); strings.Contains(strings.ToLower(name), q) && len(d.Clusters) < maxFound {
				d.Clusters = append(d.Clusters, hit{name, clusterKind(&clusters[k]) + ", " + g.Name, base + "/clusters/" + string(clusters[k].ID)})
			}
		}
		hosts, err := p.opt.Inventory.Hosts(ctx, g.ID)
		if err != nil {
			return view.Answer{}, fmt.Errorf("search hosts: %w", err)
		}
		for k := range hosts {
			h := &hosts[k]
			if !h.Visible() || !matches(h, nil, q) {
				continue
			}
			if len(d.Hosts) == maxFound {
				d.More = true
				break
			}
			d.Hosts = append(d.Hosts, hit{h.Address(), strings.TrimSpace(h.ReplicaSet + ", " + g.Name), base + "/hosts/" + string(h.ID)})
		}
	}
	for _, pg := range []hit{{"Account", "you", "/account"}, {"Change password", "you", "/account#password"}, {"Theme and time zone", "you", "/account#preferences"}, {"Sign-ins", "you", "/account#sessions"}} {
		if strings.Contains(strings.ToLower(pg.Text), q) {
			d.Pages = append(d.Pages, pg)
		}
	}
	if v.SeesSite() && strings.Contains("admin backup daemons block stores", q) {
		d.Pages = append(d.Pages, hit{"Backup daemons and block stores", "site", "/admin/backup"})
	}
	if v.SeesSite() && strings.Contains("admin servers passes version", q) {
		d.Pages = append(d.Pages, hit{"Admin", "site", "/admin"})
	}
	return answer, nil
}
