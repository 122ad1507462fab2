package crud

import (
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bucket"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/cursor"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/plan"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// findSpec is a parsed find.
type findSpec struct {
	ns                  string
	filter              *match.Filter
	sort                *agg.Sort
	proj                *agg.Projection
	skip, limit, batch  int64
	single, tail, await bool
	hint                bson.RawValue
	min, max            []bson.RawValue
	returnKey           bool
	tokens              bool  // $_requestResumeToken
	from                int64 // record id of $_resumeAfter; 0: the beginning
}

func parseFind(c *member.Call) (*findSpec, error) {
	ns, err := c.FindNS()
	if err != nil {
		return nil, err
	}
	if err := c.Known("filter", "sort", "projection", "hint", "skip", "limit", "batchSize", "singleBatch", "max", "min", "returnKey",
		"showRecordId", "tailable", "oplogReplay", "noCursorTimeout", "awaitData", "allowPartialResults", "allowDiskUse", "term",
		"readOnce", "ntoreturn", "snapshot", "$_requestResumeToken", "$_resumeAfter"); err != nil {
		return nil, err
	}
	f := &findSpec{ns: ns, batch: -1}
	for k, v := range bsonval.Each(c.Cmd) {
		switch k {
		case "skip", "limit", "batchSize":
			n, ok := bsonval.Integer(v)
			if !ok {
				return nil, refuse.Errf(refuse.CodeFailedToParse, "Failed to parse: %s. '%s' field must be numeric.", bsonval.FormatDoc(c.Cmd), k)
			}
			if n < 0 {
				name := map[string]string{"skip": "Skip", "limit": "Limit", "batchSize": "BatchSize"}[k]
				return nil, refuse.Errf(refuse.CodeBadValue, "%s value must be non-negative, but received: %d", name, n)
			}
			switch k {
			case "skip":
				f.skip = n
			case "limit":
				f.limit = n
			default:
				f.batch = n
			}
		case "filter", "sort", "projection", "min", "max":
			if v.Type != bson.TypeEmbeddedDocument {
				return nil, refuse.Errf(refuse.CodeFailedToParse, "Failed to parse: %s. '%s' field must be of BSON type object.", bsonval.FormatDoc(c.Cmd), k)
			}
		case "singleBatch":
			f.single = bsonval.Truthy(v)
		case "tailable":
			f.tail = bsonval.Truthy(v)
		case "awaitData":
			f.await = bsonval.Truthy(v)
		case "hint":
			f.hint = v
		case "returnKey":
			f.returnKey = bsonval.Truthy(v)
		case "$_requestResumeToken":
			f.tokens = bsonval.Truthy(v)
		}
	}
	if f.from, err = resumeAfter(c, f); err != nil {
		return nil, err
	}
	if f.await && !f.tail {
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Cannot set 'awaitData' without also setting 'tailable'")
	}
	if f.filter, err = filter(c, bsonval.SubDoc(c.Arg("filter")), c.State.Get(ns)); err != nil {
		return nil, err
	}
	if f.sort, err = agg.ParseSort(bsonval.SubDoc(c.Arg("sort"))); err != nil {
		return nil, err
	}
	if p := bsonval.SubDoc(c.Arg("projection")); len(p) > 5 {
		if f.proj, err = agg.ParseProjection(p, true); err != nil {
			return nil, err
		}
	}
	f.min, f.max = valuesOf(c.Arg("min")), valuesOf(c.Arg("max"))
	return f, nil
}

// resumeAfter reads the place behind which a scan goes on, and checks that the find is one that has places.
func resumeAfter(c *member.Call, f *findSpec) (int64, error) {
	after := c.Arg("$_resumeAfter")
	switch {
	case (f.tokens || after.Type != 0) && !c.E.Options().Version.AtLeast(4, 4):
		return 0, refuse.Errf(refuse.CodeFailedToParse, "Failed to parse: %s. Unrecognized field '$_requestResumeToken'.", bsonval.FormatDoc(c.Cmd))
	case !f.tokens && after.Type != 0:
		return 0, refuse.Errf(refuse.CodeBadValue, "'requestResumeToken' must be true if 'resumeAfter' is specified")
	case !f.tokens:
		return 0, nil
	}
	natural, _ := bsonval.Lookup(bsonval.SubDoc(f.hint), "$natural")
	if n, _ := bsonval.Integer(natural); n != 1 {
		return 0, refuse.Errf(refuse.CodeBadValue, "hint must be {$natural:1} if 'requestResumeToken' is enabled")
	}
	if after.Type == 0 {
		return 0, nil
	}
	id, _ := bsonval.Lookup(bsonval.SubDoc(after), "$recordId")
	if id.Type != bson.TypeInt64 {
		return 0, refuse.Errf(refuse.CodeBadValue, "Malformed resume token: the '_resumeAfter' object must contain exactly one field named '$recordId', of type NumberLong, BinData or jstNULL.")
	}
	return id.Int64(), nil
}

func valuesOf(v bson.RawValue) []bson.RawValue {
	if v.Type == 0 {
		return nil
	}
	return bsonval.Values(bsonval.SubDoc(v))
}

// findHint finds the index a hint names; nil is the collection itself.
func findHint(coll *store.Collection, hint bson.RawValue, ns string) (*store.Index, error) {
	for _, x := range coll.Indexes {
		key, _ := bsonval.Lookup(x.Spec, "key")
		if (hint.Type == bson.TypeString && bsonval.Str(hint) == x.Name) ||
			(hint.Type == bson.TypeEmbeddedDocument && bsonval.Equal(key, hint)) {
			return x, nil
		}
	}
	if doc := bsonval.SubDoc(hint); hint.Type == bson.TypeEmbeddedDocument && (bsonval.FirstKey(doc) == "$natural" || len(doc) == 5) {
		return nil, nil
	}
	return nil, refuse.Errf(refuse.CodeBadValue, "error processing query: ns=%sTree: $and\nSort: {}\nProj: {}\n planner returned error :: caused by :: hint provided does not correspond to an existing index", ns)
}

func tally(c *member.Call, found plan.Found) {
	st := c.E.Stats()
	st.ScannedKeys.Add(found.Keys)
	st.ScannedDocs.Add(found.Scanned)
	if found.CollectionScan {
		st.CollectionScans.Add(1)
	}
	if found.InMemorySort {
		st.ScanAndOrder.Add(1)
	}
}

// Find is the command find.
func Find(c *member.Call) (*bsonval.Builder, error) {
	c.E.Stats().Query.Add(1)
	unlock := c.RLock()
	defer unlock()
	f, err := parseFind(c)
	if err != nil {
		return nil, err
	}
	cur := &cursor.Cursor{NS: f.ns, Await: f.await, Tail: f.tail, Filter: f.filter, Majority: c.Majority()}
	if f.proj != nil {
		cur.Project(f.proj, f.filter, c.E.Now())
	}
	batch := f.batch
	if batch < 0 {
		batch = 101
		if f.limit > 0 {
			batch = max(batch, f.limit)
		}
	}
	coll := c.State.Get(f.ns)
	var until int64
	if coll != nil && !coll.View {
		cur.UUID = coll.UUID
		until, _ = c.E.Visible(coll, cur.Majority)
	}
	switch {
	case coll == nil:
	case coll.View:
		docs, err := viewDocs(c, coll, 0)
		if err != nil {
			return nil, err
		}
		cur.Docs = slices.DeleteFunc(docs, func(d bson.Raw) bool { return !f.filter.Match(d) })
		f.sort.Docs(cur.Docs, nil)
		cur.Docs = cut(cur.Docs, f.skip, f.limit)
	case f.tail:
		if !coll.Capped {
			return nil, refuse.Errf(refuse.CodeBadValue, "error processing query: ns=%s tailable cursor requested on non capped collection", f.ns)
		}
		cur.Start(coll, until, cursor.Most)
	case f.scans(c, coll):
		cur.Scan, cur.Tokens = true, f.tokens
		if f.from != 0 {
			if _, there := coll.Records.Get(f.from); !there {
				return nil, refuse.Errf(211, "Failed to resume collection scan: the recordId from which we are attempting to resume no longer exists in the collection. recordId: %d", f.from) // KeyNotFound
			}
			cur.Pos = f.from
		}
		c.E.Stats().CollectionScans.Add(1)
		cur.Start(coll, until, int(min(batch, cursor.Most))+1)
		c.E.Stats().ScannedDocs.Add(cur.Looked)
		cur.Looked = 0
	default:
		q := plan.Query{Filter: f.filter, Sort: f.sort, Skip: f.skip, Limit: f.limit, Coll: coll.Collation(), Min: f.min, Max: f.max, Until: until}
		if f.hint.Type != 0 {
			if q.Hint, err = findHint(coll, f.hint, f.ns); err != nil {
				return nil, err
			}
		}
		if f.single && f.limit == 0 && f.batch > 0 {
			q.Limit = f.batch
		}
		found := plan.Run(coll, q)
		tally(c, found)
		cur.Docs = found.Docs
		if f.returnKey && q.Hint != nil {
			cur.Shape = keyShape(q.Hint)
		}
	}
	return firstBatch(c, cur, batch, f.single)
}

// scans says that the find walks the collection and can stop and go on anywhere.
func (f *findSpec) scans(c *member.Call, coll *store.Collection) bool {
	if c.InTxn() || f.single || f.skip > 0 || f.limit > 0 || f.hint.Type != 0 && !f.tokens || f.min != nil || f.max != nil || f.returnKey {
		return false
	}
	if f.sort != nil && (len(f.sort.Fields) > 0 || f.sort.Natural < 0) {
		return false
	}
	return plan.Scans(coll, plan.Query{Filter: f.filter, Sort: f.sort, Coll: coll.Collation()})
}

func cut(docs []bson.Raw, skip, limit int64) []bson.Raw {
	docs = docs[min(skip, int64(len(docs))):]
	if limit > 0 {
		docs = docs[:min(limit, int64(len(docs)))]
	}
	return docs
}

// keyShape is find's returnKey: only the fields of the index.
func keyShape(x *store.Index) func(bson.Raw) (bson.Raw, error) {
	return func(doc bson.Raw) (bson.Raw, error) {
		var b bsonval.Builder
		for _, f := range x.Fields {
			vals, _, _ := store.PathValues(doc, f.Path)
			b.Value(f.Path, vals[0])
		}
		return b.Raw(), nil
	}
}

// maxViews is how many views may lie on one another.
const maxViews = 20

// viewDocs runs a view's pipeline; mu is held.
func viewDocs(c *member.Call, view *store.Collection, depth int) ([]bson.Raw, error) {
	if depth > maxViews {
		return nil, refuse.Errf(refuse.CodeViewDepthLimitExceeded, "View depth too deep or view cycle detected; maximum depth is %d", maxViews)
	}
	on := store.DBOf(view.NS) + "." + bsonval.StringField(view.Options, "viewOn")
	var docs []bson.Raw
	if base := c.State.Get(on); base != nil {
		if base.View {
			inner, err := viewDocs(c, base, depth+1)
			if err != nil {
				return nil, err
			}
			docs = inner
		} else {
			for _, d := range base.Records.Ascend(0) {
				docs = append(docs, d)
			}
		}
	}
	p, _ := bsonval.Lookup(view.Options, "pipeline")
	list := bsonval.SubDocs(p)
	if series, ok := bucket.Of(view.Options); ok {
		var out []bson.Raw
		for _, d := range docs {
			measured, err := series.Unpack(d)
			if err != nil {
				return nil, err
			}
			out = append(out, measured...)
		}
		docs, list = out, list[1:]
	}
	stages, err := agg.Parse(list)
	if err != nil {
		return nil, err
	}
	return agg.Run(stages, docs, c.E.Now())
}

func countDocs(c *member.Call) (int64, error) {
	ns, err := c.CollName()
	if err != nil {
		return 0, err
	}
	coll := c.State.Get(ns)
	if coll == nil {
		return 0, nil
	}
	skip, _ := bsonval.Integer(c.Arg("skip"))
	limit, _ := bsonval.Integer(c.Arg("limit"))
	if limit < 0 {
		limit = -limit
	}
	query := bsonval.SubDoc(c.Arg("query"))
	var n int64
	switch {
	case coll.View:
		docs, err := viewDocs(c, coll, 0)
		if err != nil {
			return 0, err
		}
		f, err := filter(c, query, nil)
		if err != nil {
			return 0, err
		}
		n = int64(len(slices.DeleteFunc(docs, func(d bson.Raw) bool { return !f.Match(d) })))
	case len(query) <= 5:
		n = int64(coll.Records.Len())
	default:
		f, err := filter(c, query, coll)
		if err != nil {
			return 0, err
		}
		found := plan.Run(coll, plan.Query{Filter: f, Coll: coll.Collation()})
		tally(c, found)
		n = int64(len(found.RIDs))
	}
	n = max(n-skip, 0)
	if limit > 0 {
		n = min(n, limit)
	}
	return n, nil
}

// Count is the command count.
func Count(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	n, err := countDocs(c)
	if err != nil {
		return nil, err
	}
	return new(bsonval.Builder).Value("n", bsonval.Int(n)), nil
}

// Distinct is the command distinct.
func Distinct(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	key := c.Arg("key")
	if key.Type != bson.TypeString {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'distinct.key' is the wrong type '%s', expected type 'string'", bsonval.TypeName(key.Type))
	}
	coll := c.State.Get(ns)
	var docs []bson.Raw
	f, err := filter(c, bsonval.SubDoc(c.Arg("query")), coll)
	if err != nil {
		return nil, err
	}
	if coll != nil && coll.View {
		all, err := viewDocs(c, coll, 0)
		if err != nil {
			return nil, err
		}
		docs = slices.DeleteFunc(all, func(d bson.Raw) bool { return !f.Match(d) })
	} else if coll != nil {
		found := plan.Run(coll, plan.Query{Filter: f, Coll: coll.Collation()})
		tally(c, found)
		docs = found.Docs
	}
	seen := map[string]bool{}
	var vals []bson.RawValue
	for _, d := range docs {
		vs, _, exists := store.PathValues(d, bsonval.Str(key))
		if !exists {
			continue
		}
		for _, v := range vs {
			if k := bsonval.Key(v); !seen[k] && v.Type != bson.TypeUndefined {
				seen[k] = true
				vals = append(vals, v)
			}
		}
	}
	slices.SortStableFunc(vals, bsonval.Compare)
	return new(bsonval.Builder).Value("values", bsonval.Array(vals)), nil
}

// Aggregate is the command aggregate.
func Aggregate(c *member.Call) (*bsonval.Builder, error) {
	pipeline := c.Arg("pipeline")
	if pipeline.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "'pipeline' option must be specified as an array")
	}
	cv := c.Arg("cursor")
	if cv.Type != bson.TypeEmbeddedDocument {
		return nil, refuse.Errf(refuse.CodeFailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument")
	}
	stages := bsonval.SubDocs(pipeline)
	unlock := c.RLock()
	defer unlock()
	ns, err := c.FindNS()
	if err != nil {
		return nil, err
	}
	docs, stages, err := source(c, ns, stages)
	if err != nil {
		return nil, err
	}
	for _, s := range stages {
		if k := bsonval.FirstKey(s); !agg.Known(k) {
			return nil, refuse.Errf(40324, "Unrecognized pipeline stage name: '%s'", k)
		}
	}
	parsed, err := agg.Parse(stages)
	if err != nil {
		return nil, err
	}
	if docs, err = agg.Run(parsed, docs, c.E.Now()); err != nil {
		return nil, err
	}
	batch := int64(101)
	if n, ok := bsonval.Lookup(bson.Raw(cv.Value), "batchSize"); ok {
		batch, _ = bsonval.Integer(n)
	}
	return firstBatch(c, &cursor.Cursor{NS: ns, Docs: docs}, max(batch, 0), false)
}

