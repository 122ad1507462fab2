package wire

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

// Paths of the backup agent's endpoints; authentication is that of the others.
const (
	PathBackupConf        = "/agents/v1/backup/conf"        // GET: BackupConf
	PathBackupReport      = "/agents/v1/backup/report"      // POST BackupReport: BackupAck
	PathBackupEpoch       = "/agents/v1/backup/epoch"       // POST BeginEpoch: BackupAck
	PathBackupCollections = "/agents/v1/backup/collections" // POST PutCollections: BackupAck; GET ?job&epoch&after: CollectionsPage
	PathBackupSeed        = "/agents/v1/backup/seed"        // POST framed SeedHeader: BackupAck
	PathBackupOplog       = "/agents/v1/backup/oplog"       // POST framed OplogHeader: OplogAck
	PathBackupScanned     = "/agents/v1/backup/scanned"     // POST Scanned: BackupAck
	PathBackupEnd         = "/agents/v1/backup/end"         // POST EndEpoch: BackupAck
	PathBackupMissing     = "/agents/v1/backup/missing"     // POST FoundDocs: BackupAck
	PathBackupUpload      = "/agents/v1/backup/upload"      // POST UploadWish: Upload
	PathBackupRestores    = "/agents/v1/backup/restores/"   // GET {id}: Push; GET {id}/objects/{n}: bytes, with ranges; POST {id}/progress PushProgress: BackupAck
	PathRestorePull       = "/backup/restore/v2/pull/"      // GET, HEAD {restore id}/{token}/{file}: bytes, with ranges
)

// ContentTypeSlice is that of framed bodies: a header and compressed documents.
const ContentTypeSlice = "application/vnd.heartwood.slice"

// Limits of what backup agents send.
const (
	MaxSliceBytes   = 48 << 20 // of a slice's documents, uncompressed; one document may be 16 MiB and its oplog entry a little more
	MaxSliceHeader  = 64 << 10
	MaxCollections  = 1_000  // in one PutCollections
	MaxMissing      = 10_000 // documents asked for at once
	MaxResumeToken  = 4 << 10
	MaxReportedJobs = 1_000
)

// Codes of Problem that only backup has. After GAP, OVERLAP and SPLICE the agent asks for its configuration again: the head
// there is what is stored. EPOCH: another epoch is the current one, or this one has ended. STORAGE: the object store is away
// or full, come again (503). STOPPED: the backup was stopped, or is being deleted. NOT_OFFERED: this server has no object store.
const (
	CodeGap        = "GAP"
	CodeOverlap    = "OVERLAP"
	CodeSplice     = "SPLICE"
	CodeEpoch      = "EPOCH"
	CodeConflict   = "CONFLICT"
	CodeStorage    = "STORAGE"
	CodeStopped    = "STOPPED"
	CodeDamaged    = "DAMAGED"     // what arrived is not what its header says: send it again
	CodeNotOffered = "NOT_OFFERED" //nolint:gosec // no credential
)

// BackupConf answers GET conf.
type BackupConf struct {
	Version     int32        `bson:"v"`
	Time        time.Time    `bson:"time"`
	State       string       `bson:"state"` // model.AgentState
	ConfSeconds int32        `bson:"confSeconds"`
	MaxPost     int64        `bson:"maxPost"`    // largest body
	SliceBytes  int64        `bson:"sliceBytes"` // documents of one slice, uncompressed, to aim at
	Jobs        []BackupTask `bson:"jobs"`
	Pushes      []PushTask   `bson:"pushes,omitempty"`
}

// Filter is a namespace filter as shared/oplog/filter takes it.
type Filter struct {
	Kind       string   `bson:"kind,omitempty"` // filter.Kind
	Namespaces []string `bson:"namespaces,omitempty"`
}

// Head is the end of the stored oplog of an epoch: where tailing goes on, and the proof that it may.
type Head struct {
	Last  oplog.OpTime `bson:"last"`  // zero before the first slice
	Sum   chain.Digest `bson:"sum"`   // of the last slice: Prev of the next one
	Entry chain.Digest `bson:"entry"` // of the source's entry at Last
}

