package trial

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Facts are what Explain compares: what is known of a window of time and of the present.
type Facts struct {
	Query       WhyQuery
	Group       model.Group
	Present     *rule.Snapshot
	Configs     []model.AlertConfig // that cover the group
	Alerts      []model.Alert       // that were there in the window
	Deliveries  map[model.ID][]model.Delivery
	Watch       model.AlertWatch
	AgentEvents []model.Event // the agent was said to be down, and up again: oldest first
	Nearest     map[model.ID]Nearest
	Person      *model.User // the query's; nil when nobody in the group has the name
	Recipients  func(n model.Notification) (to []Recipient, missing []string)
	Notes       []string
}

// Nearest is the value that came nearest to a threshold.
type Nearest struct {
	Host    model.HostID
	At      time.Time
	Value   model.Reading // in the threshold's units
	Beyond  bool          // it is beyond the threshold
	Nothing bool          // nothing was measured
}

// About reports whether a target is one that the query asks for. What is not about a host or cluster always is.
func (f *Facts) About(t *model.Target) bool {
	switch q := &f.Query; {
	case q.Host != "":
		h := f.host()
		switch {
		case t.HostID != "":
			return h != nil && t.HostID == h.ID
		case t.ClusterID != "":
			return h != nil && f.within(h.ClusterID, t.ClusterID)
		}
	case q.ClusterID != "" && t.ClusterID != "":
		return f.within(t.ClusterID, q.ClusterID)
	case q.ClusterID != "" && t.HostID != "":
		return false
	}
	return true
}

// within reports whether a cluster is another or a part of it.
func (f *Facts) within(inner, outer model.ID) bool {
	for range 3 {
		if inner == "" || inner == outer {
			return inner != ""
		}
		i := slices.IndexFunc(f.Present.Clusters, func(c model.Cluster) bool { return c.ID == inner })
		if i < 0 {
			return false
		}
		inner = f.Present.Clusters[i].ParentID
	}
	return false
}

// host is the one that the query asks for.
func (f *Facts) host() *model.Host {
	for i := range f.Present.Hosts {
		h := &f.Present.Hosts[i]
		if string(h.ID) == f.Query.Host || strings.EqualFold(h.Address(), f.Query.Host) || slices.ContainsFunc(h.Aliases, func(a string) bool { return strings.EqualFold(a, f.Query.Host) }) {
			return h
		}
	}
	return nil
}

// FindNearest is the value of a metric configuration's history that came nearest to the threshold. Points of one minute are taken
// three together, as the evaluation does.
func FindNearest(c *model.AlertConfig, h *History) Nearest {
	m, ok := rule.MetricOf(c.Metric.Metric)
	best := Nearest{Nothing: true}
	if !ok {
		return best
	}
	less := c.Metric.Operator == model.LessThan
	for host, lines := range h.Lines {
		for _, l := range lines {
			for k := range l.Values {
				x := mean(l.Values, k, h.Step)
				if math.IsNaN(x) {
					continue
				}
				x, err := rule.Convert(x, m.Unit, c.Metric.Units)
				if err != nil {
					continue
				}
				nearer := best.Nothing || less && x < best.Value.Number || !less && x > best.Value.Number ||
					x == best.Value.Number && cmp.Compare(host, best.Host) < 0
				if nearer {
					best = Nearest{
						Host: host, At: h.From.Add(time.Duration(k+1) * h.Step), Value: model.Reading{Number: x, Units: cmp.Or(c.Metric.Units, "RAW")},
						Beyond: less && x < c.Metric.Value || !less && x > c.Metric.Value,
					}
				}
			}
		}
	}
	return best
}

func mean(values []float64, k int, step time.Duration) float64 {
	if step > time.Minute {
		return values[k]
	}
	sum, n := 0.0, 0
	for i := max(0, k-2); i <= k; i++ {
		if !math.IsNaN(values[i]) {
			sum, n = sum+values[i], n+1
		}
	}
	if n == 0 || k < 2 && len(values) > 2 {
		return math.NaN()
	}
	return sum / float64(n)
}

