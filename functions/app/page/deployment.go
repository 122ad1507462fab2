package page

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/functions/app/alert/standing"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

// hostRow is one host in a table.
type hostRow struct {
	Host    *model.Host
	Status  *model.HostStatus
	State   view.State
	Cluster *model.Cluster
}

// answers reports whether its last ping told numbers; those of an earlier one are not its present.
func (r *hostRow) answers() bool {
	return r.Status != nil && (r.Status.Reach == model.ReachUp || r.Status.Reach == model.ReachSlow)
}

// Lag is the replication lag as text, empty where there is none to speak of.
func (r *hostRow) Lag() string {
	if !r.answers() || r.Status.LagMS == nil {
		return ""
	}
	return view.Duration(time.Duration(*r.Status.LagMS) * time.Millisecond)
}

// Window is the oplog window as text.
func (r *hostRow) Window() string {
	if !r.answers() || r.Status.WindowSecs == nil {
		return ""
	}
	return view.Duration(time.Duration(*r.Status.WindowSecs) * time.Second)
}

// Uptime is the process's age as text.
func (r *hostRow) Uptime() string {
	if !r.answers() || r.Status.UptimeMS == 0 {
		return ""
	}
	return view.Duration(time.Duration(r.Status.UptimeMS) * time.Millisecond)
}

// Clock says how far the host's clock is from its agent's, when that is far enough to matter; else "".
func (r *hostRow) Clock() string { return view.ClockOff(r.clockOff()) }

// ClockWarns reports whether the clock is so far off that somebody should set it.
func (r *hostRow) ClockWarns() bool { return r.clockOff().Abs() >= rollup.SkewWarning }

func (r *hostRow) clockOff() time.Duration {
	if !r.answers() {
		return 0
	}
	return time.Duration(r.Status.SkewMS) * time.Millisecond
}

// Conns is the number of open connections as text.
func (r *hostRow) Conns() string {
	if !r.answers() {
		return ""
	}
	return view.Count(r.Status.Conns)
}

// LastPing is the time of the last ping it answered.
func (r *hostRow) LastPing() time.Time {
	if r.Status == nil {
		return time.Time{}
	}
	return r.Status.LastPing
}

// Since is when the state it is in began, zero where that is not known: a lag grows, it does not begin.
func (r *hostRow) Since() time.Time {
	switch s := r.Status; {
	case s == nil || r.State.Word == "lags":
		return time.Time{}
	case r.State.Word == "stale":
		return s.At
	case s.Reach != model.ReachUp:
		return s.ReachSince
	default:
		return s.StateSince
	}
}

// Waiting reports whether nothing has ever been heard of it.
func (r *hostRow) Waiting() bool { return r.Status == nil || r.Status.LastPing.IsZero() }

// clusterRows is a cluster with its members.
type clusterRows struct {
	Cluster *model.Cluster
	State   view.State
	Members []hostRow
	Shards  int // replica sets of a sharded cluster
}

// Primary is the member that takes writes, "" when none does.
func (c *clusterRows) Primary() string {
	for i := range c.Members {
		if s := c.Members[i].Status; s != nil && s.State == model.StatePrimary && c.Members[i].State.Level == view.OK {
			return c.Members[i].Host.Address()
		}
	}
	return ""
}

// Lag is the largest lag among the members.
func (c *clusterRows) Lag() string {
	var most time.Duration
	known := false
	for i := range c.Members {
		if s := c.Members[i].Status; c.Members[i].answers() && s.LagMS != nil {
			known, most = true, max(most, time.Duration(*s.LagMS)*time.Millisecond)
		}
	}
	if !known {
		return ""
	}
	return view.Duration(most)
}

// Name is what people call it.
func (c *clusterRows) Name() string { return clusterName(c.Cluster) }

func clusterName(c *model.Cluster) string {
	switch {
	case c.ShardName != "" && c.ShardName != c.Name && c.Type != model.ClusterSharded:
		return c.Name + " / " + c.ShardName
	case c.Name != "":
		return c.Name
	}
	return c.ReplicaSet
}

// Kind is the cluster's type in running text.
func (c *clusterRows) Kind() string { return clusterKind(c.Cluster) }

