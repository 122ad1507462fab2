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
	granularity, span := bsonval.StringField(in, "granularity"), int32(3600)
	switch granularity {
	case "":
		granularity = "seconds"
	case "seconds":
	case "minutes":
		span = 86_400
	case "hours":
		span = 2_592_000
	default:
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

// BucketsValidator is what a server asks of the documents that hold a time series.
func BucketsValidator(series bson.Raw) bson.Raw {
	kind := func(t string) bson.Raw { return new(bsonval.Builder).String("bsonType", t).Raw() }
	at := bsonval.StringField(series, "timeField")
	side := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String(at)})).
		Doc("properties", new(bsonval.Builder).Doc(at, kind("date")).Raw()).Raw()
	control := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String("version"), bsonval.String("min"), bsonval.String("max")})).
		Doc("properties", new(bsonval.Builder).Doc("version", kind("number")).Doc("min", side).Doc("max", side).Raw()).Raw()
	properties := new(bsonval.Builder).Doc("_id", kind("objectId")).Doc("control", control).Doc("data", kind("object")).Doc("meta", new(bsonval.Builder).Raw()).Raw()
	schema := new(bsonval.Builder).String("bsonType", "object").
		Value("required", bsonval.Array([]bson.RawValue{bsonval.String("_id"), bsonval.String("control"), bsonval.String("data")})).
		Doc("properties", properties).Bool("additionalProperties", false).Raw()
	return new(bsonval.Builder).Doc("$jsonSchema", schema).Raw()
}
