// Package entry is how documents of the alerting area are identified, ordered, sealed and written: what all its collections
// have in common.
package entry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

const (
	// Site is the scope of what belongs to no group.
	Site = "-"
	// TimeDigits is the length of a time in an order: milliseconds in hexadecimal, until the year 2527.
	TimeDigits = 11
	// ScanPage is the page size of scans that read all there is.
	ScanPage = 2_000
	// CountMax is where counting stops.
	CountMax = 10_000

	pageDefault = 100    // when a query names no limit
	pageMax     = 10_000 // whatever a query says
	lookFactor  = 20     // documents looked at for each asked for, before a filtered page ends early
	lookLeast   = 2_000  // and for each page at least
	lookBatch   = 1_000  // documents read at once
	tries       = 3      // of a write whose outcome stays unknown
)

// Scope is the part of an id, or the index key, that stands for a group; empty means the site.
func Scope(group model.ID) string {
	if group == "" {
		return Site
	}
	return string(group)
}

// ID is the id of a document of a group, or of the site.
func ID(group model.ID, part string) (string, error) {
	if strings.ContainsAny(string(group), "/\x00") || group == Site || len(group) > 128 {
		return "", fmt.Errorf("%q is no group", group)
	}
	if part == "" || len(part) > 256 || strings.ContainsAny(part, "/\x00") {
		return "", fmt.Errorf("%q cannot be part of a document id: it must have 1 to 256 characters and no slash", part)
	}
	return Scope(group) + "/" + part, nil
}

// Under is the query for everything of a group in a collection whose ids begin with the group's.
func Under(collection string, group model.ID) docstore.Query {
	from, to := store.Under(Scope(group) + "/")
	return docstore.Query{Collection: collection, From: from, To: to, Limit: ScanPage}
}

// TimePart is a time as orders begin with it.
func TimePart(at time.Time) string {
	return fmt.Sprintf("%0*x", TimeDigits, max(0, at.UnixMilli()))
}

// Order sorts by time first. Ids that follow from something else than their time sort with it.
func Order(at time.Time, id string) string { return TimePart(at) + "-" + id }

// Bounds are the ends of a range of orders: From is inclusive, To and the cursor Before are exclusive, and all may be open,
// which "" says.
func Bounds(from, to time.Time, before string) (low, high string) {
	if !from.IsZero() {
		low = TimePart(from)
	}
	if !to.IsZero() {
		high = TimePart(to)
	}
	if before != "" && (high == "" || before < high) {
		high = before
	}
	return low, high
}

// Bound is an end of a range as a query takes it.
func Bound(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Limit is how many documents a page has at most when so many are asked for.
func Limit(asked int) int {
	if asked <= 0 {
		return pageDefault
	}
	return min(asked, pageMax)
}

// Next is Before of the first instant after a time, to the millisecond that times are kept in.
func Next(at time.Time) time.Time {
	return at.UTC().Truncate(time.Millisecond).Add(time.Millisecond)
}

// Page hands the documents of a query to take, which says whether it took one, until it has taken limit, none is left, or very
// many were looked at. It returns the order of the last that was dealt with, or "" at the end.
func Page[T any](ctx context.Context, s *store.Store, q docstore.Query, limit int, order func(*T) string, matches func(*T) bool, take func(*T)) (next string, err error) {
	q.Limit = min(limit+1, lookBatch)
	looked, taken, most := 0, 0, max(limit*lookFactor, lookLeast)
	for d, err := range store.ScanAll[T](ctx, s, q) {
		if err != nil {
			return "", err
		}
		if looked >= most {
			return next, nil
		}
		looked++
		if matches(&d) {
			if taken == limit {
				return next, nil
			}
			taken++
			take(&d)
		}
		next = order(&d)
	}
	return "", nil
}

// Newest returns the documents of a query that match and are of the latest orders, latest first, and the cursor of what follows,
// or "". It is for ranges that are not in this order: it reads them whole, but keeps few.
func Newest[T any](ctx context.Context, s *store.Store, q docstore.Query, limit int, order func(*T) string, matches func(*T) bool) (found []T, next string, err error) {
	for d, err := range store.ScanAll[T](ctx, s, q) {
		if err != nil {
			return nil, "", err
		}
		if !matches(&d) {
			continue
		}
		if found = append(found, d); len(found) > 2*limit+ScanPage {
			found = latest(found, order)[:limit+1]
		}
	}
	if found = latest(found, order); len(found) > limit {
		found = found[:limit]
		next = order(&found[limit-1])
	}
	return found, next, nil
}

// Replace writes op if its revision still holds. After an unknown outcome it reads again and knows its own document by its
// content.
func Replace(ctx context.Context, s *store.Store, op docstore.Op) error {
	var err error
	for range tries {
		if err = s.Write(ctx, op); !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			return err
		}
		doc, readErr := s.Doc(ctx, op.Collection, op.ID)
		switch {
		case readErr != nil:
			return errors.Join(err, readErr)
		case doc.Rev == op.Rev: // not written: again
		case bytes.Equal(doc.Body, op.Body):
			return nil
		default:
			return fmt.Errorf("%s/%s: %w", op.Collection, op.ID, store.ErrConflict)
		}
	}
	return err
}

// Delete removes a document that nobody changed since it was read; that somebody did is no error.
func Delete(ctx context.Context, s *store.Store, collection, id string, rev int64) error {
	op := docstore.Op{Kind: docstore.Delete, Collection: collection, ID: id, Rev: rev}
	var err error
	for range tries {
		// After an unknown outcome: revisions never come again, so the second attempt cannot hit another's document.
		if err = s.Write(ctx, op); !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// DeleteFound deletes up to limit of the documents that a query finds first, if nobody changes them meanwhile.
func DeleteFound(ctx context.Context, s *store.Store, q docstore.Query, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	q.IDsOnly, q.Limit = true, min(limit, docstore.MaxBatch)
	page, err := s.Engine().Scan(ctx, q)
	if err != nil {
		return 0, fmt.Errorf("scan %s: %w", q.Collection, err)
	}
	if len(page.Docs) == 0 {
		return 0, nil
	}
	ops := make([]docstore.Op, len(page.Docs))
	for i, doc := range page.Docs {
		ops[i] = docstore.Op{Kind: docstore.Delete, Collection: q.Collection, ID: doc.ID, Rev: doc.Rev}
	}
	results, err := s.Engine().Write(ctx, ops, false)
	if err != nil {
		return 0, fmt.Errorf("delete from %s: %w", q.Collection, err)
	}
	n := 0
	for i, r := range results {
		switch {
		case r.Err == nil:
			n++
		case !errors.Is(r.Err, store.ErrConflict) && !errors.Is(r.Err, store.ErrNotFound):
			return n, fmt.Errorf("delete %s/%s: %w", q.Collection, ops[i].ID, r.Err)
		}
	}
	return n, nil
}

func latest[T any](found []T, order func(*T) string) []T {
	slices.SortFunc(found, func(a, b T) int { return cmp.Compare(order(&b), order(&a)) })
	return found
}
