package rule

import (
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// JudgeEvent says whether an event is one that a configuration of an inform type tells of, about what, and the sentence.
// Types only for global configurations look at the events of the whole site with the site's snapshot, the others at those of
// the snapshot's group. Events from before the configuration's last change are none of its business, and so are those that an
// alert has caused.
func JudgeEvent(c *model.AlertConfig, e *model.Event, s *Snapshot) (model.Target, string, bool) {
	t, ok := kind.TypeOf(c.EventType)
	if !ok || !t.Inform || !t.Raised || e.Type != c.EventType || e.AlertID != "" || e.At.Before(c.Updated) {
		return model.Target{}, "", false
	}
	site := t.Category == Site
	if site != (s.Group.ID == "") || !site && e.GroupID != s.Group.ID {
		return model.Target{}, "", false
	}
	target := model.Target{Key: "event/" + string(e.ID), HostID: e.HostID, HostName: e.HostName, ClusterID: e.ClusterID, AgentID: e.AgentID, UserID: e.UserID}
	h := s.host(e.HostID)
	if h != nil {
		if !h.AlertsEnabled {
			return model.Target{}, "", false
		}
		target.HostName, target.ReplicaSet, target.ShardName = h.Address(), h.ReplicaSet, h.ShardName
		if target.ClusterID == "" {
			target.ClusterID = h.ClusterID
		}
	} else if e.HostName != "" {
		// A host that was just removed or found is still known by its name.
		if name, port, err := model.SplitAddress(e.HostName); err == nil {
			h = &model.Host{ID: e.HostID, Hostname: name, Port: port}
		}
	}
	if cl := s.cluster(target.ClusterID); cl != nil {
		target.ClusterName = cl.Name
		if cl.ShardName != "" {
			target.ShardName = cl.ShardName
		}
		if target.ReplicaSet == "" {
			target.ReplicaSet = cl.ReplicaSet
		}
	}
	set, err := match.Compile(c.Matchers)
	if err != nil || !set.Holds(&match.Subject{
		Host: h, Address: target.HostName, ReplicaSet: target.ReplicaSet, ShardName: target.ShardName, ClusterName: target.ClusterName,
	}) {
		return model.Target{}, "", false
	}
	text := e.Text
	if text == "" {
		text = t.Label + "."
		if target.HostName != "" {
			text = t.Label + ": " + target.HostName + "."
		}
	}
	return target, text, true
}
