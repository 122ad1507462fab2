package view

import (
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Level orders states by how much they need somebody. Each has its own shape and colour.
type Level int

// The levels, most urgent last, so that the largest of several is the one to show.
const (
	OK Level = iota
	Info
	Unknown
	Warning
	Critical
)

// Class is the style sheet's name of a level.
func (l Level) Class() string {
	switch l {
	case OK:
		return "ok"
	case Info:
		return "info"
	case Warning:
		return "warn"
	case Critical:
		return "crit"
	case Unknown:
	}
	return "unknown"
}

// State is a level with its word, and a sentence that says why where it is not plainly good.
type State struct {
	Level Level
	Word  string
	Why   string
}

// Attention reports whether somebody should look.
func (s State) Attention() bool { return s.Level >= Unknown }

// Lag above this makes a secondary need attention.
const lagLimit = 60 * time.Second

// StaleAfter is how long a host may be silent before what is known of it is old: three pings, and never under 90 s.
func StaleAfter(pingSeconds int) time.Duration {
	return max(3*time.Duration(pingSeconds)*time.Second, 90*time.Second)
}

// HostState judges a host by its last pings. A host nobody has heard of for long is unknown, whatever it was before:
// old good news is no news.
func HostState(h *model.Host, s *model.HostStatus, now time.Time, staleAfter time.Duration) State {
	if !h.Enabled {
		return State{Unknown, "paused", "Monitoring of this host is switched off."}
	}
	if s == nil || s.At.IsZero() || s.Reach == model.ReachNoData {
		return State{Unknown, "waiting", "No agent has reached this host yet."}
	}
	if age := now.Sub(s.At); age > staleAfter {
		return State{Unknown, "stale", "No ping about it for " + Duration(age) + "."}
	}
	switch s.Reach {
	case model.ReachDown:
		return State{Critical, "down", sentence("It does not answer", s.Error)}
	case model.ReachUnauthorised:
		return State{Warning, "not authorised", sentence("It answers but refuses the agent's commands", s.Error)}
	case model.ReachSlow:
		return State{Warning, "slow", sentence("It answers, but commands time out", s.Error)}
	case model.ReachUp, model.ReachNoData:
	}
	return memberState(h, s)
}

func memberState(h *model.Host, s *model.HostStatus) State {
	switch h.Type {
	case model.TypeStandalone, model.TypeShardStandalone:
		return State{OK, "standalone", ""}
	case model.TypeShardMongos:
		return State{OK, "mongos", ""}
	case model.TypeNoData, model.TypeReplicaPrimary, model.TypeReplicaSecondary, model.TypeReplicaArbiter,
		model.TypeRecovering, model.TypeShardConfig, model.TypeShardPrimary, model.TypeShardSecondary:
	}
	switch s.State {
	case model.StatePrimary:
		return State{OK, "primary", ""}
	case model.StateArbiter:
		return State{OK, "arbiter", ""}
	case model.StateSecondary:
		if lag := Lag(h, s); lag > lagLimit {
			return State{Warning, "lags", "It is " + Duration(lag) + " behind the primary."}
		}
		return State{OK, "secondary", ""}
	case model.StateRollback, model.StateFatal:
		return State{Critical, StateWord(s.State), "It serves no reads in this state."}
	case model.StateRecovering, model.StateStartup, model.StateStartup2:
		return State{Warning, StateWord(s.State), "It serves no reads in this state."}
	case model.StateDown, model.StateRemoved:
		return State{Warning, StateWord(s.State), "The replica set does not count on it."}
	case model.StateUnknown:
	}
	return State{OK, "up", ""}
}

// Lag is how far a secondary is behind what it should have: a delayed member is not late while it keeps its delay.
func Lag(h *model.Host, s *model.HostStatus) time.Duration {
	if s == nil || s.LagMS == nil {
		return 0
	}
	return max(0, time.Duration(*s.LagMS)*time.Millisecond-time.Duration(h.DelaySecs)*time.Second)
}

// StateWord is a member state's name in running text.
func StateWord(s model.MemberState) string {
	switch s {
	case model.StatePrimary:
		return "primary"
	case model.StateSecondary:
		return "secondary"
	case model.StateArbiter:
		return "arbiter"
	case model.StateRecovering:
		return "recovering"
	case model.StateStartup:
		return "starting"
	case model.StateStartup2:
		return "initial sync"
	case model.StateRollback:
		return "rollback"
	case model.StateFatal:
		return "fatal"
	case model.StateDown:
		return "down"
	case model.StateRemoved:
		return "removed"
	case model.StateUnknown:
	}
	return "unknown"
}

// SetState judges a replica set by its members' states.
func SetState(c *model.Cluster, members []State, primary bool) State {
	worst, bad := OK, 0
	var first State
	for _, m := range members {
		if m.Level > worst {
			worst, first = m.Level, m
		}
		if m.Attention() {
			bad++
		}
	}
	known := 0
	for _, m := range members {
		if m.Level != Unknown {
			known++
		}
	}
	switch {
	case len(members) == 0:
		return State{Unknown, "waiting", "No member has been reached yet."}
	case known == 0:
		return State{Unknown, first.Word, first.Why}
	case !primary && c.Type != model.ClusterSharded:
		return State{Critical, "no primary", "No reachable member is primary: the set takes no writes."}
	case worst == Critical:
		// The set itself still takes writes: a person can finish their coffee, but not the day.
		return State{Warning, "member " + first.Word, fmt.Sprintf("%d of %d members need attention.", bad, len(members))}
	case bad > 0:
		return State{max(worst, Unknown), first.Word, fmt.Sprintf("%d of %d members need attention.", bad, len(members))}
	}
	return State{OK, "healthy", ""}
}

// AgentState judges the agents of a group: one that works, called in lately, is what it takes.
func AgentState(agents []model.Agent, now time.Time, staleAfter time.Duration) State {
	var last time.Time
	for i := range agents {
		a := &agents[i]
		if a.Type != model.AgentMonitoring {
			continue
		}
		seen := a.LastConf
		if a.LastPing.After(seen) {
			seen = a.LastPing
		}
		if a.State != model.AgentStandby && seen.After(last) {
			last = seen
		}
	}
	if last.IsZero() {
		return State{Unknown, "no agent", "No monitoring agent has called yet."}
	}
	if age := now.Sub(last); age > staleAfter {
		return State{Critical, "agent silent", "The monitoring agent was last heard " + Duration(age) + " ago."}
	}
	return State{OK, "agent active", ""}
}

func sentence(what, detail string) string {
	if detail == "" {
		return what + "."
	}
	return what + ": " + detail
}

// StaleMark is the mark beside a notice that everything shown is old.
func (v *Visit) StaleMark() State { return State{Level: Unknown, Word: "stale"} }

// NotSeen is the state of a member that is configured but was never found.
func (v *Visit) NotSeen() State {
	return State{Level: Unknown, Word: "not found", Why: "It is in the replica set's configuration, but no agent has reached it."}
}
