package catalog

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// memberView is what one replSetGetStatus reply says of a member.
type memberView struct {
	self      bool
	state     int64
	healthy   bool
	wall      int64 // lastAppliedWallTime in milliseconds, 0 when absent
	date      int64 // optimeDate in milliseconds, 0 when absent
	noOptime  bool  // it has applied nothing yet (initial sync), or has no oplog
	hasOptime bool
}

// ReplicationLag is how far a secondary is behind the primary, from its own replSetGetStatus: the primary's last
// operation minus its own, both of one reply and both written by the primary's clock. Not ok: it is no secondary, no primary is in
// sight, or it has applied nothing yet. A heartbeat older than the secondary's own progress gives 0.
func ReplicationLag(replies bson.Raw) (ms int64, ok bool) {
	list, ok := lookup(replies, "replSetGetStatus", "members")
	if !ok || list.typ != typeArray {
		return 0, false
	}
	var self, primary memberView
	var haveSelf, havePrimary bool
	w := walk(list.data)
	for e, more := w.next(); more; e, more = w.next() {
		if e.typ != typeDocument {
			continue
		}
		switch m := viewMember(e.data); {
		case m.self:
			self, haveSelf = m, true
		case m.state == 1 && m.healthy:
			primary, havePrimary = m, true
		}
	}
	const secondary, recovering, rollback = 2, 3, 9
	if !haveSelf || !havePrimary || (self.state != secondary && self.state != recovering && self.state != rollback) ||
		self.noOptime || primary.noOptime {
		return 0, false
	}
	switch {
	case self.wall != 0 && primary.wall != 0:
		return max(0, primary.wall-self.wall), true
	case self.date != 0 && primary.date != 0:
		return max(0, primary.date-self.date), true
	}
	return 0, false
}

func viewMember(doc []byte) memberView {
	m := memberView{state: -1, healthy: true}
	w := walk(doc)
	for e, ok := w.next(); ok; e, ok = w.next() {
		v, isNumber := e.number()
		switch string(e.key) {
		case "self":
			m.self = isNumber && v.Int64() != 0
		case "state":
			if isNumber {
				m.state = v.Int64()
			}
		case "health":
			m.healthy = !isNumber || v.Float64() != 0
		case "lastAppliedWallTime":
			if isNumber {
				m.wall = v.Int64()
			}
		case "optimeDate":
			if isNumber {
				m.date = v.Int64()
			}
		case "optime":
			m.hasOptime, m.noOptime = true, emptyOptime(&e)
		}
	}
	m.noOptime = m.noOptime || !m.hasOptime
	return m
}

// emptyOptime recognises the optime of a member that has applied nothing: Timestamp(0, 0) or term -1.
func emptyOptime(e *element) bool {
	switch e.typ {
	case typeTimestamp:
		return binary.LittleEndian.Uint64(e.data) == 0
	case typeDocument:
		ts, ok := lookup(e.data, "ts")
		if !ok || ts.typ == typeTimestamp && binary.LittleEndian.Uint64(ts.data) == 0 {
			return true
		}
		if term, ok := lookup(e.data, "t"); ok {
			if v, isNumber := term.number(); isNumber && v.Int64() == -1 {
				return true
			}
		}
	}
	return false
}

// OplogWindow is the time between the oldest and the newest entry of the host's own oplog: from serverStatus where it was
// asked for its oplog section, else from the bounds the agent read. Not ok: no oplog, or fewer than two moments in it.
func OplogWindow(replies bson.Raw) (secs int64, ok bool) {
	for _, path := range [][2][]string{
		{{"serverStatus", "oplog", "earliestOptime"}, {"serverStatus", "oplog", "latestOptime"}},
		{{"oplogBounds", "first"}, {"oplogBounds", "last"}},
	} {
		first, okFirst := timestampAt(replies, path[0])
		last, okLast := timestampAt(replies, path[1])
		if okFirst && okLast && first > 0 && last > first {
			return last - first, true
		}
	}
	return 0, false
}

// timestampAt reads the seconds of a timestamp, or of the ts within a document.
func timestampAt(replies []byte, path []string) (int64, bool) {
	e, ok := lookup(replies, path...)
	if ok && e.typ == typeDocument {
		e, ok = lookup(e.data, "ts")
	}
	if !ok || e.typ != typeTimestamp {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint32(e.data[4:])), true
}
