// Package bulk writes to a head, a private mongod: documents in large batches on several connections, and the steps of a
// catalogue. It owns what ordinary commands cannot carry faithfully and the ways around it, and every operation of it may
// be done again after a crash in its middle.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// Limits of one command: servers take 16 MiB and a little; smaller ones keep memory low and cost nothing.
const (
	maxDocs  = 1000
	maxBytes = 4 << 20
	maxIDs   = 1000
	// maxCommand is what a command takes besides its own fields: servers allow it 16 MiB and 16 KiB.
	maxCommand = 16<<20 + 8<<10
)

// ErrUnwritable is in the chain of errors about a document that this version of mongod takes in no way.
var ErrUnwritable = errors.New("no command of this mongod can write the document")

// Codes of servers that mean something here.
const (
	codeUnauthorized      = 13
	codeIllegalOperation  = 20
	codeNamespaceNotFound = 26
	codeIndexNotFound     = 27
	codeNamespaceExists   = 48
	codeInvalidOptions    = 72
	codeInvalidNamespace  = 73
	codeInvalidIndexSpec  = 197
	codeDuplicateKey      = 11000
	codeUnknownField      = 40415
)

// Writer writes to one head. It is for one goroutine; it uses several connections by itself.
type Writer struct {
	client *mongo.Client
	lanes  int
}

// New returns a Writer that uses up to lanes connections at once; 0 means 4.
func New(client *mongo.Client, lanes int) *Writer {
	if lanes <= 0 {
		lanes = 4
	}
	return &Writer{client: client, lanes: lanes}
}

// Lanes is how many connections are used at once.
func (w *Writer) Lanes() int { return w.lanes }

func (w *Writer) run(ctx context.Context, db string, cmd []byte) (bson.Raw, error) {
	return w.client.Database(db).RunCommand(ctx, bson.Raw(cmd)).Raw()
}

func (w *Writer) do(ctx context.Context, db string, cmd bson.D) (bson.Raw, error) {
	return w.client.Database(db).RunCommand(ctx, cmd).Raw()
}

// Code is the code of a server's refusal, 0 for other errors.
func Code(err error) int {
	var refused mongo.CommandError
	if errors.As(err, &refused) {
		return int(refused.Code)
	}
	return 0
}

// command is {verb: coll, ..., list: [...]} while it grows.
type command struct {
	buf         []byte
	start, list int32
	n           int
}

var buffers = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool

// begin starts a command; what comes between its name and its list is extra's.
func begin(verb, coll, list string, extra func([]byte) []byte) *command {
	c := &command{buf: (*buffers.Get().(*[]byte))[:0]}
	c.start, c.buf = bsoncore.AppendDocumentStart(c.buf)
	c.buf = bsoncore.AppendStringElement(c.buf, verb, coll)
	c.buf = extra(c.buf)
	c.list, c.buf = bsoncore.AppendArrayElementStart(c.buf, list)
	return c
}

// key begins the next element of the list, of a type.
func (c *command) key(t bsoncore.Type) {
	c.buf = append(c.buf, byte(t))
	c.buf = append(strconv.AppendInt(c.buf, int64(c.n), 10), 0)
	c.n++
}

func (c *command) add(doc []byte) {
	c.key(bsoncore.TypeEmbeddedDocument)
	c.buf = append(c.buf, doc...)
}

func (c *command) full(next int) bool {
	return c.n >= maxDocs || c.n > 0 && len(c.buf)+next > maxBytes
}

// end gives the command; release takes its memory back.
func (c *command) end() []byte {
	c.buf, _ = bsoncore.AppendArrayEnd(c.buf, c.list)
	c.buf, _ = bsoncore.AppendDocumentEnd(c.buf, c.start)
	return c.buf
}

func (c *command) release() {
	if cap(c.buf) <= 2*maxBytes {
		buffers.Put(&c.buf)
	}
}

func unordered(buf []byte) []byte {
	buf = bsoncore.AppendBooleanElement(buf, "ordered", false)
	return bsoncore.AppendBooleanElement(buf, "bypassDocumentValidation", true)
}

func ordered(buf []byte) []byte {
	return bsoncore.AppendBooleanElement(buf, "bypassDocumentValidation", true)
}

