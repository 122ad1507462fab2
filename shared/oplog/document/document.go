// Package document is the core of replay: a document and an operation in, the document afterwards out, over raw BSON and
// byte for byte as a server stores it. It also knows when two _id are one (key.go) and which documents an ordinary write
// cannot carry (exception.go).
package document

import (
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Oddity is what did not fit between a document and an operation. While a copy that was read under load is being
// brought up to date (the fuzzy window) oddities are normal: a later entry mends them. After it each is corruption.
type Oddity uint16

// The oddities.
const (
	// Absent: an update found no document. Nothing is made of it.
	Absent Oddity = 1 << iota
	// Existed: an insert found a document and replaced it.
	Existed
	// NoField: a field to be changed or removed was not there.
	NoField
	// FieldThere: a field to be added was there already; it moved to the end.
	FieldThere
	// OtherType: a part to be changed inside had another type; it became null as on a server, or was left alone ($v: 1).
	OtherType
	// Short: an array or binary value was shorter than the change expects.
	Short
)

// Fatal are the oddities that are corruption outside the fuzzy window.
const Fatal = Absent | NoField | FieldThere | OtherType | Short

// String names them: "Absent, Short".
func (o Oddity) String() string {
	var out []string
	for i, s := range []string{"no document to update", "document to insert was there", "no field to change", "field to add was there", "value of another type", "value too short"} {
		if o&(1<<i) != 0 {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// Apply gives the document after an insert, update or delete. before is nil where there is none, after is nil where none
// is left; after may be before itself or bytes of the operation. Neither argument is changed.
func Apply(before bson.Raw, op *oplog.Op) (after bson.Raw, odd Oddity, err error) {
	switch op.Kind {
	case oplog.Insert:
		if before != nil {
			odd = Existed
		}
		return op.O, odd, nil
	case oplog.Delete:
		return nil, 0, nil
	case oplog.Update:
	default:
		return before, 0, fmt.Errorf("operation %s changes no document", op.Kind)
	}
	u, err := FormOf(op.O)
	if err != nil {
		return before, 0, err
	}
	if before == nil && !op.Upsert {
		return nil, Absent, nil
	}
	if u.Form == Replacement {
		after, err = withID(op.O, op.ID)
		return after, 0, err
	}
	if before == nil {
		before = bson.Raw(bsoncore.BuildDocument(nil, bsoncore.AppendValueElement(nil, "_id", op.ID)))
	}
	if u.Form == Modifiers {
		after, odd, err = applyModifiers(before, u.body)
	} else {
		after, odd, err = applyDiff(before, u.body)
	}
	if err != nil {
		return before, odd, fmt.Errorf("update of %s: %w", op.NS, err)
	}
	return after, odd, nil
}

// Form is one of the three ways in which an update is written.
type Form byte

// The forms.
const (
	Replacement Form = iota // the whole document
	Modifiers               // {$v: 1, $set, $unset}
	Diff                    // {$v: 2, diff}
)

// Change is an update whose form is known.
type Change struct {
	Form Form
	body []byte
}

// NeedsBefore reports whether the outcome depends on what the document was, and not only on its being there.
func (c Change) NeedsBefore() bool { return c.Form != Replacement }

// FormOf tells the form by the value of $v and nothing else: a replacement may have fields called $set or diff. It may
// even have one called $v, but it always has its _id, which the other forms never name.
func FormOf(o bson.Raw) (Change, error) {
	var version bsoncore.Value
	var diff []byte
	replacement := false
	err := oplog.Elements(o, func(key []byte, v bsoncore.Value) error {
		switch string(key) {
		case "_id":
			replacement = true
			return errStop
		case "$v":
			version = v
		case "diff":
			if d, ok := v.DocumentOK(); ok {
				diff = d
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return Change{}, err
	}
	if replacement || version.Type == 0 {
		return Change{Form: Replacement}, nil
	}
	n, ok := version.AsInt64OK()
	switch {
	case ok && n == 1:
		return Change{Form: Modifiers, body: o}, nil
	case ok && n == 2 && diff != nil:
		return Change{Form: Diff, body: diff}, nil
	case ok && n == 2:
		return Change{}, fmt.Errorf("%w: update with $v 2 and no diff", oplog.ErrCorrupt)
	}
	return Change{}, fmt.Errorf("update with $v %s is %w", version, oplog.ErrUnknown)
}

var errStop = errors.New("seen enough")

// withID gives a replacement its _id where it names none, and puts it first where it is not: so does a server.
func withID(o bson.Raw, id bsoncore.Value) (bson.Raw, error) {
	first, found := true, false
	var rest []byte
	err := oplog.Elements(o, func(key []byte, v bsoncore.Value) error {
		if string(key) == "_id" && !found {
			if first {
				return errStop
			}
			id, found = v, true
			return nil
		}
		first = false
		rest = appendValue(rest, key, v)
		return nil
	})
	if errors.Is(err, errStop) {
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(o)+len(id.Data)+6)
	at, out := bsoncore.AppendDocumentStart(out)
	out = append(appendValue(out, []byte("_id"), id), rest...)
	out, err = bsoncore.AppendDocumentEnd(out, at)
	return bson.Raw(out), err
}
