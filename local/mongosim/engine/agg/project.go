package agg

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/expr"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// Projection is a parsed projection.
type Projection struct {
	root    *pnode
	include bool
	// Positional says that the position the filter matched at is needed.
	Positional bool
}

type pkind int

const (
	pTree pkind = iota
	pInclude
	pExclude
	pExpr
	pSlice
	pElem
	pFirst // the matched member only
)

// pnode is one field of a projection, or a step of a path.
type pnode struct {
	kind  pkind
	names []string
	kids  map[string]*pnode
	v     bson.RawValue
	elem  func(bson.RawValue) bool
}

// ParseProjection reads a projection of find (find is true) or of $project.
func ParseProjection(doc bson.Raw, find bool) (*Projection, error) {
	p := &Projection{root: &pnode{}}
	mode := pTree // unknown yet
	idKind := pTree
	var visit func(prefix string, doc bson.Raw) error
	visit = func(prefix string, doc bson.Raw) error {
		for k, v := range bsonval.Each(doc) {
			path := k
			if prefix != "" {
				path = prefix + "." + k
			}
			n, sub, err := p.parseField(path, v, find)
			if err != nil {
				return err
			}
			if sub {
				if err := visit(path, bson.Raw(v.Value)); err != nil {
					return err
				}
				continue
			}
			if path == "_id" && (n.kind == pInclude || n.kind == pExclude) {
				idKind = n.kind
				continue
			}
			want := mode
			switch n.kind {
			case pInclude, pExpr, pElem, pFirst:
				want = pInclude
			case pExclude:
				want = pExclude
			}
			if mode != pTree && want != mode {
				if want == pExclude {
					return refuse.Errf(31254, "Cannot do exclusion on field %s in inclusion projection", path)
				}
				return refuse.Errf(31253, "Cannot do inclusion on field %s in exclusion projection", path)
			}
			mode = want
			if n.kind == pFirst {
				path = strings.TrimSuffix(path, ".$")
			}
			if err := p.root.add(path, strings.Split(path, "."), n); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit("", doc); err != nil {
		return nil, err
	}
	p.include = mode == pInclude || (mode == pTree && idKind == pInclude)
	switch {
	case p.include && idKind != pExclude:
		if p.root.kids["_id"] == nil {
			_ = p.root.add("_id", []string{"_id"}, &pnode{kind: pInclude})
		}
	case !p.include && idKind == pExclude:
		_ = p.root.add("_id", []string{"_id"}, &pnode{kind: pExclude})
	}
	return p, nil
}

// parseField reads one field; sub says that the value is a nested specification.
func (p *Projection) parseField(path string, v bson.RawValue, find bool) (*pnode, bool, error) {
	if path == "" || strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..") {
		return nil, false, refuse.Errf(40353, "FieldPath must not end with a '.'.")
	}
	if find && strings.HasSuffix(path, ".$") {
		p.Positional = true
		return &pnode{kind: pFirst}, false, nil
	}
	if strings.HasPrefix(path, "$") {
		return nil, false, refuse.Errf(16410, "FieldPath field names may not start with '$'.")
	}
	switch {
	case bsonval.IsNumber(v) || v.Type == bson.TypeBoolean:
		if bsonval.Truthy(v) {
			return &pnode{kind: pInclude}, false, nil
		}
		return &pnode{kind: pExclude}, false, nil
	case v.Type == bson.TypeEmbeddedDocument:
		doc := bson.Raw(v.Value)
		first := bsonval.FirstKey(doc)
		arg, _ := bsonval.Lookup(doc, first)
		switch {
		case find && first == "$slice" && (bsonval.IsNumber(arg) || arg.Type == bson.TypeArray):
			return &pnode{kind: pSlice, v: arg}, false, nil
		case find && first == "$elemMatch":
			n := &pnode{kind: pElem}
			var b bsonval.Builder
			f, err := match.Parse(b.Doc("v", new(bsonval.Builder).Value("$elemMatch", arg).Raw()).Raw(), nil)
			if err != nil {
				return nil, false, err
			}
			n.elem = func(x bson.RawValue) bool {
				var b bsonval.Builder
				return f.Match(b.Value("v", bsonval.Array([]bson.RawValue{x})).Raw())
			}
			return n, false, nil
		case first == "":
			return nil, false, refuse.Errf(51270, "An empty sub-projection is not a valid value. Found empty object at path")
		case !strings.HasPrefix(first, "$"):
			return nil, true, nil
		}
	}
	return &pnode{kind: pExpr, v: v}, false, nil
}

func (n *pnode) add(path string, parts []string, leaf *pnode) error {
	if n.kids == nil {
		n.kids = map[string]*pnode{}
	}
	name := parts[0]
	old := n.kids[name]
	if len(parts) == 1 {
		if old != nil {
			return refuse.Errf(31250, "Path collision at %s", path)
		}
		n.kids[name] = leaf
		n.names = append(n.names, name)
		return nil
	}
	if old == nil {
		old = &pnode{}
		n.kids[name] = old
		n.names = append(n.names, name)
	}
	if old.kind != pTree {
		return refuse.Errf(31249, "Path collision at %s remaining portion %s", path, strings.Join(parts[1:], "."))
	}
	return old.add(path, parts[1:], leaf)
}

// Apply projects a document; index is the array position the filter matched at.
func (p *Projection) Apply(doc bson.Raw, index int, now time.Time) (bson.Raw, error) {
	c := &projecting{p: p, index: index, env: &expr.Env{Root: doc, Now: now}}
	return c.doc(p.root, doc)
}

type projecting struct {
	p     *Projection
	index int
	env   *expr.Env
}

func (c *projecting) doc(n *pnode, doc bson.Raw) (bson.Raw, error) {
	var b bsonval.Builder
	for k, v := range bsonval.Each(doc) {
		kid := n.kids[k]
		if kid == nil {
			if !c.p.include {
				b.Value(k, v)
			}
			continue
		}
		switch kid.kind {
		case pInclude:
			b.Value(k, v)
		case pExclude, pExpr:
		case pTree:
			if x, ok, err := c.value(kid, v); err != nil {
				return nil, err
			} else if ok {
				b.Value(k, x)
			}
		case pSlice:
			if v.Type == bson.TypeArray {
				by := []bson.RawValue{kid.v}
				if kid.v.Type == bson.TypeArray {
					by = bsonval.Values(bson.Raw(kid.v.Value))
				}
				x, err := expr.Slice(bsonval.Values(bson.Raw(v.Value)), by)
				if err != nil {
					return nil, err
				}
				v = x
			}
			b.Value(k, v)
		case pElem:
			for _, m := range bsonval.Each(arrayOf(v)) {
				if kid.elem(m) {
					b.Value(k, bsonval.Array([]bson.RawValue{m}))
					break
				}
			}
		case pFirst:
			if v.Type == bson.TypeArray {
				vs := bsonval.Values(bson.Raw(v.Value))
				if c.index < 0 || c.index >= len(vs) {
					return nil, refuse.Errf(51246, "Executor error during find command :: caused by :: positional operator '.$' couldn't find a matching element in the array")
				}
				v = bsonval.Array(vs[c.index : c.index+1])
			}
			b.Value(k, v)
		}
	}
	for _, name := range n.names {
		kid := n.kids[name]
		_, there := bsonval.Lookup(doc, name)
		switch {
		case kid.kind == pExpr:
			v, err := expr.Eval(kid.v, c.env)
			if err != nil {
				return nil, err
			}
			if !expr.IsMissing(v) {
				b.Value(name, v)
			}
		case kid.kind == pTree && !there && kid.computed():
			x, err := c.doc(kid, new(bsonval.Builder).Raw())
			if err != nil {
				return nil, err
			}
			b.Doc(name, x)
		}
	}
	return b.Raw(), nil
}

func arrayOf(v bson.RawValue) bson.Raw {
	if v.Type == bson.TypeArray {
		return bson.Raw(v.Value)
	}
	return nil
}

func (n *pnode) computed() bool {
	for _, k := range n.kids {
		if k.kind == pExpr || (k.kind == pTree && k.computed()) {
			return true
		}
	}
	return false
}

// value follows a path into a value: documents, and the documents within arrays.
func (c *projecting) value(n *pnode, v bson.RawValue) (bson.RawValue, bool, error) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		d, err := c.doc(n, bson.Raw(v.Value))
		return bsonval.Doc(d), true, err
	case bson.TypeArray:
		var out []bson.RawValue
		for _, m := range bsonval.Each(bson.Raw(v.Value)) {
			x, ok, err := c.value(n, m)
			if err != nil {
				return v, false, err
			}
			if ok {
				out = append(out, x)
			}
		}
		return bsonval.Array(out), true, nil
	}
	return v, !c.p.include, nil
}
