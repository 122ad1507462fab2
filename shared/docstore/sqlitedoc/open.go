// Package sqlitedoc is the embedded document engine: one SQLite file, owned by one process.
//
// All writes go through one goroutine that gathers the batches waiting at that moment into one transaction, so that many
// writers share one sync to the disk (write.go). Reads have their own connections and never wait for writes (read.go). The
// write-ahead log is folded back by checkpoint.go, which bounds it even when readers never pause.
//
// A collection is one table, clustered by id (WITHOUT ROWID): a range of ids is a range of pages, which is what series need.
// Indexed fields are kept in columns before the body, which SQLite's own indexes cover.
package sqlitedoc

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const (
	applicationID = 0x48576462 // "HWdb", in the file's header
	formatVersion = 1          // of the tables in the file; Open refuses a later one
	pageSize      = 8192
	writerCache   = 32 << 20 // bytes
	readerCache   = 8 << 20  // bytes, each of the readers
	busyPragma    = "busy_timeout=5000"
	busyTimeout   = "PRAGMA " + busyPragma
	revBlock      = 1 << 20 // revisions reserved at a time
)

var _ docstore.Engine = (*Engine)(nil)

// Options say what to open. Path is needed.
type Options struct {
	Path     string           // the file; its folder is created when absent
	ReadOnly bool             // open an existing file without owning it: for looking at a backup, or backing up beside the owner
	Log      *slog.Logger     // nil discards
	Now      func() time.Time // the clock behind Engine.Now; nil is time.Now
	MaxBytes int64            // the file's quota: writes past it fail with ErrFull; 0 is none

	pageSize int // benchmarks try others
}

// Engine is an open file. See docstore.Engine for its methods.
type Engine struct {
	path     string
	readOnly bool
	log      *slog.Logger
	now      func() time.Time
	lock     *os.File

	schema atomic.Pointer[docstore.Schema]

	writer  *sqlconn.Conn // used by the writer goroutine only
	queue   chan *request
	rev     int64 // the last revision given; the writer's
	revTop  int64 // the highest revision reserved in the file; the writer's
	ailing  bool  // the last group failed; the writer's
	readers chan *sqlconn.Conn
	nRead   int

	logBytes    int64         // appended to the log since it last began anew, or a little more; the writer's
	foldAt      int64         // how many of them are too many; the writer's
	folding     sync.Mutex    // one checkpoint at a time
	checkpoints chan struct{} // asks the checkpointer for a round
	background  sync.WaitGroup

	// inUse is held for reading by every call and for writing by Close, so that nothing is closed under a call.
	inUse  sync.RWMutex
	closed bool
	stop   chan struct{}

	// life ends as soon as Close is called: what takes long ends early by it.
	life context.Context
	end  context.CancelFunc
}

// Open opens or creates the file. It fails with an *opererr.Error when another process owns it, or when it is damaged, not
// ours, or written by a later version.
func Open(o Options) (*Engine, error) {
	if o.Path == "" {
		return nil, errors.New("sqlitedoc: Options.Path is empty")
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlitedoc: %w", err)
	}
	e := &Engine{
		path: path, readOnly: o.ReadOnly, log: o.Log, now: o.Now, stop: make(chan struct{}),
		queue: make(chan *request, 256), foldAt: walHard, checkpoints: make(chan struct{}, 1),
	}
	e.life, e.end = context.WithCancel(context.Background())
	if e.log == nil {
		e.log = obs.Discard()
	}
	if e.now == nil {
		e.now = time.Now
	}
	if o.pageSize == 0 {
		o.pageSize = pageSize
	}
	if err := e.open(o); err != nil {
		err = errors.Join(err, e.release())
		if sqlconn.Damaged(err) {
			err = opererr.New("open the database "+path, fmt.Errorf("the file is damaged or is not a database: %w", err),
				"restore it from a backup made by: heartwood store backup")
		}
		var oe *opererr.Error
		if !errors.As(err, &oe) {
			err = opererr.New("open the database "+path, err, sqlconn.Hint(err, path))
		}
		return nil, err
	}
	if !e.readOnly {
		e.background.Add(2)
		go e.writeLoop()
		go e.checkpointLoop()
	}
	return e, nil
}

