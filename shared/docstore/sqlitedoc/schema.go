package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
)

// Names hold no quotes: docstore.Schema has checked them.
func tableName(collection string) string        { return `"c:` + collection + `"` }
func indexName(collection, index string) string { return `"x:` + collection + ":" + index + `"` }
func column(field string) string                { return `"f:` + field + `"` }

func columnType(k docstore.Kind) string {
	if k == docstore.String {
		return "TEXT"
	}
	return "INTEGER"
}

// bindKey is a key as SQLite stores it.
func bindKey(k docstore.Key) any {
	if k.Kind == docstore.String {
		return k.S
	}
	return k.I
}

// Ensure creates missing tables, columns and indexes in one transaction. A new index on a collection that has documents
// is filled from them; one that does not have the fields makes Ensure fail with ErrIndexField and change nothing.
func (e *Engine) Ensure(ctx context.Context, collections []docstore.Collection) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	have := e.schema.Load()
	if _, changed, err := difference(have, collections); err != nil || len(changed) == 0 {
		return err
	}
	if e.readOnly {
		return fmt.Errorf("%w: the file is open for reading only and lacks collections or indexes", docstore.ErrCollection)
	}
	r := newRequest(ctx)
	r.outside = true
	r.run = func(c *sqlconn.Conn) error {
		// Looked at again here, in the only goroutine that changes it.
		have := e.schema.Load()
		next, changed, err := difference(have, collections)
		if err != nil || len(changed) == 0 {
			return err
		}
		if _, err := c.Exec("BEGIN IMMEDIATE"); err != nil {
			return e.translate(err)
		}
		for _, col := range changed {
			old, _ := have.Collection(col.Name)
			if err := e.migrate(ctx, c, old, col); err != nil {
				_, _ = c.Exec("ROLLBACK")
				return fmt.Errorf("ensure collection %s: %w", col.Name, e.translate(err))
			}
		}
		if _, err := c.Exec("COMMIT"); err != nil {
			_, _ = c.Exec("ROLLBACK")
			return e.translateCommit(err)
		}
		e.schema.Store(next)
		return nil
	}
	return e.submit(r)
}

// difference gives the schema with the collections and the ones among them that are new or gained an index.
func difference(have *docstore.Schema, collections []docstore.Collection) (*docstore.Schema, []docstore.Collection, error) {
	next, err := have.With(collections)
	if err != nil {
		return nil, nil, err
	}
	var changed []docstore.Collection
	for _, c := range next.Collections() {
		if old, err := have.Collection(c.Name); err != nil || len(old.Indexes) != len(c.Indexes) {
			changed = append(changed, c)
		}
	}
	return next, changed, nil
}

func (e *Engine) migrate(ctx context.Context, c *sqlconn.Conn, old *docstore.Collection, col docstore.Collection) error {
	table := tableName(col.Name)
	if old == nil {
		var cols strings.Builder
		for _, f := range col.IndexFields() {
			fmt.Fprintf(&cols, "%s %s, ", column(f.Name), columnType(f.Kind))
		}
		err := c.Once("CREATE TABLE " + table + " (id TEXT PRIMARY KEY, rev INTEGER NOT NULL, " + cols.String() +
			"body BLOB NOT NULL) WITHOUT ROWID")
		if err != nil {
			return err
		}
		old = &docstore.Collection{Name: col.Name}
	} else if err := e.addColumns(ctx, c, old, col); err != nil {
		return err
	}
	for _, ix := range col.Indexes[len(old.Indexes):] {
		names := make([]string, len(ix.Fields))
		for i, f := range ix.Fields {
			names[i] = column(f.Name)
		}
		unique := ""
		if ix.Unique {
			unique = "UNIQUE "
		} else {
			names = append(names, "id")
		}
		err := c.Once("CREATE " + unique + "INDEX " + indexName(col.Name, ix.Name) + " ON " + table +
			" (" + strings.Join(names, ", ") + ")")
		if err != nil {
			return err
		}
	}
	text, err := json.Marshal(col)
	if err != nil {
		return err
	}
	_, err = c.Exec(`INSERT INTO "hw:collections" (name, declaration) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET declaration=excluded.declaration`, col.Name, string(text))
	return err
}

// addColumns gives the table the columns of new indexes and fills them from the bodies.
func (e *Engine) addColumns(ctx context.Context, c *sqlconn.Conn, old *docstore.Collection, col docstore.Collection) error {
	table := tableName(col.Name)
	fields := col.IndexFields()[len(old.IndexFields()):]
	if len(fields) == 0 {
		return nil
	}
	var set []string
	for _, f := range fields {
		if err := c.Once("ALTER TABLE " + table + " ADD COLUMN " + column(f.Name) + " " + columnType(f.Kind)); err != nil {
			return err
		}
		set = append(set, column(f.Name)+"=?")
	}
	update := "UPDATE " + table + " SET " + strings.Join(set, ", ") + " WHERE id=?"
	type row struct {
		id   string
		keys []docstore.Key
	}
	for last, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var rows []row
		err := c.Each(context.Background(), "SELECT id, body FROM "+table+" WHERE id>? ORDER BY id LIMIT 1000", []any{last},
			func(v []driver.Value) error {
				id, _ := v[0].(string)
				body, _ := v[1].([]byte)
				keys, err := docstore.BodyKeys(bson.Raw(body), fields)
				if err != nil {
					return fmt.Errorf("document %s: %w", id, err)
				}
				rows = append(rows, row{id, keys})
				return nil
			})
		if err != nil {
			return err
		}
		for _, r := range rows {
			args := make([]any, 0, len(fields)+1)
			for _, k := range r.keys {
				args = append(args, bindKey(k))
			}
			n, err := c.Exec(update, append(args, r.id)...)
			if err != nil {
				return err
			}
			if n != 1 {
				return errors.New("a document vanished while its index was built")
			}
			last = r.id
		}
		more = len(rows) > 0
	}
	return nil
}
