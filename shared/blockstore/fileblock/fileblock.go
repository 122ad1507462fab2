// Package fileblock keeps objects as files below one folder, which several servers may share.
//
// An object is written to a temporary file beside its target, synced, and linked to its name: link refuses a name that is taken,
// so nothing is ever overwritten, and the name leads to the whole file or to nothing. Then the folder is synced. A killed writer
// leaves a temporary file, which Clean removes when it is old. A file system without hard links is refused by Open.
package fileblock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/direct"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const (
	temporary = ".tmp-" // no key's segment begins with a dot
	folderFor = 0o750
	fileFor   = 0o640
	// tries bounds how often a writer makes its folder again that somebody else's Delete removed for being empty.
	tries = 20
)

// Store is a folder of objects.
type Store struct {
	folder string
	root   *os.Root // keeps the file system mounted, and every path inside
	synced sync.Map // folders whose way from the root this process has synced
}

var (
	_ blockstore.Store   = (*Store)(nil)
	_ blockstore.Cleaner = (*Store)(nil)
	_ blockstore.Spacer  = (*Store)(nil)
)

// Open opens a folder, and makes it when it is absent and its parent is there (a missing parent is more often a file system that
// is not mounted than a wish). It tries out what the store relies on.
func Open(folder string) (*Store, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(folder, folderFor); err != nil && !errors.Is(err, fs.ErrExist) {
		hint := "Give the user that runs heartwood the right to write there."
		if errors.Is(err, fs.ErrNotExist) {
			hint = "Mount the file system, or make the folder: mkdir -p " + folder
		}
		return nil, opererr.New("open the block store "+folder, fmt.Errorf("%w: %w", blockstore.ErrUnavailable, err), hint)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, opererr.New("open the block store "+folder, fmt.Errorf("%w: %w", blockstore.ErrUnavailable, err), "Name a folder that the user who runs heartwood can read and write.")
	}
	s := &Store{folder: folder, root: root}
	if err := s.probe(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// probe writes a file, links it and finds that a second link is refused.
func (s *Store) probe() error {
	f, name, err := s.temp(".")
	if err != nil {
		return s.fail("open", ".", err)
	}
	second := name + "-link"
	defer func() {
		_ = s.root.Remove(name)
		_ = s.root.Remove(second)
	}()
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return s.fail("open", ".", err)
	}
	if err := s.root.Link(name, second); err != nil {
		return opererr.New("open the block store "+s.folder, fmt.Errorf("%w: %w", blockstore.ErrUnavailable, err),
			"The file system must know hard links (ext4, xfs, btrfs, zfs and NFS do): name a folder on another one.")
	}
	if err := s.root.Link(name, second); !errors.Is(err, fs.ErrExist) {
		return opererr.New("open the block store "+s.folder, fmt.Errorf("%w: the file system lets a link replace a file (%w)", blockstore.ErrUnavailable, err),
			"Objects could be overwritten there: name a folder on another file system.")
	}
	return nil
}

// Close lets go of the folder. Writers and readers that are open stay usable.
func (s *Store) Close() error { return s.root.Close() }

// temp makes a temporary file in a folder and returns its path from the root.
func (s *Store) temp(dir string) (*os.File, string, error) {
	name := path.Join(dir, temporary+strings.ToLower(rand.Text()))
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileFor)
	return f, name, err
}

// Create implements blockstore.Store.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	dir := path.Dir(key)
	for try := 1; ; try++ {
		f, name, err := s.temp(dir)
		if err == nil {
			return &writer{ctx: ctx, store: s, key: key, dir: dir, temp: name, file: f}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || try == tries {
			return nil, s.fail("write", key, err)
		}
		s.synced.Delete(dir)
		if err := s.root.MkdirAll(dir, folderFor); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, s.fail("write", key, err)
		}
	}
}

type writer struct {
	ctx   context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	store *Store
	key   string
	dir   string
	temp  string
	file  *os.File     // nil when done
	bulk  *direct.File // of file, once there is more than a chunk
	size  int64        // bytes that are in the file
	buf   []byte       // bytes that are not
}

// Objects are written to their files in chunks: large ones, as packs, past the page cache, for it is long until they are read again;
// those of less than a chunk, as slices of the oplog, which the daemon reads next, through it.
const (
	chunkSize = 1 << 20
	firstSize = 32 << 10 // of the buffer, as most objects are small
)

var chunks = sync.Pool{New: func() any {
	b := direct.Buffer(chunkSize)
	return &b
}}

var errDone = errors.New("fileblock: the writer is closed")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, errDone
	}
	if err := w.ctx.Err(); err != nil {
		w.Abort()
		return 0, w.store.fail("write", w.key, err)
	}
	n := 0
	for n < len(p) {
		w.room(len(p) - n)
		k := copy(w.buf[len(w.buf):cap(w.buf)], p[n:])
		w.buf = w.buf[:len(w.buf)+k]
		if len(w.buf) == chunkSize {
			if err := w.flush(); err != nil {
				w.Abort()
				return n, w.store.fail("write", w.key, err)
			}
		}
		n += k
	}
	return n, nil
}

