// Package docstoretest is the suite every document engine passes: what package docstore promises, tried. An engine's test
// is a few lines; what only some engines can do (be opened again, go away, elect) is given as options.
package docstoretest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// Option adds a capability of the engine under test.
type Option func(*suite)

type suite struct {
	open       func(t *testing.T) docstore.Engine
	reopen     func(t *testing.T, e docstore.Engine) docstore.Engine
	away       func(t *testing.T, e docstore.Engine) (back func())
	elect      func(t *testing.T, e docstore.Engine)
	loseAnswer func(t *testing.T, e docstore.Engine)
	slow       bool
	except     map[string]string
}

// Reopen closes the engine and opens the same data again.
func Reopen(fn func(t *testing.T, e docstore.Engine) docstore.Engine) Option {
	return func(s *suite) { s.reopen = fn }
}

// Away makes the database unreachable until back is called.
func Away(fn func(t *testing.T, e docstore.Engine) (back func())) Option {
	return func(s *suite) { s.away = fn }
}

// Elect makes another member the primary, and returns when the election has begun.
func Elect(fn func(t *testing.T, e docstore.Engine)) Option {
	return func(s *suite) { s.elect = fn }
}

// LoseAnswer makes the next write's answer get lost on its way, after the work was done.
func LoseAnswer(fn func(t *testing.T, e docstore.Engine)) Option {
	return func(s *suite) { s.loseAnswer = fn }
}

// Slow makes the suite use fewer documents: for engines that scan a whole collection where others use an index.
func Slow() Option { return func(s *suite) { s.slow = true } }

// Except leaves a subtest out, for a server that is known not to keep that promise; the reason is printed.
func Except(subtest, reason string) Option {
	return func(s *suite) {
		if s.except == nil {
			s.except = map[string]string{}
		}
		s.except[subtest] = reason
	}
}

// Run runs the suite. Open gives an engine on an empty database, one a subtest; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) docstore.Engine, options ...Option) {
	t.Helper()
	s := &suite{open: open}
	for _, o := range options {
		o(s)
	}
	type subtest struct {
		name string
		run  func(t *testing.T)
	}
	all := []subtest{
		{"ensure", s.ensure},
		{"ensure adds an index to documents that are there", s.ensureLater},
		{"what was not declared is refused", s.undeclared},
		{"declarations are checked", s.declarations},
		{"insert put replace delete", s.writes},
		{"revisions are never given twice", s.revisions},
		{"bodies come back as they were", s.bodies},
		{"decimals come back as they were", s.decimals},
		{"ids and bodies are checked", s.invalid},
		{"get keeps the order asked for", s.get},
		{"index fields are checked", s.indexFields},
		{"order of ids", s.idOrder},
		{"order of every indexed type", s.indexOrder},
		{"prefix and range of an index", s.prefix},
		{"resume tokens are checked", s.tokens},
		{"scan while documents come and go", s.scanUnderChange},
		{"unique index", s.unique},
		{"unique index and changed documents", s.uniqueChange},
		{"one of many inserts wins", s.oneWins},
		{"no replace is lost", s.noLostUpdate},
		{"puts of one document at once", s.putsAtOnce},
		{"ordered batch stops", s.ordered},
		{"unordered batch tries all", s.unordered},
		{"a batch across collections", s.across},
		{"the largest batch", s.largestBatch},
		{"document at the limit and above", s.sizes},
		{"a page of large documents", s.largePage},
		{"count", s.count},
		{"delete a range", s.deleteRange},
		{"cancellation", s.cancellation},
		{"the clock", s.clock},
		{"closed", s.closed},
	}
	// What an engine cannot do is not part of its suite.
	for _, c := range []struct {
		able bool
		subtest
	}{
		{s.loseAnswer != nil, subtest{"unknown outcome", s.unknown}},
		{s.reopen != nil, subtest{"reopen", s.reopened}},
		{s.away != nil, subtest{"away and back", s.awayAndBack}},
		{s.elect != nil, subtest{"election in the middle", s.election}},
	} {
		if c.able {
			all = append(all, c.subtest)
		}
	}
	for _, c := range all {
		reason := s.except[c.name]
		delete(s.except, c.name)
		t.Run(c.name, func(t *testing.T) {
			if reason != "" {
				t.Skip(reason)
			}
			c.run(t)
		})
	}
	for name := range s.except {
		t.Errorf("there is no subtest %q to leave out", name)
	}
}

const (
	coll  = "things"
	plain = "plain"
)

