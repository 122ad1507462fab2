package document

import (
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Bounds on what an entry can make us build: servers allow documents a hundred levels deep, and pad an array by at most
// 1.5 million elements.
const (
	maxDepth = 200
	maxPad   = 1_500_000
)

type verb byte

const (
	remove verb = iota
	replace
	add
	patch
	inside
)

// edit is what a document diff does to one field.
type edit struct {
	verb verb
	name []byte
	v    bsoncore.Value
	done bool
}

// sections is a parsed document diff. Diffs are small: a walk over the slice beats a map up to many fields.
type sections struct {
	edits []edit
	index map[string]int // built where the walk would be long
}

func (s *sections) find(name []byte) *edit {
	if s.index != nil {
		if i, ok := s.index[string(name)]; ok {
			return &s.edits[i]
		}
		return nil
	}
	for i := range s.edits {
		if string(s.edits[i].name) == string(name) {
			return &s.edits[i]
		}
	}
	return nil
}

func (s *sections) put(e edit) error {
	if s.find(e.name) != nil {
		return fmt.Errorf("%w: diff names field %q twice", oplog.ErrCorrupt, e.name)
	}
	s.edits = append(s.edits, e)
	switch {
	case s.index != nil:
		s.index[string(e.name)] = len(s.edits) - 1
	case len(s.edits) == 16:
		s.index = make(map[string]int, 32)
		for i := range s.edits {
			s.index[string(s.edits[i].name)] = i
		}
	}
	return nil
}

func parseSections(diff []byte) (*sections, error) {
	s := &sections{}
	err := oplog.Elements(diff, func(key []byte, v bsoncore.Value) error {
		if len(key) > 0 && key[0] == 's' {
			return s.put(edit{verb: inside, name: key[1:], v: v})
		}
		var kind verb
		switch string(key) {
		case "d":
			kind = remove
		case "u":
			kind = replace
		case "i":
			kind = add
		case "b":
			kind = patch
		default:
			return fmt.Errorf("section %q of a diff is %w", key, oplog.ErrUnknown)
		}
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("%w: section %q of a diff is a %s", oplog.ErrCorrupt, key, v.Type)
		}
		return oplog.Elements(d, func(name []byte, v bsoncore.Value) error {
			return s.put(edit{verb: kind, name: name, v: v})
		})
	})
	return s, err
}

// applyDiff carries out a $v: 2 diff.
func applyDiff(before bson.Raw, diff []byte) (bson.Raw, Oddity, error) {
	var odd Oddity
	out, err := diffDocument(make([]byte, 0, len(before)+len(diff)), before, diff, &odd, 0)
	return bson.Raw(out), odd, err
}

