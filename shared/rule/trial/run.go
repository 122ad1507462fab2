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

// Recipient is where a message goes, as far as it may be shown.
type Recipient struct{ Channel, Address string }

// Line is what is kept of a measurement of one host, or of one of its disks or databases: one value for each step from the
// history's beginning. NaN is a gap.
type Line struct {
	Part   string
	Values []float64
}

// History is what is known of a group's past, and of its present: targets are matched by what they are now.
type History struct {
	Asked, From, To time.Time // From is what is known
	Step            time.Duration
	Present         *rule.Snapshot
	Lines           map[model.HostID][]Line // of metric configurations, in the catalogue's unit
	Alive           map[model.HostID][]bool // for each step: the host answered
	Events          []model.Event           // of the types that Needs names, oldest first, from From on
	Windows         []model.MaintenanceWindow
	Silences        []model.Silence
	Recipients      func(n model.Notification) (to []Recipient, missing []string)
	Basis           string
	Unknown, Notes  []string
}

// Need is what a configuration is tried with.
type Need struct {
	Points bool              // of the configuration's metric
	Events []model.EventType // of the group
	Before time.Duration     // of the events: also those so long before the beginning
	Why    string            // of configurations that cannot be tried: the reason
}

// Needs says what a configuration is tried with. States of which no history is kept cannot be tried: what a past verdict would
// have rested on is gone.
func Needs(c *model.AlertConfig) Need {
	t, ok := rule.TypeOf(c.EventType)
	switch {
	case !ok || !t.Raised:
		return Need{Why: "nothing in this build raises " + string(c.EventType)}
	case t.Category == rule.Site:
		return Need{Why: "no history is kept of the site itself"}
	case t.Metric:
		return Need{Points: true}
	case t.Inform:
		return Need{Events: []model.EventType{c.EventType}}
	}
	switch c.EventType {
	case model.EventHostDown, model.EventHostRecovering:
		return Need{Events: []model.EventType{c.EventType, t.ClosedBy}}
	case model.EventTooManyElections:
		return Need{Events: []model.EventType{model.EventPrimaryElected}, Before: electionSpan}
	}
	return Need{Why: "cannot be tried on history: of " + strings.ToLower(t.Label[:1]) + t.Label[1:] + " only the present state is kept"}
}

// Bounds of an answer: what is beyond them is counted and not listed.
const (
	electionSpan = time.Hour
	maxTargets   = 100
	maxSpans     = 100 // of a target
	maxPlanned   = 60  // of a span
	maxLines     = 20  // targets with values
	maxValues    = 1000
	passEvery    = time.Minute
)

// Run tries a configuration, which must have passed rule.Check, on a history.
func Run(c *model.AlertConfig, h *History) Trial {
	tried := *c
	tried.Enabled, tried.Updated = true, time.Time{}
	r := &run{
		c: &tried, h: h, out: Trial{
			From: h.From, To: h.To, Asked: h.Asked, Step: h.Step, Basis: h.Basis, Count: map[string]int{},
			Unknown: slices.Clone(h.Unknown), Notes: slices.Clone(h.Notes),
		},
		players: map[string]*player{}, recipients: map[model.ID][]Recipient{},
	}
	r.t, _ = rule.TypeOf(c.EventType)
	r.mute = rule.Muted(h.Windows, h.Silences, h.Present.Hosts)
	for i := range c.Notifications {
		n := c.Notifications[i]
		if n.ID == "" {
			n.ID = model.DeriveID("trial", fmt.Sprint(i))
		}
		tried.Notifications = slices.Clone(tried.Notifications)
		tried.Notifications[i] = n
		if h.Recipients != nil {
			to, missing := h.Recipients(n)
			r.recipients[n.ID] = to
			for _, m := range missing {
				if m = strings.ToUpper(m[:1]) + m[1:] + "."; !slices.Contains(r.out.Notes, m) {
					r.out.Notes = append(r.out.Notes, m)
				}
			}
		}
	}
	switch need := Needs(c); {
	case need.Why != "":
		r.out.Unknown = append(r.out.Unknown, need.Why)
	case need.Points:
		r.metric()
	case r.t.Inform:
		r.inform()
	case c.EventType == model.EventTooManyElections:
		r.elections()
	default:
		r.pairs()
	}
	return r.result()
}

