package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
)

// CheckOptions are what Check works with.
type CheckOptions struct {
	Engine      docstore.Engine
	Box         *seal.Box // the site's; nil leaves sealed values unopened
	Collections []docstore.Collection
	Checks      store.Checks
	Progress    func(Progress) // may be nil
}

// Problem is something wrong with a site.
type Problem struct {
	Collection string `json:"collection"`
	ID         string `json:"id,omitempty"`
	Text       string `json:"problem"`
	Warning    bool   `json:"warning,omitempty"` // left over by an interruption, or written meanwhile; does no harm
}

// String is one line for people.
func (p Problem) String() string {
	if p.ID == "" {
		return p.Collection + ": " + p.Text
	}
	return p.Collection + " " + p.ID + ": " + p.Text
}

// CheckReport is what a check found.
type CheckReport struct {
	Site      store.Site `json:"site"`
	Documents int        `json:"documents"`
	Problems  []Problem  `json:"problems"`            // the first maxProblems
	Errors    int        `json:"errors"`              // all of them
	Warnings  int        `json:"warnings"`            // all of them
	Running   []string   `json:"running,omitempty"`   // servers that were at work meanwhile
	Unchecked []string   `json:"unchecked,omitempty"` // collections whose documents were only read
}

// maxProblems is how many problems a report names.
const maxProblems = 1_000

// Check reads a whole site: every document decodes and has the id it should have, sealed values open with this gen.key,
// documents that others refer to exist, and every index leads to exactly the documents of its collection. It changes
// nothing.
func Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	k := &checker{o: o, exists: map[ref]bool{}}
	if o.Progress == nil {
		k.o.Progress = func(Progress) {}
	}
	site, unfinished, err := store.ReadSite(ctx, o.Engine)
	switch {
	case unfinished:
		return k.report, opererr.New("check the database", errors.New("it holds a copy that was not completed"), "Run the same `heartwood store copy` again.")
	case errors.Is(err, store.ErrNotFound):
		return k.report, opererr.New("check the database", errors.New("it holds no site"), "Check the path or connection string.")
	case err != nil:
		return k.report, err
	}
	k.report.Site = site
	running, err := store.ReadInstances(ctx, o.Engine)
	if err != nil {
		return k.report, err
	}
	for _, in := range running {
		k.report.Running = append(k.report.Running, in.Hostname+" ("+in.Version+")")
	}
	all := slices.Concat(store.Collections(), o.Collections)
	for _, c := range all { // first of all: documents refer to later collections too
		if _, err := declare(ctx, o.Engine, c); err != nil {
			return k.report, err
		}
	}
	for _, c := range all {
		if err := k.collection(ctx, c); err != nil {
			return k.report, fmt.Errorf("check %s: %w", c.Name, err)
		}
	}
	if err := k.resolve(ctx); err != nil {
		return k.report, err
	}
	return k.report, nil
}

type ref struct{ collection, id string }

type checker struct {
	o       CheckOptions
	report  CheckReport
	pending []pendingRef
	exists  map[ref]bool // answered already
}

type pendingRef struct {
	ref
	from ref
}

func (k *checker) problem(p Problem) {
	if p.Warning {
		k.report.Warnings++
	} else {
		k.report.Errors++
	}
	if len(k.report.Problems) < maxProblems {
		k.report.Problems = append(k.report.Problems, p)
	}
}

// idSet is the digest of a set of ids, whatever their order: how many, and the sum of a hash of each.
type idSet struct {
	n   int
	sum uint64
}

func (s *idSet) add(id string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], h.Sum64())
	h.Reset() // a second round: sums of plain FNV hashes of similar ids are too regular
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(id))
	s.n++
	s.sum += h.Sum64()
}

