// Package match understands filters: it parses a query document, refuses what a server refuses, and says whether a document
// matches, which array position matched first, and what an index could be used for. It owns no state.
package match

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/expr"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

const (
	badValue      = 2
	failedToParse = 9
)

// Filter is a parsed query.
type Filter struct {
	root node
	coll *bsonval.Collation
}

// Options change how a filter matches.
type Options struct {
	Collation *bsonval.Collation
	Now       time.Time
}

// hit is where in an array a filter matched: the position in the outermost array of the path.
type hit struct{ index int }

// node is one condition on a document.
type node interface {
	match(doc bson.Raw, h *hit) bool
}

// leaf is one condition on the values at a path.
type leaf interface {
	// test judges one value; ok is false for a path that leads nowhere.
	test(v bson.RawValue, ok bool) bool
	// whole says that only the value itself counts, not the members of an array.
	whole() bool
}

type parser struct {
	o Options
}

// Parse reads a query.
func Parse(doc bson.Raw, o *Options) (*Filter, error) {
	p := &parser{}
	if o != nil {
		p.o = *o
	}
	n, err := p.top(doc)
	if err != nil {
		return nil, err
	}
	return &Filter{root: n, coll: p.o.Collation}, nil
}

// Match says whether a document matches.
func (f *Filter) Match(doc bson.Raw) bool { return f.root.match(doc, nil) }

// MatchIndex is Match, and the array position the first array condition matched at, -1 when there was none.
func (f *Filter) MatchIndex(doc bson.Raw) (bool, int) {
	h := &hit{index: -1}
	ok := f.root.match(doc, h)
	return ok, h.index
}

// ParseCondition reads the operand of $pull or an array filter's value: conditions on one value given as {field: cond}.
func ParseCondition(v bson.RawValue, o *Options) (func(bson.RawValue) bool, error) {
	var b bsonval.Builder
	f, err := Parse(b.Value("v", v).Raw(), o)
	if err != nil {
		return nil, err
	}
	return func(x bson.RawValue) bool {
		var b bsonval.Builder
		return f.Match(b.Value("v", x).Raw())
	}, nil
}

func (p *parser) top(doc bson.Raw) (node, error) {
	var out and
	for k, v := range bsonval.Each(doc) {
		if !strings.HasPrefix(k, "$") {
			ns, err := p.field(k, v)
			if err != nil {
				return nil, err
			}
			out = append(out, ns...)
			continue
		}
		switch k {
		case "$and", "$or", "$nor":
			n, err := p.logical(k, v)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		case "$expr":
			out = append(out, &exprNode{v, p.o.Now})
		case "$comment":
		default:
			return nil, refuse.Errf(badValue, "unknown top level operator: %s", k)
		}
	}
	return out, nil
}

func (p *parser) logical(k string, v bson.RawValue) (node, error) {
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(badValue, "%s must be an array", k)
	}
	var kids []node
	for _, m := range bsonval.Each(bson.Raw(v.Value)) {
		if m.Type != bson.TypeEmbeddedDocument {
			return nil, refuse.Errf(badValue, "$or/$and/$nor entries need to be full objects")
		}
		n, err := p.top(bson.Raw(m.Value))
		if err != nil {
			return nil, err
		}
		kids = append(kids, n)
	}
	if len(kids) == 0 {
		return nil, refuse.Errf(badValue, "$and/$or/$nor must be a nonempty array")
	}
	switch k {
	case "$and":
		return and(kids), nil
	case "$or":
		return or(kids), nil
	}
	return not{or(kids)}, nil
}

// field reads {path: v}.
func (p *parser) field(path string, v bson.RawValue) ([]node, error) {
	if v.Type == bson.TypeRegex {
		re, err := compileRegex(v.Regex())
		if err != nil {
			return nil, err
		}
		return []node{&pathNode{path, &regexLeaf{re: re, same: v}}}, nil
	}
	if v.Type == bson.TypeEmbeddedDocument {
		first := bsonval.FirstKey(bson.Raw(v.Value))
		if strings.HasPrefix(first, "$") && first != "$ref" && first != "$id" && first != "$db" {
			return p.operators(path, bson.Raw(v.Value))
		}
	}
	return []node{&pathNode{path, &cmpLeaf{"$eq", v, p.o.Collation}}}, nil
}