// source gives the documents a pipeline starts from and the stages that are left: leading $match, $sort, $skip and $limit are
// answered by the collection itself. mu is held.
func source(c *member.Call, ns string, stages []bson.Raw) ([]bson.Raw, []bson.Raw, error) {
	coll := c.State.Get(ns)
	if len(stages) > 0 {
		docs, ok, err := special(c, ns, coll, stages[0])
		if err != nil || ok {
			return docs, stages[1:], err
		}
	}
	if coll == nil {
		return nil, stages, nil
	}
	if coll.View {
		docs, err := viewDocs(c, coll, 0)
		return docs, stages, err
	}
	q := plan.Query{Coll: coll.Collation()}
	f, _ := match.Parse(nil, nil)
	q.Filter = f
	var err error
	if len(stages) > 0 && bsonval.FirstKey(stages[0]) == "$match" {
		v, _ := bsonval.Lookup(stages[0], "$match")
		if q.Filter, err = filter(c, bsonval.SubDoc(v), coll); err != nil {
			return nil, nil, err
		}
		stages = stages[1:]
	}
	if len(stages) > 0 && bsonval.FirstKey(stages[0]) == "$sort" {
		v, _ := bsonval.Lookup(stages[0], "$sort")
		if q.Sort, err = agg.ParseSort(bsonval.SubDoc(v)); err != nil {
			return nil, nil, err
		}
		if !q.Sort.Empty() {
			stages = stages[1:]
		}
	}
	found := plan.Run(coll, q)
	tally(c, found)
	return found.Docs, stages, nil
}