// run is one trial under way.
type run struct {
	c          *model.AlertConfig
	t          rule.Type
	h          *History
	mute       rule.Mute
	recipients map[model.ID][]Recipient
	players    map[string]*player // by target
	order      []*player
	out        Trial
}

// player is one target with the alert that would be live on it.
type player struct {
	target model.Target
	alert  *model.Alert // live, or ended a moment ago
	spans  []Span
	brief  int
	opened int
	cut    int
}

func (r *run) player(t model.Target) *player {
	p := r.players[t.Key]
	if p == nil {
		p = &player{target: t}
		r.players[t.Key] = p
		r.order = append(r.order, p)
	}
	return p
}

func (p *player) live() bool { return p.alert != nil && p.alert.Status.Live() }

// step takes the alert on a target one verdict further, at a time when a pass would have run.
func (r *run) step(p *player, v rule.Verdict, now time.Time) {
	before := p.alert
	if before != nil && !before.Status.Live() && now.Sub(before.Resolved) >= rule.Rest {
		before = nil
	}
	if (before == nil || !before.Status.Live()) && v.State != rule.Bad {
		return
	}
	next, due := rule.Advance(before, r.c, v, r.mute(r.c, r.t, v.Target, now), now)
	if next == nil {
		return
	}
	if before == nil || !before.Status.Live() { // it begins
		p.spans = append(p.spans, Span{Since: next.Since})
		next.ID = "trial"
	}
	next.History = nil // nobody reads it here
	p.alert = next
	s := &p.spans[len(p.spans)-1]
	s.Since, s.Text, s.Muted = next.Since, next.Text, next.Muted
	if next.Worst != nil {
		worst := *next.Worst
		s.Worst = &worst
	}
	if s.Opened.IsZero() && !next.Opened.IsZero() {
		s.Opened = next.Opened
		p.opened++
	}
	r.planned(s, due, now)
	if !next.Status.Live() {
		s.Closed = next.Resolved
		if s.Opened.IsZero() {
			p.brief++
		}
		if len(p.spans) > maxSpans {
			p.spans, p.cut = p.spans[1:], p.cut+1
		}
	}
}

// planned notes the messages that would have been sent.
func (r *run) planned(s *Span, due []rule.Due, now time.Time) {
	for _, d := range due {
		for _, to := range r.recipients[d.Notification.ID] {
			r.out.Count[to.Channel]++
			r.out.Total++
			if len(s.Notifications) >= maxPlanned {
				s.More++
				continue
			}
			s.Notifications = append(s.Notifications, Planned{At: now, Kind: d.Kind, NotifierID: d.Notification.ID, Channel: to.Channel, Recipient: to.Address})
		}
	}
}

// hold lets time pass while the verdict on a target stays what it is: passes run when something may change.
func (r *run) hold(p *player, v rule.Verdict, now, until time.Time) {
	for p.live() {
		at := r.wake(p.alert, v, now)
		if at.IsZero() || !at.Before(until) {
			return
		}
		now = at
		r.step(p, v, now)
	}
}

