package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// backupStep is how many pages are copied between two groups of writes.
const backupStep = 256

// Progress tells how many of how many pages are copied. The total may grow while the database is written to.
type Progress func(done, total int)

// Backup copies the database as it is at the end of the copy to one new file, without holding up writers for longer than
// a step takes. The file appears under its name only when it is complete, checked and on the disk; Open reads it.
func (e *Engine) Backup(ctx context.Context, path string, progress Progress) error {
	ctx, done, err := e.long(ctx)
	if err != nil {
		return err
	}
	defer done()
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	refuse := func(err error, hint string) error { return opererr.New("back up the database to "+path, err, hint) }
	if _, err := os.Lstat(path); err == nil {
		return refuse(os.ErrExist, "give the name of a new file")
	}
	part := path + ".partial"
	// Left over from a backup that was killed; with its journal it would be taken for a database in the middle of a change.
	for _, p := range []string{part, part + "-journal", part + "-wal", part + "-shm"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return refuse(err, "")
		}
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return refuse(err, "check the folder's owner and mode")
	}
	defer func() { _ = os.Remove(part) }()
	if err := f.Close(); err != nil {
		return refuse(err, "")
	}
	if err := e.copyTo(ctx, part, progress); err != nil {
		return refuse(err, "")
	}
	if err := finish(ctx, part); err != nil {
		return refuse(err, "")
	}
	// Link refuses to overwrite, where Rename would not.
	if err := os.Link(part, path); err != nil {
		return refuse(err, "")
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return refuse(err, "")
	}
	return nil
}

// copyTo steps SQLite's online backup in the writer, so that a page written after it was copied is copied again at once
// and the copy never starts over. A read-only engine has no writer: there one read transaction keeps the source still.
func (e *Engine) copyTo(ctx context.Context, part string, progress Progress) error {
	do := func(run func(c *sqlconn.Conn) error) error {
		r := newRequest(ctx)
		r.outside, r.run = true, run
		return e.submit(r)
	}
	if e.readOnly {
		c, err := sqlconn.Open(e.path, true, busyPragma)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if err := c.Once("BEGIN"); err != nil {
			return err
		}
		if _, _, err := c.Int64("SELECT count(*) FROM sqlite_schema"); err != nil {
			return err
		}
		do = func(run func(c *sqlconn.Conn) error) error { return errors.Join(ctx.Err(), run(c)) }
	}
	var b *sqlite.Backup
	err := do(func(c *sqlconn.Conn) error {
		var err error
		b, err = c.NewBackup(part)
		return err
	})
	if err != nil {
		return err
	}
	more := true
	for err == nil && more {
		err = do(func(*sqlconn.Conn) error {
			var err error
			more, err = b.Step(backupStep)
			return err
		})
		if err == nil && progress != nil {
			progress(b.PageCount()-b.Remaining(), b.PageCount())
		}
	}
	// Finish must not run beside the writer, and must run whatever ctx says.
	fin := newRequest(context.WithoutCancel(ctx))
	fin.outside, fin.run = true, func(*sqlconn.Conn) error { return b.Finish() }
	if e.readOnly {
		return errors.Join(err, b.Finish())
	}
	return errors.Join(err, e.submit(fin))
}

// finish makes the copy a single file (without a write-ahead log), checks it, and syncs it.
func finish(ctx context.Context, part string) error {
	c, err := sqlconn.Open(part, false, busyPragma, "journal_mode=DELETE")
	if err != nil {
		return err
	}
	faults, err := integrity(ctx, c, "quick_check")
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("the copy is damaged: %s", faults[0])
	}
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Check reads the whole file and returns what is wrong with it, one sentence a fault: broken pages, and indexes that
// disagree with their documents.
func (e *Engine) Check(ctx context.Context) ([]string, error) {
	ctx, done, err := e.long(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var faults []string
	err = e.read(ctx, func(c *sqlconn.Conn) (err error) {
		faults, err = integrity(ctx, c, "integrity_check")
		if sqlconn.Damaged(err) {
			faults, err = append(faults, err.Error()), nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return faults, nil
}

func integrity(ctx context.Context, c *sqlconn.Conn, pragma string) ([]string, error) {
	var faults []string
	err := c.Each(ctx, "PRAGMA "+pragma+"(100)", nil, func(v []driver.Value) error {
		if s, _ := v[0].(string); s != "ok" {
			faults = append(faults, s)
		}
		return nil
	})
	return faults, err
}

// Stats say how large the database is.
type Stats struct {
	FileBytes int64 // the file without its log
	LogBytes  int64 // the write-ahead log
	FreeBytes int64 // inside the file, used before it grows
}

// Stats reads the sizes.
func (e *Engine) Stats(ctx context.Context) (Stats, error) {
	if err := e.enter(ctx); err != nil {
		return Stats{}, err
	}
	defer e.leave()
	var s Stats
	err := e.read(ctx, func(c *sqlconn.Conn) error {
		size, _, err := c.Int64("PRAGMA page_size")
		if err != nil {
			return err
		}
		free, _, err := c.Int64("PRAGMA freelist_count")
		s.FreeBytes = free * size
		return err
	})
	if err != nil {
		return Stats{}, err
	}
	for _, f := range []struct {
		path string
		to   *int64
	}{{e.path, &s.FileBytes}, {e.path + "-wal", &s.LogBytes}} {
		if st, err := os.Stat(f.path); err == nil {
			*f.to = st.Size()
		}
	}
	return s, nil
}
