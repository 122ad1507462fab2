package status

import (
	"encoding/binary"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Hello answers hello, or isMaster when legacy. The listener adds what belongs to the connection: connectionId, compression
// and authentication mechanisms.
func Hello(v *View, legacy, helloOk bool) bson.D {
	d := bson.D{}
	if helloOk && v.Version.HasHello() {
		d = append(d, bson.E{Key: "helloOk", Value: true})
	}
	if v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "topologyVersion", Value: v.topologyVersion()})
	}
	if v.Set == nil {
		d = append(d, bson.E{Key: writableName(legacy), Value: true})
	} else {
		d = append(d, replFields(v, legacy)...)
	}
	d = append(d,
		bson.E{Key: "maxBsonObjectSize", Value: int32(16777216)},
		bson.E{Key: "maxMessageSizeBytes", Value: int32(48000000)},
		bson.E{Key: "maxWriteBatchSize", Value: int32(100000)},
		bson.E{Key: "localTime", Value: date(v.Now)},
		bson.E{Key: "logicalSessionTimeoutMinutes", Value: int32(30)},
		bson.E{Key: "minWireVersion", Value: int32(0)},
		bson.E{Key: "maxWireVersion", Value: v.Version.WireVersion()},
		bson.E{Key: "readOnly", Value: false},
	)
	return ok(d)
}

func writableName(legacy bool) string {
	if legacy {
		return "ismaster"
	}
	return "isWritablePrimary"
}

// replFields are what hello and the repl section of serverStatus share.
func replFields(v *View, legacy bool) bson.D {
	s, me := v.Set, v.self()
	if me.State == model.StateStartup || me.State == model.StateRemoved {
		return bson.D{
			{Key: writableName(legacy), Value: false},
			{Key: "secondary", Value: false},
			{Key: "info", Value: "Does not have a valid replica set config"},
			{Key: "isreplicaset", Value: true},
		}
	}
	d := bson.D{}
	hosts, passives, arbiters := bson.A{}, bson.A{}, bson.A{}
	for i := range s.Members {
		switch m := &s.Members[i]; {
		case m.Arbiter:
			arbiters = append(arbiters, m.Host)
		case m.Hidden:
		case m.Priority == 0:
			passives = append(passives, m.Host)
		default:
			hosts = append(hosts, m.Host)
		}
	}
	add := func(key string, value any) { d = append(d, bson.E{Key: key, Value: value}) }
	add("hosts", hosts)
	if len(passives) > 0 {
		add("passives", passives)
	}
	if len(arbiters) > 0 {
		add("arbiters", arbiters)
	}
	add("setName", s.Name)
	add("setVersion", s.ConfigVersion)
	add(writableName(legacy), me.State == model.StatePrimary)
	add("secondary", me.State == model.StateSecondary)
	if s.Primary >= 0 {
		add("primary", s.Members[s.Primary].Host)
	}
	if me.Arbiter {
		add("arbiterOnly", true)
	} else if me.Priority == 0 {
		add("passive", true)
	}
	if me.Hidden {
		add("hidden", true)
	}
	if me.Delay > 0 {
		add(delayName(v.Version), int64(me.Delay/time.Second))
	}
	if len(me.Tags) > 0 {
		add("tags", me.Tags)
	}
	add("me", me.Host)
	if me.State == model.StatePrimary {
		add("electionId", ElectionID(s.Term))
	}
	applied := me.Applied
	if me.Arbiter { // an arbiter follows the commit point
		applied = s.Committed
	}
	add("lastWrite", bson.D{
		{Key: "opTime", Value: applied.doc()},
		{Key: "lastWriteDate", Value: applied.date()},
		{Key: "majorityOpTime", Value: s.Committed.doc()},
		{Key: "majorityWriteDate", Value: s.Committed.date()},
	})
	return d
}

func delayName(v Version) string {
	if v.AtLeast(5, 0) {
		return "secondaryDelaySecs"
	}
	return "slaveDelay"
}

