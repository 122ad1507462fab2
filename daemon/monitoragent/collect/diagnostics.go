package collect

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// diagnosticCommands read the server's own last sample of its machine: CPU, memory, disks and mounts of remote hosts without
// anything installed there. The server hands out a copy, so it costs it nothing.
func diagnosticCommands() []command {
	return []command{{
		name: "systemMetrics", title: "getDiagnosticData", db: "admin",
		on:     stores | of(discover.Other, discover.Arbiter, discover.Mongos),
		wanted: func(_ *Host, f Flags) bool { return f.Diagnostics },
		cmd:    one("getDiagnosticData"), shape: systemMetrics,
		right: "serverStatus and replSetGetStatus on the cluster, collStats and find on local.oplog.rs",
	}}
}

// systemMetrics keeps the part about the machine; the rest repeats what other commands answered. There is none on systems
// other than Linux. Processes that are both shard and router put it under what their roles have in common.
func systemMetrics(_ context.Context, _ *session, reply bson.Raw) (bson.Raw, error) {
	for _, path := range [][]string{{"data", "systemMetrics"}, {"data", "common", "systemMetrics"}} {
		if doc, ok := reply.Lookup(path...).DocumentOK(); ok {
			return doc, nil
		}
	}
	return nil, nil
}