// diffDocument appends the changed document to dst.
func diffDocument(dst, before, diff []byte, odd *Oddity, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: diff deeper than %d", oplog.ErrCorrupt, maxDepth)
	}
	s, err := parseSections(diff)
	if err != nil {
		return nil, err
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	err = oplog.Elements(before, func(key []byte, v bsoncore.Value) error {
		e := s.find(key)
		if e == nil {
			dst = appendValue(dst, key, v)
			return nil
		}
		e.done = true
		switch e.verb {
		case remove:
		case add:
			*odd |= FieldThere // it comes at the end
		case replace:
			dst = appendValue(dst, key, e.v)
		case patch:
			nv, ok, err := patchBinary(v, e.v)
			if err != nil {
				return err
			}
			if !ok {
				*odd |= Short
			}
			dst = appendValue(dst, key, nv)
		case inside:
			dst, err = diffInside(dst, key, v, e.v, odd, depth)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range s.edits {
		e := &s.edits[i]
		switch {
		case e.verb == add:
			dst = appendValue(dst, e.name, e.v)
		case e.done:
		case e.verb == replace:
			*odd |= NoField
			dst = appendValue(dst, e.name, e.v)
		default:
			*odd |= NoField
		}
	}
	return bsoncore.AppendDocumentEnd(dst, start)
}

// diffInside appends a field whose value changes within. A value of another type becomes null, as on a server: whatever
// made it that type comes later in the oplog.
func diffInside(dst, key []byte, v, diff bsoncore.Value, odd *Oddity, depth int) ([]byte, error) {
	d, ok := diff.DocumentOK()
	if !ok {
		return nil, fmt.Errorf("%w: diff of field %q is a %s", oplog.ErrCorrupt, key, diff.Type)
	}
	array := isArrayDiff(d)
	switch {
	case array && v.Type == bsoncore.TypeArray:
		return diffArray(appendHeader(dst, bsoncore.TypeArray, key), v.Data, d, odd, depth+1)
	case !array && v.Type == bsoncore.TypeEmbeddedDocument:
		return diffDocument(appendHeader(dst, bsoncore.TypeEmbeddedDocument, key), v.Data, d, odd, depth+1)
	}
	*odd |= OtherType
	return appendHeader(dst, bsoncore.TypeNull, key), nil
}

// isArrayDiff: a diff is one of an array exactly when its first field is a.
func isArrayDiff(d []byte) bool { return len(d) > 7 && d[5] == 'a' && d[6] == 0 }

// diffArray appends the changed array to dst: elements are set (u), changed within (s) in ascending order, and l is the length afterwards.
func diffArray(dst, before, diff []byte, odd *Oddity, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: diff deeper than %d", oplog.ErrCorrupt, maxDepth)
	}
	edits, length, err := parseArrayDiff(diff)
	if err != nil {
		return nil, err
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	n, next := 0, 0
	var num [20]byte
	one := func(v bsoncore.Value, there bool) error {
		key := strconv.AppendInt(num[:0], int64(n), 10)
		changed := next < len(edits) && edits[next].at == n
		n++
		switch {
		case !changed:
			dst = appendValue(dst, key, v)
			return nil
		case edits[next].verb == replace:
			dst = appendValue(dst, key, edits[next].v)
		case !there:
			*odd |= Short
			dst = appendHeader(dst, bsoncore.TypeNull, key)
		default:
			var err error
			if dst, err = diffInside(dst, key, v, edits[next].v, odd, depth); err != nil {
				return err
			}
		}
		next++
		return nil
	}
	err = oplog.Elements(before, func(_ []byte, v bsoncore.Value) error {
		if length >= 0 && n >= length {
			return nil
		}
		return one(v, true)
	})
	if err != nil {
		return nil, err
	}
	end := max(n, length)
	if len(edits) > 0 {
		end = max(end, edits[len(edits)-1].at+1)
	}
	switch {
	case length >= 0 && end > length:
		return nil, fmt.Errorf("%w: diff sets element %d of an array of %d", oplog.ErrCorrupt, end-1, length)
	case end-n > maxPad:
		return nil, fmt.Errorf("%w: diff grows an array by %d elements", oplog.ErrCorrupt, end-n)
	case length > n:
		*odd |= Short
	}
	for n < end {
		if err := one(bsoncore.Value{Type: bsoncore.TypeNull}, false); err != nil {
			return nil, err
		}
	}
	return bsoncore.AppendArrayEnd(dst, start)
}

// slot is what an array diff does to one element.
type slot struct {
	at   int
	verb verb
	v    bsoncore.Value
}

// parseArrayDiff gives the edits in ascending order and the length afterwards, -1 if it is not said.
func parseArrayDiff(diff []byte) (edits []slot, length int, err error) {
	length = -1
	err = oplog.Elements(diff, func(key []byte, v bsoncore.Value) error {
		switch string(key) {
		case "a":
			return nil
		case "l":
			n, ok := v.AsInt64OK()
			if !ok || n < 0 || n > 1<<24 {
				return fmt.Errorf("%w: array length %s in a diff", oplog.ErrCorrupt, v)
			}
			length = int(n)
			return nil
		}
		s := slot{verb: replace, v: v}
		if len(key) > 0 && key[0] == 's' {
			s.verb = inside
		} else if len(key) == 0 || key[0] != 'u' {
			return fmt.Errorf("field %q of an array diff is %w", key, oplog.ErrUnknown)
		}
		n, ok := position(key[1:])
		if !ok || (len(edits) > 0 && edits[len(edits)-1].at >= n) {
			return fmt.Errorf("%w: field %q of an array diff", oplog.ErrCorrupt, key)
		}
		s.at = n
		edits = append(edits, s)
		return nil
	})
	return edits, length, err
}

// patchBinary writes {o: offset, d: bytes} into a binary value (compressed time-series buckets): what is written ends the
// value. ok is false where the value does not reach to the offset; then it stays as it is.
func patchBinary(v, by bsoncore.Value) (out bsoncore.Value, ok bool, err error) {
	d, isDoc := by.DocumentOK()
	var offset int64 = -1
	var data []byte
	found := false
	if isDoc {
		err = oplog.Elements(d, func(key []byte, v bsoncore.Value) error {
			switch string(key) {
			case "o":
				offset, _ = v.AsInt64OK()
			case "d":
				_, data, found = oplog.Binary(v)
			default:
				return fmt.Errorf("field %q of a binary diff is %w", key, oplog.ErrUnknown)
			}
			return nil
		})
	}
	if err != nil {
		return v, false, err
	}
	if !found || offset < 0 {
		return v, false, fmt.Errorf("%w: binary diff %s", oplog.ErrCorrupt, by)
	}
	subtype, old, isBinary := oplog.Binary(v)
	if !isBinary || offset > int64(len(old)) {
		return v, false, nil
	}
	joined := make([]byte, 0, int(offset)+len(data))
	joined = append(append(joined, old[:offset]...), data...)
	return bsoncore.Value{Type: bsoncore.TypeBinary, Data: bsoncore.AppendBinary(nil, subtype, joined)}, true, nil
}

func appendHeader(dst []byte, t bsoncore.Type, key []byte) []byte {
	dst = append(dst, byte(t))
	dst = append(dst, key...)
	return append(dst, 0)
}

func appendValue(dst, key []byte, v bsoncore.Value) []byte {
	return append(appendHeader(dst, v.Type, key), v.Data...)
}

// position reads an array index: digits without leading zeros, no larger than any array can be.
func position(name []byte) (int, bool) {
	if len(name) == 0 || len(name) > 8 || (name[0] == '0' && len(name) > 1) {
		return 0, false
	}
	n := 0
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
