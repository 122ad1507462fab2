// Package dump is the form in which collections leave a backup as plain documents: the names of files and the metadata that
// mongodump writes and mongorestore reads (names.go), what of a collection's options and indexes another server is told
// (specs.go), and the parts of a push.
//
// # Parts
//
// What is pushed into a running deployment goes through the block store as objects, the parts, named "part-000001.tar.zst" and
// so on: at most MaxParts. Each is a tar of regular files under zstd and can be read by itself:
//
//   - "catalogue.bson": Entries, BSON documents one after another. The first part, and as many more as it takes, hold nothing
//     else. Entries are numbered from 1 in the order of the catalogue, without a hole.
//   - "data/<number>": a run of whole documents of the entry with that number, one after another, in the order of insertion.
//     A part may hold several runs of one entry, and runs of several entries; the runs of an entry are in order over all parts.
//
// A part holds about PartBytes of documents, a run about RunBytes, but never less than a document. An Entry says in which parts
// its documents are, how many they are and how many bytes: the catalogue is written last, and listed first. Digests are not
// part of the format: whoever lists the objects knows the SHA-256 of each.
//
// The package is pure: it reads and writes streams that it is given. It must not import a driver or a store.
package dump

import (
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Kinds of entries, in mongodump's words.
const (
	Collection = "collection"
	View       = "view"       // has no documents
	TimeSeries = "timeseries" // its documents are those of its buckets
)

// Entry is one collection or view of the catalogue.
type Entry struct {
	Number int64  `bson:"n"`    // from 1
	NS     string `bson:"ns"`   // the name it is to get
	Type   string `bson:"type"` // Collection, View or TimeSeries
	// Options are as the command create takes them, without the name and idIndex; nil for none.
	Options bson.Raw `bson:"options,omitempty"`
	// Indexes are specifications as createIndexes takes them, without the one of _id.
	Indexes []bson.Raw `bson:"indexes,omitempty"`
	IDIndex bson.Raw   `bson:"idIndex,omitempty"`
	UUID    string     `bson:"uuid,omitempty"` // of the backup's collection, hexadecimal; for people
	Docs    int64      `bson:"docs"`           // exactly
	Bytes   int64      `bson:"bytes"`          // of the documents
	// The parts that hold its documents, by place in the list of objects, from 0; both 0 for an entry without documents.
	First int64 `bson:"first"`
	Last  int64 `bson:"last"`
}

// Limits of the format. What is beyond them is refused in reading, and not written.
const (
	MaxParts     = 10_000
	MaxEntries   = 200_000
	MaxCatalogue = 512 << 20         // bytes of all Entries
	MaxDoc       = 16<<20 + 16<<10   // bytes of a document: servers let their own be a little over 16 MiB
	RunBytes     = 4 << 20           // a run is ended when it has so many bytes
	MaxRun       = RunBytes + MaxDoc // bytes
	partBytes    = 64 << 20
)

// PartBytes is how many bytes of documents a part should hold where all have total: half of MaxParts are for growth, since
// what is known of the size of collections is an estimate.
func PartBytes(total int64) int64 {
	return max(partBytes, total/(MaxParts/2)+1)
}

// PartName is the name of the object that comes n-th, from 1.
func PartName(n int) string { return fmt.Sprintf("part-%06d.tar.zst", n) }

// Direct reports whether an entry's documents can only be written into the collection of their final name, because a server
// renames nothing to it: buckets of a time series, system collections, and what belongs to Queryable Encryption. In a push
// the parts of direct entries come after those of all others.
func (e *Entry) Direct() bool {
	_, coll, _ := split(e.NS)
	switch {
	case e.Type == TimeSeries, strings.HasPrefix(coll, "system."), strings.HasPrefix(coll, "enxcol_."):
		return true
	}
	_, encrypted := oplog.Lookup(e.Options, "encryptedFields")
	return encrypted
}

// IsUsers reports whether an entry is the users or the roles of a deployment: they are merged, not put in place.
func (e *Entry) IsUsers() bool { return e.NS == Users || e.NS == Roles }

// Where a deployment keeps its users and roles.
const (
	Users = "admin.system.users"
	Roles = "admin.system.roles"
)

// Check says what contradicts itself in an entry of a push with that many objects.
func (e *Entry) Check(parts int) error {
	db, coll, ok := split(e.NS)
	switch {
	case e.Number <= 0 || e.Number > MaxEntries:
		return fmt.Errorf("entry %d of the catalogue: no such number", e.Number)
	case !ok || db == "" || coll == "" || len(e.NS) > maxNS:
		return fmt.Errorf("entry %d of the catalogue: %q is no namespace", e.Number, e.NS)
	case e.Type != Collection && e.Type != View && e.Type != TimeSeries:
		return fmt.Errorf("%s in the catalogue: %q is no type", e.NS, e.Type)
	case e.Docs < 0 || e.Bytes < 5*e.Docs || e.Docs == 0 && e.Bytes != 0:
		return fmt.Errorf("%s in the catalogue: %d documents of %d bytes", e.NS, e.Docs, e.Bytes)
	case e.Type == View && e.Docs > 0:
		return fmt.Errorf("%s in the catalogue: a view has no documents", e.NS)
	case e.Docs > 0 && (e.First <= 0 || e.Last < e.First || e.Last >= int64(parts)):
		return fmt.Errorf("%s in the catalogue: its documents are in the parts %d to %d of %d", e.NS, e.First, e.Last, parts)
	}
	for _, doc := range append([]bson.Raw{e.Options, e.IDIndex}, e.Indexes...) {
		if doc == nil {
			continue
		}
		if err := doc.Validate(); err != nil {
			return fmt.Errorf("%s in the catalogue: options or indexes are not BSON: %w", e.NS, err)
		}
	}
	return nil
}

// maxNS is over the longest name of any server.
const maxNS = 512
