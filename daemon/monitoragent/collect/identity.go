package collect

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/redact"
)

// identityCommands tell what a process is and how it is set up. They change seldom.
func identityCommands() []command {
	startupWarnings := bson.D{{Key: "getLog", Value: "startupWarnings"}}
	parameters := bson.D{{Key: "getParameter", Value: "*"}}
	return []command{
		{name: "buildInfo", db: "admin", on: anyRole, every: hourly, cmd: one("buildInfo")},
		{name: "isSelf", title: "_isSelf", db: "admin", on: anyRole, every: hourly, cmd: one("_isSelf")},
		{
			name: "getCmdLineOpts", db: "admin", on: anyRole, every: hourly, cmd: one("getCmdLineOpts"),
			right: "getCmdLineOpts on the cluster", shape: withoutSecrets,
		},
		{name: "hostInfo", db: "admin", on: anyRole, every: hourly, cmd: one("hostInfo"), right: "hostInfo on the cluster"},
		{
			name: "getParameter", db: "admin", on: anyRole, every: daily, cmd: static(parameters),
			right: "getParameter on the cluster", shape: withoutSecrets,
		},
		{
			name: "startupWarnings", title: "getLog startupWarnings", db: "admin", on: anyRole, every: once,
			cmd: static(startupWarnings), right: "getLog on the cluster",
		},
		{
			name: "connPoolStats", db: "admin", on: stores | of(discover.Mongos), every: minutely, cmd: one("connPoolStats"),
			right: "connPoolStats on the cluster",
		},
	}
}

// withoutSecrets keeps secrets from leaving the agent.
func withoutSecrets(_ context.Context, _ *session, reply bson.Raw) (bson.Raw, error) {
	return redact.Reply(reply)
}