// BackupTask is what the active agent does for one replica set.
type BackupTask struct {
	Job          string `bson:"job"`
	SetName      string `bson:"setName"`
	ReplicaSetID string `bson:"replicaSetId,omitempty"` // as monitoring knows it, hex; "" if it does not
	Hosts        []Host `bson:"hosts"`                  // the members, with credentials
	SyncSource   string `bson:"syncSource"`             // PRIMARY, SECONDARY or host:port
	Filter       Filter `bson:"filter"`
	Stop         bool   `bson:"stop,omitempty"` // do nothing: the backup is stopped or being deleted

	// Epoch is the current one, 0 before the first. WantEpoch is the number of the one to begin, 0 for none: Why says what for.
	Epoch     int64  `bson:"epoch"`
	WantEpoch int64  `bson:"wantEpoch,omitempty"`
	Why       string `bson:"why,omitempty"`
	// Of the current epoch.
	EpochSetID string       `bson:"epochSetId,omitempty"` // settings.replicaSetId, hex: another set's oplog never continues it
	Start      oplog.OpTime `bson:"start"`                // first position of its oplog: the first slice begins with the entry there
	StartEntry chain.Digest `bson:"startEntry"`           // of the source's entry there
	Scanned    bool         `bson:"scanned"`              // the full read is complete and its end was told
	Ended      bool         `bson:"ended,omitempty"`
	Head       Head         `bson:"head"`

	Missing           []MissingDocs `bson:"missing,omitempty"`
	Direct            bool          `bson:"direct"` // bodies come here; false: ask for uploads first
	OplogSliceSeconds int32         `bson:"oplogSliceSeconds"`
	BandwidthBytes    int64         `bson:"bandwidthBytes,omitempty"` // a second, of the full read; 0 is without limit
	MaxLagSeconds     int32         `bson:"maxLagSeconds,omitempty"`  // the full read pauses while the source's secondaries lag more; 0: never
	HeartbeatNotes    bool          `bson:"heartbeatNotes,omitempty"` // a silent source may be written a no-op to
}

// MissingDocs are documents of one collection that the copy lacks.
type MissingDocs struct {
	UUID oplog.UUID `bson:"uuid"`
	NS   string     `bson:"ns"`
	IDs  []bson.Raw `bson:"ids"` // {_id: value}
}

// BackupReport is the body of POST report: how the agent's jobs are, about every ten seconds.
type BackupReport struct {
	Version int32       `bson:"v"`
	Agent   AgentInfo   `bson:"agent"`
	Sent    time.Time   `bson:"sent"`
	Jobs    []JobReport `bson:"jobs"`
}

// JobReport is one job in a report.
type JobReport struct {
	Job             string    `bson:"job"`
	Source          string    `bson:"source,omitempty"`  // host:port that is tailed
	Version         string    `bson:"version,omitempty"` // of that server
	FCV             string    `bson:"fcv,omitempty"`
	Oldest          time.Time `bson:"oldest,omitempty"` // ends of the source's oplog
	Newest          time.Time `bson:"newest,omitempty"`
	DataBytes       int64     `bson:"dataBytes,omitempty"`
	Collections     int64     `bson:"collections,omitempty"` // of the full read
	CollectionsDone int64     `bson:"collectionsDone,omitempty"`
	Docs            int64     `bson:"docs,omitempty"`
	DocsDone        int64     `bson:"docsDone,omitempty"`
	Bytes           int64     `bson:"bytes,omitempty"`
	BytesDone       int64     `bson:"bytesDone,omitempty"`
	Spooled         int64     `bson:"spooled,omitempty"`   // bytes waiting in the agent's spool
	Throttled       string    `bson:"throttled,omitempty"` // why it holds back, "" when it does not
	Error           string    `bson:"error,omitempty"`
	ErrorCode       string    `bson:"errorCode,omitempty"` // stable: AUTH, PRIVILEGES, NO_SOURCE, UNREACHABLE, VERSION, INTERNAL
}

// BackupAck answers what needs no more than "it is durable".
type BackupAck struct {
	Version  int32     `bson:"v"`
	Time     time.Time `bson:"time"`
	Repeated bool      `bson:"repeated,omitempty"` // it had been stored before
}

