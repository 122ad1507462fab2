package model

import "time"

// LastPing is the newest raw ping of a host, kept whole for the last ping page and the Public API.
type LastPing struct {
	HostID  HostID    `bson:"hostId"`
	GroupID ID        `bson:"groupId"`
	At      time.Time `bson:"at"`
	AgentID string    `bson:"agentId,omitempty"`
	Replies []byte    `bson:"replies"` // zstd of one BSON document: command name -> reply, as the agent sent it
}

// Change is a change row: a slow-moving reply differed from the one before. Both values are kept, because the history
// cannot be had later.
type Change struct {
	GroupID ID        `bson:"groupId"`
	HostID  HostID    `bson:"hostId"`
	At      time.Time `bson:"at"`
	Kind    string    `bson:"kind"` // "parameters", "configuration", "version", "fcv", "members", "cmdLineOpts", "hostInfo", "startupWarnings"
	Path    string    `bson:"path"` // dotted field that changed
	Before  string    `bson:"before"`
	After   string    `bson:"after"`
}

// Mark is one of the annotations of a chart: what happened at a moment that explains the lines.
type Mark struct {
	At   time.Time `bson:"at"`
	Type EventType `bson:"type"`
	Text string    `bson:"text"`
}

// Instance is one running server process, as it registers itself in the store.
type Instance struct {
	ID        string    `bson:"id"`
	Hostname  string    `bson:"hostname"`
	Role      string    `bson:"role"` // "server", "daemon"
	Version   string    `bson:"version"`
	Schema    int       `bson:"schema"` // newest schema it writes
	Started   time.Time `bson:"started"`
	Heartbeat time.Time `bson:"heartbeat"`
	Address   string    `bson:"address,omitempty"`
}
