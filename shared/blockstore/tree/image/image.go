// Package image is what a snapshot is: its manifest, the map of each file, and how both are read. The packages around it write, fetch and
// groom; package tree gathers them.
package image

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
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

// Damage is an object, or a part of one, that is not what was written. It is blockstore.ErrDamaged; errors.As finds it.
type Damage struct {
	Job, Snapshot string
	Path          string // the file that needs it; "" when the manifest itself is meant
	Offset        int64  // in that file
	Key           string // the object
	What          string
	Missing       bool // the object is not there at all
}

// Meter sums what is told as Progress.
type Meter struct {
	tell func(Progress)

	mu sync.Mutex
	p  Progress
}

// NewMeter begins with what there is to do; tell may be nil.
func NewMeter(tell func(Progress), files []File) *Meter {
	m := &Meter{tell: tell}
	for i := range files {
		if !files[i].Dir {
			m.p.FilesTotal++
			m.p.BytesTotal += files[i].Size
			if files[i].Size == 0 {
				m.p.Files++
			}
		}
	}
	return m
}

// Add counts what was done.
func (m *Meter) Add(files, bytes, stored int64) {
	if m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Files += files
	m.p.Bytes += bytes
	m.p.Stored += stored
	m.tell(m.p)
}

// NewAttempt names one run of a writer. The token comes first, so that a groom can tell from the name of an object whether its
// writer is dead; chance tells two runs under one token apart.
func NewAttempt(token int64) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%08x-%s", uint64(token), hex.EncodeToString(b[:]))
}

// Intent is the object writing/<job>/<attempt>: as long as it is there, a groom leaves the objects of the attempt and its last
// snapshot alone.
type Intent struct {
	ID    string `bson:"id"`
	Prev  string `bson:"prev"`
	Token int64  `bson:"token"`
}

// IntentKey is the object of an Intent.
func IntentKey(job, attempt string) string { return "writing/" + job + "/" + attempt }

// HashOf is the SHA-256 of plain bytes.
func HashOf(b []byte) page.Hash { return sha256.Sum256(b) }