// BeginEpoch is the body of POST epoch. The position is taken before anything is read: Start is that of the oldest open
// transaction's first entry or, where none is open, of the newest entry. The epoch's first oplog slice begins with the very entry
// at Start: that it is there is the proof that nothing was lost before it.
type BeginEpoch struct {
	Version      int32        `bson:"v"`
	Job          string       `bson:"job"`
	Number       int64        `bson:"number"`
	AgentID      string       `bson:"agentId"`
	Session      string       `bson:"session"`
	Why          string       `bson:"why,omitempty"` // what the agent saw, where it is the agent that ended the one before
	Start        oplog.OpTime `bson:"start"`
	StartEntry   chain.Digest `bson:"startEntry"`
	ReplicaSetID string       `bson:"replicaSetId"`
	SetName      string       `bson:"setName"`
	ServerVer    string       `bson:"serverVersion"`
	FCV          string       `bson:"fcv"`
}

// CollectionInfo is one collection, or view, of a full read.
type CollectionInfo struct {
	UUID    oplog.UUID `bson:"uuid"` // zero for a view
	NS      string     `bson:"ns"`
	Options bson.Raw   `bson:"options,omitempty"`
	IDIndex bson.Raw   `bson:"idIndex,omitempty"`
	Indexes []bson.Raw `bson:"indexes,omitempty"`
	View    bson.Raw   `bson:"view,omitempty"` // a view: its document of system.views
	// Attempt grows when the collection is read from its beginning again: slices of earlier attempts no longer count.
	Attempt int64  `bson:"attempt"`
	Done    bool   `bson:"done,omitempty"`   // Slices slices of this attempt were acknowledged, and there are no more
	Slices  int64  `bson:"slices,omitempty"` // how many, once Done
	Docs    int64  `bson:"docs,omitempty"`
	Bytes   int64  `bson:"bytes,omitempty"`
	Lost    string `bson:"lost,omitempty"` // why it could not be read to its end: dropped meanwhile. It counts as read.

	// In a CollectionsPage only: what is stored of an attempt that is not done.
	Stored int64  `bson:"stored,omitempty"` // slices without a hole from 0 on
	Resume []byte `bson:"resume,omitempty"` // SeedHeader.Resume of the last of them
}

// PutCollections is the body of POST collections. Sending it again changes nothing; an attempt never becomes a lower one and
// what is done stays done within it.
type PutCollections struct {
	Version     int32            `bson:"v"`
	Job         string           `bson:"job"`
	Epoch       int64            `bson:"epoch"`
	Collections []CollectionInfo `bson:"collections"`
}

// CollectionsPage answers GET collections. After is the parameter of the next page, "" at the end.
type CollectionsPage struct {
	Version     int32            `bson:"v"`
	Collections []CollectionInfo `bson:"collections"`
	After       string           `bson:"after,omitempty"`
}

// SeedHeader heads a slice of a full read.
type SeedHeader struct {
	Job      string       `bson:"job"`
	Epoch    int64        `bson:"epoch"`
	UUID     oplog.UUID   `bson:"uuid"`
	Attempt  int64        `bson:"attempt"`
	Seq      int64        `bson:"seq"` // from 0
	Count    int64        `bson:"count"`
	Bytes    int64        `bson:"bytes"`            // of the documents, uncompressed
	Digest   chain.Digest `bson:"digest"`           // of the documents, uncompressed, one after another
	Resume   []byte       `bson:"resume,omitempty"` // the agent's own note of where to read on after this slice
	Uploaded bool         `bson:"uploaded,omitempty"`
	Stored   int64        `bson:"stored,omitempty"` // bytes of the object, where it was uploaded
}

// OplogHeader heads a slice of the oplog: chain.Slice is its header as the chain knows it.
type OplogHeader struct {
	Slice    chain.Slice
	Wall     time.Time // wall clock of the last position, as the source has it; zero if it has none
	Uploaded bool
	Stored   int64 // bytes of the object, where it was uploaded
}

// OplogAck answers POST oplog.
type OplogAck struct {
	Version  int32 `bson:"v"`
	Repeated bool  `bson:"repeated,omitempty"`
	Head     Head  `bson:"head"`
}

// Scanned is the body of POST scanned: every collection was read to its end, and ScanEnd is the newest entry that existed then.
type Scanned struct {
	Version     int32        `bson:"v"`
	Job         string       `bson:"job"`
	Epoch       int64        `bson:"epoch"`
	ScanEnd     oplog.OpTime `bson:"scanEnd"`
	Collections int64        `bson:"collections"`
}

