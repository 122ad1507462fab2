package ingestion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/topology/twin"
)

// Passes lists the duties for whoever ticks them.
func (s *Server) Passes() []store.Pass {
	return store.Passes(
		s.o.Store,
		store.Duty{Name: "hosts", Every: 30 * time.Second, Run: s.hostsPass},
		store.Duty{Name: "compact", Every: 5 * time.Minute, Run: s.o.Series.Compact},
		store.Duty{Name: "rollup", Every: time.Minute, Run: s.o.Series.Rollup},
		store.Duty{Name: "expire", Every: 10 * time.Minute, Run: s.o.Series.Expire},
		store.Duty{Name: "sessions", Every: 10 * time.Minute, Run: s.sessionsPass},
		store.Duty{Name: "flush-groups", Every: 10 * time.Minute, Run: s.o.Inventory.FlushGroups},
		store.Duty{Name: "backup-expire", Every: 10 * time.Minute, Run: s.expiry.Run},
		store.Duty{Name: "orphans", Every: 24 * time.Hour, Run: s.orphansPass},
	)
}

func (s *Server) sessionsPass(ctx context.Context, now time.Time) (store.PassReport, error) {
	const limit = 1_000
	n, err := s.o.Access.ExpireSessions(ctx, now, limit)
	return store.PassReport{Done: int64(n), More: n == limit}, err
}

// How long a host may be silent.
const (
	silentPings   = 3 // pings missed while the agent is up: the host counts as down
	silentAtLeast = 2 * time.Minute
	agentFresh    = 2 * time.Minute // an agent that called within this is up
)

// hostsPass looks after what no single ping can tell: hosts an active agent says nothing about, processes seen under two
// addresses, mongoses silent for days.
func (s *Server) hostsPass(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	groups, err := s.o.Inventory.Groups(ctx)
	if err != nil {
		return report, err
	}
	for i := range groups {
		n, err := s.groupPass(ctx, &groups[i], now)
		report.Done += n
		if err != nil {
			return report, fmt.Errorf("group %s: %w", groups[i].ID, err)
		}
	}
	return report, nil
}

func (s *Server) groupPass(ctx context.Context, g *model.Group, now time.Time) (done int64, err error) {
	hosts, err := s.o.Inventory.Hosts(ctx, g.ID)
	if err != nil {
		return 0, err
	}
	statuses, err := s.o.Inventory.Statuses(ctx, g.ID)
	if err != nil {
		return 0, err
	}
	n, err := s.mergeDuplicates(ctx, g, hosts, statuses)
	if err != nil {
		return n, err
	}
	agents, err := s.o.Inventory.Agents(ctx, g.ID)
	if err != nil {
		return n, err
	}
	up := false
	for i := range agents {
		a := &agents[i]
		// Only an agent that posts pings can vouch for a host's silence; while it back-fills or is away, nothing is known.
		up = up || a.Type == model.AgentMonitoring && a.State == model.AgentActive && now.Sub(a.LastPing) < agentFresh && a.Spooled == 0
	}
	byID := make(map[model.HostID]*model.Host, len(hosts))
	for i := range hosts {
		byID[hosts[i].ID] = &hosts[i]
	}
	for i := range statuses {
		h := byID[statuses[i].HostID]
		if h == nil || !h.Visible() || !h.Enabled {
			continue
		}
		changed, err := s.silence(ctx, g, h, &statuses[i], up, now)
		if err != nil {
			return n, err
		}
		if changed {
			n++
		}
	}
	return n, nil
}

