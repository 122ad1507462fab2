// Package oplog reads a replica set's oplog. It owns what an entry means: its position, its operation, the command it
// carries; the packages below it own what follows from that: the document after a change (document), the operations of
// a transaction (txn), the collections and their indexes (schema), which namespaces are wanted (filter), how entries
// are written in batches (plan) and how slices of the oplog hang together (chain).
//
// Everything here is a function of bytes and state: no files, no network, no clock. What is not understood is an error
// that says so, because a backup that guesses is worse than one that stops.
package oplog

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// What can be wrong with an entry. Every error of this package and of those below it is one of these where the entry is to blame.
var (
	// ErrCorrupt is in the chain of errors about bytes that are no oplog entry or that contradict themselves.
	ErrCorrupt = errors.New("corrupt oplog entry")
	// ErrUnknown is in the chain of errors about entries that are whole and that this build does not know: stop, and keep the last good snapshot.
	ErrUnknown = errors.New("unknown to this build")
	// ErrNewSnapshot is in the chain of errors about entries that no replay can carry out: the history ends before them and goes on with a new snapshot.
	ErrNewSnapshot = errors.New("cannot be replayed, a new snapshot is needed")
)

// OpTime is a position in the oplog: Term is -1 where the entry carries none.
type OpTime struct {
	TS   bson.Timestamp `bson:"ts"`
	Term int64          `bson:"term"`
}

// IsZero reports whether the position is none: the zero value, or the {ts: 0, t: -1} that begins a chain.
func (o OpTime) IsZero() bool { return o.TS.IsZero() }

// Compare orders positions as servers do: by timestamp, which is unique within a set's history. Terms are compared where
// continuity is proven (chain), not here.
func (o OpTime) Compare(p OpTime) int { return o.TS.Compare(p.TS) }

// Before reports whether o lies before p.
func (o OpTime) Before(p OpTime) bool { return o.TS.Before(p.TS) }

// String is "1795233461.48 term 1".
func (o OpTime) String() string { return fmt.Sprintf("%d.%d term %d", o.TS.T, o.TS.I, o.Term) }

// UUID identifies a collection through renames.
type UUID [16]byte

// IsZero reports whether the UUID is missing.
func (u UUID) IsZero() bool { return u == UUID{} }

// String is the usual form with dashes.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// Split cuts a namespace at its first dot: databases have none in their name. Collection is "" for a database alone.
func Split(ns string) (database, collection string) {
	database, collection, _ = strings.Cut(ns, ".")
	return database, collection
}

// integer gives a whole number of any numeric type, as servers take them.
func integer(v bsoncore.Value) (int64, bool) {
	switch v.Type {
	case bsoncore.TypeInt32:
		n, ok := v.Int32OK()
		return int64(n), ok
	case bsoncore.TypeInt64:
		return v.Int64OK()
	case bsoncore.TypeDouble:
		f, ok := v.DoubleOK()
		return int64(f), ok && f == float64(int64(f))
	}
	return 0, false
}

func truth(v bsoncore.Value) bool {
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	n, ok := integer(v)
	return ok && n != 0
}