func (p *parser) operators(path string, doc bson.Raw) ([]node, error) {
	var out []node
	add := func(l leaf) { out = append(out, &pathNode{path, l}) }
	for k, v := range bsonval.Each(doc) {
		switch k {
		case "$eq", "$gt", "$gte", "$lt", "$lte", "$ne":
			if v.Type == bson.TypeRegex && k != "$eq" {
				if k == "$ne" {
					return nil, refuse.Errf(badValue, "Can't have regex as arg to $ne.")
				}
				return nil, refuse.Errf(badValue, "Can't have RegEx as arg to predicate over field '%s'.", path)
			}
			if k == "$ne" {
				out = append(out, not{&pathNode{path, &cmpLeaf{"$eq", v, p.o.Collation}}})
				continue
			}
			add(&cmpLeaf{k, v, p.o.Collation})
		case "$in", "$nin":
			l, err := p.in(k, v)
			if err != nil {
				return nil, err
			}
			if k == "$nin" {
				out = append(out, not{&pathNode{path, l}})
			} else {
				add(l)
			}
		case "$exists":
			n := node(&pathNode{path, existsLeaf{}})
			if !bsonval.Truthy(v) {
				n = not{n}
			}
			out = append(out, n)
		case "$type":
			l, err := parseType(v)
			if err != nil {
				return nil, err
			}
			add(l)
		case "$size":
			n, err := parseSize(v)
			if err != nil {
				return nil, err
			}
			add(sizeLeaf(n))
		case "$mod":
			l, err := parseMod(v)
			if err != nil {
				return nil, err
			}
			add(l)
		case "$regex":
			pat, opts := bsonval.Str(v), ""
			if v.Type == bson.TypeRegex {
				pat, opts = v.Regex()
			} else if v.Type != bson.TypeString {
				return nil, refuse.Errf(badValue, "$regex has to be a string")
			}
			if o, ok := bsonval.Lookup(doc, "$options"); ok {
				opts = bsonval.Str(o)
			}
			re, err := compileRegex(pat, opts)
			if err != nil {
				return nil, err
			}
			add(&regexLeaf{re: re, same: regexValue(pat, opts)})
		case "$options":
			if _, ok := bsonval.Lookup(doc, "$regex"); !ok {
				return nil, refuse.Errf(badValue, "$options needs a $regex")
			}
		case "$not":
			n, err := p.not(path, v)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		case "$all":
			n, err := p.all(path, v)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		case "$elemMatch":
			l, err := p.elemMatch(v)
			if err != nil {
				return nil, err
			}
			add(l)
		case "$bitsAllSet", "$bitsAnySet", "$bitsAllClear", "$bitsAnyClear":
			l, err := parseBits(k, v)
			if err != nil {
				return nil, err
			}
			add(l)
		case "$comment":
		default:
			return nil, refuse.Errf(badValue, "unknown operator: %s", k)
		}
	}
	return out, nil
}

func (p *parser) not(path string, v bson.RawValue) (node, error) {
	switch v.Type {
	case bson.TypeRegex:
		ns, err := p.field(path, v)
		if err != nil {
			return nil, err
		}
		return not{and(ns)}, nil
	case bson.TypeEmbeddedDocument:
		if bsonval.FirstKey(bson.Raw(v.Value)) == "" {
			return nil, refuse.Errf(badValue, "$not cannot be empty")
		}
		ns, err := p.operators(path, bson.Raw(v.Value))
		if err != nil {
			return nil, err
		}
		return not{and(ns)}, nil
	}
	return nil, refuse.Errf(badValue, "$not needs a regex or a document")
}

func (p *parser) in(op string, v bson.RawValue) (leaf, error) {
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(badValue, "%s needs an array", op)
	}
	out := anyLeaf{coll: p.o.Collation}
	for _, m := range bsonval.Each(bson.Raw(v.Value)) {
		if m.Type == bson.TypeRegex {
			re, err := compileRegex(m.Regex())
			if err != nil {
				return nil, err
			}
			out.leaves = append(out.leaves, &regexLeaf{re: re, same: m})
			continue
		}
		if m.Type == bson.TypeEmbeddedDocument && strings.HasPrefix(bsonval.FirstKey(bson.Raw(m.Value)), "$") {
			return nil, refuse.Errf(badValue, "cannot nest $ under %s", op)
		}
		out.leaves = append(out.leaves, &cmpLeaf{"$eq", m, p.o.Collation})
		out.vals = append(out.vals, m)
	}
	out.n = len(out.leaves)
	out.index()
	return &out, nil
}

