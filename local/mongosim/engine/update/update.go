package update

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

const (
	badValue      = 2
	failedToParse = 9
	typeMismatch  = 14
	pathNotViable = 28
	conflicting   = 40
	dollarName    = 52
	emptyName     = 56
	immutable     = 66
)

// Update is a parsed update.
type Update struct {
	raw      bson.RawValue
	replace  bson.Raw
	pipeline []agg.Stage
	mods     []mod
	filters  map[string]func(bson.RawValue) bool
}

// mod is one operator on one path.
type mod struct {
	op    string
	path  string
	parts []string
	arg   bson.RawValue
	push  *pushSpec
	pull  func(bson.RawValue) bool
}

// Options of an update statement.
type Options struct {
	ArrayFilters []bson.Raw
	Now          time.Time
}

// Target is what one application of an update needs to know.
type Target struct {
	Index  int            // position the filter matched in an array, -1 none
	Insert bool           // an upsert's new document
	Now    time.Time      // for $currentDate and $$NOW
	NextTS bson.Timestamp // for $currentDate of type timestamp, and for empty timestamps of a replacement
	KeepTS bool           // empty timestamps of a replacement stay as they are
}

// Result is a changed document.
type Result struct {
	Doc     bson.Raw
	Changed bool
	// Log is the o of a $v: 1 entry; for replacements the replacement.
	Log bson.Raw
	// Full says that the entry is a whole document by nature (replacement or pipeline).
	Full bool
}

// Parse reads an update: a document of operators, a replacement, or a pipeline.
func Parse(u bson.RawValue, o Options) (*Update, error) {
	out := &Update{raw: u, filters: map[string]func(bson.RawValue) bool{}}
	switch u.Type {
	case bson.TypeArray:
		if len(o.ArrayFilters) > 0 {
			return nil, refuse.Errf(failedToParse, "arrayFilters may not be specified for pipeline-syle updates")
		}
		var docs []bson.Raw
		for _, s := range bsonval.Each(bson.Raw(u.Value)) {
			docs = append(docs, bsonval.SubDoc(s))
		}
		stages, err := agg.ParseUpdate(docs)
		if err != nil {
			return nil, err
		}
		out.pipeline = stages
		return out, nil
	case bson.TypeEmbeddedDocument:
	default:
		return nil, refuse.Errf(failedToParse, "Update argument must be either an object or an array")
	}
	doc := bson.Raw(u.Value)
	if !strings.HasPrefix(bsonval.FirstKey(doc), "$") {
		if len(o.ArrayFilters) > 0 {
			return nil, refuse.Errf(failedToParse, "arrayFilters may not be specified for replacement-style updates")
		}
		for k := range bsonval.Each(doc) {
			if strings.HasPrefix(k, "$") {
				return nil, refuse.Errf(dollarName, "The dollar ($) prefixed field '%s' in '%s' is not valid for storage.", k, k)
			}
		}
		out.replace = doc
		return out, nil
	}
	if err := out.parseFilters(o); err != nil {
		return nil, err
	}
	if err := out.parseMods(doc, o); err != nil {
		return nil, err
	}
	return out, nil
}

// Replacement says whether the update replaces whole documents; such an update cannot be multi.
func (u *Update) Replacement() bool { return u.replace != nil }

func (u *Update) parseFilters(o Options) error {
	for _, f := range o.ArrayFilters {
		id := ""
		for k := range bsonval.Each(f) {
			name := k
			if strings.HasPrefix(k, "$") {
				v, _ := bsonval.Lookup(f, k)
				for _, m := range bsonval.Each(bsonval.SubDoc(v)) {
					name = bsonval.FirstKey(bsonval.SubDoc(m))
				}
			}
			name, _, _ = strings.Cut(name, ".")
			if id != "" && id != name {
				return refuse.Errf(failedToParse, "Error parsing array filter :: caused by :: Expected a single top-level field name, found '%s' and '%s'", id, name)
			}
			id = name
		}
		if id == "" {
			return refuse.Errf(failedToParse, "Cannot use an expression without a top-level field name in arrayFilters")
		}
		if _, dup := u.filters[id]; dup {
			return refuse.Errf(failedToParse, "Found multiple array filters with the same top-level field name %s", id)
		}
		m, err := match.Parse(f, &match.Options{Now: o.Now})
		if err != nil {
			return err
		}
		u.filters[id] = func(v bson.RawValue) bool {
			var b bsonval.Builder
			return m.Match(b.Value(id, v).Raw())
		}
	}
	return nil
}