// wake is the next pass that may change an alert under the same verdict.
func (r *run) wake(a *model.Alert, v rule.Verdict, now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if up := t.Truncate(passEvery); up.Before(t) {
			t = up.Add(passEvery)
		}
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if v.State != rule.Bad {
		if v.State == rule.Good {
			at(now.Add(passEvery))
		}
		return next
	}
	for i := range r.c.Notifications {
		n := &r.c.Notifications[i]
		at(a.Since.Add(a.Paused + time.Duration(max(n.DelayMin, r.t.MinDelay))*time.Minute))
	}
	at(a.Since.Add(a.Paused + time.Duration(r.t.MinDelay)*time.Minute))
	for _, n := range a.Notified {
		at(n.Next)
	}
	at(a.HoldUntil)
	for i := range r.h.Windows {
		if start, end, ok := rule.Occurrence(&r.h.Windows[i], now); ok {
			at(start)
			at(end)
		}
	}
	for _, s := range r.h.Silences {
		at(s.Start)
		at(s.End)
	}
	return next
}

// present is a snapshot at a time of the past in which the agent was up, with the group as it is now.
func (r *run) present(now time.Time) *rule.Snapshot {
	p := r.h.Present
	return &rule.Snapshot{
		Now: now, Group: p.Group, Hosts: p.Hosts, Clusters: p.Clusters, Users: p.Users,
		Agents: []model.Agent{{ID: "trial", GroupID: p.Group.ID, Type: model.AgentMonitoring, LastPing: now}},
	}
}

// metric judges the points step by step, as the evaluation would have.
func (r *run) metric() {
	m, ok := rule.MetricOf(r.c.Metric.Metric)
	if !ok || r.h.Step <= 0 {
		r.out.Unknown = append(r.out.Unknown, "there is no measurement "+r.c.Metric.Metric)
		return
	}
	steps := int(r.h.To.Sub(r.h.From) / r.h.Step)
	last := map[string]time.Time{} // when a line had a value last
	seen := map[model.HostID]time.Time{}
	group := r.h.Present.Group.ID
	var k int
	var now time.Time
	line := func(host model.HostID, name string) (Line, bool) {
		part := strings.TrimPrefix(strings.TrimPrefix(name, m.Base), "/")
		for _, l := range r.h.Lines[host] {
			if l.Part == part {
				return l, true
			}
		}
		return Line{}, false
	}
	for k = range steps {
		now = r.h.From.Add(time.Duration(k+1) * r.h.Step)
		s := r.present(now)
		s.Statuses = make(map[model.HostID]model.HostStatus, len(r.h.Lines))
		for host, alive := range r.h.Alive {
			st := model.HostStatus{HostID: host, GroupID: group, At: now, Reach: model.ReachDown}
			if k < len(alive) && alive[k] {
				st.Reach, st.LastPing, seen[host] = model.ReachUp, now, now
			} else {
				st.LastPing, st.ReachSince = seen[host], seen[host]
			}
			s.Statuses[host] = st
			for _, l := range r.h.Lines[host] {
				if k < len(l.Values) && !math.IsNaN(l.Values[k]) {
					last[string(host)+"/"+l.Part] = now
				}
			}
		}
		s.Points = func(host model.HostID, name string) []model.Sample {
			l, ok := line(host, name)
			if !ok {
				return nil
			}
			var out []model.Sample
			for i := max(0, k-3); i <= k && i < len(l.Values); i++ {
				if !math.IsNaN(l.Values[i]) {
					out = append(out, model.Sample{At: r.h.From.Add(time.Duration(i+1) * r.h.Step), Value: l.Values[i]})
				}
			}
			return out
		}
		s.LastPoint = func(host model.HostID, name string) time.Time {
			l, _ := line(host, name)
			at := last[string(host)+"/"+l.Part]
			if now.Sub(at) > time.Hour {
				return time.Time{}
			}
			return at
		}
		s.Parts = func(host model.HostID, _ string) []string {
			var parts []string
			for _, l := range r.h.Lines[host] {
				if l.Part != "" {
					parts = append(parts, l.Part)
				}
			}
			return parts
		}
		r.judge(s, now.Add(r.h.Step))
	}
}

