package mongodoc

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// getStep is how many ids one find asks for.
const getStep = 1000

// each runs a find and calls row for every document, whose bytes are row's to keep, until it returns false.
func (e *Engine) each(ctx context.Context, collection string, filter bson.D, o *options.FindOptionsBuilder, row func(bson.Raw) (bool, error)) error {
	cur, err := e.db.Collection(collection).Find(ctx, filter, o)
	if err != nil {
		return e.readError(ctx, err)
	}
	defer func() { _ = cur.Close(context.WithoutCancel(ctx)) }()
	for cur.Next(ctx) {
		// The cursor's buffer is used again for the next batch.
		more, err := row(slices.Clone(cur.Current))
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return e.readError(ctx, cur.Err())
}

// Get returns the documents that exist, in the order asked for.
func (e *Engine) Get(ctx context.Context, collection string, ids ...string) ([]docstore.Doc, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if _, err := e.schema.Load().Collection(collection); err != nil {
		return nil, err
	}
	found := make(map[string]docstore.Doc, len(ids))
	asked := make([]string, 0, len(ids))
	for _, id := range ids {
		if docstore.CheckID(id) == nil {
			asked = append(asked, id)
		}
	}
	for part := range slices.Chunk(asked, getStep) {
		filter := bson.D{{Key: docstore.FieldID, Value: bson.D{{Key: "$in", Value: part}}}}
		if len(part) == 1 {
			filter = bson.D{{Key: docstore.FieldID, Value: part[0]}}
		}
		err := e.each(ctx, collection, filter, options.Find(), func(d bson.Raw) (bool, error) {
			doc, err := split(d, true)
			found[doc.ID] = doc
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	docs := make([]docstore.Doc, 0, len(found))
	for _, id := range ids {
		if d, ok := found[id]; ok {
			docs = append(docs, d)
		}
	}
	return docs, nil
}

// revs reads the revisions of documents.
func (e *Engine) revs(ctx context.Context, collection string, ids ...string) (map[string]int64, error) {
	out := map[string]int64{}
	for part := range slices.Chunk(ids, getStep) {
		filter := bson.D{{Key: docstore.FieldID, Value: bson.D{{Key: "$in", Value: part}}}}
		o := options.Find().SetProjection(bson.D{{Key: docstore.FieldRev, Value: 1}})
		err := e.each(ctx, collection, filter, o, func(d bson.Raw) (bool, error) {
			doc, err := split(d, false)
			out[doc.ID] = doc.Rev
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// filterOf writes a plan as a filter and a sort, both so that one index answers them.
func filterOf(p docstore.Plan) (filter, sort bson.D) {
	filter = bson.D{}
	if p.Index != nil {
		for i, k := range p.Equal {
			filter = append(filter, bson.E{Key: p.Index.Fields[i].Name, Value: value(k)})
		}
	}
	order := make([]string, 0, len(p.Rest)+1)
	for _, f := range p.Rest {
		order = append(order, f.Name)
	}
	order = append(order, docstore.FieldID)

	low, high := p.Low, p.High
	past, from, direction := "$gt", "$gte", 1
	if p.Descending {
		past, from, direction = "$lt", "$lte", -1
	}
	bound := bson.D{}
	if p.After != nil {
		if p.Descending {
			high = nil
		} else {
			low = nil
		}
		if len(p.After) == 1 {
			bound = append(bound, bson.E{Key: past, Value: value(p.After[0])})
		} else {
			// (a, b, id) > (x, y, z), spelled out; the bound on the first field beside it keeps the index scan short.
			bound = append(bound, bson.E{Key: from, Value: value(p.After[0])})
			var or bson.A
			for i := range p.After {
				var and bson.D
				for j := range i {
					and = append(and, bson.E{Key: order[j], Value: value(p.After[j])})
				}
				or = append(or, append(and, bson.E{Key: order[i], Value: bson.D{{Key: past, Value: value(p.After[i])}}}))
			}
			filter = append(filter, bson.E{Key: "$or", Value: or})
		}
	}
	if low != nil {
		bound = append(bound, bson.E{Key: "$gte", Value: value(*low)})
	}
	if high != nil {
		bound = append(bound, bson.E{Key: "$lt", Value: value(*high)})
	}
	if len(bound) > 0 {
		filter = append(filter, bson.E{Key: order[0], Value: bound})
	}
	// The whole index is the sort, so that a server cannot choose another one and sort in memory.
	if p.Index != nil {
		for i := range p.Equal {
			sort = append(sort, bson.E{Key: p.Index.Fields[i].Name, Value: direction})
		}
	}
	for _, o := range order {
		sort = append(sort, bson.E{Key: o, Value: direction})
	}
	return filter, sort
}

// Scan returns one page of a range.
func (e *Engine) Scan(ctx context.Context, q docstore.Query) (docstore.Page, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return docstore.Page{}, err
	}
	defer stop()
	p, err := e.schema.Load().Plan(q)
	if err != nil {
		return docstore.Page{}, err
	}
	filter, sort := filterOf(p)
	// One more than asked for says whether there is more.
	o := options.Find().SetSort(sort).SetLimit(int64(p.Limit) + 1).SetBatchSize(int32(min(p.Limit+1, 100_000)))
	if p.IDsOnly {
		fields := bson.D{{Key: docstore.FieldRev, Value: 1}}
		for _, f := range p.Rest {
			fields = append(fields, bson.E{Key: f.Name, Value: 1})
		}
		o.SetProjection(fields)
	}
	var page docstore.Page
	var last bson.Raw
	bytes := 0
	err = e.each(ctx, q.Collection, filter, o, func(d bson.Raw) (bool, error) {
		if len(page.Docs) == p.Limit || bytes >= docstore.PageBytes {
			page.Next = p.Next(keysOf(last, p.Rest), page.Docs[len(page.Docs)-1].ID)
			return false, nil
		}
		doc, err := split(d, !p.IDsOnly)
		if err != nil {
			return false, err
		}
		page.Docs = append(page.Docs, doc)
		last, bytes = d, bytes+len(doc.Body)
		return true, nil
	})
	if err != nil {
		return docstore.Page{}, err
	}
	return page, nil
}

// idsOf reads the first ids of a plan's range.
func (e *Engine) idsOf(ctx context.Context, p docstore.Plan, limit int) ([]string, error) {
	filter, sort := filterOf(p)
	o := options.Find().SetSort(sort).SetLimit(int64(limit)).SetBatchSize(int32(min(limit, 100_000))).
		SetProjection(bson.D{{Key: docstore.FieldID, Value: 1}})
	var ids []string
	err := e.each(ctx, p.Collection.Name, filter, o, func(d bson.Raw) (bool, error) {
		id, ok := d.Lookup(docstore.FieldID).StringValueOK()
		if !ok {
			return false, errForeign
		}
		ids = append(ids, id)
		return true, nil
	})
	return ids, err
}

// Count counts a range's documents, up to limit.
func (e *Engine) Count(ctx context.Context, q docstore.Query, limit int) (int, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	if limit <= 0 {
		return 0, fmt.Errorf("%w: count with limit %d", docstore.ErrInvalid, limit)
	}
	p, err := e.schema.Load().Plan(q)
	if err != nil {
		return 0, err
	}
	ids, err := e.idsOf(ctx, p, limit)
	return len(ids), err
}

// DeleteRange deletes up to limit documents of an id range, the lowest first.
func (e *Engine) DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	if limit <= 0 {
		return 0, fmt.Errorf("%w: delete a range with limit %d", docstore.ErrInvalid, limit)
	}
	p, err := e.schema.Load().Plan(docstore.Query{Collection: collection, From: from, To: to})
	if err != nil {
		return 0, err
	}
	deleted := 0
	for deleted < limit {
		step := min(limit-deleted, getStep)
		ids, err := e.idsOf(ctx, p, step)
		if err != nil || len(ids) == 0 {
			return deleted, err
		}
		wctx, s := withSent(ctx, len(ids))
		filter := bson.D{{Key: docstore.FieldID, Value: bson.D{{Key: "$in", Value: ids}}}}
		// Not DeleteMany's retry: the driver does not retry it, and the ids make doing it again harmless to us.
		res, err := e.db.Collection(collection).DeleteMany(wctx, filter)
		if err != nil {
			return deleted, e.batchError(ctx, s, err)
		}
		deleted += int(res.DeletedCount)
		if len(ids) < step {
			break
		}
	}
	return deleted, nil
}
