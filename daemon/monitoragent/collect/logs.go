package collect

import (
	"context"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// logCommands read the process's log from its memory.
func logCommands() []command {
	return []command{{
		name: "log", title: "getLog global", db: "admin", on: stores | of(discover.Other, discover.Mongos), every: minutely,
		cmd: static(bson.D{{Key: "getLog", Value: "global"}}), right: "getLog on the cluster",
		wanted: func(_ *Host, f Flags) bool { return f.Logs }, shape: newLogLines,
	}}
}

// newLogLines keeps the lines that were written since the last time: the array holds up to 1,024, mostly old ones.
// totalLinesWritten stays, so the server can tell a gap from a quiet minute.
func newLogLines(_ context.Context, s *session, reply bson.Raw) (bson.Raw, error) {
	total := discover.Int(reply, "totalLinesWritten")
	lines, ok := reply.Lookup("log").ArrayOK()
	if !ok {
		return reply, nil
	}
	values, err := lines.Values()
	if err != nil {
		return nil, err
	}
	if fresh := total - s.host.logLines; s.host.logLines > 0 && fresh >= 0 && fresh < int64(len(values)) {
		values = values[int64(len(values))-fresh:]
	}
	s.host.logLines = total
	at, doc := bsoncore.AppendDocumentStart(nil)
	doc = bsoncore.AppendInt64Element(doc, "totalLinesWritten", total)
	start, doc := bsoncore.AppendArrayElementStart(doc, "log")
	for i, v := range values {
		doc = bsoncore.AppendValueElement(doc, strconv.Itoa(i), bsoncore.Value{Type: bsoncore.Type(v.Type), Data: v.Value})
	}
	if doc, err = bsoncore.AppendArrayEnd(doc, start); err != nil {
		return nil, err
	}
	doc, err = bsoncore.AppendDocumentEnd(doc, at)
	return bson.Raw(doc), err
}
