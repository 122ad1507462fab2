package view

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Buckets is the collection that holds a time series; nil when view is none.
func Buckets(st *store.State, view *store.Collection) *store.Collection {
	if view == nil || !view.View {
		return nil
	}
	on := bsonval.StringField(view.Options, "viewOn")
	if !strings.HasPrefix(on, spec.BucketsPrefix) {
		return nil
	}
	return st.Get(store.DBOf(view.NS) + "." + on)
}

// CreateSeries makes a time series: the collection of its buckets, which it gives, unless there is one already, and the view that
// shows them. Buckets that are there are used when their options are the same. The lock is held.
func CreateSeries(c *member.Call, ns string, series, options bson.Raw) (fresh *store.Collection, err error) {
	name := store.DBOf(ns) + "." + spec.BucketsPrefix + store.NameOf(ns)
	if old := c.State.Get(name); old == nil {
		validator := spec.BucketsValidator(series, c.E.Options().Version.AtLeast(6, 0))
		o := new(bsonval.Builder).Doc("validator", validator).Bool("clusteredIndex", true).All(options).Doc("timeseries", series)
		if err := c.E.CreateCollection(name, o.Raw(), member.NewUUID(), c); err != nil {
			return nil, err
		}
		fresh = c.State.Get(name)
	} else {
		have, _ := bsonval.Lookup(old.Options, "timeseries")
		if !bsonval.Equal(have, bsonval.Doc(series)) {
			return nil, refuse.Errf(refuse.CodeNamespaceExists, "Bucket Collection already exists. NS: %s. UUID: %s", name, bsonval.FormatUUID(old.UUID))
		}
	}
	return fresh, Create(c, ns, new(bsonval.Builder).String("viewOn", store.NameOf(name)).Docs("pipeline", pipeline(series)).Raw())
}

// pipeline is that of a time series' view.
func pipeline(series bson.Raw) []bson.Raw {
	var fields bsonval.Builder
	for k, v := range bsonval.Each(series) {
		switch k {
		case "timeField", "metaField", "bucketMaxSpanSeconds":
			fields.Value(k, v)
		}
	}
	return []bson.Raw{new(bsonval.Builder).Doc(unpack, fields.Raw()).Raw()}
}

// ModifySeries does a collMod's part on the view of a time series, before the buckets' own: another span changes its pipeline. The lock
// is held.
func ModifySeries(c *member.Call, view, buckets *store.Collection) error {
	for k := range bsonval.Each(c.Cmd) {
		switch k {
		case "collMod", "expireAfterSeconds", "timeseries", "index":
		default:
			if !member.Generic(k) && !strings.HasPrefix(k, "$") {
				return refuse.Errf(refuse.CodeInvalidOptions, "option not supported on a time-series collection: %s", k)
			}
		}
	}
	change := bsonval.SubDoc(c.Arg("timeseries"))
	if change == nil {
		return nil
	}
	old, _ := bsonval.Lookup(buckets.Options, "timeseries")
	next, err := spec.ModifySeries(bsonval.SubDoc(old), change)
	if err != nil || bsonval.Equal(bsonval.Doc(next), old) {
		return err
	}
	return Modify(c, view, new(bsonval.Builder).Docs("pipeline", pipeline(next)).Raw())
}

// IndexKey is the key over buckets of an index over a time series.
func IndexKey(series, key bson.Raw) bson.Raw {
	at, meta := bsonval.StringField(series, "timeField"), bsonval.StringField(series, "metaField")
	var b bsonval.Builder
	for k, v := range bsonval.Each(key) {
		first, rest, nested := strings.Cut(k, ".")
		switch {
		case meta != "" && first == meta && nested:
			b.Value("meta."+rest, v)
		case meta != "" && first == meta:
			b.Value("meta", v)
		default:
			sides := []string{"control.min.", "control.max."}
			if n, ok := bsonval.Integer(v); ok && n < 0 {
				slices.Reverse(sides)
			}
			if k == at || bsonval.IsNumber(v) {
				b.Value(sides[0]+k, v).Value(sides[1]+k, v)
			} else {
				b.Value("data."+k, v)
			}
		}
	}
	return b.Raw()
}

// Indexes are specifications of indexes over a time series as they are made over its buckets.
func Indexes(buckets *store.Collection, specs []bson.Raw) []bson.Raw {
	series, _ := bsonval.Lookup(buckets.Options, "timeseries")
	out := make([]bson.Raw, len(specs))
	for i, s := range specs {
		var b bsonval.Builder
		for k, v := range bsonval.Each(s) {
			if k == "key" {
				v = bsonval.Doc(IndexKey(bsonval.SubDoc(series), bsonval.SubDoc(v)))
			}
			b.Value(k, v)
		}
		out[i] = b.Raw()
	}
	return out
}

// Options are what listCollections shows of a time series, nil for other views and collections.
func Options(st *store.State, view *store.Collection) bson.Raw {
	buckets := Buckets(st, view)
	if buckets == nil {
		return nil
	}
	var b bsonval.Builder
	for k, v := range bsonval.Each(buckets.Options) {
		switch k {
		case "timeseries", "expireAfterSeconds", "collation", "storageEngine", "indexOptionDefaults":
			b.Value(k, v)
		}
	}
	return b.Raw()
}

// Listed are the indexes of a time series as listIndexes shows them over its own fields: the one that clusters the buckets is not shown.
func Listed(buckets *store.Collection) []bson.Raw {
	series, _ := bsonval.Lookup(buckets.Options, "timeseries")
	meta := bsonval.StringField(bsonval.SubDoc(series), "metaField")
	var out []bson.Raw
	for _, x := range buckets.Indexes {
		if x.Primary {
			continue
		}
		var b bsonval.Builder
		for k, v := range bsonval.Each(x.Spec) {
			if k == "key" {
				v = bsonval.Doc(seriesKey(meta, bsonval.SubDoc(v)))
			}
			b.Value(k, v)
		}
		out = append(out, b.Raw())
	}
	return out
}

// seriesKey is the key over a time series of an index over its buckets.
func seriesKey(meta string, key bson.Raw) bson.Raw {
	var b bsonval.Builder
	var last string
	for k, v := range bsonval.Each(key) {
		name := k
		for _, side := range []string{"control.min.", "control.max.", "data."} {
			name = strings.TrimPrefix(name, side)
		}
		if rest, ok := strings.CutPrefix(k, "meta"); ok && (rest == "" || rest[0] == '.') {
			name = meta + rest
		}
		if name != last { // the second bound of a field
			b.Value(name, v)
		}
		last = name
	}
	return b.Raw()
}