func (p *parser) all(path string, v bson.RawValue) (node, error) {
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(badValue, "$all needs an array")
	}
	var out and
	for _, m := range bsonval.Each(bson.Raw(v.Value)) {
		if m.Type == bson.TypeEmbeddedDocument {
			if e, ok := bsonval.Lookup(bson.Raw(m.Value), "$elemMatch"); ok {
				l, err := p.elemMatch(e)
				if err != nil {
					return nil, err
				}
				out = append(out, &pathNode{path, l})
				continue
			}
		}
		if m.Type == bson.TypeRegex {
			ns, err := p.field(path, m)
			if err != nil {
				return nil, err
			}
			out = append(out, ns...)
			continue
		}
		out = append(out, &pathNode{path, &cmpLeaf{"$eq", m, p.o.Collation}})
	}
	if len(out) == 0 {
		return never{}, nil
	}
	return out, nil
}

func (p *parser) elemMatch(v bson.RawValue) (leaf, error) {
	if v.Type != bson.TypeEmbeddedDocument {
		return nil, refuse.Errf(badValue, "$elemMatch needs an Object")
	}
	doc := bson.Raw(v.Value)
	first := bsonval.FirstKey(doc)
	if strings.HasPrefix(first, "$") && first != "$and" && first != "$or" && first != "$nor" && first != "$expr" {
		ns, err := p.operators("v", doc)
		if err != nil {
			return nil, err
		}
		return &elemLeaf{values: and(ns)}, nil
	}
	n, err := p.top(doc)
	if err != nil {
		return nil, err
	}
	return &elemLeaf{docs: n}, nil
}

// --- nodes ---

type and []node

func (a and) match(doc bson.Raw, h *hit) bool {
	for _, n := range a {
		if !n.match(doc, h) {
			return false
		}
	}
	return true
}

type or []node

func (o or) match(doc bson.Raw, h *hit) bool {
	for _, n := range o {
		if n.match(doc, h) {
			return true
		}
	}
	return false
}

type not struct{ n node }

func (n not) match(doc bson.Raw, _ *hit) bool { return !n.n.match(doc, nil) }

type never struct{}

func (never) match(bson.Raw, *hit) bool { return false }

type exprNode struct {
	e   bson.RawValue
	now time.Time
}

func (n *exprNode) match(doc bson.Raw, _ *hit) bool {
	v, err := expr.Eval(n.e, &expr.Env{Root: doc, Now: n.now})
	return err == nil && bsonval.Truthy(v)
}

type pathNode struct {
	path string
	l    leaf
}

func (n *pathNode) match(doc bson.Raw, h *hit) bool {
	found := -1
	ok := walk(bsonval.Doc(doc), n.path, -1, n.l.whole(), func(v bson.RawValue, exists bool, at int) bool {
		if n.l.test(v, exists) {
			found = at
			return true
		}
		return false
	})
	if ok && h != nil {
		if e, is := n.l.(*elemLeaf); is {
			found = e.find(doc, n.path)
		}
		if found >= 0 {
			h.index = found
		}
	}
	return ok
}

// walk offers the values at a path to yield until it says true. Arrays on the way are entered: each member that is a document
// is followed, and a number in the path is a position too. An array at the end offers its members, then itself. at is the
// position within the first array entered.
func walk(v bson.RawValue, path string, at int, whole bool, yield func(v bson.RawValue, exists bool, at int) bool) bool {
	name, rest, more := strings.Cut(path, ".")
	x, ok := bsonval.Lookup(bson.Raw(v.Value), name)
	if !ok {
		return yield(bson.RawValue{}, false, at)
	}
	if !more {
		return end(x, at, whole, yield)
	}
	return into(x, rest, at, whole, yield)
}

func end(x bson.RawValue, at int, whole bool, yield func(bson.RawValue, bool, int) bool) bool {
	if x.Type == bson.TypeArray && !whole {
		i := 0
		for _, m := range bsonval.Each(bson.Raw(x.Value)) {
			pos := at
			if pos < 0 {
				pos = i
			}
			if yield(m, true, pos) {
				return true
			}
			i++
		}
	}
	return yield(x, true, at)
}

