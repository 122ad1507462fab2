package model

import "time"

// Org is an organization: the owner of groups and of programmatic API keys.
type Org struct {
	ID      ID        `bson:"id"`
	Name    string    `bson:"name"`
	Created time.Time `bson:"created"`
	// RequireAccessList makes an organization's API keys useless until they have an access list.
	RequireAccessList bool `bson:"requireAccessList,omitempty"`
}

// Group is a project: a set of monitored hosts, the people who may see them, and the agents that watch them.
type Group struct {
	ID       ID            `bson:"id"`
	OrgID    ID            `bson:"orgId"`
	Name     string        `bson:"name"`
	Created  time.Time     `bson:"created"`
	Tags     []string      `bson:"tags,omitempty"`
	Settings GroupSettings `bson:"settings"`
	// AlertsSeeded is when the group got its first alert configurations: those that are deleted do not come back.
	AlertsSeeded time.Time `bson:"alertsSeeded,omitempty"`
}

// GroupSettings steer collection for a whole group. The zero value is not usable: start from DefaultGroupSettings.
type GroupSettings struct {
	TimeZone             string `bson:"timeZone"`                       // IANA name, for display
	PingSeconds          int    `bson:"pingSeconds"`                    // 10 or 60
	CollectDBStats       bool   `bson:"collectDbStats"`                 // the 20 minute dbStats round
	CollectLogs          bool   `bson:"collectLogs"`                    // getLog: global with each ping
	CollectDiagnostics   bool   `bson:"collectDiagnostics"`             // getDiagnosticData: CPU, memory, disks, mounts
	SuppressMongos       bool   `bson:"suppressMongosDiscovery"`        // do not discover mongos
	PreferredHostnames   string `bson:"preferredHostnames,omitempty"`   // a suffix, or a /regular expression/
	SkipExposed          bool   `bson:"skipExposed,omitempty"`          // do not dial hosts at public addresses once a day, without credentials
	MongosDeactivateSecs int64  `bson:"mongosDeactivateSecs,omitempty"` // an unreachable mongos is hidden after this
}

// DefaultGroupSettings are the settings of a new group.
func DefaultGroupSettings() GroupSettings {
	return GroupSettings{
		TimeZone: "UTC", PingSeconds: 60, CollectDBStats: true, CollectDiagnostics: true,
		MongosDeactivateSecs: 30 * 24 * 3600,
	}
}
