package document

import (
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Exception names what keeps a document from being written by an ordinary insert or replace.
type Exception uint8

// The exceptions.
const (
	// EmptyTimestamp: a field at the top (not _id) is Timestamp(0, 0). A server would fill it in: set it after the insert, or
	// send bypassEmptyTsReplacement to servers that know it.
	EmptyTimestamp Exception = 1 << iota
	// DollarName: a name at the top begins with $. Only applyOps takes it on every version.
	DollarName
)

// Exceptions looks at the top level of a document.
func Exceptions(doc bson.Raw) (x Exception, err error) {
	err = oplog.Elements(doc, func(key []byte, v bsoncore.Value) error {
		if len(key) > 0 && key[0] == '$' {
			x |= DollarName
		}
		if v.Type == bsoncore.TypeTimestamp && emptyTimestamp(v) && string(key) != "_id" {
			x |= EmptyTimestamp
		}
		return nil
	})
	return x, err
}

// EmptyTimestamps lists the names at the top whose value is Timestamp(0, 0): what is set after the insert.
func EmptyTimestamps(doc bson.Raw) (names []string) {
	_ = oplog.Elements(doc, func(key []byte, v bsoncore.Value) error {
		if v.Type == bsoncore.TypeTimestamp && emptyTimestamp(v) && string(key) != "_id" {
			names = append(names, string(key))
		}
		return nil
	})
	return names
}

func emptyTimestamp(v bsoncore.Value) bool {
	t, i, ok := v.TimestampOK()
	return ok && t == 0 && i == 0
}
