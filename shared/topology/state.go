package topology

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Codes by which servers refuse and give up.
const (
	codeUnreachable          = 6
	codeUnauthorized         = 13
	codeAuthenticationFailed = 18
	codeMaxTimeExpired       = 50
	codeInvalidConfig        = 93 // the set's configuration no longer names this member
	codeNotYetInitialized    = 94
	codeNetworkTimeout       = 89
	codeExceededTimeLimit    = 262
)

// status renews the host's status.
func (o *Observation) status(in *Input, v *view) {
	s := &o.Status
	s.HostID, s.GroupID, s.AgentID = in.Host.ID, in.Host.GroupID, in.AgentID
	first := s.At.IsZero()
	if first {
		s.State, s.LastState = model.StateUnknown, model.StateUnknown
	}
	s.At = in.Ping.At
	reach, failure := reachOf(in.Ping.Errors, v)
	if reach != s.Reach || s.ReachSince.IsZero() {
		o.reachEvents(in, reach, failure)
		s.Reach, s.ReachSince = reach, in.Ping.At
	}
	s.Error, s.ErrorCode = "", 0
	if failure != nil {
		s.Error, s.ErrorCode = describeFailure(failure), int(failure.Code)
	}
	state := model.StateDown
	if v.answered {
		state = stateOf(v, in.Ping.Errors, in.Status.LastState)
		s.LastPing, s.LastState, s.RTTMicros = in.Ping.At, state, in.Ping.RTT
	}
	if !memberLike(in, v) {
		state = model.StateUnknown // a standalone or a mongos has no member state, not even DOWN
	}
	if state != s.State || s.StateSince.IsZero() {
		s.State, s.StateSince = state, in.Ping.At
	}
	s.LagMS, s.WindowSecs = nil, nil
	if v.ss == nil {
		return
	}
	s.Conns = v.ss.conns
	s.SkewMS, s.Skews = rollup.Skew(s.Skews, in.Ping.SkewMS)
}

func memberLike(in *Input, v *view) bool {
	if v.answered {
		return v.hello.setName != "" || v.hello.isReplicaSet || v.rs != nil
	}
	return in.Host.ReplicaSet != ""
}

// reachOf says how far the agent came, and the failure that best explains it.
func reachOf(failures []wire.Failure, v *view) (model.Reach, *wire.Failure) {
	worst := func(match func(*wire.Failure) bool) *wire.Failure {
		for i := range failures {
			if match(&failures[i]) {
				return &failures[i]
			}
		}
		return nil
	}
	if !v.answered {
		f := worst(func(f *wire.Failure) bool { return f.Command == "connect" || f.Command == "hello" })
		if f == nil && len(failures) > 0 {
			f = &failures[0]
		}
		if f != nil && refused(f) {
			return model.ReachUnauthorised, f
		}
		return model.ReachDown, f
	}
	if v.ss == nil {
		if v.hello.arbiterOnly {
			// Arbiters hold no users: with access control on, hello is all that can be had of them.
			if f := worst(func(f *wire.Failure) bool { return !refused(f) }); f != nil {
				return model.ReachSlow, f
			}
			return model.ReachUp, nil
		}
		if f := worst(refused); f != nil {
			return model.ReachUnauthorised, f
		}
		if f := worst(timedOut); f != nil {
			return model.ReachSlow, f
		}
		if len(failures) > 0 {
			return model.ReachSlow, &failures[0]
		}
		return model.ReachUp, nil
	}
	if v.hello.arbiterOnly {
		return model.ReachUp, worst(func(f *wire.Failure) bool { return !refused(f) })
	}
	if len(failures) > 0 {
		return model.ReachUp, &failures[0]
	}
	return model.ReachUp, nil
}

// refused: whatever kept the agent from signing in, short of a lost connection, it sees the process as a stranger does.
func refused(f *wire.Failure) bool {
	return f.Code == codeUnauthorized || f.Code == codeAuthenticationFailed || f.Command == "authenticate" && f.Code != codeUnreachable
}

func timedOut(f *wire.Failure) bool {
	return f.Code == codeMaxTimeExpired || f.Code == codeNetworkTimeout || f.Code == codeExceededTimeLimit
}

func describeFailure(f *wire.Failure) string {
	if f.Command == "connect" || f.Command == "" {
		return f.Message
	}
	return f.Command + ": " + f.Message
}

// reachEvents: the host's own up and down. Whether anybody is told is for alert rules to decide.
func (o *Observation) reachEvents(in *Input, reach model.Reach, failure *wire.Failure) {
	was := in.Status.Reach
	switch {
	case was == "" || was == model.ReachNoData:
	case reach == model.ReachDown:
		why := "no answer"
		if failure != nil {
			why = failure.Message
		}
		o.event(model.EventHostDown, in.Ping.At, "does not answer: "+why)
	case was == model.ReachDown:
		o.event(model.EventHostUp, in.Ping.At, "answers again")
	}
}