// Explain says for every configuration why it told somebody in the window or did not; reasons that hold for all come first.
func Explain(f *Facts) []Reason {
	x := &explaining{f: f}
	out := x.general()
	var reasons []Reason
	for i := range f.Configs {
		reasons = append(reasons, x.config(&f.Configs[i]))
	}
	slices.SortStableFunc(reasons, func(a, b Reason) int { return cmp.Compare(rank(a.Verdict), rank(b.Verdict)) })
	return append(out, reasons...)
}

// ranked lists the verdicts as they are told: what was sent first, then what came near, then the rest.
var ranked = []Verdict{
	Paged, Failed, Pending, NoAddress, LacksRole, NotMeant, NoNotifications, Muted, Acknowledged, NotDue, BeforeDelay, StillTracking, NoData, NotRunning,
	AgentDown, NotCrossed, NotBad, AlertsOff, NotMatched, TooNew, Disabled, NotRaised,
}

func rank(v Verdict) int { return slices.Index(ranked, v) }

type explaining struct{ f *Facts }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// general tells what holds whatever the configuration.
func (x *explaining) general() (out []Reason) {
	f, q := x.f, &x.f.Query
	if q.Username != "" && f.Person == nil {
		out = append(out, Reason{Verdict: NoAddress, Text: "There is no user " + q.Username + " in the group or its organization: notifications to people cannot reach them."})
	}
	if q.Host != "" && f.host() == nil {
		out = append(out, Reason{Verdict: NotMatched, Text: "There is no host " + q.Host + " in the group."})
	}
	if len(f.Configs) == 0 {
		out = append(out, Reason{Verdict: NotMatched, Text: "No alert configuration covers the group."})
	}
	if why, at := x.notRunning(); why != "" {
		out = append(out, Reason{Verdict: NotRunning, At: at, Text: why})
	}
	if from, to, down := x.agentDown(); down {
		out = append(out, Reason{Verdict: AgentDown, At: from, Text: "The monitoring agent was down" + between(from, to) + ": nothing was known of hosts and clusters."})
	}
	for _, n := range f.Notes {
		out = append(out, Reason{Verdict: NotBad, Text: n})
	}
	return out
}

func between(from, to time.Time) string {
	text := " from " + moment(from)
	if !to.IsZero() {
		text += " to " + moment(to)
	}
	return text
}

// notRunning says that the evaluation did not run in the window, or in a part of it, as far as it remembers.
func (x *explaining) notRunning() (why string, at time.Time) {
	w, q := &x.f.Watch, &x.f.Query
	switch {
	case w.LastPass.IsZero():
		return "Alerts were never evaluated: is the alerts function running?", time.Time{}
	case w.LastPass.Before(q.From):
		return "The evaluation last ran at " + moment(w.LastPass) + ", before the window.", w.LastPass
	case w.LastPass.Before(q.To) && w.LastPass.Before(x.f.Present.Now.Add(-3*time.Minute)):
		return "The evaluation has not run since " + moment(w.LastPass) + ".", w.LastPass
	case w.Resumed.After(q.From) && !w.Resumed.After(q.To):
		return "The evaluation was interrupted and went on at " + moment(w.Resumed) + ": what began and ended before was not seen.", w.Resumed
	case w.Resumed.After(q.To):
		return "The evaluation was interrupted and went on only at " + moment(w.Resumed) + ", after the window.", w.Resumed
	}
	return "", time.Time{}
}

