package rule

import (
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/release"
)

const (
	agentForgotten = time.Hour // an agent that has not called for so long is not there any more
	passFailures   = 3
	passLate       = 10 * time.Minute
	deliveryWaits  = 10 * time.Minute
)

// lastPing is the newest ping of any monitoring agent.
func lastPing(agents []model.Agent) (last time.Time) {
	for i := range agents {
		if a := &agents[i]; a.Type == model.AgentMonitoring && a.LastPing.After(last) {
			last = a.LastPing
		}
	}
	return last
}

// agentDown: a group with hosts has heard of no monitoring agent for minutes.
func (j *judge) agentDown(yield func(*Verdict)) {
	s := j.s
	var oldest time.Time
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if monitored(h) && (oldest.IsZero() || h.Created.Before(oldest)) {
			oldest = h.Created
		}
	}
	if oldest.IsZero() {
		return
	}
	key := "agent/" + string(model.AgentMonitoring) + "/" + string(s.Group.ID)
	last := lastPing(s.Agents)
	news := last
	if last.IsZero() {
		news = oldest
	}
	silent := s.Now.Sub(s.since(news))
	switch {
	case s.Now.Sub(last) <= agentSilent:
		yield(j.verdict(key, Good, ""))
	case silent < agentDown:
		yield(j.verdict(key, Unknown, "the monitoring agent is silent, but not for long enough to be down"))
	default:
		text := "No monitoring agent of " + s.Group.Name + " has sent a ping since " + when(last) + "."
		if last.IsZero() {
			text = "No monitoring agent of " + s.Group.Name + " has ever sent a ping, though there are hosts to watch."
		}
		v := j.verdict(key, Bad, text+" Nothing is known of its hosts until one does. Is the agent running, and can it reach this server?")
		v.Since = s.since(news)
		for i := range s.Agents {
			if a := &s.Agents[i]; a.Type == model.AgentMonitoring && a.LastPing.Equal(last) {
				v.Target.AgentID = a.ID
				if !last.IsZero() {
					v.Text += " The last one ran on " + a.Hostname + "."
				}
				break
			}
		}
		yield(v)
	}
}

// agentVersions: an agent is of an older version than this server.
func (j *judge) agentVersions(yield func(*Verdict)) {
	s := j.s
	for i := range s.Agents {
		a := &s.Agents[i]
		called := a.LastConf
		if a.LastPing.After(called) {
			called = a.LastPing
		}
		want := model.AgentMonitoring
		if j.c.EventType == model.EventBackupAgentBehind {
			want = model.AgentBackup
		}
		if a.Type != want || s.Now.Sub(s.since(called)) > agentForgotten {
			continue
		}
		have, okHave := release.Numbers(strings.TrimPrefix(a.Version, "v"))
		newest, okWant := release.Numbers(strings.TrimPrefix(s.ServerVersion, "v"))
		v := j.verdict("agent/"+a.ID, Good, "")
		switch {
		case !okHave || !okWant || newest == [3]int{}:
			v.State, v.Why = Unknown, "the versions of agent and server cannot be compared"
		case release.Less(have, newest):
			v.State = Bad
			v.Text = "The " + strings.ToLower(string(a.Type)) + " agent on " + a.Hostname + " is of version " + a.Version + ", this server of " + s.ServerVersion + ". Install the newer agent."
		}
		v.Target.AgentID = a.ID
		yield(v)
	}
}

// passes: a periodic duty keeps failing or is late.
func (j *judge) passes(yield func(*Verdict)) {
	for _, p := range j.s.Passes {
		v := j.verdict("site/pass/"+p.Name, Good, "")
		switch {
		case p.Failures >= passFailures:
			v.State, v.Text = Bad, fmt.Sprintf("The duty %s failed %d times in a row: %s.", p.Name, p.Failures, strings.TrimRight(p.Error, ". \n"))
		case p.LateBy >= passLate:
			v.State, v.Text = Bad, fmt.Sprintf("The duty %s should have run %s ago. Is a server running, and is its database quick enough?", p.Name, p.LateBy.Round(time.Minute))
		}
		if v.State == Bad {
			v.Since = p.Since
		}
		yield(v)
	}
}

// deliveries: notifications are given up or wait for long.
func (j *judge) deliveries(yield func(*Verdict)) {
	d, now := j.s.Deliveries, j.s.Now
	v := j.verdict("site/deliveries", Good, "")
	late := d.Pending > 0 && !d.OldestPending.IsZero() && now.Sub(d.OldestPending) > deliveryWaits
	switch {
	case late:
		v.State, v.Since = Bad, d.OldestPending.Add(deliveryWaits)
		v.Text = plural(d.Pending, "notification") + " could not be delivered yet, the oldest since " + when(d.OldestPending) + "."
	case d.FailedLastHour > 0:
		v.State, v.Text = Bad, plural(d.FailedLastHour, "notification")+" could not be delivered in the last hour and will not be tried again."
	}
	if v.State == Bad && d.LastError != "" {
		v.Text += " The last error: " + strings.TrimRight(d.LastError, ". \n") + "."
	}
	if v.Text != "" {
		v.Text = strings.ToUpper(v.Text[:1]) + v.Text[1:]
	}
	yield(v)
}

// serverCertificate: the certificate this site serves with ends soon.
func (j *judge) serverCertificate(yield func(*Verdict)) {
	if j.s.ServerCert.IsZero() {
		return
	}
	v := j.verdict("site/certificate", Good, "")
	j.expires(v, "The certificate this site serves with", j.s.ServerCert)
	yield(v)
}
