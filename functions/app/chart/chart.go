// Package chart answers the scripts that draw: the numbers of a host's or a cluster's charts with the marks that explain
// them, as compact JSON or CSV. Which charts there are is the catalogue's business (shared/catalog), how numbers are
// derived and rolled up the series store's.
package chart

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Series is what charts need of the series area.
type Series interface {
	Read(ctx context.Context, q series.Query) (series.Result, error)
	Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error)
}

// Inventory is what charts need of the inventory area.
type Inventory interface {
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
}

// Events is what charts need of the alerting area.
type Events interface {
	Events(ctx context.Context, q alerting.EventQuery) (events []model.Event, next string, err error)
}

// Options are what the charts need from outside.
type Options struct {
	Inventory Inventory
	Events    Events
	Series    Series
	Rules     Rules // thresholds of alerts; nil: none are drawn
}

// Charts answers for the numbers of charts.
type Charts struct{ opt Options }

// New checks the options.
func New(o Options) (*Charts, error) {
	if o.Inventory == nil || o.Events == nil || o.Series == nil {
		return nil, errors.New("chart options: Inventory, Events and Series are needed")
	}
	return &Charts{o}, nil
}

// Limits of one request: a page asks for more charts in several.
const (
	maxCharts  = 40
	maxMarks   = 300
	maxMembers = 50
)

// Line is one line of a chart.
type Line struct {
	Name   string
	Colour int // index into the palette
	Values []float64
	Unit   catalog.Unit // where it is not the chart's: requests beside bytes
}

// Drawn is one chart with its numbers.
type Drawn struct {
	ID      string
	Unit    catalog.Unit
	Stacked bool
	Percent bool
	Why     string // why it may well be empty
	Lines   []Line
	Limits  []Limit
}

// Answer is what a script gets.
type Answer struct {
	Start  time.Time
	Step   time.Duration
	N      int
	Charts []Drawn
	Marks  []model.Mark
}

// Host answers GET /g/{group}/hosts/{id}/series?charts=…&from=…&to=…&step=…&db=…&disk=…&format=….
func (c *Charts) Host(ctx context.Context, v *view.Visit, w http.ResponseWriter) error {
	h, err := c.opt.Inventory.Host(ctx, v.Group.ID, model.HostID(v.Request.PathValue("id")))
	if errors.Is(err, docstore.ErrNotFound) {
		return view.NotFound("host")
	}
	if err != nil {
		return fmt.Errorf("read the host: %w", err)
	}
	var charts []catalog.Chart
	for _, id := range ids(v) {
		ch, ok := find(h.Type, id)
		if !ok {
			return view.BadRequest("There is no chart " + id + " for this host.")
		}
		charts = append(charts, ch)
	}
	step, err := stepOf(v)
	if err != nil {
		return err
	}
	out, err := c.host(ctx, &h, charts, WindowOf(v), step, v.Query)
	if err != nil {
		return err
	}
	rules, about, err := c.rules(ctx, v, []model.Host{h})
	if err != nil {
		return err
	}
	for i := range charts {
		out.Charts[i].Limits = limits(rules, charts[i].Measurements, charts[i].Stacked)
	}
	if about != nil {
		out.Marks = withLife(out.Marks, about)
	}
	return out.write(w, v, h.Hostname)
}

func find(t model.ProcessType, id string) (catalog.Chart, bool) {
	if ch, ok := SingleChart(id); ok {
		return ch, true
	}
	for _, ch := range catalog.Charts(t) {
		if ch.ID == id {
			return ch, true
		}
	}
	return catalog.Chart{}, false
}

func ids(v *view.Visit) []string {
	var out []string
	for id := range strings.SplitSeq(v.Query("charts"), ",") {
		if id = strings.TrimSpace(id); id != "" && !slices.Contains(out, id) && len(out) < maxCharts {
			out = append(out, id)
		}
	}
	return out
}

// stepOf is the step a script asks for, so that added points join the ones it has; 0 leaves the choice to the store.
func stepOf(v *view.Visit) (time.Duration, error) {
	switch s := v.Query("step"); s {
	case "":
		return 0, nil
	case "10", "60", "300", "3600", "86400":
		d, err := time.ParseDuration(s + "s")
		return d, err
	default:
		return 0, view.BadRequest("The step is one of 10, 60, 300, 3600 and 86400 seconds.")
	}
}

