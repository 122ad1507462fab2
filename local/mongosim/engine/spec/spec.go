// Package spec completes and checks what clients say of indexes and collations, as a server would list them. It owns no state.
package spec

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// fields are what an index specification may have.
var fields = []string{
	"v", "key", "name", "ns", "unique", "sparse", "background", "expireAfterSeconds", "partialFilterExpression", "collation",
	"hidden", "weights", "default_language", "language_override", "textIndexVersion", "2dsphereIndexVersion", "bits", "min",
	"max", "bucketSize", "wildcardProjection", "storageEngine", "coarsestIndexedLevel", "finestIndexedLevel", "clustered",
	"prepareUnique", "dropDups",
}

// Index completes an index specification. collation is the collection's own, nil for none.
func Index(in bson.Raw, collation bson.Raw) (bson.Raw, error) {
	bad := func(code int32, what string) error {
		return refuse.Errf(code, "Error in specification %s :: caused by :: %s", bsonval.FormatDoc(in), what)
	}
	for k := range bsonval.Each(in) {
		if !slices.Contains(fields, k) {
			return nil, bad(197, "The field '"+k+"' is not valid for an index specification. Specification: "+bsonval.FormatDoc(in))
		}
	}
	kv, ok := bsonval.Lookup(in, "key")
	if !ok {
		return nil, bad(9, "The 'key' field is a required property of an index specification")
	}
	if kv.Type != bson.TypeEmbeddedDocument {
		return nil, bad(14, "The field 'key' must be an object, but got "+bsonval.TypeName(kv.Type))
	}
	name, ok := bsonval.Lookup(in, "name")
	if !ok {
		return nil, bad(9, "The 'name' field is a required property of an index specification")
	}
	if name.Type != bson.TypeString {
		return nil, bad(14, "The field 'name' must be a string, but got "+bsonval.TypeName(name.Type))
	}
	key, extra, err := indexKey(bson.Raw(kv.Value))
	if err != nil {
		return nil, bad(67, err.Error())
	}
	var b bsonval.Builder
	b.Int32("v", 2)
	if u, ok := bsonval.Lookup(in, "unique"); ok && bsonval.Truthy(u) {
		b.Value("unique", u)
	}
	b.Doc("key", key).Value("name", name)
	own := false
	for k, v := range bsonval.Each(in) {
		switch k {
		case "v", "key", "name", "ns", "unique", "background", "dropDups":
		case "collation":
			own = true
			c, err := Collation(bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			if c != nil {
				b.Doc("collation", c)
			}
		case "sparse", "hidden":
			if bsonval.Truthy(v) {
				b.Value(k, v)
			}
		default:
			b.Value(k, v)
		}
	}
	for k, v := range bsonval.Each(extra) {
		if _, given := bsonval.Lookup(in, k); !given {
			b.Value(k, v)
		}
	}
	if !own && collation != nil {
		b.Doc("collation", collation)
	}
	return b.Raw(), nil
}

// indexKey checks the key and gives it as listed, with what its kind adds.
func indexKey(key bson.Raw) (out, extra bson.Raw, err error) {
	es := bsonval.Elems(key)
	if len(es) == 0 {
		return nil, nil, refuse.Errf(67, "Index keys cannot be empty.")
	}
	var k, x, weights bsonval.Builder
	text := false
	for _, e := range es {
		if e.Key == "" {
			return nil, nil, refuse.Errf(67, "Index keys cannot be an empty field.")
		}
		if bsonval.IsNumber(e.Value) {
			if !bsonval.Truthy(e.Value) {
				return nil, nil, refuse.Errf(67, "Values in the index key pattern cannot be 0.")
			}
			k.Value(e.Key, e.Value)
			continue
		}
		if e.Value.Type != bson.TypeString {
			return nil, nil, refuse.Errf(67, "Values in v:2 index key pattern cannot be of type %s. Only numbers > 0, numbers < 0, and strings are allowed.", bsonval.TypeName(e.Value.Type))
		}
		switch plugin := bsonval.Str(e.Value); plugin {
		case "text":
			if e.Key == "_fts" { // as indexes are listed, with its weights beside it
				k.Value(e.Key, e.Value)
				continue
			}
			if !text {
				k.String("_fts", "text").Int32("_ftsx", 1)
			}
			text = true
			weights.Int32(e.Key, 1)
		case "2dsphere":
			k.Value(e.Key, e.Value)
			x.Int32("2dsphereIndexVersion", 3)
		case "hashed", "2d":
			k.Value(e.Key, e.Value)
		default:
			return nil, nil, refuse.Errf(67, "Unknown index plugin '%s'", plugin)
		}
	}
	if text {
		x.Doc("weights", weights.Raw()).String("default_language", "english").String("language_override", "language").Int32("textIndexVersion", 3)
	}
	return k.Raw(), x.Raw(), nil
}

// Collation completes a collation; nil is the simple one.
func Collation(in bson.Raw) (bson.Raw, error) {
	loc, _ := bsonval.Lookup(in, "locale")
	locale := bsonval.Str(loc)
	if locale == "" {
		return nil, refuse.Errf(40414, "BSON field 'Collation.locale' is missing but a required field")
	}
	if locale == "simple" {
		return nil, nil
	}
	if len(locale) > 40 || strings.ContainsAny(locale, " \x00") {
		return nil, refuse.Errf(2, "Field 'locale' is invalid in: %s", bsonval.FormatDoc(in))
	}
	var b bsonval.Builder
	b.String("locale", locale)
	for _, f := range []struct {
		name string
		v    bson.RawValue
	}{
		{"caseLevel", bsonval.Bool(false)},
		{"caseFirst", bsonval.String("off")},
		{"strength", bsonval.Int32(3)},
		{"numericOrdering", bsonval.Bool(false)},
		{"alternate", bsonval.String("non-ignorable")},
		{"maxVariable", bsonval.String("punct")},
		{"normalization", bsonval.Bool(false)},
		{"backwards", bsonval.Bool(false)},
	} {
		if v, ok := bsonval.Lookup(in, f.name); ok {
			f.v = v
		}
		b.Value(f.name, f.v)
	}
	return b.String("version", "57.1").Raw(), nil
}

// IDIndex is the specification of the _id index.
func IDIndex(collation bson.Raw) bson.Raw {
	var b bsonval.Builder
	b.Int32("v", 2).Doc("key", new(bsonval.Builder).Int32("_id", 1).Raw()).String("name", "_id_")
	if collation != nil {
		b.Doc("collation", collation)
	}
	return b.Raw()
}

// BucketsPrefix begins the names of the collections that hold time series' documents.
const BucketsPrefix = "system.buckets."

// ClusteredIndex is the specification that listIndexes shows of a clustered collection's _id; nil for other collections.
func ClusteredIndex(options bson.Raw) bson.Raw {
	v, ok := bsonval.Lookup(options, "clusteredIndex")
	if !ok || !bsonval.Truthy(v) {
		return nil
	}
	name := "_id_"
	if n := bsonval.StringField(bsonval.SubDoc(v), "name"); n != "" {
		name = n
	}
	b := new(bsonval.Builder).Int32("v", 2).Doc("key", new(bsonval.Builder).Int32("_id", 1).Raw()).String("name", name)
	return b.Bool("unique", true).Bool("clustered", true).Raw()
}

// CheckName refuses names a collection cannot have.
func CheckName(ns string) error {
	db, name, _ := strings.Cut(ns, ".")
	switch {
	case len(ns) > 255:
		return refuse.Errf(17381, "Fully qualified namespace is too long. Namespace: %s Max: 255", ns)
	case strings.Contains(name, "$"):
		return refuse.Errf(refuse.CodeInvalidNamespace, "invalid collection name")
	case db == "" || strings.ContainsAny(db, "/\\. \"$*<>:|?\x00") || len(db) > 63:
		return refuse.Errf(refuse.CodeInvalidNamespace, "Invalid namespace specified '%s'", ns)
	}
	if strings.HasPrefix(name, "system.") && db != "admin" && db != "config" && db != "local" {
		switch {
		case name == "system.views", name == "system.js", name == "system.profile", name == "system.users",
			strings.HasPrefix(name, BucketsPrefix), strings.HasPrefix(name, "system.resharding."), strings.HasPrefix(name, "system.drop."):
		default:
			return refuse.Errf(refuse.CodeInvalidNamespace, "cannot write to '%s'", ns)
		}
	}
	return nil
}
