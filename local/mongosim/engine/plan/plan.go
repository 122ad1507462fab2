// Package plan finds the documents of a collection that match a filter, through an index where one helps. It decides and
// walks; it changes nothing and owns no state. Its choice is never visible in results, only in how much was looked at.
package plan

import (
	"encoding/binary"
	"iter"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Query is what to find.
type Query struct {
	Filter *match.Filter
	Sort   *agg.Sort
	Skip   int64
	Limit  int64           // 0 is all
	Hint   *store.Index    // use this index when it can be used
	Min    []bson.RawValue // with Hint: from this key on
	Max    []bson.RawValue // with Hint: below this key
	Coll   *bsonval.Collation
	Until  int64 // look at no record beyond this id; 0 is no bound
}

// Found is what was found and how much was looked at.
type Found struct {
	RIDs                         []int64
	Docs                         []bson.Raw
	Keys, Scanned                int64
	CollectionScan, InMemorySort bool
}

// span is a range of index keys: [low, high).
type span struct{ low, high string }

type choice struct {
	index  *store.Index
	spans  []span
	desc   bool
	sorted bool
	score  int
}

// Scans says that a query walks the collection itself, in its natural order.
func Scans(c *store.Collection, q Query) bool { return choose(c, q) == nil }

// Run finds the documents.
func Run(c *store.Collection, q Query) Found {
	var f Found
	best := choose(c, q)
	sorted := q.Sort.Empty() || (best != nil && best.sorted)
	var src iter.Seq2[int64, bson.Raw]
	if best != nil {
		best.index.Accesses.Add(1)
		src = best.walk(c, &f)
	} else {
		f.CollectionScan = true
		src = scan(c, q)
		if q.Sort != nil && q.Sort.Natural != 0 && len(q.Sort.Fields) == 0 {
			sorted = true
		}
	}
	need := int64(-1)
	if sorted && q.Limit > 0 {
		need = q.Skip + q.Limit
	}
	for rid, doc := range src {
		if q.Until > 0 && rid > q.Until {
			continue
		}
		f.Scanned++
		if !q.Filter.Match(doc) {
			continue
		}
		f.RIDs = append(f.RIDs, rid)
		f.Docs = append(f.Docs, doc)
		if need >= 0 && int64(len(f.RIDs)) >= need {
			break
		}
	}
	if !sorted {
		f.InMemorySort = true
		f.sort(q.Sort, q.Coll)
	}
	from := min(q.Skip, int64(len(f.RIDs)))
	to := int64(len(f.RIDs))
	if q.Limit > 0 {
		to = min(to, from+q.Limit)
	}
	f.RIDs, f.Docs = f.RIDs[from:to], f.Docs[from:to]
	return f
}

func (f *Found) sort(s *agg.Sort, c *bsonval.Collation) {
	type row struct {
		key string
		i   int
	}
	rows := make([]row, len(f.Docs))
	for i, d := range f.Docs {
		rows[i] = row{s.Key(d, c), i}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.key, b.key) })
	rids, docs := make([]int64, len(rows)), make([]bson.Raw, len(rows))
	for i, r := range rows {
		rids[i], docs[i] = f.RIDs[r.i], f.Docs[r.i]
	}
	f.RIDs, f.Docs = rids, docs
}

// scan walks a collection in the order of insertion; in the oplog it starts at the ts the filter asks for.
func scan(c *store.Collection, q Query) iter.Seq2[int64, bson.Raw] {
	if q.Sort != nil && q.Sort.Natural < 0 {
		if q.Until > 0 {
			return c.Records.Descend(q.Until)
		}
		return c.Records.Descend(1<<63 - 1)
	}
	from := int64(0)
	if c.NS == store.OplogNS {
		if low := q.Filter.Bounds()["ts"].Low; low != nil && low.Type == bson.TypeTimestamp {
			from = int64(binary.LittleEndian.Uint64(low.Value))
		}
	}
	return c.Records.Ascend(from)
}

func choose(c *store.Collection, q Query) *choice {
	if q.Sort != nil && q.Sort.Natural != 0 {
		return nil
	}
	bounds := q.Filter.Bounds()
	if q.Hint != nil && (q.Min != nil || q.Max != nil) {
		return between(q)
	}
	var best *choice
	for _, x := range c.Indexes {
		if !usable(x, q) {
			continue
		}
		ch := consider(x, bounds, q)
		if q.Hint == x {
			return ch
		}
		if ch.score > 0 && (best == nil || ch.score > best.score) {
			best = ch
		}
	}
	if q.Hint != nil {
		return nil
	}
	return best
}

