package docstore

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// FieldID and FieldRev are the names under which engines that store one flat document keep the id and the revision. No
// body may use them.
const (
	FieldID  = "_id"
	FieldRev = "_rev"
)

// MaxID is the longest id in bytes.
const MaxID = 512

// DefaultLimit is the page size of a scan that asks for none.
const DefaultLimit = 1000

// PageBytes bounds the bodies of one page: a page ends after the document that reaches it.
const PageBytes = 16 << 20

var (
	nameRule  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,59}$`)
	fieldRule = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,59}$`)
)

// Key is the normal form of an indexed value: strings in S, the rest in I (times as Unix milliseconds, true as 1). It
// exists so that engines need not repeat the checks of what callers pass as any.
type Key struct {
	Kind Kind
	S    string
	I    int64
}

// Compare orders two keys of one kind.
func (k Key) Compare(other Key) int {
	if k.Kind == String {
		return strings.Compare(k.S, other.S)
	}
	switch {
	case k.I < other.I:
		return -1
	case k.I > other.I:
		return 1
	}
	return 0
}

// Schema is the set of declared collections an engine knows. It is never changed: With gives a new one, so that engines
// can hand it between goroutines without locks.
type Schema struct {
	collections map[string]*Collection
}

// With returns a schema that has the given collections too. A collection already there gains the indexes it lacks; an
// index declared twice with different fields is an error.
func (s *Schema) With(collections []Collection) (*Schema, error) {
	out := &Schema{collections: map[string]*Collection{}}
	if s != nil {
		for n, c := range s.collections {
			out.collections[n] = c
		}
	}
	for _, c := range collections {
		merged, err := merge(out.collections[c.Name], c)
		if err != nil {
			return nil, err
		}
		for name := range out.collections {
			if name != c.Name && strings.EqualFold(name, c.Name) {
				return nil, fmt.Errorf("%w: collections %s and %s differ only in case", ErrInvalid, name, c.Name)
			}
		}
		out.collections[c.Name] = merged
	}
	return out, nil
}

func merge(have *Collection, want Collection) (*Collection, error) {
	if !nameRule.MatchString(want.Name) {
		return nil, fmt.Errorf("%w: collection name %q", ErrInvalid, want.Name)
	}
	out := &Collection{Name: want.Name}
	if have != nil {
		out.Indexes = slices.Clone(have.Indexes)
	}
	for _, ix := range want.Indexes {
		if !nameRule.MatchString(ix.Name) || len(ix.Fields) == 0 {
			return nil, fmt.Errorf("%w: index %q of %s needs a name and fields", ErrInvalid, ix.Name, want.Name)
		}
		if i := slices.IndexFunc(out.Indexes, func(h Index) bool { return h.Name == ix.Name }); i >= 0 {
			if h := out.Indexes[i]; h.Unique != ix.Unique || !slices.Equal(h.Fields, ix.Fields) {
				return nil, fmt.Errorf("%w: index %s of %s is declared with other fields; give the new one another name",
					ErrInvalid, ix.Name, want.Name)
			}
			continue
		}
		ix.Fields = slices.Clone(ix.Fields)
		out.Indexes = append(out.Indexes, ix)
	}
	kinds := map[string]Field{}
	for _, ix := range out.Indexes {
		for _, f := range ix.Fields {
			if !fieldRule.MatchString(f.Name) || f.Kind < String || f.Kind > Bool {
				return nil, fmt.Errorf("%w: field %q of index %s of %s", ErrInvalid, f.Name, ix.Name, want.Name)
			}
			low := strings.ToLower(f.Name)
			if h, ok := kinds[low]; ok && h != f {
				return nil, fmt.Errorf("%w: field %s of %s is declared in two ways", ErrInvalid, f.Name, want.Name)
			}
			kinds[low] = f
		}
	}
	return out, nil
}

// Collection returns a declared collection, or ErrCollection.
func (s *Schema) Collection(name string) (*Collection, error) {
	if s != nil {
		if c := s.collections[name]; c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrCollection, name)
}

