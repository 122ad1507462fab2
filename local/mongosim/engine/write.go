package engine

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/plan"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// writeErrors collects the statements of a batch that failed.
type writeErrors struct{ docs []bson.Raw }

func (w *writeErrors) add(i int, err *Error) {
	var b bsonval.Builder
	b.Int32("index", int32(i)).Int32("code", err.Code).All(err.Extra).String("errmsg", err.Msg)
	w.docs = append(w.docs, b.Raw())
}

func (w *writeErrors) into(b *bsonval.Builder) {
	if len(w.docs) > 0 {
		b.Docs("writeErrors", w.docs)
	}
}

// statements reads a command's array of documents.
func (c *call) statements(field string) ([]bson.Raw, error) {
	v := c.arg(field)
	if v.Type != bson.TypeArray {
		return nil, Errf(CodeTypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'array'", c.name, field, bsonval.TypeName(v.Type))
	}
	var out []bson.Raw
	for _, x := range bsonval.Each(bson.Raw(v.Value)) {
		if x.Type != bson.TypeEmbeddedDocument {
			return nil, Errf(CodeTypeMismatch, "BSON field '%s.%s.0' is the wrong type '%s', expected type 'object'", c.name, field, bsonval.TypeName(x.Type))
		}
		out = append(out, bson.Raw(x.Value))
	}
	if len(out) == 0 || len(out) > 100_000 {
		return nil, Errf(CodeInvalidLength, "Write batch sizes must be between 1 and 100000. Got %d operations.", len(out))
	}
	return out, nil
}

// batch runs the statements of a write command one by one. A transaction ends at the first failure.
func (c *call) batch(n int, f func(i int) error) (*writeErrors, error) {
	ordered := true
	if v := c.arg("ordered"); v.Type != 0 {
		ordered = bsonval.Truthy(v)
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	var w writeErrors
	for i := range n {
		err := f(i)
		if err == nil {
			continue
		}
		r := Refusal(err)
		switch r.Code {
		case CodeWriteConflict, CodeInterruptedAtShutdown, CodeNotWritablePrimary, CodeInterrupted, CodeMaxTimeMSExpired,
			CodeInvalidNamespace, CodePrimarySteppedDown, CodeInterruptedStateChange:
			return nil, r
		}
		w.add(i, r)
		if c.tx != nil {
			c.e.abort(c.tx)
			break
		}
		if ordered {
			break
		}
	}
	return &w, nil
}

// writable finds the collection of a namespace, making it when create says so; mu is held.
func (c *call) writable(ns string, create bool) (*store.Collection, error) {
	coll := c.st.Get(ns)
	if coll != nil {
		if coll.View {
			return nil, Errf(166, "Namespace %s is a view, not a collection", ns)
		}
		return coll, nil
	}
	if !create {
		return nil, nil
	}
	if err := c.e.createCollection(ns, nil, newUUID(), c); err != nil {
		return nil, err
	}
	return c.st.Get(ns), nil
}

func (c *call) insert() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.known("documents", "ordered", "bypassDocumentValidation"); err != nil {
		return nil, err
	}
	docs, err := c.statements("documents")
	if err != nil {
		return nil, err
	}
	c.e.stats.Insert.Add(int64(len(docs)))
	n := int32(0)
	w, err := c.batch(len(docs), func(i int) error {
		if _, done := c.done(i); done {
			n++
			return nil
		}
		doc, err := prepareInsert(docs[i], c.e)
		if err != nil {
			return err
		}
		coll, err := c.writable(ns, true)
		if err != nil {
			return err
		}
		if err := c.insertDoc(coll, doc, i); err != nil {
			return err
		}
		n++
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b bsonval.Builder
	b.Int32("n", n)
	w.into(&b)
	return &b, nil
}

// prepareInsert checks a new document and gives it an _id, first.
func prepareInsert(doc bson.Raw, e *Engine) (bson.Raw, error) {
	if len(doc) > maxDoc {
		return nil, Errf(CodeBadValue, "object to insert too large. size in bytes: %d, max size: %d", len(doc), maxDoc)
	}
	for k := range bsonval.Each(doc) {
		if strings.HasPrefix(k, "$") {
			return nil, Errf(CodeBadValue, "Document can't have $ prefixed field names: %s", k)
		}
	}
	id, ok := bsonval.Lookup(doc, "_id")
	if !ok {
		id = bsonval.ObjectID(bson.NewObjectIDFromTimestamp(e.now()))
	} else if err := checkID(id); err != nil {
		return nil, err
	}
	if !ok || bsonval.FirstKey(doc) != "_id" {
		var b bsonval.Builder
		b.Value("_id", id)
		for k, v := range bsonval.Each(doc) {
			if k != "_id" {
				b.Value(k, v)
			}
		}
		doc = b.Raw()
	}
	return update.FillTimestamps(doc, e.nextTS()), nil
}

func checkID(id bson.RawValue) error {
	switch id.Type {
	case bson.TypeArray:
		return Errf(CodeBadValue, "can't use an array for _id")
	case bson.TypeRegex:
		return Errf(CodeBadValue, "can't use a regex for _id")
	case bson.TypeUndefined:
		return Errf(CodeBadValue, "can't use a undefined for _id")
	case bson.TypeEmbeddedDocument:
		for k := range bsonval.Each(bson.Raw(id.Value)) {
			if strings.HasPrefix(k, "$") {
				return Errf(CodeDollarPrefixed, "%s is not valid for storage.", k)
			}
		}
	}
	return nil
}

// nextTS is a timestamp for values a server fills in; it need not be an oplog position.
func (e *Engine) nextTS() bson.Timestamp {
	t := e.now()
	return bson.Timestamp{T: uint32(t.Unix()), I: uint32(t.Nanosecond()/1000) + 1}
}

// insertDoc stores a document that is ready; mu is held.
func (c *call) insertDoc(coll *store.Collection, doc bson.Raw, stmt int) error {
	if err := c.validate(coll, doc); err != nil {
		return err
	}
	id, _ := bsonval.Lookup(doc, "_id")
	coll, err := c.claim(coll, id)
	if err != nil {
		return err
	}
	if _, err := c.st.Insert(c.bt(), coll, doc); err != nil {
		return err
	}
	if c.tx == nil {
		c.e.trim(coll)
	}
	c.e.stats.DocsInserted.Add(1)
	c.record(OplogEntry{Op: "i", NS: coll.NS, UI: coll.UUID, O: doc}, stmt, stmtResult{n: 1})
	return c.e.viewChanged(c, coll, doc, false)
}

// bt is the journal's batch, none for a transaction's own copy.
func (c *call) bt() *store.Batch {
	if c.tx != nil {
		return nil
	}
	return c.e.bt()
}

// validate asks the collection's validator.
func (c *call) validate(coll *store.Collection, doc bson.Raw) error {
	v, ok := bsonval.Lookup(coll.Options, "validator")
	if !ok || bsonval.Truthy(c.arg("bypassDocumentValidation")) {
		return nil
	}
	if stringValue(coll.Options, "validationLevel") == "off" || stringValue(coll.Options, "validationAction") == "warn" {
		return nil
	}
	f, err := match.Parse(bsonval.SubDoc(v), nil)
	if err != nil {
		return err
	}
	if !f.Match(doc) {
		return Errf(CodeDocumentValidation, "Document failed validation")
	}
	return nil
}

// target finds the documents a write is about; mu is held.
func (c *call) target(coll *store.Collection, f *match.Filter, sort *agg.Sort, multi bool, hint bson.RawValue) ([]int64, error) {
	q := plan.Query{Filter: f, Sort: sort, Coll: collationOf(coll)}
	if !multi {
		q.Limit = 1
	}
	if hint.Type != 0 {
		x, err := findHint(coll, hint, "")
		if err != nil {
			return nil, err
		}
		q.Hint = x
	}
	found := plan.Run(coll, q)
	c.tally(found)
	return found.RIDs, nil
}

func collationOf(coll *store.Collection) *bsonval.Collation {
	v, ok := bsonval.Lookup(coll.Options, "collation")
	if !ok {
		return nil
	}
	n, _ := bsonval.Lookup(bsonval.SubDoc(v), "strength")
	k, _ := bsonval.Integer(n)
	return &bsonval.Collation{Strength: int(k)}
}

// updateSpec is one update statement.
type updateSpec struct {
	filter        *match.Filter
	u             *update.Update
	multi, upsert bool
	hint          bson.RawValue
	sort          *agg.Sort
}

// updated is what became of one.
type updated struct {
	n, modified   int32
	upserted      *bson.RawValue
	before, after bson.Raw
}

func (c *call) parseUpdate(st bson.Raw, coll *store.Collection) (*updateSpec, error) {
	var s updateSpec
	var q, u bson.RawValue
	o := update.Options{Now: c.e.now()}
	for k, v := range bsonval.Each(st) {
		switch k {
		case "q":
			q = v
		case "u":
			u = v
		case "multi":
			s.multi = bsonval.Truthy(v)
		case "upsert":
			s.upsert = bsonval.Truthy(v)
		case "hint":
			s.hint = v
		case "arrayFilters":
			for _, f := range bsonval.Each(bsonval.SubDoc(v)) {
				o.ArrayFilters = append(o.ArrayFilters, bsonval.SubDoc(f))
			}
		case "collation", "c", "sort":
		default:
			return nil, Errf(40415, "BSON field 'update.updates.%s' is an unknown field.", k)
		}
	}
	if q.Type != bson.TypeEmbeddedDocument || u.Type == 0 {
		return nil, Errf(40414, "BSON field 'update.updates.%s' is missing but a required field", map[bool]string{true: "q", false: "u"}[q.Type == 0])
	}
	var err error
	if s.filter, err = c.filter(bson.Raw(q.Value), coll); err != nil {
		return nil, err
	}
	if s.u, err = update.Parse(u, o); err != nil {
		return nil, err
	}
	if s.multi && s.u.Replacement() {
		return nil, Errf(CodeFailedToParse, "multi update is not supported for replacement-style update")
	}
	return &s, nil
}

func (c *call) filter(doc bson.Raw, coll *store.Collection) (*match.Filter, error) {
	o := &match.Options{Now: c.e.now()}
	if coll != nil {
		o.Collation = collationOf(coll)
	}
	return match.Parse(doc, o)
}

func (c *call) update() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.known("updates", "ordered", "bypassDocumentValidation"); err != nil {
		return nil, err
	}
	sts, err := c.statements("updates")
	if err != nil {
		return nil, err
	}
	c.e.stats.Update.Add(int64(len(sts)))
	var n, modified int32
	var ups []bson.Raw
	w, err := c.batch(len(sts), func(i int) error {
		r, done := c.done(i)
		if !done {
			coll, err := c.writable(ns, false)
			if err != nil {
				return err
			}
			spec, err := c.parseUpdate(sts[i], coll)
			if err != nil {
				return err
			}
			x, err := c.updateOne(ns, coll, spec, i)
			if err != nil {
				return err
			}
			r = stmtResult{n: x.n, modified: x.modified, upserted: x.upserted}
		}
		n += r.n
		modified += r.modified
		if r.upserted != nil {
			ups = append(ups, new(bsonval.Builder).Int32("index", int32(i)).Value("_id", *r.upserted).Raw())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b bsonval.Builder
	b.Int32("n", n).Int32("nModified", modified)
	if len(ups) > 0 {
		b.Docs("upserted", ups)
	}
	w.into(&b)
	return &b, nil
}

// updateOne carries out one update statement; mu is held. It is also findAndModify's.
func (c *call) updateOne(ns string, coll *store.Collection, s *updateSpec, stmt int) (updated, error) {
	var out updated
	if coll != nil {
		rids, err := c.target(coll, s.filter, s.sort, s.multi, s.hint)
		if err != nil {
			return out, err
		}
		for _, rid := range rids {
			if err := c.updateRecord(&coll, rid, s, stmt, &out); err != nil {
				return out, err
			}
		}
	}
	if out.n > 0 || !s.upsert {
		return out, nil
	}
	coll, err := c.writable(ns, true)
	if err != nil {
		return out, err
	}
	base, err := s.u.UpsertBase(s.filter.Equalities())
	if err != nil {
		return out, err
	}
	r, err := s.u.Apply(base, update.Target{Index: -1, Insert: true, Now: c.e.now(), NextTS: c.e.nextTS()})
	if err != nil {
		return out, err
	}
	doc, err := prepareInsert(r.Doc, c.e)
	if err != nil {
		return out, err
	}
	if err := c.insertDoc(coll, doc, stmt); err != nil {
		return out, err
	}
	id, _ := bsonval.Lookup(doc, "_id")
	out.n, out.upserted, out.after = 1, &id, doc
	c.amend(stmt, stmtResult{n: 1, upserted: &id, after: doc})
	return out, nil
}

// updateRecord applies the update to one record, when it still matches.
func (c *call) updateRecord(coll **store.Collection, rid int64, s *updateSpec, stmt int, out *updated) error {
	doc, ok := (*coll).Records.Get(rid)
	if !ok {
		return nil
	}
	id, _ := bsonval.Lookup(doc, "_id")
	if x, err := c.claim(*coll, id); err != nil {
		return err
	} else if *coll = x; *coll == nil {
		return nil
	}
	if doc, ok = (*coll).Records.Get(rid); !ok { // it may have changed while another transaction held it
		return nil
	}
	hit, index := s.filter.MatchIndex(doc)
	if !hit {
		return nil
	}
	r, err := s.u.Apply(doc, update.Target{Index: index, Now: c.e.now(), NextTS: c.e.nextTS()})
	if err != nil {
		return err
	}
	out.n++
	out.before, out.after = doc, doc
	if !r.Changed {
		return nil
	}
	if len(r.Doc) > maxDoc {
		return Errf(17419, "Resulting document after update is larger than %d", maxDoc)
	}
	if err := c.validate(*coll, r.Doc); err != nil {
		return err
	}
	if err := c.st.Put(c.bt(), *coll, rid, r.Doc); err != nil {
		out.n--
		return err
	}
	out.after = r.Doc
	out.modified++
	c.e.stats.DocsUpdated.Add(1)
	log := r.Log
	if c.e.o.DiffUpdates && !s.u.Replacement() {
		log = update.Diff(doc, r.Doc)
	}
	o2 := new(bsonval.Builder).Value("_id", id).Raw()
	c.record(OplogEntry{Op: "u", NS: (*coll).NS, UI: (*coll).UUID, O: log, O2: o2}, stmt, stmtResult{n: out.n, modified: out.modified, before: doc, after: r.Doc})
	return nil
}

func (c *call) delete() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.known("deletes", "ordered", "bypassDocumentValidation"); err != nil {
		return nil, err
	}
	sts, err := c.statements("deletes")
	if err != nil {
		return nil, err
	}
	for _, st := range sts {
		v, _ := bsonval.Lookup(st, "limit")
		if n, ok := bsonval.Whole(v); !ok || (n != 0 && n != 1) {
			return nil, Errf(CodeFailedToParse, "The limit field in delete objects must be 0 or 1. Got %s", bsonval.Format(v))
		}
	}
	c.e.stats.Delete.Add(int64(len(sts)))
	n := int32(0)
	w, err := c.batch(len(sts), func(i int) error {
		r, done := c.done(i)
		if !done {
			k, _, err := c.deleteOne(ns, sts[i], nil, i)
			if err != nil {
				return err
			}
			r.n = k
		}
		n += r.n
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b bsonval.Builder
	b.Int32("n", n)
	w.into(&b)
	return &b, nil
}

// deleteOne carries out one delete statement; mu is held.
func (c *call) deleteOne(ns string, st bson.Raw, sort *agg.Sort, stmt int) (int32, bson.Raw, error) {
	coll, err := c.writable(ns, false)
	if err != nil || coll == nil {
		return 0, nil, err
	}
	q, _ := bsonval.Lookup(st, "q")
	f, err := c.filter(bsonval.SubDoc(q), coll)
	if err != nil {
		return 0, nil, err
	}
	if coll.Capped && !c.s.Internal {
		return 0, nil, Errf(CodeIllegalOperation, "cannot remove from a capped collection: %s", ns)
	}
	limit, _ := bsonval.Lookup(st, "limit")
	one, _ := bsonval.Integer(limit)
	hint, _ := bsonval.Lookup(st, "hint")
	rids, err := c.target(coll, f, sort, one == 0, hint)
	if err != nil {
		return 0, nil, err
	}
	n := int32(0)
	var last bson.Raw
	for _, rid := range rids {
		doc, ok := coll.Records.Get(rid)
		if !ok {
			continue
		}
		id, _ := bsonval.Lookup(doc, "_id")
		if coll, err = c.claim(coll, id); err != nil || coll == nil {
			return n, last, err
		}
		if doc, ok = coll.Records.Get(rid); !ok || !f.Match(doc) {
			continue
		}
		c.st.Remove(c.bt(), coll, rid)
		n++
		last = doc
		c.e.stats.DocsDeleted.Add(1)
		o := new(bsonval.Builder).Value("_id", id).Raw()
		c.record(OplogEntry{Op: "d", NS: coll.NS, UI: coll.UUID, O: o}, stmt, stmtResult{n: n, before: doc})
		if err := c.e.viewChanged(c, coll, doc, true); err != nil {
			return n, last, err
		}
	}
	return n, last, nil
}

func (c *call) findAndModify() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	remove, u := bsonval.Truthy(c.arg("remove")), c.arg("update")
	wantNew, upsert := bsonval.Truthy(c.arg("new")), bsonval.Truthy(c.arg("upsert"))
	switch {
	case remove && u.Type != 0:
		return nil, Errf(CodeFailedToParse, "Cannot specify both an update and remove=true")
	case remove && upsert:
		return nil, Errf(CodeFailedToParse, "Cannot specify both upsert=true and remove=true ")
	case remove && wantNew:
		return nil, Errf(CodeFailedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	case !remove && u.Type == 0:
		return nil, Errf(CodeFailedToParse, "Either an update or remove=true must be specified")
	}
	sort, err := agg.ParseSort(bsonval.SubDoc(c.arg("sort")))
	if err != nil {
		return nil, err
	}
	query := bsonval.SubDoc(c.arg("query"))
	if query == nil {
		query = new(bsonval.Builder).Raw()
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	r, done := c.done(0)
	if !done {
		if r, err = c.modifyOne(ns, query, u, sort, remove, upsert); err != nil {
			if c.tx != nil {
				c.e.abort(c.tx)
			}
			return nil, err
		}
	}
	var last, b bsonval.Builder
	last.Int32("n", r.n)
	value := r.before
	if !remove {
		last.Bool("updatedExisting", r.n > 0 && r.upserted == nil)
		if r.upserted != nil {
			last.Value("upserted", *r.upserted)
		}
		if wantNew {
			value = r.after
		}
	}
	b.Doc("lastErrorObject", last.Raw())
	if value == nil {
		return b.Value("value", bsonval.Null()), nil
	}
	fields := bsonval.SubDoc(c.arg("fields"))
	if fields != nil {
		p, err := agg.ParseProjection(fields, true)
		if err != nil {
			return nil, err
		}
		if value, err = p.Apply(value, -1, c.e.now()); err != nil {
			return nil, err
		}
	}
	return b.Doc("value", value), nil
}

// modifyOne is findAndModify's write; mu is held.
func (c *call) modifyOne(ns string, query bson.Raw, u bson.RawValue, sort *agg.Sort, remove, upsert bool) (stmtResult, error) {
	if remove {
		st := new(bsonval.Builder).Doc("q", query).Int32("limit", 1)
		if h := c.arg("hint"); h.Type != 0 {
			st.Value("hint", h)
		}
		n, doc, err := c.deleteOne(ns, st.Raw(), sort, 0)
		return stmtResult{n: n, before: doc}, err
	}
	coll, err := c.writable(ns, false)
	if err != nil {
		return stmtResult{}, err
	}
	st := new(bsonval.Builder).Doc("q", query).Value("u", u).Bool("upsert", upsert)
	for _, k := range []string{"arrayFilters", "hint"} {
		if v := c.arg(k); v.Type != 0 {
			st.Value(k, v)
		}
	}
	spec, err := c.parseUpdate(st.Raw(), coll)
	if err != nil {
		return stmtResult{}, err
	}
	spec.sort = sort
	x, err := c.updateOne(ns, coll, spec, 0)
	return stmtResult{n: x.n, modified: x.modified, upserted: x.upserted, before: x.before, after: x.after}, err
}
