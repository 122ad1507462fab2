package model

import "time"

// ProcessType is the role of a process, spelled as typeName in the Public API.
type ProcessType string

// The process types of the Public API (metrics.md 5.3 says how each is recognised).
const (
	TypeNoData           ProcessType = "NO_DATA"
	TypeStandalone       ProcessType = "STANDALONE"
	TypeReplicaPrimary   ProcessType = "REPLICA_PRIMARY"
	TypeReplicaSecondary ProcessType = "REPLICA_SECONDARY"
	TypeReplicaArbiter   ProcessType = "REPLICA_ARBITER"
	TypeRecovering       ProcessType = "RECOVERING"
	TypeShardMongos      ProcessType = "SHARD_MONGOS"
	TypeShardConfig      ProcessType = "SHARD_CONFIG"
	TypeShardStandalone  ProcessType = "SHARD_STANDALONE"
	TypeShardPrimary     ProcessType = "SHARD_PRIMARY"
	TypeShardSecondary   ProcessType = "SHARD_SECONDARY"
)

// MemberState is a replica set member's state number as the server reports it.
type MemberState int

// Member states, numbered as in replSetGetStatus.
const (
	StateStartup    MemberState = 0
	StatePrimary    MemberState = 1
	StateSecondary  MemberState = 2
	StateRecovering MemberState = 3
	StateFatal      MemberState = 4
	StateStartup2   MemberState = 5
	StateUnknown    MemberState = 6
	StateArbiter    MemberState = 7
	StateDown       MemberState = 8
	StateRollback   MemberState = 9
	StateRemoved    MemberState = 10
)

var stateNames = [...]string{
	"STARTUP", "PRIMARY", "SECONDARY", "RECOVERING", "FATAL", "STARTUP2", "UNKNOWN", "ARBITER", "DOWN", "ROLLBACK", "REMOVED",
}

// String is the state's name as in the Public API's replicaStateName; a number that no server sends is UNKNOWN.
func (s MemberState) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "UNKNOWN"
	}
	return stateNames[s]
}

// Host is one monitored process: what changes seldom about it. What every ping renews is in HostStatus.
type Host struct {
	ID       HostID    `bson:"id"`
	GroupID  ID        `bson:"groupId"`
	Hostname string    `bson:"hostname"` // the name it is dialled by
	Port     int       `bson:"port"`
	Aliases  []string  `bson:"aliases,omitempty"` // every other host:port it was seen as
	IP       string    `bson:"ip,omitempty"`
	Self     string    `bson:"self,omitempty"` // host:port as the process itself gives it in serverStatus; need not be reachable
	Created  time.Time `bson:"created"`

	Type            ProcessType `bson:"type"`
	Version         string      `bson:"version,omitempty"`
	ReplicaSet      string      `bson:"replicaSet,omitempty"`
	ShardName       string      `bson:"shardName,omitempty"`
	ClusterID       ID          `bson:"clusterId,omitempty"` // the nearest cluster entity
	ProcessID       string      `bson:"processId,omitempty"` // topologyVersion.processId or _isSelf id: changes with every start
	MemberID        int         `bson:"memberId"`            // _id in the set configuration, -1 when none
	HiddenSecondary bool        `bson:"hiddenSecondary,omitempty"`
	DelaySecs       int64       `bson:"delaySecs,omitempty"`
	Priority        float64     `bson:"priority,omitempty"`
	Votes           int         `bson:"votes,omitempty"`
	Journaling      bool        `bson:"journaling,omitempty"`
	StartupWarnings []string    `bson:"startupWarnings,omitempty"`
	LowUlimit       bool        `bson:"lowUlimit,omitempty"`
	MemSizeMB       int64       `bson:"memSizeMB,omitempty"`
	NumCores        int         `bson:"numCores,omitempty"`
	OS              string      `bson:"os,omitempty"`
	StorageEngine   string      `bson:"storageEngine,omitempty"`
	DBPath          string      `bson:"dbPath,omitempty"`
	FCV             string      `bson:"fcv,omitempty"`
	AuthEnabled     bool        `bson:"authEnabled,omitempty"` // the process runs with access control
	LastDataBytes   float64     `bson:"lastDataBytes,omitempty"`
	LastIndexBytes  float64     `bson:"lastIndexBytes,omitempty"`
	LastRestart     time.Time   `bson:"lastRestart,omitempty"` // zero: not restarted since first seen
	Hidden          bool        `bson:"hidden,omitempty"`      // duplicate or hidden by a person: left out of lists
	Deactivated     bool        `bson:"deactivated,omitempty"` // silent for days: left out of lists and not polled
	Deleted         bool        `bson:"deleted,omitempty"`     // removed by a person: never rediscovered
	DuplicateOf     HostID      `bson:"duplicateOf,omitempty"`
	Enabled         bool        `bson:"enabled"`
	AlertsEnabled   bool        `bson:"alertsEnabled"`
	LogsEnabled     bool        `bson:"logsEnabled,omitempty"`
	ProfilerEnabled bool        `bson:"profilerEnabled,omitempty"`
	Seed            bool        `bson:"seed,omitempty"` // added by a person or the API, not discovered
	Credentials     Credentials `bson:"-"`              // sealed apart by the store
	HasCredentials  bool        `bson:"hasCredentials,omitempty"`
	AuthMechanism   string      `bson:"authMechanism,omitempty"` // NONE, MONGODB_CR, SCRAM-SHA-1, SCRAM-SHA-256, MONGODB_X509, GSSAPI, PLAIN
	TLS             bool        `bson:"tls,omitempty"`
	DiscoveredFrom  HostID      `bson:"discoveredFrom,omitempty"`
	CertExpires     time.Time   `bson:"certExpires,omitempty"` // end of the certificate the process shows to agents; zero: none seen
	CertSubject     string      `bson:"certSubject,omitempty"`
	TLSMode         string      `bson:"tlsMode,omitempty"`      // net.tls.mode of getCmdLineOpts; "" when not known
	BindIP          string      `bson:"bindIp,omitempty"`       // net.bindIp of getCmdLineOpts
	ExposedSince    time.Time   `bson:"exposedSince,omitempty"` // answers anybody since; zero: not known to
	ExposedChecked  time.Time   `bson:"exposedChecked,omitempty"`
	ExposedNote     string      `bson:"exposedNote,omitempty"` // what the last check found, or why there was none
}

