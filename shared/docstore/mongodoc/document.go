package mongodoc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// newRev makes a revision: never 0, and never met twice in practice (a billion writes meet one with odds of 1 in 18).
func newRev() int64 { return rand.Int64N(1<<63-1) + 1 }

// flat puts id, revision and body into one document. The body's bytes are copied as they are.
func flat(id string, rev int64, body bson.Raw) bson.Raw {
	n := 4 + 1 + len("_id\x00") + 4 + len(id) + 1 + 1 + len("_rev\x00") + 8 + len(body) - 4
	b := make([]byte, 4, n)
	binary.LittleEndian.PutUint32(b, uint32(n))
	b = append(b, byte(bson.TypeString))
	b = append(b, "_id\x00"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id)+1))
	b = append(b, id...)
	b = append(b, 0, byte(bson.TypeInt64))
	b = append(b, "_rev\x00"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(rev))
	return append(b, body[4:]...)
}

var errForeign = errors.New("a document was not written by this engine")

// split takes a stored document apart. Without body only id and revision are wanted.
func split(d bson.Raw, withBody bool) (docstore.Doc, error) {
	elements, err := d.Elements()
	if err == nil && len(d) < 5 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return docstore.Doc{}, fmt.Errorf("%w: %w", errForeign, err)
	}
	var doc docstore.Doc
	okID, okRev := false, false
	body := make([]byte, 4, len(d))
	for _, el := range elements {
		switch el.Key() {
		case docstore.FieldID:
			doc.ID, okID = el.Value().StringValueOK()
		case docstore.FieldRev:
			doc.Rev, okRev = el.Value().Int64OK()
		default:
			body = append(body, el...)
		}
	}
	if !okID || !okRev {
		return docstore.Doc{}, fmt.Errorf("%w: %s", errForeign, d.Lookup(docstore.FieldID))
	}
	if withBody {
		body = append(body, 0)
		binary.LittleEndian.PutUint32(body, uint32(len(body)))
		doc.Body = body
	}
	return doc, nil
}

// value is a key as BSON.
func value(k docstore.Key) any {
	switch k.Kind {
	case docstore.String:
		return k.S
	case docstore.Time:
		return bson.DateTime(k.I)
	case docstore.Bool:
		return k.I == 1
	}
	return k.I
}

// keysOf reads the values of index fields from a stored document.
func keysOf(d bson.Raw, fields []docstore.Field) []docstore.Key {
	keys := make([]docstore.Key, len(fields))
	for i, f := range fields {
		keys[i].Kind = f.Kind
		v := d.Lookup(f.Name)
		switch f.Kind {
		case docstore.String:
			keys[i].S, _ = v.StringValueOK()
		case docstore.Time:
			keys[i].I, _ = v.DateTimeOK()
		case docstore.Bool:
			if b, _ := v.BooleanOK(); b {
				keys[i].I = 1
			}
		default:
			keys[i].I, _ = v.Int64OK()
		}
	}
	return keys
}
