package mongodoc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// buildTimeout bounds the making of indexes when the caller does not: it takes its time on many documents, and a server whose
// caller hangs up gives it up, so that a short bound would keep an index from ever being made.
const buildTimeout = time.Hour

// ensureAtOnce is how many collections are looked at side by side.
const ensureAtOnce = 4

// Ensure creates missing indexes; the server makes collections by itself. Before an index is added to documents that are
// there, they are read once to see that they fit it.
func (e *Engine) Ensure(ctx context.Context, collections []docstore.Collection) error {
	e.ensure.Lock()
	defer e.ensure.Unlock()
	have := e.schema.Load()
	next, err := have.With(collections)
	if err != nil {
		return err
	}
	// Side by side: a program that starts waits for one round trip a collection otherwise.
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(ensureAtOnce)
	for _, c := range next.Collections() {
		if old, err := have.Collection(c.Name); err == nil && len(old.Indexes) == len(c.Indexes) {
			continue
		}
		all.Go(func() error {
			if err := e.ensureIndexes(ctx, c); err != nil {
				return fmt.Errorf("ensure collection %s: %w", c.Name, err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	e.schema.Store(next)
	return nil
}

func (e *Engine) ensureIndexes(ctx context.Context, c docstore.Collection) error {
	there, err := e.indexNames(ctx, c.Name)
	if err != nil {
		return err
	}
	var models []mongo.IndexModel
	var fields []docstore.Field
	for _, ix := range c.Indexes {
		if there[ix.Name] {
			continue
		}
		keys := bson.D{}
		for _, f := range ix.Fields {
			keys = append(keys, bson.E{Key: f.Name, Value: int32(1)})
			fields = append(fields, f)
		}
		o := options.Index().SetName(ix.Name)
		if ix.Unique {
			o.SetUnique(true)
		} else {
			keys = append(keys, bson.E{Key: docstore.FieldID, Value: int32(1)})
		}
		models = append(models, mongo.IndexModel{Keys: keys, Options: o})
	}
	if len(models) == 0 {
		return nil
	}
	ctx, stop, err := e.enterFor(ctx, max(e.timeout, buildTimeout))
	if err != nil {
		return err
	}
	defer stop()
	if err := e.fit(ctx, c.Name, fields); err != nil {
		return err
	}
	_, err = e.db.Collection(c.Name).Indexes().CreateMany(ctx, models)
	var ce mongo.CommandError
	if errors.As(err, &ce) {
		switch ce.Code {
		case codeDuplicateKey:
			return fmt.Errorf("%w: %w", docstore.ErrExists, err)
		case codeIndexOptionsConflict, codeIndexKeySpecsConflict:
			return fmt.Errorf("%w: %w", docstore.ErrInvalid, err)
		}
	}
	return e.readError(ctx, err)
}

func (e *Engine) indexNames(ctx context.Context, collection string) (map[string]bool, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	cur, err := e.db.Collection(collection).Indexes().List(ctx)
	var ce mongo.CommandError
	if errors.As(err, &ce) && (ce.Code == codeNamespaceNotFound || ce.Code == codeCommandNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, e.readError(ctx, err)
	}
	var list []struct {
		Name string `bson:"name"`
	}
	if err := cur.All(ctx, &list); err != nil {
		return nil, e.readError(ctx, err)
	}
	names := map[string]bool{}
	for _, l := range list {
		names[l.Name] = true
	}
	return names, nil
}

// fit reads every document and checks the fields of a new index.
func (e *Engine) fit(ctx context.Context, collection string, fields []docstore.Field) error {
	project := bson.D{{Key: docstore.FieldRev, Value: 1}}
	seen := map[docstore.Field]bool{}
	unique := fields[:0:0]
	for _, f := range fields {
		if !seen[f] {
			seen[f] = true
			unique = append(unique, f)
			project = append(project, bson.E{Key: f.Name, Value: 1})
		}
	}
	return e.each(ctx, collection, bson.D{}, options.Find().SetProjection(project), func(d bson.Raw) (bool, error) {
		doc, err := split(d, true)
		if err == nil {
			_, err = docstore.BodyKeys(doc.Body, unique)
		}
		if err != nil {
			return false, fmt.Errorf("document %s: %w", doc.ID, err)
		}
		return true, nil
	})
}