func (u *Update) parseMods(doc bson.Raw, o Options) error {
	used := map[string]bool{}
	taken := map[string]bool{}   // paths that are changed
	through := map[string]bool{} // their parents
	claim := func(path string) error {
		parts := strings.Split(path, ".")
		for i := 1; i <= len(parts); i++ {
			p := strings.Join(parts[:i], ".")
			if taken[p] || (i == len(parts) && through[p]) {
				return refuse.Errf(conflicting, "Updating the path '%s' would create a conflict at '%s'", path, p)
			}
			if i < len(parts) {
				through[p] = true
			}
		}
		taken[path] = true
		return nil
	}
	for op, arg := range bsonval.Each(doc) {
		if !known(op) {
			return refuse.Errf(failedToParse, "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update specified as an array", op)
		}
		if arg.Type != bson.TypeEmbeddedDocument {
			return refuse.Errf(failedToParse, "Modifiers operate on fields but we found type %s instead. For example: {$mod: {<field>: ...}} not {%s}",
				bsonval.TypeName(arg.Type), bsonval.FormatElem(op, arg))
		}
		if bsonval.FirstKey(bson.Raw(arg.Value)) == "" && len(arg.Value) == 5 {
			return refuse.Errf(failedToParse, "'%s' is empty. You must specify a field like so: {%s: {<field>: ...}}", op, op)
		}
		for path, v := range bsonval.Each(bson.Raw(arg.Value)) {
			m, err := parseMod(op, path, v, o)
			if err != nil {
				return err
			}
			for _, p := range m.parts {
				id, ok := filterID(p)
				if !ok || id == "" {
					continue
				}
				if u.filters[id] == nil {
					return refuse.Errf(badValue, "No array filter found for identifier '%s' in path '%s'", id, path)
				}
				used[id] = true
			}
			if err := claim(m.path); err != nil {
				return err
			}
			if op == "$rename" {
				if err := claim(bsonval.Str(m.arg)); err != nil {
					return err
				}
				m.path, m.arg = bsonval.Str(m.arg), bsonval.String(m.path) // applied at its destination
				m.parts = strings.Split(m.path, ".")
			}
			u.mods = append(u.mods, m)
		}
	}
	for id := range u.filters {
		if !used[id] {
			return refuse.Errf(failedToParse, "The array filter for identifier '%s' was not used in the update %s", id, bsonval.FormatDoc(doc))
		}
	}
	slices.SortStableFunc(u.mods, func(a, b mod) int { return slices.Compare(a.parts, b.parts) })
	return nil
}

// filterID reads $[] (empty) and $[id].
func filterID(part string) (string, bool) {
	if strings.HasPrefix(part, "$[") && strings.HasSuffix(part, "]") {
		return part[2 : len(part)-1], true
	}
	return "", false
}

// checkPath refuses paths that no document can have.
func checkPath(path string) error {
	if path == "" {
		return refuse.Errf(emptyName, "An empty update path is not valid.")
	}
	for _, p := range strings.Split(path, ".") {
		if p == "" {
			return refuse.Errf(emptyName, "The update path '%s' contains an empty field name, which is not allowed.", path)
		}
	}
	return nil
}

// Apply changes a document.
func (u *Update) Apply(doc bson.Raw, t Target) (Result, error) {
	switch {
	case u.replace != nil:
		return u.applyReplace(doc, t)
	case u.pipeline != nil:
		out, err := agg.RunUpdate(u.pipeline, doc, t.Now)
		if err != nil {
			return Result{}, err
		}
		out, err = keepID(doc, out)
		if err != nil {
			return Result{}, err
		}
		return Result{Doc: out, Changed: string(out) != string(doc), Log: out, Full: true}, nil
	}
	root := newNode(bsonval.Doc(doc))
	a := &applier{u: u, t: t, doc: doc}
	changed := false
	for _, m := range u.mods {
		if m.op == "$setOnInsert" && !t.Insert {
			continue
		}
		parts, err := a.positional(m)
		if err != nil {
			return Result{}, err
		}
		var c bool
		if m.op == "$rename" {
			c, err = a.rename(root, m, parts)
		} else {
			c, err = a.walk(root, "", parts, m)
		}
		if err != nil {
			return Result{}, err
		}
		if c && parts[0] == "_id" {
			if _, had := bsonval.Lookup(doc, "_id"); had {
				p := strings.Join(parts, ".")
				return Result{}, refuse.Errf(immutable, "Performing an update on the path '%s' would modify the immutable field '_id'", p)
			}
		}
		changed = changed || c
	}
	out := doc
	if changed {
		out = bson.Raw(root.value().Value)
	}
	return Result{Doc: out, Changed: changed, Log: a.log.entry()}, nil
}

