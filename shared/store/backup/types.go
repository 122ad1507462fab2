package backup

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
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
}

// MissingDocs are documents of one collection that the copy lacks.
type MissingDocs struct {
	UUID oplog.UUID `bson:"uuid"`
	NS   string     `bson:"ns"`
	IDs  []bson.Raw `bson:"ids"` // {_id: value}
}

// Found says where the answer to Job.Missing is: an object whose content is a wire.FoundDocs.
type Found struct {
	Key           string       `bson:"key"`
	Epoch         int64        `bson:"epoch"`
	OperationTime oplog.OpTime `bson:"operationTime"`
	At            time.Time    `bson:"at"`
}

// Epoch is one unbroken history of a job: a full read and the oplog from its start on. Its id is "<job>/<8 digits>".
//
// Its first oplog slice begins with the source's entry at Start itself: what an open transaction wrote first is part of it, and
// that it is the same entry is the proof that nothing lies between.
type Epoch struct {
	Job          model.ID     `bson:"job"`
	Number       int64        `bson:"number"`
	Began        time.Time    `bson:"began"`
	Why          string       `bson:"why"` // what it was begun for
	ReplicaSetID string       `bson:"replicaSetId"`
	SetName      string       `bson:"setName"`
	Version      string       `bson:"version"`
	FCV          string       `bson:"fcv"`
	StoreID      string       `bson:"storeId"`    // of the blockstore that holds its seeds and oplog
	AgentID      string       `bson:"agentId"`    // who began it
	Start        oplog.OpTime `bson:"start"`      // first position of its oplog: the oldest open transaction's first entry, or the newest entry, as it was before anything was read
	StartEntry   chain.Digest `bson:"startEntry"` // of the source's entry at Start
	ScanEnd      oplog.OpTime `bson:"scanEnd"`    // the newest entry when the last collection had been read; zero until then
	Collections  int64        `bson:"collections"`
	Seeded       time.Time    `bson:"seeded,omitempty"`   // when a head had passed ScanEnd: sync slices may go
	Head         chain.Head   `bson:"head"`               // the end of the stored oplog
	HeadWall     time.Time    `bson:"headWall,omitempty"` // wall clock of its last entry, as the source has it
	HeadAt       time.Time    `bson:"headAt,omitempty"`   // when its last slice was stored
	// Last is the slice the head ends with. It is written with the head; its own document follows.
	Last        *OplogSlice  `bson:"last,omitempty"`
	OplogBytes  int64        `bson:"oplogBytes"`  // of all its slices so far, uncompressed
	OplogStored int64        `bson:"oplogStored"` // as objects
	Kept        oplog.OpTime `bson:"kept"`        // oplog up to here was expired
	Breaks      []Break      `bson:"breaks,omitempty"`
	Ended       time.Time    `bson:"ended,omitempty"`
	EndedWhy    string       `bson:"endedWhy,omitempty"`
}

// Break is a point of an epoch behind which nothing is replayed.
type Break struct {
	At  bson.Timestamp `bson:"at"`
	Why string         `bson:"why"`
}

// Collection is one collection of a full read: its making and how far its slices are. Its id is "<job>/<epoch>/<uuid>".
type Collection struct {
	UUID    oplog.UUID `bson:"uuid"`
	NS      string     `bson:"ns"`
	Options bson.Raw   `bson:"options,omitempty"`
	IDIndex bson.Raw   `bson:"idIndex,omitempty"`
	Indexes []bson.Raw `bson:"indexes,omitempty"`
	View    bson.Raw   `bson:"view,omitempty"` // a view instead of a collection: its document of system.views; UUID is zero
	Slices  int64      `bson:"slices"`         // how many there are, once Done
	Docs    int64      `bson:"docs"`
	Bytes   int64      `bson:"bytes"`
	Attempt int64      `bson:"attempt"` // slices of earlier attempts do not count
	Done    bool       `bson:"done"`
	Lost    string     `bson:"lost,omitempty"` // why it could not be read to its end: dropped meanwhile
}

// Complete reports whether nothing more is to be read of it.
func (c *Collection) Complete() bool { return c.Done || c.Lost != "" || c.View != nil }

// SeedSlice is a stored part of a collection. Its id is "<job>/<epoch>/<uuid>/<attempt>/<seq>".
type SeedSlice struct {
	Attempt int64        `bson:"attempt"`
	Seq     int64        `bson:"seq"`
	Key     string       `bson:"key"` // of the object: zstd of the documents one after another
	Docs    int64        `bson:"docs"`
	Bytes   int64        `bson:"bytes"`            // of the documents
	Stored  int64        `bson:"stored"`           // of the object
	Digest  chain.Digest `bson:"digest"`           // of the documents
	Resume  []byte       `bson:"resume,omitempty"` // the agent's note of where to read on
	At      time.Time    `bson:"at"`
}