// ElectionID is the electionId of a term.
func ElectionID(term int64) bson.ObjectID {
	id := bson.ObjectID{0x7f, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint64(id[4:], uint64(term))
	return id
}

// counts are the four numbers of voters in replSetGetStatus.
func (s *Set) counts() (majority, writeMajority, voting, writable int32) {
	for i := range s.Members {
		if s.Members[i].Votes > 0 {
			voting++
			if !s.Members[i].Arbiter {
				writable++
			}
		}
	}
	majority = voting/2 + 1
	return majority, min(majority, writable), voting, writable
}

// ReplSetGetStatus answers the command of a member of a set.
func ReplSetGetStatus(v *View) bson.D {
	s, me := v.Set, v.self()
	majority, writeMajority, voting, writable := s.counts()
	host, id := syncSource(s, me)
	d := bson.D{
		{Key: "set", Value: s.Name},
		{Key: "date", Value: date(v.Now)},
		{Key: "myState", Value: int32(me.State)},
		{Key: "term", Value: s.Term},
		{Key: "syncSourceHost", Value: host},
		{Key: "syncSourceId", Value: id},
		{Key: "heartbeatIntervalMillis", Value: int64(2000)},
		{Key: "majorityVoteCount", Value: majority},
		{Key: "writeMajorityCount", Value: writeMajority},
	}
	if v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "votingMembersCount", Value: voting}, bson.E{Key: "writableVotingMembersCount", Value: writable})
	}
	applied, appliedWall, durable, durableWall := me.Applied, me.AppliedWall, me.Applied, me.AppliedWall
	if me.Arbiter {
		applied, appliedWall, durable, durableWall = s.Committed, s.CommittedWall, NoOpTime(), time.Time{}
	}
	optimes := bson.D{
		{Key: "lastCommittedOpTime", Value: s.Committed.doc()},
		{Key: "lastCommittedWallTime", Value: date(s.CommittedWall)},
		{Key: "readConcernMajorityOpTime", Value: s.Committed.doc()},
	}
	if !v.Version.AtLeast(6, 0) {
		optimes = append(optimes, bson.E{Key: "readConcernMajorityWallTime", Value: date(s.CommittedWall)})
	}
	optimes = append(optimes, bson.E{Key: "appliedOpTime", Value: applied.doc()}, bson.E{Key: "durableOpTime", Value: durable.doc()})
	if v.Version.AtLeast(8, 0) {
		optimes = append(optimes, bson.E{Key: "writtenOpTime", Value: applied.doc()})
	}
	optimes = append(optimes, bson.E{Key: "lastAppliedWallTime", Value: date(appliedWall)}, bson.E{Key: "lastDurableWallTime", Value: date(durableWall)})
	if v.Version.AtLeast(8, 0) {
		optimes = append(optimes, bson.E{Key: "lastWrittenWallTime", Value: date(appliedWall)})
	}
	stable := s.Committed.TS
	if stable.T > 60 { // the last checkpoint
		stable.T -= stable.T % 60
	}
	if me.Arbiter {
		stable = bson.Timestamp{}
	}
	d = append(d, bson.E{Key: "optimes", Value: optimes}, bson.E{Key: "lastStableRecoveryTimestamp", Value: stable})
	if !v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "lastStableCheckpointTimestamp", Value: stable})
	}
	if e := s.Election; e != nil && me.State == model.StatePrimary && e.Winner == s.Self {
		d = append(d, bson.E{Key: "electionCandidateMetrics", Value: candidateMetrics(s, e, majority)})
	}
	if e := s.LastVote; e != nil && e.Winner >= 0 && e.Winner < len(s.Members) {
		d = append(d, bson.E{Key: "electionParticipantMetrics", Value: participantMetrics(s, me, e)})
	}
	members := bson.A{}
	for i := range s.Members {
		members = append(members, memberDoc(v, i))
	}
	return ok(append(d, bson.E{Key: "members", Value: members}))
}

func syncSource(s *Set, m *Member) (string, int32) {
	if m.SyncSource < 0 || m.SyncSource >= len(s.Members) {
		return "", -1
	}
	return s.Members[m.SyncSource].Host, s.Members[m.SyncSource].ID
}

func candidateMetrics(s *Set, e *Election, needed int32) bson.D {
	d := bson.D{
		{Key: "lastElectionReason", Value: e.Reason},
		{Key: "lastElectionDate", Value: date(e.At)},
		{Key: "electionTerm", Value: e.Term},
		{Key: "lastCommittedOpTimeAtElection", Value: e.Committed.doc()},
		{Key: "lastSeenOpTimeAtElection", Value: e.LastSeen.doc()},
		{Key: "numVotesNeeded", Value: needed},
		{Key: "priorityAtElection", Value: s.Members[e.Winner].Priority},
		{Key: "electionTimeoutMillis", Value: s.ElectionMS},
	}
	if e.Prior >= 0 && e.Prior < len(s.Members) {
		d = append(d, bson.E{Key: "priorPrimaryMemberId", Value: s.Members[e.Prior].ID})
	}
	return append(d, bson.E{Key: "numCatchUpOps", Value: int64(0)}, bson.E{Key: "newTermStartDate", Value: date(e.At)},
		bson.E{Key: "wMajorityWriteAvailabilityDate", Value: date(e.At)})
}

func participantMetrics(s *Set, me *Member, e *Election) bson.D {
	last := e.LastSeen
	if me.Arbiter {
		last = OpTime{Term: -1}
	}
	d := bson.D{
		{Key: "votedForCandidate", Value: true},
		{Key: "electionTerm", Value: e.Term},
		{Key: "lastVoteDate", Value: date(e.At)},
		{Key: "electionCandidateMemberId", Value: s.Members[e.Winner].ID},
		{Key: "voteReason", Value: ""},
		{Key: "lastAppliedOpTimeAtElection", Value: last.doc()},
		{Key: "maxAppliedOpTimeInSet", Value: e.LastSeen.doc()},
		{Key: "priorityAtElection", Value: me.Priority},
	}
	if me.Arbiter {
		return d
	}
	return append(d, bson.E{Key: "newTermStartDate", Value: date(e.At)}, bson.E{Key: "newTermAppliedDate", Value: date(e.At)})
}

