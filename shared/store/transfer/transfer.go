// Package transfer copies a whole site from one document engine to another, and checks one. It works below the store's
// types: documents are moved as they are, secrets stay sealed.
package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Steps of the work, as Progress names them.
const (
	StepCopy   = "copy"
	StepVerify = "verify"
	StepCheck  = "check"
)

// Progress is how far a piece of work has come.
type Progress struct {
	Step       string `json:"step"`
	Collection string `json:"collection"`
	Done       int    `json:"done"`  // documents of the collection
	Total      int    `json:"total"` // as counted at the beginning
}

// Item is one collection of a plan.
type Item struct {
	Collection string `json:"collection"`
	Documents  int    `json:"documents"`

	declared docstore.Collection
}

// Plan is what a copy will do. It is what a dry run shows and what Copy carries out.
type Plan struct {
	Site  store.Site `json:"site"`
	Items []Item     `json:"collections"`
	Total int        `json:"documents"`
}

// maxCount is where counting a collection ends; a site is far smaller.
const maxCount = 1 << 31

// NewPlan looks at a site: what would be copied. The collections are those of all areas.
func NewPlan(ctx context.Context, from docstore.Engine, collections []docstore.Collection) (Plan, error) {
	var p Plan
	site, unfinished, err := store.ReadSite(ctx, from)
	switch {
	case unfinished:
		return p, opererr.New("read the site to copy", errors.New("the source is itself a copy that was not completed"),
			"Complete it first, or name the original.")
	case errors.Is(err, store.ErrNotFound):
		return p, opererr.New("read the site to copy", errors.New("the source holds no site"), "Check the path or connection string of the source.")
	case err != nil:
		return p, err
	}
	p.Site = site
	for _, c := range slices.Concat(store.Collections(), collections) {
		if slices.Contains(store.NotCopied(), c.Name) {
			continue
		}
		item := Item{Collection: c.Name, declared: c}
		there, err := declare(ctx, from, c)
		if err != nil {
			return p, err
		}
		if there {
			if item.Documents, err = from.Count(ctx, docstore.Query{Collection: c.Name}, maxCount); err != nil {
				return p, fmt.Errorf("count %s: %w", c.Name, err)
			}
		}
		p.Items = append(p.Items, item)
		p.Total += item.Documents
	}
	return p, nil
}

// declare makes a collection known to an engine. One that is only read may lack it: then it is empty.
func declare(ctx context.Context, e docstore.Engine, c docstore.Collection) (there bool, err error) {
	err = e.Ensure(ctx, []docstore.Collection{c})
	if errors.Is(err, docstore.ErrCollection) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("collection %s: %w", c.Name, err)
	}
	return true, nil
}

// CopyOptions are what Copy works with.
type CopyOptions struct {
	From, To docstore.Engine
	Plan     Plan
	Again    bool           // make a target that holds a complete copy equal to the source again
	Progress func(Progress) // may be nil
}

// Outcome is what was done with one collection.
type Outcome struct {
	Collection string `json:"collection"`
	Documents  int    `json:"documents"` // in the target now
	Written    int    `json:"written"`   // that were missing there or different
	Deleted    int    `json:"deleted"`   // that the source does not have
	Digest     string `json:"digest"`    // of all ids and bodies, the same on both sides
}

// Report is what a copy came to.
type Report struct {
	Site        store.Site    `json:"site"`
	Collections []Outcome     `json:"collections"`
	Documents   int           `json:"documents"`
	Written     int           `json:"written"`
	Took        time.Duration `json:"took"`
}

// Copy makes the target equal to the source and proves it: every document of the target is read again and compared by
// count and digest with what was read from the source. It may be interrupted at any moment and run again; what is equal
// already is not written again. Until it has ended well no server opens the target.
func Copy(ctx context.Context, o CopyOptions) (Report, error) {
	began := time.Now()
	report := Report{Site: o.Plan.Site}
	progress := o.Progress
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := store.BeginCopy(ctx, o.To, o.Plan.Site, o.Again); err != nil {
		return report, err
	}
	for _, item := range o.Plan.Items {
		out, err := copyCollection(ctx, o.From, o.To, item, progress)
		if err != nil {
			return report, fmt.Errorf("copy %s: %w", item.Collection, err)
		}
		report.Collections = append(report.Collections, out)
		report.Documents += out.Documents
		report.Written += out.Written
	}
	for i, item := range o.Plan.Items {
		want := report.Collections[i]
		n, digest, err := digestOf(ctx, o.To, item, progress)
		if err != nil {
			return report, fmt.Errorf("verify %s: %w", item.Collection, err)
		}
		if n != want.Documents || digest != want.Digest {
			return report, opererr.New("verify the copy",
				fmt.Errorf("collection %s of the target differs: %d documents with digest %.12s, the source had %d with %.12s",
					item.Collection, n, digest, want.Documents, want.Digest),
				"Make sure that nothing else writes to the target, and run the copy again.")
		}
	}
	if err := store.EndCopy(ctx, o.To, o.Plan.Site); err != nil {
		return report, err
	}
	report.Took = time.Since(began)
	return report, nil
}

const (
	batchOps   = 1_000
	batchBytes = 8 << 20
)

