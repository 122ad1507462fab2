package schema

import (
	"bytes"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
)

// Apply takes a command about collections or indexes and says what to do. Commands of transactions are not for it.
func (c *Catalogue) Apply(op *oplog.Op) ([]Step, Oddity, error) {
	if op.Kind != oplog.Command {
		return nil, 0, fmt.Errorf("operation %s is no command", op.Kind)
	}
	cmd := op.Command
	switch cmd.Name {
	case oplog.Ignored:
		return nil, 0, nil
	case oplog.Create:
		return c.create(op)
	case oplog.DropDatabase:
		return nil, c.leftover(cmd.Target), nil
	case oplog.Rename:
		return c.rename(op)
	case oplog.Drop, oplog.EmptyCapped, oplog.CreateIndexes, oplog.CommitIndexBuild, oplog.DropIndexes, oplog.CollMod:
	default:
		return nil, 0, fmt.Errorf("command %s is not about collections", cmd.Name)
	}
	x := c.find(op.UI, cmd.Target)
	if x == nil {
		return nil, NoCollection, nil
	}
	switch cmd.Name {
	case oplog.Drop:
		c.remove(x)
		return append(c.dropViews(x), Step{Do: DropCollection, Collection: *x}), 0, nil
	case oplog.EmptyCapped:
		return []Step{{Do: EmptyCollection, Collection: *x}}, 0, nil
	case oplog.DropIndexes:
		return x.dropIndexes(cmd.Index)
	case oplog.CollMod:
		return x.modify(op)
	}
	for _, spec := range cmd.Indexes {
		x.addIndex(spec)
	}
	return []Step{{Do: BuildIndexes, Collection: *x, Indexes: cmd.Indexes}}, 0, nil
}

// dropViews forgets the views that a dropped system.views held.
func (c *Catalogue) dropViews(x *Collection) (steps []Step) {
	if !x.Views() {
		return nil
	}
	db, _ := oplog.Split(x.NS)
	for _, v := range c.ViewsOf(db) {
		id, _ := viewID(v)
		delete(c.views, id)
		steps = append(steps, Step{Do: DropView, View: v})
	}
	return steps
}

func (c *Catalogue) create(op *oplog.Op) (steps []Step, odd Oddity, err error) {
	ns := op.Command.Target
	if op.UI.IsZero() {
		return nil, 0, fmt.Errorf("%w: create of %s without ui", oplog.ErrCorrupt, ns)
	}
	x := c.byUUID[op.UI]
	if x != nil && x.NS == ns {
		return nil, 0, nil // seen before
	}
	if x == nil && c.byName[ns] != nil && isBuckets(ns) {
		// Buckets of a time series cannot be renamed: they cannot be moved aside, and a name of theirs is used again only after a
		// drop. So whoever has the name in the fuzzy window is a later one, and this one is gone before it comes.
		return nil, NameTaken, nil
	}
	steps, odd = c.clear(ns, nil)
	if x != nil { // the copy knows it under a later name; a later entry gives it that name again
		return append(steps, c.moveTo(x, ns)), odd, nil
	}
	x = &Collection{UUID: op.UI, NS: ns}
	var rest []byte
	if err := elements(op.Command.Options, func(key []byte, v bsoncore.Value) error {
		switch string(key) {
		case "idIndex":
			d, _ := v.DocumentOK()
			x.IDIndex = bson.Raw(d)
		case "temp":
			x.Temp = isTrue(v)
			fallthrough
		default:
			rest = bsoncore.AppendValueElement(rest, string(key), v)
		}
		return nil
	}); err != nil {
		return nil, odd, err
	}
	if rest != nil {
		x.Options = bson.Raw(bsoncore.BuildDocument(nil, rest))
	}
	c.put(x)
	return append(steps, Step{Do: CreateCollection, Collection: *x}), odd, nil
}

func (c *Catalogue) rename(op *oplog.Op) (steps []Step, odd Oddity, err error) {
	cmd := op.Command
	x := c.find(op.UI, cmd.Target)
	target := c.byUUID[cmd.DropTargetUUID]
	if cmd.DropTarget && cmd.DropTargetUUID.IsZero() {
		target = c.byName[cmd.To]
	}
	if target != nil && target != x {
		c.remove(target)
		steps = append(steps, Step{Do: DropCollection, Collection: *target})
	}
	if x == nil {
		return steps, NoCollection, nil
	}
	if x.NS != cmd.To {
		steps, odd = c.clear(cmd.To, steps)
		steps = append(steps, c.moveTo(x, cmd.To))
	}
	if x.Temp && !cmd.StayTemp {
		x.Temp, x.Options = false, without(x.Options, "temp")
		if n := len(steps); n > 0 && steps[n-1].Do == RenameCollection {
			steps[n-1].Collection = *x
		}
	}
	return steps, odd, nil
}