// host reads all charts about one thing at once: they share the stored rows.
func (c *Charts) host(ctx context.Context, h *model.Host, charts []catalog.Chart, win Window, step time.Duration, chosen func(name string) string) (*Answer, error) {
	out := &Answer{Charts: make([]Drawn, len(charts))}
	for _, about := range Abouts() {
		var names []string
		for i := range charts {
			if AboutOf(&charts[i]) == about {
				names = append(names, charts[i].Measurements...)
			}
		}
		if len(names) == 0 {
			continue
		}
		dim := ""
		if about != AboutProcess {
			dim = chosen(string(about))
		}
		if about != AboutProcess && dim == "" {
			all, err := c.opt.Series.Dimensions(ctx, h.ID, about.scope())
			if err != nil {
				return nil, fmt.Errorf("read the names of %ss: %w", about, err)
			}
			_, dim = about.Choose(all, "")
		}
		var lines map[string][]float64
		if about == AboutProcess || dim != "" {
			got, err := c.opt.Series.Read(ctx, series.Query{Host: h.ID, Measurements: unique(names), Dimension: dim, From: win.From, To: win.To, Step: step})
			if err != nil {
				return nil, readError(h.Address(), err)
			}
			step = got.Step // one step for the whole answer
			lines = out.frame(got)
		}
		for i, ch := range charts {
			if AboutOf(&ch) == about {
				out.Charts[i] = draw(ch, lines)
				if why := notHere(h, ch.ID); why != "" {
					out.Charts[i].Why = why
				}
			}
		}
	}
	marks, err := c.marks(ctx, alerting.EventQuery{GroupID: h.GroupID, HostID: h.ID, From: win.From, To: win.To, Types: markTypes(), Limit: maxMarks}, nil)
	out.Marks = marks
	return out, err
}

// frame takes the times of a result for the answer and returns its lines by name.
func (a *Answer) frame(r series.Result) map[string][]float64 {
	if len(r.Times) > 0 || a.Step == 0 {
		a.Step, a.N = r.Step, len(r.Times)
		if a.N > 0 {
			a.Start = r.Times[0]
		}
	}
	out := make(map[string][]float64, len(r.Lines))
	for _, l := range r.Lines {
		out[l.Name] = l.Values
	}
	return out
}

func draw(ch catalog.Chart, lines map[string][]float64) Drawn {
	d := Drawn{ID: ch.ID, Unit: ch.Unit, Stacked: ch.Stacked, Percent: ch.Percent}
	for i, name := range ch.Measurements {
		l := Line{Name: lineName(name, ch), Colour: i, Values: lines[name]}
		if m, ok := catalog.Find(name); ok && m.Unit != ch.Unit {
			l.Unit = m.Unit
		}
		d.Lines = append(d.Lines, l)
	}
	switch ch.Scope {
	case catalog.Database:
		d.Why = "No database statistics in this range: they are read every 20 minutes."
	case catalog.Disk:
		d.Why = "No disk data in this range: it comes with getDiagnosticData, from an agent that may run it."
	case catalog.Process:
		if ch.Tab == catalog.TabHardware {
			d.Why = "No hardware data in this range: it comes with getDiagnosticData, from an agent that may run it."
		}
	}
	return d
}

// notHere says of charts that only one role of a replica set fills why they are empty on the other.
func notHere(h *model.Host, id string) string {
	primary := h.Type == model.TypeReplicaPrimary || h.Type == model.TypeShardPrimary
	switch id {
	case "replication-lag", "replication-headroom":
		if primary {
			return "This member is primary: lag is measured on secondaries."
		}
	case "oplog-rate":
		if h.Type == model.TypeReplicaSecondary || h.Type == model.TypeShardSecondary {
			return "This member is secondary: the primary generates the oplog."
		}
	}
	return ""
}

