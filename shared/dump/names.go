package dump

import (
	"crypto/sha1" //nolint:gosec // how mongodump shortens names, nothing secret
	"encoding/base64"
	"net/url"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Limits of the names of files, as mongodump has them.
const (
	longName = 238
	cutName  = 208
)

// FileName is a collection's name as a file's, as mongodump writes it, without its end.
func FileName(coll string) string {
	name := url.PathEscape(coll)
	if len(name) > longName {
		sum := sha1.Sum([]byte(coll)) //nolint:gosec // see the import
		name = name[:cutName] + "%24" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return name
}

// Metadata is what mongodump writes beside a collection.
type Metadata struct {
	Options bson.Raw   `bson:"options"`
	Indexes []bson.Raw `bson:"indexes"` // with that of _id
	UUID    string     `bson:"uuid"`    // hexadecimal, without hyphens; "" for views
	Name    string     `bson:"collectionName"`
	Type    string     `bson:"type"` // Collection, View or TimeSeries
}

// JSON is the content of the file, canonical extended JSON.
func (m Metadata) JSON() ([]byte, error) {
	if m.Options == nil {
		m.Options = bson.Raw{5, 0, 0, 0, 0}
	}
	if m.Indexes == nil {
		m.Indexes = []bson.Raw{}
	}
	return bson.MarshalExtJSON(m, true, false)
}

// Buckets is how the name of the collection begins that holds the buckets of a time-series collection.
const Buckets = "system.buckets."

func split(ns string) (db, coll string, ok bool) { return strings.Cut(ns, ".") }