func (c *Catalogue) leftover(db string) Oddity {
	for ns := range c.byName {
		if d, _ := oplog.Split(ns); d == db {
			return Leftover
		}
	}
	return 0
}

func indexName(spec bson.Raw) string {
	v, _ := oplog.Lookup(spec, "name")
	s, _ := v.StringValueOK()
	return s
}

func (c *Collection) addIndex(spec bson.Raw) {
	if indexName(spec) == "_id_" {
		c.IDIndex = spec
		return
	}
	spec = without(spec, "ns") // servers before 4.4 wrote it
	for i, have := range c.Indexes {
		if indexName(have) == indexName(spec) {
			c.Indexes = slices.Clone(c.Indexes)
			c.Indexes[i] = spec
			return
		}
	}
	c.Indexes = append(c.Indexes[:len(c.Indexes):len(c.Indexes)], spec)
}

func (c *Collection) dropIndexes(name string) ([]Step, Oddity, error) {
	step := Step{Do: DropIndexes}
	kept := make([]bson.Raw, 0, len(c.Indexes))
	for _, spec := range c.Indexes {
		if name == "*" || indexName(spec) == name {
			step.Names = append(step.Names, indexName(spec))
			continue
		}
		kept = append(kept, spec)
	}
	if step.Names == nil {
		if name == "*" {
			return nil, 0, nil
		}
		return nil, NoIndex, nil
	}
	c.Indexes = kept
	step.Collection = *c
	return []Step{step}, 0, nil
}

// modify keeps what a collMod changes in options and indexes.
func (c *Collection) modify(op *oplog.Op) ([]Step, Oddity, error) {
	var odd Oddity
	err := elements(op.Command.Options, func(key []byte, v bsoncore.Value) error {
		name := string(key)
		switch name {
		case "index":
			d, ok := v.DocumentOK()
			if !ok {
				return fmt.Errorf("%w: index of collMod is a %s", oplog.ErrCorrupt, v.Type)
			}
			var err error
			odd, err = c.modifyIndex(d)
			return err
		case "cappedSize":
			name = "size"
		case "cappedMax":
			name = "max"
		case "noPadding", "usePowerOf2Sizes", "writeConcern", "dryRun":
			return nil
		case "timeseriesBucketsMayHaveMixedSchemaData", "timeseriesBucketingParametersHaveChanged", "isTimeseriesNamespace":
			return nil // what a server notes for itself, no option of a create
		case "timeseries":
			series, err := c.modifySeries(v)
			if err == nil {
				c.Options = set(c.Options, name, series)
			}
			return err
		case "validator", "validationLevel", "validationAction", "expireAfterSeconds", "changeStreamPreAndPostImages", "recordPreImages", "encryptedFields", "prepareUnique":
		default:
			return fmt.Errorf("field %q of collMod is %w", name, oplog.ErrUnknown)
		}
		if d, ok := v.DocumentOK(); ok && name == "validator" && len(d) == 5 {
			c.Options = without(c.Options, name)
			return nil
		}
		if s, ok := v.StringValueOK(); ok && name == "expireAfterSeconds" && s == "off" {
			c.Options = without(c.Options, name)
			return nil
		}
		c.Options = set(c.Options, name, v)
		return nil
	})
	if err != nil {
		return nil, odd, err
	}
	return []Step{{Do: ModifyCollection, Collection: *c, Command: op.O}}, odd, nil
}

// modifySeries gives the option timeseries after a collMod of it. The entry says only what is asked for: a granularity, which brings its
// span with it, or a span and a rounding, which take the place of the granularity.
func (c *Collection) modifySeries(change bsoncore.Value) (bsoncore.Value, error) {
	asked, ok := change.DocumentOK()
	had, found := oplog.Lookup(c.Options, "timeseries")
	old, is := had.DocumentOK()
	if !ok || !found || !is {
		return had, fmt.Errorf("%w: timeseries of a collMod is a %s, and the collection has %s", oplog.ErrCorrupt, change.Type, had)
	}
	next := bson.Raw(old)
	err := elements(bson.Raw(asked), func(key []byte, v bsoncore.Value) error {
		switch name := string(key); name {
		case "granularity":
			s, _ := v.StringValueOK()
			span, known := spans[s]
			if !known {
				return fmt.Errorf("granularity %s is %w", v, oplog.ErrUnknown)
			}
			if was, _ := oplog.Lookup(next, name); was.Equal(v) {
				return nil
			}
			next = set(without(next, "bucketRoundingSeconds"), name, v)
			next = set(next, "bucketMaxSpanSeconds", bsoncore.Value{Type: bsoncore.TypeInt32, Data: bsoncore.AppendInt32(nil, span)})
		case "bucketMaxSpanSeconds", "bucketRoundingSeconds":
			next = set(without(next, "granularity"), name, v)
		default:
			return fmt.Errorf("field %q of collMod's timeseries is %w", name, oplog.ErrUnknown)
		}
		return nil
	})
	return bsoncore.Value{Type: bsoncore.TypeEmbeddedDocument, Data: next}, err
}