// lineName is a measurement's name in its chart.
func lineName(name string, ch catalog.Chart) string {
	if m, ok := catalog.Find(name); ok && m.Series != "" {
		return m.Series
	}
	if len(ch.Measurements) == 1 {
		return strings.ToLower(ch.Title)
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// markTypes are the events that explain a line.
func markTypes() []model.EventType {
	return []model.EventType{
		model.EventHostRestarted, model.EventHostNowPrimary, model.EventHostNowSecondary, model.EventHostDown, model.EventHostUp,
		model.EventHostRecovering, model.EventHostRollback, model.EventVersionChanged,
		model.EventOutsideMetric, model.EventInsideMetric, model.EventNoPrimary, model.EventOnePrimary, model.EventMultiplePrimaries,
		model.EventTooFewHealthy, model.EventEnoughHealthy, model.EventTooManyUnhealthy, model.EventTooManyElections,
	}
}

func (c *Charts) marks(ctx context.Context, q alerting.EventQuery, keep func(*model.Event) bool) ([]model.Mark, error) {
	events, _, err := c.opt.Events.Events(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	var out []model.Mark
	for i := range events {
		e := &events[i]
		if keep != nil && !keep(e) {
			continue
		}
		text := EventWord(e.Type)
		if e.AlertID != "" {
			text = alertText(e)
		}
		if keep != nil && e.HostName != "" {
			text = e.HostName + ": " + text
		}
		out = append(out, model.Mark{At: e.At, Type: e.Type, Text: text})
	}
	slices.Reverse(out)
	return out, nil
}

// EventWord is an event type in a few words.
func EventWord(t model.EventType) string {
	switch t {
	case model.EventHostRestarted:
		return "restarted"
	case model.EventHostNowPrimary:
		return "became primary"
	case model.EventHostNowSecondary:
		return "became secondary"
	case model.EventHostDown:
		return "down"
	case model.EventHostUp:
		return "up again"
	case model.EventHostRecovering:
		return "recovering"
	case model.EventHostRollback:
		return "rolling back"
	case model.EventVersionChanged:
		return "version changed"
	case model.EventOutsideMetric:
		return "metric outside its threshold"
	case model.EventInsideMetric:
		return "metric inside its threshold again"
	case model.EventOnePrimary:
		return "has a primary again"
	default:
		return strings.ToLower(strings.ReplaceAll(string(t), "_", " "))
	}
}

// alertText says of an event of an alert what it was about: the metric's name tells several apart.
func alertText(e *model.Event) string {
	if e.Metric == "" {
		return EventWord(e.Type)
	}
	if e.Type == model.EventInsideMetric {
		return "alert over: " + words.Metric(e.Metric)
	}
	return "alert: " + words.Metric(e.Metric)
}

// withLife adds an alert's own marks in place of the events that tell the same.
func withLife(marks []model.Mark, a *model.Alert) []model.Mark {
	own := lifeMarks(a)
	marks = slices.DeleteFunc(marks, func(m model.Mark) bool {
		kind := markKind(m.Type)
		return (kind == "alert" || kind == "over") && slices.ContainsFunc(own, func(o model.Mark) bool { return o.Type == m.Type && o.At.Sub(m.At).Abs() < 2*time.Minute })
	})
	marks = append(marks, own...)
	slices.SortStableFunc(marks, func(x, y model.Mark) int { return x.At.Compare(y.At) })
	return marks
}

// markKind is the mark's colour and shape (metrics.md 3.8).
func markKind(t model.EventType) string {
	switch t {
	case model.EventHostRestarted:
		return "restart"
	case model.EventHostNowPrimary:
		return "primary"
	case model.EventHostNowSecondary:
		return "secondary"
	case model.EventOutsideMetric, model.EventHostDown, model.EventNoPrimary, model.EventMultiplePrimaries, model.EventTooFewHealthy,
		model.EventTooManyUnhealthy, model.EventTooManyElections:
		return "alert"
	case model.EventInsideMetric, model.EventHostUp, model.EventOnePrimary, model.EventEnoughHealthy:
		return "over"
	default:
		return "other"
	}
}

// Compared is a chart of a cluster page: one line a member, the sum of its measurements.
type Compared struct {
	ID, Title    string
	Unit         catalog.Unit
	Measurements []string
}

// ClusterCharts are the charts of a replica set's page: what people compare members by.
func ClusterCharts() []Compared {
	return []Compared{
		{"operations", "Operations", catalog.ScalarPerSecond, []string{"OPCOUNTER_QUERY", "OPCOUNTER_INSERT", "OPCOUNTER_UPDATE", "OPCOUNTER_DELETE", "OPCOUNTER_GETMORE", "OPCOUNTER_CMD"}},
		{"replicated", "Replicated Operations", catalog.ScalarPerSecond, []string{"OPCOUNTER_REPL_INSERT", "OPCOUNTER_REPL_UPDATE", "OPCOUNTER_REPL_DELETE", "OPCOUNTER_REPL_CMD"}},
		{"lag", "Replication Lag", catalog.Seconds, []string{"OPLOG_REPLICATION_LAG_TIME"}},
		{"window", "Oplog Window", catalog.Seconds, []string{"OPLOG_MASTER_TIME"}},
		{"oplog-rate", "Oplog GB/Hour", catalog.GBPerHour, []string{"OPLOG_RATE_GB_PER_HOUR"}},
		{"connections", "Connections", catalog.Scalar, []string{"CONNECTIONS"}},
		{"reads", "Read Execution Time", catalog.Milliseconds, []string{"OP_EXECUTION_TIME_READS"}},
		{"writes", "Write Execution Time", catalog.Milliseconds, []string{"OP_EXECUTION_TIME_WRITES"}},
		{"queues", "Queues", catalog.Scalar, []string{"GLOBAL_LOCK_CURRENT_QUEUE_TOTAL"}},
		{"targeting", "Documents Scanned per Returned", catalog.Scalar, []string{"QUERY_TARGETING_SCANNED_OBJECTS_PER_RETURNED"}},
		{"network-in", "Network In", catalog.BytesPerSecond, []string{"NETWORK_BYTES_IN"}},
		{"network-out", "Network Out", catalog.BytesPerSecond, []string{"NETWORK_BYTES_OUT"}},
		{"memory", "Resident Memory", catalog.Megabytes, []string{"MEMORY_RESIDENT"}},
		{"dirty", "Dirty Cache", catalog.Percent, []string{"DIRTY_FILL_RATIO"}},
		{"cpu", "System CPU (user and kernel)", catalog.Percent, []string{"SYSTEM_NORMALIZED_CPU_USER", "SYSTEM_NORMALIZED_CPU_KERNEL"}},
		{"storage", "DB Storage", catalog.Bytes, []string{"DB_STORAGE_TOTAL"}},
	}
}

// Cluster answers GET /g/{group}/clusters/{id}/series: every chart has one line a member.
func (c *Charts) Cluster(ctx context.Context, v *view.Visit, w http.ResponseWriter) error {
	cl, err := c.opt.Inventory.Cluster(ctx, v.Group.ID, model.ID(v.Request.PathValue("id")))
	if errors.Is(err, docstore.ErrNotFound) {
		return view.NotFound("cluster")
	}
	if err != nil {
		return fmt.Errorf("read the cluster: %w", err)
	}
	hosts, err := c.opt.Inventory.Hosts(ctx, v.Group.ID)
	if err != nil {
		return fmt.Errorf("read the hosts: %w", err)
	}
	members := Members(&cl, hosts)
	var charts []Compared
	for _, id := range ids(v) {
		i := slices.IndexFunc(ClusterCharts(), func(ch Compared) bool { return ch.ID == id })
		if i < 0 {
			return view.BadRequest("There is no chart " + id + " for a cluster.")
		}
		charts = append(charts, ClusterCharts()[i])
	}
	step, err := stepOf(v)
	if err != nil {
		return err
	}
	out, err := c.cluster(ctx, &cl, members, charts, WindowOf(v), step)
	if err != nil {
		return err
	}
	rules, _, err := c.rules(ctx, v, members)
	if err != nil {
		return err
	}
	for i := range charts {
		if len(charts[i].Measurements) == 1 { // a threshold on one of several says nothing about their sum
			out.Charts[i].Limits = limits(rules, charts[i].Measurements, false)
		}
	}
	return out.write(w, v, cl.Name)
}

// Members are the cluster's visible hosts in the order of their addresses, so that each keeps its colour.
func Members(cl *model.Cluster, hosts []model.Host) []model.Host {
	var out []model.Host
	for i := range hosts {
		if hosts[i].Visible() && hosts[i].ClusterID == cl.ID && len(out) < maxMembers {
			out = append(out, hosts[i])
		}
	}
	return out
}

func (c *Charts) cluster(ctx context.Context, cl *model.Cluster, members []model.Host, charts []Compared, win Window, step time.Duration) (*Answer, error) {
	out, err := c.compare(ctx, members, charts, win, step)
	if err != nil {
		return nil, err
	}
	in := make(map[model.HostID]bool, len(members))
	for i := range members {
		in[members[i].ID] = true
	}
	q := alerting.EventQuery{GroupID: cl.GroupID, ClusterID: cl.ID, From: win.From, To: win.To, Types: markTypes(), Limit: maxMarks}
	out.Marks, err = c.marks(ctx, q, func(e *model.Event) bool {
		// A new primary is one mark, not two: the one that stepped down shows in the lines.
		return (in[e.HostID] || e.HostID == "" && e.AlertID != "") && e.Type != model.EventHostNowSecondary
	})
	return out, err
}

// Compare reads the charts of a cluster page for other uses than drawing: one line a member, in their order.
func Compare(ctx context.Context, s Series, members []model.Host, charts []Compared, win Window) ([]Drawn, error) {
	c := Charts{Options{Series: s}}
	out, err := c.compare(ctx, members[:min(len(members), maxMembers)], charts, win, 0)
	if err != nil {
		return nil, err
	}
	return out.Charts, nil
}

func (c *Charts) compare(ctx context.Context, members []model.Host, charts []Compared, win Window, step time.Duration) (*Answer, error) {
	var names []string
	for _, ch := range charts {
		names = append(names, ch.Measurements...)
	}
	results, err := c.members(ctx, members, unique(names), win, step)
	if err != nil {
		return nil, err
	}
	out := &Answer{Charts: make([]Drawn, len(charts))}
	for i, ch := range charts {
		out.Charts[i] = Drawn{ID: ch.ID, Unit: ch.Unit}
	}
	for m := range members {
		lines := out.frame(results[m])
		for i, ch := range charts {
			out.Charts[i].Lines = append(out.Charts[i].Lines, Line{Name: members[m].Address(), Colour: m, Values: sum(ch.Measurements, lines)})
		}
	}
	return out, nil
}

// members reads the same measurements of all members, by one step: where the store chose different ones (a member that is
// not sampled, or more often than the others), the coarsest holds for all.
func (c *Charts) members(ctx context.Context, members []model.Host, names []string, win Window, step time.Duration) ([]series.Result, error) {
	results := make([]series.Result, len(members))
	read := func(step time.Duration, again bool) error {
		eg, ectx := errgroup.WithContext(ctx)
		eg.SetLimit(2)
		for i := range members {
			if again && results[i].Step == step {
				continue
			}
			eg.Go(func() (err error) {
				results[i], err = c.opt.Series.Read(ectx, series.Query{Host: members[i].ID, Measurements: names, From: win.From, To: win.To, Step: step})
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return readError("the members", err)
		}
		return nil
	}
	if err := read(step, false); err != nil {
		return nil, err
	}
	for i := range results {
		step = max(step, results[i].Step)
	}
	return results, read(step, true)
}

// readError tells a question the store refuses from a store that fails.
func readError(of string, err error) error {
	if errors.Is(err, series.ErrRange) {
		return view.BadRequest("This range is too long for this step.")
	}
	return fmt.Errorf("read the series of %s: %w", of, err)
}

// sum adds lines up; a point is a gap only where all of them are.
func sum(names []string, lines map[string][]float64) []float64 {
	if len(names) == 1 {
		return lines[names[0]]
	}
	var out []float64
	for _, n := range names {
		for i, x := range lines[n] {
			if i == len(out) {
				out = append(out, math.NaN())
			}
			switch {
			case math.IsNaN(x):
			case math.IsNaN(out[i]):
				out[i] = x
			default:
				out[i] += x
			}
		}
	}
	return out
}
