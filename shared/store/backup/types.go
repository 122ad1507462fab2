package backup

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
)

// Config is what people asked for: the backup of one replica set. Its id is the cluster's.
type Config struct {
	GroupID    model.ID           `bson:"groupId"`
	ClusterID  model.ID           `bson:"clusterId"`
	Status     model.BackupStatus `bson:"status"`
	SyncSource string             `bson:"syncSource"` // PRIMARY, SECONDARY or a member's host:port
	Mechanism  string             `bson:"mechanism,omitempty"`
	Username   string             `bson:"username,omitempty"`
	Password   []byte             `bson:"password,omitempty"` // sealed
	TLS        bool               `bson:"tls,omitempty"`
	Filter     filter.Kind        `bson:"filter,omitempty"`
	Namespaces []string           `bson:"namespaces,omitempty"`
	Encrypted  bool               `bson:"encrypted,omitempty"`
	StoreID    string             `bson:"storeId,omitempty"` // of the blockstore; "" lets the daemon choose when it binds
	Schedule   snapshot.Policy    `bson:"schedule"`
	Changed    time.Time          `bson:"changed"`
	StoppedAt  time.Time          `bson:"stoppedAt,omitempty"`
	LastEpoch  int64              `bson:"lastEpoch,omitempty"` // of the job that was deleted: numbers are never used twice

	// NewPassword, when not empty, is sealed into Password by SaveConfig; Resync allows it to ask for a full resync.
	NewPassword model.Secret `bson:"-"`
	Resync      bool         `bson:"-"`
}

// The values of Config.SyncSource besides a member's host:port.
const (
	SyncPrimary   = "PRIMARY"
	SyncSecondary = "SECONDARY"
)

// Stage is how far a running backup is.
type Stage string

// The stages, in order.
const (
	StageBinding Stage = "BINDING"  // waits for a daemon with room
	StageSync    Stage = "SYNC"     // an agent reads every collection, and tails the oplog at the same time
	StageBuild   Stage = "BUILD"    // the daemon fills a head with the sync slices
	StageCatchUp Stage = "CATCH_UP" // the head is brought through the fuzzy window, its indexes are built
	StageTailing Stage = "TAILING"  // the head follows the oplog, snapshots are taken
	StageBroken  Stage = "BROKEN"   // it stopped: Job.Problem says why and what to do
)

// Job is the state of one running backup. Its id is the cluster's. The daemon that holds the lease "backup/<id>" owns
// the fields from Daemon on; the agent's side (through ingestion) those of Tail; people those of Resync.
type Job struct {
	ID         model.ID  `bson:"id"`
	GroupID    model.ID  `bson:"groupId"`
	Stage      Stage     `bson:"stage"`
	StageSince time.Time `bson:"stageSince"`
	Epoch      int64     `bson:"epoch"` // the current one, if it is not below First
	First      int64     `bson:"first"` // number of the job's first epoch: 1, unless an earlier backup of the cluster was deleted
	Tail       Tail      `bson:"tail"`
	// Resync asks the agent for a new epoch. It is set by people and by the daemon, and cleared when the epoch begins.
	Resync *Resync `bson:"resync,omitempty"`

	Daemon     string        `bson:"daemon,omitempty"` // id of the daemon that owns it; "" for none
	Token      int64         `bson:"token,omitempty"`  // of its lease: writes under a lower one are refused
	Bound      time.Time     `bson:"bound,omitempty"`
	StoreID    string        `bson:"storeId,omitempty"`
	Applied    oplog.OpTime  `bson:"applied"` // the head holds everything up to here
	AppliedAt  time.Time     `bson:"appliedAt,omitempty"`
	ReplayFrom oplog.OpTime  `bson:"replayFrom"` // of the oldest open transaction, or Applied
	HeadBytes  int64         `bson:"headBytes,omitempty"`
	Next       time.Time     `bson:"next,omitempty"` // next scheduled snapshot, by the oplog's time
	Last       string        `bson:"last,omitempty"` // id of the last complete snapshot
	Activity   *Activity     `bson:"activity,omitempty"`
	OplogHours int           `bson:"oplogHours,omitempty"` // for how long oplog is kept at present
	Missing    []MissingDocs `bson:"missing,omitempty"`    // documents the agent is to fetch, at most 10,000
	Found      *Found        `bson:"found,omitempty"`      // what it answered
	Problem    *Problem      `bson:"problem,omitempty"`
	// Reason says what the daemon does or waits for, for people.
	Reason string `bson:"reason,omitempty"`
	// Wishes are snapshots that people asked for and that were not taken yet, oldest first, at most MaxWishes. People add them,
	// the daemon takes away what is done.
	Wishes []Wish `bson:"wishes,omitempty"`
}