func into(x bson.RawValue, path string, at int, whole bool, yield func(bson.RawValue, bool, int) bool) bool {
	switch x.Type {
	case bson.TypeEmbeddedDocument:
		return walk(x, path, at, whole, yield)
	case bson.TypeArray:
	default:
		return yield(bson.RawValue{}, false, at)
	}
	name, rest, more := strings.Cut(path, ".")
	index := -1
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		index = n
	}
	i := 0
	for _, m := range bsonval.Each(bson.Raw(x.Value)) {
		pos := at
		if pos < 0 {
			pos = i
		}
		if i == index {
			if !more {
				if end(m, pos, whole, yield) {
					return true
				}
			} else if (m.Type == bson.TypeEmbeddedDocument || m.Type == bson.TypeArray) && into(m, rest, pos, whole, yield) {
				return true
			}
		}
		switch {
		case m.Type == bson.TypeEmbeddedDocument:
			if index >= 0 { // a name that happens to be a number counts only where it exists
				if _, ok := bsonval.Lookup(bson.Raw(m.Value), name); !ok {
					break
				}
			}
			if walk(m, path, pos, whole, yield) {
				return true
			}
		case path == "": // "a." reaches the members of an array, as on a server
			if yield(m, true, pos) {
				return true
			}
		}
		i++
	}
	return false
}

// --- leaves ---

type cmpLeaf struct {
	op   string
	v    bson.RawValue
	coll *bsonval.Collation
}

func (l *cmpLeaf) whole() bool { return false }

func isNull(v bson.RawValue) bool { return v.Type == bson.TypeNull || v.Type == bson.TypeUndefined }

func isNaN(v bson.RawValue) bool {
	if v.Type != bson.TypeDouble && v.Type != bson.TypeDecimal128 {
		return false
	}
	f, _ := bsonval.Float(v)
	return math.IsNaN(f)
}

func (l *cmpLeaf) test(v bson.RawValue, ok bool) bool {
	w := l.v
	if !ok {
		switch {
		case isNull(w):
			return l.op == "$eq" || l.op == "$gte" || l.op == "$lte"
		case w.Type == bson.TypeMinKey:
			return l.op == "$gt" || l.op == "$gte"
		case w.Type == bson.TypeMaxKey:
			return l.op == "$lt" || l.op == "$lte"
		}
		return false
	}
	if isNull(w) && isNull(v) {
		return l.op == "$eq" || l.op == "$gte" || l.op == "$lte"
	}
	if !bsonval.SameBracket(v, w) && w.Type != bson.TypeMinKey && w.Type != bson.TypeMaxKey {
		return false
	}
	if bsonval.IsNumber(w) && (isNaN(v) || isNaN(w)) && (isNaN(v) != isNaN(w) || l.op == "$gt" || l.op == "$lt") {
		return false // not a number is beside all others, not before or after them
	}
	c := bsonval.CompareWith(v, w, l.coll)
	switch l.op {
	case "$eq":
		return c == 0
	case "$gt":
		return c > 0
	case "$gte":
		return c >= 0
	case "$lt":
		return c < 0
	}
	return c <= 0
}

type anyLeaf struct {
	leaves []leaf // one of which must match
	vals   []bson.RawValue
	n      int // how many the filter named, vals and others
	// keys are the vals that are found by their key, which are all but a few kinds; leaves has only the rest then. Nil: all
	// are in leaves.
	keys map[string]struct{}
	coll *bsonval.Collation
}

// manyValues is how many values make it worth while to look one up instead of comparing with each.
const manyValues = 8

// keyed says that equality with the value is equality of keys.
func keyed(v bson.RawValue) bool { return !isNull(v) && !isNaN(v) }

// index makes keys of the values when there are many.
func (l *anyLeaf) index() {
	if len(l.vals) < manyValues {
		return
	}
	l.keys = make(map[string]struct{}, len(l.vals))
	rest := l.leaves[:0:0]
	for _, x := range l.leaves {
		if c, ok := x.(*cmpLeaf); ok && keyed(c.v) {
			l.keys[string(bsonval.AppendKey(nil, c.v, l.coll))] = struct{}{}
		} else {
			rest = append(rest, x)
		}
	}
	l.leaves = rest
}

func (l *anyLeaf) whole() bool { return false }

