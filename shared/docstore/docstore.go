// Package docstore is the contract of Heartwood's document engine: the little that every database we run on can do in
// the same way. Everything durable but bulk objects is kept through it.
//
// # Model
//
// An engine holds collections of BSON documents. A document has a string id, a revision, and a body. Ids are compared
// byte by byte and are the primary order of a collection. A collection declares ordered indexes over top-level body
// fields of type string, int64, time (UTC, milliseconds) or bool; the id is the last field of every index. A document
// that lacks an indexed field, or holds it with another type, is refused with ErrIndexField. A document of more than
// MaxDocument bytes is refused with ErrTooLarge. A unique index (small collections only) refuses a second document with
// equal fields with ErrExists. Order: strings by bytes, false before true, numbers and times by value.
//
// An id is 1 to MaxID bytes of UTF-8 without a zero byte; so is an indexed string, but it may be empty and longer. A body
// has no top-level field named "_id", "_rev", "" or beginning with "$" (ErrInvalid), because an engine may store all three
// in one flat document. For the same reason bodies should hold foreign documents, such as a server's raw reply, as binary: servers
// before 5.0 refuse names beginning with "$" at any depth, and an empty top-level BSON timestamp is changed by all.
//
// # Revisions
//
// Every successful write gives a document a revision it never had before; revisions are opaque and only compared for
// equality.
//
// # Outcome
//
// Each document is written atomically; a batch is not a transaction. A write acknowledged with a nil error is durable:
// it survives the loss of the process and, on a replica set, of a minority of members. ErrUnavailable: nothing of the
// batch was written. ErrOutcomeUnknown: any part of the batch may have been written; the caller must read again.
//
// There is nothing else: no TTL, no transactions, no aggregation in the engine.
package docstore

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// MaxDocument is the largest body in bytes.
const MaxDocument = 15 << 20

// MaxBatch is the largest number of operations in one Write.
const MaxBatch = 10_000

// What an engine answers; compare with errors.Is.
var (
	ErrExists         = errors.New("docstore: a document with this id or unique key exists")
	ErrConflict       = errors.New("docstore: the document has another revision")
	ErrNotFound       = errors.New("docstore: no such document")
	ErrTooLarge       = errors.New("docstore: the document is over 15 MiB")
	ErrIndexField     = errors.New("docstore: an indexed field is missing or has the wrong type")
	ErrNotAttempted   = errors.New("docstore: an earlier operation of the ordered batch failed")
	ErrUnavailable    = errors.New("docstore: the database cannot be reached; nothing was written")
	ErrOutcomeUnknown = errors.New("docstore: the outcome of the write is not known; read again")
	ErrFull           = errors.New("docstore: the disk or quota is full; nothing was written")
	ErrCollection     = errors.New("docstore: the collection or index was not declared")
	ErrInvalid        = errors.New("docstore: the id, body, query or declaration is not valid")
)

// Kind is the type of an indexed field.
type Kind int

// The kinds of indexed fields.
const (
	String Kind = iota + 1
	Int64
	Time
	Bool
)

// Field is one indexed field: a top-level name of the body.
type Field struct {
	Name string
	Kind Kind
}

// Index orders a collection by its fields, then by id.
type Index struct {
	Name   string
	Fields []Field
	Unique bool
}

// Collection is a declared collection. The zero Indexes is usual: hot series are ranges of the id.
type Collection struct {
	Name    string
	Indexes []Index
}

// Doc is a stored document. Body does not contain the id or the revision; it must not be changed by the receiver.
type Doc struct {
	ID   string
	Rev  int64
	Body bson.Raw
}

// OpKind says what an Op does.
type OpKind int

// The kinds of write.
const (
	Insert  OpKind = iota + 1 // ErrExists when the id is taken
	Put                       // insert or overwrite
	Replace                   // overwrite if the revision is Rev: ErrConflict otherwise, ErrNotFound when absent
	Delete                    // if Rev is 0 unconditional (absent is no error), else as Replace
)

// Op is one write.
type Op struct {
	Kind       OpKind
	Collection string
	ID         string
	Rev        int64
	Body       bson.Raw // nil for Delete
}

// Result is what became of one Op: its new revision, or why not.
type Result struct {
	Rev int64
	Err error
}

// Query selects a contiguous range of a collection in one order.
//
// With an empty Index the order is the id's: documents with From <= id < To (an empty bound is open). With an Index, the
// documents whose first len(Prefix) index fields equal Prefix, and whose next index field (the id, when Prefix covers
// all fields) lies in [Low, High); a nil bound is open. Prefix, Low and High hold string, int64, time.Time or bool values
// as the index declares.
type Query struct {
	Collection string
	Index      string
	From, To   string
	Prefix     []any
	Low, High  any
	Descending bool
	Limit      int    // at most this many documents a page; 0 means 1,000
	Resume     string // Page.Next of the page before; the rest of the query must be the same
	IDsOnly    bool   // leave Body nil
}

// Page is one answer of a scan. It may have fewer documents than the limit, when they are large: only an empty Next is the
// end. A scan that is resumed sees every document that was in the range
// all the time exactly once, whatever came and went meanwhile.
type Page struct {
	Docs []Doc
	Next string
}

// Engine is a document database. All methods are safe for concurrent use and end early when ctx does.
type Engine interface {
	// Ensure creates what is missing of the collections and indexes. It may run any number of times, and in several
	// processes at once. It never drops anything.
	Ensure(ctx context.Context, collections []Collection) error
	// Get returns the documents that exist, in the order of the ids asked for; missing ones are left out.
	Get(ctx context.Context, collection string, ids ...string) ([]Doc, error)
	// Write carries out up to MaxBatch operations, each atomic. Ordered batches stop at the first that fails; the rest of
	// their results are ErrNotAttempted. Unordered ones try all; their operations should be on different documents. The
	// error is about the batch as a whole (ErrUnavailable, ErrOutcomeUnknown, ErrFull, ctx, too many operations); the
	// results, always one an Op, are about each. When the error is ErrOutcomeUnknown the results whose own outcome is known
	// say so.
	Write(ctx context.Context, ops []Op, ordered bool) ([]Result, error)
	// Scan returns one page of a range.
	Scan(ctx context.Context, q Query) (Page, error)
	// Count counts a range's documents, up to limit.
	Count(ctx context.Context, q Query, limit int) (int, error)
	// DeleteRange deletes up to limit documents of an id range (From <= id < To) and says how many. Running it again
	// goes on where it ended.
	DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error)
	// Now is the database's own clock (the primary's), UTC, to the millisecond: the one clock all processes share.
	Now(ctx context.Context) (time.Time, error)
	// Close releases the engine; calls after it fail with ErrUnavailable.
	Close() error
}
