package document

import (
	"encoding/binary"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

func valueOf(t testing.TB, json string) bsoncore.Value {
	t.Helper()
	v, err := bsoncore.Document(parse(t, `{"v":`+json+`}`)).LookupErr("v")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestKeysAreEqualForWhatTheIndexTakesForOne(t *testing.T) {
	classes := [][]string{
		{`1`, `{"$numberLong":"1"}`, `1.0`, `{"$numberDouble":"1"}`, `{"$numberDecimal":"1"}`, `{"$numberDecimal":"1.00"}`, `{"$numberDecimal":"10E-1"}`},
		{`0`, `{"$numberDouble":"-0.0"}`, `{"$numberDecimal":"-0"}`, `{"$numberDecimal":"0E+50"}`},
		{`-5`, `{"$numberDecimal":"-5"}`, `{"$numberDouble":"-5"}`},
		{`0.5`, `{"$numberDecimal":"0.5"}`, `{"$numberDecimal":"0.50"}`},
		{`0.1`},
		{`{"$numberDecimal":"0.1"}`, `{"$numberDecimal":"0.10"}`}, // no double is exactly a tenth
		{`{"$numberDecimal":"1E+300"}`, `{"$numberDecimal":"10E+299"}`},
		{`1e300`},
		{`{"$numberDecimal":"9223372036854775807"}`, `{"$numberLong":"9223372036854775807"}`},
		{`{"$numberDouble":"9223372036854775808"}`, `{"$numberDecimal":"9223372036854775808"}`},
		{`{"$numberDouble":"NaN"}`, `{"$numberDecimal":"NaN"}`},
		{`{"$numberDouble":"Infinity"}`, `{"$numberDecimal":"Infinity"}`},
		{`{"$numberDouble":"-Infinity"}`, `{"$numberDecimal":"-Infinity"}`},
		{`{"$numberDecimal":"1E-6000"}`},
		{`{"$numberDecimal":"1E+6000"}`},
		{`"a"`, `{"$symbol":"a"}`},
		{`"b"`},
		{`""`},
		{`"1"`},
		{`true`},
		{`false`},
		{`null`},
		{`{"a":1,"b":{"c":2}}`, `{"a":1.0,"b":{"c":{"$numberDecimal":"2.0"}}}`},
		{`{"b":{"c":2},"a":1}`},
		{`{"a":1}`},
		{`{"a":{"$numberLong":"2"}}`},
		{`{}`},
		{`{"a":{}}`},
		{`{"$oid":"0123456789abcdef01234567"}`},
		{`{"$date":{"$numberLong":"1"}}`},
		{`{"$timestamp":{"t":0,"i":1}}`},
		{`{"$binary":{"base64":"AQ==","subType":"00"}}`},
		{`{"$binary":{"base64":"AQ==","subType":"05"}}`},
		{`{"$minKey":1}`},
		{`{"$maxKey":1}`},
	}
	seen := map[string]int{}
	for i, class := range classes {
		for _, s := range class {
			k := Key(valueOf(t, s))
			if j, ok := seen[k]; ok && j != i {
				t.Errorf("%s has the key of %s", s, classes[j][0])
			}
			if k != Key(valueOf(t, class[0])) {
				t.Errorf("%s has another key than %s", s, class[0])
			}
			seen[k] = i
		}
	}
}

func TestExceptionsAreSeenAtTheTopOnly(t *testing.T) {
	for doc, want := range map[string]Exception{
		`{"_id":1,"a":{"$timestamp":{"t":0,"i":0}}}`:                            EmptyTimestamp,
		`{"_id":{"$timestamp":{"t":0,"i":0}},"a":{"$timestamp":{"t":1,"i":0}}}`: 0,
		`{"_id":1,"a":{"b":{"$timestamp":{"t":0,"i":0}}}}`:                      0,
		`{"_id":1,"a":{"$b":1}}`:                                                0,
	} {
		if got, err := Exceptions(parse(t, doc)); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", doc, got, err, want)
		}
	}
	both := marshal(t, bson.D{{Key: "_id", Value: 1}, {Key: "$a", Value: 1}, {Key: "b", Value: bson.Timestamp{}}})
	if got, _ := Exceptions(both); got != EmptyTimestamp|DollarName {
		t.Errorf("both: %d", got)
	}
	if names := EmptyTimestamps(both); len(names) != 1 || names[0] != "b" {
		t.Errorf("empty timestamps are %v", names)
	}
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{`1`, `0.5`, `{"$numberDecimal":"1E-6000"}`, `{"a":[1,{"b":"c"}]}`} {
		v := valueOf(f, s)
		f.Add(byte(v.Type), v.Data)
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		doc := binary.LittleEndian.AppendUint32(nil, uint32(len(data)+8))
		doc = append(append(append(doc, kind, 'v', 0), data...), 0)
		if v, ok := oplog.Lookup(doc, "v"); ok && Key(v) == "" {
			t.Error("an empty key")
		}
	})
}
