package collect

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// Bounds of a dbStats round.
const (
	roundLimit   = time.Minute // of one slot; what is left waits for the next
	maxDatabases = 200         // of one round: the largest
	restFactor   = 120         // the pause after a round is this many times its duration
)

// databaseCommands measure databases. The list comes first; dbStats then asks each of them.
func databaseCommands() []command {
	wanted := func(_ *Host, f Flags) bool { return f.DBStats }
	list := bson.D{{Key: "listDatabases", Value: 1}}
	return []command{{
		name: "listDatabases", db: "admin", on: stores | of(discover.Mongos), every: twentyMin, slow: true, wanted: wanted,
		cmd: static(list), shape: rememberDatabases, right: "listDatabases on the cluster",
	}}
}

// rememberDatabases queues the databases for dbStats, largest first. Those left from a round that ran out of time stay in
// front.
func rememberDatabases(_ context.Context, s *session, reply bson.Raw) (bson.Raw, error) {
	list, ok := reply.Lookup("databases").ArrayOK()
	if !ok {
		return reply, nil
	}
	values, err := list.Values()
	if err != nil {
		return nil, err
	}
	type database struct {
		name string
		size int64
	}
	var found []database
	for _, v := range values {
		doc, ok := v.DocumentOK()
		if !ok {
			continue
		}
		if name, ok := doc.Lookup("name").StringValueOK(); ok {
			found = append(found, database{name, discover.Int(doc, "sizeOnDisk")})
		}
	}
	slices.SortStableFunc(found, func(a, b database) int { return cmp.Compare(b.size, a.size) })
	found = found[:min(len(found), maxDatabases)]
	left := s.host.databases
	s.host.databases = nil
	for _, name := range left {
		if slices.ContainsFunc(found, func(d database) bool { return d.name == name }) {
			s.host.databases = append(s.host.databases, name)
		}
	}
	for _, d := range found {
		if !slices.Contains(left, d.name) {
			s.host.databases = append(s.host.databases, d.name)
		}
	}
	return reply, nil
}

// dbStats asks the databases of the queue until it is empty or the slot's time is over. The error is that of a database or of
// the process; what was collected before it is good.
func dbStats(ctx context.Context, s *session) (bson.Raw, error) {
	started := time.Now()
	at, doc := bsoncore.AppendDocumentStart(nil)
	list, doc := bsoncore.AppendArrayElementStart(doc, "list")
	var failed error
	n := 0
	for len(s.host.databases) > 0 && time.Since(started) < roundLimit {
		name := s.host.databases[0]
		reply, err := s.run(ctx, forSlow, name, bson.D{{Key: "dbStats", Value: 1}, {Key: "scale", Value: 1}})
		s.host.databases = s.host.databases[1:] // also when it failed: it must not keep the others from their turn
		if err == nil {
			doc = bsoncore.AppendDocumentElement(doc, strconv.Itoa(n), bsoncore.Document(reply))
			n++
			continue
		}
		_, kind := Classify("dbStats", err)
		if kind != Absent && failed == nil { // dropped since it was listed
			failed = err
		}
		if kind != Failed && kind != Slow && kind != Absent {
			break // the process, not the database
		}
	}
	if n == 0 {
		return nil, failed
	}
	doc, err := bsoncore.AppendArrayEnd(doc, list)
	if err != nil {
		return nil, err
	}
	doc, err = bsoncore.AppendDocumentEnd(doc, at)
	if err != nil {
		return nil, err
	}
	return bson.Raw(doc), failed
}

// roundPause is how long to leave databases alone after a round that took this long.
func roundPause(took time.Duration) time.Duration {
	return min(max(twentyMin, restFactor*took), daily)
}