// agentDown is when the agent was down in the window, by its events and by what is known now.
func (x *explaining) agentDown() (from, to time.Time, down bool) {
	q := &x.f.Query
	for _, e := range x.f.AgentEvents {
		switch {
		case e.Type == model.EventAgentDown:
			from, to = e.At, time.Time{}
		case !from.IsZero() && to.IsZero():
			to = e.At
		}
	}
	if !from.IsZero() && !from.After(q.To) && (to.IsZero() || to.After(q.From)) {
		return from, to, true
	}
	var last time.Time
	monitoring := false
	for i := range x.f.Present.Agents {
		if a := &x.f.Present.Agents[i]; a.Type == model.AgentMonitoring {
			monitoring = true
			if a.LastPing.After(last) {
				last = a.LastPing
			}
		}
	}
	if monitoring && last.IsZero() {
		return x.f.Query.From, time.Time{}, true // none ever sent a ping: not since before the window
	}
	if monitoring && last.Before(q.From) {
		return last, time.Time{}, true
	}
	return from, to, false
}

// config is the reason of one configuration.
func (x *explaining) config(c *model.AlertConfig) Reason {
	f, q := x.f, &x.f.Query
	t, _ := rule.TypeOf(c.EventType)
	r := Reason{ConfigID: c.ID, Global: c.GroupID == "", EventType: c.EventType, Label: cmp.Or(t.Label, string(c.EventType))}
	if c.Metric != nil {
		r.Threshold = &model.Reading{Number: c.Metric.Value, Units: cmp.Or(c.Metric.Units, "RAW")}
	}
	say := func(v Verdict, at time.Time, format string, args ...any) Reason {
		r.Verdict, r.At, r.Text = v, at, fmt.Sprintf(format, args...)
		return r
	}
	var alerts []*model.Alert
	for i := range f.Alerts {
		if a := &f.Alerts[i]; a.ConfigID == c.ID && f.About(&a.Target) {
			alerts = append(alerts, a)
		}
	}
	if len(alerts) > 0 {
		return x.alerted(r, c, alerts)
	}
	targets, missed, why := x.targets(c, t)
	switch {
	case !t.Raised:
		return say(NotRaised, time.Time{}, "Nothing in this build raises %s.", c.EventType)
	case !c.Enabled && c.Updated.After(q.To):
		return say(Disabled, c.Updated, "It is disabled now, and was changed at %s, after the window.", moment(c.Updated))
	case !c.Enabled:
		return say(Disabled, c.Updated, "It has been disabled since %s.", moment(c.Updated))
	case c.Created.After(q.To):
		return say(TooNew, c.Created, "It was made at %s, after the window.", moment(c.Created))
	case t.Inform:
		return say(NotBad, time.Time{}, "No such event was told of in the window.")
	case missed != "":
		return say(missed, time.Time{}, "%s", why)
	}
	about := string(t.Category)
	if down, to, was := x.agentDown(); was && (t.Category == rule.Host || t.Category == rule.ReplicaSet || t.Category == rule.Cluster) && !down.After(q.From) && (to.IsZero() || !to.Before(q.To)) {
		return say(AgentDown, down, "The monitoring agent was down%s: nothing could be said of %s.", between(down, to), things(about, targets))
	}
	if why, at := x.notRunning(); why != "" && (f.Watch.LastPass.Before(q.From) || f.Watch.Resumed.After(q.To)) {
		return say(NotRunning, at, "%s", why)
	}
	if c.Updated.After(q.From) {
		r.Details = append(r.Details, "It was changed at "+moment(c.Updated)+", in the window or after it.")
	}
	if c.Metric != nil {
		return x.nearest(r, c)
	}
	return say(NotBad, time.Time{}, "The condition was not seen to hold on %s.", things(about, targets))
}

func things(category string, n int) string {
	word := strings.ReplaceAll(strings.ToLower(category), "_", " ")
	if n == 1 {
		return "the one " + word + " it matches"
	}
	return fmt.Sprintf("any of the %d it matches (%s)", n, word)
}

