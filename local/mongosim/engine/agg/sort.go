// Package agg shapes and folds documents: sort orders, projections, and the pipeline stages our own programs and tests use.
// Stages that need more than the documents handed to them ($collStats and its like) are the engine's. It owns no state.
package agg

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Sort is a parsed sort order.
type Sort struct {
	Fields  []store.IndexField
	Natural int // 1 or -1 for {$natural: ...}, else 0
}

// ParseSort reads a sort document.
func ParseSort(doc bson.Raw) (*Sort, error) {
	s := &Sort{}
	for k, v := range bsonval.Each(doc) {
		if k == "$natural" {
			n, _ := bsonval.Integer(v)
			if n != 1 && n != -1 {
				return nil, refuse.Errf(2, "$natural sort cannot be set to a value other than -1 or 1.")
			}
			s.Natural = int(n)
			continue
		}
		if !bsonval.IsNumber(v) {
			return nil, refuse.Errf(15974, "Illegal key in $sort specification: %s", bsonval.FormatElem(k, v))
		}
		n, ok := bsonval.Whole(v)
		if !ok || (n != 1 && n != -1) {
			return nil, refuse.Errf(15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
		}
		if k == "" || strings.HasPrefix(k, ".") || strings.HasSuffix(k, ".") {
			return nil, refuse.Errf(40353, "FieldPath must not end with a '.'.")
		}
		s.Fields = append(s.Fields, store.IndexField{Path: k, Desc: n < 0})
	}
	return s, nil
}

// Empty says that the order is any.
func (s *Sort) Empty() bool { return s == nil || (len(s.Fields) == 0 && s.Natural == 0) }

// Key makes a byte string by which documents order; under an array the least member counts, or the greatest when descending.
func (s *Sort) Key(doc bson.Raw, c *bsonval.Collation) string {
	var b []byte
	for _, f := range s.Fields {
		vals, _, _ := store.PathValues(doc, f.Path)
		best := vals[0]
		for _, v := range vals[1:] {
			k := bsonval.CompareWith(v, best, c)
			if (f.Desc && k > 0) || (!f.Desc && k < 0) {
				best = v
			}
		}
		b = store.AppendField(b, best, f.Desc, c)
	}
	return string(b)
}

// Docs orders documents; equal ones keep their order.
func (s *Sort) Docs(docs []bson.Raw, c *bsonval.Collation) {
	if len(s.Fields) == 0 {
		return
	}
	type keyed struct {
		key string
		doc bson.Raw
	}
	ks := make([]keyed, len(docs))
	for i, d := range docs {
		ks[i] = keyed{s.Key(d, c), d}
	}
	slices.SortStableFunc(ks, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	for i := range ks {
		docs[i] = ks[i].doc
	}
}