// MaxWishes is how many snapshots may be asked for at once.
const MaxWishes = 10

// Wish is a snapshot that somebody asked for. The snapshot gets its id.
type Wish struct {
	ID      string    `bson:"id"` // 24 hexadecimal digits
	At      time.Time `bson:"at"`
	By      string    `bson:"by"`      // a user's name
	Expires time.Time `bson:"expires"` // until when the snapshot is kept
}

// Tail is what the agent told last.
type Tail struct {
	AgentID  string    `bson:"agentId,omitempty"`
	Hostname string    `bson:"hostname,omitempty"` // of the agent
	Source   string    `bson:"source,omitempty"`   // host:port it reads from
	At       time.Time `bson:"at,omitempty"`       // of its last report
	Version  string    `bson:"version,omitempty"`  // of the server it reads
	FCV      string    `bson:"fcv,omitempty"`
	// Oldest and Newest are the ends of the source's oplog: what is left until it overruns the backup.
	Oldest    time.Time `bson:"oldest,omitempty"`
	Newest    time.Time `bson:"newest,omitempty"`
	DataBytes int64     `bson:"dataBytes,omitempty"` // of the source, as its databases' storage
	// Progress of the full read.
	Collections     int64     `bson:"collections,omitempty"`
	CollectionsDone int64     `bson:"collectionsDone,omitempty"`
	Docs            int64     `bson:"docs,omitempty"`
	DocsDone        int64     `bson:"docsDone,omitempty"`
	Bytes           int64     `bson:"bytes,omitempty"`
	BytesDone       int64     `bson:"bytesDone,omitempty"`
	Spooled         int64     `bson:"spooled,omitempty"` // bytes waiting in the agent's spool
	Throttled       string    `bson:"throttled,omitempty"`
	Error           string    `bson:"error,omitempty"`
	ErrorCode       string    `bson:"errorCode,omitempty"` // wire.JobReport's
	ErrorAt         time.Time `bson:"errorAt,omitempty"`   // since when
}

// Resync is a wish for a new full read.
type Resync struct {
	Why string    `bson:"why"`
	At  time.Time `bson:"at"`
	By  string    `bson:"by,omitempty"` // a user's name; "" for the system
}

// Activity is long work in progress on a job, for people.
type Activity struct {
	What  string    `bson:"what"` // "snapshot", "restore", "groom", "seed", "apply", "index"
	Since time.Time `bson:"since"`
	Done  int64     `bson:"done"`
	Total int64     `bson:"total"` // 0: not known
	Unit  string    `bson:"unit,omitempty"`
}

// Problem is why a job does not go on.
type Problem struct {
	Code    string    `bson:"code"` // stable, for alerts and the API
	Text    string    `bson:"text"`
	Remedy  string    `bson:"remedy"` // what to do
	Since   time.Time `bson:"since"`
	Retries int       `bson:"retries"`
	Next    time.Time `bson:"next,omitempty"` // when it is tried again; zero: it waits for a person
	Resync  bool      `bson:"resync,omitempty"`
	// Snapshots says that only snapshots are concerned: the head follows the oplog meanwhile.
	Snapshots bool `bson:"snapshots,omitempty"`
}

// MissingDocs are documents of one collection that the copy lacks.
type MissingDocs struct {
	UUID oplog.UUID
	NS   string
	IDs  []bson.Raw // {_id: value}
}

