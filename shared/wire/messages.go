// Package wire is what agents and ingestion say to each other: message types, their versions, codec and limits. SPEC.md
// beside this file is the format's specification. It is pure: bytes in, values out.
package wire

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Version is the newest protocol version this build speaks; MinVersion the oldest it accepts.
const (
	Version    = 1
	MinVersion = 1
)

// Limits. A server may announce a smaller MaxPost in its Conf.
const (
	MaxPost    = 16 << 20 // bytes of one request body
	MaxReplies = 15 << 20 // bytes of one ping's replies once decompressed
	MaxPings   = 5_000    // pings in one post
)

// Paths of the agents' endpoints. Both take HTTP basic authentication: user = group id, password = agent API key.
const (
	PathPings = "/agents/v1/pings"
	PathConf  = "/agents/v1/conf"
)

// ContentType of every message in both directions.
const ContentType = "application/vnd.heartwood.bson"

// AgentInfo says who is calling. It is part of every post, and is sent as query parameters with a configuration call.
type AgentInfo struct {
	ID        string    `bson:"id"`      // made once by the agent, kept in its spool folder
	Session   string    `bson:"session"` // made at every start
	Type      string    `bson:"type"`    // model.AgentType
	Hostname  string    `bson:"hostname"`
	Version   string    `bson:"version"`
	OS        string    `bson:"os"`
	Started   time.Time `bson:"started"`
	ConfCount int64     `bson:"confCount"` // configuration calls since its start
	Spooled   int64     `bson:"spooled"`   // pings waiting in its spool
	Dropped   int64     `bson:"dropped"`   // pings the spool dropped since its start
	LastError string    `bson:"lastError,omitempty"`
	LogTail   []string  `bson:"logTail,omitempty"` // newest lines of its own log, oldest first, at most 100
}

// Post is the body of POST /agents/v1/pings.
type Post struct {
	Version int32     `bson:"v"`
	Agent   AgentInfo `bson:"agent"`
	Sent    time.Time `bson:"sent"` // the agent's clock when this attempt was sent: skew is judged on it, not on Ping.At
	Seq     int64     `bson:"seq"`  // grows with every post of a session; echoed in the Ack
	Pings   []Ping    `bson:"pings"`
}

// Ping is one visit to one host. (HostID, At) identifies it: the same ping posted twice changes nothing.
type Ping struct {
	HostID  string    `bson:"host"`
	At      time.Time `bson:"at"`   // the agent's wall clock when serverStatus arrived (or hello failed), corrected by the offset the server announced
	Late    bool      `bson:"late"` // back-filled from the spool: it must not page anybody
	RTT     int64     `bson:"rtt"`  // microseconds of hello's round trip
	SkewMS  int64     `bson:"skew"` // ss.localTime minus the middle of serverStatus's send and receive
	Address string    `bson:"addr"` // the host:port that was dialled
	IP      string    `bson:"ip"`   // what it resolved to
	Local   bool      `bson:"local"`
	// Cert is what the process showed when the agent last connected by TLS, be it that the agent refused it; nil without TLS.
	Cert   *Certificate `bson:"cert,omitempty"`
	Errors []Failure    `bson:"errors,omitempty"`
	// Replies is the zstd of one BSON document: reply name -> the raw reply. Names: hello, serverStatus, replSetGetStatus,
	// replSetGetConfig, buildInfo, getCmdLineOpts, hostInfo, getParameter, startupWarnings (getLog), log (getLog global),
	// oplogStats (collStats of local.oplog.rs), oplogBounds {first,last} (only when serverStatus has no oplog section),
	// isSelf, connPoolStats, systemMetrics (getDiagnosticData's part of that name), dbStats {list: [reply of each database]},
	// listDatabases, configShards, configMongos, configVersion, configSettings (arrays of documents under "docs").
	// Replies asked seldom are present only in the pings that fetched them. It is compressed by itself because the server
	// keeps it as it is.
	Replies []byte `bson:"z"`
}

// Certificate is what is told of a process's certificate.
type Certificate struct {
	Until   time.Time `bson:"until"`             // NotAfter
	Subject string    `bson:"subject,omitempty"` // as in RFC 2253
}

// Failure is a command that did not answer, or answered an error.
type Failure struct {
	Command  string `bson:"cmd"` // "connect" and "hello" mean the host is unreachable
	Code     int32  `bson:"code"`
	CodeName string `bson:"codeName,omitempty"`
	Message  string `bson:"msg"`
}

// Ack answers a Post. Rejected pings are not to be sent again.
type Ack struct {
	Version  int32      `bson:"v"`
	Seq      int64      `bson:"seq"`
	Time     time.Time  `bson:"time"` // the server's clock
	Accepted int32      `bson:"accepted"`
	Rejected []Rejected `bson:"rejected,omitempty"`
}

// Rejected is a ping the server will never take.
type Rejected struct {
	HostID string    `bson:"host"`
	At     time.Time `bson:"at"`
	Reason string    `bson:"reason"`
}

// Conf answers GET /agents/v1/conf.
type Conf struct {
	Version     int32     `bson:"v"`
	Time        time.Time `bson:"time"`        // the server's clock: the agent corrects its own by it
	State       string    `bson:"state"`       // model.AgentState: only an ACTIVE agent polls
	ConfSeconds int32     `bson:"confSeconds"` // when to call again
	PingSeconds int32     `bson:"pingSeconds"` // 10 or 60
	MaxPost     int64     `bson:"maxPost"`     // largest post body this server takes
	DBStats     bool      `bson:"dbStats"`
	Logs        bool      `bson:"logs"`
	Diagnostics bool      `bson:"diagnostics"` // getDiagnosticData
	Hosts       []Host    `bson:"hosts"`
}

// Host is one host an active agent is to poll.
type Host struct {
	ID        string `bson:"id"`
	Hostname  string `bson:"hostname"`
	Port      int32  `bson:"port"`
	Type      string `bson:"type"`           // model.ProcessType as last known; NO_DATA before the first ping
	Username  string `bson:"user,omitempty"` // credentials kept by the server; the agent's own win
	Password  string `bson:"pass,omitempty"` //nolint:gosec // travels over TLS to an authenticated agent
	Mechanism string `bson:"mech,omitempty"` // as authMechanismName
	Source    string `bson:"authSource,omitempty"`
	TLS       bool   `bson:"tls,omitempty"`
	Logs      bool   `bson:"logs,omitempty"`
	DBStats   bool   `bson:"dbStats,omitempty"` // false where another host of the cluster does it
}

// Problem is the body of every 4xx and 5xx answer of the agents' endpoints.
type Problem struct {
	Reason string `bson:"reason"` // a sentence for the agent's log
	Code   string `bson:"code"`   // stable: BAD_KEY, BAD_VERSION, TOO_LARGE, MALFORMED, CLOCK, UNAVAILABLE
}

// Replies is a ping's decompressed document.
type Replies = bson.Raw