// targets counts what a configuration looks at of what the query asks for. If that is nothing, missed and why say so.
func (x *explaining) targets(c *model.AlertConfig, t rule.Type) (n int, missed Verdict, why string) {
	all := rule.Judge(c, x.f.Present).All()
	for i := range all {
		if x.f.About(&all[i].Target) {
			n++
		}
	}
	if n > 0 {
		return n, "", ""
	}
	h := x.f.host()
	switch {
	case h != nil && t.Category == rule.Host && !h.AlertsEnabled:
		return 0, AlertsOff, "Alerts are switched off for " + h.Address() + "."
	case h != nil && (!h.Visible() || !h.Enabled):
		return 0, AlertsOff, h.Address() + " is not monitored."
	case len(all) == 0:
		return 0, NotMatched, "It matches nothing in the group."
	}
	return 0, NotMatched, fmt.Sprintf("It does not match it; it matches %d others.", len(all))
}

// nearest tells how near the measurement came to its threshold.
func (x *explaining) nearest(r Reason, c *model.AlertConfig) Reason {
	n, ok := x.f.Nearest[c.ID]
	word := "above"
	if c.Metric.Operator == model.LessThan {
		word = "below"
	}
	switch {
	case !ok || n.Nothing:
		r.Verdict, r.Text = NoData, fmt.Sprintf("No points of %s are kept of the window.", c.Metric.Metric)
		return r
	case n.Beyond:
		r.Verdict = NotCrossed
		r.Text = fmt.Sprintf("%s was %s at %s, %s %s, but not long enough, or it arrived too late to be judged.",
			c.Metric.Metric, amount(n.Value), moment(n.At), word, amount(*r.Threshold))
	default:
		r.Verdict = NotCrossed
		r.Text = fmt.Sprintf("%s was never %s %s; the nearest was %s at %s.", c.Metric.Metric, word, amount(*r.Threshold), amount(n.Value), moment(n.At))
	}
	value := n.Value
	r.Nearest, r.At = &value, n.At
	for i := range x.f.Present.Hosts {
		if h := &x.f.Present.Hosts[i]; h.ID == n.Host {
			r.Target = model.Target{Key: "host/" + string(h.ID), HostID: h.ID, HostName: h.Address(), ReplicaSet: h.ReplicaSet, ClusterID: h.ClusterID}
			r.Text = strings.TrimSuffix(r.Text, ".") + " on " + h.Address() + "."
		}
	}
	return r
}

func amount(r model.Reading) string {
	text := fmt.Sprintf("%.4g", r.Number)
	if r.Units == "" || r.Units == "RAW" {
		return text
	}
	return text + " " + strings.ToLower(r.Units)
}

// alerted is the reason of a configuration that had alerts in the window: that of the alert that says most.
func (x *explaining) alerted(r Reason, c *model.AlertConfig, alerts []*model.Alert) Reason {
	reasons := make([]Reason, len(alerts))
	for i, a := range alerts {
		reasons[i] = x.alert(r, c, a)
	}
	slices.SortStableFunc(reasons, func(a, b Reason) int { return cmp.Compare(rank(a.Verdict), rank(b.Verdict)) })
	best := reasons[0]
	const most = 20
	for _, other := range reasons[1:min(len(reasons), most+1)] {
		best.Details = append(best.Details, other.Text)
	}
	if len(reasons) > most+1 {
		best.Details = append(best.Details, fmt.Sprintf("And %d more alerts.", len(reasons)-most-1))
	}
	return best
}

// name is what an alert is about, as the beginning of a sentence.
func name(a *model.Alert) string {
	switch {
	case a.Target.HostName != "":
		return a.Target.HostName
	case a.Target.ReplicaSet != "":
		return a.Target.ReplicaSet
	case a.Target.ClusterName != "":
		return a.Target.ClusterName
	}
	return "The alert"
}

