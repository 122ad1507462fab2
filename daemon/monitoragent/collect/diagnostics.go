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
// other than Linux.
func systemMetrics(_ context.Context, _ *session, reply bson.Raw) (bson.Raw, error) {
	doc, ok := reply.Lookup("data", "systemMetrics").DocumentOK()
	if !ok {
		return nil, nil
	}
	return doc, nil
}
