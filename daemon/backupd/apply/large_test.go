package apply_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/bulk"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

// most is the size of the largest document that a server keeps, as BSON.
const most = 16 << 20

// filled is a document of exactly size bytes: an _id, fields, and a string that fills it.
func filled(size int, id int32, fields []byte) []byte {
	head := append(bsoncore.AppendInt32Element(nil, "_id", id), fields...)
	empty := bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(slices.Clone(head), "pad", ""))
	return bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(head, "pad", string(bytes.Repeat([]byte{'a' + byte(id)}, size-len(empty)))))
}

// large makes entries of an oplog, one after another: none is kept.
type large struct {
	db   string
	id   oplog.UUID // of the collection c; k, which is capped, has the next
	at   uint32
	prev uint32
}

func (l *large) uuid(capped bool) oplog.UUID {
	id := l.id
	if capped {
		id[15]++
	}
	return id
}

func (l *large) entry(fields []byte) bson.Raw {
	l.at++
	b := bsoncore.AppendTimestampElement(nil, "ts", 3000+l.at, 1)
	b = bsoncore.AppendInt64Element(bsoncore.AppendInt64Element(b, "t", 1), "v", 2)
	return bson.Raw(bsoncore.BuildDocument(nil, append(b, fields...)))
}

// op are the fields of an operation on the collection.
func (l *large) op(kind string, capped bool, o, o2 []byte) []byte {
	id, name := l.uuid(capped), "c"
	if capped {
		name = "k"
	}
	b := bsoncore.AppendStringElement(bsoncore.AppendStringElement(nil, "op", kind), "ns", l.db+"."+name)
	b = bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, id[:])
	if o2 != nil {
		b = bsoncore.AppendDocumentElement(b, "o2", o2)
	}
	return bsoncore.AppendDocumentElement(b, "o", o)
}

func (l *large) create(capped bool) bson.Raw {
	id, name := l.uuid(capped), "c"
	var more []byte
	if capped {
		name, more = "k", bsoncore.AppendInt64Element(bsoncore.AppendBooleanElement(nil, "capped", true), "size", 40<<20)
	}
	b := bsoncore.AppendStringElement(bsoncore.AppendStringElement(nil, "op", "c"), "ns", l.db+".$cmd")
	b = bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, id[:])
	return l.entry(bsoncore.AppendDocumentElement(b, "o", bsoncore.BuildDocument(nil, append(bsoncore.AppendStringElement(nil, "create", name), more...))))
}

// together is an applyOps entry; batch says that it is several inserts of one command and no transaction.
func (l *large) together(last bool, count int64, batch bool, ops ...[]byte) bson.Raw {
	var list []byte
	for i, o := range ops {
		list = bsoncore.AppendDocumentElement(list, fmt.Sprint(i), bsoncore.BuildDocument(nil, o))
	}
	o := bsoncore.AppendArrayElement(nil, "applyOps", bsoncore.BuildDocument(nil, list))
	switch {
	case batch:
	case last:
		o = bsoncore.AppendInt64Element(o, "count", count)
	default:
		o = bsoncore.AppendBooleanElement(o, "partialTxn", true)
	}
	prev := bsoncore.AppendInt64Element(bsoncore.AppendTimestampElement(nil, "ts", 0, 0), "t", -1)
	if l.prev > 0 {
		prev = bsoncore.AppendInt64Element(bsoncore.AppendTimestampElement(nil, "ts", 3000+l.prev, 1), "t", 1)
	}
	b := bsoncore.AppendStringElement(bsoncore.AppendStringElement(nil, "op", "c"), "ns", "admin.$cmd")
	lsid := bsoncore.BuildDocument(nil, bsoncore.AppendBinaryElement(nil, "id", bson.TypeBinaryUUID, l.id[:]))
	b = bsoncore.AppendInt64Element(bsoncore.AppendDocumentElement(b, "lsid", lsid), "txnNumber", 1)
	if batch {
		b = bsoncore.AppendInt32Element(b, "multiOpType", 1)
	}
	b = bsoncore.AppendDocumentElement(b, "prevOpTime", bsoncore.BuildDocument(nil, prev))
	e := l.entry(bsoncore.AppendDocumentElement(b, "o", bsoncore.BuildDocument(nil, o)))
	if l.prev = l.at; batch || last {
		l.prev = 0
	}
	return e
}

