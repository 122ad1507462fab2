// Package update changes documents: update operators, replacements and pipelines as commands give them, and the update
// entries of an oplog ($v: 1 and $v: 2) as a secondary replays them. It also writes those entries. It owns no state.
package update

import (
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// node is a value being changed: raw bytes until something inside it changes.
type node struct {
	raw    bson.RawValue
	open   bool
	fields []field // of an open document
	items  []*node // of an open array
}

type field struct {
	key string
	n   *node
}

func newNode(v bson.RawValue) *node { return &node{raw: v} }

func (n *node) isDoc() bool   { return n.raw.Type == bson.TypeEmbeddedDocument }
func (n *node) isArray() bool { return n.raw.Type == bson.TypeArray }

// expand makes the members of a document or array reachable.
func (n *node) expand() {
	if n.open || (!n.isDoc() && !n.isArray()) {
		return
	}
	n.open = true
	for k, v := range bsonval.Each(bsonval.SubDoc(n.raw)) {
		if n.isArray() {
			n.items = append(n.items, newNode(v))
		} else {
			n.fields = append(n.fields, field{k, newNode(v)})
		}
	}
}

// value gives the bytes as they are now.
func (n *node) value() bson.RawValue {
	if !n.open {
		return n.raw
	}
	if n.isArray() {
		vs := make([]bson.RawValue, len(n.items))
		for i, x := range n.items {
			vs[i] = x.value()
		}
		return bsonval.Array(vs)
	}
	var b bsonval.Builder
	for _, f := range n.fields {
		b.Value(f.key, f.n.value())
	}
	return bsonval.Doc(b.Raw())
}

// child finds a member by name or, in an array, by position; nil when there is none.
func (n *node) child(name string) *node {
	n.expand()
	if n.isArray() {
		if i, ok := position(name); ok && i < len(n.items) {
			return n.items[i]
		}
		return nil
	}
	for _, f := range n.fields {
		if f.key == name {
			return f.n
		}
	}
	return nil
}

// set replaces or appends a member. Positions past the end of an array are filled with nulls up to it.
func (n *node) set(name string, c *node) {
	n.expand()
	if n.isArray() {
		i, ok := position(name)
		if !ok {
			return
		}
		for len(n.items) <= i {
			n.items = append(n.items, newNode(bsonval.Null()))
		}
		n.items[i] = c
		return
	}
	for i := range n.fields {
		if n.fields[i].key == name {
			n.fields[i].n = c
			return
		}
	}
	n.fields = append(n.fields, field{name, c})
}

// remove deletes a field, or puts null in an array's place.
func (n *node) remove(name string) {
	n.expand()
	if n.isArray() {
		if i, ok := position(name); ok && i < len(n.items) {
			n.items[i] = newNode(bsonval.Null())
		}
		return
	}
	n.fields = slices.DeleteFunc(n.fields, func(f field) bool { return f.key == name })
}

// maxPosition bounds how far an array is filled with nulls.
const maxPosition = 1_500_000

func position(name string) (int, bool) {
	if name == "" || len(name) > 8 || (name[0] == '0' && len(name) > 1) || name[0] == '+' || name[0] == '-' {
		return 0, false
	}
	i, err := strconv.Atoi(name)
	return i, err == nil
}
