// Package lenient reads single values of a process's replies. Servers and their descendants disagree about types: what has
// another type than expected is the zero value.
package lenient

import (
	"math"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog/raw"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Lookup is a field of an embedded document.
func Lookup(v bson.RawValue, key string) bson.RawValue {
	d, ok := v.DocumentOK()
	if !ok {
		return bson.RawValue{}
	}
	return d.Lookup(key)
}

// Docs calls fn for each document of an array.
func Docs(v bson.RawValue, fn func(bson.Raw)) {
	if v.Type != bson.TypeArray {
		return
	}
	wire.Each(v.Value, func(_ []byte, v bson.RawValue) bool {
		if d, ok := v.DocumentOK(); ok {
			fn(d)
		}
		return true
	})
}

// DocsOf gives the documents of a reply that is {docs: [...]}.
func DocsOf(reply bson.Raw, fn func(bson.Raw)) {
	if len(reply) > 0 {
		Docs(reply.Lookup("docs"), fn)
	}
}

// Text is a string.
func Text(v bson.RawValue) string {
	s, _ := v.StringValueOK()
	return s
}

// Texts are the strings of an array that are not empty.
func Texts(v bson.RawValue) []string {
	if v.Type != bson.TypeArray {
		return nil
	}
	var all []string
	wire.Each(v.Value, func(_ []byte, v bson.RawValue) bool {
		if s := Text(v); s != "" {
			all = append(all, s)
		}
		return true
	})
	return all
}

// Truth is a boolean, or a number that is not 0.
func Truth(v bson.RawValue) bool {
	b, ok := v.BooleanOK()
	if ok {
		return b
	}
	n, ok := Number(v)
	return ok && n != 0
}

// Number reads any BSON number as an integer; a double beyond int64 is not one.
func Number(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		n, ok := v.Int32OK()
		return int64(n), ok
	case bson.TypeInt64:
		return v.Int64OK()
	case bson.TypeDouble:
		f, ok := v.DoubleOK()
		if !ok || math.IsNaN(f) || math.Abs(f) >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	case bson.TypeDecimal128:
		f, ok := decimal(v)
		return f.Int64(), ok
	}
	return 0, false
}

func decimal(v bson.RawValue) (raw.Value, bool) {
	if len(v.Value) != 16 {
		return raw.Value{}, false
	}
	e := raw.Element{Type: byte(v.Type), Data: v.Value}
	return e.Number()
}

// Float is any BSON number.
func Float(v bson.RawValue) float64 {
	if f, ok := v.DoubleOK(); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f
	}
	if v.Type == bson.TypeDecimal128 {
		f, _ := decimal(v)
		return f.Float64()
	}
	n, _ := Number(v)
	return float64(n)
}

// Date is a date of the years that people live in.
func Date(v bson.RawValue) time.Time {
	ms, ok := v.DateTimeOK()
	if !ok || ms <= 0 || ms > 253_402_300_799_999 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// ID is an ObjectId that is not zero, in hexadecimal.
func ID(v bson.RawValue) string {
	if id, ok := v.ObjectIDOK(); ok && !id.IsZero() {
		return id.Hex()
	}
	return ""
}

// Option reads a setting of getCmdLineOpts.parsed by its dotted name. Old configuration files leave dotted names as flat keys.
func Option(cmdLine bson.Raw, dotted string) bson.RawValue {
	if len(cmdLine) == 0 {
		return bson.RawValue{}
	}
	parsed, ok := cmdLine.Lookup("parsed").DocumentOK()
	if !ok {
		return bson.RawValue{}
	}
	if v, err := parsed.LookupErr(strings.Split(dotted, ".")...); err == nil {
		return v
	}
	return parsed.Lookup(dotted)
}