func memberDoc(v *View, i int) bson.D {
	s := v.Set
	m := &s.Members[i]
	self := i == s.Self
	d := bson.D{{Key: "_id", Value: m.ID}, {Key: "name", Value: m.Host}}
	add := func(key string, value any) { d = append(d, bson.E{Key: key, Value: value}) }
	if !m.Up && !self {
		add("health", 0.0)
		add("state", int32(model.StateDown))
		add("stateStr", "(not reachable/healthy)")
		add("uptime", int32(0))
	} else {
		add("health", 1.0)
		add("state", int32(m.State))
		add("stateStr", m.State.String())
		add("uptime", int32(max(0, v.Now.Sub(m.Since).Seconds())))
	}
	if !m.Arbiter {
		optime := m.Applied
		if !m.Up && !self {
			optime = NoOpTime()
		}
		add("optime", optime.doc())
		if !self {
			add("optimeDurable", optime.doc())
		}
		if v.Version.AtLeast(8, 0) {
			add("optimeWritten", optime.doc())
		}
		add("optimeDate", optime.date())
		if !self {
			add("optimeDurableDate", optime.date())
		}
		if v.Version.AtLeast(8, 0) {
			add("optimeWrittenDate", optime.date())
		}
		if v.Version.AtLeast(5, 0) {
			add("lastAppliedWallTime", date(m.AppliedWall))
			add("lastDurableWallTime", date(m.AppliedWall))
		}
		if v.Version.AtLeast(8, 0) {
			add("lastWrittenWallTime", date(m.AppliedWall))
		}
	}
	if !self {
		add("lastHeartbeat", date(m.LastHeartbeat))
		add("lastHeartbeatRecv", date(m.LastHeartbeat.Add(-350*time.Millisecond)))
		add("pingMs", int64(0))
		if m.Up {
			add("lastHeartbeatMessage", "")
		} else {
			add("lastHeartbeatMessage", "Error connecting to "+m.Host+" :: caused by :: Connection refused")
		}
	}
	host, id := syncSource(s, m)
	if !v.Version.AtLeast(4, 4) {
		add("syncingTo", host)
	}
	add("syncSourceHost", host)
	add("syncSourceId", id)
	add("infoMessage", "")
	if m.State == model.StatePrimary && (m.Up || self) {
		add("electionTime", m.Elected)
		add("electionDate", bson.DateTime(int64(m.Elected.T)*1000))
	}
	add("configVersion", s.ConfigVersion)
	if v.Version.AtLeast(4, 4) {
		add("configTerm", int32(s.ConfigTerm))
	}
	if self {
		add("self", true)
		add("lastHeartbeatMessage", "")
	}
	return d
}

// ReplSetConfig is the configuration document of a set.
func ReplSetConfig(v *View) bson.D {
	s := v.Set
	members := bson.A{}
	for i := range s.Members {
		m := &s.Members[i]
		tags := m.Tags
		if tags == nil {
			tags = bson.D{}
		}
		members = append(members, bson.D{
			{Key: "_id", Value: m.ID},
			{Key: "host", Value: m.Host},
			{Key: "arbiterOnly", Value: m.Arbiter},
			{Key: "buildIndexes", Value: true},
			{Key: "hidden", Value: m.Hidden},
			{Key: "priority", Value: m.Priority},
			{Key: "tags", Value: tags},
			{Key: delayName(v.Version), Value: int64(m.Delay / time.Second)},
			{Key: "votes", Value: m.Votes},
		})
	}
	head := bson.D{{Key: "_id", Value: s.Name}, {Key: "version", Value: s.ConfigVersion}}
	if v.Version.AtLeast(4, 4) {
		head = append(head, bson.E{Key: "term", Value: int32(s.ConfigTerm)})
	}
	settings := bson.D{
		{Key: "chainingAllowed", Value: true},
		{Key: "heartbeatIntervalMillis", Value: int32(2000)},
		{Key: "heartbeatTimeoutSecs", Value: int32(10)},
		{Key: "electionTimeoutMillis", Value: int32(s.ElectionMS)},
		{Key: "catchUpTimeoutMillis", Value: int32(-1)},
		{Key: "catchUpTakeoverDelayMillis", Value: int32(30000)},
		{Key: "getLastErrorModes", Value: bson.D{}},
		{Key: "getLastErrorDefaults", Value: bson.D{{Key: "w", Value: int32(1)}, {Key: "wtimeout", Value: int32(0)}}},
		{Key: "replicaSetId", Value: s.ID},
	}
	proto, wcj := bson.E{Key: "protocolVersion", Value: int64(1)}, bson.E{Key: "writeConcernMajorityJournalDefault", Value: true}
	mem := bson.E{Key: "members", Value: members}
	if v.Version.AtLeast(5, 0) {
		head = append(head, mem, proto, wcj)
	} else {
		head = append(head, proto, wcj, mem)
	}
	return append(head, bson.E{Key: "settings", Value: settings})
}

// ReplSetGetConfig answers the command.
func ReplSetGetConfig(v *View) bson.D {
	return ok(bson.D{{Key: "config", Value: ReplSetConfig(v)}})
}