// judge takes every target with an alert, or with a bad verdict, further, and lets time pass until the next judgement.
func (r *run) judge(s *rule.Snapshot, until time.Time) {
	j := rule.Judge(r.c, s)
	bad := make(map[string]bool, len(j.Bad))
	for _, v := range j.Bad {
		bad[v.Target.Key] = true
		p := r.player(v.Target)
		r.step(p, v, s.Now)
		r.hold(p, v, s.Now, until)
	}
	for _, p := range r.order {
		if p.live() && !bad[p.target.Key] {
			v := j.Of(p.target.Key)
			r.step(p, v, s.Now)
			r.hold(p, v, s.Now, until)
		}
	}
}

// pairs takes the verdicts from events: one says that the condition began, another that it ended.
func (r *run) pairs() {
	verdicts := rule.Judge(r.c, r.h.Present).All()
	byKey := map[string][]*model.Event{}
	for i := range r.h.Events {
		e := &r.h.Events[i]
		if e.HostID != "" && !e.At.Before(r.h.From) && !e.At.After(r.h.To) {
			key := "host/" + string(e.HostID)
			byKey[key] = append(byKey[key], e)
		}
	}
	for _, v := range verdicts {
		p := r.player(v.Target)
		events := byKey[v.Target.Key]
		state := rule.Verdict{GroupID: v.GroupID, Tags: v.Tags, Target: v.Target, State: rule.Good}
		switch {
		case len(events) > 0 && events[0].Type == r.t.ClosedBy: // it had begun before
			state.State, state.Since, state.Text = rule.Bad, r.h.From, r.t.Label+" since before the trial begins."
		case len(events) == 0 && v.State == rule.Bad:
			state.State, state.Since, state.Text = rule.Bad, v.Since, v.Text
			if state.Since.Before(r.h.From) || state.Since.IsZero() {
				state.Since = r.h.From
			}
		}
		now := r.h.From
		if state.Since.After(now) {
			now = state.Since
		}
		for i := range events {
			e := events[i]
			r.lasting(p, state, now, e.At)
			now = e.At
			if e.Type == r.c.EventType {
				if state.State != rule.Bad {
					state.State, state.Since = rule.Bad, e.At
				}
				state.Text = cmp.Or(e.Text, r.t.Label+".")
			} else {
				state.State, state.Since, state.Text = rule.Good, time.Time{}, ""
			}
		}
		r.lasting(p, state, now, r.h.To)
	}
}

// lasting is a verdict that holds from one time to another; the first pass sees it within a minute.
func (r *run) lasting(p *player, v rule.Verdict, from, to time.Time) {
	first := from.Truncate(passEvery).Add(passEvery)
	if !first.Before(to) {
		if v.State == rule.Good || !first.Equal(to) {
			return
		}
	}
	r.step(p, v, first)
	r.hold(p, v, first, to)
}