// stateOf is the member's state: what replSetGetStatus says, be it in refusing, else what hello lets us conclude.
func stateOf(v *view, failures []wire.Failure, before model.MemberState) model.MemberState {
	refusal := int32(0)
	for i := range failures {
		if failures[i].Command == "replSetGetStatus" {
			refusal = failures[i].Code
		}
	}
	switch h := &v.hello; {
	case v.rs != nil && v.rs.state != model.StateUnknown:
		return v.rs.state
	case refusal == codeInvalidConfig:
		return model.StateRemoved
	case refusal == codeNotYetInitialized:
		return model.StateStartup
	case h.setName == "" && h.isReplicaSet:
		if before != model.StateUnknown && before != model.StateStartup {
			return model.StateRemoved
		}
		return model.StateStartup
	case h.setName == "":
		return model.StateUnknown
	case h.primary:
		return model.StatePrimary
	case h.arbiterOnly:
		return model.StateArbiter
	case h.secondary:
		return model.StateSecondary
	case before == model.StateRollback || before == model.StateStartup2 || before == model.StateStartup:
		return before
	}
	return model.StateRecovering
}

// stateEvents tells what the member became. Nothing is said on first sight: nothing happened then.
func (o *Observation) stateEvents(in *Input, v *view) {
	was, is := in.Status.LastState, o.Status.LastState
	if in.Status.LastPing.IsZero() || was == is {
		return
	}
	at := in.Ping.At
	within := func(t time.Time) bool { return t.After(in.Status.LastPing) && !t.After(at) }
	switch is {
	case model.StatePrimary:
		if self := v.rs.self(); self != nil && within(self.election) {
			at = self.election
		}
		o.event(model.EventHostNowPrimary, at, "became primary; it was "+was.String())
	case model.StateSecondary:
		if v.rs != nil && within(v.rs.newTermAt) {
			at = v.rs.newTermAt
		}
		if was == model.StateRecovering || was == model.StateRollback || was == model.StateStartup2 {
			o.event(model.EventHostRecovered, in.Ping.At, "has recovered; it was "+was.String())
		}
		o.event(model.EventHostNowSecondary, at, "became secondary; it was "+was.String())
	case model.StateRollback:
		o.event(model.EventHostRollback, at, "rolls back writes that never reached a majority")
	case model.StateRecovering, model.StateStartup2:
		if was != model.StateRecovering && was != model.StateStartup2 {
			o.event(model.EventHostRecovering, at, "is in state "+is.String()+"; it was "+was.String())
		}
	}
}

// processType is metrics.md 5.3: what the evidence makes of the process. Evidence that comes seldom is remembered in the
// type known before.
func processType(v *view, state model.MemberState, before model.ProcessType) model.ProcessType {
	role := lenient.Text(lenient.Option(v.cmdLine, "sharding.clusterRole"))
	switch {
	case v.hello.msg == "isdbgrid", v.ss != nil && mongosName(v.ss.process):
		return model.TypeShardMongos
	case v.hello.configsvr, v.rs != nil && v.rs.configsvr, role == "configsvr":
		return model.TypeShardConfig
	}
	member := v.hello.setName != "" || v.hello.isReplicaSet || v.rs != nil
	sharded := role == "shardsvr" || v.ss != nil && v.ss.configString != ""
	if v.ss == nil || len(v.cmdLine) == 0 {
		// Not everything was asked this time: what was once a shard stays one.
		sharded = sharded || before == model.TypeShardPrimary || before == model.TypeShardSecondary || before == model.TypeShardStandalone
		if before == model.TypeShardConfig && member && v.rs == nil {
			return before
		}
	}
	switch {
	case !member && sharded:
		return model.TypeShardStandalone
	case !member:
		return model.TypeStandalone
	}
	switch state {
	case model.StatePrimary:
		if sharded {
			return model.TypeShardPrimary
		}
		return model.TypeReplicaPrimary
	case model.StateSecondary:
		if sharded {
			return model.TypeShardSecondary
		}
		return model.TypeReplicaSecondary
	case model.StateArbiter:
		return model.TypeReplicaArbiter
	}
	return model.TypeRecovering
}

func mongosName(process string) bool {
	base := process[lastSeparator(process)+1:]
	return base == "mongos" || base == "mongos.exe"
}

func lastSeparator(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' || s[i] == '\\' {
			return i
		}
	}
	return -1
}