func (k *checker) collection(ctx context.Context, c docstore.Collection) error {
	there, err := declare(ctx, k.o.Engine, c)
	if err != nil || !there {
		return err
	}
	total, err := k.o.Engine.Count(ctx, docstore.Query{Collection: c.Name}, maxCount)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	check := k.o.Checks[c.Name]
	if check == nil {
		k.report.Unchecked = append(k.report.Unchecked, c.Name)
	}
	var ids idSet
	last := ""
	cur := &cursor{e: k.o.Engine, collection: c.Name}
	for {
		if err := cur.next(ctx); err != nil {
			return err
		}
		if cur.doc == nil {
			break
		}
		doc := *cur.doc
		if ids.n > 0 && doc.ID <= last {
			k.problem(Problem{Collection: c.Name, ID: doc.ID, Text: fmt.Sprintf("comes after %q in the order of ids", last)})
		}
		last = doc.ID
		ids.add(doc.ID)
		if err := k.document(c.Name, doc, check); err != nil {
			k.problem(Problem{Collection: c.Name, ID: doc.ID, Text: err.Error()})
		}
		if ids.n%progressEvery == 0 {
			k.o.Progress(Progress{Step: StepCheck, Collection: c.Name, Done: ids.n, Total: total})
		}
		if len(k.pending) >= batchOps {
			if err := k.resolve(ctx); err != nil {
				return err
			}
		}
	}
	k.report.Documents += ids.n
	for _, ix := range c.Indexes {
		if err := k.index(ctx, c.Name, ix, ids); err != nil {
			return err
		}
	}
	k.o.Progress(Progress{Step: StepCheck, Collection: c.Name, Done: ids.n, Total: ids.n})
	return nil
}

func (k *checker) document(collection string, doc docstore.Doc, check func(*store.Checking, docstore.Doc) error) error {
	if err := doc.Body.Validate(); err != nil {
		return fmt.Errorf("it is no sound document: %w", err)
	}
	if check == nil {
		return nil
	}
	return check(&store.Checking{Box: k.o.Box, Refer: func(to, id string) {
		r := ref{to, id}
		if known, asked := k.exists[r]; !asked || !known {
			k.pending = append(k.pending, pendingRef{ref: r, from: ref{collection, doc.ID}})
		}
	}}, doc)
}

// index compares the ids that an index leads to with those of the collection.
func (k *checker) index(ctx context.Context, collection string, ix docstore.Index, want idSet) error {
	var got idSet
	q := docstore.Query{Collection: collection, Index: ix.Name, IDsOnly: true}
	for {
		page, err := k.o.Engine.Scan(ctx, q)
		if err != nil {
			return fmt.Errorf("scan index %s: %w", ix.Name, err)
		}
		for _, doc := range page.Docs {
			got.add(doc.ID)
		}
		if page.Next == "" {
			break
		}
		q.Resume = page.Next
	}
	if got != want {
		k.problem(Problem{
			Collection: collection, Text: fmt.Sprintf("index %s leads to %d documents, there are %d", ix.Name, got.n, want.n),
			Warning: len(k.report.Running) > 0, // a server may have written between the two scans
		})
	}
	return nil
}

// maxKnown bounds the references that are remembered; forgetting some only costs asking again.
const maxKnown = 200_000

// resolve asks for the documents that others refer to.
func (k *checker) resolve(ctx context.Context) error {
	if len(k.exists) > maxKnown {
		clear(k.exists)
	}
	asked := map[string][]string{}
	for _, p := range k.pending {
		if _, known := k.exists[p.ref]; !known {
			k.exists[p.ref] = false
			asked[p.collection] = append(asked[p.collection], p.id)
		}
	}
	for collection, ids := range asked {
		docs, err := k.o.Engine.Get(ctx, collection, ids...)
		if err != nil && !errors.Is(err, docstore.ErrCollection) { // a file that is only read may lack it: nothing exists there
			return fmt.Errorf("look for %d documents of %s: %w", len(ids), collection, err)
		}
		for _, doc := range docs {
			k.exists[ref{collection, doc.ID}] = true
		}
	}
	for _, p := range k.pending {
		if !k.exists[p.ref] {
			k.problem(Problem{
				Collection: p.from.collection, ID: p.from.id, Warning: true,
				Text: fmt.Sprintf("refers to %s %s, which does not exist", p.collection, p.id),
			})
		}
	}
	k.pending = k.pending[:0]
	return nil
}