// elections judges whenever the number of elections in the last hour may have changed.
func (r *run) elections() {
	var times []time.Time
	for i := range r.h.Events {
		at := r.h.Events[i].At
		for _, t := range []time.Time{at.Truncate(passEvery).Add(passEvery), at.Add(electionSpan).Truncate(passEvery).Add(passEvery)} {
			if !t.Before(r.h.From) && !t.After(r.h.To) {
				times = append(times, t)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	first := 0
	for k, now := range times {
		s := r.present(now)
		s.Elections = map[model.ID]int{}
		for first < len(r.h.Events) && !r.h.Events[first].At.After(now.Add(-electionSpan)) {
			first++
		}
		for i := first; i < len(r.h.Events) && !r.h.Events[i].At.After(now); i++ {
			s.Elections[r.h.Events[i].ClusterID]++
		}
		until := r.h.To
		if k+1 < len(times) {
			until = times[k+1]
		}
		r.judge(s, until)
	}
}

// inform lists the events that would have been told.
func (r *run) inform() {
	for i := range r.h.Events {
		e := &r.h.Events[i]
		target, text, ok := rule.JudgeEvent(r.c, e, r.h.Present)
		if !ok || e.At.Before(r.h.From) || e.At.After(r.h.To) {
			continue
		}
		a, due := rule.Inform(r.c, e, target, text, r.mute(r.c, r.t, target, e.At))
		where := target
		switch { // events about the same are listed together
		case target.HostID != "":
			where.Key = "host/" + string(target.HostID)
		case target.ClusterID != "":
			where.Key = "cluster/" + string(target.ClusterID)
		default:
			where.Key = "group/" + string(e.GroupID)
		}
		p := r.player(where)
		s := Span{Since: e.At, Opened: e.At, Closed: e.At, Text: a.Text, Muted: a.Muted}
		r.planned(&s, due, e.At)
		p.spans = append(p.spans, s)
		p.opened++
		if len(p.spans) > maxSpans {
			p.spans, p.cut = p.spans[1:], p.cut+1
		}
	}
}

// result lists the targets: those with alerts first, then those of which there are values.
func (r *run) result() Trial {
	listed := slices.Clone(r.order)
	for _, p := range listed {
		r.out.Opened += p.opened
		r.out.Brief += p.brief
	}
	quiet := 0
	if r.c.Metric != nil && Needs(r.c).Points {
		for _, v := range rule.Judge(r.c, r.present(r.h.To)).All() {
			if _, has := r.h.Lines[v.Target.HostID]; has && r.players[v.Target.Key] == nil {
				listed = append(listed, &player{target: v.Target})
			}
		}
	}
	slices.SortStableFunc(listed, func(a, b *player) int {
		return cmp.Or(cmp.Compare(b.opened, a.opened), cmp.Compare(b.brief, a.brief), cmp.Compare(a.target.HostName, b.target.HostName), cmp.Compare(a.target.Key, b.target.Key))
	})
	more, cut := 0, 0
	for i, p := range listed {
		nothing := len(p.spans) == 0
		if nothing && (r.c.Metric == nil || i >= maxLines) {
			quiet++
			continue
		}
		if len(r.out.Targets) >= maxTargets {
			more++
			continue
		}
		cut += p.cut
		t := TargetTrial{Target: p.target, Spans: p.spans}
		if i < maxLines {
			r.values(&t)
		}
		r.out.Targets = append(r.out.Targets, t)
	}
	r.out.Quiet = quiet
	if more > 0 {
		r.out.Notes = append(r.out.Notes, fmt.Sprintf("It would have happened on %d more hosts or clusters, which are counted but not listed.", more))
	}
	if cut > 0 {
		r.out.Notes = append(r.out.Notes, fmt.Sprintf("%d older alerts are counted but not listed.", cut))
	}
	return r.out
}

// values gives a target its line in the threshold's units: of several disks or databases the one that is worst at each time.
func (r *run) values(t *TargetTrial) {
	if r.c.Metric == nil {
		return
	}
	m, ok := rule.MetricOf(r.c.Metric.Metric)
	lines := r.h.Lines[t.Target.HostID]
	if !ok || len(lines) == 0 {
		return
	}
	t.Units = cmp.Or(r.c.Metric.Units, "RAW")
	limit := r.c.Metric.Value
	t.Threshold = &limit
	less := r.c.Metric.Operator == model.LessThan
	worse := func(a, b float64) bool { return math.IsNaN(b) || !math.IsNaN(a) && (less && a < b || !less && a > b) }
	n := len(lines[0].Values)
	group := (n + maxValues - 1) / maxValues // thinned to the worst of each few
	for i := 0; i < n; i += max(group, 1) {
		worst := math.NaN()
		for _, l := range lines {
			for k := i; k < i+group && k < len(l.Values); k++ {
				if worse(l.Values[k], worst) {
					worst = l.Values[k]
				}
			}
		}
		if x, err := rule.Convert(worst, m.Unit, t.Units); err == nil {
			worst = x
		}
		t.Times = append(t.Times, r.h.From.Add(time.Duration(i)*r.h.Step))
		t.Values = append(t.Values, worst)
	}
}
