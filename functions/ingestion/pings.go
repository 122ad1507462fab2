package ingestion

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// maxClock is how far an agent's clock may be off when it sends. Pings may be much older: they are late, not wrong.
const maxClock = 10 * time.Minute

// acceptPings may see one ping any number of times, after an agent's retries; the second time must change nothing. The
// answer goes out when everything of the post is durable, or nothing is acknowledged.
func (s *Server) acceptPings(w http.ResponseWriter, r *http.Request) error {
	began := s.o.Now()
	groupID, err := s.authenticate(r)
	if err != nil {
		return err
	}
	body, err := httpx.ReadBody(w, r, s.o.MaxPost)
	if err != nil {
		if httpx.Status(err) == http.StatusInternalServerError {
			// The sender hung up in the middle; nobody reads the answer.
			return &problem{http.StatusBadRequest, wire.CodeMalformed, "the body ended early"}
		}
		return err
	}
	post, err := wire.DecodePost(body)
	if err != nil {
		return err
	}
	now := s.o.Now().UTC()
	skew := post.Sent.Sub(now)
	if skew > maxClock || skew < -maxClock {
		return &problem{http.StatusBadRequest, wire.CodeClock, fmt.Sprintf(
			"the agent's clock says %s and the server's %s: set the clocks, they may differ by %s",
			post.Sent.Format(time.RFC3339), now.Format(time.RFC3339), maxClock)}
	}
	group, err := s.group(r, groupID)
	if err != nil {
		return err
	}
	ctx := r.Context()
	result, err := s.derive.Save(ctx, &group, post.Agent.ID, now, post.Pings)
	if err != nil {
		return fmt.Errorf("save %d pings: %w", len(post.Pings), err)
	}
	s.m.received(len(body), result.Accepted, result.Reasons, s.o.Now().Sub(began))
	if len(result.Rejected) > 0 {
		s.o.Log.InfoContext(ctx, "pings rejected", obs.KeyGroup, groupID, obs.KeyAgent, post.Agent.ID, obs.KeyCount, len(result.Rejected),
			obs.KeyReason, result.Rejected[0].Reason)
	}
	s.noteAgent(r, groupID, &post, skew, now)
	ack, err := wire.EncodeAck(wire.Ack{
		Version: wire.Version, Seq: post.Seq, Time: s.o.Now().UTC(), Accepted: int32(result.Accepted), Rejected: result.Rejected,
	})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, ack)
	return nil
}

// group reads the caller's group. That it is gone while its key is not is a deletion at work.
func (s *Server) group(r *http.Request, id model.ID) (model.Group, error) {
	g, err := s.o.Inventory.Group(r.Context(), id)
	if errors.Is(err, docstore.ErrNotFound) {
		return g, &problem{http.StatusUnauthorized, wire.CodeBadKey, "the group was deleted"}
	}
	return g, err
}

// noteAgent renews what is known of the agent. It may fail without harm: the pings are saved, and the next post tells it again.
func (s *Server) noteAgent(r *http.Request, group model.ID, post *wire.Post, skew time.Duration, now time.Time) {
	a := &post.Agent
	pings, due := s.tallies.add(string(group)+"/"+a.ID, len(post.Pings), now)
	if !due {
		return
	}
	err := s.o.Inventory.UpsertAgent(r.Context(), group, a.ID, func(have *model.Agent) error {
		describeAgent(have, a, r, now)
		if day := now.Format(time.DateOnly); have.PingDay != day {
			have.PingDay, have.PingCount = day, 0
		}
		have.PingCount += pings
		have.LastPing, have.SkewMS = now, skew.Milliseconds()
		have.Spooled, have.Dropped = a.Spooled, a.Dropped
		if a.LastError != have.LastError {
			have.LastError, have.ErrorAt = a.LastError, now
		}
		if len(a.LogTail) > 0 {
			have.LogTail = a.LogTail
		}
		return nil
	})
	if err != nil {
		s.tallies.giveBack(string(group)+"/"+a.ID, pings)
		s.o.Log.WarnContext(r.Context(), "the agent's state was not kept", obs.KeyAgent, a.ID, obs.KeyErr, err)
	}
}

// describeAgent fills in what every call of an agent tells.
func describeAgent(have *model.Agent, a *wire.AgentInfo, r *http.Request, now time.Time) {
	if have.FirstSeen.IsZero() {
		have.FirstSeen = now
	}
	have.Type = model.AgentMonitoring
	if a.Type != "" {
		have.Type = model.AgentType(a.Type)
	}
	if ip := httpx.ClientIP(r.Context()); ip.IsValid() {
		have.Address = ip.String()
	}
	have.Hostname, have.Version, have.OS = a.Hostname, a.Version, a.OS
	if !a.Started.IsZero() {
		have.Started = a.Started
	}
	have.ConfCount = max(a.ConfCount, 0)
}