// EndEpoch is the body of POST end: the history cannot be continued.
type EndEpoch struct {
	Version int32     `bson:"v"`
	Job     string    `bson:"job"`
	Epoch   int64     `bson:"epoch"`
	Verdict string    `bson:"verdict"` // chain.Verdict, or "filter", "other"
	Why     string    `bson:"why"`
	At      time.Time `bson:"at"`
}

// FoundDocs is the body of POST missing: what the source holds of the documents asked for, at OperationTime.
type FoundDocs struct {
	Version       int32         `bson:"v"`
	Job           string        `bson:"job"`
	Epoch         int64         `bson:"epoch"`
	OperationTime oplog.OpTime  `bson:"operationTime"`
	Found         []FoundOf     `bson:"found"`
	Absent        []MissingDocs `bson:"absent,omitempty"`
}

// FoundOf are found documents of one collection.
type FoundOf struct {
	UUID oplog.UUID `bson:"uuid"`
	Docs []bson.Raw `bson:"docs"`
}

// Kinds of uploads.
const (
	UploadSeed  = "seed"
	UploadOplog = "oplog"
)

// UploadWish is the body of POST upload: the slice whose header this is goes past the server. The same header follows to seed
// or oplog, with Uploaded set, when the bytes are there.
type UploadWish struct {
	Version int32  `bson:"v"`
	Kind    string `bson:"kind"`
	Header  []byte `bson:"header"` // of the framed body to come, without length
	Stored  int64  `bson:"stored"` // bytes to be uploaded
}

// Upload answers POST upload. Direct: send the bytes here after all. There: the object is stored already, send the header.
type Upload struct {
	Version int32             `bson:"v"`
	Direct  bool              `bson:"direct,omitempty"`
	There   bool              `bson:"there,omitempty"`
	Method  string            `bson:"method,omitempty"`
	URL     string            `bson:"url,omitempty"` // carries its permission: never logged
	Header  map[string]string `bson:"header,omitempty"`
}

// PushTask tells an agent of a restore that it is to write into a deployment, or to clean up after.
type PushTask struct {
	Restore string `bson:"restore"` // id
	Cluster string `bson:"cluster"` // the target's id
	SetName string `bson:"setName"`
	Hosts   []Host `bson:"hosts"`
	Cancel  bool   `bson:"cancel,omitempty"` // it has ended: what it left in the target is to be removed
}

// Push answers GET restores/{id}: what is to be written.
type Push struct {
	Version int32             `bson:"v"`
	Restore string            `bson:"restore"`
	Drop    bool              `bson:"drop,omitempty"`
	Users   bool              `bson:"users,omitempty"` // users and roles of the backup are merged into the target's
	Rename  map[string]string `bson:"rename,omitempty"`
	Plan    bson.Raw          `bson:"plan,omitempty"`   // restoreplan.Plan
	Objects []PushObject      `bson:"objects"`          // parts, as package dump has them
	Cancel  bool              `bson:"cancel,omitempty"` // it has ended: what it left in the target is to be removed
}

// PushObject is one file of a restore, fetched by its place in the list.
type PushObject struct {
	Name   string `bson:"name"`
	Bytes  int64  `bson:"bytes"`
	SHA256 string `bson:"sha256"`
}

// PushProgress is the body of POST restores/{id}/progress. While the restore is in progress, Error and Finished end it. Of one that
// has ended only Cleaned is taken: until then it is listed with Cancel, to whichever agent is the active one.
type PushProgress struct {
	Version  int32  `bson:"v"`
	AgentID  string `bson:"agentId"`
	Session  string `bson:"session"`
	Do       string `bson:"do,omitempty"` // the step of the plan, as restoreplan.Step names it; "": as told before
	Step     string `bson:"step"`         // the same for people
	Done     int64  `bson:"done"`         // bytes
	Total    int64  `bson:"total"`
	Waiting  bool   `bson:"waiting,omitempty"` // nothing was begun: Step says what a person must do first
	Finished bool   `bson:"finished,omitempty"`
	Cleaned  bool   `bson:"cleaned,omitempty"` // nothing of the restore but its outcome is left in the target
	Error    string `bson:"error,omitempty"`   // it failed; of one that has ended: what became of the target
	Remedy   string `bson:"remedy,omitempty"`  // what to do
}
