package derive

import (
	"errors"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/topology"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// mutation is one change of a cluster entity. It is applied to the copy of this post, for its events, and again to
// whatever the store holds when it is saved: another member's post may have come between. It reports whether it changed anything.
type mutation func(c *model.Cluster) bool

type clusterState struct {
	c     model.Cluster
	known bool // it is in the store, or becomes it with this post
	todo  []mutation
}

// cluster reads a cluster once a post; nil when there is none.
func (w *work) cluster(id model.ID) (*clusterState, error) {
	if c, seen := w.clusters[id]; seen {
		return c, nil
	}
	c, err := w.d.o.Inventory.Cluster(w.ctx, w.group.ID, id)
	switch {
	case errors.Is(err, docstore.ErrNotFound):
		w.clusters[id] = nil
		return nil, nil //nolint:nilnil // absent is an answer
	case err != nil:
		return nil, err
	}
	w.clusters[id] = &clusterState{c: c, known: true}
	return w.clusters[id], nil
}

func (c *clusterState) apply(m mutation) {
	if m(&c.c) {
		c.todo = append(c.todo, m)
	}
}

// clusterNews brings the clusters up to date with one observation.
func (w *work) clusterNews(h *hostState, o *topology.Observation, p *wire.Ping) error {
	if o.ReplicaSet != nil {
		if err := w.replicaSet(o.ReplicaSet, p.At); err != nil {
			return err
		}
	}
	if o.Sharded != nil {
		if err := w.sharded(o.Sharded, p.At); err != nil {
			return err
		}
	}
	if h.host.Type == model.TypeShardMongos {
		return nil
	}
	if h.host.ClusterID == "" {
		if err := w.tie(h); err != nil || h.host.ClusterID == "" {
			return err
		}
	}
	c, err := w.cluster(h.host.ClusterID)
	if err != nil || c == nil {
		return err
	}
	h.host.ShardName = c.c.ShardName
	if changed, events := topology.Elect(&c.c, o); changed {
		observation := *o
		observation.Facts = nil // they share the memory of a buffer that is used again
		c.todo = append(c.todo, func(c *model.Cluster) bool {
			changed, _ := topology.Elect(c, &observation)
			return changed
		})
		for _, e := range events {
			if err := w.event(e, h); err != nil {
				return err
			}
		}
	}
	id, member := h.host.ID, h.host.MemberID
	for i := range c.c.Members {
		if c.c.Members[i].ID != member || c.c.Members[i].HostID == id || member < 0 {
			continue
		}
		c.apply(func(c *model.Cluster) bool {
			for i := range c.Members {
				if c.Members[i].ID == member && c.Members[i].HostID != id {
					c.Members[i].HostID = id
					return true
				}
			}
			return false
		})
	}
	return nil
}

// tie finds the set of a member that cannot name its configuration itself: an arbiter under access control, a process that
// refuses the agent, one that never answered. The others' configuration names it.
func (w *work) tie(h *hostState) error {
	silent := h.host.Type == model.TypeNoData
	if h.host.ReplicaSet == "" && !silent {
		return nil
	}
	if err := w.allClusters(); err != nil {
		return err
	}
	for _, c := range w.clusters {
		if c == nil || c.c.ReplicaSet == "" || !silent && c.c.ReplicaSet != h.host.ReplicaSet {
			continue
		}
		for i := range c.c.Members {
			m := &c.c.Members[i]
			if m.Host != h.host.Address() && !slices.Contains(h.host.Aliases, m.Host) {
				continue
			}
			h.host.ClusterID, h.host.ReplicaSet = c.c.ID, c.c.ReplicaSet
			if !silent { // what never answered may be a name that leads nowhere
				h.host.MemberID, h.host.HiddenSecondary, h.host.DelaySecs, h.host.Priority, h.host.Votes = m.ID, m.Hidden, m.DelaySecs, m.Priority, m.Votes
			}
			return nil
		}
	}
	return nil
}

// allClusters reads all clusters of the group, once a post.
func (w *work) allClusters() error {
	if w.allRead {
		return nil
	}
	all, err := w.d.o.Inventory.Clusters(w.ctx, w.group.ID)
	if err != nil {
		return err
	}
	for i := range all {
		if w.clusters[all[i].ID] == nil {
			w.clusters[all[i].ID] = &clusterState{c: all[i], known: true}
		}
	}
	w.allRead = true
	return nil
}

func (w *work) replicaSet(rs *topology.ReplicaSet, at time.Time) error {
	id := rs.ClusterID(w.group.ID)
	c, err := w.cluster(id)
	if err != nil {
		return err
	}
	group := w.group.ID
	if c == nil {
		fresh, _, _ := rs.Apply(nil, group, at)
		c = &clusterState{c: fresh}
		w.clusters[id] = c
		c.todo = append(c.todo, func(c *model.Cluster) bool {
			if !c.Created.IsZero() { // somebody made it meanwhile
				newer, changed, _ := rs.Apply(c, group, at)
				*c = newer
				return changed
			}
			*c, _, _ = rs.Apply(nil, group, at)
			return true
		})
		return nil
	}
	newer, changed, events := rs.Apply(&c.c, group, at)
	if !changed {
		return nil
	}
	for _, e := range events {
		if err := w.event(e, nil); err != nil {
			return err
		}
	}
	c.c = newer
	c.todo = append(c.todo, func(c *model.Cluster) bool {
		newer, changed, _ := rs.Apply(c, group, at)
		*c = newer
		return changed
	})
	return nil
}

// sharded brings the entity of a sharded cluster up to date and ties the replica sets it is made of to it.
func (w *work) sharded(s *topology.Sharded, at time.Time) error {
	id := s.ClusterID(w.group.ID)
	parent, err := w.cluster(id)
	if err != nil {
		return err
	}
	if parent == nil {
		parent = &clusterState{c: model.Cluster{ID: id, GroupID: w.group.ID}}
		w.clusters[id] = parent
	}
	kind := model.ClusterSharded
	if slices.ContainsFunc(s.Shards, func(sh topology.Shard) bool { return sh.Set == "" }) {
		kind = model.ClusterShardedStandalones
	}
	name := s.ConfigSet
	if name == "" {
		name = "sharded-" + s.ID[max(0, len(s.ID)-6):]
	}
	parent.apply(func(c *model.Cluster) bool {
		changed := c.Type != kind || c.Created.IsZero()
		c.Type = kind
		if c.Created.IsZero() {
			c.Created, c.LastHeartbeat = at, at
		}
		if c.Name == "" {
			c.Name, changed = name, true
		}
		return changed
	})
	if err := w.allClusters(); err != nil {
		return err
	}
	title := parent.c.Name
	for _, c := range w.clusters {
		if c == nil || c == parent {
			continue
		}
		if belongs(&c.c, s.ConfigSet, s.Config) {
			c.apply(func(c *model.Cluster) bool {
				changed := c.ParentID != id || c.Name != title
				c.ParentID, c.Name = id, title
				return changed
			})
		}
		for _, shard := range s.Shards {
			if !belongs(&c.c, shard.Set, shard.Hosts) {
				continue
			}
			c.apply(func(c *model.Cluster) bool {
				changed := c.ParentID != id || c.ShardName != shard.Name || c.Name != title
				c.ParentID, c.ShardName, c.Name = id, shard.Name, title
				return changed
			})
		}
	}
	return nil
}

// belongs: the same set name and at least one address in common. The name alone is not enough: many clusters call a shard "shard0".
func belongs(c *model.Cluster, set string, hosts []string) bool {
	return set != "" && c.ReplicaSet == set && slices.ContainsFunc(c.Members, func(m model.Member) bool {
		return slices.Contains(hosts, m.Host)
	})
}

func (w *work) saveClusters() error {
	for id, c := range w.clusters {
		if c == nil || len(c.todo) == 0 {
			continue
		}
		err := w.d.o.Inventory.UpsertCluster(w.ctx, w.group.ID, id, func(now *model.Cluster) error {
			changed := false
			for _, m := range c.todo {
				changed = m(now) || changed
			}
			if !changed {
				return store.ErrUnchanged
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