// spans are the longest spans of a bucket, in seconds, by granularity.
var spans = map[string]int32{"seconds": 3600, "minutes": 86_400, "hours": 2_592_000}

func (c *Collection) modifyIndex(change []byte) (Oddity, error) {
	at := -1
	for i, spec := range c.Indexes {
		if v, ok := oplog.Lookup(change, "name"); ok {
			if s, _ := v.StringValueOK(); s == indexName(spec) {
				at = i
			}
			continue
		}
		pattern, ok := oplog.Lookup(change, "keyPattern")
		if key, _ := oplog.Lookup(spec, "key"); ok && bytes.Equal(key.Data, pattern.Data) {
			at = i
		}
	}
	if at < 0 {
		return NoIndex, nil
	}
	spec := c.Indexes[at]
	err := elements(change, func(key []byte, v bsoncore.Value) error {
		switch name := string(key); name {
		case "name", "keyPattern":
		case "expireAfterSeconds":
			spec = set(spec, name, v)
		case "hidden", "unique", "prepareUnique":
			if isTrue(v) {
				spec = set(spec, name, v)
			} else {
				spec = without(spec, name)
			}
			if name == "unique" && isTrue(v) {
				spec = without(spec, "prepareUnique")
			}
		case "forceNonUnique":
			if isTrue(v) {
				spec = without(spec, "unique")
			}
		default:
			return fmt.Errorf("field %q of collMod's index is %w", name, oplog.ErrUnknown)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	c.Indexes = slices.Clone(c.Indexes)
	c.Indexes[at] = spec
	return 0, nil
}

// ApplyView takes an operation on a system.views collection. Servers refuse writes to it: the steps are commands.
func (c *Catalogue) ApplyView(op *oplog.Op) ([]Step, Oddity, error) {
	id, ok := op.ID.StringValueOK()
	if !ok {
		return nil, 0, fmt.Errorf("%w: view whose _id is a %s", oplog.ErrCorrupt, op.ID.Type)
	}
	before := c.views[id]
	after, odd, err := document.Apply(before, op)
	if err != nil {
		return nil, 0, fmt.Errorf("view %s: %w", id, err)
	}
	var strange Oddity
	if odd != 0 || (op.Kind == oplog.Delete && before == nil) {
		strange = OddView
	}
	switch {
	case after == nil && before == nil:
		return nil, strange, nil
	case after == nil:
		delete(c.views, id)
		return []Step{{Do: DropView, View: before}}, strange, nil
	}
	c.views[id] = after
	switch {
	case before == nil:
		return []Step{{Do: CreateView, View: after}}, strange, nil
	case bytes.Equal(before, after):
		return nil, strange, nil
	}
	return []Step{{Do: ModifyView, View: after}}, strange, nil
}

func viewID(doc bson.Raw) (string, error) {
	v, _ := oplog.Lookup(doc, "_id")
	s, ok := v.StringValueOK()
	if !ok {
		return "", fmt.Errorf("%w: view without a name", oplog.ErrCorrupt)
	}
	return s, nil
}

// elements is oplog.Elements for documents that may be missing.
func elements(doc []byte, each func(key []byte, v bsoncore.Value) error) error {
	if doc == nil {
		return nil
	}
	return oplog.Elements(doc, each)
}

// set gives doc with a field, in its place or at the end.
func set(doc bson.Raw, name string, v bsoncore.Value) bson.Raw {
	var out []byte
	found := false
	_ = elements(doc, func(key []byte, old bsoncore.Value) error {
		if string(key) == name {
			old, found = v, true
		}
		out = bsoncore.AppendValueElement(out, string(key), old)
		return nil
	})
	if !found {
		out = bsoncore.AppendValueElement(out, name, v)
	}
	return bson.Raw(bsoncore.BuildDocument(nil, out))
}

// without gives doc without a field; nil for one that is empty then.
func without(doc bson.Raw, name string) bson.Raw {
	var out []byte
	_ = elements(doc, func(key []byte, v bsoncore.Value) error {
		if string(key) != name {
			out = bsoncore.AppendValueElement(out, string(key), v)
		}
		return nil
	})
	if out == nil {
		return nil
	}
	return bson.Raw(bsoncore.BuildDocument(nil, out))
}