func (e *Engine) open(o Options) error {
	if !e.readOnly {
		if err := os.MkdirAll(filepath.Dir(e.path), 0o700); err != nil {
			return err
		}
		var err error
		if e.lock, err = lockFile(e.path); err != nil {
			return err
		}
		// SQLite gives its other files the mode of this one. Secrets in it are sealed, the rest is nobody's business either.
		f, err := os.OpenFile(e.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := checkHeader(e.path); err != nil {
			return err
		}
	}
	if err := e.openWriter(o); err != nil {
		return err
	}
	if err := e.loadSchema(); err != nil {
		return err
	}
	e.nRead = max(4, 2*runtime.GOMAXPROCS(0))
	e.readers = make(chan *sqlconn.Conn, e.nRead)
	for range e.nRead {
		c, err := sqlconn.Open(e.path, true, busyPragma, fmt.Sprintf("cache_size=-%d", readerCache>>10))
		if err != nil {
			return err
		}
		e.readers <- c
	}
	return nil
}

// openWriter opens the connection that owns the file, and makes the file ours if it is new. A read-only engine has one
// too, for reading the schema and for backups.
func (e *Engine) openWriter(o Options) error {
	if e.readOnly {
		c, err := sqlconn.Open(e.path, true, busyPragma)
		if err != nil {
			return err
		}
		e.writer = c
		return e.identify()
	}
	c, err := sqlconn.Open(e.path, false, busyPragma,
		fmt.Sprintf("page_size=%d", o.pageSize), "journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0",
		fmt.Sprintf("journal_size_limit=%d", walHard), fmt.Sprintf("cache_size=-%d", writerCache>>10))
	if err != nil {
		return err
	}
	e.writer = c
	// The page size is the file's, which may be older than this program's.
	if c.PageSize, _, err = c.Int64("PRAGMA page_size"); err != nil {
		return err
	}
	if o.MaxBytes > 0 {
		if err := c.Once(fmt.Sprintf("PRAGMA max_page_count=%d", max(1, o.MaxBytes/c.PageSize))); err != nil {
			return err
		}
	}
	tables, _, err := c.Int64("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	if tables == 0 {
		for _, sql := range []string{
			"BEGIN IMMEDIATE",
			fmt.Sprintf("PRAGMA application_id=%d", applicationID),
			fmt.Sprintf("PRAGMA user_version=%d", formatVersion),
			`CREATE TABLE "hw:meta" (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID`,
			`CREATE TABLE "hw:collections" (name TEXT PRIMARY KEY, declaration TEXT NOT NULL) WITHOUT ROWID`,
			`INSERT INTO "hw:meta" (name, value) VALUES ('rev', 0)`,
			"COMMIT",
		} {
			if err := c.Once(sql); err != nil {
				return err
			}
		}
	}
	if err := e.identify(); err != nil {
		return err
	}
	top, ok, err := c.Int64(`SELECT value FROM "hw:meta" WHERE name='rev'`)
	if err != nil || !ok {
		return errors.Join(errors.New("the file has no revision counter"), err)
	}
	// What the last run reserved and did not use is lost, so that no revision is ever given twice.
	e.rev, e.revTop = top, top
	return nil
}

// identify refuses what is a database, but not ours or not of our time.
func (e *Engine) identify() error {
	id, _, err := e.writer.Int64("PRAGMA application_id")
	if err != nil {
		return err
	}
	if id != applicationID {
		return opererr.New("open the database "+e.path, errors.New("it is an SQLite file of another program"),
			"use another data folder")
	}
	version, _, err := e.writer.Int64("PRAGMA user_version")
	if err != nil {
		return err
	}
	if version > formatVersion {
		return opererr.New("open the database "+e.path,
			fmt.Errorf("its format is version %d, this program knows up to %d", version, formatVersion),
			"use the newer heartwood that wrote it")
	}
	return nil
}

// checkHeader finds what SQLite would notice late or not at all: a file that was cut short. Only the owner may call it,
// before it opens connections: closing the file drops every lock this process has on it.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return errors.New("it is a folder")
	}
	if st.Size() == 0 {
		return nil
	}
	broken := func(why string) error {
		return opererr.New("open the database "+path, errors.New("the file is damaged or is not a database: "+why),
			"restore it from a backup made by: heartwood store backup")
	}
	head := make([]byte, 100)
	if _, err := io.ReadFull(f, head); err != nil {
		return broken("it is shorter than a header")
	}
	if !bytes.HasPrefix(head, []byte("SQLite format 3\x00")) {
		return broken("its header is not SQLite's")
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return nil // the log may hold the pages that are missing here
	}
	size := int64(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if want := size * int64(binary.BigEndian.Uint32(head[28:])); st.Size() < want {
		return broken(fmt.Sprintf("it has %d bytes of %d", st.Size(), want))
	}
	return nil
}