// collections are declared by every subtest. The index "all" has one field of each type.
func collections() []docstore.Collection {
	return []docstore.Collection{
		{Name: coll, Indexes: []docstore.Index{
			{Name: "s", Fields: []docstore.Field{{Name: "s", Kind: docstore.String}}},
			{Name: "i", Fields: []docstore.Field{{Name: "i", Kind: docstore.Int64}}},
			{Name: "t", Fields: []docstore.Field{{Name: "t", Kind: docstore.Time}}},
			{Name: "b", Fields: []docstore.Field{{Name: "b", Kind: docstore.Bool}}},
			{Name: "sit", Fields: []docstore.Field{
				{Name: "s", Kind: docstore.String}, {Name: "i", Kind: docstore.Int64}, {Name: "t", Kind: docstore.Time},
			}},
		}},
		{Name: plain},
		{Name: "named", Indexes: []docstore.Index{
			{Name: "name", Unique: true, Fields: []docstore.Field{{Name: "name", Kind: docstore.String}}},
		}},
	}
}

// fresh opens an engine with the collections declared.
func (s *suite) fresh(t *testing.T) docstore.Engine {
	t.Helper()
	e := s.open(t)
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Ensure(t.Context(), collections()); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	return e
}

func (s *suite) size(n int) int {
	if s.slow || testing.Short() {
		return max(n/10, 1)
	}
	return n
}

// thing is the body of a document of the collection things.
type thing struct {
	S string    `bson:"s"`
	I int64     `bson:"i"`
	T time.Time `bson:"t"`
	B bool      `bson:"b"`
	N int32     `bson:"n,omitempty"`
}

func raw(t *testing.T, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func named(t *testing.T, name string) bson.Raw {
	t.Helper()
	return raw(t, bson.D{{Key: "name", Value: name}})
}

func number(t *testing.T, n int) bson.Raw {
	t.Helper()
	return raw(t, bson.D{{Key: "n", Value: int64(n)}})
}

// mustWrite carries out operations that must all succeed and returns their revisions.
func mustWrite(t *testing.T, e docstore.Engine, ops ...docstore.Op) []int64 {
	t.Helper()
	var revs []int64
	for len(ops) > 0 {
		n := min(len(ops), docstore.MaxBatch)
		res, err := e.Write(t.Context(), ops[:n], false)
		if err != nil {
			t.Fatalf("Write: %v", err)
		}
		for i, r := range res {
			if r.Err != nil {
				t.Fatalf("%s %s: %v", ops[i].Kind, ops[i].ID, r.Err)
			}
			revs = append(revs, r.Rev)
		}
		ops = ops[n:]
	}
	return revs
}

// write carries out one operation and returns its result.
func write(t *testing.T, e docstore.Engine, op docstore.Op) docstore.Result {
	t.Helper()
	res, err := e.Write(t.Context(), []docstore.Op{op}, true)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	if len(res) != 1 {
		t.Fatalf("Write gave %d results for one operation", len(res))
	}
	return res[0]
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func one(t *testing.T, e docstore.Engine, collection, id string) (docstore.Doc, bool) {
	t.Helper()
	docs, err := e.Get(t.Context(), collection, id)
	if err != nil {
		t.Fatalf("Get %s: %v", id, err)
	}
	if len(docs) == 0 {
		return docstore.Doc{}, false
	}
	return docs[0], true
}

// all reads a whole range in pages of limit.
func all(ctx context.Context, e docstore.Engine, q docstore.Query, limit int) ([]docstore.Doc, error) {
	q.Limit = limit
	var docs []docstore.Doc
	for {
		p, err := e.Scan(ctx, q)
		if err != nil {
			return docs, err
		}
		if len(p.Docs) > limit {
			return docs, fmt.Errorf("a page of %d documents, limit %d", len(p.Docs), limit)
		}
		docs = append(docs, p.Docs...)
		if p.Next == "" {
			return docs, nil
		}
		if len(p.Docs) == 0 {
			return docs, errors.New("an empty page that is not the last")
		}
		q.Resume = p.Next
	}
}

func ids(docs []docstore.Doc) []string {
	out := make([]string, len(docs))
	for i, d := range docs {
		out[i] = d.ID
	}
	return out
}

// wantIDs compares a scan in pages of several sizes with the ids that should come.
func wantIDs(t *testing.T, e docstore.Engine, q docstore.Query, want []string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	for _, limit := range []int{3, 1000} {
		docs, err := all(t.Context(), e, q, limit)
		if err != nil {
			t.Errorf("scan %+v: %v", q, err)
			return
		}
		if diff := cmp.Diff(want, ids(docs)); diff != "" {
			t.Errorf("scan %+v in pages of %d (-want +got):\n%s", q, limit, diff)
			return
		}
	}
	n, err := e.Count(t.Context(), q, 100_000)
	if err != nil || n != len(want) {
		t.Errorf("count %+v: %d, %v; want %d", q, n, err, len(want))
	}
}
