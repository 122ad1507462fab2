package ddl

import (
	"crypto/rand"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/view"
)

// maxNesting is how deep applyOps may lie in applyOps.
const maxNesting = 10

// codeUnknownError ends an applyOps some of whose writes failed.
const codeUnknownError = 8

// ApplyOps is the command applyOps. Up to 5.0 an array without commands is applied as a whole or not at all; from 6.0 on each
// entry is its own, a failed update does not stop the others, anything else does.
func ApplyOps(c *member.Call) (*bsonval.Builder, error) {
	v := c.E.Options().Version
	for field, code := range map[string]int32{"prepare": refuse.CodeBadValue, "partialTxn": 31056, "count": 31240} {
		if c.Arg(field).Type != 0 {
			return nil, refuse.Errf(code, "applyOps command can't have '%s' field", field)
		}
	}
	a := applier{c: c, alwaysUpsert: !v.AtLeast(8, 0), each: v.AtLeast(6, 0), keepTS: v.AtLeast(8, 0) && bsonval.Truthy(c.Arg("bypassEmptyTsReplacement"))}
	if up := c.Arg("alwaysUpsert"); up.Type != 0 {
		a.alwaysUpsert = bsonval.Truthy(up)
	}
	ops, err := parseOps(c.Arg("applyOps"), v, 0)
	if err != nil {
		return nil, err
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	return a.all(ops)
}

// op is one entry of the array.
type op struct {
	raw  bson.Raw
	x    oplog.Entry
	name string // of a command
}

// parseOps reads and checks the array before anything is applied.
func parseOps(v bson.RawValue, ver member.Version, depth int) ([]op, error) {
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'applyOps.applyOps' is the wrong type '%s', expected type 'array'", bsonval.TypeName(v.Type))
	}
	if depth > maxNesting {
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Too many nested applyOps")
	}
	var out []op
	for _, e := range bsonval.Each(bson.Raw(v.Value)) {
		if e.Type != bson.TypeEmbeddedDocument {
			return nil, refuse.Errf(refuse.CodeFailedToParse, "op not an object: %s", bsonval.Format(e))
		}
		o := op{raw: bson.Raw(e.Value), x: oplog.Parse(bson.Raw(e.Value))}
		kind, _ := bsonval.Lookup(o.raw, "op")
		ns, _ := bsonval.Lookup(o.raw, "ns")
		switch {
		case kind.Type != bson.TypeString:
			return nil, refuse.Errf(refuse.CodeFailedToParse, "op does not contain required \"op\" field: %s", bsonval.FormatDoc(o.raw))
		case ns.Type != bson.TypeString:
			return nil, refuse.Errf(refuse.CodeFailedToParse, "op does not contain required \"ns\" field: %s", bsonval.FormatDoc(o.raw))
		}
		switch o.x.Op {
		case "n":
		case "i", "u", "d":
			if list, _ := bsonval.Lookup(o.raw, "o"); list.Type != bson.TypeEmbeddedDocument {
				return nil, refuse.Errf(refuse.CodeFailedToParse, "op does not contain required object \"o\" field: %s", bsonval.FormatDoc(o.raw))
			}
		case "c":
			o.name = bsonval.FirstKey(o.x.O)
			if o.name == "applyOps" {
				inner, _ := bsonval.Lookup(o.x.O, "applyOps")
				if _, err := parseOps(inner, ver, depth+1); err != nil {
					return nil, err
				}
			}
			if o.name == "dropDatabase" && depth > 0 && ver.AtLeast(6, 0) {
				return nil, refuse.Errf(9585500, "dropDatabase cannot be nested in applyOps")
			}
		default:
			return nil, refuse.Errf(refuse.CodeBadValue, "applyOps: invalid op type: %s", o.x.Op)
		}
		out = append(out, o)
	}
	for _, o := range out {
		if o.name == "dropDatabase" && len(out) > 1 && ver.AtLeast(6, 0) {
			return nil, refuse.Errf(6275900, "dropDatabase in applyOps must be the only entry")
		}
	}
	return out, nil
}

// applier applies one command's entries; the lock is held.
type applier struct {
	c            *member.Call
	alwaysUpsert bool
	each         bool // an entry that fails does not undo the ones before
	keepTS       bool // empty timestamps stay as they are
	undo         []func()
	log          []oplog.Entry
}

// all applies the entries and makes the reply.
func (a *applier) all(ops []op) (*bsonval.Builder, error) {
	atomic := !a.each
	for _, o := range ops {
		atomic = atomic && o.x.Op != "c"
	}
	failed := false
	results := make([]bson.RawValue, 0, len(ops))
	for _, o := range ops {
		err := a.one(o, atomic)
		results = append(results, bsonval.Bool(err == nil))
		if err == nil {
			continue
		}
		r := *refuse.Of(err)
		if a.each && r.Code == refuse.CodeUpdateOperationFailed {
			failed = true
			continue
		}
		if atomic {
			for i := len(a.undo) - 1; i >= 0; i-- {
				a.undo[i]()
			}
			return nil, &r
		}
		a.write()
		r.Extra = new(bsonval.Builder).Int32("applied", int32(len(results))).Value("results", bsonval.Array(results)).Raw()
		return nil, &r
	}
	a.write()
	b := new(bsonval.Builder).Int32("applied", int32(len(results))).Value("results", bsonval.Array(results))
	if failed {
		return nil, &refuse.Error{Code: codeUnknownError, Msg: "applyOps had one or more errors applying ops", Extra: b.Raw()}
	}
	return b, nil
}

