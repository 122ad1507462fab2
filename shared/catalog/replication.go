package catalog

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog/raw"
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
	list, ok := raw.Lookup(replies, "replSetGetStatus", "members")
	if !ok || list.Type != raw.Array {
		return 0, false
	}
	var self, primary memberView
	var haveSelf, havePrimary bool
	w := raw.Walk(list.Data)
	for e, more := w.Next(); more; e, more = w.Next() {
		if e.Type != raw.Document {
			continue
		}
		switch m := viewMember(e.Data); {
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
	w := raw.Walk(doc)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		v, isNumber := e.Number()
		switch string(e.Key) {
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
func emptyOptime(e *raw.Element) bool {
	switch e.Type {
	case raw.Timestamp:
		return binary.LittleEndian.Uint64(e.Data) == 0
	case raw.Document:
		ts, ok := raw.Lookup(e.Data, "ts")
		if !ok || ts.Type == raw.Timestamp && binary.LittleEndian.Uint64(ts.Data) == 0 {
			return true
		}
		if term, ok := raw.Lookup(e.Data, "t"); ok {
			if v, isNumber := term.Number(); isNumber && v.Int64() == -1 {
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
	e, ok := raw.Lookup(replies, path...)
	if ok && e.Type == raw.Document {
		e, ok = raw.Lookup(e.Data, "ts")
	}
	if !ok || e.Type != raw.Timestamp {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint32(e.Data[4:])), true
}