// batch gathers writes to the target.
type batch struct {
	to    docstore.Engine
	ops   []docstore.Op
	bytes int
}

func (b *batch) add(ctx context.Context, op docstore.Op) error {
	b.ops = append(b.ops, op)
	b.bytes += len(op.Body)
	if len(b.ops) < batchOps && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

// flush writes what was gathered. Each write may be repeated, so a lost answer is simply written again.
func (b *batch) flush(ctx context.Context) error {
	if len(b.ops) == 0 {
		return nil
	}
	results, err := b.to.Write(ctx, b.ops, false)
	if errors.Is(err, docstore.ErrOutcomeUnknown) && ctx.Err() == nil {
		results, err = b.to.Write(ctx, b.ops, false)
	}
	if err != nil {
		return fmt.Errorf("write %d documents to the target: %w", len(b.ops), err)
	}
	for i, r := range results {
		if r.Err != nil {
			return fmt.Errorf("write %s to the target: %w", b.ops[i].ID, r.Err)
		}
	}
	b.ops, b.bytes = b.ops[:0], 0
	return nil
}

// copyCollection walks through both sides in the order of ids, like merging two sorted lists.
func copyCollection(ctx context.Context, from, to docstore.Engine, item Item, progress func(Progress)) (Outcome, error) {
	out := Outcome{Collection: item.Collection}
	there, err := declare(ctx, from, item.declared)
	if err != nil {
		return out, err
	}
	if _, err := declare(ctx, to, item.declared); err != nil {
		return out, err
	}
	src, dst := &cursor{e: from, collection: item.Collection, end: !there}, &cursor{e: to, collection: item.Collection}
	writes := &batch{to: to}
	sum := newDigest()
	if err := errors.Join(src.next(ctx), dst.next(ctx)); err != nil {
		return out, err
	}
	for src.doc != nil || dst.doc != nil {
		if src.doc == nil || dst.doc != nil && dst.doc.ID < src.doc.ID {
			out.Deleted++
			if err := writes.add(ctx, docstore.Op{Kind: docstore.Delete, Collection: item.Collection, ID: dst.doc.ID}); err != nil {
				return out, err
			}
			if err := dst.next(ctx); err != nil {
				return out, err
			}
			continue
		}
		same := dst.doc != nil && dst.doc.ID == src.doc.ID
		if !same || !bytes.Equal(dst.doc.Body, src.doc.Body) {
			out.Written++
			if err := writes.add(ctx, docstore.Op{Kind: docstore.Put, Collection: item.Collection, ID: src.doc.ID, Body: src.doc.Body}); err != nil {
				return out, err
			}
		}
		sum.add(src.doc)
		if out.Documents++; out.Documents%progressEvery == 0 {
			progress(Progress{Step: StepCopy, Collection: item.Collection, Done: out.Documents, Total: item.Documents})
		}
		if same {
			if err := dst.next(ctx); err != nil {
				return out, err
			}
		}
		if err := src.next(ctx); err != nil {
			return out, err
		}
	}
	if err := writes.flush(ctx); err != nil {
		return out, err
	}
	out.Digest = sum.String()
	progress(Progress{Step: StepCopy, Collection: item.Collection, Done: out.Documents, Total: out.Documents})
	return out, nil
}

// progressEvery is the number of documents between two reports.
const progressEvery = 5_000

// cursor walks through a collection in the order of ids. doc is nil at the end.
type cursor struct {
	e          docstore.Engine
	collection string
	doc        *docstore.Doc

	page   []docstore.Doc
	resume string
	end    bool
}

func (c *cursor) next(ctx context.Context) error {
	for len(c.page) == 0 {
		if c.end {
			c.doc = nil
			return nil
		}
		page, err := c.e.Scan(ctx, docstore.Query{Collection: c.collection, Resume: c.resume})
		if err != nil {
			return fmt.Errorf("scan %s: %w", c.collection, err)
		}
		c.page, c.resume, c.end = page.Docs, page.Next, page.Next == ""
	}
	c.doc, c.page = &c.page[0], c.page[1:]
	return nil
}

// digest is a hash of documents in the order of their ids.
type digest struct{ h hash.Hash }

func newDigest() *digest { return &digest{h: sha256.New()} }

func (d *digest) add(doc *docstore.Doc) {
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(doc.ID)))
	_, _ = d.h.Write(size[:])
	_, _ = d.h.Write([]byte(doc.ID))
	_, _ = d.h.Write(doc.Body) // begins with its own length
}

func (d *digest) String() string { return hex.EncodeToString(d.h.Sum(nil)) }

func digestOf(ctx context.Context, e docstore.Engine, item Item, progress func(Progress)) (n int, sum string, err error) {
	d := newDigest()
	c := &cursor{e: e, collection: item.Collection}
	for {
		if err := c.next(ctx); err != nil {
			return n, "", err
		}
		if c.doc == nil {
			break
		}
		d.add(c.doc)
		if n++; n%progressEvery == 0 {
			progress(Progress{Step: StepVerify, Collection: item.Collection, Done: n, Total: item.Documents})
		}
	}
	progress(Progress{Step: StepVerify, Collection: item.Collection, Done: n, Total: n})
	return n, d.String(), nil
}