// write puts what was applied into the oplog.
func (a *applier) write() {
	for _, x := range a.log {
		a.c.E.Log(x)
	}
	a.log = nil
}

func (a *applier) one(o op, atomic bool) error {
	switch o.x.Op {
	case "n":
		return nil
	case "c":
		a.write() // in order with what the command itself logs
		a.c.Wrote = true
		return a.command(o)
	}
	x, err := a.target(o)
	if err != nil || x.Op == "" {
		return err
	}
	if atomic {
		a.remember(x)
	}
	if err := a.c.E.ApplyEntry(x); err != nil {
		var dup *store.DuplicateError
		if errors.As(err, &dup) {
			return dup
		}
		return refuse.Errf(refuse.CodeUpdateOperationFailed, "%s", err.Error())
	}
	a.c.Wrote = true
	a.log = append(a.log, x)
	return nil
}

// target finds the collection of a write and makes the entry that is carried out; its Op is empty when there is nothing to do.
func (a *applier) target(o op) (oplog.Entry, error) {
	e, x := a.c.E, o.x
	coll := e.Main().Get(x.NS)
	if x.UI != ([16]byte{}) {
		byUUID := e.Main().ByUUID(x.UI)
		if byUUID != nil && byUUID.NS != x.NS {
			return x, refuse.Errf(3318200, "Namespace '%s' and UUID '%s' point to different collections", x.NS, bsonval.FormatUUID(x.UI))
		}
		coll = byUUID
	}
	switch {
	case coll == nil && x.Op == "d": // so that entries may be applied again
		return oplog.Entry{}, nil
	case coll == nil:
		return x, refuse.Errf(refuse.CodeNamespaceNotFound, "cannot apply insert or update operation on a non-existent namespace %s: %s", x.NS, bsonval.FormatDoc(o.raw))
	case coll.View:
		return x, refuse.Errf(166, "applyOps not supported on view: %s", x.NS)
	}
	x.UI, x.NS = coll.UUID, coll.NS
	switch x.Op {
	case "i":
		if _, ok := bsonval.Lookup(x.O, "_id"); !ok {
			return x, refuse.Errf(4, "Failed to apply insert due to missing _id: %s", bsonval.FormatDoc(o.raw))
		}
		a.fill(&x)
	case "d":
		if coll.Capped && !e.Options().Version.AtLeast(5, 0) {
			return x, refuse.Errf(refuse.CodeIllegalOperation, "cannot remove from a capped collection: %s", x.NS)
		}
	case "u":
		return a.update(o, x, coll)
	}
	return x, nil
}

// update readies an update: that of an absent document inserts, or fails.
func (a *applier) update(o op, x oplog.Entry, coll *store.Collection) (oplog.Entry, error) {
	if v, ok := bsonval.Lookup(x.O, "$v"); ok {
		if k, _ := bsonval.Integer(v); k == 2 && !a.c.E.Options().DiffUpdates {
			return x, refuse.Errf(40682, "Unrecognized value for '$v' (UpdateSemantics) field: 2")
		}
	} else if !strings.HasPrefix(bsonval.FirstKey(x.O), "$") {
		a.fill(&x)
	}
	id, _ := bsonval.Lookup(x.O2, "_id")
	if _, _, had := coll.FindID(id); had {
		return x, nil
	}
	if up, ok := bsonval.Lookup(o.raw, "b"); !a.alwaysUpsert && !(ok && bsonval.Truthy(up)) {
		return x, refuse.Errf(refuse.CodeUpdateOperationFailed, "Failed to apply update: { op: \"u\", ns: %q, o: %s, o2: %s, ts: Timestamp(0, 0), wall: new Date(0) }",
			x.NS, bsonval.FormatDoc(x.O), bsonval.FormatDoc(x.O2))
	}
	return oplog.Entry{Op: "i", NS: x.NS, UI: x.UI, O: update.ApplyEntry(new(bsonval.Builder).Value("_id", id).Raw(), fullUpdate(x.O))}, nil
}

// fill sets empty timestamps of a new document.
func (a *applier) fill(x *oplog.Entry) {
	if !a.keepTS {
		x.O = update.FillTimestamps(x.O, a.c.E.NextTS())
	}
}

// remember notes how to take a write back.
func (a *applier) remember(x oplog.Entry) {
	e := a.c.E
	key := x.O
	if x.Op == "u" {
		key = x.O2
	}
	id, _ := bsonval.Lookup(key, "_id")
	coll := e.Main().ByUUID(x.UI)
	rid, old, had := coll.FindID(id)
	a.undo = append(a.undo, func() {
		if had {
			_ = e.Main().Put(e.Batch(), coll, rid, old) // what was there goes back without a conflict
		} else if rid, _, ok := coll.FindID(id); ok {
			e.Main().Remove(e.Batch(), coll, rid)
		}
	})
}