// silence marks a host down that the active agent says nothing about, and deactivates a mongos that was silent for days: they
// come and go, while a member that is away for long is still missing.
func (s *Server) silence(ctx context.Context, g *model.Group, h *model.Host, st *model.HostStatus, up bool, now time.Time) (bool, error) {
	limit := time.Duration(g.Settings.MongosDeactivateSecs) * time.Second
	if up && h.Type == model.TypeShardMongos && limit > 0 && !st.LastPing.IsZero() && now.Sub(st.LastPing) > limit {
		return true, s.o.Inventory.UpdateHost(ctx, g.ID, h.ID, func(h *model.Host) error {
			h.Deactivated = true
			return nil
		})
	}
	patience := max(silentAtLeast, silentPings*time.Duration(g.Settings.PingSeconds)*time.Second)
	if !up || st.Reach == model.ReachDown || now.Sub(st.At) <= patience || now.Sub(h.Created) <= patience {
		return false, nil
	}
	marked := *st
	marked.Reach, marked.ReachSince, marked.Error, marked.ErrorCode = model.ReachDown, now, "the agent sends nothing about this host", 0
	if marked.State != model.StateUnknown {
		marked.State, marked.StateSince = model.StateDown, now
	}
	// The time of the last ping stays: a ping that comes after all is newer and sets everything right.
	status, err := s.o.Inventory.StatusOp(marked)
	if err != nil {
		return false, err
	}
	event, err := s.o.Events.EventOp(model.Event{
		ID: model.DeriveID("silent", string(h.ID), st.At.UTC().Format(time.RFC3339Nano)), GroupID: g.ID, Type: model.EventHostDown, At: now,
		HostID: h.ID, HostName: h.Address(), ClusterID: h.ClusterID,
		Text: h.Address() + " counts as down: the agent is up and sends nothing about it.",
	})
	if err != nil {
		return false, err
	}
	return true, s.o.Store.Write(ctx, event, status)
}

// mergeDuplicates finds processes that are monitored under two addresses and keeps one host of each.
func (s *Server) mergeDuplicates(ctx context.Context, g *model.Group, hosts []model.Host, statuses []model.HostStatus) (done int64, err error) {
	last := make(map[model.HostID]*model.HostStatus, len(statuses))
	for i := range statuses {
		last[statuses[i].HostID] = &statuses[i]
	}
	sighting := func(i int) twin.Sighting {
		return twin.Sighting{Host: &hosts[i], Status: last[hosts[i].ID]}
	}
	seen := map[string][]int{}
	for i := range hosts {
		for _, key := range identities(sighting(i)) {
			for _, j := range seen[key] {
				if !hosts[j].Visible() || !hosts[i].Visible() || !twin.Same(sighting(j), sighting(i)) {
					continue
				}
				keep, hide := twin.Merge(hosts[j], hosts[i], g.Settings)
				if err := s.merge(ctx, &keep, &hide); err != nil {
					return done, err
				}
				k, d := i, j
				if keep.ID == hosts[j].ID {
					k, d = j, i
				}
				hosts[k], hosts[d] = keep, hide
				done++
			}
			seen[key] = append(seen[key], i)
		}
	}
	return done, nil
}

// identities are keys of which two hosts have one in common when they may be the same process.
func identities(s twin.Sighting) []string {
	h := s.Host
	if !h.Visible() {
		return nil
	}
	var keys []string
	if h.ProcessID != "" {
		keys = append(keys, "p/"+h.ProcessID)
	}
	if key := twin.Key(s); key != "" {
		keys = append(keys, "s/"+key)
	}
	if h.ClusterID != "" && h.MemberID >= 0 && h.ReplicaSet != "" {
		keys = append(keys, fmt.Sprintf("m/%s/%d", h.ClusterID, h.MemberID))
	}
	return keys
}

// merge saves the decision. The one that stays goes first: a crash in between leaves two visible hosts, for the next run.
func (s *Server) merge(ctx context.Context, keep, hide *model.Host) error {
	err := s.o.Inventory.UpdateHost(ctx, keep.GroupID, keep.ID, func(h *model.Host) error {
		h.Hostname, h.Port, h.Aliases = keep.Hostname, keep.Port, keep.Aliases
		return nil
	})
	if err == nil {
		err = s.o.Inventory.UpdateHost(ctx, hide.GroupID, hide.ID, func(h *model.Host) error {
			h.Hidden, h.DuplicateOf = true, keep.ID
			return nil
		})
	}
	if errors.Is(err, docstore.ErrNotFound) {
		return nil // removed meanwhile
	}
	return err
}
