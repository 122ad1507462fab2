// Package tree keeps a folder of files as snapshots in a blockstore.Store. It owns the objects under blocks/, pages/, snapshots/,
// writing/ and condemned/ of a job; FORMAT.md describes every byte of them. It knows nothing of MongoDB: what the backup daemon
// wants to remember of a snapshot travels in Manifest.Meta.
//
// A file is cut into blocks at fixed offsets. A block is stored when it differs from the block at the same offset of the last
// snapshot. What is compared are hashes from the last snapshot's map pages, so there is no index of all blocks, and memory
// does not grow with the data. Changed blocks are compressed together in frames, frames are appended to packs.
//
// A snapshot is written in the order packs, map pages, manifest. It exists from the moment the manifest is committed; what a
// crash before that leaves behind is collected by Groom.
package tree

import (
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Defaults of Options.
const (
	DefaultBlockSize = 16 << 10
	DefaultFrameSize = 1 << 20
	DefaultPackSize  = 32 << 20
	DefaultLevel     = 2 // 7 % smaller than 1 for a third more processor time
)

// What this package answers besides the errors of blockstore; compare with errors.Is. Bytes that are not what they should be
// are a *Damage, which is blockstore.ErrDamaged.
var (
	// ErrChanged: a file changed while it was read. The head must not run while its files are copied.
	ErrChanged = errors.New("tree: a file changed while it was being read")
	// ErrFenced: another daemon took the job over while this one was writing. Nothing became visible.
	ErrFenced = errors.New("tree: the job was taken over while the snapshot was being written")
	// ErrVersion: the object was written by a newer Heartwood.
	ErrVersion = errors.New("tree: written by a newer version")
)

// Manifest says what a snapshot is made of. It is what makes a snapshot exist.
type Manifest struct {
	Version   int       `bson:"version"`
	ID        string    `bson:"id"`        // a segment of a key; unique in the job
	Job       string    `bson:"job"`       // a segment of a key
	Prev      string    `bson:"prev"`      // the snapshot it was compared with, "" when it was written in full
	Token     int64     `bson:"token"`     // the fencing token of its writer
	Attempt   string    `bson:"attempt"`   // the name of the run that wrote it; its packs carry it
	Created   time.Time `bson:"created"`   // as given in Options
	BlockSize int       `bson:"blockSize"` // bytes
	Key       []byte    `bson:"key"`       // of the fingerprints in the map pages; made at random with the job's first snapshot
	Files     []File    `bson:"files"`     // ascending by path
	Meta      bson.Raw  `bson:"meta,omitempty"`
	Stats     Stats     `bson:"stats"`
}

// File is one file of a snapshot. Folders are not kept by themselves, except those with nothing in them (Dir).
type File struct {
	Path    string    `bson:"path"` // with slashes, relative to the root
	Size    int64     `bson:"size"`
	Mode    uint32    `bson:"mode"` // permission bits
	ModTime time.Time `bson:"mtime"`
	Nanos   int32     `bson:"nanos"` // of ModTime below the millisecond, which BSON does not keep
	Inode   uint64    `bson:"inode"` // 0 where the system has none
	Dir     bool      `bson:"dir,omitempty"`
	Root    Ref       `bson:"root"` // the root of its map; zero for an empty file
}

// Ref names a map page: where it is and what its content hashes to.
type Ref struct {
	Pack  string `bson:"pack,omitempty"`
	Frame int    `bson:"frame,omitempty"`
	Level int    `bson:"level,omitempty"` // 0: its entries are blocks; above: pages
	Hash  []byte `bson:"hash,omitempty"`  // SHA-256
}

// Stats are the figures of a Write or a Restore.
type Stats struct {
	Files       int64 `bson:"files" json:"files"`
	Bytes       int64 `bson:"bytes" json:"bytes"`                         // of all files
	Read        int64 `bson:"read" json:"read"`                           // bytes of files that were read (Write), or of the store (Restore)
	Blocks      int64 `bson:"blocks" json:"blocks"`                       // of all files
	Changed     int64 `bson:"changed" json:"changed"`                     // blocks that differ from the last snapshot; written ones in Restore
	ChangedSize int64 `bson:"changedSize" json:"changedSize"`             // their bytes
	New         int64 `bson:"new" json:"new"`                             // of the changed, those not found among recent blocks: stored
	NewSize     int64 `bson:"newSize" json:"newSize"`                     // their bytes before compression
	Stored      int64 `bson:"stored" json:"stored"`                       // bytes added to the store: packs, pages and manifest
	Pages       int64 `bson:"pages" json:"pages"`                         // map pages written
	Packs       int64 `bson:"packs" json:"packs"`                         // objects written besides the manifest
	Damaged     int64 `bson:"damaged,omitempty" json:"damaged,omitempty"` // map pages of the last snapshot that could not be read; their parts were stored anew
}

// Progress is told while a Write, a Restore or a Check goes on, from one goroutine at a time.
type Progress struct {
	Files, FilesTotal int64
	Bytes, BytesTotal int64 // of the files
	Stored            int64 // bytes that went to the store, or came from it
}

// Options of Write.
type Options struct {
	Job   string // a segment of a key; required
	ID    string // of the snapshot, a segment of a key; required
	Token int64  // fencing token of the job's lease; it becomes part of the names of packs
	// Created becomes Manifest.Created; required, for time is passed in.
	Created time.Time
	Meta    bson.Raw // kept as it is; at most 8 MiB

	BlockSize int // bytes; 0: that of the last snapshot, else DefaultBlockSize; a change makes a full snapshot
	FrameSize int // bytes before compression; 0 means DefaultFrameSize
	PackSize  int // bytes; 0 means DefaultPackSize
	Workers   int // 0: the number of processors
	Level     int // of zstd: 1 (fastest) to 4 (best); 0 means DefaultLevel

	// Skip leaves out a file, or a folder with all that is in it.
	Skip func(path string) bool
	// Trust takes a file whose size, time and inode are those of the last snapshot for unchanged, without reading it.
	Trust    bool
	Progress func(Progress) // may be nil
}

// RestoreOptions of Restore.
type RestoreOptions struct {
	Workers int
	// Only restores the files it says yes to; nil means all.
	Only func(path string) bool
	// Resume accepts files that are there already, as after a Restore that was killed: their blocks are read and hashed, and
	// only those that differ are fetched. Without it a file that is there is an error.
	Resume   bool
	Progress func(Progress)
}

// Damage is an object, or a part of one, that is not what was written. It is blockstore.ErrDamaged; errors.As finds it.
type Damage struct {
	Job, Snapshot string
	Path          string // the file that needs it; "" when the manifest itself is meant
	Offset        int64  // in that file
	Key           string // the object
	What          string
	Missing       bool // the object is not there at all
}

// Report is the outcome of Check.
type Report struct {
	Files, Pages, Blocks int64 // looked at
	Packs                int64 // whose index was read
	Frames               int64 // re-read and hashed
	Bytes                int64 // of re-read blocks
	Faults               []Damage
	More                 int64 // faults beyond those listed
}

// Usage is how much of a job's space is in use.
type Usage struct {
	Snapshots      int64 `json:"snapshots"`
	Objects        int64 `json:"objects"`
	Stored         int64 `json:"stored"`     // bytes of all objects of the job
	Live           int64 `json:"live"`       // bytes that snapshots need
	Dead           int64 `json:"dead"`       // the rest: what Groom could free
	LiveBlocks     int64 `json:"liveBlocks"` // distinct blocks
	Condemned      int64 `json:"condemned"`  // objects that wait for their grace to pass
	CondemnedBytes int64 `json:"condemnedBytes"`
}

// GroomOptions of Groom.
type GroomOptions struct {
	// MinLive is the share of a pack's bytes below which its living frames are rewritten; 0 means 0.5.
	MinLive float64
	// Grace is how long an object must have been unreferenced before it is deleted. It must be longer than any read of a snapshot
	// takes, and than the clocks of servers differ; 0 means a day. Negative means none (tests).
	Grace  time.Duration
	DryRun bool      // says what would be done
	Now    time.Time // required
	Token  int64     // of the job's lease: writers with a smaller one are known to be dead
	// Terminate allows an empty keep: everything of the job goes, after the grace.
	Terminate bool
}

// GroomReport is what Groom did, or would do.
type GroomReport struct {
	Usage         Usage    `json:"usage"` // before
	Condemned     []string `json:"condemned"`
	Deleted       []string `json:"deleted"`
	Freed         int64    `json:"freed"` // bytes of the deleted
	Rewritten     []string `json:"rewritten"`
	RewrittenFrom int64    `json:"rewrittenFrom"` // bytes
	RewrittenTo   int64    `json:"rewrittenTo"`
}