func (l *anyLeaf) test(v bson.RawValue, ok bool) bool {
	if l.keys != nil && ok && keyed(v) {
		if _, has := l.keys[string(bsonval.AppendKey(nil, v, l.coll))]; has {
			return true
		}
	}
	for _, x := range l.leaves {
		if x.test(v, ok) {
			return true
		}
	}
	return false
}

type existsLeaf struct{}

func (existsLeaf) whole() bool                        { return true }
func (existsLeaf) test(_ bson.RawValue, ok bool) bool { return ok }

type typeLeaf struct {
	number bool
	types  []bson.Type
}

func (l *typeLeaf) whole() bool { return false }

func (l *typeLeaf) test(v bson.RawValue, ok bool) bool {
	if !ok {
		return false
	}
	if l.number && bsonval.IsNumber(v) {
		return true
	}
	for _, t := range l.types {
		if t == v.Type {
			return true
		}
	}
	return false
}

func parseType(v bson.RawValue) (leaf, error) {
	l := &typeLeaf{}
	vs := []bson.RawValue{v}
	if v.Type == bson.TypeArray {
		if vs = bsonval.Values(bson.Raw(v.Value)); len(vs) == 0 {
			return nil, refuse.Errf(failedToParse, "v must match at least one type")
		}
	}
	for _, x := range vs {
		if x.Type == bson.TypeString {
			if bsonval.Str(x) == "number" {
				l.number = true
				continue
			}
			t, ok := bsonval.TypeByName(bsonval.Str(x))
			if !ok {
				return nil, refuse.Errf(badValue, "Unknown type name alias: %s", bsonval.Str(x))
			}
			l.types = append(l.types, t)
			continue
		}
		n, ok := bsonval.Whole(x)
		if !ok {
			return nil, refuse.Errf(14, "type must be represented as a number or a string")
		}
		switch {
		case n == -1:
			l.types = append(l.types, bson.TypeMinKey)
		case n >= 1 && n <= 19, n == 127:
			l.types = append(l.types, bson.Type(n))
		default:
			return nil, refuse.Errf(badValue, "Invalid numerical type code: %d", n)
		}
	}
	return l, nil
}

type sizeLeaf int64

func (sizeLeaf) whole() bool { return true }

func (l sizeLeaf) test(v bson.RawValue, _ bool) bool {
	if v.Type != bson.TypeArray {
		return false
	}
	n := int64(0)
	for range bsonval.Each(bson.Raw(v.Value)) {
		n++
	}
	return n == int64(l)
}

func parseSize(v bson.RawValue) (int64, error) {
	if !bsonval.IsNumber(v) {
		return 0, refuse.Errf(badValue, "$size needs a number")
	}
	n, ok := bsonval.Whole(v)
	if !ok {
		return 0, refuse.Errf(badValue, "$size must be a whole number")
	}
	if n < 0 {
		return 0, refuse.Errf(badValue, "$size may not be negative")
	}
	return n, nil
}

type modLeaf struct{ by, rest int64 }

func (modLeaf) whole() bool { return false }

func (l modLeaf) test(v bson.RawValue, ok bool) bool {
	if !ok || !bsonval.IsNumber(v) || isNaN(v) {
		return false
	}
	if f, _ := bsonval.Float(v); math.IsInf(f, 0) {
		return false
	}
	n, _ := bsonval.Integer(v)
	return l.by == -1 && l.rest == 0 || l.by != -1 && n%l.by == l.rest
}

func parseMod(v bson.RawValue) (leaf, error) {
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(badValue, "malformed mod, needs to be an array")
	}
	vs := bsonval.Values(bson.Raw(v.Value))
	if len(vs) < 2 {
		return nil, refuse.Errf(badValue, "malformed mod, not enough elements")
	}
	if len(vs) > 2 {
		return nil, refuse.Errf(badValue, "malformed mod, too many elements")
	}
	if !bsonval.IsNumber(vs[0]) || !bsonval.IsNumber(vs[1]) {
		return nil, refuse.Errf(badValue, "malformed mod, divisor not a number")
	}
	by, _ := bsonval.Integer(vs[0])
	rest, _ := bsonval.Integer(vs[1])
	if by == 0 {
		return nil, refuse.Errf(badValue, "divisor cannot be 0")
	}
	return modLeaf{by, rest}, nil
}

type regexLeaf struct {
	re   *regexp.Regexp
	same bson.RawValue
}

func (l *regexLeaf) whole() bool { return false }

