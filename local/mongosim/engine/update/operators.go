package update

import (
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

func known(op string) bool {
	switch op {
	case "$set", "$setOnInsert", "$unset", "$inc", "$mul", "$min", "$max", "$rename", "$push", "$addToSet", "$pull", "$pullAll",
		"$pop", "$bit", "$currentDate":
		return true
	}
	return false
}

// creates says whether an operator makes the fields on its way.
func creates(op string) bool {
	switch op {
	case "$unset", "$pull", "$pullAll", "$pop":
		return false
	}
	return true
}

// pushSpec is $push with its clauses, and $addToSet.
type pushSpec struct {
	values   []bson.RawValue
	position *int64
	slice    *int64
	sort     *bson.RawValue
}

func (s *pushSpec) plain() bool { return s.position == nil && s.slice == nil && s.sort == nil }

func parseMod(op, path string, v bson.RawValue, o Options) (mod, error) {
	m := mod{op: op, path: path, parts: strings.Split(path, "."), arg: v}
	if err := checkPath(path); err != nil {
		return m, err
	}
	if m.parts[0] == "$" || strings.HasPrefix(m.parts[0], "$[") {
		return m, refuse.Errf(badValue, "Cannot have array filter identifier (i.e. '$[<id>]') element in the first position in path '%s'", path)
	}
	switch op {
	case "$inc", "$mul":
		if !bsonval.IsNumber(v) {
			verb := "increment"
			if op == "$mul" {
				verb = "multiply"
			}
			return m, refuse.Errf(typeMismatch, "Cannot %s with non-numeric argument: {%s}", verb, bsonval.FormatElem(path, v))
		}
	case "$rename":
		to := bsonval.Str(v)
		if v.Type != bson.TypeString {
			return m, refuse.Errf(badValue, "The 'to' field for $rename must be a string: %s", bsonval.FormatElem(path, v))
		}
		if err := checkPath(to); err != nil {
			return m, err
		}
		if to == path {
			return m, refuse.Errf(badValue, "The source and target field for $rename must differ: %s", bsonval.FormatElem(path, v))
		}
	case "$push", "$addToSet":
		s, err := parsePush(op, v)
		if err != nil {
			return m, err
		}
		m.push = s
	case "$pop":
		n, ok := bsonval.Whole(v)
		if !ok || (n != 1 && n != -1) {
			return m, refuse.Errf(failedToParse, "$pop expects 1 or -1, found: %s", bsonval.Format(v))
		}
	case "$pull":
		p, err := parsePull(v, o)
		if err != nil {
			return m, err
		}
		m.pull = p
	case "$pullAll":
		if v.Type != bson.TypeArray {
			return m, refuse.Errf(badValue, "$pullAll requires an array argument but was given a %s", bsonval.TypeName(v.Type))
		}
		vs := bsonval.Values(bson.Raw(v.Value))
		m.pull = func(x bson.RawValue) bool {
			return slices.ContainsFunc(vs, func(y bson.RawValue) bool { return bsonval.Equal(x, y) })
		}
	case "$bit":
		if err := checkBit(v); err != nil {
			return m, err
		}
	case "$currentDate":
		if err := checkCurrentDate(v); err != nil {
			return m, err
		}
	}
	return m, nil
}

func parsePush(op string, v bson.RawValue) (*pushSpec, error) {
	s := &pushSpec{values: []bson.RawValue{v}}
	doc := bsonval.SubDoc(v)
	if v.Type != bson.TypeEmbeddedDocument {
		return s, nil
	}
	each, ok := bsonval.Lookup(doc, "$each")
	if !ok {
		return s, nil
	}
	if each.Type != bson.TypeArray {
		return nil, refuse.Errf(badValue, "The argument to $each in %s must be an array but it was of type: %s", op, bsonval.TypeName(each.Type))
	}
	s.values = bsonval.Values(bson.Raw(each.Value))
	for k, c := range bsonval.Each(doc) {
		if k == "$each" {
			continue
		}
		n, whole := bsonval.Whole(c)
		switch {
		case op == "$addToSet":
			return nil, refuse.Errf(badValue, "Found unexpected fields after $each in $addToSet: %s", bsonval.FormatDoc(doc))
		case k == "$position" && whole:
			s.position = &n
		case k == "$slice" && whole:
			s.slice = &n
		case k == "$sort":
			if c.Type != bson.TypeEmbeddedDocument && (!whole || (n != 1 && n != -1)) {
				return nil, refuse.Errf(badValue, "The $sort element value must be either 1 or -1")
			}
			s.sort = &c
		case k == "$position" || k == "$slice":
			return nil, refuse.Errf(badValue, "The value for %s must be an integer value but was given type: %s", k, bsonval.TypeName(c.Type))
		default:
			return nil, refuse.Errf(badValue, "Unrecognized clause in $push: %s", k)
		}
	}
	return s, nil
}

func parsePull(v bson.RawValue, o Options) (func(bson.RawValue) bool, error) {
	if v.Type == bson.TypeEmbeddedDocument && !strings.HasPrefix(bsonval.FirstKey(bson.Raw(v.Value)), "$") {
		f, err := match.Parse(bson.Raw(v.Value), &match.Options{Now: o.Now})
		if err != nil {
			return nil, err
		}
		return func(x bson.RawValue) bool { return x.Type == bson.TypeEmbeddedDocument && f.Match(bson.Raw(x.Value)) }, nil
	}
	if v.Type == bson.TypeEmbeddedDocument || v.Type == bson.TypeRegex {
		return match.ParseCondition(v, &match.Options{Now: o.Now})
	}
	return func(x bson.RawValue) bool { return bsonval.Equal(x, v) }, nil
}

func checkBit(v bson.RawValue) error {
	if v.Type != bson.TypeEmbeddedDocument {
		return refuse.Errf(badValue, "The $bit modifier is not compatible with a %s. You must pass in an embedded document: {$bit: {field: {and/or/xor: #}}", bsonval.TypeName(v.Type))
	}
	n := 0
	for k, x := range bsonval.Each(bson.Raw(v.Value)) {
		n++
		if k != "and" && k != "or" && k != "xor" {
			return refuse.Errf(badValue, "The $bit modifier only supports 'and', 'or', and 'xor', not '%s' which is an unknown operator: {%s}", k, bsonval.FormatElem(k, x))
		}
		if x.Type != bson.TypeInt32 && x.Type != bson.TypeInt64 {
			return refuse.Errf(badValue, "The $bit modifier field must be an Integer(32/64 bit); a '%s' is not supported here: {%s}", bsonval.TypeName(x.Type), bsonval.FormatElem(k, x))
		}
	}
	if n == 0 {
		return refuse.Errf(badValue, "You must pass in at least one bitwise operation. The format is: {$bit: {field: {and/or/xor: #}}")
	}
	return nil
}

func checkCurrentDate(v bson.RawValue) error {
	if v.Type == bson.TypeBoolean {
		return nil
	}
	if v.Type == bson.TypeEmbeddedDocument {
		t, _ := bsonval.Lookup(bson.Raw(v.Value), "$type")
		if s := bsonval.Str(t); s == "date" || s == "timestamp" {
			return nil
		}
		return refuse.Errf(badValue, "The '$type' string field is required to be 'date' or 'timestamp': {$currentDate: {field : {$type: 'date'}}}")
	}
	return refuse.Errf(badValue, "%s is not valid type for $currentDate. Please use a boolean ('true') or a $type expression ({$type: 'timestamp/date'}).", bsonval.TypeName(v.Type))
}

// leaf applies an operator to the member name of n.
func (a *applier) leaf(n *node, name, path string, m mod) (bool, error) {
	old := n.child(name)
	if old == nil && creates(m.op) && strings.HasPrefix(name, "$") && n.isDoc() {
		return false, dollarField(name, path)
	}
	put := func(v bson.RawValue) (bool, error) {
		if old != nil && bsonval.Same(old.value(), v) {
			return false, nil
		}
		n.set(name, newNode(v))
		a.log.set(path, v)
		return true, nil
	}
	switch m.op {
	case "$set", "$setOnInsert":
		return put(m.arg)
	case "$unset":
		if old == nil {
			return false, nil
		}
		n.remove(name)
		a.log.unset(path)
		return true, nil
	case "$inc", "$mul":
		return a.arith(old, name, m, put)
	case "$min", "$max":
		if old != nil {
			c := bsonval.Compare(m.arg, old.value())
			if (m.op == "$min" && c >= 0) || (m.op == "$max" && c <= 0) {
				return false, nil
			}
		}
		return put(m.arg)
	case "$currentDate":
		t, _ := bsonval.Lookup(bsonval.SubDoc(m.arg), "$type")
		if bsonval.Str(t) == "timestamp" {
			return put(bsonval.Timestamp(a.t.NextTS))
		}
		return put(bsonval.Date(a.t.Now))
	case "$bit":
		return a.bit(old, name, m, put)
	case "$push":
		return a.pushTo(n, old, name, path, m)
	case "$addToSet":
		return a.addToSet(old, name, m, put)
	}
	return a.shrink(old, path, m, put)
}

func (a *applier) arith(old *node, name string, m mod, put func(bson.RawValue) (bool, error)) (bool, error) {
	if old == nil {
		if m.op == "$inc" {
			return put(m.arg)
		}
		zero, _ := bsonval.Mul(m.arg, bsonval.Int32(0))
		return put(zero)
	}
	v := old.value()
	if !bsonval.IsNumber(v) {
		return false, refuse.Errf(typeMismatch, "Cannot apply %s to a value of non-numeric type. %s has the field '%s' of non-numeric type %s",
			m.op, a.idText(), name, bsonval.TypeName(v.Type))
	}
	f := bsonval.Add
	if m.op == "$mul" {
		f = bsonval.Mul
	}
	out, ok := f(v, m.arg)
	if !ok {
		return false, refuse.Errf(badValue, "Failed to apply %s operations to current value ((NumberLong)%s) for document %s", m.op, bsonval.Format(v), a.idText())
	}
	return put(out)
}

func (a *applier) bit(old *node, name string, m mod, put func(bson.RawValue) (bool, error)) (bool, error) {
	v := bsonval.Int32(0)
	if old != nil {
		v = old.value()
	}
	if v.Type != bson.TypeInt32 && v.Type != bson.TypeInt64 {
		id, _ := bsonval.Lookup(a.doc, "_id")
		return false, refuse.Errf(badValue, "Cannot apply $bit to a value of non-integral type.%s has the field %s of non-integer type %s",
			bsonval.FormatElem("_id", id), name, bsonval.TypeName(v.Type))
	}
	long := v.Type == bson.TypeInt64
	n, _ := bsonval.Integer(v)
	for k, x := range bsonval.Each(bson.Raw(m.arg.Value)) {
		y, _ := bsonval.Integer(x)
		long = long || x.Type == bson.TypeInt64
		switch k {
		case "and":
			n &= y
		case "or":
			n |= y
		case "xor":
			n ^= y
		}
	}
	if long {
		return put(bsonval.Int64(n))
	}
	return put(bsonval.Int32(int32(n)))
}

func (a *applier) pushTo(n, old *node, name, path string, m mod) (bool, error) {
	s := m.push
	var items []bson.RawValue
	if old != nil {
		v := old.value()
		if v.Type != bson.TypeArray {
			return false, refuse.Errf(badValue, "The field '%s' must be an array but is of type %s in document %s", path, bsonval.TypeName(v.Type), a.idText())
		}
		items = bsonval.Values(bson.Raw(v.Value))
	}
	before := items
	at := len(items)
	if s.position != nil {
		if p := *s.position; p >= 0 {
			at = int(min(p, int64(len(items))))
		} else {
			at = int(max(int64(len(items))+p, 0))
		}
	}
	items = slices.Insert(slices.Clone(items), at, s.values...)
	if s.sort != nil {
		sortItems(items, *s.sort)
	}
	if s.slice != nil {
		size := int64(len(items))
		if k := *s.slice; k >= 0 {
			items = items[:min(k, size)]
		} else {
			items = items[max(size+k, 0):]
		}
	}
	v := bsonval.Array(items)
	if old != nil && bsonval.Same(old.value(), v) {
		return false, nil
	}
	if old != nil && s.plain() || old != nil && at == len(before) && s.slice == nil && s.sort == nil {
		for i, x := range s.values {
			a.log.set(join(path, strconv.Itoa(len(before)+i)), x)
		}
	} else {
		a.log.set(path, v)
	}
	n.set(name, newNode(v))
	return true, nil
}

// sortItems orders array members by themselves (1, -1) or by fields of theirs.
func sortItems(items []bson.RawValue, by bson.RawValue) {
	if d, ok := bsonval.Integer(by); ok {
		slices.SortStableFunc(items, func(x, y bson.RawValue) int { return int(d) * bsonval.Compare(x, y) })
		return
	}
	fields := bsonval.Elems(bsonval.SubDoc(by))
	get := func(v bson.RawValue, path string) bson.RawValue {
		for _, p := range strings.Split(path, ".") {
			x, ok := bsonval.Lookup(bsonval.SubDoc(v), p)
			if !ok {
				return bsonval.Null()
			}
			v = x
		}
		return v
	}
	slices.SortStableFunc(items, func(x, y bson.RawValue) int {
		for _, f := range fields {
			d, _ := bsonval.Integer(f.Value)
			if c := bsonval.Compare(get(x, f.Key), get(y, f.Key)); c != 0 {
				if d < 0 {
					return -c
				}
				return c
			}
		}
		return 0
	})
}

func (a *applier) addToSet(old *node, name string, m mod, put func(bson.RawValue) (bool, error)) (bool, error) {
	var items []bson.RawValue
	if old != nil {
		v := old.value()
		if v.Type != bson.TypeArray {
			return false, refuse.Errf(badValue, "Cannot apply $addToSet to non-array field. Field named '%s' has non-array type %s", name, bsonval.TypeName(v.Type))
		}
		items = bsonval.Values(bson.Raw(v.Value))
	}
	for _, v := range m.push.values {
		if !slices.ContainsFunc(items, func(x bson.RawValue) bool { return bsonval.Equal(x, v) }) {
			items = append(items, v)
		}
	}
	return put(bsonval.Array(items))
}

// shrink is $pop, $pull and $pullAll.
func (a *applier) shrink(old *node, path string, m mod, put func(bson.RawValue) (bool, error)) (bool, error) {
	if old == nil {
		return false, nil
	}
	v := old.value()
	if v.Type != bson.TypeArray {
		if m.op == "$pop" {
			return false, refuse.Errf(typeMismatch, "Path '%s' contains an element of non-array type '%s'", path, bsonval.TypeName(v.Type))
		}
		return false, refuse.Errf(badValue, "Cannot apply %s to a non-array value", m.op)
	}
	items := bsonval.Values(bson.Raw(v.Value))
	n := len(items)
	switch {
	case m.op != "$pop":
		items = slices.DeleteFunc(items, m.pull)
	case n == 0:
	default:
		if d, _ := bsonval.Integer(m.arg); d < 0 {
			items = items[1:]
		} else {
			items = items[:n-1]
		}
	}
	if len(items) == n {
		return false, nil
	}
	return put(bsonval.Array(items))
}

// rename moves the value at the path in m.arg to m's own path.
func (a *applier) rename(root *node, m mod, parts []string) (bool, error) {
	from := strings.Split(bsonval.Str(m.arg), ".")
	at := root
	for i, p := range from {
		if at.isArray() {
			return false, refuse.Errf(badValue, "The source field cannot be an array element, '%s' in doc with %s has an array field called '%s'",
				bsonval.Str(m.arg), strings.Trim(a.idText(), "{}"), from[max(i-1, 0)])
		}
		if !at.isDoc() {
			return false, nil
		}
		c := at.child(p)
		if c == nil {
			return false, nil
		}
		if i < len(from)-1 {
			at = c
			continue
		}
		v := c.value()
		at.remove(p)
		if from[0] == "_id" {
			return false, refuse.Errf(immutable, "Performing an update on the path '_id' would modify the immutable field '_id'")
		}
		set := m
		set.op, set.arg = "$set", v
		if _, err := a.walk(root, "", parts, set); err != nil {
			return false, err
		}
		a.log.unset(bsonval.Str(m.arg))
	}
	return true, nil
}