// Insert puts documents in, in any order. Those that an ordinary insert would change go another way; one that is there
// already is replaced, as after an interruption.
func (w *Writer) Insert(ctx context.Context, ns string, docs []bson.Raw) error {
	list, err := putsOf(ns, docs)
	if err != nil {
		return err
	}
	there, err := w.insert(ctx, ns, list)
	if err == nil && len(there) > 0 {
		err = w.instead(ctx, ns, there)
	}
	return err
}

// Append puts documents at the end of a capped collection, one after another; again says that it may have been begun before.
func (w *Writer) Append(ctx context.Context, ns string, docs []bson.Raw, again bool) error {
	list, err := putsOf(ns, docs)
	if err != nil {
		return err
	}
	ops := make([]plan.Ordered, len(list))
	for i, p := range list {
		ops[i] = plan.Ordered{Do: plan.Insert, Put: p}
	}
	return w.ordered(ctx, &plan.Writes{Collection: schema.Collection{NS: ns}, Ordered: ops}, again)
}

func putsOf(ns string, docs []bson.Raw) ([]plan.Put, error) {
	puts := make([]plan.Put, len(docs))
	for i, d := range docs {
		id, ok := oplog.Lookup(d, "_id")
		if !ok {
			return nil, fmt.Errorf("%w: document of %d bytes without _id for %s", oplog.ErrCorrupt, len(d), ns)
		}
		x, err := document.Exceptions(d)
		if err != nil {
			return nil, fmt.Errorf("document for %s: %w", ns, err)
		}
		puts[i] = plan.Put{ID: id, Doc: d, Exception: x}
	}
	return puts, nil
}

// inOrder inserts one after another.
func (w *Writer) inOrder(ctx context.Context, ns string, puts []plan.Put) error {
	for len(puts) > 0 {
		n := slices.IndexFunc(puts, func(p plan.Put) bool { return p.Exception != 0 })
		if n == 0 {
			if err := w.exceptional(ctx, ns, puts[0]); err != nil {
				return err
			}
			puts = puts[1:]
			continue
		}
		if n < 0 {
			n = len(puts)
		}
		there, err := w.inserts(ctx, ns, puts[:n], ordered)
		if err == nil && len(there) > 0 {
			err = fmt.Errorf("%w: %s holds _id %s already", plan.ErrCorruption, ns, there[0].ID)
		}
		if err != nil {
			return err
		}
		puts = puts[n:]
	}
	return nil
}

// insert inserts in any order and gives those whose _id was there already.
func (w *Writer) insert(ctx context.Context, ns string, puts []plan.Put) (there []plan.Put, err error) {
	plain := puts
	if slices.ContainsFunc(puts, func(p plan.Put) bool { return p.Exception != 0 }) {
		plain = make([]plan.Put, 0, len(puts))
		for _, p := range puts {
			if p.Exception == 0 {
				plain = append(plain, p)
				continue
			}
			// Whether it is there is found out first: an applyOps would replace it in its way.
			if _, err := w.remove(ctx, ns, []bsoncore.Value{p.ID}); err != nil {
				return nil, err
			}
			if err := w.exceptional(ctx, ns, p); err != nil {
				return nil, err
			}
		}
	}
	return w.inserts(ctx, ns, plain, unordered)
}

func (w *Writer) inserts(ctx context.Context, ns string, puts []plan.Put, extra func([]byte) []byte) (there []plan.Put, err error) {
	db, coll := oplog.Split(ns)
	for len(puts) > 0 {
		c := begin("insert", coll, "documents", extra)
		n := 0
		for ; n < len(puts) && !c.full(len(puts[n].Doc)); n++ {
			c.add(puts[n].Doc)
		}
		_, err := w.run(ctx, db, c.end())
		c.release()
		var failed mongo.WriteException
		if errors.As(err, &failed) && failed.WriteConcernError == nil {
			for _, e := range failed.WriteErrors {
				if e.Code != codeDuplicateKey || e.Index < 0 || e.Index >= n {
					return nil, fmt.Errorf("insert into %s: %w", ns, err)
				}
				there = append(there, puts[e.Index])
			}
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("insert %d documents into %s: %w", n, ns, err)
		}
		puts = puts[n:]
	}
	return there, nil
}