// command carries out an entry that is a command. What is already so is no error, so that entries may be applied again.
func (a *applier) command(o op) error {
	e, x := a.c.E, o.x
	db := store.DBOf(x.NS)
	switch o.name {
	case "applyOps":
		inner, _ := bsonval.Lookup(x.O, "applyOps")
		ops, err := parseOps(inner, e.Options().Version, 1)
		if err != nil {
			return err
		}
		in := applier{c: a.c, alwaysUpsert: a.alwaysUpsert, each: a.each, keepTS: a.keepTS}
		_, err = in.all(ops)
		return err
	case "create":
		return a.create(db, x)
	case "createIndexes", "startIndexBuild", "commitIndexBuild", "abortIndexBuild":
		if e.Options().Version.AtLeast(4, 4) {
			return refuse.Errf(115, "The %s operation is not supported in applyOps mode", o.name)
		}
	case "commitTransaction", "abortTransaction":
		return refuse.Errf(refuse.CodeBadValue, "%s is only used internally by secondaries.", o.name)
	case "dropDatabase":
		for _, coll := range e.Main().Collections(db) {
			if coll.View {
				e.Main().Drop(e.Batch(), coll)
			} else {
				dropCollection(a.c, coll)
			}
		}
	case "drop":
		coll := e.Main().ByUUID(x.UI)
		if coll == nil && x.UI == ([16]byte{}) {
			coll = e.Main().Get(db + "." + bsonval.StringField(x.O, "drop"))
		}
		if coll != nil {
			dropCollection(a.c, coll)
		}
		return nil
	case "dropIndexes", "deleteIndexes", "deleteIndex", "dropIndex":
		if x.UI == ([16]byte{}) {
			return refuse.Errf(refuse.CodeBadValue, "missing required field 'ui' in %s", bsonval.FormatDoc(o.raw))
		}
	case "collMod", "convertToCapped", "emptycapped":
		if x.UI == ([16]byte{}) {
			if coll := e.Main().Get(db + "." + bsonval.StringField(x.O, o.name)); coll != nil {
				x.UI = coll.UUID
			}
		}
	case "renameCollection", "dbCheck":
	default:
		return refuse.Errf(refuse.CodeBadValue, "Invalid key '%s' found in 'o'", o.name)
	}
	if err := e.ApplyEntry(x); err != nil {
		r := refuse.Of(err)
		if r.Code == refuse.CodeIndexNotFound || r.Code == refuse.CodeNamespaceNotFound {
			return nil
		}
		return r
	}
	e.Log(x)
	return nil
}

// create makes a collection under the entry's UUID. One that has the UUID under another name is renamed instead; one that has
// the name under another UUID is renamed out of the way.
func (a *applier) create(db string, x oplog.Entry) error {
	e := a.c.E
	ns := db + "." + bsonval.StringField(x.O, "create")
	if err := spec.CheckName(ns); err != nil {
		return err
	}
	if _, is := bsonval.Lookup(x.O, "viewOn"); is {
		if e.Main().Get(ns) != nil {
			return nil
		}
		var options bsonval.Builder
		for k, v := range bsonval.Each(x.O) {
			if k != "create" && k != "idIndex" {
				options.Value(k, v)
			}
		}
		return view.Create(a.c, ns, options.Raw())
	}
	there := e.Main().Get(ns)
	if x.UI == ([16]byte{}) {
		if there != nil {
			return nil
		}
		x.UI = member.NewUUID()
	}
	same := e.Main().ByUUID(x.UI)
	if same != nil && same == there {
		return nil
	}
	if there != nil {
		if there.View {
			return refuse.Errf(refuse.CodeNamespaceExists, "Cannot create collection %s - view already exists.", ns)
		}
		rename(a.c, there, nil, db+".tmp"+rand.Text()[:5]+".create")
	}
	if same != nil {
		rename(a.c, same, nil, ns)
		return nil
	}
	_, clustered := bsonval.Lookup(x.O, "clusteredIndex")
	if _, ok := bsonval.Lookup(x.O, "idIndex"); !ok && !clustered {
		collation, _ := bsonval.Lookup(x.O, "collation")
		x.O = new(bsonval.Builder).All(x.O).Doc("idIndex", spec.IDIndex(bsonval.SubDoc(collation))).Raw()
	}
	if err := e.ApplyEntry(x); err != nil {
		return err
	}
	e.Log(x)
	return nil
}

// fullUpdate marks operators without $v as the modifiers they are.
func fullUpdate(o bson.Raw) bson.Raw {
	if strings.HasPrefix(bsonval.FirstKey(o), "$") && bsonval.FirstKey(o) != "$v" {
		return new(bsonval.Builder).Int32("$v", 1).All(o).Raw()
	}
	return o
}