// OplogSlice is a stored slice. Its id is "<job>/<epoch>/<first position, sortable>".
type OplogSlice struct {
	Slice  chain.Slice `bson:"slice"`
	Key    string      `bson:"key"` // of the object: zstd of the entries one after another
	Stored int64       `bson:"stored"`
	At     time.Time   `bson:"at"` // when it was stored
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
		ID: s.ID, Epoch: s.Epoch, At: s.At, Kinds: s.Kinds, Expires: s.Expires, DoNotDelete: s.DoNotDelete,
		Complete: s.Complete && s.Condemned.IsZero(), Created: s.Created, Applied: s.Applied.TS, ReplayFrom: s.ReplayFrom.TS,
	}
}

// Restore is one restore job.
type Restore struct {
	ID          string               `bson:"id"`
	BatchID     string               `bson:"batchId"`
	GroupID     model.ID             `bson:"groupId"`
	Job         model.ID             `bson:"job"` // whose backup is restored
	Created     time.Time            `bson:"created"`
	By          string               `bson:"by"`
	Status      model.RestoreStatus  `bson:"status"`
	Method      model.DeliveryMethod `bson:"method"`
	Format      string               `bson:"format"` // FILES (a dbpath) or BSON (mongorestore's layout)
	Compress    bool                 `bson:"compress"`
	SnapshotID  string               `bson:"snapshotId,omitempty"`
	PointInTime bool                 `bson:"pointInTime"`
	Epoch       int64                `bson:"epoch,omitempty"`  // whose history is restored
	Target      bson.Timestamp       `bson:"target,omitempty"` // inclusive; zero for a snapshot as it is
	Namespaces  []string             `bson:"namespaces,omitempty"`
	Rename      map[string]string    `bson:"rename,omitempty"`      // from namespace or database to another
	TargetGroup model.ID             `bson:"targetGroup,omitempty"` // PUSH: where to
	TargetID    model.ID             `bson:"targetId,omitempty"`    // PUSH: the cluster
	Drop        bool                 `bson:"drop,omitempty"`        // PUSH: collections in the way are dropped, after everything was fetched
	Plan        bson.Raw             `bson:"plan,omitempty"`        // restoreplan.Plan: what the preview showed and the daemon carries out
	Step        string               `bson:"step,omitempty"`        // what is being done, for people
	Done        int64                `bson:"done,omitempty"`        // bytes of the step
	Total       int64                `bson:"total,omitempty"`
	Daemon      string               `bson:"daemon,omitempty"`
	Token       int64                `bson:"token,omitempty"`
	Beat        time.Time            `bson:"beat,omitempty"` // last sign of life
	Finished    time.Time            `bson:"finished,omitempty"`
	Error       string               `bson:"error,omitempty"`
	Remedy      string               `bson:"remedy,omitempty"`
	Delivery    Delivery             `bson:"delivery"`
	StoreID     string               `bson:"storeId,omitempty"` // of the blockstore that holds Objects
	Objects     []Object             `bson:"objects,omitempty"`
	Cleaned     time.Time            `bson:"cleaned,omitempty"` // its objects were deleted
}

// Delivery is the state of a download link. Downloads is the largest count of any of the objects.
type Delivery struct {
	Digest       []byte               `bson:"digest,omitempty"` // SHA-256 of the link's token
	Sealed       []byte               `bson:"sealed,omitempty"` // the token, sealed: the link is shown again to who may restore
	Expires      time.Time            `bson:"expires,omitempty"`
	Hours        int                  `bson:"hours"` // from the moment on that the objects are there
	MaxDownloads int                  `bson:"maxDownloads"`
	Downloads    int                  `bson:"downloads"`
	Status       model.DeliveryStatus `bson:"status,omitempty"`
}

// Object is a stored file of a restore.
type Object struct {
	Key    string `bson:"key"`
	Name   string `bson:"name"`
	Bytes  int64  `bson:"bytes"`
	SHA256 string `bson:"sha256"` // hexadecimal

	Downloads int       `bson:"downloads,omitempty"` // begun
	UseEnds   time.Time `bson:"useEnds,omitempty"`   // until then the last one may be resumed
}

// Daemon is a running, or once running, backup daemon. Its id is "<machine>:<head root>".
type Daemon struct {
	ID       string    `bson:"id"`
	Machine  string    `bson:"machine"`
	HeadRoot string    `bson:"headRoot"` // ends with /
	Version  string    `bson:"version"`
	Started  time.Time `bson:"started"`
	Beat     time.Time `bson:"beat"`
	Stopped  bool      `bson:"stopped,omitempty"` // it said goodbye
	BasePort int       `bson:"basePort"`
	Heads    int       `bson:"heads"` // how many run at once
	Jobs     int       `bson:"jobs"`
	Releases []string  `bson:"releases"` // versions of mongod it has
	Free     int64     `bson:"free"`     // bytes on the disk of the head root
	Size     int64     `bson:"size"`
	// What administrators set; a change counts within five minutes.
	Assignment bool   `bson:"assignment"` // new jobs may be bound to it
	BackupJobs bool   `bson:"backupJobs"`
	Garbage    bool   `bson:"garbage"`
	Restores   bool   `bson:"restores"`
	Configured bool   `bson:"configured"`
	Error      string `bson:"error,omitempty"`
	// Full is when the disk of the heads will be full if it goes on filling as it did; zero: not soon, or not known.
	Full time.Time `bson:"full,omitempty"`
}