func (u *Update) applyReplace(doc bson.Raw, t Target) (Result, error) {
	repl := u.replace
	if !t.KeepTS {
		repl = FillTimestamps(repl, t.NextTS)
	}
	out, err := keepID(doc, repl)
	if err != nil {
		return Result{}, err
	}
	log := out
	if _, ok := bsonval.Lookup(repl, "_id"); ok {
		log = repl
	}
	return Result{Doc: out, Changed: string(out) != string(doc), Log: log, Full: true}, nil
}

// keepID puts the old document's _id first and refuses another one.
func keepID(old, doc bson.Raw) (bson.Raw, error) {
	was, had := bsonval.Lookup(old, "_id")
	is, has := bsonval.Lookup(doc, "_id")
	if had && has && !bsonval.Equal(was, is) {
		return nil, refuse.Errf(immutable, "After applying the update, the (immutable) field '_id' was found to have been altered to _id: %s", bsonval.Format(is))
	}
	if !had {
		was = is
	}
	if !had && !has {
		return doc, nil
	}
	var b bsonval.Builder
	b.Value("_id", was)
	for k, v := range bsonval.Each(doc) {
		if k != "_id" {
			b.Value(k, v)
		}
	}
	return b.Raw(), nil
}

// FillTimestamps replaces empty timestamps at the top level, as inserts and replacements do.
func FillTimestamps(doc bson.Raw, ts bson.Timestamp) bson.Raw {
	empty := func(k string, v bson.RawValue) bool {
		return v.Type == bson.TypeTimestamp && k != "_id" && string(v.Value) == "\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	found := false
	for k, v := range bsonval.Each(doc) {
		found = found || empty(k, v)
	}
	if !found {
		return doc
	}
	var b bsonval.Builder
	for k, v := range bsonval.Each(doc) {
		if empty(k, v) {
			v = bsonval.Timestamp(ts)
		}
		b.Value(k, v)
	}
	return b.Raw()
}

// UpsertBase is the document an upsert starts from: what the filter demands equal.
func (u *Update) UpsertBase(eqs []bsonval.Elem) (bson.Raw, error) {
	root := newNode(bsonval.Doc(new(bsonval.Builder).Raw()))
	for _, e := range eqs {
		if u.replace != nil && e.Key != "_id" {
			continue
		}
		parts := strings.Split(e.Key, ".")
		at := root
		for i, p := range parts {
			if i == len(parts)-1 {
				if old := at.child(p); old != nil && !bsonval.Equal(old.value(), e.Value) {
					return nil, refuse.Errf(54, "cannot infer query fields to set, path '%s' is matched twice", e.Key)
				}
				at.set(p, newNode(e.Value))
				break
			}
			next := at.child(p)
			if next == nil {
				next = newNode(bsonval.Doc(new(bsonval.Builder).Raw()))
				at.set(p, next)
			}
			if !next.isDoc() {
				return nil, refuse.Errf(54, "cannot infer query fields to set, path '%s' is matched twice", e.Key)
			}
			at = next
		}
	}
	return bson.Raw(root.value().Value), nil
}

// applier carries one application.
type applier struct {
	u   *Update
	t   Target
	doc bson.Raw
	log logger
}

// idText prints the document's _id as messages do.
func (a *applier) idText() string {
	v, ok := bsonval.Lookup(a.doc, "_id")
	if !ok {
		return "{}"
	}
	return "{" + bsonval.FormatElem("_id", v) + "}"
}

func (a *applier) positional(m mod) ([]string, error) {
	parts := m.parts
	for i, p := range parts {
		if p != "$" {
			continue
		}
		if a.t.Index < 0 {
			return nil, refuse.Errf(badValue, "The positional operator did not find the match needed from the query.")
		}
		parts = slices.Clone(parts)
		parts[i] = strconv.Itoa(a.t.Index)
	}
	return parts, nil
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// walk goes down to the end of the path and applies the operator there; path says where n is, for messages and the log.
func (a *applier) walk(n *node, path string, parts []string, m mod) (bool, error) {
	name := parts[0]
	if id, ok := filterID(name); ok {
		return a.each(n, path, id, parts, m)
	}
	if !n.isDoc() && !n.isArray() {
		if !creates(m.op) {
			return false, nil
		}
		return false, notViable(name, path, n)
	}
	if n.isArray() {
		i, ok := position(name)
		if !ok {
			if !creates(m.op) {
				return false, nil
			}
			return false, notViable(name, path, n)
		}
		n.expand()
		if creates(m.op) && i-len(n.items) > maxPosition {
			return false, refuse.Errf(badValue, "Cannot set array element '%s': can't backfill more than %d elements", name, maxPosition)
		}
	}
	here := join(path, name)
	if len(parts) == 1 {
		return a.leaf(n, name, here, m)
	}
	child := n.child(name)
	if child != nil {
		return a.walk(child, here, parts[1:], m)
	}
	if !creates(m.op) {
		return false, nil
	}
	// The rest of the path is made of new documents.
	for _, p := range parts[1:] {
		if _, ok := filterID(p); ok {
			return false, refuse.Errf(badValue, "The path '%s' must exist in the document in order to apply array updates.", here)
		}
		if strings.HasPrefix(p, "$") {
			return false, dollarField(p, join(here, strings.Join(parts[1:], ".")))
		}
	}
	if strings.HasPrefix(name, "$") && n.isDoc() {
		return false, dollarField(name, here)
	}
	inner := newNode(bsonval.Doc(new(bsonval.Builder).Raw()))
	top := inner
	for _, p := range parts[1 : len(parts)-1] {
		next := newNode(bsonval.Doc(new(bsonval.Builder).Raw()))
		inner.set(p, next)
		inner = next
	}
	full := join(here, strings.Join(parts[1:], "."))
	changed, err := a.leaf(inner, parts[len(parts)-1], full, m)
	if err != nil || !changed {
		return false, err
	}
	n.set(name, top)
	return true, nil
}

func dollarField(name, path string) error {
	return refuse.Errf(dollarName, "The dollar ($) prefixed field '%s' in '%s' is not valid for storage.", name, path)
}

func notViable(name, path string, n *node) error {
	last := path[strings.LastIndexByte(path, '.')+1:]
	return refuse.Errf(pathNotViable, "Cannot create field '%s' in element {%s}", name, bsonval.FormatElem(last, n.value()))
}

// each applies the rest of the path to the members of an array that a filter picks, or to all. The log gets the one member
// that changed, or the whole array when several did.
func (a *applier) each(n *node, path, id string, parts []string, m mod) (bool, error) {
	if !n.isArray() {
		last := path[strings.LastIndexByte(path, '.')+1:]
		return false, refuse.Errf(badValue, "Cannot apply array updates to non-array element %s", bsonval.FormatElem(last, n.value()))
	}
	n.expand()
	outer := a.log
	count := 0
	var one logger
	for i := range n.items {
		if id != "" && !a.u.filters[id](n.items[i].value()) {
			continue
		}
		a.log = logger{}
		rest := slices.Clone(parts)
		rest[0] = strconv.Itoa(i)
		changed, err := a.walk(n, path, rest, m)
		if err != nil {
			a.log = outer
			return false, err
		}
		if changed {
			count++
			one = a.log
		}
	}
	a.log = outer
	switch {
	case count == 1:
		a.log.items = append(a.log.items, one.items...)
	case count > 1:
		a.log.set(path, n.value())
	}
	return count > 0, nil
}

// logger collects what a $v: 1 entry says.
type logger struct{ items []logItem }

type logItem struct {
	path  string
	v     bson.RawValue
	unset bool
}

func (l *logger) set(path string, v bson.RawValue) {
	l.items = append(l.items, logItem{path: path, v: v})
}
func (l *logger) unset(path string) { l.items = append(l.items, logItem{path: path, unset: true}) }

func (l *logger) entry() bson.Raw {
	var set, unset, out bsonval.Builder
	for _, x := range l.items {
		if x.unset {
			unset.Bool(x.path, true)
		} else {
			set.Value(x.path, x.v)
		}
	}
	out.Int32("$v", 1)
	if set.Len() > 0 {
		out.Doc("$set", set.Raw())
	}
	if unset.Len() > 0 {
		out.Doc("$unset", unset.Raw())
	}
	return out.Raw()
}
