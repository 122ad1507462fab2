// Package docblock keeps objects in a document engine: a replica set, or the embedded database of a small site. It needs nothing
// but the engine, and is slower and dearer than files or a bucket.
//
// An object is one document under its key, and chunks of ChunkSize under "<upload>/<number>". A writer notes its upload first, writes
// chunks, marks the upload as being committed, and inserts the object's document, which is what makes it visible and what only one
// of two writers can do. Uploads that were noted and not finished are what Clean removes, with their chunks; it takes the note
// away on condition of its revision, so that a writer that was only asleep finds it gone and fails. Delete notes the upload again
// before it removes the document, so that chunks are found whatever is interrupted.
package docblock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// The collections.
const (
	objects = "blockobjects"
	chunks  = "blockchunks"
	uploads = "blockuploads"
)

const (
	// ChunkSize is the content of one chunk document: small enough that a range costs little more than itself.
	ChunkSize = 1 << 20
	// chunksAtOnce are written with one request, and with it durable on the majority.
	chunksAtOnce = 8
	// commitWithin bounds Commit: far below the age at which Clean takes a writer for dead.
	commitWithin = time.Hour
)

// Collections are what the store needs of an engine.
func Collections() []docstore.Collection {
	return []docstore.Collection{{Name: objects}, {Name: chunks}, {Name: uploads}}
}

// object is the document of an object; its id is the key.
type object struct {
	Upload   string    `bson:"upload"`
	Size     int64     `bson:"size"`
	Modified time.Time `bson:"modified"`
}

// upload is the note of a writer at work; its id is the upload's.
type upload struct {
	Key   string    `bson:"key"`
	Since time.Time `bson:"since"` // by the engine's clock; a sign of life
}

type chunk struct {
	Bytes []byte `bson:"b"`
}

// Store is objects in an engine.
type Store struct {
	engine docstore.Engine
}

var (
	_ blockstore.Store   = (*Store)(nil)
	_ blockstore.Cleaner = (*Store)(nil)
)

// Open makes the collections where they are missing. The engine stays its owner's: close it after the store's last use.
func Open(ctx context.Context, engine docstore.Engine) (*Store, error) {
	if err := engine.Ensure(ctx, Collections()); err != nil {
		return nil, fail("open the block store", err)
	}
	return &Store{engine: engine}, nil
}

// fail gives an engine's error its meaning for users of objects.
func fail(op string, err error) error {
	switch {
	case errors.Is(err, docstore.ErrUnavailable), errors.Is(err, docstore.ErrOutcomeUnknown):
		return fmt.Errorf("%w: %s: %w", blockstore.ErrUnavailable, op, err)
	case errors.Is(err, docstore.ErrFull):
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrNoSpace, err),
			"Make room for the database that holds the blocks, or shorten the retention and groom; nothing that is stored is lost, and writers go on when there is room.")
	}
	return fmt.Errorf("%s: %w", op, err)
}

func chunkID(upload string, n int64) string { return fmt.Sprintf("%s/%08x", upload, n) }

// write carries out operations that must all succeed.
func (s *Store) write(ctx context.Context, ordered bool, ops ...docstore.Op) (rev int64, err error) {
	results, err := s.engine.Write(ctx, ops, ordered)
	if err != nil {
		return 0, err
	}
	for _, r := range results {
		if r.Err != nil {
			return 0, r.Err
		}
		rev = r.Rev
	}
	return rev, nil
}

func marshal(v any) (bson.Raw, error) {
	b, err := bson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// note writes the note of an upload, as a new one or over the revision it has.
func (s *Store) note(ctx context.Context, id, key string, rev int64) (int64, error) {
	now, err := s.engine.Now(ctx)
	if err != nil {
		return 0, err
	}
	body, err := marshal(upload{Key: key, Since: now})
	if err != nil {
		return 0, err
	}
	op := docstore.Op{Kind: docstore.Replace, Collection: uploads, ID: id, Rev: rev, Body: body}
	if rev == 0 {
		op.Kind = docstore.Put
	}
	return s.write(ctx, true, op)
}

// Create implements blockstore.Store.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	id := strings.ToLower(rand.Text())
	rev, err := s.note(ctx, id, key, 0)
	if err != nil {
		return nil, fail("write "+key, err)
	}
	return &writer{ctx: ctx, s: s, key: key, upload: id, rev: rev}, nil
}

type writer struct {
	ctx    context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	s      *Store
	key    string
	upload string
	rev    int64 // of the upload's note
	buf    []byte
	chunks int64 // written
	size   int64
	err    error // why the writer is done
}

var errDone = errors.New("docblock: the writer is closed")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	done := 0
	for done < len(p) {
		n := min(chunksAtOnce*ChunkSize-len(w.buf), len(p)-done)
		w.buf = append(w.buf, p[done:done+n]...)
		done += n
		if len(w.buf) == chunksAtOnce*ChunkSize {
			if err := w.flush(w.ctx); err != nil {
				return done, w.fail(err)
			}
		}
	}
	return done, nil
}