func key(id int32) []byte {
	return bsoncore.BuildDocument(nil, bsoncore.AppendInt32Element(nil, "_id", id))
}

// entries are documents of 16 MiB to the byte through every way of writing, and entries that are larger.
func (l *large) entries() iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		n := func(v int32) []byte { return bsoncore.AppendInt32Element(nil, "n", v) }
		diff := func(v int32) []byte {
			u := bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, "u", bsoncore.BuildDocument(nil, n(v))))
			return bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(bsoncore.AppendInt32Element(nil, "$v", 2), "diff", u))
		}
		dollar := bsoncore.AppendInt32Element(nil, "$n", 1)
		empty := bsoncore.AppendTimestampElement(nil, "ts", 0, 0)
		for _, make := range []func() bson.Raw{
			func() bson.Raw { return l.create(false) },
			func() bson.Raw { return l.create(true) },
			func() bson.Raw { return l.entry(l.op("i", false, filled(most, 1, n(0)), nil)) },
			func() bson.Raw { return l.entry(l.op("u", false, diff(1), key(1))) },
			func() bson.Raw { return l.entry(l.op("i", false, filled(most, 2, dollar), nil)) },
			func() bson.Raw { return l.entry(l.op("i", false, filled(most, 3, empty), nil)) },
			func() bson.Raw { return l.entry(l.op("i", false, filled(100, 4, n(0)), nil)) },
			func() bson.Raw { return l.entry(l.op("u", false, filled(most, 4, n(7)), key(4))) },
			// Inserts of one command in one entry, which with what is around them is larger than a document.
			func() bson.Raw {
				return l.together(true, 0, true, l.op("i", false, filled(most/2, 5, nil), nil), l.op("i", false, filled(most/2, 6, nil), nil))
			},
			// A transaction of three entries of a document each.
			func() bson.Raw { return l.together(false, 0, false, l.op("i", false, filled(most, 7, n(0)), nil)) },
			func() bson.Raw { return l.together(false, 0, false, l.op("i", false, filled(most, 8, n(0)), nil)) },
			func() bson.Raw {
				return l.together(true, 4, false, l.op("u", false, filled(most, 7, n(1)), key(7)), l.op("u", false, diff(9), key(8)))
			},
			func() bson.Raw { return l.entry(l.op("d", false, key(2), nil)) },
			func() bson.Raw { return l.entry(l.op("i", true, filled(most, 1, n(0)), nil)) },
			func() bson.Raw { return l.entry(l.op("i", true, filled(most, 2, n(0)), nil)) },
			func() bson.Raw { return l.entry(l.op("u", true, diff(5), key(2))) },
			func() bson.Raw { return l.entry(l.op("i", false, filled(most, 2, dollar), nil)) },
		} {
			if !yield(make(), nil) {
				return
			}
		}
	}
}

