package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// conn is one SQLite connection with its prepared statements. It is used without database/sql: that would add a goroutine
// and locks to each statement, and statements here take microseconds. One goroutine uses a conn at a time.
type conn struct {
	raw   driver.Conn
	stmts map[string]*stmt
	args  []driver.NamedValue

	pageSize int64
}

type stmt struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	dest  []driver.Value
}

// openConn opens the file with the given pragmas, carried out in order.
func openConn(path string, readOnly bool, pragmas ...string) (*conn, error) {
	dsn := fileURI(path)
	if readOnly {
		dsn += "?mode=ro"
	}
	raw, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, stmts: map[string]*stmt{}}
	for _, p := range pragmas {
		if err := c.once("PRAGMA " + p); err != nil {
			_ = c.close()
			return nil, err
		}
	}
	return c, nil
}

func fileURI(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	c.stmts = nil
	return c.raw.Close()
}

func (c *conn) prepare(sql string) (*stmt, error) {
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

func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a statement and says how many rows it changed. A statement is not interrupted half-way: callers look at
// their context between statements.
func (c *conn) exec(sql string, args ...any) (int64, error) {
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

// once runs a statement that is not worth keeping prepared, and drops its rows.
func (c *conn) once(sql string) error {
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

// errStop ends a query early without an error.
var errStop = errors.New("stop")

// each runs a query and calls row for every row; the values are row's to keep, the slice is not.
func (c *conn) each(ctx context.Context, sql string, args []any, row func(v []driver.Value) error) error {
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
	if errors.Is(err, io.EOF) || errors.Is(err, errStop) {
		err = nil
	}
	return errors.Join(err, rows.Close())
}

// int64 runs a query for one number; no row is ok false.
func (c *conn) int64(sql string, args ...any) (n int64, ok bool, err error) {
	err = c.each(context.Background(), sql, args, func(v []driver.Value) error {
		if n, ok = v[0].(int64); !ok {
			return fmt.Errorf("%s: not a number: %v", sql, v[0])
		}
		return errStop
	})
	return n, ok, err
}

// written says how many bytes this connection wrote since it was last asked.
func (c *conn) written() int64 {
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
	return int64(pages) * c.pageSize
}
