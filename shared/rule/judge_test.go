package rule

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/release"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// world is a group with one replica set of three members, a mongos in front of a sharded cluster, and an agent that is up.
func world() *Snapshot {
	s := &Snapshot{
		Now: noon, Resumed: ago(24 * time.Hour), Group: model.Group{ID: "g1", Name: "shop", Tags: []string{"prod"}, Settings: model.DefaultGroupSettings()},
		Statuses: map[model.HostID]model.HostStatus{}, Elections: map[model.ID]int{},
		Agents: []model.Agent{{ID: "a1", Type: model.AgentMonitoring, Hostname: "watcher", Version: "1.2.0", LastPing: ago(20 * time.Second), LastConf: ago(time.Minute)}},
		Clusters: []model.Cluster{
			{ID: "set", Type: model.ClusterReplicaSet, Name: "rs0", ReplicaSet: "rs0", Created: ago(100 * time.Hour), PrimaryID: "h1", Members: []model.Member{
				{ID: 0, Host: "db1:27017", HostID: "h1", Votes: 1, Priority: 1},
				{ID: 1, Host: "db2:27017", HostID: "h2", Votes: 1, Priority: 1},
				{ID: 2, Host: "db3:27017", HostID: "h3", Votes: 1, Priority: 1},
				{ID: 3, Host: "arb:27017", HostID: "h4", Arbiter: true, Votes: 1},
			}},
			{ID: "sharded", Type: model.ClusterSharded, Name: "big", Created: ago(100 * time.Hour)},
		},
		ServerVersion: "1.2.0",
	}
	add := func(id model.HostID, name string, t model.ProcessType, state model.MemberState, cluster model.ID) {
		s.Hosts = append(s.Hosts, model.Host{
			ID: id, GroupID: "g1", Hostname: name, Port: 27017, Type: t, Version: "8.0.4", ClusterID: cluster, ReplicaSet: "rs0", Enabled: true, AlertsEnabled: true,
			Created: ago(100 * time.Hour), AuthEnabled: true, TLSMode: "requireTLS", StorageEngine: "wiredTiger",
		})
		s.Statuses[id] = model.HostStatus{
			HostID: id, At: ago(30 * time.Second), LastPing: ago(30 * time.Second), Reach: model.ReachUp, ReachSince: ago(time.Hour), State: state,
			StateSince: ago(time.Hour), AgentID: "a1", Skews: []int64{1, 2, 3, 4},
		}
	}
	add("h1", "db1", model.TypeReplicaPrimary, model.StatePrimary, "set")
	add("h2", "db2", model.TypeReplicaSecondary, model.StateSecondary, "set")
	add("h3", "db3", model.TypeReplicaSecondary, model.StateSecondary, "set")
	add("h4", "arb", model.TypeReplicaArbiter, model.StateArbiter, "set")
	add("h5", "router", model.TypeShardMongos, model.StateUnknown, "sharded")
	s.Hosts[4].ReplicaSet = ""
	return s
}

func (s *Snapshot) status(id model.HostID, change func(*model.HostStatus)) {
	st := s.Statuses[id]
	change(&st)
	s.Statuses[id] = st
}

func of1(event model.EventType, matchers ...model.Matcher) *model.AlertConfig {
	c := &model.AlertConfig{ID: "c1", GroupID: "g1", EventType: event, Enabled: true, Matchers: matchers}
	if event == model.EventTooFewHealthy {
		c.Threshold = &model.Threshold{Operator: model.LessThan, Value: 2}
	}
	if event == model.EventTooManyUnhealthy {
		c.Threshold = &model.Threshold{Operator: model.GreaterThan, Value: 0}
	}
	return c
}

func down(since time.Duration) func(*model.HostStatus) {
	return func(st *model.HostStatus) {
		st.Reach, st.ReachSince, st.State, st.StateSince, st.Error = model.ReachDown, ago(since), model.StateDown, ago(since), "connection refused"
	}
}