func (l *regexLeaf) test(v bson.RawValue, ok bool) bool {
	switch {
	case !ok:
		return false
	case v.Type == bson.TypeString || v.Type == bson.TypeSymbol:
		return l.re.MatchString(bsonval.Str(v))
	}
	return bsonval.Same(v, l.same)
}

func regexValue(pat, opts string) bson.RawValue {
	b := append([]byte(pat), 0)
	b = append(b, opts...)
	return bson.RawValue{Type: bson.TypeRegex, Value: append(b, 0)}
}

func compileRegex(pat, opts string) (*regexp.Regexp, error) {
	flags := ""
	for _, o := range opts {
		switch o {
		case 'i', 'm', 's':
			flags += string(o)
		case 'x', 'u', 'l':
		default:
			return nil, refuse.Errf(51108, "invalid flag in regex options: %c", o)
		}
	}
	if flags != "" {
		pat = "(?" + flags + ")" + pat
	}
	re, err := regexp.Compile(pat)
	if err != nil {
		return nil, refuse.Errf(51091, "Regular expression is invalid: %v", err)
	}
	return re, nil
}

// elemLeaf is $elemMatch: over documents, or over values wrapped as {v: value}.
type elemLeaf struct {
	docs   node
	values node
}

func (l *elemLeaf) whole() bool { return true }

func (l *elemLeaf) test(v bson.RawValue, _ bool) bool { return l.position(v) >= 0 }

func (l *elemLeaf) position(v bson.RawValue) int {
	if v.Type != bson.TypeArray {
		return -1
	}
	i := 0
	for _, m := range bsonval.Each(bson.Raw(v.Value)) {
		if l.docs != nil {
			if (m.Type == bson.TypeEmbeddedDocument || m.Type == bson.TypeArray) && l.docs.match(bson.Raw(m.Value), nil) {
				return i
			}
		} else {
			var b bsonval.Builder
			if l.values.match(b.Value("v", m).Raw(), nil) {
				return i
			}
		}
		i++
	}
	return -1
}

// find gives the position of the first matching member of the first array at the path that has one.
func (l *elemLeaf) find(doc bson.Raw, path string) int {
	out := -1
	walk(bsonval.Doc(doc), path, -1, true, func(v bson.RawValue, _ bool, at int) bool {
		p := l.position(v)
		if p < 0 {
			return false
		}
		if out = p; at >= 0 {
			out = at
		}
		return true
	})
	return out
}

type bitsLeaf struct {
	op   string
	bits []int64
}

func (l *bitsLeaf) whole() bool { return false }

func (l *bitsLeaf) test(v bson.RawValue, _ bool) bool {
	var bit func(n int64) bool
	if n, ok := bsonval.Whole(v); ok {
		bit = func(i int64) bool { return n>>min(i, 63)&1 == 1 }
	} else if _, data, ok := v.BinaryOK(); ok {
		bit = func(i int64) bool { return i/8 < int64(len(data)) && data[i/8]>>(i%8)&1 == 1 }
	} else {
		return false
	}
	all, some := true, false
	want := strings.HasSuffix(l.op, "Set")
	for _, i := range l.bits {
		if bit(i) == want {
			some = true
		} else {
			all = false
		}
	}
	if strings.HasPrefix(l.op, "$bitsAll") {
		return all
	}
	return some
}

func parseBits(op string, v bson.RawValue) (leaf, error) {
	l := &bitsLeaf{op: op}
	if v.Type == bson.TypeArray {
		for _, m := range bsonval.Each(bson.Raw(v.Value)) {
			n, ok := bsonval.Whole(m)
			if !ok || n < 0 {
				return nil, refuse.Errf(badValue, "Failed to parse bit position. Expected a non-negative number in: %s", bsonval.Format(m))
			}
			l.bits = append(l.bits, n)
		}
		return l, nil
	}
	if _, data, ok := v.BinaryOK(); ok {
		for i := range int64(len(data) * 8) {
			if data[i/8]>>(i%8)&1 == 1 {
				l.bits = append(l.bits, i)
			}
		}
		return l, nil
	}
	n, ok := bsonval.Whole(v)
	if !ok || n < 0 {
		return nil, refuse.Errf(failedToParse, "Expected a non-negative number in: %s: %s", op, bsonval.Format(v))
	}
	for i := range int64(63) {
		if n>>i&1 == 1 {
			l.bits = append(l.bits, i)
		}
	}
	return l, nil
}