// Address is the host's canonical host:port.
func (h *Host) Address() string { return Address(h.Hostname, h.Port) }

// Visible reports whether lists show the host and agents poll it.
func (h *Host) Visible() bool { return !h.Hidden && !h.Deactivated && !h.Deleted }

// Credentials are what an agent needs to sign in to a host.
type Credentials struct {
	Username  string `bson:"username,omitempty"`
	Password  Secret `bson:"password,omitempty"`
	Mechanism string `bson:"mechanism,omitempty"`
	Source    string `bson:"source,omitempty"` // authentication database, "admin" when empty
}

// Reach is what the last ping's attempt to talk to a host came to.
type Reach string

// How a host answered last.
const (
	ReachNoData       Reach = "NO_DATA"      // never polled
	ReachUp           Reach = "UP"           // answered everything asked
	ReachUnauthorised Reach = "UNAUTHORISED" // answers hello, refuses the rest (codes 13, 18)
	ReachSlow         Reach = "SLOW"         // answers hello, other commands timed out
	ReachDown         Reach = "DOWN"         // hello did not answer
)

// HostStatus is what each ping renews: small, one a host, read by the thousand for the deployment page.
type HostStatus struct {
	HostID     HostID      `bson:"hostId"`
	GroupID    ID          `bson:"groupId"`
	At         time.Time   `bson:"at"`                 // time of the last ping about the host, answered or not
	LastPing   time.Time   `bson:"lastPing,omitempty"` // time of the last ping it answered; zero when never
	Reach      Reach       `bson:"reach"`
	ReachSince time.Time   `bson:"reachSince"`      // since when Reach has been what it is
	Error      string      `bson:"error,omitempty"` // of the last ping: the failing command's message
	ErrorCode  int         `bson:"errorCode,omitempty"`
	State      MemberState `bson:"state"` // StateUnknown when not a member or not known
	StateSince time.Time   `bson:"stateSince"`
	UptimeMS   int64       `bson:"uptimeMs,omitempty"`
	LagMS      *int64      `bson:"lagMs,omitempty"`      // replication lag of a secondary (metrics.md 3.5)
	WindowSecs *int64      `bson:"windowSecs,omitempty"` // oplog window
	Conns      int64       `bson:"conns,omitempty"`
	RTTMicros  int64       `bson:"rttMicros,omitempty"` // hello's round trip from the agent
	SkewMS     int64       `bson:"skewMs,omitempty"`    // smoothed clock difference host minus agent
	Skews      []int64     `bson:"skews,omitempty"`     // the last ten measurements behind SkewMS
	AgentID    string      `bson:"agentId,omitempty"`
	LastState  MemberState `bson:"lastState"`         // State in the last ping it answered: what a return from DOWN is compared with
	PID        int64       `bson:"pid,omitempty"`     // of the process, as it reports it
	Started    time.Time   `bson:"started,omitempty"` // estimated start of the process: its own clock minus its uptime
}