// instead puts documents in the place of those with the same _id. They are removed first and not overwritten: _id 1 and
// 1.0 are one key, and the bytes of the new one must count, in the index too.
func (w *Writer) instead(ctx context.Context, ns string, puts []plan.Put) error {
	ids := make([]bsoncore.Value, len(puts))
	for i, p := range puts {
		ids[i] = p.ID
	}
	if _, err := w.remove(ctx, ns, ids); err != nil {
		return err
	}
	there, err := w.insert(ctx, ns, puts)
	if err == nil && len(there) > 0 {
		err = fmt.Errorf("%w: %s holds what is in the way of _id %s and was not removed with it", plan.ErrCorruption, ns, there[0].ID)
	}
	return err
}

// exceptional inserts one document that an ordinary insert would refuse or change. It must not be there.
func (w *Writer) exceptional(ctx context.Context, ns string, p plan.Put) error {
	db, coll := oplog.Split(ns)
	empty := document.EmptyTimestamps(p.Doc)
	// $set names a field by its path: a name that is none in it needs a server that leaves empty timestamps alone.
	var bypass bool
	for _, name := range empty {
		if name == "" || name[0] == '$' || slices.Contains([]byte(name), '.') {
			bypass = true
		}
	}
	switch {
	case bypass && p.Exception&document.DollarName != 0:
		return fmt.Errorf("%w: _id %s of %s has names that begin with $ and an empty timestamp under a name that is no path", ErrUnwritable, p.ID, ns)
	case p.Exception&document.DollarName != 0:
		if err := w.applyOps(ctx, bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: ns}, {Key: "o", Value: p.Doc}}); err != nil {
			return fmt.Errorf("insert _id %s into %s: %w", p.ID, ns, err)
		}
	default:
		cmd := begin("insert", coll, "documents", func(buf []byte) []byte {
			if bypass {
				buf = bsoncore.AppendBooleanElement(buf, "bypassEmptyTsReplacement", true)
			}
			return ordered(buf)
		})
		cmd.add(p.Doc)
		_, err := w.run(ctx, db, cmd.end())
		cmd.release()
		switch {
		case bypass && Code(err) == codeUnknownField:
			return fmt.Errorf("%w: _id %s of %s has an empty timestamp under a name that is no path", ErrUnwritable, p.ID, ns)
		case err != nil:
			return fmt.Errorf("insert _id %s into %s: %w", p.ID, ns, err)
		case bypass:
			return nil
		}
	}
	return w.setEmpty(ctx, ns, p)
}

// setEmpty makes the timestamps at the top of a document empty again that a server filled in.
func (w *Writer) setEmpty(ctx context.Context, ns string, p plan.Put) error {
	var set []byte
	for _, name := range document.EmptyTimestamps(p.Doc) {
		set = bsoncore.AppendTimestampElement(set, name, 0, 0)
	}
	if set == nil {
		return nil
	}
	change := bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, "$set", bsoncore.BuildDocument(nil, set)))
	_, err := w.update(ctx, ns, []plan.Put{{ID: p.ID, Doc: change}})
	return err
}

// applyOps sends one operation in the oplog's own form.
func (w *Writer) applyOps(ctx context.Context, op bson.D) error {
	_, err := w.do(ctx, "admin", bson.D{{Key: "applyOps", Value: bson.A{op}}, {Key: "bypassDocumentValidation", Value: true}})
	return err
}

// appendEqual appends {field: {$eq: id}}: without $eq a pattern or an operator inside an _id would be taken for one.
func appendEqual(buf []byte, field string, id bsoncore.Value) []byte {
	at, buf := bsoncore.AppendDocumentElementStart(buf, field)
	in, buf := bsoncore.AppendDocumentElementStart(buf, "_id")
	buf = bsoncore.AppendValueElement(buf, "$eq", id)
	buf, _ = bsoncore.AppendDocumentEnd(buf, in)
	buf, _ = bsoncore.AppendDocumentEnd(buf, at)
	return buf
}

