package model

import "time"

// AgentType is what an agent does.
type AgentType string

// The kinds of agent.
const (
	AgentMonitoring AgentType = "MONITORING"
	AgentBackup     AgentType = "BACKUP"
)

// AgentState tells the one agent of a group that works from those ready to take over.
type AgentState string

// The states of an agent.
const (
	AgentActive      AgentState = "ACTIVE"
	AgentStandby     AgentState = "STANDBY"
	AgentNoProcesses AgentState = "NO_PROCESSES" // active with nothing to poll
)

// Agent is one running agent process.
type Agent struct {
	ID        string     `bson:"id"` // made by the agent, kept in its spool folder
	GroupID   ID         `bson:"groupId"`
	Type      AgentType  `bson:"type"`
	Hostname  string     `bson:"hostname"`
	Address   string     `bson:"address,omitempty"` // as the server saw it
	Version   string     `bson:"version"`
	OS        string     `bson:"os,omitempty"`
	Started   time.Time  `bson:"started"`
	FirstSeen time.Time  `bson:"firstSeen"`
	LastConf  time.Time  `bson:"lastConf"`
	LastPing  time.Time  `bson:"lastPing,omitempty"`
	ConfCount int64      `bson:"confCount"` // since the agent's start
	PingCount int64      `bson:"pingCount"` // since midnight GMT
	PingDay   string     `bson:"pingDay,omitempty"`
	State     AgentState `bson:"state"`
	Hosts     int        `bson:"hosts"`
	Dropped   int64      `bson:"dropped,omitempty"` // pings its spool had to drop
	Spooled   int64      `bson:"spooled,omitempty"` // pings waiting in its spool
	SkewMS    int64      `bson:"skewMs,omitempty"`  // agent's clock minus the server's
	LastError string     `bson:"lastError,omitempty"`
	ErrorAt   time.Time  `bson:"errorAt,omitempty"`
	LogTail   []string   `bson:"logTail,omitempty"`
}

// AgentKey is an agent API key of a group. Only a digest of the key and its last four characters are kept.
type AgentKey struct {
	ID            ID        `bson:"id"`
	GroupID       ID        `bson:"groupId"`
	Desc          string    `bson:"desc"`
	Digest        []byte    `bson:"digest"` // SHA-256 of the key: keys are random and long, so no salt or stretching is needed
	Last4         string    `bson:"last4"`
	Created       time.Time `bson:"created"`
	CreatedBy     string    `bson:"createdBy"` // USER, PUBLIC_API, PROVISIONING
	CreatedUserID ID        `bson:"createdUserId,omitempty"`
	CreatedIP     string    `bson:"createdIp,omitempty"`
}
