package agg

import (
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/expr"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Stage is one parsed stage of a pipeline: documents in, documents out.
type Stage func(docs []bson.Raw, now time.Time) ([]bson.Raw, error)

// Known says whether a stage of this name is understood here.
func Known(name string) bool {
	switch name {
	case "$match", "$sort", "$limit", "$skip", "$project", "$group", "$count", "$addFields", "$set", "$unset", "$replaceRoot",
		"$replaceWith", "$unwind", "$sortByCount", "$facet":
		return true
	}
	return false
}

// Parse reads the stages of a pipeline.
func Parse(stages []bson.Raw) ([]Stage, error) {
	var out []Stage
	for _, doc := range stages {
		es := bsonval.Elems(doc)
		if len(es) != 1 {
			return nil, refuse.Errf(40323, "A pipeline stage specification object must contain exactly one field.")
		}
		s, err := parseStage(es[0].Key, es[0].Value)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Run sends documents through stages.
func Run(stages []Stage, docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
	for _, s := range stages {
		var err error
		if docs, err = s(docs, now); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// ParseUpdate reads the pipeline of an update.
func ParseUpdate(stages []bson.Raw) ([]Stage, error) {
	for _, s := range stages {
		switch k := bsonval.FirstKey(s); k {
		case "$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith":
		default:
			if !Known(k) {
				return nil, refuse.Errf(40324, "Unrecognized pipeline stage name: '%s'", k)
			}
			return nil, refuse.Errf(72, "%s is not allowed to be used within an update", k)
		}
	}
	if len(stages) == 0 {
		return []Stage{}, nil
	}
	return Parse(stages)
}

// RunUpdate sends one document through an update's stages.
func RunUpdate(stages []Stage, doc bson.Raw, now time.Time) (bson.Raw, error) {
	out, err := Run(stages, []bson.Raw{doc}, now)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		return nil, refuse.Errf(9, "an update pipeline gave %d documents", len(out))
	}
	return out[0], nil
}

// each makes a stage of a function over one document; nil documents are dropped.
func each(f func(doc bson.Raw, now time.Time) (bson.Raw, error)) Stage {
	return func(docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
		out := make([]bson.Raw, 0, len(docs))
		for _, d := range docs {
			x, err := f(d, now)
			if err != nil {
				return nil, err
			}
			if x != nil {
				out = append(out, x)
			}
		}
		return out, nil
	}
}

func parseStage(name string, v bson.RawValue) (Stage, error) {
	doc := bsonval.SubDoc(v)
	switch name {
	case "$match", "$project", "$group", "$addFields", "$set", "$sort", "$facet":
		if v.Type != bson.TypeEmbeddedDocument {
			return nil, refuse.Errf(15959, "the %s filter must be an expression in an object", strings.TrimPrefix(name, "$"))
		}
	}
	switch name {
	case "$match":
		f, err := match.Parse(doc, nil)
		if err != nil {
			return nil, err
		}
		return each(func(d bson.Raw, _ time.Time) (bson.Raw, error) {
			if f.Match(d) {
				return d, nil
			}
			return nil, nil
		}), nil
	case "$sort":
		s, err := ParseSort(doc)
		if err != nil {
			return nil, err
		}
		if s.Empty() {
			return nil, refuse.Errf(15976, "$sort stage must have at least one sort key")
		}
		return func(docs []bson.Raw, _ time.Time) ([]bson.Raw, error) {
			docs = slices.Clone(docs)
			s.Docs(docs, nil)
			return docs, nil
		}, nil
	case "$limit", "$skip":
		n, ok := bsonval.Whole(v)
		if !ok || n < 0 || (n == 0 && name == "$limit") {
			return nil, refuse.Errf(15958, "invalid argument to %s stage: the %s must be positive", name, name[1:])
		}
		return func(docs []bson.Raw, _ time.Time) ([]bson.Raw, error) {
			k := min(n, int64(len(docs)))
			if name == "$limit" {
				return docs[:k], nil
			}
			return docs[k:], nil
		}, nil
	case "$project":
		p, err := ParseProjection(doc, false)
		if err != nil {
			return nil, err
		}
		return each(func(d bson.Raw, now time.Time) (bson.Raw, error) { return p.Apply(d, -1, now) }), nil
	case "$unset":
		return parseUnset(v)
	case "$addFields", "$set":
		return parseSet(doc)
	case "$replaceRoot", "$replaceWith":
		if name == "$replaceRoot" {
			v, _ = bsonval.Lookup(doc, "newRoot")
		}
		return each(func(d bson.Raw, now time.Time) (bson.Raw, error) {
			x, err := expr.Eval(v, &expr.Env{Root: d, Now: now})
			if err != nil {
				return nil, err
			}
			if x.Type != bson.TypeEmbeddedDocument {
				return nil, refuse.Errf(40228, "'newRoot' expression must evaluate to an object, but resulting value was: %s. Type of resulting value: '%s'.", bsonval.Format(x), bsonval.TypeName(x.Type))
			}
			return bson.Raw(x.Value), nil
		}), nil
	case "$count":
		field := bsonval.Str(v)
		if field == "" || strings.HasPrefix(field, "$") || strings.Contains(field, ".") {
			return nil, refuse.Errf(40156, "the count field must be a non-empty string")
		}
		return func(docs []bson.Raw, _ time.Time) ([]bson.Raw, error) {
			if len(docs) == 0 {
				return nil, nil
			}
			return []bson.Raw{new(bsonval.Builder).Value(field, bsonval.Int(int64(len(docs)))).Raw()}, nil
		}, nil
	case "$group":
		return parseGroup(doc)
	case "$sortByCount":
		one := bsonval.Doc(new(bsonval.Builder).Int32("$sum", 1).Raw())
		g, err := parseGroup(new(bsonval.Builder).Value("_id", v).Value("count", one).Raw())
		if err != nil {
			return nil, err
		}
		s := &Sort{Fields: []store.IndexField{{Path: "count", Desc: true}}}
		return func(docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
			out, err := g(docs, now)
			s.Docs(out, nil)
			return out, err
		}, nil
	case "$unwind":
		return parseUnwind(v)
	case "$facet":
		return parseFacet(doc)
	}
	return nil, refuse.Errf(40324, "Unrecognized pipeline stage name: '%s'", name)
}

func parseUnset(v bson.RawValue) (Stage, error) {
	var b bsonval.Builder
	vs := []bson.RawValue{v}
	if v.Type == bson.TypeArray {
		vs = bsonval.Values(bson.Raw(v.Value))
	}
	if len(vs) == 0 {
		return nil, refuse.Errf(31119, "$unset specification must be a string or an array with at least one field")
	}
	for _, x := range vs {
		if x.Type != bson.TypeString {
			return nil, refuse.Errf(31002, "$unset specification must be a string or an array")
		}
		b.Int32(bsonval.Str(x), 0)
	}
	p, err := ParseProjection(b.Raw(), false)
	if err != nil {
		return nil, err
	}
	return each(func(d bson.Raw, now time.Time) (bson.Raw, error) { return p.Apply(d, -1, now) }), nil
}

func parseSet(doc bson.Raw) (Stage, error) {
	es := bsonval.Elems(doc)
	if len(es) == 0 {
		return nil, refuse.Errf(40177, "Invalid $addFields :: caused by :: specification must have at least one field")
	}
	return each(func(d bson.Raw, now time.Time) (bson.Raw, error) {
		env := &expr.Env{Root: d, Now: now}
		out := bsonval.Doc(d)
		for _, e := range es {
			v, err := expr.Eval(e.Value, env)
			if err != nil {
				return nil, err
			}
			out = setPath(out, strings.Split(e.Key, "."), v)
		}
		return bson.Raw(out.Value), nil
	}), nil
}

// setPath sets a value under a path, in every member of arrays on the way.
func setPath(in bson.RawValue, parts []string, v bson.RawValue) bson.RawValue {
	if len(parts) == 0 {
		return v
	}
	if in.Type == bson.TypeArray {
		vs := bsonval.Values(bson.Raw(in.Value))
		for i := range vs {
			vs[i] = setPath(vs[i], parts, v)
		}
		return bsonval.Array(vs)
	}
	var es []bsonval.Elem
	if in.Type == bson.TypeEmbeddedDocument {
		es = bsonval.Elems(bson.Raw(in.Value))
	}
	old := bson.RawValue{}
	at := slices.IndexFunc(es, func(e bsonval.Elem) bool { return e.Key == parts[0] })
	if at >= 0 {
		old = es[at].Value
	}
	x := setPath(old, parts[1:], v)
	switch {
	case expr.IsMissing(x) && at >= 0:
		es = slices.Delete(es, at, at+1)
	case expr.IsMissing(x):
	default:
		es = expr.SetElem(es, parts[0], x)
	}
	return bsonval.Doc(bsonval.FromElems(es))
}

func parseGroup(doc bson.Raw) (Stage, error) {
	id, ok := bsonval.Lookup(doc, "_id")
	if !ok {
		return nil, refuse.Errf(15955, "a group specification must include an _id")
	}
	type field struct {
		name, op string
		arg      bson.RawValue
	}
	var fields []field
	for k, v := range bsonval.Each(doc) {
		if k == "_id" {
			continue
		}
		es := bsonval.Elems(bsonval.SubDoc(v))
		if v.Type != bson.TypeEmbeddedDocument || len(es) != 1 {
			return nil, refuse.Errf(40234, "The field '%s' must be an accumulator object", k)
		}
		if !expr.Known(es[0].Key) {
			return nil, refuse.Errf(15952, "unknown group operator '%s'", es[0].Key)
		}
		fields = append(fields, field{k, es[0].Key, es[0].Value})
	}
	return func(docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
		type group struct {
			id   bson.RawValue
			accs []*expr.Accumulator
		}
		byKey := map[string]*group{}
		var order []*group
		for _, d := range docs {
			env := &expr.Env{Root: d, Now: now}
			gid, err := expr.Eval(id, env)
			if err != nil {
				return nil, err
			}
			if expr.IsMissing(gid) {
				gid = bsonval.Null()
			}
			k := bsonval.Key(gid)
			g := byKey[k]
			if g == nil {
				g = &group{id: gid}
				for _, f := range fields {
					g.accs = append(g.accs, expr.NewAccumulator(f.op))
				}
				byKey[k] = g
				order = append(order, g)
			}
			for i, f := range fields {
				v, err := expr.Eval(f.arg, env)
				if err != nil {
					return nil, err
				}
				g.accs[i].Add(v)
			}
		}
		out := make([]bson.Raw, len(order))
		for i, g := range order {
			var b bsonval.Builder
			b.Value("_id", g.id)
			for j, f := range fields {
				b.Value(f.name, g.accs[j].Result())
			}
			out[i] = b.Raw()
		}
		return out, nil
	}, nil
}

func parseUnwind(v bson.RawValue) (Stage, error) {
	path, keep, index := bsonval.Str(v), false, ""
	if v.Type == bson.TypeEmbeddedDocument {
		p, _ := bsonval.Lookup(bson.Raw(v.Value), "path")
		path = bsonval.Str(p)
		k, _ := bsonval.Lookup(bson.Raw(v.Value), "preserveNullAndEmptyArrays")
		keep = bsonval.Truthy(k)
		i, _ := bsonval.Lookup(bson.Raw(v.Value), "includeArrayIndex")
		index = bsonval.Str(i)
	}
	if !strings.HasPrefix(path, "$") || len(path) < 2 {
		return nil, refuse.Errf(28818, "path option to $unwind stage should be prefixed with a '$': %s", path)
	}
	parts := strings.Split(path[1:], ".")
	return func(docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
		var out []bson.Raw
		emit := func(d bson.Raw, i int64, indexed bool) {
			if index != "" {
				n := bsonval.Null()
				if indexed {
					n = bsonval.Int64(i)
				}
				d = bson.Raw(setPath(bsonval.Doc(d), strings.Split(index, "."), n).Value)
			}
			out = append(out, d)
		}
		for _, d := range docs {
			x, err := expr.Eval(bsonval.String(path), &expr.Env{Root: d, Now: now})
			if err != nil {
				return nil, err
			}
			if x.Type != bson.TypeArray {
				if keep || (!expr.IsMissing(x) && x.Type != bson.TypeNull) {
					emit(d, 0, false)
				}
				continue
			}
			n := int64(0)
			for _, m := range bsonval.Each(bson.Raw(x.Value)) {
				emit(bson.Raw(setPath(bsonval.Doc(d), parts, m).Value), n, true)
				n++
			}
			if n == 0 && keep {
				emit(bson.Raw(setPath(bsonval.Doc(d), parts, bson.RawValue{}).Value), 0, false)
			}
		}
		return out, nil
	}, nil
}

func parseFacet(doc bson.Raw) (Stage, error) {
	type facet struct {
		name   string
		stages []Stage
	}
	var fs []facet
	for k, v := range bsonval.Each(doc) {
		if v.Type != bson.TypeArray {
			return nil, refuse.Errf(40169, "arguments to $facet must be arrays, %s is type %s", k, bsonval.TypeName(v.Type))
		}
		var docs []bson.Raw
		for _, s := range bsonval.Each(bson.Raw(v.Value)) {
			docs = append(docs, bsonval.SubDoc(s))
		}
		st, err := Parse(docs)
		if err != nil {
			return nil, err
		}
		fs = append(fs, facet{k, st})
	}
	return func(docs []bson.Raw, now time.Time) ([]bson.Raw, error) {
		var b bsonval.Builder
		for _, f := range fs {
			out, err := Run(f.stages, docs, now)
			if err != nil {
				return nil, err
			}
			b.Docs(f.name, out)
		}
		return []bson.Raw{b.Raw()}, nil
	}, nil
}
