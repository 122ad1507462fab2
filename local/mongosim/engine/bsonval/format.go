package bsonval

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// aliases are the names of types, in the order of their numbers.
var aliases = map[bson.Type]string{
	bson.TypeDouble: "double", bson.TypeString: "string", bson.TypeEmbeddedDocument: "object", bson.TypeArray: "array",
	bson.TypeBinary: "binData", bson.TypeUndefined: "undefined", bson.TypeObjectID: "objectId", bson.TypeBoolean: "bool",
	bson.TypeDateTime: "date", bson.TypeNull: "null", bson.TypeRegex: "regex", bson.TypeDBPointer: "dbPointer",
	bson.TypeJavaScript: "javascript", bson.TypeSymbol: "symbol", bson.TypeCodeWithScope: "javascriptWithScope",
	bson.TypeInt32: "int", bson.TypeTimestamp: "timestamp", bson.TypeInt64: "long", bson.TypeDecimal128: "decimal",
	bson.TypeMinKey: "minKey", bson.TypeMaxKey: "maxKey",
}

// TypeName is the server's name of a type.
func TypeName(t bson.Type) string {
	if n, ok := aliases[t]; ok {
		return n
	}
	return "missing"
}

// TypeByName finds a type by its name.
func TypeByName(name string) (bson.Type, bool) {
	for t, n := range aliases {
		if n == name {
			return t, true
		}
	}
	return 0, false
}

// Format prints a value as the server's messages do.
func Format(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeDouble:
		f, _ := Float(v)
		return formatDouble(f)
	case bson.TypeInt32, bson.TypeInt64:
		return strconv.FormatInt(intOf(v), 10)
	case bson.TypeDecimal128:
		return v.Decimal128().String()
	case bson.TypeString, bson.TypeSymbol:
		return `"` + escape(Str(v)) + `"`
	case bson.TypeEmbeddedDocument:
		return FormatDoc(bson.Raw(v.Value))
	case bson.TypeArray:
		var parts []string
		for _, x := range Each(bson.Raw(v.Value)) {
			parts = append(parts, Format(x))
		}
		if len(parts) == 0 {
			return "[]"
		}
		return "[ " + strings.Join(parts, ", ") + " ]"
	case bson.TypeBinary:
		if len(v.Value) < 5 {
			return "BinData(0, )"
		}
		sub, data := v.Value[4], v.Value[5:]
		if sub == 4 && len(data) == 16 {
			return `UUID("` + FormatUUID([16]byte(data)) + `")`
		}
		return fmt.Sprintf("BinData(%d, %s)", sub, strings.ToUpper(hex.EncodeToString(data)))
	case bson.TypeObjectID:
		return "ObjectId('" + hex.EncodeToString(v.Value) + "')"
	case bson.TypeBoolean:
		return strconv.FormatBool(v.Value[0] != 0)
	case bson.TypeDateTime:
		return fmt.Sprintf("new Date(%d)", intOf(v))
	case bson.TypeTimestamp:
		u := uint64(intOf(v))
		return fmt.Sprintf("Timestamp(%d, %d)", u>>32, uint32(u))
	case bson.TypeRegex:
		p, o := v.Regex()
		return "/" + p + "/" + o
	case bson.TypeJavaScript:
		return Str(v)
	case bson.TypeMinKey:
		return "MinKey"
	case bson.TypeMaxKey:
		return "MaxKey"
	case bson.TypeNull:
		return "null"
	case bson.TypeUndefined:
		return "undefined"
	}
	return TypeName(v.Type)
}

// FormatElem prints a field with its name.
func FormatElem(key string, v bson.RawValue) string { return key + ": " + Format(v) }

// FormatDoc prints a document as the server's messages do.
func FormatDoc(doc bson.Raw) string {
	var parts []string
	for k, x := range Each(doc) {
		parts = append(parts, FormatElem(k, x))
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// FormatUUID prints a UUID with dashes.
func FormatUUID(u [16]byte) string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// FormatTime prints an instant as the server's logs do.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+00:00") }

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s)
}

func formatDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan.0"
	case math.IsInf(f, 1):
		return "inf.0"
	case math.IsInf(f, -1):
		return "-inf.0"
	}
	s := strconv.FormatFloat(f, 'g', 16, 64)
	if short := strconv.FormatFloat(f, 'g', -1, 64); len(short) < len(s) {
		s = short
	}
	if !strings.ContainsAny(s, ".en") {
		s += ".0"
	}
	return s
}

// formatDouble15 is a double to the 15 digits a decimal takes of it.
func formatDouble15(f float64) string {
	return strconv.FormatFloat(f, 'g', 15, 64)
}