// alert is the reason of one alert.
func (x *explaining) alert(r Reason, c *model.AlertConfig, a *model.Alert) Reason {
	q := &x.f.Query
	r.AlertID, r.Target = a.ID, a.Target
	say := func(v Verdict, at time.Time, format string, args ...any) Reason {
		r.Verdict, r.At, r.Text = v, at, name(a)+": "+fmt.Sprintf(format, args...)
		return r
	}
	mine := x.mine(c)
	var sent, failed, pending []model.Delivery
	for _, d := range x.f.Deliveries[a.ID] {
		switch {
		case q.Username != "" && !mine[Recipient{d.Channel, strings.ToLower(d.Address)}]:
		case d.State == model.DeliveryDelivered:
			sent = append(sent, d)
		case d.State == model.DeliveryFailed:
			failed = append(failed, d)
		default:
			pending = append(pending, d)
		}
	}
	for _, d := range slices.Concat(sent, failed, pending) {
		r.Details = append(r.Details, delivery(&d))
	}
	switch {
	case len(sent) > 0:
		d := sent[len(sent)-1] // the first of the window
		return say(Paged, d.Delivered, "%s", delivery(&d))
	case len(failed) > 0:
		return say(Failed, failed[0].Created, "%s", delivery(&failed[0]))
	case len(pending) > 0:
		return say(Pending, pending[0].Created, "%s", delivery(&pending[0]))
	}
	if step := lastStep(a, q, model.StepMuted); a.Muted != "" || step != nil {
		why, at := a.Muted, a.Updated
		if step != nil {
			why, at = cmp.Or(why, strings.TrimSuffix(step.Text, ".")), step.At
		}
		return say(Muted, at, "nobody was told, because of %s.", why)
	}
	if step := lastStep(a, q, model.StepAcknowledged); a.AckUntil.After(q.From) || step != nil {
		at := a.Updated
		text := "It was acknowledged"
		if a.AckBy != "" {
			text += " by " + a.AckBy
		}
		if step != nil {
			at, text = step.At, strings.TrimSuffix(cmp.Or(step.Text, text), ".")
		}
		return say(Acknowledged, at, "%s.", text)
	}
	if a.Opened.IsZero() && !a.Inform {
		if a.Status == model.AlertTracking {
			return say(StillTracking, a.Since, "the condition holds since %s, for less than the shortest delay of %d min.", moment(a.Since), delayOf(c))
		}
		return say(BeforeDelay, a.Resolved, "the condition held from %s to %s, less than the shortest delay of %d min.", moment(a.Since), moment(a.Resolved), delayOf(c))
	}
	if len(c.Notifications) == 0 {
		return say(NoNotifications, a.Opened, "the alert opened at %s, and the configuration tells nobody.", moment(a.Opened))
	}
	if q.Username != "" && len(mine) == 0 {
		v, why := x.notMine(c)
		return say(v, a.Opened, "%s", why)
	}
	if to, missing := x.all(c); len(to) == 0 {
		return say(NoAddress, a.Opened, "the alert opened at %s, but nobody can be reached: %s.", moment(a.Opened), strings.Join(missing, "; "))
	}
	if a.LastNotified.IsZero() {
		return say(NotDue, a.Opened, "the alert opened at %s, and no notification was due.", moment(a.Opened))
	}
	return say(NotDue, a.LastNotified, "nothing was due in the window; it was told last at %s.", moment(a.LastNotified))
}

// lastStep is the last step of a kind that an alert took up to the window's end.
func lastStep(a *model.Alert, q *WhyQuery, kind model.StepKind) *model.AlertStep {
	for i := len(a.History) - 1; i >= 0; i-- {
		s := &a.History[i]
		if s.At.After(q.To) {
			continue
		}
		switch {
		case s.Kind == kind:
			return s
		case s.At.Before(q.From) && (kind == model.StepMuted && s.Kind == model.StepUnmuted || kind == model.StepAcknowledged && s.Kind == model.StepUnacknowledged):
			return nil // it was over before
		}
	}
	return nil
}

func delayOf(c *model.AlertConfig) int {
	t, _ := rule.TypeOf(c.EventType)
	least := -1
	for i := range c.Notifications {
		if d := max(c.Notifications[i].DelayMin, t.MinDelay); least < 0 || d < least {
			least = d
		}
	}
	return max(least, t.MinDelay)
}

