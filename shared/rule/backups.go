package rule

import (
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/backups"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

type (
	// BackupFact is how the backup of a replica set does. Of the site's snapshot they are those of all groups.
	BackupFact = backups.Fact
	// DaemonFact is how a backup daemon does.
	DaemonFact = backups.Daemon
)

func (j *judge) moment() *backups.Moment {
	return &backups.Moment{Now: j.s.Now, Beyond: j.beyond, Since: j.s.since}
}

// found puts a finding into a verdict.
func found(v *Verdict, f backups.Finding) *Verdict {
	v.State, v.Since, v.Text, v.Why = f.State, f.Since, f.Text, f.Why
	return v
}

// ofBackup judges each running backup by itself.
func ofBackup(says func(f *BackupFact, at *backups.Moment) backups.Finding) func(j *judge, yield func(*Verdict)) {
	return func(j *judge, yield func(*Verdict)) {
		for i := range j.s.Backups {
			b := &j.s.Backups[i]
			if !b.Running() {
				continue
			}
			v := j.verdict("backup/"+string(b.ClusterID), Good, "")
			v.Target.ClusterID, v.Target.ReplicaSet = b.ClusterID, b.Name
			if c := j.s.cluster(b.ClusterID); c != nil {
				v.Target.ClusterName, v.Target.ShardName = c.Name, c.ShardName
				if !j.set.Holds(&match.Subject{ReplicaSet: c.ReplicaSet, ShardName: c.ShardName, ClusterName: c.Name}) {
					continue
				}
			}
			yield(found(v, says(b, j.moment())))
		}
	}
}

// ofDaemon judges each backup daemon by itself.
func ofDaemon(says func(d *DaemonFact, at *backups.Moment) backups.Finding) func(j *judge, yield func(*Verdict)) {
	return func(j *judge, yield func(*Verdict)) {
		for i := range j.s.Daemons {
			d := &j.s.Daemons[i]
			yield(found(j.verdict("site/daemon/"+d.ID, Good, ""), says(d, j.moment())))
		}
	}
}

// backupAgentDown judges the backup agents of a group together: one that calls is enough.
func (j *judge) backupAgentDown(yield func(*Verdict)) {
	var last model.Agent
	for i := range j.s.Agents {
		if a := j.s.Agents[i]; a.Type == model.AgentBackup && a.LastConf.After(last.LastConf) {
			last = a
		}
	}
	f, ok := backups.AgentDown(j.s.Backups, j.s.Group.Name, &last, j.moment())
	if !ok {
		return
	}
	v := found(j.verdict("agent/"+string(model.AgentBackup)+"/"+string(j.s.Group.ID), Good, ""), f)
	v.Target.AgentID = last.ID
	yield(v)
}