// special answers stages that tell of the server instead of documents.
func special(c *member.Call, ns string, coll *store.Collection, stage bson.Raw) ([]bson.Raw, bool, error) {
	switch bsonval.FirstKey(stage) {
	case "$collStats":
		if coll == nil {
			return nil, false, refuse.Errf(refuse.CodeNamespaceNotFound, "Collection [%s] not found.", ns)
		}
		var b bsonval.Builder
		b.String("ns", ns).Value("localTime", bsonval.Date(c.E.Now()))
		v, _ := bsonval.Lookup(stage, "$collStats")
		if _, ok := bsonval.Lookup(bsonval.SubDoc(v), "storageStats"); ok {
			b.Doc("storageStats", store.StatsOf(coll).Raw())
		}
		if _, ok := bsonval.Lookup(bsonval.SubDoc(v), "count"); ok {
			b.Value("count", bsonval.Int(store.SizeOf(coll).Docs))
		}
		return []bson.Raw{b.Raw()}, true, nil
	case "$indexStats":
		var out []bson.Raw
		if coll == nil {
			return nil, true, nil
		}
		for _, x := range coll.Indexes {
			key, _ := bsonval.Lookup(x.Spec, "key")
			acc := new(bsonval.Builder).Int64("ops", x.Accesses.Load()).Value("since", bsonval.Date(c.Session.Since)).Raw()
			out = append(out, new(bsonval.Builder).String("name", x.Name).Value("key", key).String("host", c.E.Options().HostPort).
				Doc("accesses", acc).Doc("spec", x.Spec).Raw())
		}
		return out, true, nil
	case "$currentOp":
		if c.DB != "admin" || !strings.HasPrefix(ns, "admin.$cmd") {
			return nil, false, refuse.Errf(refuse.CodeInvalidNamespace, "$currentOp must be run against the 'admin' database with {aggregate: 1}")
		}
		op := new(bsonval.Builder).String("type", "op").String("host", c.E.Options().HostPort).Bool("active", true).
			String("currentOpTime", bsonval.FormatTime(c.E.Now())).Int64("connectionId", c.Session.ID).String("client", c.Session.Remote).
			String("op", "command").String("ns", "admin.$cmd.aggregate").Doc("command", c.Cmd)
		return []bson.Raw{op.Raw()}, true, nil
	case "$listLocalSessions", "$listSessions":
		return nil, true, nil
	}
	return nil, false, nil
}

// Fsync is the command fsync.
func Fsync(c *member.Call) (*bsonval.Builder, error) {
	if err := c.E.Sync(); err != nil {
		return nil, err
	}
	return new(bsonval.Builder).Int32("numFiles", 1), nil
}

func deadline(c *member.Call, d time.Duration) time.Duration {
	if ms, ok := bsonval.Integer(c.Arg("maxTimeMS")); ok && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return d
}
