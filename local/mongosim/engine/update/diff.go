package update

import (
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// Diff is the o of a $v: 2 entry that makes after of before, or after itself when that is shorter.
func Diff(before, after bson.Raw) bson.Raw {
	d, ok := diffDoc(before, after, false)
	if !ok || len(d) >= len(after) {
		return after
	}
	var b bsonval.Builder
	return b.Int32("$v", 2).Doc("diff", d).Raw()
}

// DiffDeep is as Diff, but tells each changed field alone, however long that gets: so servers write the changes of a time series' buckets.
func DiffDeep(before, after bson.Raw) bson.Raw {
	d, ok := diffDoc(before, after, true)
	if !ok {
		return after
	}
	return new(bsonval.Builder).Int32("$v", 2).Doc("diff", d).Raw()
}

// diffDoc writes d, u, i, b and sub-diffs; false when the order of kept fields changed, which a diff cannot say.
func diffDoc(before, after bson.Raw, deep bool) (bson.Raw, bool) {
	old := bsonval.Elems(before)
	var d, u, i, bin bsonval.Builder
	var subs []bsonval.Elem
	j := 0 // next field of old
	fresh := false
	for k, v := range bsonval.Each(after) {
		p := slices.IndexFunc(old, func(e bsonval.Elem) bool { return e.Key == k })
		if p < 0 {
			fresh = true
			i.Value(k, v)
			continue
		}
		if fresh || p < j {
			return nil, false
		}
		for ; j < p; j++ {
			d.Bool(old[j].Key, false)
		}
		j = p + 1
		w := old[p].Value
		if bsonval.Same(v, w) {
			continue
		}
		if patch := diffColumn(w, v); patch != nil {
			bin.Doc(k, patch)
		} else if sub, ok := diffValue(w, v, deep); ok {
			subs = append(subs, bsonval.Elem{Key: "s" + k, Value: bsonval.Doc(sub)})
		} else {
			u.Value(k, v)
		}
	}
	for ; j < len(old); j++ {
		d.Bool(old[j].Key, false)
	}
	var out bsonval.Builder
	if d.Len() > 0 {
		out.Doc("d", d.Raw())
	}
	if u.Len() > 0 {
		out.Doc("u", u.Raw())
	}
	if i.Len() > 0 {
		out.Doc("i", i.Raw())
	}
	if bin.Len() > 0 {
		out.Doc("b", bin.Raw())
	}
	for _, s := range subs {
		out.Value(s.Key, s.Value)
	}
	return out.Raw(), true
}

// columns are binaries of this subtype: those of a time series' compressed buckets, which alone are changed in part.
const columns = 7

// diffColumn says from which byte on a column has become another; nil for other values.
func diffColumn(before, after bson.RawValue) bson.Raw {
	s1, old, ok1 := before.BinaryOK()
	s2, fresh, ok2 := after.BinaryOK()
	if !ok1 || !ok2 || s1 != columns || s2 != columns {
		return nil
	}
	n := 0
	for n < len(old) && n < len(fresh) && old[n] == fresh[n] {
		n++
	}
	return new(bsonval.Builder).Int32("o", int32(n)).Value("d", bsonval.Binary(columns, fresh[n:])).Raw()
}

// applyColumn puts bytes into a column from an offset on; what does not fit is left as it is.
func applyColumn(n *node, name string, patch bson.Raw) {
	c := n.child(name)
	if c == nil {
		return
	}
	v, _ := bsonval.Lookup(patch, "o")
	at, _ := bsonval.Integer(v)
	d, _ := bsonval.Lookup(patch, "d")
	sub, old, ok := c.value().BinaryOK()
	_, fresh, is := d.BinaryOK()
	if !ok || !is || at < 0 || at > int64(len(old)) {
		return
	}
	n.set(name, newNode(bsonval.Binary(sub, append(old[:at:at], fresh...))))
}

// diffValue gives a sub-diff when both are documents or both arrays and it is worth it.
func diffValue(before, after bson.RawValue, deep bool) (bson.Raw, bool) {
	if before.Type != after.Type {
		return nil, false
	}
	var out bson.Raw
	ok := false
	switch before.Type {
	case bson.TypeEmbeddedDocument:
		out, ok = diffDoc(bson.Raw(before.Value), bson.Raw(after.Value), deep)
	case bson.TypeArray:
		out, ok = diffArray(bsonval.Values(bson.Raw(before.Value)), bsonval.Values(bson.Raw(after.Value)), deep), true
	}
	return out, ok && (deep || len(out) < len(after.Value))
}

func diffArray(before, after []bson.RawValue, deep bool) bson.Raw {
	var out bsonval.Builder
	out.Bool("a", true)
	if len(after) < len(before) {
		out.Int32("l", int32(len(after)))
	}
	for i, v := range after {
		if i < len(before) {
			if bsonval.Same(before[i], v) {
				continue
			}
			if sub, ok := diffValue(before[i], v, deep); ok {
				out.Doc("s"+strconv.Itoa(i), sub)
				continue
			}
		}
		out.Value("u"+strconv.Itoa(i), v)
	}
	return out.Raw()
}

// ApplyEntry carries out the o of an update entry on a document: a replacement, {$v: 1, $set, $unset} or {$v: 2, diff}. It is
// lenient as replay must be: what cannot be done any more is left out.
func ApplyEntry(doc, o bson.Raw) bson.Raw {
	v, ok := bsonval.Lookup(o, "$v")
	n, _ := bsonval.Integer(v)
	switch {
	case ok && n == 1:
		return applyV1(doc, o)
	case ok && n == 2:
		d, _ := bsonval.Lookup(o, "diff")
		root := newNode(bsonval.Doc(doc))
		applyDiff(root, bsonval.SubDoc(d))
		return bson.Raw(root.value().Value)
	}
	out, err := keepID(doc, o)
	if err != nil {
		return doc
	}
	return out
}

func applyV1(doc, o bson.Raw) bson.Raw {
	root := newNode(bsonval.Doc(doc))
	set, _ := bsonval.Lookup(o, "$set")
	for path, v := range bsonval.Each(bsonval.SubDoc(set)) {
		at := root
		parts := strings.Split(path, ".")
		for i, p := range parts {
			if !at.isDoc() && !at.isArray() {
				break
			}
			if at.isArray() {
				if k, ok := position(p); !ok || k > len(bsonval.Values(bsonval.SubDoc(at.value())))+maxPosition {
					break
				}
			}
			if i == len(parts)-1 {
				at.set(p, newNode(v))
				break
			}
			next := at.child(p)
			if next == nil {
				next = newNode(bsonval.Doc(new(bsonval.Builder).Raw()))
				at.set(p, next)
			}
			at = next
		}
	}
	unset, _ := bsonval.Lookup(o, "$unset")
	for path := range bsonval.Each(bsonval.SubDoc(unset)) {
		at := root
		parts := strings.Split(path, ".")
		for i, p := range parts {
			if at == nil || (!at.isDoc() && !at.isArray()) {
				break
			}
			if i == len(parts)-1 {
				at.remove(p)
				break
			}
			at = at.child(p)
		}
	}
	return bson.Raw(root.value().Value)
}

func applyDiff(n *node, diff bson.Raw) {
	array := bsonval.FirstKey(diff) == "a"
	if array != n.isArray() || (!array && !n.isDoc()) {
		return // another type by now: a later entry mends it
	}
	n.expand()
	for k, v := range bsonval.Each(diff) {
		switch {
		case array && k == "a":
		case array && k == "l":
			l, _ := bsonval.Integer(v)
			for int64(len(n.items)) < min(l, maxPosition) {
				n.items = append(n.items, newNode(bsonval.Null()))
			}
			if l >= 0 && l < int64(len(n.items)) {
				n.items = n.items[:l]
			}
		case array && strings.HasPrefix(k, "u"):
			if i, ok := position(k[1:]); ok && i < len(n.items)+maxPosition {
				n.set(k[1:], newNode(v))
			}
		case !array && k == "d":
			for name := range bsonval.Each(bsonval.SubDoc(v)) {
				n.remove(name)
			}
		case !array && k == "u":
			for name, x := range bsonval.Each(bsonval.SubDoc(v)) {
				n.set(name, newNode(x))
			}
		case !array && k == "i":
			for name, x := range bsonval.Each(bsonval.SubDoc(v)) {
				n.remove(name)
				n.set(name, newNode(x))
			}
		case !array && k == "b":
			for name, x := range bsonval.Each(bsonval.SubDoc(v)) {
				applyColumn(n, name, bsonval.SubDoc(x))
			}
		case strings.HasPrefix(k, "s"):
			if c := n.child(k[1:]); c != nil {
				applyDiff(c, bsonval.SubDoc(v))
			}
		}
	}
}
