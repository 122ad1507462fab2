package collect

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

var (
	anyRole = of(discover.Standalone, discover.Primary, discover.Secondary, discover.Arbiter, discover.Mongos, discover.Other)
	members = of(discover.Primary, discover.Secondary, discover.Arbiter, discover.Other)
	bearing = of(discover.Primary, discover.Secondary) // members with data that answer reads
	stores  = of(discover.Standalone, discover.Primary, discover.Secondary)
)

// statusCommands are asked with every sample: how the process and its replica set are doing.
func statusCommands() []command {
	return []command{
		{
			name: "serverStatus", db: "admin", on: anyRole, right: "serverStatus on the cluster",
			cmd: serverStatus,
			// The oldest oplog entry could not be read, which fails the whole reply: ask without the section.
			retry: func(h *Host, code int32) bool {
				if code != codeOplogUnreadable || h.noOplog {
					return false
				}
				h.noOplog = true
				return true
			},
		},
		{
			name: "replSetGetStatus", db: "admin", on: members, right: "replSetGetStatus on the cluster",
			cmd: one("replSetGetStatus"),
		},
		{
			name: "replSetGetConfig", db: "admin", on: members, right: "replSetGetConfig on the cluster",
			cmd: one("replSetGetConfig"), every: fiveMin,
		},
	}
}

// serverStatus asks for the oplog's bounds, which are off by default, and leaves out what is costly or not used. Names of
// sections that a version does not know are ignored by it.
func serverStatus(h *Host) bson.D {
	oplog := 1
	if h.noOplog {
		oplog = 0
	}
	return bson.D{
		{Key: "serverStatus", Value: 1},
		{Key: "oplog", Value: oplog},
		{Key: "repl", Value: 1},
		{Key: "tcmalloc", Value: 0},
		{Key: "indexStats", Value: 0},
		{Key: "mirroredReads", Value: 0},
	}
}