// room makes place for more bytes in the buffer: for all n, or up to a chunk.
func (w *writer) room(n int) {
	need := len(w.buf) + n
	switch {
	case need <= cap(w.buf) || cap(w.buf) == chunkSize:
	case need <= firstSize:
		w.buf = make([]byte, 0, firstSize)
	default:
		b, _ := chunks.Get().(*[]byte)
		w.buf = append((*b)[:0], w.buf...)
	}
}

// flush writes a whole chunk.
func (w *writer) flush() error {
	if w.bulk == nil {
		w.bulk = direct.New(w.file, w.store.root, w.temp)
	}
	n, err := w.bulk.WriteAt(w.buf, w.size)
	w.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// rest writes what is left at the end.
func (w *writer) rest() error {
	b := w.buf
	if whole := len(b) &^ (direct.Align - 1); w.bulk != nil && whole > 0 {
		n, err := w.bulk.WriteAt(b[:whole], w.size)
		w.size += int64(n)
		if err != nil {
			return err
		}
		b = b[whole:]
	}
	n, err := w.file.WriteAt(b, w.size)
	w.size += int64(n)
	return err
}

// Commit makes the name last: the file's content first, so that the name never leads to less than the whole.
func (w *writer) Commit(ctx context.Context) error {
	if w.file == nil {
		return errDone
	}
	defer w.Abort()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.rest(); err != nil {
		return w.store.fail("write", w.key, err)
	}
	if err := w.file.Sync(); err != nil {
		return w.store.fail("sync", w.key, err)
	}
	if err := w.store.link(w.temp, w.key); err != nil {
		return err
	}
	if err := w.store.root.Remove(w.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return w.store.fail("write", w.key, err)
	}
	if err := w.store.syncWay(w.dir); err != nil {
		return w.store.fail("sync the folder of", w.key, err)
	}
	return nil
}

// link gives the temporary file its name. Over NFS a repeated request may find the name that its first try made: two names
// of one file are success.
func (s *Store) link(temp, key string) error {
	err := s.root.Link(temp, key)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return s.fail("write", key, err)
	}
	have, err1 := s.root.Lstat(key)
	ours, err2 := s.root.Lstat(temp)
	if err1 == nil && err2 == nil && os.SameFile(have, ours) {
		return nil
	}
	return fmt.Errorf("%w: %s in %s", blockstore.ErrExists, key, s.folder)
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() {
	if w.file == nil {
		return
	}
	if w.bulk != nil {
		_ = w.bulk.Close()
	} else {
		_ = w.file.Close()
	}
	_ = w.store.root.Remove(w.temp) // what stays behind, Clean removes
	if cap(w.buf) == chunkSize {
		b := w.buf[:chunkSize]
		chunks.Put(&b)
	}
	w.file, w.bulk, w.buf = nil, nil, nil
}

// syncWay makes the names of a folder durable; the first time in this process also the folders' own names up to the root, which
// another process may have made and not synced when it died.
func (s *Store) syncWay(dir string) error {
	if err := s.syncDir(dir); err != nil {
		return err
	}
	if _, done := s.synced.Load(dir); done {
		return nil
	}
	for up := dir; up != "."; {
		up = path.Dir(up)
		if err := s.syncDir(up); err != nil {
			return err
		}
	}
	s.synced.Store(dir, true)
	return nil
}

func (s *Store) syncDir(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Open implements blockstore.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	f, err := s.root.Open(key)
	if err != nil {
		return nil, s.fail("read", key, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	var from, n int64
	if err == nil {
		from, n, err = blockstore.Range(info.Size(), offset, length)
	}
	if err != nil {
		_ = f.Close()
		return nil, s.fail("read", key, err)
	}
	return &reader{ctx: ctx, store: s, key: key, file: f, section: io.NewSectionReader(f, from, n)}, nil
}

type reader struct {
	ctx     context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	store   *Store
	key     string
	file    *os.File
	section *io.SectionReader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.section.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.store.fail("read", r.key, err)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.file.Close() }

// Stat implements blockstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	if err := ctx.Err(); err != nil {
		return blockstore.Object{}, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return blockstore.Object{}, err
	}
	info, err := s.root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return blockstore.Object{}, s.fail("look at", key, err)
	}
	return object(key, info), nil
}

func object(key string, info fs.FileInfo) blockstore.Object {
	return blockstore.Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}
}

// Delete implements blockstore.Store. Folders that became empty go too; a writer that just wanted one makes it again.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return err
	}
	info, err := s.root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		return nil // a folder of other objects
	}
	if err == nil {
		err = s.root.Remove(key)
	}
	if err != nil && !missing(err) {
		return s.fail("delete", key, err)
	}
	s.prune(path.Dir(key))
	return nil
}

// prune removes empty folders from dir upwards, not the root. Removing one that is not empty fails, which ends it.
func (s *Store) prune(dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		s.synced.Delete(dir)
		if err := s.root.Remove(dir); err != nil {
			return
		}
	}
}
