package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

const (
	updateRetries  = 64 // lost races before Update gives up; each means that somebody else got on
	unknownRetries = 3  // attempts after an unknown outcome
)

// Errors with which a change function ends an Update early.
var (
	// ErrUnchanged leaves the document as it is; the update succeeds without writing.
	ErrUnchanged = errors.New("store: nothing to change")
)

// Decode turns a document's body into a T.
func Decode[T any](doc docstore.Doc) (T, error) {
	var v T
	if err := bson.Unmarshal(doc.Body, &v); err != nil {
		return v, fmt.Errorf("document %s does not decode: %w", doc.ID, err)
	}
	return v, nil
}

// Encode turns v into a document body.
func Encode(v any) (bson.Raw, error) {
	body, err := bson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return body, nil
}

// PutOp is the write that stores v under id whatever was there.
func PutOp(collection, id string, v any) (docstore.Op, error) {
	return encodeOp(docstore.Put, collection, id, v)
}

// InsertOp is the write that stores v under id if nothing is there.
func InsertOp(collection, id string, v any) (docstore.Op, error) {
	return encodeOp(docstore.Insert, collection, id, v)
}

func encodeOp(kind docstore.OpKind, collection, id string, v any) (docstore.Op, error) {
	body, err := Encode(v)
	if err != nil {
		return docstore.Op{}, err
	}
	return docstore.Op{Kind: kind, Collection: collection, ID: id, Body: body}, nil
}

// Get returns the document id as a T, or ErrNotFound.
func Get[T any](ctx context.Context, s *Store, collection, id string) (T, error) {
	doc, err := s.Doc(ctx, collection, id)
	if err != nil {
		var none T
		return none, err
	}
	return Decode[T](doc)
}

// Doc returns the raw document id, or ErrNotFound.
func (s *Store) Doc(ctx context.Context, collection, id string) (docstore.Doc, error) {
	docs, err := s.engine.Get(ctx, collection, id)
	if err != nil {
		return docstore.Doc{}, fmt.Errorf("read %s/%s: %w", collection, id, err)
	}
	if len(docs) == 0 {
		return docstore.Doc{}, fmt.Errorf("%s/%s: %w", collection, id, ErrNotFound)
	}
	return docs[0], nil
}