func (e *Engine) loadSchema() error {
	var list []docstore.Collection
	err := e.writer.Each(context.Background(), `SELECT declaration FROM "hw:collections"`, nil, func(v []driver.Value) error {
		text, _ := v[0].(string)
		var c docstore.Collection
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("read the declaration of a collection: %w", err)
		}
		list = append(list, c)
		return nil
	})
	if err != nil {
		return err
	}
	s, err := (*docstore.Schema)(nil).With(list)
	if err != nil {
		return err
	}
	e.schema.Store(s)
	return nil
}

// Collections lists what the file holds, by name.
func (e *Engine) Collections() []docstore.Collection { return e.schema.Load().Collections() }

// Path is the file.
func (e *Engine) Path() string { return e.path }

// enter keeps the engine open until leave; it fails after Close.
func (e *Engine) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.inUse.RLock()
	if e.closed {
		e.inUse.RUnlock()
		return fmt.Errorf("%w: the engine is closed", docstore.ErrUnavailable)
	}
	return nil
}

func (e *Engine) leave() { e.inUse.RUnlock() }

// long is enter for what takes minutes: Close ends it instead of waiting for it.
func (e *Engine) long(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := e.enter(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(e.life, cancel)
	return ctx, func() {
		unhook()
		cancel()
		e.leave()
	}, nil
}

// Now is the clock of this machine: the process is the database.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	if err := e.enter(ctx); err != nil {
		return time.Time{}, err
	}
	defer e.leave()
	return e.now().UTC().Truncate(time.Millisecond), nil
}

// Close waits for the calls under way, folds the log back into the file and releases it.
func (e *Engine) Close() error {
	e.end()
	e.inUse.Lock()
	defer e.inUse.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	close(e.stop)
	e.background.Wait()
	var err error
	if !e.readOnly {
		err = e.closeReaders()
		// Failing (a full disk, a reader in another process) loses nothing: the log is folded back after the next Open.
		if _, cerr := e.checkpoint(e.writer, "TRUNCATE"); cerr != nil {
			e.log.Warn("the write-ahead log stays", obs.KeyFile, e.path, obs.KeyErr, cerr)
		}
	}
	return errors.Join(err, e.release())
}

func (e *Engine) closeReaders() error {
	var errs []error
	for len(e.readers) > 0 {
		errs = append(errs, (<-e.readers).Close())
	}
	return errors.Join(errs...)
}

func (e *Engine) release() error {
	errs := []error{e.closeReaders()}
	if e.writer != nil {
		errs = append(errs, e.writer.Close())
		e.writer = nil
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
		e.lock = nil
	}
	return errors.Join(errs...)
}
