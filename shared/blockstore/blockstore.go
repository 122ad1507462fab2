// Package blockstore is the contract of the places where Heartwood keeps bulk data: oplog and sync slices, packs, map pages,
// manifests, restore archives. All of them are immutable objects under a key. Metadata is not kept here but in the store.
//
// # Objects
//
// An object appears under its key whole, at Commit, and never changes afterwards: of two writers of one key exactly one
// succeeds and the other gets ErrExists. A writer that is killed leaves nothing that a reader could see. A nil error of
// Commit says that the object is durable: it survives the loss of power where the storage is a disk, and is as safe as the
// service promises where it is one.
//
// A Commit that fails with ErrUnavailable may have happened, because an answer can be lost on its way. Trying again is
// always safe; when it yields ErrExists, the object that is there must be compared (Put does so).
//
// # Keys
//
// Segments of [a-z0-9._-] joined by '/', at most MaxKey bytes together; no segment is empty, "." or "..", or begins with
// a dot or is longer than MaxSegment, so that a key is also a path on every file system and needs no escaping in a URL. For
// the same reason no key may be a folder of another ("a" beside "a/b"): some storages refuse it with ErrInvalid. Keys are
// ordered byte by byte.
//
// # Layers
//
// Storages are adapters (fileblock, cloudblock, docblock; memblock for tests). What is common to them is added by wrapping,
// always in this order: sealblock(countblock(limitblock(retryblock(storage)))). This package knows no files and no network,
// so that a guest can use it through hostblock.
package blockstore

import (
	"context"
	"errors"
	"io"
	"time"
)

// The longest key and the longest part of one between slashes, in bytes.
const (
	MaxKey     = 512
	MaxSegment = 200
)

// MaxList is the largest and the usual number of objects in one answer of List.
const MaxList = 1000

// What a store answers; compare with errors.Is. Of these only ErrUnavailable is worth trying again.
var (
	ErrNotFound    = errors.New("blockstore: no such object")
	ErrExists      = errors.New("blockstore: an object with this key exists; objects are never overwritten")
	ErrNoSpace     = errors.New("blockstore: the store is full")
	ErrUnavailable = errors.New("blockstore: the store cannot be reached")
	ErrDenied      = errors.New("blockstore: the store refuses access")
	ErrInvalid     = errors.New("blockstore: the key or range is not valid")
	ErrTooLarge    = errors.New("blockstore: the object is larger than expected")
	ErrDamaged     = errors.New("blockstore: the object is damaged")
	ErrKey         = errors.New("blockstore: the object was encrypted with another gen.key")
)

// Object is what a store knows of one object.
type Object struct {
	Key      string
	Size     int64     // bytes as written through this store; a wrapper that changes them says its own
	Modified time.Time // when it was committed, by the clock of the storage, UTC; at least to the second
}