// Put stores v under id whatever was there.
func Put(ctx context.Context, s *Store, collection, id string, v any) error {
	op, err := PutOp(collection, id, v)
	if err != nil {
		return err
	}
	for range unknownRetries {
		if err = s.Write(ctx, op); !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// Insert stores v under id, or answers ErrExists. After an unknown outcome it reads again and knows its own document by
// its content, so that a lost reply is not taken for somebody else's document.
func Insert(ctx context.Context, s *Store, collection, id string, v any) error {
	op, err := InsertOp(collection, id, v)
	if err != nil {
		return err
	}
	return s.insert(ctx, op)
}

func (s *Store) insert(ctx context.Context, op docstore.Op) error {
	var err error
	for attempt := range unknownRetries {
		err = s.writeOne(ctx, op)
		if attempt > 0 && errors.Is(err, ErrExists) {
			doc, readErr := s.Doc(ctx, op.Collection, op.ID)
			if readErr == nil && bytes.Equal(doc.Body, op.Body) {
				return nil
			}
		}
		if !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// Update reads the document id, lets change alter it, and writes it back if nobody else wrote meanwhile; otherwise it
// starts over, so change may run several times. An error of change ends the update and is returned as it is; ErrUnchanged
// ends it with success.
func Update[T any](ctx context.Context, s *Store, collection, id string, change func(*T) error) error {
	return update(ctx, s, collection, id, func(v *T, exists bool) error {
		if !exists {
			return fmt.Errorf("%s/%s: %w", collection, id, ErrNotFound)
		}
		return change(v)
	})
}

// Upsert is Update that starts from the zero T when there is no document, telling change so.
func Upsert[T any](ctx context.Context, s *Store, collection, id string, change func(v *T, exists bool) error) error {
	return update(ctx, s, collection, id, change)
}

func update[T any](ctx context.Context, s *Store, collection, id string, change func(v *T, exists bool) error) error {
	for range updateRetries {
		doc, err := s.Doc(ctx, collection, id)
		exists := err == nil
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		var v T
		if exists {
			if v, err = Decode[T](doc); err != nil {
				return fmt.Errorf("%s: %w", collection, err)
			}
		}
		if err = change(&v, exists); errors.Is(err, ErrUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		op := docstore.Op{Kind: docstore.Insert, Collection: collection, ID: id}
		if exists {
			op.Kind, op.Rev = docstore.Replace, doc.Rev
		}
		if op.Body, err = Encode(v); err != nil {
			return err
		}
		if exists && bytes.Equal(op.Body, doc.Body) {
			return nil
		}
		done, err := s.replace(ctx, op)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s/%s: lost %d races in a row: %w", collection, id, updateRetries, ErrConflict)
}

// replace writes op. Not done without an error means that somebody else was faster.
func (s *Store) replace(ctx context.Context, op docstore.Op) (done bool, err error) {
	err = s.writeOne(ctx, op)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, docstore.ErrOutcomeUnknown) && ctx.Err() == nil:
		doc, readErr := s.Doc(ctx, op.Collection, op.ID)
		switch {
		case errors.Is(readErr, ErrNotFound):
			return false, nil
		case readErr != nil:
			return false, err
		case bytes.Equal(doc.Body, op.Body):
			return true, nil
		case op.Kind == docstore.Replace && doc.Rev == op.Rev:
			return false, nil // not written: do it again
		}
		return false, err // somebody wrote since; whether ours came before cannot be known
	case errors.Is(err, ErrConflict), errors.Is(err, ErrExists) && op.Kind == docstore.Insert && s.taken(ctx, op):
		return false, nil
	case errors.Is(err, ErrNotFound):
		return false, nil
	}
	return false, err
}

// taken tells an id that was inserted meanwhile from a unique index that refuses the document.
func (s *Store) taken(ctx context.Context, op docstore.Op) bool {
	_, err := s.Doc(ctx, op.Collection, op.ID)
	return err == nil
}

// Delete removes the document id; that there was none is no error.
func (s *Store) Delete(ctx context.Context, collection, id string) error {
	op := docstore.Op{Kind: docstore.Delete, Collection: collection, ID: id}
	var err error
	for range unknownRetries {
		if err = s.Write(ctx, op); !errors.Is(err, docstore.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (s *Store) writeOne(ctx context.Context, op docstore.Op) error {
	results, err := s.engine.Write(ctx, []docstore.Op{op}, true)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return fmt.Errorf("write %s/%s: %w", op.Collection, op.ID, err)
	}
	return nil
}

// Docs yields all documents of a query, page by page. It ends after the first error.
func (s *Store) Docs(ctx context.Context, q docstore.Query) iter.Seq2[docstore.Doc, error] {
	return func(yield func(docstore.Doc, error) bool) {
		for {
			page, err := s.engine.Scan(ctx, q)
			if err != nil {
				yield(docstore.Doc{}, fmt.Errorf("scan %s: %w", q.Collection, err))
				return
			}
			for _, doc := range page.Docs {
				if !yield(doc, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Resume = page.Next
		}
	}
}

// ScanAll yields all documents of a query as Ts, page by page. It ends after the first error.
func ScanAll[T any](ctx context.Context, s *Store, q docstore.Query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for doc, err := range s.Docs(ctx, q) {
			var v T
			if err == nil {
				v, err = Decode[T](doc)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// All collects what ScanAll yields. The result is never nil.
func All[T any](ctx context.Context, s *Store, q docstore.Query) ([]T, error) {
	out := []T{}
	for v, err := range ScanAll[T](ctx, s, q) {
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// First returns the first document of a query as a T, or ErrNotFound.
func First[T any](ctx context.Context, s *Store, q docstore.Query) (T, error) {
	q.Limit = 1
	for v, err := range ScanAll[T](ctx, s, q) {
		return v, err
	}
	var none T
	return none, fmt.Errorf("%s: %w", q.Collection, ErrNotFound)
}

// Under returns the id range of all documents whose id begins with prefix, which must not be empty.
func Under(prefix string) (from, to string) {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return prefix, string(end[:i+1])
		}
	}
	return prefix, ""
}

// DeleteUnder deletes up to limit documents whose id begins with prefix, and says how many.
func (s *Store) DeleteUnder(ctx context.Context, collection, prefix string, limit int) (int, error) {
	if prefix == "" {
		return 0, fmt.Errorf("delete in %s: an empty prefix would be everything", collection)
	}
	from, to := Under(prefix)
	n, err := s.engine.DeleteRange(ctx, collection, from, to, limit)
	if err != nil {
		return n, fmt.Errorf("delete in %s: %w", collection, err)
	}
	return n, nil
}