// delivery is what became of a message, in a sentence.
func delivery(d *model.Delivery) string {
	to := d.Channel
	if d.Address != "" {
		to += " to " + d.Address
	}
	switch d.State {
	case model.DeliveryDelivered:
		return fmt.Sprintf("“%s” was delivered by %s at %s.", d.Kind, to, moment(d.Delivered))
	case model.DeliveryFailed:
		return fmt.Sprintf("“%s” by %s failed for good: %s.", d.Kind, to, strings.TrimSuffix(cmp.Or(d.LastError, "no reason was given"), "."))
	}
	text := fmt.Sprintf("“%s” by %s waits to be sent since %s", d.Kind, to, moment(d.Created))
	if d.LastError != "" {
		text += fmt.Sprintf(", after %d attempts: %s", d.Attempts, strings.TrimSuffix(d.LastError, "."))
	}
	return text + "."
}

// all are the addresses that a configuration tells, and who has none.
func (x *explaining) all(c *model.AlertConfig) (to []Recipient, missing []string) {
	for i := range c.Notifications {
		t, m := x.f.Recipients(c.Notifications[i])
		to, missing = append(to, t...), append(missing, m...)
	}
	return to, missing
}

// mine are the addresses of the query's person among those a configuration tells.
func (x *explaining) mine(c *model.AlertConfig) map[Recipient]bool {
	p := x.f.Person
	if p == nil {
		return nil
	}
	own := map[string]bool{}
	for _, s := range []string{p.Email, p.Username, p.Mobile} {
		if s = address(s); s != "" {
			own[s] = true
		}
	}
	out := map[Recipient]bool{}
	to, _ := x.all(c)
	for _, r := range to {
		if own[address(r.Address)] {
			out[Recipient{r.Channel, strings.ToLower(r.Address)}] = true
		}
	}
	return out
}

// address compares addresses whatever their case and the blanks in numbers.
func address(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if !strings.Contains(s, "@") {
		s = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "", "/", "").Replace(s)
	}
	return s
}

// notMine says why a configuration does not tell the query's person.
func (x *explaining) notMine(c *model.AlertConfig) (Verdict, string) {
	p := x.f.Person
	if p == nil {
		return NoAddress, "there is no user " + x.f.Query.Username + " in the group or its organization."
	}
	for i := range c.Notifications {
		n := &c.Notifications[i]
		if n.Channel == "USER" && strings.EqualFold(n.Fields["username"], p.Username) {
			return NoAddress, p.Username + " has no address for what the notification sends: " + sends(n) + "."
		}
		if n.Channel != "GROUP" && n.Channel != "ORG" {
			continue
		}
		has := slices.ContainsFunc(p.Grants, func(g model.Grant) bool {
			of := n.Channel == "GROUP" && g.GroupID == x.f.Group.ID || n.Channel == "ORG" && g.OrgID == x.f.Group.OrgID && g.GroupID == ""
			return of && (len(n.Roles) == 0 || slices.Contains(n.Roles, g.Role))
		})
		if has {
			return NoAddress, p.Username + " has no address for what the notification sends: " + sends(n) + "."
		}
		if len(n.Roles) > 0 {
			names := make([]string, len(n.Roles))
			for k, role := range n.Roles {
				names[k] = string(role)
			}
			return LacksRole, p.Username + " has none of the roles that are told: " + strings.Join(names, ", ") + "."
		}
		return LacksRole, p.Username + " has no role in the " + strings.ToLower(n.Channel) + " that is told."
	}
	return NotMeant, "it tells others than " + p.Username + "."
}

func sends(n *model.Notification) string {
	switch {
	case n.EmailEnabled && n.SMSEnabled:
		return "mail and SMS"
	case n.SMSEnabled:
		return "SMS"
	}
	return "mail"
}