func clusterKind(c *model.Cluster) string {
	switch c.Type {
	case model.ClusterReplicaSet:
		if c.ParentID != "" {
			return "shard"
		}
		return "replica set"
	case model.ClusterConfigServers:
		return "config servers"
	case model.ClusterSharded, model.ClusterShardedStandalones:
	}
	return "sharded cluster"
}

// fleet is a group's hosts, judged.
type fleet struct {
	Rows      []hostRow       // visible hosts, in the order of their addresses
	Clusters  []model.Cluster // their names only
	Attention int
	Newest    time.Time // of all pings
}

// loadFleet reads a whole group at once: three range reads, side by side.
func (p *Pages) loadFleet(ctx context.Context, v *view.Visit) (*fleet, error) {
	var hosts []model.Host
	var statuses []model.HostStatus
	out := &fleet{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() (err error) { hosts, err = p.opt.Inventory.Hosts(ctx, v.Group.ID); return err })
	eg.Go(func() (err error) { statuses, err = p.opt.Inventory.Statuses(ctx, v.Group.ID); return err })
	eg.Go(func() (err error) { out.Clusters, err = p.opt.Inventory.ClusterNames(ctx, v.Group.ID); return err })
	if err := eg.Wait(); err != nil {
		return nil, fmt.Errorf("read the deployment: %w", err)
	}
	byHost := statusesByHost(statuses)
	clusters := make(map[model.ID]*model.Cluster, len(out.Clusters))
	for i := range out.Clusters {
		clusters[out.Clusters[i].ID] = &out.Clusters[i]
	}
	stale := view.StaleAfter(v.Group.Settings.PingSeconds)
	out.Rows = make([]hostRow, 0, len(hosts))
	for i := range hosts {
		h := &hosts[i]
		if !h.Visible() {
			continue
		}
		row := hostRow{Host: h, Status: byHost[h.ID], Cluster: clusters[h.ClusterID]}
		row.State = view.HostState(h, row.Status, v.Now, stale)
		if row.State.Attention() {
			out.Attention++
		}
		if row.Status != nil && row.Status.LastPing.After(out.Newest) {
			out.Newest = row.Status.LastPing
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

// sets arranges the rows by cluster; hosts of none come back apart.
func (f *fleet) sets() (sets []clusterRows, alone []hostRow) {
	at := make(map[model.ID]int, len(f.Clusters))
	sets = make([]clusterRows, len(f.Clusters))
	for i := range f.Clusters {
		at[f.Clusters[i].ID] = i
		sets[i].Cluster = &f.Clusters[i]
	}
	sizes := make([]int, len(sets))
	for i := range f.Rows {
		if n, ok := at[f.Rows[i].Host.ClusterID]; ok {
			sizes[n]++
		}
	}
	for i, n := range sizes {
		sets[i].Members = make([]hostRow, 0, n)
	}
	for i := range f.Rows {
		if n, ok := at[f.Rows[i].Host.ClusterID]; ok {
			sets[n].Members = append(sets[n].Members, f.Rows[i])
		} else {
			alone = append(alone, f.Rows[i])
		}
	}
	for i := range sets {
		sets[i].judge()
	}
	for i := range sets { // a sharded cluster is as well as its parts
		parent, ok := at[sets[i].Cluster.ParentID]
		if !ok || sets[i].Cluster.ParentID == "" {
			continue
		}
		top := &sets[parent]
		top.Shards++
		if s := sets[i].State; s.Level > top.State.Level {
			top.State = view.State{Level: s.Level, Word: s.Word, Why: sets[i].Name() + ": " + s.Why}
		}
	}
	return sets, alone
}

func (c *clusterRows) judge() {
	states := make([]view.State, 0, 8)
	for i := range c.Members {
		states = append(states, c.Members[i].State)
	}
	if c.Cluster.Type == model.ClusterSharded && len(states) == 0 {
		c.State = view.State{Level: view.OK, Word: "healthy"}
		return
	}
	c.State = view.SetState(c.Cluster, states, c.Primary() != "" || c.Cluster.Type == model.ClusterSharded)
}

// head is a column's title and link.
type head struct {
	Label, Href, Sort string
	Num               bool
}

type deploymentPage struct {
	View      string // "clusters" or "hosts"
	Query     string
	Only      bool // only what needs attention
	Fleet     *fleet
	Sets      []clusterRows
	Alone     []hostRow
	Hosts     []hostRow
	Heads     []head
	Pager     view.Pager
	Total     int
	Silent    bool // nothing has arrived for long
	Agents    []model.Agent
	NoCluster bool
	Open      standing.List
}

// deployment answers: are all members up, who is primary, who lags?
func (p *Pages) deployment(ctx context.Context, v *view.Visit) (view.Answer, error) {
	f, err := p.loadFleet(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := deploymentPage{View: v.Query("view"), Query: strings.TrimSpace(v.Query("q")), Only: v.Query("state") == "attention", Fleet: f, Total: len(f.Rows)}
	if d.View != "hosts" {
		d.View = "clusters"
	}
	if d.Agents, err = p.opt.Inventory.Agents(ctx, v.Group.ID); err != nil {
		return view.Answer{}, fmt.Errorf("read the agents: %w", err)
	}
	if d.Open, err = standing.Read(ctx, p.opt.Alerts, v, "", func(*model.Alert) bool { return true }); err != nil {
		return view.Answer{}, err
	}
	d.Silent = !f.Newest.IsZero() && v.Now.Sub(f.Newest) > view.StaleAfter(v.Group.Settings.PingSeconds)
	if d.View == "hosts" {
		d.hosts(v)
	} else {
		d.clusters(v)
	}
	return view.Answer{Template: "deployment.html", Title: "Deployment", Nav: "deployment", Data: &d}, nil
}

func (d *deploymentPage) hosts(v *view.Visit) {
	rows := make([]hostRow, 0, len(d.Fleet.Rows))
	q := strings.ToLower(d.Query)
	for _, r := range d.Fleet.Rows {
		if (d.Only && !r.State.Attention()) || !matches(r.Host, r.Cluster, q) {
			continue
		}
		rows = append(rows, r)
	}
	d.Heads = sortBy(v, rows, []column[hostRow]{
		{"name", "Host", false, nil, false},
		{"state", "State", false, func(a, b *hostRow) int { return cmp.Compare(b.State.Level, a.State.Level) }, true},
		{"set", "Replica set", false, func(a, b *hostRow) int { return strings.Compare(a.Host.ReplicaSet, b.Host.ReplicaSet) }, false},
		{"version", "Version", false, func(a, b *hostRow) int { return strings.Compare(a.Host.Version, b.Host.Version) }, false},
		{"uptime", "Uptime", true, func(a, b *hostRow) int { return cmp.Compare(number(a, uptime), number(b, uptime)) }, false},
		{"ping", "Last ping", false, func(a, b *hostRow) int { return b.LastPing().Compare(a.LastPing()) }, true},
		{"lag", "Lag", true, func(a, b *hostRow) int { return cmp.Compare(number(b, lag), number(a, lag)) }, true},
		{"conns", "Connections", true, func(a, b *hostRow) int { return cmp.Compare(number(b, conns), number(a, conns)) }, true},
		{"data", "Data", true, func(a, b *hostRow) int { return cmp.Compare(b.Host.LastDataBytes, a.Host.LastDataBytes) }, true},
	}, func(a, b *hostRow) int { return cmp.Compare(b.State.Level, a.State.Level) })
	d.Hosts, d.Pager = view.Paged(v, rows)
}

func (d *deploymentPage) clusters(v *view.Visit) {
	sets, alone := d.Fleet.sets()
	q := strings.ToLower(d.Query)
	kept := sets[:0]
	for i := range sets {
		s := &sets[i]
		hit := q == "" || strings.Contains(strings.ToLower(s.Name()), q)
		for k := range s.Members {
			hit = hit || matches(s.Members[k].Host, nil, q)
		}
		if hit && (!d.Only || s.State.Attention()) {
			kept = append(kept, *s)
		}
	}
	d.Heads = sortBy(v, kept, []column[clusterRows]{
		{"name", "Cluster", false, func(a, b *clusterRows) int { return strings.Compare(a.Name(), b.Name()) }, false},
		{"state", "State", false, func(a, b *clusterRows) int { return cmp.Compare(b.State.Level, a.State.Level) }, true},
		{"", "Version", false, nil, false},
		{"", "Uptime", true, nil, false},
		{"", "Last ping", false, nil, false},
		{"", "Lag", true, nil, false},
		{"", "Oplog window", true, nil, false},
		{"", "Connections", true, nil, false},
	}, func(a, b *clusterRows) int {
		return cmp.Or(cmp.Compare(b.State.Level, a.State.Level), strings.Compare(a.Name(), b.Name()))
	})
	// A page is cut by hosts, not by clusters: a cluster stays whole, and the first that would not fit opens the next page.
	for i := range alone {
		if matches(alone[i].Host, nil, q) && (!d.Only || alone[i].State.Attention()) {
			d.Alone = append(d.Alone, alone[i])
		}
	}
	n, rows, at := max(1, atoi(v.Query("page"))), 0, 1
	d.Pager.Total = len(kept)
	for i := range kept {
		size := len(kept[i].Members) + 1
		if rows > 0 && rows+size > view.PageRows {
			at, rows = at+1, 0
		}
		rows += size
		if at == n {
			if len(d.Sets) == 0 {
				d.Pager.From = i + 1
			}
			d.Sets, d.Pager.To = append(d.Sets, kept[i]), i+1
		}
	}
	if n > 1 {
		d.Pager.Prev = v.Link("page", strconv.Itoa(n-1))
	}
	if at > n {
		d.Pager.Next, d.Alone = v.Link("page", strconv.Itoa(n+1)), nil
	}
	if len(d.Alone) > view.PageRows {
		d.Alone, d.NoCluster = d.Alone[:view.PageRows], true
	}
}

func matches(h *model.Host, c *model.Cluster, q string) bool {
	return q == "" || strings.Contains(strings.ToLower(h.Address()), q) ||
		strings.Contains(strings.ToLower(h.ReplicaSet), q) || c != nil && strings.Contains(strings.ToLower(clusterName(c)), q)
}

// column is a sortable column: its name in the URL, its title, and the order of its values.
type column[T any] struct {
	Name, Label string
	Num         bool
	Compare     func(a, b *T) int // nil with a name: the order rows come in
	Most        bool              // Compare puts the largest first, as people look for it
}

// sortBy orders rows as the URL says, else by the usual order, and returns the heads with their links. Clicking the
// current column turns its order round.
func sortBy[T any](v *view.Visit, rows []T, columns []column[T], usual func(a, b *T) int) []head {
	by, down := v.Query("sort"), v.Query("dir") == "desc"
	heads := make([]head, 0, len(columns))
	chosen := false
	for _, c := range columns {
		h := head{Label: c.Label, Num: c.Num}
		if c.Name != "" {
			h.Href = v.Link("sort", c.Name, "dir", "", "page", "")
		}
		if c.Name != "" && c.Name == by {
			chosen = true
			h.Sort = "ascending"
			if down != c.Most {
				h.Sort = "descending"
			}
			if !down {
				h.Href = v.Link("sort", c.Name, "dir", "desc", "page", "")
			}
			order(rows, c.Compare, down)
		}
		heads = append(heads, h)
	}
	if !chosen {
		order(rows, usual, false)
	}
	return heads
}

// order sorts places and moves each row once: rows are large, and there may be ten thousand.
func order[T any](rows []T, compare func(a, b *T) int, down bool) {
	if compare != nil {
		places := make([]int, len(rows))
		for i := range places {
			places[i] = i
		}
		slices.SortFunc(places, func(a, b int) int { return cmp.Or(compare(&rows[a], &rows[b]), cmp.Compare(a, b)) })
		sorted := make([]T, len(rows))
		for i, at := range places {
			sorted[i] = rows[at]
		}
		copy(rows, sorted)
	}
	if down {
		slices.Reverse(rows)
	}
}

func number(r *hostRow, of func(*model.HostStatus) int64) int64 {
	if r.Status == nil {
		return -1
	}
	return of(r.Status)
}

func uptime(s *model.HostStatus) int64 { return s.UptimeMS }
func conns(s *model.HostStatus) int64  { return s.Conns }
func lag(s *model.HostStatus) int64 {
	if s.LagMS == nil {
		return -1
	}
	return *s.LagMS
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