// Store keeps immutable objects. All methods are safe for concurrent use and end early when ctx does.
type Store interface {
	// Create begins an object. Nothing is visible before Commit. It does not find out whether the key is taken; but a store
	// may answer ErrExists here already.
	Create(ctx context.Context, key string) (Writer, error)
	// Open reads length bytes from offset; a negative length means to the end. What lies beyond the end is left out without
	// an error (the reader is then short, or empty). ErrNotFound. The reader ends with ctx; it must be closed.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat says what is known of an object, or ErrNotFound.
	Stat(ctx context.Context, key string) (Object, error)
	// List returns objects whose keys begin with prefix (any bytes of a key, "" for all) and are greater than after,
	// ascending by key, at most limit of them (0, or more than MaxList, means MaxList). An empty answer is the end; a short
	// one is not. An object that was there all the time is seen exactly once by asking again from the last key.
	List(ctx context.Context, prefix, after string, limit int) ([]Object, error)
	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// Writer receives one object. It belongs to one goroutine.
type Writer interface {
	// Write appends. After an error the object is lost and every further call fails; ErrNoSpace and ErrUnavailable are
	// errors of Write too.
	io.Writer
	// Commit makes the object visible and durable. ErrExists: the key is taken, and what is there stays. After an error
	// nothing is visible, except that ErrUnavailable leaves it open. Commit is called once, ctx bounds it.
	Commit(ctx context.Context) error
	// Abort drops what was written. After Commit it does nothing, so that it can be deferred right after Create.
	Abort()
}

// Signer is implemented by stores that let somebody without credentials of the store read or write one object for a while.
// Find it with SignerOf.
type Signer interface {
	// SignPut permits one upload of exactly size bytes to a key. The header must be sent as it is. The upload of a key that is
	// taken is refused by the store (412), where the store knows conditional writes.
	SignPut(ctx context.Context, key string, size int64, ttl time.Duration) (Signed, error)
	// SignGet permits reads of an object, also of ranges of it. It does not look whether the object exists.
	SignGet(ctx context.Context, key string, ttl time.Duration) (Signed, error)
}

// Signed is a request that carries its own permission. The URL is a secret until it expires: it must not be logged.
type Signed struct {
	Method string            `json:"method" bson:"method"`
	URL    string            `json:"url" bson:"url"`
	Header map[string]string `json:"header,omitempty" bson:"header,omitempty"`
}

// Cleaner is implemented by storages in which a killed writer leaves something behind that takes space although no reader can
// see it: temporary files, chunks, parts of uploads. Call it through Clean.
type Cleaner interface {
	// Clean removes what was left by writers that have shown no sign of life since before, and says how much. It is safe
	// beside writers of any process: one that was only asleep fails at Commit.
	Clean(ctx context.Context, before time.Time) (Cleaned, error)
}

// Cleaned is what Clean removed.
type Cleaned struct {
	Leftovers int   `json:"leftovers"` // writers that had not finished
	Bytes     int64 `json:"bytes"`     // what they took, where the storage says so
}

// Clean removes what killed writers left in a store; nothing where the storage leaves nothing. LeftoverAge is a good age.
func Clean(ctx context.Context, s Store, before time.Time) (Cleaned, error) {
	if c, ok := find[Cleaner](s); ok {
		return c.Clean(ctx, before)
	}
	return Cleaned{}, nil
}

// LeftoverAge is after how long a writer without a sign of life is taken for dead.
const LeftoverAge = 24 * time.Hour

// Spacer is implemented by storages that know how full they are.
type Spacer interface {
	// Space asks the storage.
	Space(ctx context.Context) (Space, error)
}

// Space is the room of a storage in bytes.
type Space struct {
	Free  int64 `json:"free"` // what this process may still write
	Total int64 `json:"total"`
}

// SpacerOf finds what knows the room of a store, through all wrappers.
func SpacerOf(s Store) (Spacer, bool) { return find[Spacer](s) }

// find looks for a capability in a store and in what it wraps. Wrappers that change the bytes of objects have no Unwrap
// method but implement the capabilities that they can pass on.
func find[T any](s Store) (found T, ok bool) {
	for s != nil {
		if found, ok = s.(T); ok {
			return found, true
		}
		w, wraps := s.(interface{ Unwrap() Store })
		if !wraps {
			break
		}
		s = w.Unwrap()
	}
	return found, false
}

// SignerOf finds the signer of a store, through wrappers that leave the bytes of objects as they are (those have an
// Unwrap method). An encrypted store has none: whoever uploads past it would leave plain text.
func SignerOf(s Store) (Signer, bool) { return find[Signer](s) }

// Range cuts a range to an object of size bytes: what of it exists. A negative length means to the end. A negative offset is
// ErrInvalid.
func Range(size, offset, length int64) (from, n int64, err error) {
	if offset < 0 {
		return 0, 0, ErrInvalid
	}
	offset = min(offset, size)
	if rest := size - offset; length < 0 || length > rest {
		length = rest
	}
	return offset, length, nil
}

// Limit is the number of objects that an answer of List holds at most, for the limit it was called with.
func Limit(limit int) int {
	if limit <= 0 || limit > MaxList {
		return MaxList
	}
	return limit
}

type expectedKey struct{}

// Expect tells Create about how many bytes will come, where that is known and they are many: a bucket takes an upload in a
// limited number of parts, and objects over 72 GB need larger ones. It is a hint; nothing breaks when it is wrong by little.
func Expect(ctx context.Context, size int64) context.Context {
	return context.WithValue(ctx, expectedKey{}, size)
}

// Expected is what Expect told, or 0.
func Expected(ctx context.Context) int64 {
	size, _ := ctx.Value(expectedKey{}).(int64)
	return size
}
