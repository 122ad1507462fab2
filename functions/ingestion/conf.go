package ingestion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// How often agents ask: confBase divided by the standby factor, and quicker while hosts are new, so that discovery, which goes
// one hop a round, is soon complete.
const (
	confBase   = 55 * time.Second
	confSoon   = 10 * time.Second
	newForHost = 5 * time.Minute
)

// conf answers a configuration call: whether the agent is the active one, and what to poll.
func (s *Server) conf(w http.ResponseWriter, r *http.Request) error {
	groupID, err := s.authenticate(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	info, seeds, err := wire.ParseConfQuery(query)
	if err != nil {
		return err
	}
	check := wire.IsCheck(query)
	group, err := s.group(r, groupID)
	if err != nil {
		return err
	}
	ctx, now := r.Context(), s.o.Now().UTC()
	c := wire.Conf{
		Version: wire.Version, Time: now, State: string(model.AgentActive), MaxPost: s.o.MaxPost, PingSeconds: 60,
		ConfSeconds: int32((confBase / time.Duration(s.o.StandbyFactor)).Seconds()),
		DBStats:     group.Settings.CollectDBStats, Logs: group.Settings.CollectLogs, Diagnostics: group.Settings.CollectDiagnostics,
	}
	if group.Settings.PingSeconds == 10 {
		c.PingSeconds = 10
	}
	if info.Type == "" || info.Type == string(model.AgentMonitoring) {
		active := check
		if !check {
			if active, err = s.claim(r, &group, &info, seeds, now); err != nil {
				return err
			}
		}
		if err := s.work(ctx, &c, &group, active, now); err != nil {
			return err
		}
	}
	if !check {
		if err := s.noteConf(r, groupID, &info, model.AgentState(c.State), len(c.Hosts), now); err != nil {
			return err
		}
	}
	body, err := wire.EncodeConf(c)
	if err != nil {
		return fmt.Errorf("configuration of %d hosts: %w", len(c.Hosts), err)
	}
	s.o.Log.DebugContext(ctx, "configuration call", obs.KeyAgent, info.ID, obs.KeyState, c.State, obs.KeyCount, len(c.Hosts))
	answer(w, http.StatusOK, body)
	return nil
}

// claim asks for the group's active place. Only the agent that has it adds its seeds.
func (s *Server) claim(r *http.Request, group *model.Group, info *wire.AgentInfo, seeds []string, now time.Time) (active bool, err error) {
	ctx := r.Context()
	active, previous, err := s.o.Inventory.ClaimActive(ctx, group.ID, info.ID, info.Session, now, s.o.SessionTimeout)
	if err != nil {
		return false, fmt.Errorf("claim the active place: %w", err)
	}
	if !active {
		return false, nil
	}
	if previous != "" {
		err := s.o.Events.AddEvents(ctx, model.Event{
			GroupID: group.ID, Type: model.EventAgentTookOver, At: now, AgentID: info.ID, IP: httpx.ClientIP(ctx).String(),
			Text: fmt.Sprintf("The agent on %s took over: the one before was silent for more than %s.", info.Hostname, s.o.SessionTimeout),
		})
		if err != nil {
			return false, err
		}
	}
	return true, s.addSeeds(ctx, group.ID, info, seeds, now)
}

// work fills in what the agent is to poll: nothing while it stands by.
func (s *Server) work(ctx context.Context, c *wire.Conf, group *model.Group, active bool, now time.Time) error {
	if !active {
		c.State = string(model.AgentStandby)
		return nil
	}
	hosts, err := s.o.Inventory.Hosts(ctx, group.ID)
	if err != nil {
		return err
	}
	if c.Hosts, err = s.polled(ctx, group, hosts); err != nil {
		return err
	}
	if len(c.Hosts) == 0 {
		c.State = string(model.AgentNoProcesses)
	}
	for i := range hosts {
		if hosts[i].Visible() && now.Sub(hosts[i].Created) < newForHost {
			c.ConfSeconds = min(c.ConfSeconds, int32(confSoon.Seconds()))
			break
		}
	}
	return nil
}

// addSeeds adds the addresses in the agent's own configuration to the group. One that a person deleted stays deleted.
func (s *Server) addSeeds(ctx context.Context, group model.ID, info *wire.AgentInfo, seeds []string, now time.Time) error {
	for _, seed := range seeds {
		host, port, err := model.SplitAddress(seed)
		if err != nil {
			return &problem{http.StatusBadRequest, wire.CodeMalformed, "seed: " + err.Error()}
		}
		_, err = s.o.Inventory.FindHost(ctx, group, model.Address(host, port))
		if err == nil {
			continue
		}
		if !errors.Is(err, docstore.ErrNotFound) {
			return err
		}
		h := model.Host{
			ID: model.NewHostID(group, host, port), GroupID: group, Hostname: host, Port: port, Created: now, Type: model.TypeNoData,
			MemberID: -1, Enabled: true, AlertsEnabled: true, Seed: true,
		}
		switch err := s.o.Inventory.CreateHost(ctx, h); {
		case errors.Is(err, docstore.ErrExists):
			continue
		case err != nil:
			return fmt.Errorf("add seed %s: %w", seed, err)
		}
		err = s.o.Events.AddEvents(ctx, model.Event{
			GroupID: group, Type: model.EventNewHost, At: now, HostID: h.ID, HostName: h.Address(), AgentID: info.ID,
			Text: h.Address() + " was added: it is a seed of the agent on " + info.Hostname + ".",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// polled lists what the active agent is to visit, with the credentials the server keeps.
func (s *Server) polled(ctx context.Context, group *model.Group, hosts []model.Host) ([]wire.Host, error) {
	rounds := dbStatsOf(group, hosts)
	polled := make([]wire.Host, 0, len(hosts))
	for i := range hosts {
		h := &hosts[i]
		if h.Deleted || h.Hidden || h.Deactivated || !h.Enabled {
			continue
		}
		p, err := s.wireHost(ctx, group, h)
		if err != nil {
			return nil, err
		}
		p.Logs, p.DBStats = h.LogsEnabled && group.Settings.CollectLogs, rounds[h.ID]
		polled = append(polled, p)
	}
	return polled, nil
}

// wireHost is a host as agents are told of it, with the credentials that the server keeps.
func (s *Server) wireHost(ctx context.Context, group *model.Group, h *model.Host) (wire.Host, error) {
	p := wire.Host{ID: string(h.ID), Hostname: h.Hostname, Port: int32(h.Port), Type: string(h.Type), TLS: h.TLS, Mechanism: h.AuthMechanism}
	if !h.HasCredentials {
		return p, nil
	}
	c, err := s.o.Inventory.HostCredentials(ctx, group.ID, h.ID)
	if err != nil {
		return p, err
	}
	p.Username, p.Password, p.Source = c.Username, c.Password.Reveal(), c.Source
	if c.Mechanism != "" {
		p.Mechanism = c.Mechanism
	}
	return p, nil
}

// dbStatsOf says who does the dbStats round: every data-bearing member. A mongos would ask the same members again and give
// sums; it does it only where none of the cluster's own members is monitored, and then one mongos for all.
func dbStatsOf(group *model.Group, hosts []model.Host) map[model.HostID]bool {
	if !group.Settings.CollectDBStats {
		return nil
	}
	rounds := make(map[model.HostID]bool, len(hosts))
	shards := false
	for i := range hosts {
		h := &hosts[i]
		if !h.Visible() || !h.Enabled {
			continue
		}
		switch h.Type {
		case model.TypeReplicaArbiter, model.TypeShardMongos, model.TypeRecovering:
		default:
			rounds[h.ID] = true
			shards = shards || h.Type == model.TypeShardPrimary || h.Type == model.TypeShardSecondary || h.Type == model.TypeShardStandalone
		}
	}
	if shards {
		return rounds
	}
	done := map[model.ID]bool{}
	for i := range hosts {
		h := &hosts[i]
		if h.Type == model.TypeShardMongos && h.Visible() && h.Enabled && !done[h.ClusterID] {
			rounds[h.ID], done[h.ClusterID] = true, true
		}
	}
	return rounds
}

// noteConf keeps the call, and tells of an agent nobody has seen before.
func (s *Server) noteConf(r *http.Request, group model.ID, info *wire.AgentInfo, state model.AgentState, hosts int, now time.Time) error {
	fresh := false
	err := s.o.Inventory.UpsertAgent(r.Context(), group, info.ID, func(have *model.Agent) error {
		fresh = have.FirstSeen.IsZero()
		describeAgent(have, info, r, now)
		have.LastConf, have.State, have.Hosts = now, state, hosts
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep the agent's call: %w", err)
	}
	if !fresh {
		return nil
	}
	return s.o.Events.AddEvents(r.Context(), model.Event{
		GroupID: group, Type: model.EventNewAgent, At: now, AgentID: info.ID, IP: httpx.ClientIP(r.Context()).String(),
		Text: fmt.Sprintf("The %s agent on %s called for the first time.", strings.ToLower(cmp.Or(info.Type, string(model.AgentMonitoring))), info.Hostname),
	})
}