// update sends one update a document, in order, and gives how many documents there were.
func (w *Writer) update(ctx context.Context, ns string, puts []plan.Put) (matched int, err error) {
	db, coll := oplog.Split(ns)
	for len(puts) > 0 {
		c := begin("update", coll, "updates", ordered)
		n := 0
		for ; n < len(puts) && !c.full(len(puts[n].Doc)+len(puts[n].ID.Data)); n++ {
			c.key(bsoncore.TypeEmbeddedDocument)
			var at int32
			at, c.buf = bsoncore.AppendDocumentStart(c.buf)
			c.buf = appendEqual(c.buf, "q", puts[n].ID)
			c.buf = bsoncore.AppendDocumentElement(c.buf, "u", puts[n].Doc)
			c.buf, _ = bsoncore.AppendDocumentEnd(c.buf, at)
		}
		reply, err := w.run(ctx, db, c.end())
		c.release()
		if err != nil {
			return matched, fmt.Errorf("update %d documents of %s: %w", n, ns, err)
		}
		v, _ := reply.Lookup("n").AsInt64OK()
		matched += int(v)
		puts = puts[n:]
	}
	return matched, nil
}

// remove deletes documents by _id and gives how many there were.
func (w *Writer) remove(ctx context.Context, ns string, ids []bsoncore.Value) (removed int, err error) {
	db, coll := oplog.Split(ns)
	err = chunks(ids, func(filter []byte) error {
		c := begin("delete", coll, "deletes", func(buf []byte) []byte { return buf })
		c.key(bsoncore.TypeEmbeddedDocument)
		var at int32
		at, c.buf = bsoncore.AppendDocumentStart(c.buf)
		c.buf = bsoncore.AppendDocumentElement(c.buf, "q", filter)
		c.buf = bsoncore.AppendInt32Element(c.buf, "limit", 0)
		c.buf, _ = bsoncore.AppendDocumentEnd(c.buf, at)
		reply, err := w.run(ctx, db, c.end())
		c.release()
		if err != nil {
			return fmt.Errorf("delete from %s: %w", ns, err)
		}
		n, _ := reply.Lookup("n").AsInt64OK()
		removed += int(n)
		return nil
	})
	return removed, err
}

// chunks calls each with filters that together find the documents of all ids.
func chunks(ids []bsoncore.Value, each func(filter []byte) error) error {
	var plain []bsoncore.Value
	for i, id := range ids {
		if !operator(id) {
			if plain != nil {
				plain = append(plain, id)
			}
			continue
		}
		if plain == nil {
			plain = slices.Clone(ids[:i])
		}
		one := appendEqual(nil, "q", id)
		if err := each(one[3:len(one):len(one)]); err != nil { // the value of the element q
			return err
		}
	}
	if plain == nil {
		plain = ids
	}
	for len(plain) > 0 {
		at, buf := bsoncore.AppendDocumentStart(nil)
		in, buf := bsoncore.AppendDocumentElementStart(buf, "_id")
		list, buf := bsoncore.AppendArrayElementStart(buf, "$in")
		n := 0
		for ; n < len(plain) && n < maxIDs && (n == 0 || len(buf)+len(plain[n].Data) < maxBytes); n++ {
			buf = bsoncore.AppendValueElement(buf, strconv.Itoa(n), plain[n])
		}
		buf, _ = bsoncore.AppendArrayEnd(buf, list)
		buf, _ = bsoncore.AppendDocumentEnd(buf, in)
		buf, _ = bsoncore.AppendDocumentEnd(buf, at)
		if err := each(buf); err != nil {
			return err
		}
		plain = plain[n:]
	}
	return nil
}

// operator reports whether an _id looks like an operator inside $in.
func operator(id bsoncore.Value) bool {
	d, ok := id.DocumentOK()
	return ok && len(d) > 6 && d[5] == '$'
}

// Journal waits until everything written before is in the head's journal: what it says survives a killed head.
func (w *Writer) Journal(ctx context.Context) error {
	// A write that changes nothing: mongod waits for its journal after any write command that asks so.
	_, err := w.do(ctx, "local", bson.D{
		{Key: "delete", Value: "heartwood"},
		{Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 0}}}, {Key: "limit", Value: 1}}}},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: 1}, {Key: "j", Value: true}}},
	})
	if err != nil {
		return fmt.Errorf("wait for the journal: %w", err)
	}
	return nil
}
