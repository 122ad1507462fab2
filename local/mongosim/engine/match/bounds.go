package match

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// Bound is what a filter demands of the single value at a path, as far as an index can use it. The filter itself must
// still be asked: a bound only narrows.
type Bound struct {
	In        []bson.RawValue // the value is one of these, when not nil
	Low, High *bson.RawValue  // and not below or above these, inclusive
}

// Bounds lists by path what all matching documents have in common. Only values an index orders plainly count: numbers,
// strings, ids, dates, timestamps, binary data and booleans.
func (f *Filter) Bounds() map[string]Bound {
	out := map[string]Bound{}
	if f.coll == nil {
		collect(f.root, out)
	}
	return out
}

func plain(v bson.RawValue) bool {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64, bson.TypeString, bson.TypeObjectID, bson.TypeDateTime, bson.TypeTimestamp,
		bson.TypeBinary, bson.TypeBoolean:
		return true
	case bson.TypeDouble, bson.TypeDecimal128:
		return !isNaN(v)
	}
	return false
}

func collect(n node, out map[string]Bound) {
	switch n := n.(type) {
	case and:
		for _, k := range n {
			collect(k, out)
		}
	case or:
		if len(n) == 1 {
			collect(n[0], out)
		}
	case *pathNode:
		b := out[n.path]
		switch l := n.l.(type) {
		case *cmpLeaf:
			if !plain(l.v) {
				return
			}
			v := l.v
			switch l.op {
			case "$eq":
				b.In = []bson.RawValue{v}
			case "$gt", "$gte":
				if b.Low == nil || bsonval.Compare(v, *b.Low) > 0 {
					b.Low = &v
				}
			case "$lt", "$lte":
				if b.High == nil || bsonval.Compare(v, *b.High) < 0 {
					b.High = &v
				}
			}
		case *anyLeaf:
			if len(l.vals) != l.n || b.In != nil {
				return
			}
			for _, v := range l.vals {
				if !plain(v) {
					return
				}
			}
			b.In = append([]bson.RawValue{}, l.vals...)
		default:
			return
		}
		out[n.path] = b
	}
}

// Equalities lists what an upsert takes from the filter: paths that must equal one value.
func (f *Filter) Equalities() []bsonval.Elem {
	var out []bsonval.Elem
	var walk func(n node)
	walk = func(n node) {
		switch n := n.(type) {
		case and:
			for _, k := range n {
				walk(k)
			}
		case or:
			if len(n) == 1 {
				walk(n[0])
			}
		case *pathNode:
			switch l := n.l.(type) {
			case *cmpLeaf:
				if l.op == "$eq" {
					out = append(out, bsonval.Elem{Key: n.path, Value: l.v})
				}
			case *anyLeaf:
				if l.n == 1 && len(l.vals) == 1 {
					out = append(out, bsonval.Elem{Key: n.path, Value: l.vals[0]})
				}
			}
		}
	}
	walk(f.root)
	return out
}

// IDOnly gives the value when the filter is {_id: value} and nothing else.
func (f *Filter) IDOnly() (bson.RawValue, bool) {
	a, ok := f.root.(and)
	if !ok || len(a) != 1 {
		return bson.RawValue{}, false
	}
	p, ok := a[0].(*pathNode)
	if !ok || p.path != "_id" {
		return bson.RawValue{}, false
	}
	l, ok := p.l.(*cmpLeaf)
	if !ok || l.op != "$eq" {
		return bson.RawValue{}, false
	}
	return l.v, true
}
