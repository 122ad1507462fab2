package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
)

// read runs fn with one of the reading connections.
func (e *Engine) read(ctx context.Context, fn func(c *sqlconn.Conn) error) error {
	var c *sqlconn.Conn
	select {
	case c = <-e.readers:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { e.readers <- c }()
	err := fn(c)
	if sqlconn.Code(err) != 0 {
		return fmt.Errorf("%w: %w", docstore.ErrUnavailable, err)
	}
	return err
}

// Get returns the documents that exist, in the order asked for.
func (e *Engine) Get(ctx context.Context, collection string, ids ...string) ([]docstore.Doc, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.leave()
	if _, err := e.schema.Load().Collection(collection); err != nil {
		return nil, err
	}
	docs := make([]docstore.Doc, 0, len(ids))
	err := e.read(ctx, func(c *sqlconn.Conn) error {
		sql := "SELECT rev, body FROM " + tableName(collection) + " WHERE id=?"
		arg := make([]any, 1)
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			if docstore.CheckID(id) != nil {
				continue // such a document cannot exist
			}
			arg[0] = id
			err := c.Each(context.Background(), sql, arg, func(v []driver.Value) error {
				rev, _ := v[0].(int64)
				body, _ := v[1].([]byte)
				docs = append(docs, docstore.Doc{ID: id, Rev: rev, Body: bson.Raw(body)})
				return sqlconn.ErrStop
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// selectSQL writes the query of a plan with the given columns, limit included.
func selectSQL(p docstore.Plan, columns string) (string, []any) {
	var where []string
	var args []any
	if p.Index != nil {
		for i, k := range p.Equal {
			where = append(where, column(p.Index.Fields[i].Name)+"=?")
			args = append(args, bindKey(k))
		}
	}
	order := make([]string, 0, len(p.Rest)+1)
	for _, f := range p.Rest {
		order = append(order, column(f.Name))
	}
	order = append(order, "id")
	// The position to resume from lies in the range, so it takes the place of one bound: with both, SQLite might walk from
	// the wrong one.
	low, high := p.Low, p.High
	if p.After != nil {
		cmp := ">"
		if p.Descending {
			cmp, high = "<", nil
		} else {
			low = nil
		}
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(order)), ", ")
		where = append(where, "("+strings.Join(order, ", ")+") "+cmp+" ("+marks+")")
		for _, k := range p.After {
			args = append(args, bindKey(k))
		}
	}
	if low != nil {
		where = append(where, order[0]+">=?")
		args = append(args, bindKey(*low))
	}
	if high != nil {
		where = append(where, order[0]+"<?")
		args = append(args, bindKey(*high))
	}
	var b strings.Builder
	b.WriteString("SELECT " + columns + " FROM " + tableName(p.Collection.Name))
	if p.Index != nil {
		b.WriteString(" INDEXED BY " + indexName(p.Collection.Name, p.Index.Name))
	}
	if len(where) > 0 {
		b.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
	b.WriteString(" ORDER BY ")
	for i, o := range order {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(o)
		if p.Descending {
			b.WriteString(" DESC")
		}
	}
	b.WriteString(" LIMIT ?")
	args = append(args, int64(p.Limit))
	return b.String(), args
}

// Scan returns one page of a range.
func (e *Engine) Scan(ctx context.Context, q docstore.Query) (docstore.Page, error) {
	if err := e.enter(ctx); err != nil {
		return docstore.Page{}, err
	}
	defer e.leave()
	p, err := e.schema.Load().Plan(q)
	if err != nil {
		return docstore.Page{}, err
	}
	columns := "id, rev"
	for _, f := range p.Rest {
		columns += ", " + column(f.Name)
	}
	if !p.IDsOnly {
		columns += ", body"
	}
	limit := p.Limit
	p.Limit++ // the one too many says that there is more
	sql, args := selectSQL(p, columns)
	var page docstore.Page
	keys := make([]docstore.Key, len(p.Rest))
	bytes := 0
	err = e.read(ctx, func(c *sqlconn.Conn) error {
		n := 0
		return c.Each(context.Background(), sql, args, func(v []driver.Value) error {
			if n++; n%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if len(page.Docs) == limit || bytes >= docstore.PageBytes {
				page.Next = p.Next(keys, page.Docs[len(page.Docs)-1].ID)
				return sqlconn.ErrStop
			}
			d := docstore.Doc{}
			d.ID, _ = v[0].(string)
			d.Rev, _ = v[1].(int64)
			for i, f := range p.Rest {
				keys[i] = docstore.Key{Kind: f.Kind}
				keys[i].S, _ = v[2+i].(string)
				keys[i].I, _ = v[2+i].(int64)
			}
			if !p.IDsOnly {
				body, _ := v[len(v)-1].([]byte)
				d.Body = bson.Raw(body)
				bytes += len(body)
			}
			page.Docs = append(page.Docs, d)
			return nil
		})
	})
	if err != nil {
		return docstore.Page{}, err
	}
	return page, nil
}

// Count counts a range's documents, up to limit.
func (e *Engine) Count(ctx context.Context, q docstore.Query, limit int) (int, error) {
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	defer e.leave()
	if limit <= 0 {
		return 0, fmt.Errorf("%w: count with limit %d", docstore.ErrInvalid, limit)
	}
	p, err := e.schema.Load().Plan(q)
	if err != nil {
		return 0, err
	}
	p.Limit = limit
	sel, args := selectSQL(p, "1")
	var n int64
	err = e.read(ctx, func(c *sqlconn.Conn) error {
		var err error
		n, _, err = c.Int64("SELECT count(*) FROM ("+sel+")", args...)
		return err
	})
	return int(n), err
}
