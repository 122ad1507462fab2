package hostdoc

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// writer appends to a message.
type writer struct{ b []byte }

func (w *writer) byte(v byte) { w.b = append(w.b, v) }
func (w *writer) int(v int64) { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) count(n int) { w.b = binary.AppendUvarint(w.b, uint64(n)) } //nolint:gosec // lengths are not negative
func (w *writer) text(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) bytes(v []byte) {
	w.count(len(v))
	w.b = append(w.b, v...)
}

func (w *writer) bool(v bool) {
	if v {
		w.byte(1)
	} else {
		w.byte(0)
	}
}

func (w *writer) texts(v []string) {
	w.count(len(v))
	for _, s := range v {
		w.text(s)
	}
}

func (w *writer) time(t time.Time) { w.int(t.UnixMilli()) }

func (w *writer) docs(docs []docstore.Doc) {
	w.count(len(docs))
	for i := range docs {
		w.text(docs[i].ID)
		w.int(docs[i].Rev)
		w.bytes(docs[i].Body)
	}
}

func (w *writer) ops(ops []docstore.Op) {
	w.count(len(ops))
	for i := range ops {
		o := &ops[i]
		w.byte(byte(o.Kind)) //nolint:gosec // an unknown kind is refused whatever byte it becomes
		w.text(o.Collection)
		w.text(o.ID)
		w.int(o.Rev)
		w.bytes(o.Body)
	}
}

func (w *writer) results(results []docstore.Result) {
	w.count(len(results))
	for _, r := range results {
		w.int(r.Rev)
		w.error(r.Err)
	}
}

func (w *writer) collections(collections []docstore.Collection) {
	w.count(len(collections))
	for _, c := range collections {
		w.text(c.Name)
		w.count(len(c.Indexes))
		for _, ix := range c.Indexes {
			w.text(ix.Name)
			w.bool(ix.Unique)
			w.count(len(ix.Fields))
			for _, f := range ix.Fields {
				w.text(f.Name)
				w.int(int64(f.Kind))
			}
		}
	}
}

func (w *writer) query(q docstore.Query) {
	w.text(q.Collection)
	w.text(q.Index)
	w.text(q.From)
	w.text(q.To)
	w.count(len(q.Prefix))
	for _, v := range q.Prefix {
		w.value(v)
	}
	w.value(q.Low)
	w.value(q.High)
	w.bool(q.Descending)
	w.int(int64(q.Limit))
	w.text(q.Resume)
	w.bool(q.IDsOnly)
}

// otherKind marks a value of a type that queries do not know: the engine refuses it, as it would without a host in between.
const otherKind = 0xff

func (w *writer) value(v any) {
	switch v := v.(type) {
	case nil:
		w.byte(0)
	case string:
		w.byte(byte(docstore.String))
		w.text(v)
	case int64:
		w.byte(byte(docstore.Int64))
		w.int(v)
	case time.Time:
		w.byte(byte(docstore.Time))
		w.time(v)
	case bool:
		w.byte(byte(docstore.Bool))
		w.bool(v)
	default:
		w.byte(otherKind)
	}
}

// reader takes a message apart. After the first fault everything it yields is empty.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
	r.b = nil
}

// done reports that the message was read to its end without a fault.
func (r *reader) done() bool {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes are left over")
	}
	return r.err == nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) bool() bool { return r.byte() == 1 }

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a number is broken")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many elements follow, each of at least one byte: a count beyond that is a fault, before anything is allocated.
func (r *reader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) {
		r.fail("a length is broken")
		return 0
	}
	r.b = r.b[n:]
	return int(v) //nolint:gosec // within the message
}

// maxList bounds lists whose elements take more memory than their bytes: beyond every batch and page there is.
const maxList = 4 * docstore.MaxBatch

func (r *reader) list() int {
	n := r.count()
	if n > maxList {
		r.fail("a list is too long")
		return 0
	}
	return n
}

func (r *reader) bytes() []byte {
	n := r.count()
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) texts() []string {
	out := make([]string, r.list())
	for i := range out {
		out[i] = r.text()
	}
	return out
}

func (r *reader) time() time.Time { return time.UnixMilli(r.int()).UTC() }

func (r *reader) docs() []docstore.Doc {
	n := r.list()
	if n == 0 {
		return nil
	}
	out := make([]docstore.Doc, n)
	for i := range out {
		out[i] = docstore.Doc{ID: r.text(), Rev: r.int(), Body: body(r.bytes())}
	}
	return out
}

func (r *reader) ops() []docstore.Op {
	out := make([]docstore.Op, r.list())
	for i := range out {
		out[i] = docstore.Op{Kind: docstore.OpKind(r.byte()), Collection: r.text(), ID: r.text(), Rev: r.int(), Body: body(r.bytes())}
	}
	return out
}

func (r *reader) results() []docstore.Result {
	out := make([]docstore.Result, r.list())
	for i := range out {
		out[i] = docstore.Result{Rev: r.int(), Err: r.error()}
	}
	return out
}

func (r *reader) collections() []docstore.Collection {
	out := make([]docstore.Collection, r.list())
	for i := range out {
		out[i].Name = r.text()
		out[i].Indexes = make([]docstore.Index, r.list())
		for k := range out[i].Indexes {
			ix := &out[i].Indexes[k]
			ix.Name, ix.Unique = r.text(), r.bool()
			ix.Fields = make([]docstore.Field, r.list())
			for j := range ix.Fields {
				ix.Fields[j] = docstore.Field{Name: r.text(), Kind: docstore.Kind(r.int())}
			}
		}
	}
	return out
}

func (r *reader) query() docstore.Query {
	q := docstore.Query{Collection: r.text(), Index: r.text(), From: r.text(), To: r.text()}
	for range r.list() {
		q.Prefix = append(q.Prefix, r.value())
	}
	q.Low, q.High = r.value(), r.value()
	q.Descending, q.Limit, q.Resume, q.IDsOnly = r.bool(), int(r.int()), r.text(), r.bool()
	return q
}

func (r *reader) value() any {
	switch r.byte() {
	case 0:
		return nil
	case byte(docstore.String):
		return r.text()
	case byte(docstore.Int64):
		return r.int()
	case byte(docstore.Time):
		return r.time()
	case byte(docstore.Bool):
		return r.bool()
	case otherKind:
		return struct{}{}
	}
	r.fail("a value is of no known kind")
	return nil
}
