// Package expr evaluates aggregation expressions over one document: field paths, literals and the operators that
// pipelines, $expr and computed projections of our own programs and tests use. Other operators are refused as unknown
// ones are. It owns no state.
package expr

import (
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// Env is what an expression can see.
type Env struct {
	Root bson.Raw
	Now  time.Time
	Vars map[string]bson.RawValue
}

// Missing is the value of a path that leads nowhere.
var missing = bson.RawValue{}

// IsMissing says whether an expression gave nothing, as a path to an absent field does.
func IsMissing(v bson.RawValue) bool { return v.Type == 0 }

func nullish(v bson.RawValue) bool {
	return v.Type == 0 || v.Type == bson.TypeNull || v.Type == bson.TypeUndefined
}

// Eval evaluates an expression.
func Eval(e bson.RawValue, env *Env) (bson.RawValue, error) {
	switch e.Type {
	case bson.TypeString:
		s := bsonval.Str(e)
		switch {
		case strings.HasPrefix(s, "$$"):
			return variable(s[2:], env)
		case strings.HasPrefix(s, "$"):
			if len(s) == 1 {
				return missing, refuse.Errf(16872, "'$' by itself is not a valid FieldPath")
			}
			return path(bsonval.Doc(env.Root), s[1:]), nil
		}
		return e, nil
	case bson.TypeArray:
		var out []bson.RawValue
		for _, x := range bsonval.Each(bson.Raw(e.Value)) {
			v, err := Eval(x, env)
			if err != nil {
				return missing, err
			}
			if IsMissing(v) {
				v = bsonval.Null()
			}
			out = append(out, v)
		}
		return bsonval.Array(out), nil
	case bson.TypeEmbeddedDocument:
		return object(bson.Raw(e.Value), env)
	}
	return e, nil
}

func object(doc bson.Raw, env *Env) (bson.RawValue, error) {
	es := bsonval.Elems(doc)
	if len(es) > 0 && strings.HasPrefix(es[0].Key, "$") {
		if len(es) != 1 {
			return missing, refuse.Errf(15983, "An object representing an expression must have exactly one field: %s", bsonval.FormatDoc(doc))
		}
		return operator(es[0].Key, es[0].Value, env)
	}
	var b bsonval.Builder
	for _, x := range es {
		v, err := Eval(x.Value, env)
		if err != nil {
			return missing, err
		}
		if !IsMissing(v) {
			b.Value(x.Key, v)
		}
	}
	return bsonval.Doc(b.Raw()), nil
}

func variable(name string, env *Env) (bson.RawValue, error) {
	name, rest, more := strings.Cut(name, ".")
	var v bson.RawValue
	switch name {
	case "ROOT", "CURRENT":
		v = bsonval.Doc(env.Root)
	case "NOW":
		v = bsonval.Date(env.Now)
	case "REMOVE":
		return missing, nil
	default:
		x, ok := env.Vars[name]
		if !ok {
			return missing, refuse.Errf(17276, "Use of undefined variable: %s", name)
		}
		v = x
	}
	if more {
		v = path(v, rest)
	}
	return v, nil
}

// path follows a dotted path; through an array it gives the array of what its members have.
func path(v bson.RawValue, p string) bson.RawValue {
	name, rest, more := strings.Cut(p, ".")
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		x, ok := bsonval.Lookup(bson.Raw(v.Value), name)
		if !ok {
			return missing
		}
		if !more {
			return x
		}
		return path(x, rest)
	case bson.TypeArray:
		var out []bson.RawValue
		for _, m := range bsonval.Each(bson.Raw(v.Value)) {
			if x := path(m, p); !IsMissing(x) {
				out = append(out, x)
			}
		}
		return bsonval.Array(out)
	}
	return missing
}