// missingDoc is the stored form: what came from a server is binary, because its names may begin with "$".
type missingDoc struct {
	UUID oplog.UUID `bson:"uuid"`
	NS   string     `bson:"ns"`
	IDs  [][]byte   `bson:"ids"`
}

// MarshalBSON gives the stored form.
func (m MissingDocs) MarshalBSON() ([]byte, error) {
	d := missingDoc{UUID: m.UUID, NS: m.NS, IDs: make([][]byte, len(m.IDs))}
	for i, id := range m.IDs {
		d.IDs[i] = id
	}
	return bson.Marshal(d)
}

// UnmarshalBSON reads the stored form.
func (m *MissingDocs) UnmarshalBSON(b []byte) error {
	var d missingDoc
	if err := bson.Unmarshal(b, &d); err != nil {
		return err
	}
	*m = MissingDocs{UUID: d.UUID, NS: d.NS, IDs: make([]bson.Raw, len(d.IDs))}
	for i, id := range d.IDs {
		m.IDs[i] = id
	}
	return nil
}

// Found says where the answer to Job.Missing is: an object whose content is a wire.FoundDocs.
type Found struct {
	Key           string       `bson:"key"`
	Epoch         int64        `bson:"epoch"`
	OperationTime oplog.OpTime `bson:"operationTime"`
	At            time.Time    `bson:"at"`
}

// Snapshot is a stored state of a head. Its id is 24 hexadecimal digits.
type Snapshot struct {
	ID          string          `bson:"id"`
	GroupID     model.ID        `bson:"groupId"`
	Job         model.ID        `bson:"job"`
	Epoch       int64           `bson:"epoch"`
	At          time.Time       `bson:"at"` // of the oplog it holds, which is what schedule and retention count by
	Kinds       []snapshot.Kind `bson:"kinds"`
	Expires     time.Time       `bson:"expires,omitempty"` // zero: not set yet
	DoNotDelete bool            `bson:"doNotDelete,omitempty"`
	Complete    bool            `bson:"complete"`
	Created     time.Time       `bson:"created"` // when it was begun
	Finished    time.Time       `bson:"finished,omitempty"`
	Applied     oplog.OpTime    `bson:"applied"`    // the last position it holds
	ReplayFrom  oplog.OpTime    `bson:"replayFrom"` // from where oplog is read to go on from it: the oldest transaction open then, or Applied
	Token       int64           `bson:"token"`      // of the lease under which it was begun
	StoreID     string          `bson:"storeId"`
	SetName     string          `bson:"setName"`
	Version     string          `bson:"version"` // of the head's mongod
	FCV         string          `bson:"fcv"`
	Files       int64           `bson:"files"`
	FileBytes   int64           `bson:"fileBytes"`
	DataBytes   int64           `bson:"dataBytes"`
	AddedBytes  int64           `bson:"addedBytes"` // what it added to the store
	Filter      filter.Kind     `bson:"filter,omitempty"`
	Namespaces  []string        `bson:"namespaces,omitempty"`
	Encrypted   bool            `bson:"encrypted,omitempty"`
	Took        int64           `bson:"tookMillis"`
	Verified    time.Time       `bson:"verified,omitempty"` // of the last sampled re-read
	VerifyError string          `bson:"verifyError,omitempty"`
	Condemned   time.Time       `bson:"condemned,omitempty"` // deletion has begun: no longer offered
}

// Rule is the snapshot as the decisions of shared/snapshot take it.
func (s *Snapshot) Rule() snapshot.Snapshot {
	return snapshot.Snapshot{
		ID: s.ID, Damaged: s.VerifyError != "", Epoch: s.Epoch, At: s.At, Kinds: s.Kinds, Expires: s.Expires, DoNotDelete: s.DoNotDelete,
		Complete: s.Complete && s.Condemned.IsZero(), Created: s.Created, Applied: s.Applied.TS, ReplayFrom: s.ReplayFrom.TS,
	}
}