func TestJudge(t *testing.T) {
	table, err := release.Load([]byte(`{"format":1,"date":"2026-11-01","series":[{"name":"8.0","latest":"8.0.6"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	host := func(i int, change func(*model.Host)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Hosts[i]) }
	}
	status := func(id model.HostID, change func(*model.HostStatus)) func(*Snapshot) {
		return func(s *Snapshot) { s.status(id, change) }
	}
	agentSilentFor := func(d time.Duration) func(*Snapshot) {
		return func(s *Snapshot) { s.Agents[0].LastPing = ago(d) }
	}
	all := func(fs ...func(*Snapshot)) func(*Snapshot) {
		return func(s *Snapshot) {
			for _, f := range fs {
				f(s)
			}
		}
	}
	type want struct {
		state State
		since time.Duration // ago; 0: not looked at
		text  string        // part of Text or Why
	}
	for name, c := range map[string]struct {
		event  model.EventType
		change func(*Snapshot)
		key    string
		want   want
	}{
		"a host that answers is up":                          {model.EventHostDown, nil, "host/h1", want{state: Good}},
		"a host is down after three pings":                   {model.EventHostDown, status("h1", down(150*time.Second)), "host/h1", want{Bad, 150 * time.Second, "db1:27017 has not answered since 2026-11-21 11:57 UTC: connection refused."}},
		"two pings are not enough":                           {model.EventHostDown, status("h1", down(90*time.Second)), "host/h1", want{Unknown, 0, "missed a ping"}},
		"pings every ten seconds are counted too":            {model.EventHostDown, all(status("h1", func(st *model.HostStatus) { down(25 * time.Second)(st); st.At = ago(5 * time.Second) }), func(s *Snapshot) { s.Group.Settings.PingSeconds = 10 }), "host/h1", want{Bad, 25 * time.Second, ""}},
		"a host marked down by ingestion is down":            {model.EventHostDown, status("h1", func(st *model.HostStatus) { down(10 * time.Second)(st); st.At = ago(5 * time.Minute) }), "host/h1", want{Bad, 10 * time.Second, ""}},
		"silence about a host is down while the agent is up": {model.EventHostDown, status("h1", func(st *model.HostStatus) { st.At = ago(4 * time.Minute) }), "host/h1", want{Bad, 4 * time.Minute, "Nothing was heard of db1:27017"}},
		"silence counts from when evaluation resumed":        {model.EventHostDown, all(status("h1", func(st *model.HostStatus) { st.At = ago(40 * time.Minute) }), func(s *Snapshot) { s.Resumed = ago(time.Minute) }), "host/h1", want{Unknown, 0, ""}},
		"a back-filling agent says nothing by silence":       {model.EventHostDown, all(status("h1", func(st *model.HostStatus) { st.At = ago(40 * time.Minute) }), func(s *Snapshot) { s.Agents[0].Spooled = 9 }), "host/h1", want{Unknown, 0, "older pings"}},
		"a host that was just added is not down":             {model.EventHostDown, all(host(0, func(h *model.Host) { h.Created = ago(time.Minute) }), func(s *Snapshot) { delete(s.Statuses, "h1") }), "host/h1", want{Unknown, 0, "not polled"}},
		"a host that was never polled is down":               {model.EventHostDown, func(s *Snapshot) { delete(s.Statuses, "h1") }, "host/h1", want{Bad, 24 * time.Hour, "never polled"}},
		"a host that refuses the agent is up":                {model.EventHostDown, status("h1", func(st *model.HostStatus) { st.Reach = model.ReachUnauthorised }), "host/h1", want{state: Good}},
		"nothing is known of hosts while the agent is down":  {model.EventHostDown, all(agentSilentFor(3*time.Minute), status("h1", down(time.Hour))), "host/h1", want{Unknown, 0, "the monitoring agent is down"}},
		"the agent's own clock is taken into account":        {model.EventHostDown, all(func(s *Snapshot) { s.Agents[0].SkewMS = -300000 }, status("h1", func(st *model.HostStatus) { st.At = ago(330 * time.Second) })), "host/h1", want{state: Good}},
		"hosts without alerts are no targets":                {model.EventHostDown, host(0, func(h *model.Host) { h.AlertsEnabled = false }), "host/h1", want{Gone, 0, "alerts are switched off"}},
		"hidden hosts are no targets":                        {model.EventHostDown, host(0, func(h *model.Host) { h.Hidden = true }), "host/h1", want{Gone, 0, "hidden"}},
		"deleted hosts are no targets":                       {model.EventHostDown, host(0, func(h *model.Host) { h.Deleted = true }), "host/h1", want{Gone, 0, "removed"}},
		"hosts never heard of are no targets":                {model.EventHostDown, nil, "host/h9", want{Gone, 0, "not there"}},

		"a secondary is not recovering":           {model.EventHostRecovering, nil, "host/h2", want{state: Good}},
		"a member in RECOVERING":                  {model.EventHostRecovering, status("h2", func(st *model.HostStatus) { st.State, st.StateSince = model.StateRecovering, ago(5*time.Minute) }), "host/h2", want{Bad, 5 * time.Minute, "state RECOVERING"}},
		"a member that syncs":                     {model.EventHostRecovering, status("h2", func(st *model.HostStatus) { st.State = model.StateStartup2 }), "host/h2", want{Bad, 0, "STARTUP2"}},
		"of a host that is down nothing is known": {model.EventHostRecovering, status("h2", down(time.Hour)), "host/h2", want{Unknown, 0, "the host is down"}},
		"of a silent host nothing is known":       {model.EventHostRecovering, status("h2", func(st *model.HostStatus) { st.At = ago(9 * time.Minute) }), "host/h2", want{Unknown, 0, "nothing was heard"}},
		"a certificate with 31 days":              {model.EventCertificateStale, host(0, func(h *model.Host) { h.CertExpires = noon.Add(31 * 24 * time.Hour) }), "host/h1", want{state: Good}},
		"a certificate with ten days":             {model.EventCertificateStale, host(0, func(h *model.Host) { h.CertExpires, h.CertSubject = noon.Add(241*time.Hour), "CN=db1" }), "host/h1", want{Bad, 720*time.Hour - 241*time.Hour, "(CN=db1) ends on 2026-12-01 13:00 UTC, in 10 days"}},
		"a certificate that has ended":            {model.EventCertificateStale, host(0, func(h *model.Host) { h.CertExpires = ago(time.Hour) }), "host/h1", want{Bad, 0, "ended on"}},
		"a host that shows no certificate":        {model.EventCertificateStale, nil, "host/h1", want{Unknown, 0, "no certificate"}},
		"an exposed host":                         {model.EventHostExposed, all(func(s *Snapshot) { s.Group.Settings.SkipExposed = false }, host(0, func(h *model.Host) { h.ExposedSince = ago(time.Hour) })), "host/h1", want{Bad, time.Hour, "anybody"}},
		"an exposed host while the agent is down": {model.EventHostExposed, all(func(s *Snapshot) { s.Group.Settings.SkipExposed = false }, host(0, func(h *model.Host) { h.ExposedSince = ago(time.Hour) }), agentSilentFor(time.Hour)), "host/h1", want{state: Bad}},
		"a host that was checked":                 {model.EventHostExposed, all(func(s *Snapshot) { s.Group.Settings.SkipExposed = false }, host(0, func(h *model.Host) { h.ExposedChecked = ago(time.Hour) })), "host/h1", want{state: Good}},
		"a host that was not checked":             {model.EventHostExposed, func(s *Snapshot) { s.Group.Settings.SkipExposed = false }, "host/h1", want{Unknown, 0, "not checked"}},
		"the check is switched off":               {model.EventHostExposed, all(func(s *Snapshot) { s.Group.Settings.SkipExposed = true }, host(0, func(h *model.Host) { h.ExposedSince = ago(time.Hour) })), "host/h1", want{state: Gone}},
		"authentication and TLS are on":           {model.EventSecurityNotMet, nil, "host/h1", want{state: Good}},
		"authentication is off":                   {model.EventSecurityNotMet, host(0, func(h *model.Host) { h.AuthEnabled = false }), "host/h1", want{Bad, 0, "without access control."}},
		"TLS is off":                              {model.EventSecurityNotMet, host(0, func(h *model.Host) { h.TLSMode = "disabled" }), "host/h1", want{Bad, 0, "without TLS"}},
		"TLS is off on the loopback interface":    {model.EventSecurityNotMet, host(0, func(h *model.Host) { h.TLSMode, h.BindIP = "disabled", "127.0.0.1, ::1" }), "host/h1", want{state: Good}},
		"both are off":                            {model.EventSecurityNotMet, host(0, func(h *model.Host) { h.TLSMode, h.AuthEnabled, h.BindIP = "disabled", false, "0.0.0.0" }), "host/h1", want{Bad, 0, "without access control and without TLS"}},
		"TLS is not known":                        {model.EventSecurityNotMet, host(0, func(h *model.Host) { h.TLSMode = "" }), "host/h1", want{Unknown, 0, "TLS"}},
		"one release behind":                      {model.EventVersionBehind, all(host(0, func(h *model.Host) { h.Version = "8.0.5" }), func(s *Snapshot) { s.Release = table }), "host/h1", want{state: Good}},
		"two releases behind":                     {model.EventVersionBehind, func(s *Snapshot) { s.Release = table }, "host/h1", want{Bad, 0, "MongoDB 8.0.4, 2 releases behind 8.0.6"}},
		"a version nobody knows":                  {model.EventVersionBehind, all(host(0, func(h *model.Host) { h.Version = "9.9.1" }), func(s *Snapshot) { s.Release = table }), "host/h1", want{Unknown, 0, "table of releases"}},
		"a clock that is right":                   {model.EventClockSkew, status("h1", func(st *model.HostStatus) { st.SkewMS = 1999 }), "host/h1", want{state: Good}},
		"a clock that is behind":                  {model.EventClockSkew, status("h1", func(st *model.HostStatus) { st.SkewMS = -2600 }), "host/h1", want{Bad, 0, "2.6 s behind"}},
		"a clock that was compared once":          {model.EventClockSkew, status("h1", func(st *model.HostStatus) { st.SkewMS, st.Skews = 9000, []int64{9000} }), "host/h1", want{Unknown, 0, "compared"}},

		"a set with a primary": {model.EventNoPrimary, nil, "cluster/set", want{state: Good}},
		"a set without primary": {
			model.EventNoPrimary, status("h1", func(st *model.HostStatus) { st.State, st.StateSince = model.StateSecondary, ago(3*time.Minute) }), "cluster/set",
			want{Bad, 3 * time.Minute, "No member of replica set rs0 is primary: it takes no writes. Its members: db1:27017 SECONDARY"},
		},
		"a state that is known counts from its beginning, whatever was interrupted": {model.EventNoPrimary, all(status("h1", down(4*time.Minute)), func(s *Snapshot) { s.Resumed = ago(time.Minute) }), "cluster/set", want{Bad, 4 * time.Minute, ""}},
		"a primary that is down":   {model.EventNoPrimary, status("h1", down(4*time.Minute)), "cluster/set", want{Bad, 4 * time.Minute, "db1:27017 DOWN"}},
		"a primary that is silent": {model.EventNoPrimary, status("h1", func(st *model.HostStatus) { st.At = ago(5 * time.Minute) }), "cluster/set", want{Bad, 5 * time.Minute, "db1:27017 silent"}},
		"a member nobody watches may be primary": {model.EventNoPrimary, func(s *Snapshot) {
			s.Clusters[0].Members[0].HostID, s.Clusters[0].Members[0].Host = "", "db9:27017"
			s.Hosts[0].Deleted = true
		}, "cluster/set", want{Unknown, 0, "db9:27017"}},
		"no primary while the agent is down": {model.EventNoPrimary, all(agentSilentFor(3*time.Minute), status("h1", down(time.Hour))), "cluster/set", want{Unknown, 0, "agent"}},
		"a set nobody watches is no target": {model.EventNoPrimary, func(s *Snapshot) {
			for i := range 4 {
				s.Hosts[i].Enabled = false
			}
		}, "cluster/set", want{Gone, 0, "monitored"}},
		"a sharded cluster is no replica set":      {model.EventNoPrimary, nil, "cluster/sharded", want{state: Gone}},
		"one primary is enough":                    {model.EventMultiplePrimaries, nil, "cluster/set", want{state: Good}},
		"two primaries":                            {model.EventMultiplePrimaries, status("h2", func(st *model.HostStatus) { st.State, st.StateSince = model.StatePrimary, ago(2*time.Minute) }), "cluster/set", want{Bad, 2 * time.Minute, "db1:27017, db2:27017"}},
		"an old claim is no second primary":        {model.EventMultiplePrimaries, all(status("h1", func(st *model.HostStatus) { st.At = ago(50 * time.Second) }), status("h2", func(st *model.HostStatus) { st.State, st.StateSince = model.StatePrimary, ago(40*time.Second) })), "cluster/set", want{state: Good}},
		"three healthy members":                    {model.EventTooFewHealthy, nil, "cluster/set", want{state: Good}},
		"hidden members and arbiters do not count": {model.EventTooFewHealthy, func(s *Snapshot) { s.Clusters[0].Members[1].Hidden = true; s.Hosts[2].HiddenSecondary = true }, "cluster/set", want{Bad, 0, "There is one healthy member of replica set rs0, fewer than 2"}},
		"unwatched members may be healthy":         {model.EventTooFewHealthy, all(status("h1", down(time.Hour)), func(s *Snapshot) { s.Hosts[1].Enabled = false }), "cluster/set", want{Unknown, 0, "db2:27017"}},
		"one unhealthy member":                     {model.EventTooManyUnhealthy, status("h3", down(time.Hour)), "cluster/set", want{Bad, 0, "one unhealthy member"}},
		"no unhealthy member":                      {model.EventTooManyUnhealthy, status("h4", down(time.Hour)), "cluster/set", want{state: Good}},
		"three elections are allowed":              {model.EventTooManyElections, func(s *Snapshot) { s.Elections["set"] = 3 }, "cluster/set", want{state: Good}},
		"four elections are too many":              {model.EventTooManyElections, func(s *Snapshot) { s.Elections["set"] = 4 }, "cluster/set", want{Bad, 0, "4 elections"}},
		"a mongos answers":                         {model.EventMongosMissing, nil, "cluster/sharded", want{state: Good}},
		"no mongos answers":                        {model.EventMongosMissing, status("h5", down(6*time.Minute)), "cluster/sharded", want{Bad, 6 * time.Minute, "No mongos of cluster big answers"}},
		"no mongos was found":                      {model.EventMongosMissing, func(s *Snapshot) { s.Hosts[4].Deactivated = true }, "cluster/sharded", want{Bad, 0, "is monitored"}},
		"a new cluster's mongos may come":          {model.EventMongosMissing, func(s *Snapshot) { s.Hosts[4].Deactivated = true; s.Clusters[1].Created = ago(time.Minute) }, "cluster/sharded", want{Unknown, 0, "found yet"}},
		"mongos are not looked for":                {model.EventMongosMissing, func(s *Snapshot) { s.Hosts[4].Deactivated = true; s.Group.Settings.SuppressMongos = true }, "cluster/sharded", want{Unknown, 0, "switched off"}},

		"the agent is up":                                          {model.EventAgentDown, nil, "agent/MONITORING/g1", want{state: Good}},
		"the agent is silent for five minutes":                     {model.EventAgentDown, agentSilentFor(5 * time.Minute), "agent/MONITORING/g1", want{state: Unknown}},
		"the agent is silent for seven minutes":                    {model.EventAgentDown, agentSilentFor(7 * time.Minute), "agent/MONITORING/g1", want{Bad, 7 * time.Minute, "No monitoring agent of shop has sent a ping since 2026-11-21 11:53 UTC."}},
		"silence of the agent counts from when evaluation resumed": {model.EventAgentDown, all(agentSilentFor(time.Hour), func(s *Snapshot) { s.Resumed = ago(time.Minute) }), "agent/MONITORING/g1", want{state: Unknown}},
		"a standby agent's pings count": {model.EventAgentDown, all(agentSilentFor(time.Hour), func(s *Snapshot) {
			s.Agents = append(s.Agents, model.Agent{ID: "a2", Type: model.AgentMonitoring, LastPing: ago(time.Minute)})
		}), "agent/MONITORING/g1", want{state: Good}},
		"a backup agent's do not": {model.EventAgentDown, all(agentSilentFor(time.Hour), func(s *Snapshot) {
			s.Agents = append(s.Agents, model.Agent{ID: "a2", Type: model.AgentBackup, LastPing: ago(time.Minute)})
		}), "agent/MONITORING/g1", want{state: Bad}},
		"a group with hosts and no agent":      {model.EventAgentDown, func(s *Snapshot) { s.Agents = nil }, "agent/MONITORING/g1", want{Bad, 24 * time.Hour, "has ever sent"}},
		"a group without hosts needs no agent": {model.EventAgentDown, func(s *Snapshot) { s.Hosts, s.Agents = nil, nil }, "agent/MONITORING/g1", want{state: Gone}},
		"an agent of the server's version":     {model.EventAgentVersionBehind, nil, "agent/a1", want{state: Good}},
		"an older agent":                       {model.EventAgentVersionBehind, func(s *Snapshot) { s.ServerVersion = "1.10.0" }, "agent/a1", want{Bad, 0, "version 1.2.0, this server of 1.10.0"}},
		"an agent long gone":                   {model.EventAgentVersionBehind, func(s *Snapshot) { s.Agents[0].LastPing, s.Agents[0].LastConf = ago(9*time.Hour), ago(9*time.Hour) }, "agent/a1", want{state: Gone}},
		"a development build compares nothing": {model.EventAgentVersionBehind, func(s *Snapshot) { s.ServerVersion = "0.0.0-dev" }, "agent/a1", want{state: Unknown}},
	} {
		s := world()
		if c.change != nil {
			c.change(s)
		}
		config := of1(c.event)
		j := Judge(config, s)
		got := j.Of(c.key)
		text := got.Text + got.Why
		if got.State != c.want.state || !strings.Contains(text, c.want.text) || c.want.since > 0 && !got.Since.Equal(ago(c.want.since)) {
			t.Errorf("%s: %s since %s: %s", name, got.State, got.Since.Format("15:04:05"), text)
		}
		listed := false
		for _, v := range j.Bad {
			listed = listed || v.Target.Key == c.key
			if v.State != Bad || v.Text == "" || v.Why != "" || v.GroupID != "g1" {
				t.Errorf("%s: listed as bad: %+v", name, v)
			}
			if full := j.Of(v.Target.Key); !reflect.DeepEqual(full, v) {
				t.Errorf("%s: Of says %+v, the list %+v", name, full, v)
			}
		}
		if listed != (c.want.state == Bad) {
			t.Errorf("%s: listed %v", name, listed)
		}
		for _, v := range j.All() {
			if v.Target.Key == c.key && v.State != got.State || v.State == Gone {
				t.Errorf("%s: All says %s", name, v.State)
			}
			if v.Target.Key == "" {
				t.Errorf("%s: no target", name)
			}
		}
	}
}

func TestSiteIsJudged(t *testing.T) {
	site := func(change func(*Snapshot)) *Snapshot {
		s := &Snapshot{Now: noon, Passes: []PassFact{{Name: "expire"}}}
		change(s)
		return s
	}
	for name, c := range map[string]struct {
		event  model.EventType
		change func(*Snapshot)
		key    string
		state  State
		text   string
	}{
		"a duty that does well":     {model.EventCronJobFailed, func(*Snapshot) {}, "site/pass/expire", Good, ""},
		"a duty that failed twice":  {model.EventCronJobFailed, func(s *Snapshot) { s.Passes[0].Failures = 2 }, "site/pass/expire", Good, ""},
		"a duty that keeps failing": {model.EventCronJobFailed, func(s *Snapshot) { s.Passes[0].Failures, s.Passes[0].Error = 3, "disk full." }, "site/pass/expire", Bad, "failed 3 times in a row: disk full."},
		"a duty that is late":       {model.EventCronJobFailed, func(s *Snapshot) { s.Passes[0].LateBy = 11 * time.Minute }, "site/pass/expire", Bad, "11m0s ago"},
		"an outbox that does well":  {model.EventDeliveriesFailing, func(s *Snapshot) { s.Deliveries = DeliveryFact{Pending: 3, OldestPending: ago(time.Minute)} }, "site/deliveries", Good, ""},
		"a delivery that waits": {model.EventDeliveriesFailing, func(s *Snapshot) {
			s.Deliveries = DeliveryFact{Pending: 1, Failing: 1, OldestPending: ago(11 * time.Minute), LastError: "no route"}
		}, "site/deliveries", Bad, "One notification could not be delivered yet"},
		"a delivery that was given up": {model.EventDeliveriesFailing, func(s *Snapshot) { s.Deliveries.FailedLastHour = 2 }, "site/deliveries", Bad, "2 notifications"},
		"a certificate that ends":      {model.EventServerCertStale, func(s *Snapshot) { s.ServerCert = noon.Add(time.Hour) }, "site/certificate", Bad, "ends within a day"},
		"a certificate that lasts":     {model.EventServerCertStale, func(s *Snapshot) { s.ServerCert = noon.Add(9000 * time.Hour) }, "site/certificate", Good, ""},
		"no certificate":               {model.EventServerCertStale, func(*Snapshot) {}, "site/certificate", Gone, ""},
	} {
		config := &model.AlertConfig{ID: "c", EventType: c.event, Enabled: true}
		if got := Judge(config, site(c.change)).Of(c.key); got.State != c.state || !strings.Contains(got.Text, c.text) {
			t.Errorf("%s: %s %s", name, got.State, got.Text)
		}
		if n := len(Judge(config, world()).All()); n != 0 {
			t.Errorf("%s: a group has %d targets of the site", name, n)
		}
	}
	if n := len(Judge(of1(model.EventHostDown), &Snapshot{Now: noon, Hosts: world().Hosts}).All()); n != 0 {
		t.Error("the site has hosts")
	}
}

func TestTargetsSayWhatTheyAre(t *testing.T) {
	s := world()
	s.status("h2", down(time.Hour))
	s.Clusters[0].Name, s.Clusters[0].ShardName = "big", "shard0"
	v := Judge(of1(model.EventHostDown), s).Bad[0]
	want := model.Target{Key: "host/h2", HostID: "h2", HostName: "db2:27017", ReplicaSet: "rs0", ShardName: "shard0", ClusterID: "set", ClusterName: "big"}
	if v.Target != want || v.Tags[0] != "prod" {
		t.Errorf("%+v", v)
	}
	s.status("h1", down(time.Hour))
	v = Judge(of1(model.EventNoPrimary), s).Bad[0]
	want = model.Target{Key: "cluster/set", ReplicaSet: "rs0", ShardName: "shard0", ClusterID: "set", ClusterName: "big"}
	if v.Target != want || !strings.Contains(v.Text, "replica set rs0 of cluster big") {
		t.Errorf("%+v", v)
	}
}

func TestMatchersNarrow(t *testing.T) {
	for name, c := range map[string]struct {
		event    model.EventType
		matchers []model.Matcher
		want     string
	}{
		"none":                 {model.EventHostDown, nil, "h1 h2 h3 h4 h5"},
		"a type":               {model.EventHostDown, []model.Matcher{{Field: "TYPE_NAME", Operator: "EQUALS", Value: "SECONDARY"}}, "h2 h3"},
		"a name in other case": {model.EventHostDown, []model.Matcher{{Field: "HOSTNAME_AND_PORT", Operator: "EQUALS", Value: "DB1:27017"}}, "h1"},
		"two matchers":         {model.EventHostDown, []model.Matcher{{Field: "HOSTNAME", Operator: "STARTS_WITH", Value: "db"}, {Field: "HOSTNAME", Operator: "NOT_EQUALS", Value: "db2"}}, "h1 h3"},
		"an expression":        {model.EventHostDown, []model.Matcher{{Field: "HOSTNAME", Operator: "REGEX", Value: "^(arb|router)$"}}, "h4 h5"},
		"a port":               {model.EventHostDown, []model.Matcher{{Field: "PORT", Operator: "NOT_EQUALS", Value: "27017"}}, ""},
		"a set":                {model.EventHostDown, []model.Matcher{{Field: "REPLICA_SET_NAME", Operator: "EQUALS", Value: "rs0"}}, "h1 h2 h3 h4"},
		"a cluster":            {model.EventHostDown, []model.Matcher{{Field: "CLUSTER_NAME", Operator: "EQUALS", Value: "big"}}, "h5"},
		"a set of sets":        {model.EventNoPrimary, []model.Matcher{{Field: "REPLICA_SET_NAME", Operator: "ENDS_WITH", Value: "0"}}, "set"},
		"another set":          {model.EventNoPrimary, []model.Matcher{{Field: "REPLICA_SET_NAME", Operator: "NOT_CONTAINS", Value: "rs"}}, ""},
	} {
		var got []string
		for _, v := range Judge(of1(c.event, c.matchers...), world()).All() {
			_, id, _ := strings.Cut(v.Target.Key, "/")
			got = append(got, id)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	v := Judge(of1(model.EventHostDown, model.Matcher{Field: "TYPE_NAME", Operator: "EQUALS", Value: "SECONDARY"}), world()).Of("host/h1")
	if v.State != Gone || v.Target.HostName != "db1:27017" {
		t.Errorf("%+v", v)
	}
}

func TestMetrics(t *testing.T) {
	points := func(metric string, ages []time.Duration, values ...float64) func(model.HostID, string) []model.Sample {
		return func(h model.HostID, name string) (out []model.Sample) {
			if h != "h2" || name != metric {
				return nil
			}
			for i := range ages {
				out = append(out, model.Sample{At: ago(ages[i]), Value: values[i]})
			}
			return out
		}
	}
	mins := func(m ...float64) (out []time.Duration) {
		for _, x := range m {
			out = append(out, time.Duration(x*float64(time.Minute)))
		}
		return out
	}
	last := func(d time.Duration) func(model.HostID, string) time.Time {
		return func(model.HostID, string) time.Time { return ago(d) }
	}
	threshold := func(metric, operator string, value float64, units string) *model.MetricThreshold {
		return &model.MetricThreshold{Metric: metric, Threshold: model.Threshold{Operator: operator, Value: value, Units: units}}
	}
	connections := threshold("CONNECTIONS", model.GreaterThan, 500, "RAW")
	for name, c := range map[string]struct {
		metric *model.MetricThreshold
		change func(*Snapshot)
		state  State
		value  float64
		noData bool
		text   string
	}{
		"the mean is what counts":        {connections, func(s *Snapshot) { s.Points = points("CONNECTIONS", mins(2, 1, 0), 100, 600, 900) }, Bad, 533.3333, false, "CONNECTIONS of db2:27017 is 533.33, above 500 (mean of the last 3 points)."},
		"a single spike does not":        {connections, func(s *Snapshot) { s.Points = points("CONNECTIONS", mins(2, 1, 0), 100, 100, 900) }, Good, 366.6667, false, ""},
		"the threshold itself is inside": {connections, func(s *Snapshot) { s.Points = points("CONNECTIONS", mins(0), 500) }, Good, 500, false, ""},
		"old samples do not count": {connections, func(s *Snapshot) {
			s.Points, s.LastPoint = points("CONNECTIONS", mins(40, 5, 4), 900, 900, 900), last(4*time.Minute)
		}, Unknown, 0, true, "nothing arrives"},
		"samples of the future do not":   {connections, func(s *Snapshot) { s.Points = points("CONNECTIONS", mins(1, -3), 100, 9000) }, Good, 100, false, ""},
		"lower is worse":                 {threshold("CONNECTIONS", model.LessThan, 5, ""), func(s *Snapshot) { s.Points = points("CONNECTIONS", mins(1), 4.5) }, Bad, 4.5, false, "is 4.5, below 5 (the newest point)"},
		"units are converted":            {threshold("OPLOG_SLAVE_LAG_MASTER_TIME", model.GreaterThan, 4, "MINUTES"), func(s *Snapshot) { s.Points = points("OPLOG_SLAVE_LAG_MASTER_TIME", mins(1), 300) }, Bad, 5, false, "is 5 min, above 4 min"},
		"a MAX_ name reads its base":     {threshold("MAX_SYSTEM_NORMALIZED_CPU_USER", model.GreaterThan, 5, ""), func(s *Snapshot) { s.Points = points("SYSTEM_NORMALIZED_CPU_USER", mins(1), 6) }, Bad, 6, false, ""},
		"an alias reads its measurement": {threshold("TICKETS_AVAILABLE_WRITES", model.LessThan, 10, "RAW"), func(s *Snapshot) { s.Points = points("TICKETS_AVAILABLE_WRITE", mins(1), 6) }, Bad, 6, false, ""},
		"the worst disk decides": {threshold("DISK_PARTITION_SPACE_PERCENT_USED", model.GreaterThan, 90, "RAW"), func(s *Snapshot) {
			s.Parts = func(model.HostID, string) []string { return []string{"sda", "sdb"} }
			a, b := points("DISK_PARTITION_SPACE_PERCENT_USED/sda", mins(1), 50), points("DISK_PARTITION_SPACE_PERCENT_USED/sdb", mins(55), 97)
			s.Points = func(h model.HostID, name string) []model.Sample { return append(a(h, name), b(h, name)...) }
		}, Bad, 97, false, "db2:27017 (sdb) is 97 %, above 90 %"},
		"silence for nine minutes is nothing yet": {connections, func(s *Snapshot) { s.Points, s.LastPoint = points("", nil), last(9*time.Minute) }, Unknown, 0, true, ""},
		"silence for ten minutes is bad":          {connections, func(s *Snapshot) { s.Points, s.LastPoint = points("", nil), last(10*time.Minute) }, Bad, 0, true, "CONNECTIONS of db2:27017 stopped arriving at 2026-11-21 11:50 UTC"},
		"silence counts from when evaluation resumed": {connections, func(s *Snapshot) {
			s.Points, s.LastPoint, s.Resumed = points("", nil), last(30*time.Minute), ago(time.Minute)
		}, Unknown, 0, true, ""},
		"what never arrived is not missed": {connections, func(s *Snapshot) {
			s.Points, s.LastPoint = points("", nil), func(model.HostID, string) time.Time { return time.Time{} }
		}, Unknown, 0, true, "nothing arrives"},
		"a host that is down is another matter": {connections, func(s *Snapshot) {
			s.Points, s.LastPoint = points("", nil), last(20*time.Minute)
			s.status("h2", down(20*time.Minute))
		}, Unknown, 0, false, "the host is down"},
		"a host that refuses is another matter": {connections, func(s *Snapshot) {
			s.Points, s.LastPoint = points("", nil), last(20*time.Minute)
			s.status("h2", func(st *model.HostStatus) { st.Reach = model.ReachUnauthorised })
		}, Unknown, 0, false, "may not or cannot read"},
		"no points at all":     {connections, func(*Snapshot) {}, Unknown, 0, false, "no points"},
		"a primary has no lag": {threshold("OPLOG_SLAVE_LAG_MASTER_TIME", model.GreaterThan, 4, "MINUTES"), func(s *Snapshot) { s.Hosts[1].Type = model.TypeReplicaPrimary }, Good, 0, false, "primaries have no"},
	} {
		s := world()
		c.change(s)
		config := of1(model.EventOutsideMetric)
		config.Metric = c.metric
		got := Judge(config, s).Of("host/h2")
		value := 0.0
		if got.Value != nil {
			value = got.Value.Number
		}
		if got.State != c.state || got.NoData != c.noData || fmt.Sprintf("%.4f", value) != fmt.Sprintf("%.4f", c.value) || !strings.Contains(got.Text+got.Why, c.text) {
			t.Errorf("%s: %s %v noData %v: %s%s", name, got.State, value, got.NoData, got.Text, got.Why)
		}
	}
}

func TestEventsAreToldOf(t *testing.T) {
	elected := &model.Event{ID: "e1", GroupID: "g1", Type: model.EventPrimaryElected, At: noon, ClusterID: "set", HostID: "h1", HostName: "db1:27017", Text: "db1:27017 was elected."}
	set := model.Matcher{Field: "REPLICA_SET_NAME", Operator: "EQUALS", Value: "rs0"}
	for name, c := range map[string]struct {
		config *model.AlertConfig
		event  *model.Event
		change func(*Snapshot)
		want   bool
	}{
		"an election":                       {of1(model.EventPrimaryElected), elected, nil, true},
		"an election of the set":            {of1(model.EventPrimaryElected, set), elected, nil, true},
		"an election of another set":        {of1(model.EventPrimaryElected, model.Matcher{Field: "REPLICA_SET_NAME", Operator: "EQUALS", Value: "rs9"}), elected, nil, false},
		"another event":                     {of1(model.EventHostRestarted), elected, nil, false},
		"a type that stays open":            {of1(model.EventHostDown), &model.Event{GroupID: "g1", Type: model.EventHostDown, At: noon}, nil, false},
		"an event of an alert":              {of1(model.EventHostUp), &model.Event{GroupID: "g1", Type: model.EventHostUp, At: noon, AlertID: "a"}, nil, false},
		"an event of another group":         {of1(model.EventPrimaryElected), &model.Event{GroupID: "g2", Type: model.EventPrimaryElected, At: noon}, nil, false},
		"an event before the configuration": {&model.AlertConfig{EventType: model.EventPrimaryElected, Updated: noon.Add(time.Second)}, elected, nil, false},
		"a host without alerts":             {of1(model.EventPrimaryElected), elected, func(s *Snapshot) { s.Hosts[0].AlertsEnabled = false }, false},
		"a host that is gone":               {of1(model.EventHostDeleted, model.Matcher{Field: "HOSTNAME", Operator: "EQUALS", Value: "old"}), &model.Event{GroupID: "g1", Type: model.EventHostDeleted, At: noon, HostName: "old:27017"}, nil, true},
		"an event of the site in a group":   {&model.AlertConfig{EventType: model.EventGroupCreated}, &model.Event{GroupID: "g1", Type: model.EventGroupCreated, At: noon}, nil, false},
		"an event of the site":              {&model.AlertConfig{EventType: model.EventGroupCreated}, &model.Event{GroupID: "g1", Type: model.EventGroupCreated, At: noon}, func(s *Snapshot) { s.Group = model.Group{} }, true},
	} {
		s := world()
		if c.change != nil {
			c.change(s)
		}
		target, text, ok := JudgeEvent(c.config, c.event, s)
		if ok != c.want || ok && (text == "" || !strings.HasPrefix(target.Key, "event/")) {
			t.Errorf("%s: %v %+v %q", name, ok, target, text)
		}
	}
	target, text, _ := JudgeEvent(of1(model.EventPrimaryElected), elected, world())
	if target.ReplicaSet != "rs0" || target.ClusterName != "rs0" || target.Key != "event/e1" || text != elected.Text {
		t.Errorf("%+v %s", target, text)
	}
}

// TestWhatStaysOpenIsRaisedWhereItIsJudged is the half of what is offered that this package decides.
func TestWhatStaysOpenIsRaisedWhereItIsJudged(t *testing.T) {
	judged := map[model.EventType]bool{}
	for name := range hostJudges {
		judged[name] = true
	}
	for name := range clusterJudges {
		judged[name] = true
	}
	for name := range groupJudges {
		judged[name] = true
	}
	for _, k := range Types() {
		if !k.Inform && k.Raised != judged[k.Name] {
			t.Errorf("%s: offered %v, judged %v", k.Name, k.Raised, judged[k.Name])
		}
		if k.Inform && judged[k.Name] {
			t.Errorf("%s tells of events and is judged", k.Name)
		}
		delete(judged, k.Name)
	}
	if len(judged) > 0 {
		t.Errorf("judged and in no table: %v", judged)
	}
}

// BenchmarkJudge is a pass of 30 configurations over 10,000 hosts, a hundredth of which are in trouble.
func BenchmarkJudge(b *testing.B) {
	s := world()
	s.Hosts, s.Clusters = nil, nil
	for i := range 10000 {
		id, set := model.HostID(fmt.Sprintf("%032d", i)), model.ID(fmt.Sprintf("%024d", i/3))
		s.Hosts = append(s.Hosts, model.Host{
			ID: id, Hostname: fmt.Sprintf("db%d.example.com", i), Port: 27017, Type: model.TypeReplicaSecondary, ClusterID: set, ReplicaSet: "rs",
			Enabled: true, AlertsEnabled: true, Version: "8.0.29", AuthEnabled: true, TLSMode: "requireTLS", CertExpires: noon.Add(9000 * time.Hour),
		})
		st := model.HostStatus{HostID: id, At: ago(30 * time.Second), Reach: model.ReachUp, ReachSince: ago(time.Hour), State: model.StateSecondary, Skews: []int64{1, 2, 3}}
		if i%3 == 0 {
			st.State = model.StatePrimary
			s.Clusters = append(s.Clusters, model.Cluster{ID: set, Type: model.ClusterReplicaSet, ReplicaSet: "rs", Name: "rs"})
		}
		if i%100 == 0 {
			st.Reach, st.ReachSince = model.ReachDown, ago(10*time.Minute)
		}
		s.Statuses[id] = st
		c := &s.Clusters[len(s.Clusters)-1]
		c.Members = append(c.Members, model.Member{HostID: id})
	}
	s.Release = release.Embedded()
	samples := []model.Sample{{At: ago(2 * time.Minute), Value: 1}, {At: ago(time.Minute), Value: 1}, {At: noon, Value: 1}}
	s.Points = func(model.HostID, string) []model.Sample { return samples }
	var configs []*model.AlertConfig
	for _, event := range []model.EventType{
		model.EventHostDown, model.EventHostRecovering, model.EventCertificateStale, model.EventVersionBehind, model.EventClockSkew, model.EventSecurityNotMet,
		model.EventNoPrimary, model.EventMultiplePrimaries, model.EventTooManyUnhealthy, model.EventTooFewHealthy, model.EventTooManyElections, model.EventAgentDown,
	} {
		configs = append(configs, of1(event))
	}
	for i := len(configs); i < 30; i++ {
		c := of1(model.EventOutsideMetric)
		c.Metric = &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 100}}
		if i%2 == 0 {
			c.Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "REGEX", Value: `^db[0-9]+\.example`}}
		}
		configs = append(configs, c)
	}
	b.ReportAllocs()
	for b.Loop() {
		bad := 0
		for _, c := range configs {
			bad += len(Judge(c, s).Bad)
		}
		if bad < 100 {
			b.Fatal("nothing is wrong")
		}
	}
}

func TestAMetricThatANewRoleHasNot(t *testing.T) {
	c := of1(model.EventOutsideMetric)
	c.Metric = &model.MetricThreshold{Metric: "OPLOG_SLAVE_LAG_MASTER_TIME", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 10}}
	for role, want := range map[model.ProcessType]State{
		model.TypeReplicaPrimary: Good, model.TypeRecovering: Unknown, model.TypeNoData: Unknown, model.TypeReplicaArbiter: Gone, model.TypeStandalone: Gone,
	} {
		s := world()
		s.Hosts[1].Type = role
		v := Judge(c, s).Of("host/h2")
		if v.State != want || v.Target.HostID != "h2" || v.Text+v.Why == "" {
			t.Errorf("%s: %+v", role, v)
		}
	}
	s := world()
	s.Hosts[1].Type, s.Hosts[1].Hidden = model.TypeReplicaPrimary, true
	if v := Judge(c, s).Of("host/h2"); v.State != Gone {
		t.Errorf("hidden: %+v", v)
	}
}
