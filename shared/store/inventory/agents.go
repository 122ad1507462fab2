package inventory

import (
	"context"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func agentKey(group model.ID, id string) string { return string(group) + "/" + id }

// Agents lists the agents that ever reported in a group, by id.
func (in *Inventory) Agents(ctx context.Context, group model.ID) ([]model.Agent, error) {
	return store.All[model.Agent](ctx, in.s, under(collAgents, group))
}

// Agent returns one agent, or store.ErrNotFound.
func (in *Inventory) Agent(ctx context.Context, group model.ID, id string) (model.Agent, error) {
	return store.Get[model.Agent](ctx, in.s, collAgents, agentKey(group, id))
}

// UpsertAgent changes an agent or makes it: change then gets one with only its ids set. change may run several times;
// store.ErrUnchanged ends it without a write.
func (in *Inventory) UpsertAgent(ctx context.Context, group model.ID, id string, change func(*model.Agent) error) error {
	if err := checkKey(group, "agent", id); err != nil {
		return err
	}
	return store.Upsert(ctx, in.s, collAgents, agentKey(group, id), func(a *model.Agent, _ bool) error {
		a.ID, a.GroupID = id, group
		if err := change(a); err != nil {
			return err
		}
		a.ID, a.GroupID = id, group
		return nil
	})
}

// DeleteAgent forgets an agent; that there was none is no error.
func (in *Inventory) DeleteAgent(ctx context.Context, group model.ID, id string) error {
	return in.s.Delete(ctx, collAgents, agentKey(group, id))
}

// activeDoc says which agent of a group polls. One document a group, changed only by comparing revisions, makes sure
// that of any number of claimants one gets it.
type activeDoc struct {
	AgentID string    `bson:"agentId"`
	Session string    `bson:"session"` // one run of the agent process
	At      time.Time `bson:"at"`      // its last claim
}

var errStandby = errors.New("inventory: another agent is active")

// ClaimActive asks for the one active place of a group and renews it. It is granted when the place is free, the
// caller's already, the caller's from an earlier run of the same agent, or was not renewed for longer than timeout.
// previous is the agent that was replaced or, when the claim is refused, the one that stays active.
func (in *Inventory) ClaimActive(ctx context.Context, group model.ID, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error) {
	return in.claim(ctx, group, string(group), agentID, session, now, timeout)
}

// ClaimBackup is ClaimActive for the group's backup agents: they have a place of their own.
func (in *Inventory) ClaimBackup(ctx context.Context, group model.ID, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error) {
	return in.claim(ctx, group, backupPlace(group), agentID, session, now, timeout)
}

func backupPlace(group model.ID) string { return string(group) + "/" + string(model.AgentBackup) }

func (in *Inventory) claim(ctx context.Context, group model.ID, place, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error) {
	if err := checkKey(group, "agent", agentID); err != nil {
		return false, "", err
	}
	err = store.Upsert(ctx, in.s, collActive, place, func(d *activeDoc, exists bool) error {
		previous = ""
		if exists && d.AgentID != agentID {
			previous = d.AgentID
			if d.AgentID != "" && now.Sub(d.At) <= timeout {
				return errStandby
			}
		}
		if exists && d.AgentID == agentID && d.Session == session && !now.After(d.At) {
			return store.ErrUnchanged // a repeated or overtaken call
		}
		*d = activeDoc{AgentID: agentID, Session: session, At: now}
		return nil
	})
	if errors.Is(err, errStandby) {
		return false, previous, nil
	}
	return err == nil, previous, err
}

// ReleaseActive gives the active place of a group free at once, if the agent has it: an agent that stops in order does
// not let its successor wait.
func (in *Inventory) ReleaseActive(ctx context.Context, group model.ID, agentID, session string) error {
	err := store.Update(ctx, in.s, collActive, string(group), func(d *activeDoc) error {
		if d.AgentID != agentID || d.Session != session {
			return store.ErrUnchanged
		}
		*d = activeDoc{}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
