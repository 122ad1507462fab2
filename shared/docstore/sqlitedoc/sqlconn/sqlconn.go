// Package sqlconn is one SQLite connection as the embedded engine needs it: statements prepared once, rows without copies,
// result codes, online backup.
package sqlconn

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Conn is one SQLite connection with its prepared statements. It is used without database/sql: that would add a goroutine
// and locks to each statement, and statements here take microseconds. One goroutine uses a Conn at a time.
type Conn struct {
	raw   driver.Conn
	stmts map[string]*stmt
	args  []driver.NamedValue

	// PageSize is of the file, which may be older than this program's setting; the opener fills it in for Written.
	PageSize int64
}

type stmt struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	dest  []driver.Value
}

// Open opens the file with the given pragmas, carried out in order.
func Open(path string, readOnly bool, pragmas ...string) (*Conn, error) {
	dsn := fileURI(path)
	if readOnly {
		dsn += "?mode=ro"
	}
	raw, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	c := &Conn{raw: raw, stmts: map[string]*stmt{}}
	for _, p := range pragmas {
		if err := c.Once("PRAGMA " + p); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

func fileURI(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

// Close releases the statements and the connection.
func (c *Conn) Close() error {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	c.stmts = nil
	return c.raw.Close()
}

func (c *Conn) prepare(sql string) (*stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	st, err := c.raw.Prepare(sql)
	if err != nil {
		return nil, err
	}
	s := &stmt{Stmt: st}
	var ok, ok2 bool
	s.exec, ok = st.(driver.StmtExecContext)
	s.query, ok2 = st.(driver.StmtQueryContext)
	if !ok || !ok2 {
		_ = st.Close()
		return nil, errors.New("the SQLite driver's statements lack ExecContext or QueryContext")
	}
	c.stmts[sql] = s
	return s, nil
}

func (c *Conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// Exec runs a statement and says how many rows it changed. A statement is not interrupted half-way: callers look at
// their context between statements.
func (c *Conn) Exec(sql string, args ...any) (int64, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	res, err := s.exec.ExecContext(context.Background(), c.bind(args))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Once runs a statement that is not worth keeping prepared, and drops its rows.
func (c *Conn) Once(sql string) error {
	st, err := c.raw.Prepare(sql)
	if err != nil {
		return err
	}
	s, ok := st.(driver.StmtExecContext)
	if !ok {
		return errors.Join(errors.New("the SQLite driver's statements lack ExecContext"), st.Close())
	}
	_, err = s.ExecContext(context.Background(), nil)
	return errors.Join(err, st.Close())
}

// ErrStop ends a query early without an error.
var ErrStop = errors.New("stop")

// Each runs a query and calls row for every row; the values are row's to keep, the slice is not.
func (c *Conn) Each(ctx context.Context, sql string, args []any, row func(v []driver.Value) error) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.query.QueryContext(ctx, c.bind(args))
	if err != nil {
		return err
	}
	if s.dest == nil {
		s.dest = make([]driver.Value, len(rows.Columns()))
	}
	for err == nil {
		if err = rows.Next(s.dest); err == nil {
			err = row(s.dest)
		}
	}
	clear(s.dest)
	if errors.Is(err, io.EOF) || errors.Is(err, ErrStop) {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// Int64 runs a query for one number; no row is ok false.
func (c *Conn) Int64(sql string, args ...any) (n int64, ok bool, err error) {
	err = c.Each(context.Background(), sql, args, func(v []driver.Value) error {
		if n, ok = v[0].(int64); !ok {
			return fmt.Errorf("%s: not a number: %v", sql, v[0])
		}
		return ErrStop
	})
	return n, ok, err
}

// Written says how many bytes this connection wrote since it was last asked.
func (c *Conn) Written() int64 {
	st, ok := c.raw.(interface {
		Status(op sqlite.DBStatusOp, reset bool) (current, high int, err error)
	})
	if !ok {
		return 0
	}
	pages, _, err := st.Status(sqlite.DBStatusCacheWrite, true)
	if err != nil {
		return 0
	}
	return int64(pages) * c.PageSize
}

// NewBackup begins a copy of the database to a file that is empty. The copy is stepped by this connection's user.
func (c *Conn) NewBackup(path string) (*sqlite.Backup, error) {
	src, ok := c.raw.(interface {
		NewBackup(dstURI string) (*sqlite.Backup, error)
	})
	if !ok {
		return nil, errors.New("the SQLite driver has no online backup")
	}
	return src.NewBackup(fileURI(path))
}

// Code is SQLite's extended result code in err's chain, or 0.
func Code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// Damaged says whether an error means that the file is not, or no longer, a database.
func Damaged(err error) bool {
	switch Code(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return true
	}
	return false
}

// Hint is what to do about an error of the file system that a database is on, or "".
func Hint(err error, path string) string {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "the user the server runs as must own the folder and the files in it and may write them: ls -la " + filepath.Dir(path)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), Code(err)&0xff == sqlite3.SQLITE_FULL:
		return "make room there: df -h " + filepath.Dir(path)
	}
	return ""
}