// flush writes what is buffered as chunks, and a sign of life.
func (w *writer) flush(ctx context.Context) error {
	if w.chunks > 0 {
		rev, err := w.s.note(ctx, w.upload, w.key, w.rev)
		if err != nil {
			return err
		}
		w.rev = rev
	}
	var ops []docstore.Op
	for at := 0; at < len(w.buf); at += ChunkSize {
		body, err := marshal(chunk{Bytes: w.buf[at:min(at+ChunkSize, len(w.buf))]})
		if err != nil {
			return err
		}
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: chunks, ID: chunkID(w.upload, w.chunks), Body: body})
		w.chunks++
	}
	w.size += int64(len(w.buf))
	w.buf = w.buf[:0]
	if len(ops) == 0 {
		return nil
	}
	_, err := w.s.write(ctx, false, ops...)
	return err
}

func (w *writer) fail(err error) error {
	err = fail("write "+w.key, err)
	if errors.Is(err, docstore.ErrNotFound) || errors.Is(err, docstore.ErrConflict) {
		err = fmt.Errorf("%w: write %s: it took so long that it was cleaned away", blockstore.ErrUnavailable, w.key)
	}
	w.Abort()
	w.err = err
	return err
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	ctx, stop := context.WithTimeout(ctx, commitWithin)
	defer stop()
	if err := w.flush(ctx); err != nil {
		return w.fail(err)
	}
	rev, err := w.s.note(ctx, w.upload, w.key, w.rev) // from here, nobody cleans the chunks for a day
	if err != nil {
		return w.fail(err)
	}
	w.rev = rev
	now, err := w.s.engine.Now(ctx)
	if err != nil {
		return w.fail(err)
	}
	body, err := marshal(object{Upload: w.upload, Size: w.size, Modified: now})
	if err != nil {
		return w.fail(err)
	}
	_, err = w.s.write(ctx, true, docstore.Op{Kind: docstore.Insert, Collection: objects, ID: w.key, Body: body})
	switch {
	case errors.Is(err, docstore.ErrExists):
		w.Abort()
		w.err = fmt.Errorf("%w: %s", blockstore.ErrExists, w.key)
		return w.err
	case errors.Is(err, docstore.ErrOutcomeUnknown), ctx.Err() != nil && err != nil:
		w.buf, w.err = nil, fail("write "+w.key, err) // it may be there: the chunks must stay, Clean looks after them
		return w.err
	case err != nil:
		return w.fail(err)
	}
	w.buf, w.err = nil, errDone
	// The note has done its work; if it cannot be taken away now, Clean finds the object beside it.
	_, _ = w.s.write(ctx, true, docstore.Op{Kind: docstore.Delete, Collection: uploads, ID: w.upload})
	return nil
}

// abortWithin bounds the clearing up after a writer whose own context may have ended.
const abortWithin = 30 * time.Second

// Abort implements blockstore.Writer.
func (w *writer) Abort() {
	if w.err != nil {
		return
	}
	w.buf, w.err = nil, errDone
	ctx, stop := context.WithTimeout(context.WithoutCancel(w.ctx), abortWithin)
	defer stop()
	_ = w.s.discard(ctx, w.upload) // what stays behind, Clean removes
}

// discard removes the chunks of an upload, then its note.
func (s *Store) discard(ctx context.Context, id string) error {
	for {
		n, err := s.engine.DeleteRange(ctx, chunks, id+"/", id+"0", 1000) // '0' comes after '/'
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	_, err := s.write(ctx, true, docstore.Op{Kind: docstore.Delete, Collection: uploads, ID: id})
	return err
}

// get reads the document of an object.
func (s *Store) get(ctx context.Context, key string) (object, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return object{}, err
	}
	docs, err := s.engine.Get(ctx, objects, key)
	if err != nil {
		return object{}, fail("read "+key, err)
	}
	if len(docs) == 0 {
		return object{}, fmt.Errorf("%w: %s", blockstore.ErrNotFound, key)
	}
	return decode(docs[0])
}

func decode(d docstore.Doc) (o object, err error) {
	if err := bson.Unmarshal(d.Body, &o); err != nil {
		return object{}, fmt.Errorf("%w: the document of %s: %w", blockstore.ErrDamaged, d.ID, err)
	}
	return o, nil
}

// Stat implements blockstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	o, err := s.get(ctx, key)
	if err != nil {
		return blockstore.Object{}, err
	}
	return blockstore.Object{Key: key, Size: o.Size, Modified: o.Modified.UTC()}, nil
}

// List implements blockstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	if err := errors.Join(blockstore.ValidPrefix(prefix), blockstore.ValidPrefix(after)); err != nil {
		return nil, err
	}
	q := docstore.Query{Collection: objects, From: prefix, Limit: blockstore.Limit(limit)}
	if after >= prefix && after != "" {
		q.From = after + "\x01" // the least id after it: keys have no such byte
	}
	if prefix != "" {
		q.To = prefix + "\x7f" // beyond all bytes of keys
		if q.From >= q.To {
			return nil, ctx.Err()
		}
	}
	page, err := s.engine.Scan(ctx, q)
	if err != nil {
		return nil, fail("list "+prefix, err)
	}
	found := make([]blockstore.Object, len(page.Docs))
	for i, d := range page.Docs {
		o, err := decode(d)
		if err != nil {
			return nil, err
		}
		found[i] = blockstore.Object{Key: d.ID, Size: o.Size, Modified: o.Modified.UTC()}
	}
	return found, nil
}

