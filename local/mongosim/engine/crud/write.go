// Package crud is the commands that read and write documents: insert, update, delete, findAndModify, find, getMore, count,
// distinct and aggregate. It owns no state; a member.Call gives it the member to work on.
package crud

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bucket"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/plan"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// writeErrors collects the statements of a batch that failed.
type writeErrors struct{ docs []bson.Raw }

func (w *writeErrors) add(i int, err *refuse.Error) {
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
func statements(c *member.Call, field string) ([]bson.Raw, error) {
	v := c.Arg(field)
	if v.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'array'", c.Name, field, bsonval.TypeName(v.Type))
	}
	var out []bson.Raw
	for _, x := range bsonval.Each(bson.Raw(v.Value)) {
		if x.Type != bson.TypeEmbeddedDocument {
			return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field '%s.%s.0' is the wrong type '%s', expected type 'object'", c.Name, field, bsonval.TypeName(x.Type))
		}
		out = append(out, bson.Raw(x.Value))
	}
	if len(out) == 0 || len(out) > 100_000 {
		return nil, refuse.Errf(refuse.CodeInvalidLength, "Write batch sizes must be between 1 and 100000. Got %d operations.", len(out))
	}
	return out, nil
}

// batch runs the statements of a write command one by one. A transaction ends at the first failure.
func batch(c *member.Call, n int, f func(i int) error) (*writeErrors, error) {
	ordered := true
	if v := c.Arg("ordered"); v.Type != 0 {
		ordered = bsonval.Truthy(v)
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	var w writeErrors
	for i := range n {
		err := f(i)
		if err == nil {
			continue
		}
		r := refuse.Of(err)
		switch r.Code {
		case refuse.CodeWriteConflict, refuse.CodeInterruptedAtShutdown, refuse.CodeNotWritablePrimary, refuse.CodeInterrupted, refuse.CodeMaxTimeMSExpired,
			refuse.CodeInvalidNamespace, refuse.CodePrimarySteppedDown, refuse.CodeInterruptedStateChange:
			return nil, r
		}
		w.add(i, r)
		if c.InTxn() {
			c.AbortTxn()
			break
		}
		if ordered {
			break
		}
	}
	return &w, nil
}

// Insert is the command insert.
func Insert(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := writeFields(c, ns, "documents"); err != nil {
		return nil, err
	}
	docs, err := statements(c, "documents")
	if err != nil {
		return nil, err
	}
	c.E.Stats().Insert.Add(int64(len(docs)))
	n := int32(0)
	w, err := batch(c, len(docs), func(i int) error {
		if _, done := c.Done(i); done {
			n++
			return nil
		}
		doc, err := prepareInsert(c, docs[i])
		if err != nil {
			return err
		}
		if !keepsTimestamps(c) {
			doc = update.FillTimestamps(doc, c.E.NextTS())
		}
		if view := c.State.Get(ns); view != nil && view.View {
			if _, ok := bucket.Of(view.Options); ok {
				if err := insertSeries(c, view, doc, i); err != nil {
					return err
				}
				n++
				return nil
			}
		}
		coll, err := c.Writable(ns, true)
		if err != nil {
			return err
		}
		if err := InsertDoc(c, coll, doc, i); err != nil {
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
func prepareInsert(c *member.Call, doc bson.Raw) (bson.Raw, error) {
	e := c.E
	if len(doc) > member.MaxDocument {
		return nil, refuse.Errf(refuse.CodeBadValue, "object to insert too large. size in bytes: %d, max size: %d", len(doc), member.MaxDocument)
	}
	for k := range bsonval.Each(doc) {
		if strings.HasPrefix(k, "$") && !e.Options().Version.AtLeast(5, 0) {
			return nil, refuse.Errf(refuse.CodeBadValue, "Document can't have $ prefixed field names: %s", k)
		}
	}
	id, ok := bsonval.Lookup(doc, "_id")
	if !ok {
		id = bsonval.ObjectID(bson.NewObjectIDFromTimestamp(e.Now()))
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
	return doc, nil
}

// keepsTimestamps says that the command wants empty timestamps stored as they are.
func keepsTimestamps(c *member.Call) bool { return bsonval.Truthy(c.Arg(bypassEmptyTS)) }

const bypassEmptyTS = "bypassEmptyTsReplacement"

// writeFields refuses fields that a write command does not have, and writes to what clients may not write.
func writeFields(c *member.Call, ns, statements string) error {
	fields := []string{statements, "ordered", "bypassDocumentValidation"}
	if c.E.Options().Version.AtLeast(8, 0) {
		fields = append(fields, bypassEmptyTS)
	}
	if err := c.Known(fields...); err != nil {
		return err
	}
	if strings.HasSuffix(ns, ".system.views") && c.E.Options().Version.AtLeast(5, 0) && !c.Session.Internal {
		return refuse.Errf(refuse.CodeInvalidNamespace, "cannot write to '%s'", ns)
	}
	return nil
}

func checkID(id bson.RawValue) error {
	switch id.Type {
	case bson.TypeArray:
		return refuse.Errf(refuse.CodeBadValue, "can't use an array for _id")
	case bson.TypeRegex:
		return refuse.Errf(refuse.CodeBadValue, "can't use a regex for _id")
	case bson.TypeUndefined:
		return refuse.Errf(refuse.CodeBadValue, "can't use a undefined for _id")
	case bson.TypeEmbeddedDocument:
		for k := range bsonval.Each(bson.Raw(id.Value)) {
			if strings.HasPrefix(k, "$") {
				return refuse.Errf(refuse.CodeDollarPrefixed, "%s is not valid for storage.", k)
			}
		}
	}
	return nil
}

// InsertDoc stores a document that is ready; mu is held.
func InsertDoc(c *member.Call, coll *store.Collection, doc bson.Raw, stmt int) error {
	if err := validate(c, coll, doc); err != nil {
		return err
	}
	id, _ := bsonval.Lookup(doc, "_id")
	coll, err := c.Claim(coll, id)
	if err != nil {
		return err
	}
	if _, err := c.State.Insert(c.Batch(), coll, doc); err != nil {
		return err
	}
	if !c.InTxn() {
		c.E.Trim(coll)
	}
	c.E.Stats().DocsInserted.Add(1)
	c.Record(oplog.Entry{Op: "i", NS: coll.NS, UI: coll.UUID, O: doc}, stmt, member.StmtResult{N: 1})
	c.E.ViewChanged(c, coll, doc, false)
	return nil
}

// validate asks the collection's validator.
func validate(c *member.Call, coll *store.Collection, doc bson.Raw) error {
	v, ok := bsonval.Lookup(coll.Options, "validator")
	if !ok || bsonval.Truthy(c.Arg("bypassDocumentValidation")) {
		return nil
	}
	if bsonval.StringField(coll.Options, "validationLevel") == "off" || bsonval.StringField(coll.Options, "validationAction") == "warn" {
		return nil
	}
	f, err := match.Parse(bsonval.SubDoc(v), nil)
	if err != nil {
		return err
	}
	if !f.Match(doc) {
		return refuse.Errf(refuse.CodeDocumentValidation, "Document failed validation")
	}
	return nil
}

// target finds the documents a write is about; mu is held.
func target(c *member.Call, coll *store.Collection, f *match.Filter, sort *agg.Sort, multi bool, hint bson.RawValue) ([]int64, error) {
	q := plan.Query{Filter: f, Sort: sort, Coll: coll.Collation()}
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
	tally(c, found)
	return found.RIDs, nil
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

func parseUpdate(c *member.Call, st bson.Raw, coll *store.Collection) (*updateSpec, error) {
	var s updateSpec
	var q, u bson.RawValue
	o := update.Options{Now: c.E.Now()}
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
			return nil, refuse.Errf(40415, "BSON field 'update.updates.%s' is an unknown field.", k)
		}
	}
	if q.Type != bson.TypeEmbeddedDocument || u.Type == 0 {
		return nil, refuse.Errf(40414, "BSON field 'update.updates.%s' is missing but a required field", map[bool]string{true: "q", false: "u"}[q.Type == 0])
	}
	var err error
	if s.filter, err = filter(c, bson.Raw(q.Value), coll); err != nil {
		return nil, err
	}
	if s.u, err = update.Parse(u, o); err != nil {
		return nil, err
	}
	if s.multi && s.u.Replacement() {
		return nil, refuse.Errf(refuse.CodeFailedToParse, "multi update is not supported for replacement-style update")
	}
	return &s, nil
}

func filter(c *member.Call, doc bson.Raw, coll *store.Collection) (*match.Filter, error) {
	o := &match.Options{Now: c.E.Now()}
	if coll != nil {
		o.Collation = coll.Collation()
	}
	return match.Parse(doc, o)
}

// Update is the command update.
func Update(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := writeFields(c, ns, "updates"); err != nil {
		return nil, err
	}
	sts, err := statements(c, "updates")
	if err != nil {
		return nil, err
	}
	c.E.Stats().Update.Add(int64(len(sts)))
	var n, modified int32
	var ups []bson.Raw
	w, err := batch(c, len(sts), func(i int) error {
		r, done := c.Done(i)
		if !done {
			coll, err := c.Writable(ns, false)
			if err != nil {
				return err
			}
			spec, err := parseUpdate(c, sts[i], coll)
			if err != nil {
				return err
			}
			x, err := updateOne(c, ns, coll, spec, i)
			if err != nil {
				return err
			}
			r = member.StmtResult{N: x.n, Modified: x.modified, Upserted: x.upserted}
		}
		n += r.N
		modified += r.Modified
		if r.Upserted != nil {
			ups = append(ups, new(bsonval.Builder).Int32("index", int32(i)).Value("_id", *r.Upserted).Raw())
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
func updateOne(c *member.Call, ns string, coll *store.Collection, s *updateSpec, stmt int) (updated, error) {
	var out updated
	if coll != nil {
		rids, err := target(c, coll, s.filter, s.sort, s.multi, s.hint)
		if err != nil {
			return out, err
		}
		for _, rid := range rids {
			if err := updateRecord(c, &coll, rid, s, stmt, &out); err != nil {
				return out, err
			}
		}
	}
	if out.n > 0 || !s.upsert {
		return out, nil
	}
	coll, err := c.Writable(ns, true)
	if err != nil {
		return out, err
	}
	base, err := s.u.UpsertBase(s.filter.Equalities())
	if err != nil {
		return out, err
	}
	r, err := s.u.Apply(base, update.Target{Index: -1, Insert: true, Now: c.E.Now(), NextTS: c.E.NextTS(), KeepTS: keepsTimestamps(c)})
	if err != nil {
		return out, err
	}
	doc, err := prepareInsert(c, r.Doc)
	if err != nil {
		return out, err
	}
	if err := InsertDoc(c, coll, doc, stmt); err != nil {
		return out, err
	}
	id, _ := bsonval.Lookup(doc, "_id")
	out.n, out.upserted, out.after = 1, &id, doc
	c.Amend(stmt, member.StmtResult{N: 1, Upserted: &id, After: doc})
	return out, nil
}

// updateRecord applies the update to one record, when it still matches.
func updateRecord(c *member.Call, coll **store.Collection, rid int64, s *updateSpec, stmt int, out *updated) error {
	doc, ok := (*coll).Records.Get(rid)
	if !ok {
		return nil
	}
	id, _ := bsonval.Lookup(doc, "_id")
	if x, err := c.Claim(*coll, id); err != nil {
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
	r, err := s.u.Apply(doc, update.Target{Index: index, Now: c.E.Now(), NextTS: c.E.NextTS(), KeepTS: keepsTimestamps(c)})
	if err != nil {
		return err
	}
	out.n++
	out.before, out.after = doc, doc
	if !r.Changed {
		return nil
	}
	if len(r.Doc) > member.MaxDocument {
		return refuse.Errf(17419, "Resulting document after update is larger than %d", member.MaxDocument)
	}
	if err := validate(c, *coll, r.Doc); err != nil {
		return err
	}
	if err := c.State.Put(c.Batch(), *coll, rid, r.Doc); err != nil {
		out.n--
		return err
	}
	out.after = r.Doc
	out.modified++
	c.E.Stats().DocsUpdated.Add(1)
	log := r.Log
	if c.E.Diffs() && !s.u.Replacement() {
		log = update.Diff(doc, r.Doc)
	}
	o2 := new(bsonval.Builder).Value("_id", id).Raw()
	c.Record(oplog.Entry{Op: "u", NS: (*coll).NS, UI: (*coll).UUID, O: log, O2: o2}, stmt, member.StmtResult{N: out.n, Modified: out.modified, Before: doc, After: r.Doc})
	return nil
}

// Delete is the command delete.
func Delete(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := writeFields(c, ns, "deletes"); err != nil {
		return nil, err
	}
	sts, err := statements(c, "deletes")
	if err != nil {
		return nil, err
	}
	for _, st := range sts {
		v, _ := bsonval.Lookup(st, "limit")
		if n, ok := bsonval.Whole(v); !ok || (n != 0 && n != 1) {
			return nil, refuse.Errf(refuse.CodeFailedToParse, "The limit field in delete objects must be 0 or 1. Got %s", bsonval.Format(v))
		}
	}
	c.E.Stats().Delete.Add(int64(len(sts)))
	n := int32(0)
	w, err := batch(c, len(sts), func(i int) error {
		r, done := c.Done(i)
		if !done {
			k, _, err := DeleteOne(c, ns, sts[i], nil, i)
			if err != nil {
				return err
			}
			r.N = k
		}
		n += r.N
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

// DeleteOne carries out one delete statement; mu is held.
func DeleteOne(c *member.Call, ns string, st bson.Raw, sort *agg.Sort, stmt int) (int32, bson.Raw, error) {
	coll, err := c.Writable(ns, false)
	if err != nil || coll == nil {
		return 0, nil, err
	}
	q, _ := bsonval.Lookup(st, "q")
	f, err := filter(c, bsonval.SubDoc(q), coll)
	if err != nil {
		return 0, nil, err
	}
	if coll.Capped && !c.Session.Internal && !c.E.Options().Version.AtLeast(5, 0) {
		return 0, nil, refuse.Errf(refuse.CodeIllegalOperation, "cannot remove from a capped collection: %s", ns)
	}
	limit, _ := bsonval.Lookup(st, "limit")
	one, _ := bsonval.Integer(limit)
	hint, _ := bsonval.Lookup(st, "hint")
	rids, err := target(c, coll, f, sort, one == 0, hint)
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
		if coll, err = c.Claim(coll, id); err != nil || coll == nil {
			return n, last, err
		}
		if doc, ok = coll.Records.Get(rid); !ok || !f.Match(doc) {
			continue
		}
		c.State.Remove(c.Batch(), coll, rid)
		n++
		last = doc
		c.E.Stats().DocsDeleted.Add(1)
		o := new(bsonval.Builder).Value("_id", id).Raw()
		c.Record(oplog.Entry{Op: "d", NS: coll.NS, UI: coll.UUID, O: o}, stmt, member.StmtResult{N: n, Before: doc})
		c.E.ViewChanged(c, coll, doc, true)
	}
	return n, last, nil
}

// FindAndModify is the command findAndModify.
func FindAndModify(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	remove, u := bsonval.Truthy(c.Arg("remove")), c.Arg("update")
	wantNew, upsert := bsonval.Truthy(c.Arg("new")), bsonval.Truthy(c.Arg("upsert"))
	switch {
	case remove && u.Type != 0:
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Cannot specify both an update and remove=true")
	case remove && upsert:
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Cannot specify both upsert=true and remove=true ")
	case remove && wantNew:
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Cannot specify both new=true and remove=true; 'remove' always returns the deleted document")
	case !remove && u.Type == 0:
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Either an update or remove=true must be specified")
	}
	sort, err := agg.ParseSort(bsonval.SubDoc(c.Arg("sort")))
	if err != nil {
		return nil, err
	}
	query := bsonval.SubDoc(c.Arg("query"))
	if query == nil {
		query = new(bsonval.Builder).Raw()
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	r, done := c.Done(0)
	if !done {
		if r, err = modifyOne(c, ns, query, u, sort, remove, upsert); err != nil {
			if c.InTxn() {
				c.AbortTxn()
			}
			return nil, err
		}
	}
	var last, b bsonval.Builder
	last.Int32("n", r.N)
	value := r.Before
	if !remove {
		last.Bool("updatedExisting", r.N > 0 && r.Upserted == nil)
		if r.Upserted != nil {
			last.Value("upserted", *r.Upserted)
		}
		if wantNew {
			value = r.After
		}
	}
	b.Doc("lastErrorObject", last.Raw())
	if value == nil {
		return b.Value("value", bsonval.Null()), nil
	}
	fields := bsonval.SubDoc(c.Arg("fields"))
	if fields != nil {
		p, err := agg.ParseProjection(fields, true)
		if err != nil {
			return nil, err
		}
		if value, err = p.Apply(value, -1, c.E.Now()); err != nil {
			return nil, err
		}
	}
	return b.Doc("value", value), nil
}

// modifyOne is findAndModify's write; mu is held.
func modifyOne(c *member.Call, ns string, query bson.Raw, u bson.RawValue, sort *agg.Sort, remove, upsert bool) (member.StmtResult, error) {
	if remove {
		st := new(bsonval.Builder).Doc("q", query).Int32("limit", 1)
		if h := c.Arg("hint"); h.Type != 0 {
			st.Value("hint", h)
		}
		n, doc, err := DeleteOne(c, ns, st.Raw(), sort, 0)
		return member.StmtResult{N: n, Before: doc}, err
	}
	coll, err := c.Writable(ns, false)
	if err != nil {
		return member.StmtResult{}, err
	}
	st := new(bsonval.Builder).Doc("q", query).Value("u", u).Bool("upsert", upsert)
	for _, k := range []string{"arrayFilters", "hint"} {
		if v := c.Arg(k); v.Type != 0 {
			st.Value(k, v)
		}
	}
	spec, err := parseUpdate(c, st.Raw(), coll)
	if err != nil {
		return member.StmtResult{}, err
	}
	spec.sort = sort
	x, err := updateOne(c, ns, coll, spec, 0)
	return member.StmtResult{N: x.n, Modified: x.modified, Upserted: x.upserted, Before: x.before, After: x.after}, err
}
