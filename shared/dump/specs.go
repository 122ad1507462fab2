package dump

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// noOptions are of a collection's options those that no other server is told.
var noOptions = []string{"uuid", "create", "ns", "temp", "autoIndexId", "idIndex"}

// CreateOptions are the options of a collection as another server is told them.
func CreateOptions(options bson.Raw) (bson.Raw, error) { return Without(options, noOptions...) }

// SeriesOptions are the options of a time-series collection, made of those of the collection of its buckets.
func SeriesOptions(buckets bson.Raw) (bson.Raw, error) {
	return only(buckets, "timeseries", "expireAfterSeconds", "collation", "storageEngine", "indexOptionDefaults")
}

// IndexSpec is an index as another server is told it: without fields that newer servers refuse, and with the simple collation
// where the collection has another by default, because a specification without a collation would take that. ok is false for
// what is no index of its own: the one of _id, and the key of a clustered collection.
func IndexSpec(options, spec bson.Raw) (out bson.Raw, ok bool, err error) {
	if v, there := oplog.Lookup(spec, "clustered"); there {
		if b, _ := v.BooleanOK(); b {
			return nil, false, nil
		}
	}
	if IsIDIndex(spec) {
		return nil, false, nil
	}
	if out, err = Without(spec, "ns", "background", "safe", "dropDups"); err != nil {
		return nil, false, err
	}
	if _, there := oplog.Lookup(spec, "collation"); !there && hasCollation(options) {
		simple := bsoncore.NewDocumentBuilder().AppendString("locale", "simple").Build()
		body := slices.Clone([]byte(out[4 : len(out)-1]))
		out = bson.Raw(bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(body, "collation", simple)))
	}
	return out, true, nil
}

// IsIDIndex reports whether a specification is the one of _id.
func IsIDIndex(spec bson.Raw) bool {
	v, _ := oplog.Lookup(spec, "name")
	name, _ := v.StringValueOK()
	return name == "_id_"
}

func hasCollation(options bson.Raw) bool {
	v, ok := oplog.Lookup(options, "collation")
	d, isDoc := v.DocumentOK()
	if !ok || !isDoc {
		return false
	}
	locale, _ := oplog.Lookup(d, "locale")
	s, _ := locale.StringValueOK()
	return s != "" && s != "simple"
}

// SeriesIndex turns an index of the collection of buckets into that of the time-series collection, which a server turns back.
// options are the buckets'. ok is false for an index that has no such form.
func SeriesIndex(options, spec bson.Raw) (out bson.Raw, ok bool, err error) {
	if v, there := oplog.Lookup(spec, "originalSpec"); there { // kept by the server where the way back is not clear
		if d, isDoc := v.DocumentOK(); isDoc {
			return bson.Raw(d), true, nil
		}
	}
	series, _ := oplog.Lookup(options, "timeseries")
	d, isDoc := series.DocumentOK()
	keys, there := oplog.Lookup(spec, "key")
	k, isKey := keys.DocumentOK()
	if !isDoc || !there || !isKey || IsIDIndex(spec) {
		return nil, false, nil
	}
	meta, _ := oplog.Lookup(d, "metaField")
	metaField, _ := meta.StringValueOK()
	key, ok, err := seriesKey(k, metaField)
	if err != nil || !ok {
		return nil, false, err
	}
	var b []byte
	err = oplog.Elements(spec, func(name []byte, v bsoncore.Value) error {
		switch string(name) {
		case "key":
			b = bsoncore.AppendDocumentElement(b, "key", key)
		case "ns", "background", "originalSpec":
		default:
			b = bsoncore.AppendValueElement(b, string(name), v)
		}
		return nil
	})
	return bson.Raw(bsoncore.BuildDocument(nil, b)), err == nil, err
}

// seriesKey turns the key of an index of buckets back: "meta…" is the meta field, and a field that was measured stands as its
// smallest and its largest value in each bucket, in the order that its direction asks for.
func seriesKey(key bsoncore.Document, metaField string) (bsoncore.Document, bool, error) {
	type field struct {
		name string
		v    bsoncore.Value
	}
	var fields []field
	err := oplog.Elements(key, func(name []byte, v bsoncore.Value) error {
		fields = append(fields, field{string(name), v})
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	var b []byte
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if rest, ok := strings.CutPrefix(f.name, "meta"); ok && (rest == "" || rest[0] == '.') && metaField != "" {
			b = bsoncore.AppendValueElement(b, metaField+rest, f.v)
			continue
		}
		if s, isText := f.v.StringValueOK(); isText && s == "2dsphere_bucket" {
			b = bsoncore.AppendStringElement(b, strings.TrimPrefix(f.name, "data."), "2dsphere")
			continue
		}
		low, isLow := strings.CutPrefix(f.name, "control.min.")
		high, isHigh := strings.CutPrefix(f.name, "control.max.")
		if i+1 == len(fields) {
			return nil, false, nil
		}
		next := fields[i+1].name
		switch {
		case isLow && next == "control.max."+low: // ascending: the smallest first
			b = bsoncore.AppendInt32Element(b, low, 1)
		case isHigh && next == "control.min."+high:
			b = bsoncore.AppendInt32Element(b, high, -1)
		default:
			return nil, false, nil
		}
		i++
	}
	return bsoncore.BuildDocument(nil, b), len(b) > 0, nil
}

// Without is a document without some names at its top.
func Without(doc bson.Raw, names ...string) (bson.Raw, error) {
	return choose(doc, func(name string) bool { return !slices.Contains(names, name) })
}

func only(doc bson.Raw, names ...string) (bson.Raw, error) {
	return choose(doc, func(name string) bool { return slices.Contains(names, name) })
}

func choose(doc bson.Raw, keep func(name string) bool) (bson.Raw, error) {
	var b []byte
	if len(doc) > 0 {
		err := oplog.Elements(doc, func(name []byte, v bsoncore.Value) error {
			if keep(string(name)) {
				b = bsoncore.AppendValueElement(b, string(name), v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return bson.Raw(bsoncore.BuildDocument(nil, b)), nil
}