// Collections lists what is declared, by name.
func (s *Schema) Collections() []Collection {
	if s == nil {
		return nil
	}
	out := make([]Collection, 0, len(s.collections))
	for _, c := range s.collections {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Collection) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// IndexFields lists every field that some index of the collection uses, once each, in the order of declaration.
func (c *Collection) IndexFields() []Field {
	var out []Field
	for _, ix := range c.Indexes {
		for _, f := range ix.Fields {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// index returns a declared index, or ErrCollection.
func (c *Collection) index(name string) (*Index, error) {
	for i := range c.Indexes {
		if c.Indexes[i].Name == name {
			return &c.Indexes[i], nil
		}
	}
	return nil, fmt.Errorf("%w: index %s of %s", ErrCollection, name, c.Name)
}

// CheckID refuses an id that some engine could not keep.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the id is empty", ErrInvalid)
	case len(id) > MaxID:
		return fmt.Errorf("%w: the id has %d bytes, at most %d are allowed", ErrInvalid, len(id), MaxID)
	case !utf8.ValidString(id) || strings.IndexByte(id, 0) >= 0:
		return fmt.Errorf("%w: the id %q is not UTF-8 or has a zero byte", ErrInvalid, id)
	}
	return nil
}

// CheckOp says whether an operation may be tried on the collection and, for the kinds with a body, returns the values of
// the given fields (the collection's IndexFields) in their order.
func CheckOp(op Op, fields []Field) ([]Key, error) {
	if err := CheckID(op.ID); err != nil {
		return nil, err
	}
	switch op.Kind {
	case Delete:
		return nil, nil
	case Insert, Put, Replace:
		return BodyKeys(op.Body, fields)
	}
	return nil, fmt.Errorf("%w: operation kind %d", ErrInvalid, op.Kind)
}

// BodyKeys checks a body (size, top-level names) and returns the values of the given fields.
func BodyKeys(body bson.Raw, fields []Field) ([]Key, error) {
	if len(body) > MaxDocument {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body))
	}
	if len(body) < 5 || int(binary.LittleEndian.Uint32(body)) != len(body) || body[len(body)-1] != 0 {
		return nil, fmt.Errorf("%w: the body is not BSON: %d bytes", ErrInvalid, len(body))
	}
	elements, err := body.Elements()
	if err != nil {
		return nil, fmt.Errorf("%w: the body is not BSON: %w", ErrInvalid, err)
	}
	var keys []Key
	if len(fields) > 0 {
		keys = make([]Key, len(fields))
	}
	for _, e := range elements {
		name, err := e.KeyErr()
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not BSON: %w", ErrInvalid, err)
		}
		if name == "" || name[0] == '$' || name == FieldID || name == FieldRev {
			return nil, fmt.Errorf("%w: a body must not have a field %q", ErrInvalid, name)
		}
		for i, f := range fields {
			if f.Name != name {
				continue
			}
			if keys[i].Kind != 0 {
				return nil, fmt.Errorf("%w: %s is there twice", ErrIndexField, name)
			}
			if keys[i], err = keyOf(e.Value(), f); err != nil {
				return nil, err
			}
		}
	}
	for i, k := range keys {
		if k.Kind == 0 {
			return nil, fmt.Errorf("%w: %s is missing", ErrIndexField, fields[i].Name)
		}
	}
	return keys, nil
}

func keyOf(v bson.RawValue, f Field) (Key, error) {
	k := Key{Kind: f.Kind}
	ok := false
	switch f.Kind {
	case String:
		if k.S, ok = v.StringValueOK(); ok && (!utf8.ValidString(k.S) || strings.IndexByte(k.S, 0) >= 0) {
			return Key{}, fmt.Errorf("%w: %s is not UTF-8 or has a zero byte", ErrIndexField, f.Name)
		}
	case Int64:
		k.I, ok = v.Int64OK()
	case Time:
		k.I, ok = v.DateTimeOK()
	case Bool:
		var b bool
		if b, ok = v.BooleanOK(); b {
			k.I = 1
		}
	}
	if !ok {
		return Key{}, fmt.Errorf("%w: %s is a %s", ErrIndexField, f.Name, v.Type)
	}
	return k, nil
}

// String names a kind.
func (k Kind) String() string {
	switch k {
	case String:
		return "string"
	case Int64:
		return "int64"
	case Time:
		return "time"
	case Bool:
		return "bool"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// String names an operation kind.
func (k OpKind) String() string {
	switch k {
	case Insert:
		return "insert"
	case Put:
		return "put"
	case Replace:
		return "replace"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("operation %d", int(k))
}