// Delete implements blockstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	o, err := s.get(ctx, key)
	if errors.Is(err, blockstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.note(ctx, o.Upload, key, 0); err != nil {
		return fail("delete "+key, err)
	}
	if _, err := s.write(ctx, true, docstore.Op{Kind: docstore.Delete, Collection: objects, ID: key}); err != nil {
		return fail("delete "+key, err)
	}
	if err := s.discard(ctx, o.Upload); err != nil {
		return fail("delete "+key, err)
	}
	return nil
}

// Open implements blockstore.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	from, n, err := blockstore.Range(o.Size, offset, length)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, s: s, key: key, o: o, at: from, end: from + n}, nil
}

type reader struct {
	ctx     context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	s       *Store
	key     string
	o       object
	at, end int64
	have    []byte // of the chunk at at
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.at >= r.end {
		return 0, io.EOF
	}
	if len(r.have) == 0 {
		if err := r.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.have[:min(int64(len(r.have)), r.end-r.at)])
	r.have = r.have[n:]
	r.at += int64(n)
	return n, nil
}

// load gets the chunk that holds the next byte.
func (r *reader) load() error {
	number := r.at / ChunkSize
	docs, err := r.s.engine.Get(r.ctx, chunks, chunkID(r.o.Upload, number))
	if err != nil {
		return fail("read "+r.key, err)
	}
	if len(docs) == 0 {
		return r.lost(number)
	}
	var c chunk
	if err := bson.Unmarshal(docs[0].Body, &c); err != nil {
		return fmt.Errorf("%w: chunk %d of %s: %w", blockstore.ErrDamaged, number, r.key, err)
	}
	if want := min(ChunkSize, r.o.Size-number*ChunkSize); int64(len(c.Bytes)) != want {
		return fmt.Errorf("%w: chunk %d of %s has %d bytes, not %d", blockstore.ErrDamaged, number, r.key, len(c.Bytes), want)
	}
	r.have = c.Bytes[r.at%ChunkSize:]
	return nil
}

// lost tells an object that was deleted while it was read from one that is damaged.
func (r *reader) lost(number int64) error {
	if o, err := r.s.get(r.ctx, r.key); err != nil || o.Upload != r.o.Upload {
		return errors.Join(fmt.Errorf("%w: %s was deleted while it was read", blockstore.ErrNotFound, r.key), err)
	}
	return fmt.Errorf("%w: chunk %d of %s is missing", blockstore.ErrDamaged, number, r.key)
}

// Close implements io.Closer.
func (r *reader) Close() error { return nil }

// Clean implements blockstore.Cleaner.
func (s *Store) Clean(ctx context.Context, before time.Time) (done blockstore.Cleaned, err error) {
	q := docstore.Query{Collection: uploads}
	for {
		page, err := s.engine.Scan(ctx, q)
		if err != nil {
			return done, fail("clean", err)
		}
		for _, d := range page.Docs {
			n, err := s.leftover(ctx, d, before)
			if err != nil {
				return done, fail("clean", err)
			}
			if n >= 0 {
				done.Leftovers++
				done.Bytes += n
			}
		}
		if page.Next == "" {
			return done, nil
		}
		q.Resume = page.Next
	}
}

// leftover removes what an old note stands for and says how many bytes that were; -1 when it is none.
func (s *Store) leftover(ctx context.Context, d docstore.Doc, before time.Time) (int64, error) {
	var u upload
	if err := bson.Unmarshal(d.Body, &u); err != nil {
		return -1, fmt.Errorf("%w: the note of upload %s: %w", blockstore.ErrDamaged, d.ID, err)
	}
	if !u.Since.Before(before) {
		return -1, nil
	}
	o, err := s.get(ctx, u.Key)
	committed := err == nil && o.Upload == d.ID
	if err != nil && !errors.Is(err, blockstore.ErrNotFound) {
		return -1, err
	}
	if !committed {
		// A fresh note that names the same upload, on condition of the old one: its writer, if it lives, cannot go on, and if this
		// process dies now the chunks are still found.
		_, err := s.note(ctx, d.ID, u.Key, d.Rev)
		if errors.Is(err, docstore.ErrConflict) || errors.Is(err, docstore.ErrNotFound) {
			return -1, nil
		}
		if err != nil {
			return -1, err
		}
		n, err := s.engine.Count(ctx, docstore.Query{Collection: chunks, From: d.ID + "/", To: d.ID + "0"}, 1<<20)
		if err != nil {
			return -1, err
		}
		return int64(n) * ChunkSize, s.discard(ctx, d.ID)
	}
	_, err = s.write(ctx, true, docstore.Op{Kind: docstore.Delete, Collection: uploads, ID: d.ID, Rev: d.Rev})
	if errors.Is(err, docstore.ErrConflict) || errors.Is(err, docstore.ErrNotFound) {
		err = nil
	}
	return -1, err
}
