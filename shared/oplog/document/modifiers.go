package document

import (
	"bytes"
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// branch is a part of the paths of a $v: 1 update: all paths become one tree, so that the document is written once.
type branch struct {
	name     []byte
	verb     verb // replace or remove at a leaf, inside above it
	v        bsoncore.Value
	children []*branch
	sets     bool // there is a $set here or below: missing parents are made
	done     bool
}

func (b *branch) child(name []byte) *branch {
	for _, c := range b.children {
		if bytes.Equal(c.name, name) {
			return c
		}
	}
	return nil
}

// grow adds a path to the tree.
func (b *branch) grow(path []byte, kind verb, v bsoncore.Value) error {
	for at, depth := b, 0; ; depth++ {
		part, rest, more := bytes.Cut(path, []byte{'.'})
		at.sets = at.sets || kind == replace
		c := at.child(part)
		switch {
		case depth > maxDepth:
			return fmt.Errorf("%w: path deeper than %d", oplog.ErrCorrupt, maxDepth)
		case c != nil && (!more || c.verb != inside):
			return fmt.Errorf("%w: update names %q twice", oplog.ErrCorrupt, path)
		case c == nil && more:
			c = &branch{name: part, verb: inside}
			at.children = append(at.children, c)
		case c == nil:
			at.children = append(at.children, &branch{name: part, verb: kind, v: v, sets: kind == replace})
			return nil
		}
		at, path = c, rest
	}
}

// applyModifiers carries out {$v: 1, $set: {...}, $unset: {...}}. Fields keep their place; new ones come at the end, in the order given.
func applyModifiers(before bson.Raw, o []byte) (bson.Raw, Oddity, error) {
	root := &branch{verb: inside}
	err := oplog.Elements(o, func(key []byte, v bsoncore.Value) error {
		var kind verb
		switch string(key) {
		case "$v":
			return nil
		case "$set":
			kind = replace
		case "$unset":
			kind = remove
		default:
			return fmt.Errorf("operator %q of an update with $v 1 is %w", key, oplog.ErrUnknown)
		}
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("%w: %s is a %s", oplog.ErrCorrupt, key, v.Type)
		}
		return oplog.Elements(d, func(path []byte, v bsoncore.Value) error { return root.grow(path, kind, v) })
	})
	if err != nil {
		return nil, 0, err
	}
	var odd Oddity
	out, err := root.document(make([]byte, 0, len(before)+len(o)), before, &odd)
	return bson.Raw(out), odd, err
}

// document appends the changed document to dst.
func (b *branch) document(dst, before []byte, odd *Oddity) ([]byte, error) {
	start, dst := bsoncore.AppendDocumentStart(dst)
	err := oplog.Elements(before, func(key []byte, v bsoncore.Value) error {
		c := b.child(key)
		if c == nil || c.done { // of two fields of one name a server changes the first
			dst = appendValue(dst, key, v)
			return nil
		}
		c.done = true
		var err error
		switch c.verb {
		case remove:
		case replace:
			dst = appendValue(dst, key, c.v)
		default:
			dst, err = c.value(dst, key, v, odd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, c := range b.children {
		switch {
		case c.done:
		case !c.sets:
			*odd |= NoField
		default:
			dst = c.create(dst, c.name)
		}
	}
	return bsoncore.AppendDocumentEnd(dst, start)
}

// value appends a field that changes within; where it is neither document nor array it is left alone, as a server does when it replays.
func (b *branch) value(dst, key []byte, v bsoncore.Value, odd *Oddity) ([]byte, error) {
	switch v.Type {
	case bsoncore.TypeEmbeddedDocument:
		return b.document(appendHeader(dst, v.Type, key), v.Data, odd)
	case bsoncore.TypeArray:
		return b.array(appendHeader(dst, v.Type, key), v.Data, odd)
	}
	*odd |= OtherType
	return appendValue(dst, key, v), nil
}

// array appends the changed array: names that are positions address its elements, an unset element becomes null.
func (b *branch) array(dst, before []byte, odd *Oddity) ([]byte, error) {
	at := make(map[int]*branch, len(b.children))
	last := -1
	for _, c := range b.children {
		n, ok := position(c.name)
		if !ok {
			*odd |= OtherType
			continue
		}
		at[n] = c
		if c.sets {
			last = max(last, n)
		}
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	n, changed := 0, 0
	var num [20]byte
	err := oplog.Elements(before, func(_ []byte, v bsoncore.Value) error {
		key := strconv.AppendInt(num[:0], int64(n), 10)
		c := at[n]
		n++
		if c == nil {
			dst = appendValue(dst, key, v)
			return nil
		}
		changed++
		var err error
		switch c.verb {
		case remove:
			dst = appendHeader(dst, bsoncore.TypeNull, key)
		case replace:
			dst = appendValue(dst, key, c.v)
		default:
			dst, err = c.value(dst, key, v, odd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if last-n >= maxPad {
		return nil, fmt.Errorf("%w: update grows an array by %d elements", oplog.ErrCorrupt, last-n)
	}
	for ; n <= last; n++ {
		key := strconv.AppendInt(num[:0], int64(n), 10)
		c := at[n]
		if c != nil {
			changed++
		}
		if c == nil || !c.sets {
			dst = appendHeader(dst, bsoncore.TypeNull, key)
			continue
		}
		dst = c.create(dst, key)
	}
	if changed < len(at) {
		*odd |= NoField
	}
	return bsoncore.AppendArrayEnd(dst, start)
}

// create appends what a path makes where there is nothing: documents down to its leaf, also under names that look like positions.
func (b *branch) create(dst, key []byte) []byte {
	if b.verb != inside {
		return appendValue(dst, key, b.v)
	}
	dst = appendHeader(dst, bsoncore.TypeEmbeddedDocument, key)
	start, dst := bsoncore.AppendDocumentStart(dst)
	for _, c := range b.children {
		if c.sets {
			dst = c.create(dst, c.name)
		}
	}
	dst, _ = bsoncore.AppendDocumentEnd(dst, start) // fails only for a start outside dst
	return dst
}