// args evaluates an operator's operands: an array is a list, anything else is one.
func args(v bson.RawValue, env *Env) ([]bson.RawValue, error) {
	if v.Type != bson.TypeArray {
		x, err := Eval(v, env)
		return []bson.RawValue{x}, err
	}
	var out []bson.RawValue
	for _, m := range bsonval.Each(bson.Raw(v.Value)) {
		x, err := Eval(m, env)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func wantArgs(op string, as []bson.RawValue, n int) error {
	if len(as) != n {
		return refuse.Errf(16020, "Expression %s takes exactly %d arguments. %d were passed in.", op, n, len(as))
	}
	return nil
}

func operator(op string, v bson.RawValue, env *Env) (bson.RawValue, error) {
	switch op { // those that do not evaluate all their operands first
	case "$literal", "$const":
		return v, nil
	case "$and", "$or":
		for _, m := range list(v) {
			x, err := Eval(m, env)
			if err != nil {
				return missing, err
			}
			if bsonval.Truthy(x) == (op == "$or") {
				return bsonval.Bool(op == "$or"), nil
			}
		}
		return bsonval.Bool(op == "$and"), nil
	case "$cond":
		return cond(v, env)
	case "$switch":
		return switchOp(bsonval.SubDoc(v), env)
	case "$let", "$map", "$filter":
		return scoped(op, bsonval.SubDoc(v), env)
	}
	as, err := args(v, env)
	if err != nil {
		return missing, err
	}
	switch op {
	case "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp":
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		return compare(op, as[0], as[1]), nil
	case "$not":
		if err := wantArgs(op, as, 1); err != nil {
			return missing, err
		}
		return bsonval.Bool(!bsonval.Truthy(as[0])), nil
	case "$ifNull":
		for i, a := range as {
			if !nullish(a) || i == len(as)-1 {
				return a, nil
			}
		}
		return missing, nil
	case "$add", "$multiply", "$subtract", "$divide", "$mod", "$abs", "$ceil", "$floor", "$trunc":
		return arithmetic(op, as)
	case "$sum", "$avg", "$min", "$max", "$first", "$last":
		if len(as) == 1 && as[0].Type == bson.TypeArray {
			as = bsonval.Values(bson.Raw(as[0].Value))
		}
		acc := NewAccumulator(op)
		for _, a := range as {
			acc.Add(a)
		}
		return acc.Result(), nil
	case "$concat", "$toLower", "$toUpper", "$strLenBytes", "$substrBytes", "$substr", "$split", "$toString":
		return stringOp(op, as)
	case "$toInt", "$toLong", "$toDouble", "$toBool":
		if err := wantArgs(op, as, 1); err != nil {
			return missing, err
		}
		return convert(op, as[0])
	case "$size", "$arrayElemAt", "$in", "$concatArrays", "$isArray", "$slice", "$reverseArray", "$setUnion":
		return arrayOp(op, as)
	case "$type":
		if err := wantArgs(op, as, 1); err != nil {
			return missing, err
		}
		return bsonval.String(bsonval.TypeName(as[0].Type)), nil
	case "$mergeObjects":
		var out []bsonval.Elem
		for _, a := range as {
			for k, x := range bsonval.Each(bsonval.SubDoc(a)) {
				out = SetElem(out, k, x)
			}
		}
		return bsonval.Doc(bsonval.FromElems(out)), nil
	}
	return missing, refuse.Errf(168, "Unrecognized expression '%s'", op)
}

// SetElem sets a field in a list of fields, in place or at the end.
func SetElem(es []bsonval.Elem, key string, v bson.RawValue) []bsonval.Elem {
	for i := range es {
		if es[i].Key == key {
			es[i].Value = v
			return es
		}
	}
	return append(es, bsonval.Elem{Key: key, Value: v})
}

func list(v bson.RawValue) []bson.RawValue {
	if v.Type == bson.TypeArray {
		return bsonval.Values(bson.Raw(v.Value))
	}
	return []bson.RawValue{v}
}

func compare(op string, a, b bson.RawValue) bson.RawValue {
	c := bsonval.Compare(a, b)
	switch op {
	case "$cmp":
		return bsonval.Int32(int32(c))
	case "$eq":
		return bsonval.Bool(c == 0)
	case "$ne":
		return bsonval.Bool(c != 0)
	case "$gt":
		return bsonval.Bool(c > 0)
	case "$gte":
		return bsonval.Bool(c >= 0)
	case "$lt":
		return bsonval.Bool(c < 0)
	}
	return bsonval.Bool(c <= 0)
}

func cond(v bson.RawValue, env *Env) (bson.RawValue, error) {
	var parts []bson.RawValue
	if v.Type == bson.TypeArray {
		parts = bsonval.Values(bson.Raw(v.Value))
	} else {
		for _, k := range []string{"if", "then", "else"} {
			x, ok := bsonval.Lookup(bsonval.SubDoc(v), k)
			if !ok {
				return missing, refuse.Errf(17080, "Missing '%s' parameter to $cond", k)
			}
			parts = append(parts, x)
		}
	}
	if err := wantArgs("$cond", parts, 3); err != nil {
		return missing, err
	}
	c, err := Eval(parts[0], env)
	if err != nil {
		return missing, err
	}
	if bsonval.Truthy(c) {
		return Eval(parts[1], env)
	}
	return Eval(parts[2], env)
}

func switchOp(doc bson.Raw, env *Env) (bson.RawValue, error) {
	bs, _ := bsonval.Lookup(doc, "branches")
	for _, b := range list(bs) {
		when, _ := bsonval.Lookup(bsonval.SubDoc(b), "case")
		then, _ := bsonval.Lookup(bsonval.SubDoc(b), "then")
		c, err := Eval(when, env)
		if err != nil {
			return missing, err
		}
		if bsonval.Truthy(c) {
			return Eval(then, env)
		}
	}
	def, ok := bsonval.Lookup(doc, "default")
	if !ok {
		return missing, refuse.Errf(40066, "$switch could not find a matching branch for an input, and no default was specified.")
	}
	return Eval(def, env)
}

// with is env with one more variable.
func (e *Env) with(name string, v bson.RawValue) *Env {
	vars := map[string]bson.RawValue{}
	for k, x := range e.Vars {
		vars[k] = x
	}
	vars[name] = v
	return &Env{Root: e.Root, Now: e.Now, Vars: vars}
}

func scoped(op string, doc bson.Raw, env *Env) (bson.RawValue, error) {
	in, _ := bsonval.Lookup(doc, "in")
	if op == "$let" {
		vars, _ := bsonval.Lookup(doc, "vars")
		inner := env
		for k, x := range bsonval.Each(bsonval.SubDoc(vars)) {
			v, err := Eval(x, env)
			if err != nil {
				return missing, err
			}
			inner = inner.with(k, v)
		}
		return Eval(in, inner)
	}
	input, _ := bsonval.Lookup(doc, "input")
	src, err := Eval(input, env)
	if err != nil || nullish(src) {
		return bsonval.Null(), err
	}
	if src.Type != bson.TypeArray {
		return missing, refuse.Errf(16883, "input to %s must be an array not %s", op, bsonval.TypeName(src.Type))
	}
	as, _ := bsonval.Lookup(doc, "as")
	name := bsonval.Str(as)
	if name == "" {
		name = "this"
	}
	if op == "$filter" {
		in, _ = bsonval.Lookup(doc, "cond")
	}
	var out []bson.RawValue
	for _, m := range bsonval.Each(bson.Raw(src.Value)) {
		v, err := Eval(in, env.with(name, m))
		if err != nil {
			return missing, err
		}
		switch {
		case op == "$map" && IsMissing(v):
			out = append(out, bsonval.Null())
		case op == "$map":
			out = append(out, v)
		case bsonval.Truthy(v):
			out = append(out, m)
		}
	}
	return bsonval.Array(out), nil
}

func arithmetic(op string, as []bson.RawValue) (bson.RawValue, error) {
	if slices.ContainsFunc(as, nullish) {
		return bsonval.Null(), nil
	}
	name := op
	for _, a := range as {
		if !bsonval.IsNumber(a) && (a.Type != bson.TypeDateTime || (op != "$add" && op != "$subtract")) {
			return missing, refuse.Errf(16554, "%s only supports numeric or date types, not %s", name, bsonval.TypeName(a.Type))
		}
	}
	switch op {
	case "$add", "$multiply":
		sum := bsonval.Int32(0)
		if op == "$multiply" {
			sum = bsonval.Int32(1)
		}
		date := false
		for _, a := range as {
			if a.Type == bson.TypeDateTime {
				date = true
				a = bsonval.Int64(a.DateTime())
			}
			sum = combine(op, sum, a)
		}
		if date {
			n, _ := bsonval.Integer(sum)
			return bsonval.Date(time.UnixMilli(n)), nil
		}
		return sum, nil
	case "$subtract":
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		a, b := as[0], as[1]
		if a.Type == bson.TypeDateTime {
			ms := a.DateTime()
			if b.Type == bson.TypeDateTime {
				return bsonval.Int64(ms - b.DateTime()), nil
			}
			n, _ := bsonval.Integer(b)
			return bsonval.Date(time.UnixMilli(ms - n)), nil
		}
		if !bsonval.IsNumber(b) {
			return missing, refuse.Errf(16556, "can't $subtract a %s from a %s", bsonval.TypeName(b.Type), bsonval.TypeName(a.Type))
		}
		return combine("$add", a, bsonval.Negate(b)), nil
	case "$divide", "$mod":
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		x, _ := bsonval.Float(as[0])
		y, _ := bsonval.Float(as[1])
		if op == "$divide" {
			if y == 0 {
				return missing, refuse.Errf(2, "can't $divide by zero")
			}
			return bsonval.Double(x / y), nil
		}
		if y == 0 {
			return missing, refuse.Errf(16610, "can't $mod by zero")
		}
		if as[0].Type == bson.TypeDouble || as[1].Type == bson.TypeDouble {
			return bsonval.Double(math.Mod(x, y)), nil
		}
		a, _ := bsonval.Integer(as[0])
		b, _ := bsonval.Integer(as[1])
		if b == -1 || b == 0 {
			return bsonval.Int32(0), nil
		}
		if as[0].Type == bson.TypeInt32 && as[1].Type == bson.TypeInt32 {
			return bsonval.Int32(int32(a % b)), nil
		}
		return bsonval.Int64(a % b), nil
	}
	if err := wantArgs(op, as, 1); err != nil {
		return missing, err
	}
	v := as[0]
	f, _ := bsonval.Float(v)
	if v.Type != bson.TypeDouble {
		if op == "$abs" && f < 0 {
			return bsonval.Negate(v), nil
		}
		return v, nil
	}
	switch op {
	case "$abs":
		f = math.Abs(f)
	case "$ceil":
		f = math.Ceil(f)
	case "$floor":
		f = math.Floor(f)
	case "$trunc":
		f = math.Trunc(f)
	}
	return bsonval.Double(f), nil
}

// combine adds or multiplies, going over to doubles where longs overflow.
func combine(op string, a, b bson.RawValue) bson.RawValue {
	f := bsonval.Add
	if op == "$multiply" {
		f = bsonval.Mul
	}
	if v, ok := f(a, b); ok {
		return v
	}
	x, _ := bsonval.Float(a)
	v, _ := f(bsonval.Double(x), b)
	return v
}

func stringOp(op string, as []bson.RawValue) (bson.RawValue, error) {
	if op == "$concat" {
		var b strings.Builder
		for _, a := range as {
			if nullish(a) {
				return bsonval.Null(), nil
			}
			if a.Type != bson.TypeString {
				return missing, refuse.Errf(16702, "$concat only supports strings, not %s", bsonval.TypeName(a.Type))
			}
			b.WriteString(bsonval.Str(a))
		}
		return bsonval.String(b.String()), nil
	}
	if len(as) == 0 {
		return missing, wantArgs(op, as, 1)
	}
	s := bsonval.Str(as[0])
	switch op {
	case "$toLower":
		return bsonval.String(strings.ToLower(s)), nil
	case "$toUpper":
		return bsonval.String(strings.ToUpper(s)), nil
	case "$toString":
		switch {
		case nullish(as[0]):
			return bsonval.Null(), nil
		case as[0].Type == bson.TypeString:
			return as[0], nil
		case as[0].Type == bson.TypeObjectID:
			return bsonval.String(as[0].ObjectID().Hex()), nil
		case as[0].Type == bson.TypeDateTime:
			return bsonval.String(as[0].Time().UTC().Format("2006-01-02T15:04:05.000Z")), nil
		}
		return bsonval.String(strings.TrimSuffix(bsonval.Format(as[0]), ".0")), nil
	case "$strLenBytes":
		if as[0].Type != bson.TypeString {
			return missing, refuse.Errf(34473, "$strLenBytes requires a string argument, found: %s", bsonval.TypeName(as[0].Type))
		}
		return bsonval.Int32(int32(len(s))), nil
	case "$split":
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		var out []bson.RawValue
		for _, p := range strings.Split(s, bsonval.Str(as[1])) {
			out = append(out, bsonval.String(p))
		}
		return bsonval.Array(out), nil
	}
	if err := wantArgs(op, as, 3); err != nil {
		return missing, err
	}
	from, _ := bsonval.Integer(as[1])
	n, _ := bsonval.Integer(as[2])
	from = min(max(from, 0), int64(len(s)))
	if n < 0 || n > int64(len(s))-from {
		n = int64(len(s)) - from
	}
	return bsonval.String(s[from : from+n]), nil
}

func convert(op string, v bson.RawValue) (bson.RawValue, error) {
	if nullish(v) {
		return bsonval.Null(), nil
	}
	if op == "$toBool" {
		return bsonval.Bool(bsonval.Truthy(v)), nil
	}
	switch v.Type {
	case bson.TypeBoolean:
		n := int32(0)
		if bsonval.Truthy(v) {
			n = 1
		}
		v = bsonval.Int32(n)
	case bson.TypeDateTime:
		v = bsonval.Int64(v.DateTime())
	case bson.TypeString:
		d, err := bson.ParseDecimal128(bsonval.Str(v))
		if err != nil {
			return missing, refuse.Errf(241, "Failed to parse number '%s' in $convert with no onError value", bsonval.Str(v))
		}
		v = bsonval.Decimal(d)
	}
	f, ok := bsonval.Float(v)
	if !ok {
		return missing, refuse.Errf(241, "Unsupported conversion from %s to %s in $convert with no onError value", bsonval.TypeName(v.Type), strings.ToLower(op[3:]))
	}
	n, _ := bsonval.Integer(v)
	switch op {
	case "$toDouble":
		return bsonval.Double(f), nil
	case "$toLong":
		return bsonval.Int64(n), nil
	}
	if n > math.MaxInt32 || n < math.MinInt32 {
		return missing, refuse.Errf(241, "Conversion would overflow target type in $convert with no onError value: %s", bsonval.Format(v))
	}
	return bsonval.Int32(int32(n)), nil
}

func arrayOp(op string, as []bson.RawValue) (bson.RawValue, error) {
	if op == "$isArray" {
		return bsonval.Bool(len(as) > 0 && as[0].Type == bson.TypeArray), nil
	}
	if op == "$in" {
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		if as[1].Type != bson.TypeArray {
			return missing, refuse.Errf(40081, "$in requires an array as a second argument, found: %s", bsonval.TypeName(as[1].Type))
		}
		for _, m := range bsonval.Each(bson.Raw(as[1].Value)) {
			if bsonval.Equal(m, as[0]) {
				return bsonval.Bool(true), nil
			}
		}
		return bsonval.Bool(false), nil
	}
	if slices.ContainsFunc(as, nullish) && op != "$size" {
		return bsonval.Null(), nil
	}
	if op == "$concatArrays" || op == "$setUnion" {
		var out []bson.RawValue
		for _, a := range as {
			if a.Type != bson.TypeArray {
				return missing, refuse.Errf(28664, "%s only supports arrays, not %s", op, bsonval.TypeName(a.Type))
			}
			out = append(out, bsonval.Values(bson.Raw(a.Value))...)
		}
		if op == "$setUnion" {
			slices.SortFunc(out, bsonval.Compare)
			out = slices.CompactFunc(out, bsonval.Equal)
		}
		return bsonval.Array(out), nil
	}
	if len(as) == 0 || as[0].Type != bson.TypeArray {
		t := "missing"
		if len(as) > 0 {
			t = bsonval.TypeName(as[0].Type)
		}
		return missing, refuse.Errf(17124, "The argument to %s must be an array, but was of type: %s", op, t)
	}
	members := bsonval.Values(bson.Raw(as[0].Value))
	switch op {
	case "$size":
		return bsonval.Int32(int32(len(members))), nil
	case "$reverseArray":
		slices.Reverse(members)
		return bsonval.Array(members), nil
	case "$arrayElemAt":
		if err := wantArgs(op, as, 2); err != nil {
			return missing, err
		}
		i, _ := bsonval.Integer(as[1])
		if i < 0 {
			i += int64(len(members))
		}
		if i < 0 || i >= int64(len(members)) {
			return missing, nil
		}
		return members[i], nil
	}
	return Slice(members, as[1:])
}

// Slice takes the part of an array that {n} or {skip, n} say.
func Slice(members []bson.RawValue, by []bson.RawValue) (bson.RawValue, error) {
	if len(by) != 1 && len(by) != 2 {
		return missing, refuse.Errf(28667, "Expression $slice takes at least 2 arguments, and at most 3, but %d were passed in.", len(by)+1)
	}
	size := int64(len(members))
	n, _ := bsonval.Integer(by[len(by)-1])
	from := int64(0)
	if len(by) == 2 {
		if from, _ = bsonval.Integer(by[0]); from < 0 {
			from = max(size+from, 0)
		}
		if n <= 0 {
			return missing, refuse.Errf(28724, "First argument to $slice must be an positive")
		}
	} else if n < 0 {
		from, n = max(size+n, 0), size
	}
	from = min(from, size)
	return bsonval.Array(members[from:min(from+min(n, size), size)]), nil
}

// Accumulator folds values, one a document of a group.
type Accumulator struct {
	op    string
	v     bson.RawValue
	n     int64
	items []bson.RawValue
}

// NewAccumulator makes one for $sum, $avg, $min, $max, $first, $last, $push, $addToSet or $count.
func NewAccumulator(op string) *Accumulator {
	a := &Accumulator{op: op}
	if op == "$sum" || op == "$avg" {
		a.v = bsonval.Int32(0)
	}
	return a
}

// Known says whether an accumulator of this name exists.
func Known(op string) bool {
	switch op {
	case "$sum", "$avg", "$min", "$max", "$first", "$last", "$push", "$addToSet", "$count":
		return true
	}
	return false
}

// Add folds one value in.
func (a *Accumulator) Add(v bson.RawValue) {
	switch a.op {
	case "$count":
		a.n++
	case "$sum", "$avg":
		if bsonval.IsNumber(v) {
			a.v = combine("$add", a.v, v)
			a.n++
		}
	case "$min", "$max":
		if nullish(v) {
			return
		}
		c := bsonval.Compare(v, a.v)
		if a.n == 0 || (a.op == "$min" && c < 0) || (a.op == "$max" && c > 0) {
			a.v = v
		}
		a.n++
	case "$first":
		if a.n == 0 {
			a.v = v
		}
		a.n++
	case "$last":
		a.v = v
	case "$push":
		if !IsMissing(v) {
			a.items = append(a.items, v)
		}
	case "$addToSet":
		if !IsMissing(v) && !slices.ContainsFunc(a.items, func(x bson.RawValue) bool { return bsonval.Equal(x, v) }) {
			a.items = append(a.items, v)
		}
	}
}

// Result is the folded value.
func (a *Accumulator) Result() bson.RawValue {
	switch a.op {
	case "$count":
		return bsonval.Int(a.n)
	case "$avg":
		if a.n == 0 {
			return bsonval.Null()
		}
		f, _ := bsonval.Float(a.v)
		return bsonval.Double(f / float64(a.n))
	case "$push", "$addToSet":
		return bsonval.Array(a.items)
	}
	if IsMissing(a.v) {
		return bsonval.Null()
	}
	return a.v
}
