package rule

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// backedUp is a healthy backup, and a daemon.
func backedUp() *Snapshot {
	s := world()
	s.Backups = []BackupFact{{
		GroupID: s.Group.ID, ClusterID: s.Clusters[0].ID, Name: "rs0", Status: model.BackupStarted, Since: ago(48 * time.Hour),
		Newest: ago(time.Minute), LastShot: ago(time.Hour), Source: 20 * time.Hour,
	}}
	s.Agents = append(s.Agents, model.Agent{ID: "b", Type: model.AgentBackup, Hostname: "agent1", Version: "1.0.0", LastConf: ago(time.Minute)})
	s.ServerVersion = "1.0.0"
	return s
}

func siteOf(s *Snapshot) *Snapshot {
	return &Snapshot{Now: s.Now, Backups: s.Backups, Daemons: []DaemonFact{{ID: "d1:/heads/", Machine: "d1", Beat: ago(time.Minute), Jobs: 3, Free: 50 << 30, Size: 100 << 30}}}
}

func TestBackups(t *testing.T) {
	type change func(b *BackupFact, d *DaemonFact, a *model.Agent)
	tests := []struct {
		name  string
		event model.EventType
		site  bool
		do    change
		state State
		text  string
	}{
		{"oplog is fresh", model.EventOplogBehind, false, nil, Good, ""},
		{"oplog is old", model.EventOplogBehind, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Newest = ago(76 * time.Minute) }, Bad, "newest stored oplog of replica set rs0"},
		{"oplog is old, but it was just started again", model.EventOplogBehind, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) {
			b.Newest, b.Since = ago(50*time.Hour), ago(time.Hour)
		}, Good, ""},
		{"no oplog ever", model.EventOplogBehind, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Newest = time.Time{} }, Bad, "No oplog of replica set rs0"},
		{"oplog is old, and the agent says why", model.EventOplogBehind, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) {
			b.Newest, b.Agent = ago(76*time.Minute), "the block store is full."
		}, Bad, "The backup agent reports: the block store is full."},
		{"nothing wanted", model.EventResyncRequired, false, nil, Good, ""},
		{"full read wanted", model.EventResyncRequired, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) {
			b.Resync, b.ResyncWhy = ago(time.Minute), "the oplog rolled over"
		}, Bad, "needs a new full read: the oplog rolled over."},
		{"long window", model.EventBackupWindowShort, false, nil, Good, ""},
		{"short window", model.EventBackupWindowShort, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Source = 90 * time.Minute }, Bad, "only 1.5 hours"},
		{"unknown window", model.EventBackupWindowShort, false, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Source = -1 }, Unknown, ""},
		{"agent calls", model.EventBackupAgentDown, false, nil, Good, ""},
		{"agent is silent", model.EventBackupAgentDown, false, func(_ *BackupFact, _ *DaemonFact, a *model.Agent) { a.LastConf = ago(61 * time.Minute) }, Bad, "the last one ran on agent1"},
		{"no agent at all", model.EventBackupAgentDown, false, func(_ *BackupFact, _ *DaemonFact, a *model.Agent) { a.Type = model.AgentMonitoring }, Bad, "has ever called"},
		{"agent of today", model.EventBackupAgentBehind, false, nil, Good, ""},
		{"agent of yesterday", model.EventBackupAgentBehind, false, func(_ *BackupFact, _ *DaemonFact, a *model.Agent) { a.Version = "0.9.0" }, Bad, "The backup agent on agent1"},
		{"snapshot in time", model.EventLateSnapshot, true, nil, Good, ""},
		{"snapshot late", model.EventLateSnapshot, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.LateShot = true }, Bad, "one and a half intervals"},
		{"no snapshot can be yet", model.EventLateSnapshot, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.LateShot, b.Reading = true, true }, Good, ""},
		{"stands still", model.EventBackupUnexpected, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) {
			b.Problem, b.Remedy = "wrong key.", "Give the daemon the right gen.key."
		}, Bad, "stands still: wrong key. Give the daemon the right gen.key."},
		{"is tried again", model.EventBackupUnexpected, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Problem, b.Retries = "disk full", 2 }, Good, ""},
		{"was tried too often", model.EventBackupRetries, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Problem, b.Retries = "disk full", 5 }, Bad, "It was tried 5 times."},
		{"bound", model.EventBindError, true, nil, Good, ""},
		{"not bound", model.EventBindError, true, func(b *BackupFact, _ *DaemonFact, _ *model.Agent) { b.Unbound, b.Problem = ago(time.Hour), "no room" }, Bad, "no room."},
		{"daemon lives", model.EventDaemonDown, true, nil, Good, ""},
		{"daemon is silent", model.EventDaemonDown, true, func(_ *BackupFact, d *DaemonFact, _ *model.Agent) { d.Beat = ago(16 * time.Minute) }, Bad, "Backups it had: 3"},
		{"daemon was stopped", model.EventDaemonDown, true, func(_ *BackupFact, d *DaemonFact, _ *model.Agent) { d.Beat, d.Stopped = ago(16*time.Minute), true }, Good, ""},
		{"room", model.EventLowHeadSpacePercent, true, nil, Good, ""},
		{"little room", model.EventLowHeadSpacePercent, true, func(_ *BackupFact, d *DaemonFact, _ *model.Agent) { d.Free = 9 << 30 }, Bad, "9.0 GB of 100.0 GB"},
		{"no room", model.EventLowHeadSpace, true, func(_ *BackupFact, d *DaemonFact, _ *model.Agent) { d.Free = 1 << 29 }, Bad, "0.5 GB"},
		{"size not known", model.EventLowHeadSpace, true, func(_ *BackupFact, d *DaemonFact, _ *model.Agent) { d.Size = 0 }, Unknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := backedUp()
			site := siteOf(s)
			if tt.do != nil {
				tt.do(&s.Backups[0], &site.Daemons[0], &s.Agents[len(s.Agents)-1])
			}
			at := s
			if tt.site {
				at = site
			}
			all := Judge(of1(tt.event), at).All()
			if len(all) != 1 {
				t.Fatalf("%d verdicts: %+v", len(all), all)
			}
			if all[0].State != tt.state || !strings.Contains(all[0].Text, tt.text) {
				t.Errorf("%v %q", all[0].State, all[0].Text)
			}
			if got := Judge(of1(tt.event), at).Of(all[0].Target.Key); got.State != tt.state {
				t.Errorf("asked about the target: %v", got.State)
			}
		})
	}
}

func TestStoppedAndOtherBackupsAreNotJudged(t *testing.T) {
	s := backedUp()
	s.Backups[0].Newest = ago(5 * time.Hour)
	c := of1(model.EventOplogBehind)
	c.Matchers = []model.Matcher{{Field: "REPLICA_SET_NAME", Operator: "EQUALS", Value: "other"}}
	if _, err := match.Compile(c.Matchers); err != nil {
		t.Fatal(err)
	}
	if bad := Judge(c, s).Bad; len(bad) != 0 {
		t.Errorf("another set: %+v", bad)
	}
	s.Backups[0].Status = model.BackupStopped
	for _, event := range []model.EventType{model.EventOplogBehind, model.EventBackupAgentDown} {
		s.Agents = nil
		if all := Judge(of1(event), s).All(); len(all) != 0 {
			t.Errorf("%s of a stopped backup: %+v", event, all)
		}
	}
}
