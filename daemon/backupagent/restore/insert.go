package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
)

// Bounds of one insert.
const (
	batchDocs   = 5_000
	insertLimit = 10 * time.Minute
)

// insert writes a run into a collection. Documents that are there already are passed over: an attempt that was cut short, or a
// command whose answer was lost, wrote them. In order keeps the order of a capped collection.
func (w *work) insert(ctx context.Context, db, coll string, run *dump.Run, inOrder bool) error {
	var batch []bson.Raw
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		var err error
		if inOrder {
			err = w.inOrder(ctx, db, coll, batch)
		} else {
			err = w.batch(ctx, db, coll, batch, false)
			if target.Is(err, target.CodeDuplicateKey) {
				err = nil
			}
		}
		batch = batch[:0]
		return err
	}
	var odd []bson.Raw
	err := run.Each(func(doc bson.Raw) error {
		x, err := document.Exceptions(doc)
		if err != nil {
			return fmt.Errorf("%w: %w", dump.ErrBad, err)
		}
		switch {
		case x != 0 && inOrder:
			if err := flush(); err != nil {
				return err
			}
			return w.exceptional(ctx, db, coll, doc)
		case x != 0:
			odd = append(odd, doc)
			return nil
		}
		if batch = append(batch, doc); len(batch) == batchDocs {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	for _, doc := range odd {
		if err == nil {
			err = w.exceptional(ctx, db, coll, doc)
		}
	}
	return err
}

// batch sends one insert. That all documents that failed are there already is an error with target.CodeDuplicateKey and no other.
func (w *work) batch(ctx context.Context, db, coll string, docs []bson.Raw, ordered bool, more ...bson.E) error {
	cmd := bson.D{
		{Key: "insert", Value: coll}, {Key: "documents", Value: docs}, {Key: "ordered", Value: ordered}, {Key: "bypassDocumentValidation", Value: true},
	}
	_, err := w.t.Write(ctx, insertLimit, db, append(cmd, more...))
	var failed mongo.WriteException
	if !errors.As(err, &failed) {
		return err
	}
	for _, e := range failed.WriteErrors {
		if e.Code == target.CodeDuplicateKey {
			continue
		}
		id := "?"
		if e.Index >= 0 && e.Index < len(docs) {
			id = docs[e.Index].Lookup("_id").String()
		}
		return fmt.Errorf("the document with _id %s of %s.%s: %w", id, db, coll, err)
	}
	return err
}

// inOrder inserts one after another. Where some are there already, those after the newest one follow.
func (w *work) inOrder(ctx context.Context, db, coll string, docs []bson.Raw) error {
	for len(docs) > 0 {
		err := w.batch(ctx, db, coll, docs, true)
		if !target.Is(err, target.CodeDuplicateKey) {
			return err
		}
		last, lerr := w.t.Query(ctx, db, bson.D{
			{Key: "find", Value: coll}, {Key: "sort", Value: bson.D{{Key: "$natural", Value: -1}}}, {Key: "limit", Value: 1}, {Key: "singleBatch", Value: true},
		})
		if lerr != nil {
			return lerr
		}
		from := 0
		for i := range docs {
			if len(last) > 0 && bytes.Equal(last[0], docs[i]) {
				from = i + 1
			}
		}
		if from == 0 { // the newest is not one of these: the one that is there already is older
			var failed mongo.WriteException
			if !errors.As(err, &failed) || len(failed.WriteErrors) == 0 {
				return err
			}
			from = max(0, failed.WriteErrors[0].Index) + 1
		}
		docs = docs[min(from, len(docs)):]
	}
	return nil
}

// exceptional writes a document that an ordinary insert would change, or that older servers refuse.
func (w *work) exceptional(ctx context.Context, db, coll string, doc bson.Raw) error {
	empty := document.EmptyTimestamps(doc)
	var more []bson.E
	for _, name := range empty {
		if name == "" || name[0] == '$' || strings.Contains(name, ".") { // $set takes it for a path
			more = []bson.E{{Key: "bypassEmptyTsReplacement", Value: true}}
		}
	}
	err := w.batch(ctx, db, coll, []bson.Raw{doc}, true, more...)
	if target.Is(err, target.CodeBadValue, target.CodeDollarPrefixed) {
		_, err = w.t.Do(ctx, target.Quick, "admin", bson.D{
			{Key: "applyOps", Value: bson.A{bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: db + "." + coll}, {Key: "o", Value: doc}}}},
			target.Majority,
		})
	}
	if err != nil && !target.Is(err, target.CodeDuplicateKey) {
		return fmt.Errorf("the document with _id %s of %s.%s: %w", doc.Lookup("_id"), db, coll, err)
	}
	if len(empty) == 0 || more != nil {
		return nil
	}
	var set []byte
	for _, name := range empty { // the server filled them in
		set = bsoncore.AppendTimestampElement(set, name, 0, 0)
	}
	id, _ := oplog.Lookup(doc, "_id")
	q := bsoncore.BuildDocument(nil, bsoncore.AppendValueElement(nil, "_id", id))
	u := bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, "$set", bsoncore.BuildDocument(nil, set)))
	_, err = w.t.Write(ctx, target.Quick, db, bson.D{
		{Key: "update", Value: coll},
		{Key: "bypassDocumentValidation", Value: true},
		{Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.Raw(q)}, {Key: "u", Value: bson.Raw(u)}}}},
	})
	return err
}