func usable(x *store.Index, q Query) bool {
	return !x.Special && !x.Multikey && x.Partial == nil && !x.Sparse && sameCollation(x.Coll, q.Coll) && len(x.Fields) > 0
}

func sameCollation(a, b *bsonval.Collation) bool { return a == b || a != nil && b != nil && *a == *b }

func consider(x *store.Index, bounds map[string]match.Bound, q Query) *choice {
	ch := &choice{index: x}
	var prefix []byte
	eqs := 0
	for eqs < len(x.Fields) {
		b, ok := bounds[x.Fields[eqs].Path]
		if !ok || len(b.In) != 1 {
			break
		}
		prefix = store.AppendField(prefix, b.In[0], x.Fields[eqs].Desc, x.Coll)
		eqs++
	}
	ch.score = 4 * eqs
	ch.spans = []span{{string(prefix), string(prefix) + "\xff"}}
	points := false
	if eqs < len(x.Fields) {
		if b, ok := bounds[x.Fields[eqs].Path]; ok && (b.In != nil || b.Low != nil || b.High != nil) {
			ch.score += 2
			points = b.In != nil
			ch.spans = spansOf(prefix, b, x.Fields[eqs].Desc, x.Coll)
		}
	}
	if q.Sort.Empty() {
		return ch
	}
	ch.sorted, ch.desc = order(x.Fields[eqs:], q.Sort.Fields, bounds)
	if points && len(ch.spans) > 1 {
		ch.sorted = false
	}
	if ch.sorted {
		ch.score += 3
	}
	return ch
}

// order says whether walking the fields gives the sort order, and whether backwards.
func order(fields, sort []store.IndexField, bounds map[string]match.Bound) (sorted, desc bool) {
	i := 0
	for _, s := range sort {
		if len(bounds[s.Path].In) == 1 {
			continue // the same in all that match
		}
		if i >= len(fields) || fields[i].Path != s.Path {
			return false, false
		}
		d := fields[i].Desc != s.Desc
		if i == 0 {
			desc = d
		} else if d != desc {
			return false, false
		}
		i++
	}
	return true, desc
}

func spansOf(prefix []byte, b match.Bound, desc bool, c *bsonval.Collation) []span {
	part := func(v bson.RawValue) string {
		return string(store.AppendField(slices.Clone(prefix), v, desc, c))
	}
	if b.In != nil {
		var out []span
		for _, v := range b.In {
			k := part(v)
			out = append(out, span{k, k + "\xff"})
		}
		slices.SortFunc(out, func(x, y span) int { return strings.Compare(x.low, y.low) })
		return slices.CompactFunc(out, func(x, y span) bool { return x.low == y.low })
	}
	some := b.Low
	if some == nil {
		some = b.High
	}
	low, high := bsonval.Bracket(*some)
	if desc { // inverted bytes turn the range around
		low, high = string([]byte{^low[0]}), string([]byte{^low[0] + 1})
	}
	s := span{string(prefix) + low, string(prefix) + high}
	first, last := b.Low, b.High
	if desc {
		first, last = last, first
	}
	if first != nil && bsonval.SameBracket(*first, *some) {
		s.low = part(*first)
	}
	if last != nil && bsonval.SameBracket(*last, *some) {
		s.high = part(*last) + "\xff"
	}
	return []span{s}
}

// between is the range of a hinted index given by min and max.
func between(q Query) *choice {
	key := func(vs []bson.RawValue) string {
		var b []byte
		for i, v := range vs {
			if i < len(q.Hint.Fields) {
				b = store.AppendField(b, v, q.Hint.Fields[i].Desc, nil)
			}
		}
		return string(b)
	}
	s := span{"", "\xff"}
	if q.Min != nil {
		s.low = key(q.Min)
	}
	if q.Max != nil {
		s.high = key(q.Max)
	}
	return &choice{index: q.Hint, spans: []span{s}}
}

func (ch *choice) walk(c *store.Collection, f *Found) iter.Seq2[int64, bson.Raw] {
	return func(yield func(int64, bson.Raw) bool) {
		for _, s := range ch.spans {
			src := ch.index.Entries.Ascend(s.low)
			if ch.desc {
				src = ch.index.Entries.Descend(s.high)
			}
			for k, rid := range src {
				if (!ch.desc && k >= s.high) || (ch.desc && k < s.low) {
					break
				}
				f.Keys++
				doc, ok := c.Records.Get(rid)
				if ok && !yield(rid, doc) {
					return
				}
			}
		}
	}
}
