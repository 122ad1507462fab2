package spec

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// Clustered completes the option clusteredIndex of a collection. Only _id can be it.
func Clustered(v bson.RawValue) (bson.RawValue, error) {
	if v.Type == bson.TypeBoolean { // of buckets
		return v, nil
	}
	in := bsonval.SubDoc(v)
	key, _ := bsonval.Lookup(in, "key")
	unique, _ := bsonval.Lookup(in, "unique")
	if want := new(bsonval.Builder).Int32("_id", 1).Raw(); !bsonval.Equal(key, bsonval.Doc(want)) || !bsonval.Truthy(unique) {
		return v, refuse.Errf(5979702, "The clusteredIndex option must be {key: {_id: 1}, unique: true}, not %s", bsonval.Format(v))
	}
	name := bsonval.StringField(in, "name")
	if name == "" {
		name = "_id_"
	}
	out := new(bsonval.Builder).Int32("v", 2).Value("key", key).String("name", name).Bool("unique", true)
	return bsonval.Doc(out.Raw()), nil
}

// TimeSeries completes the option timeseries of a collection.
func TimeSeries(in bson.Raw) (bson.Raw, error) {
	if bsonval.StringField(in, "timeField") == "" {
		return nil, refuse.Errf(40414, "BSON field 'create.timeseries.timeField' is missing but a required field")
	}
	granularity := bsonval.StringField(in, "granularity")
	if granularity == "" {
		granularity = "seconds"
	}
	span, _ := spans(granularity)
	if span == 0 {
		return nil, refuse.Errf(refuse.CodeBadValue, "Enumeration value '%s' for field 'create.timeseries.granularity' is not a valid value.", granularity)
	}
	b := new(bsonval.Builder).String("timeField", bsonval.StringField(in, "timeField"))
	if meta := bsonval.StringField(in, "metaField"); meta != "" {
		b.String("metaField", meta)
	}
	if v, ok := bsonval.Lookup(in, "bucketMaxSpanSeconds"); ok {
		if rounding, has := bsonval.Lookup(in, "bucketRoundingSeconds"); has {
			return b.Value("bucketRoundingSeconds", rounding).Value("bucketMaxSpanSeconds", v).Raw(), nil
		}
		return b.String("granularity", granularity).Value("bucketMaxSpanSeconds", v).Raw(), nil
	}
	return b.String("granularity", granularity).Int32("bucketMaxSpanSeconds", span).Raw(), nil
}

// BucketsValidator is what a server asks of the documents that hold a time series; from 6.0 on those count.
func BucketsValidator(series bson.Raw, counted bool) bson.Raw {
	kind := func(t string) bson.Raw { return new(bsonval.Builder).String("bsonType", t).Raw() }
	at := bsonval.StringField(series, "timeField")
	side := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String(at)})).
		Doc("properties", new(bsonval.Builder).Doc(at, kind("date")).Raw()).Raw()
	inner := new(bsonval.Builder).Doc("version", kind("number")).Doc("min", side).Doc("max", side).Doc("closed", kind("bool"))
	if counted {
		inner.Doc("count", new(bsonval.Builder).String("bsonType", "number").Int32("minimum", 1).Raw())
	}
	within := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String("version"), bsonval.String("min"), bsonval.String("max")})).Doc("properties", inner.Raw())
	if counted {
		within.Bool("additionalProperties", false)
	}
	control := within.Raw()
	properties := new(bsonval.Builder).Doc("_id", kind("objectId")).Doc("control", control).Doc("data", kind("object")).Doc("meta", new(bsonval.Builder).Raw()).Raw()
	schema := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String("_id"), bsonval.String("control"), bsonval.String("data")})).
		Doc("properties", properties).Bool("additionalProperties", false).Raw()
	return new(bsonval.Builder).Doc("$jsonSchema", schema).Raw()
}

// spans are the longest span of a bucket and what its beginning is rounded to, in seconds, for a granularity; zero for what is none.
func spans(granularity string) (span, round int32) {
	switch granularity {
	case "seconds":
		return 3600, 60
	case "minutes":
		return 86_400, 3600
	case "hours":
		return 2_592_000, 86_400
	}
	return 0, 0
}

// Rounding is what the beginning of a time series' buckets is rounded to, in seconds.
func Rounding(series bson.Raw) int64 {
	if v, ok := bsonval.Lookup(series, "bucketRoundingSeconds"); ok {
		n, _ := bsonval.Integer(v)
		return max(n, 1)
	}
	_, round := spans(bsonval.StringField(series, "granularity"))
	return int64(max(round, 60))
}

// ModifySeries is the option timeseries after a collMod of it: only to a coarser granularity.
func ModifySeries(old, change bson.Raw) (bson.Raw, error) {
	var b bsonval.Builder
	for k, v := range bsonval.Each(old) {
		if k == "timeField" || k == "metaField" {
			b.Value(k, v)
		}
	}
	v, _ := bsonval.Lookup(old, "bucketMaxSpanSeconds")
	was, _ := bsonval.Integer(v)
	if to := bsonval.StringField(change, "granularity"); to != "" {
		span, _ := spans(to)
		switch {
		case span == 0:
			return nil, refuse.Errf(refuse.CodeBadValue, "Enumeration value '%s' for field 'collMod.timeseries.granularity' is not a valid value.", to)
		case int64(span) < was:
			return nil, refuse.Errf(refuse.CodeInvalidOptions, "Invalid transition for timeseries.granularity. Can only transition from 'seconds' to 'minutes' or 'minutes' to 'hours'.")
		}
		return b.String("granularity", to).Int32("bucketMaxSpanSeconds", span).Raw(), nil
	}
	span, has := bsonval.Lookup(change, "bucketMaxSpanSeconds")
	round, both := bsonval.Lookup(change, "bucketRoundingSeconds")
	if !has || !both {
		return old, nil
	}
	if n, _ := bsonval.Integer(span); n < was {
		return nil, refuse.Errf(refuse.CodeInvalidOptions, "Timeseries 'bucketMaxSpanSeconds' needs to be equal or greater to transition")
	}
	return b.Value("bucketRoundingSeconds", round).Value("bucketMaxSpanSeconds", span).Raw(), nil
}