// TestDocumentsOf16MiB is case 15.
func TestDocumentsOf16MiB(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some hundred megabytes")
	}
	k := newCases(t)
	for _, behind := range []bool{false, true} {
		t.Run(fmt.Sprintf("15: documents of 16 MiB and entries that are larger, behind %t", behind), func(t *testing.T) {
			w := k.next(t)
			l := &large{db: w.db, id: w.uuid(1)}
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(250 << 20)) // garbage counts for nothing
			a := w.open(apply.Options{})
			a.Behind(behind)
			stop := peak()
			if err := a.Apply(t.Context(), l.entries(), bson.Timestamp{}); err != nil {
				t.Fatal(err)
			}
			high := stop()
			t.Logf("%d MB of heap at most", high>>20)
			if high > 400<<20 {
				t.Errorf("%d MB of heap", high>>20)
			}
			for _, x := range []struct {
				coll string
				id   int32
				size int
				more []byte
			}{
				{"c", 1, most, bsoncore.AppendInt32Element(nil, "n", 1)},
				{"c", 2, most, bsoncore.AppendInt32Element(nil, "$n", 1)},
				{"c", 3, most, bsoncore.AppendTimestampElement(nil, "ts", 0, 0)},
				{"c", 4, most, bsoncore.AppendInt32Element(nil, "n", 7)},
				{"c", 5, most / 2, nil},
				{"c", 6, most / 2, nil},
				{"c", 7, most, bsoncore.AppendInt32Element(nil, "n", 1)},
				{"c", 8, most, bsoncore.AppendInt32Element(nil, "n", 9)},
				{"k", 1, most, bsoncore.AppendInt32Element(nil, "n", 0)},
				{"k", 2, most, bsoncore.AppendInt32Element(nil, "n", 5)},
			} {
				got, err := k.h.Client().Database(w.db).Collection(x.coll).FindOne(t.Context(), bson.D{{Key: "_id", Value: x.id}}).Raw()
				if err != nil || !bytes.Equal(got, filled(x.size, x.id, x.more)) {
					t.Errorf("%s %d: %d bytes, want %d, %v", x.coll, x.id, len(got), x.size, err)
				}
			}
			if n, err := k.h.Client().Database(w.db).Collection("c").CountDocuments(t.Context(), bson.D{}); n != 8 || err != nil {
				t.Errorf("%d documents, %v", n, err)
			}
		})
	}
	t.Run("15: a document with an _id that leaves no room for a second one beside it", func(t *testing.T) {
		w := k.next(t)
		l := &large{db: w.db, id: w.uuid(1)}
		with := func(n int32) []byte {
			b := bsoncore.AppendStringElement(nil, "_id", string(bytes.Repeat([]byte("i"), 1<<20)))
			b = bsoncore.AppendInt32Element(b, "n", n)
			return bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(b, "pad", string(bytes.Repeat([]byte("p"), 15<<20-100))))
		}
		id, _ := oplog.Lookup(with(0), "_id")
		o2 := bsoncore.BuildDocument(nil, bsoncore.AppendValueElement(nil, "_id", id))
		entries := []bson.Raw{l.create(false), l.entry(l.op("i", false, with(0), nil)), l.entry(l.op("u", false, with(1), o2))}
		o := apply.Options{MaxOps: 1}
		if err := w.open(o).Apply(t.Context(), each(entries), bson.Timestamp{}); err != nil {
			t.Fatal(err)
		}
		got, err := k.h.Client().Database(w.db).Collection("c").FindOne(t.Context(), bson.D{}).Raw()
		if err != nil || !bytes.Equal(got, with(1)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("15: slices of such entries", func(t *testing.T) {
		l := &large{db: "x", id: oplog.UUID{1}}
		b := chain.Begin("job", 1, oplog.OpTime{}, chain.Digest{})
		var sizes []int
		for raw := range l.entries() {
			e, err := oplog.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(e, raw); err != nil {
				t.Fatal(err)
			}
			if sizes = append(sizes, len(raw)); len(sizes) == 9 {
				break
			}
		}
		if slices.Max(sizes) <= most {
			t.Errorf("the largest entry has %d bytes", slices.Max(sizes))
		}
		s, content, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		var back []int
		if err := s.Open(content, func(raw bson.Raw) error { back = append(back, len(raw)); return nil }); err != nil || !slices.Equal(back, sizes) {
			t.Errorf("%v, want %v: %v", back, sizes, err)
		}
	})
	t.Run("D5: what a mongod cannot be given in any way stops loudly", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"$a":1,"b.c":{"$timestamp":{"t":0,"i":0}}}`)
		if err := w.open(apply.Options{}).Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, bulk.ErrUnwritable) {
			t.Errorf("%v", err)
		}
		w = k.next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"b.c":{"$timestamp":{"t":0,"i":0}}}`)
		err := w.open(apply.Options{}).Apply(t.Context(), each(w.entries), bson.Timestamp{})
		if own, _ := around(t, k.h); own >= "8.0" { // which leaves it alone when asked to
			if err != nil {
				t.Error(err)
			}
			w.has("c", `{"_id":1,"b.c":{"$timestamp":{"t":0,"i":0}}}`)
		} else if !errors.Is(err, bulk.ErrUnwritable) {
			t.Errorf("%v", err)
		}
	})
}
