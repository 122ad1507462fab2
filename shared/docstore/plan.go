package docstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
	"unicode/utf8"
)

// Plan is a checked Query, in the terms an engine needs. The order of the range is Rest, then the id.
type Plan struct {
	Collection *Collection
	Index      *Index  // nil: the id's order
	Equal      []Key   // values of the first index fields
	Rest       []Field // the index fields after them
	Low, High  *Key    // of the first of Rest, or of the id when Rest is empty; nil is open
	After      []Key   // where to go on, exclusive: one key for each of Rest, then the id; nil at the start
	Descending bool
	IDsOnly    bool
	Limit      int // of the page

	mark uint32
}

// Plan checks a query against the schema. The errors are ErrCollection and ErrInvalid.
func (s *Schema) Plan(q Query) (Plan, error) {
	c, err := s.Collection(q.Collection)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Collection: c, Descending: q.Descending, IDsOnly: q.IDsOnly, Limit: q.Limit}
	if p.Limit <= 0 {
		p.Limit = DefaultLimit
	}
	if q.Index == "" {
		err = p.byID(q)
	} else {
		err = p.byIndex(q)
	}
	if err != nil {
		return Plan{}, err
	}
	p.mark = p.fingerprint()
	if q.Resume != "" {
		if p.After, err = p.parse(q.Resume); err != nil {
			return Plan{}, err
		}
	}
	return p, nil
}

func (p *Plan) byID(q Query) error {
	if q.Prefix != nil || q.Low != nil || q.High != nil {
		return fmt.Errorf("%w: a query in id order has From and To, not Prefix, Low or High", ErrInvalid)
	}
	for _, b := range []struct {
		s  string
		to **Key
	}{{q.From, &p.Low}, {q.To, &p.High}} {
		if b.s == "" {
			continue
		}
		k, err := keyFrom(b.s, Field{Name: FieldID, Kind: String})
		if err != nil {
			return err
		}
		*b.to = &k
	}
	return nil
}

func (p *Plan) byIndex(q Query) error {
	if q.From != "" || q.To != "" {
		return fmt.Errorf("%w: a query on an index has Prefix, Low and High, not From or To", ErrInvalid)
	}
	var err error
	if p.Index, err = p.Collection.index(q.Index); err != nil {
		return err
	}
	if len(q.Prefix) > len(p.Index.Fields) {
		return fmt.Errorf("%w: %d values for the %d fields of index %s", ErrInvalid, len(q.Prefix), len(p.Index.Fields), q.Index)
	}
	for i, v := range q.Prefix {
		k, err := keyFrom(v, p.Index.Fields[i])
		if err != nil {
			return err
		}
		p.Equal = append(p.Equal, k)
	}
	p.Rest = p.Index.Fields[len(q.Prefix):]
	next := Field{Name: FieldID, Kind: String}
	if len(p.Rest) > 0 {
		next = p.Rest[0]
	}
	for _, b := range []struct {
		v  any
		to **Key
	}{{q.Low, &p.Low}, {q.High, &p.High}} {
		if b.v == nil {
			continue
		}
		k, err := keyFrom(b.v, next)
		if err != nil {
			return err
		}
		*b.to = &k
	}
	return nil
}

func keyFrom(v any, f Field) (Key, error) {
	k := Key{Kind: f.Kind}
	ok := false
	switch f.Kind {
	case String:
		if k.S, ok = v.(string); ok && (!utf8.ValidString(k.S) || strings.IndexByte(k.S, 0) >= 0) {
			return Key{}, fmt.Errorf("%w: the value for %s is not UTF-8 or has a zero byte", ErrInvalid, f.Name)
		}
	case Int64:
		k.I, ok = v.(int64)
	case Time:
		var t time.Time
		if t, ok = v.(time.Time); ok {
			k.I = t.UnixMilli()
		}
	case Bool:
		var b bool
		if b, ok = v.(bool); b {
			k.I = 1
		}
	}
	if !ok {
		return Key{}, fmt.Errorf("%w: a %T given for %s, which is a %s", ErrInvalid, v, f.Name, f.Kind)
	}
	return k, nil
}

// tokenVersion is the first byte of a resume token; another one is refused.
const tokenVersion = 1

// Next makes the resume token that goes on after the document with these keys (one for each of Rest) and id.
func (p Plan) Next(keys []Key, id string) string {
	b := make([]byte, 0, 16+len(id))
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint32(b, p.mark)
	for _, k := range keys {
		b = appendKey(b, k)
	}
	b = appendKey(b, Key{Kind: String, S: id})
	return base64.RawURLEncoding.EncodeToString(b)
}

// parse reads a token that Next made for the same query. Tokens may come back from outside (an API's paging), so anything
// else is refused, and a position outside the range too.
func (p Plan) parse(token string) ([]Key, error) {
	bad := func(why string) error { return fmt.Errorf("%w: the resume token %s", ErrInvalid, why) }
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 5 || b[0] != tokenVersion {
		return nil, bad("is not one of ours")
	}
	if binary.BigEndian.Uint32(b[1:]) != p.mark {
		return nil, bad("belongs to another query")
	}
	b = b[5:]
	keys := make([]Key, 0, len(p.Rest)+1)
	for i := range len(p.Rest) + 1 {
		want := String
		if i < len(p.Rest) {
			want = p.Rest[i].Kind
		}
		k, rest, ok := readKey(b)
		if !ok || k.Kind != want {
			return nil, bad("is damaged")
		}
		keys, b = append(keys, k), rest
	}
	if len(b) != 0 || CheckID(keys[len(p.Rest)].S) != nil {
		return nil, bad("is damaged")
	}
	if p.Low != nil && keys[0].Compare(*p.Low) < 0 || p.High != nil && keys[0].Compare(*p.High) >= 0 {
		return nil, bad("is outside the range")
	}
	return keys, nil
}

func (p Plan) fingerprint() uint32 {
	h := fnv.New32a()
	b := append([]byte(nil), p.Collection.Name...)
	b = append(b, 0)
	if p.Index != nil {
		b = append(b, p.Index.Name...)
	}
	b = append(b, 0, byte(len(p.Equal)))
	for _, k := range p.Equal {
		b = appendKey(b, k)
	}
	for _, k := range []*Key{p.Low, p.High} {
		if k == nil {
			b = append(b, 0)
			continue
		}
		b = appendKey(b, *k)
	}
	if p.Descending {
		b = append(b, 1)
	}
	_, _ = h.Write(b)
	return h.Sum32()
}

func appendKey(b []byte, k Key) []byte {
	b = append(b, byte(k.Kind))
	if k.Kind == String {
		b = binary.AppendUvarint(b, uint64(len(k.S)))
		return append(b, k.S...)
	}
	return binary.AppendVarint(b, k.I)
}

func readKey(b []byte) (Key, []byte, bool) {
	if len(b) == 0 {
		return Key{}, nil, false
	}
	k := Key{Kind: Kind(b[0])}
	b = b[1:]
	switch k.Kind {
	case String:
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return Key{}, nil, false
		}
		k.S = string(b[w : w+int(n)])
		b = b[w+int(n):]
		if !utf8.ValidString(k.S) || strings.IndexByte(k.S, 0) >= 0 {
			return Key{}, nil, false
		}
	case Int64, Time, Bool:
		v, w := binary.Varint(b)
		if w <= 0 || k.Kind == Bool && v != 0 && v != 1 {
			return Key{}, nil, false
		}
		k.I, b = v, b[w:]
	default:
		return Key{}, nil, false
	}
	return k, b, true
}
