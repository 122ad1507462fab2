package apply

import (
	"bufio"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply/spill"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// The redo log says what is done to a head before it is done. It goes on from a state.bson of the same generation. It is
// a series of records, each a byte that names its kind and a document:
//
//	G {generation}                 the log's beginning
//	B {position, then the batch's  position afterwards}
//	  w {uuid, ns, way}            the writes in one collection follow
//	  i r u  the document          to insert, replace, upsert
//	  d {_id}                      to delete
//	  o {do, _id}, x the document  an ordered operation; x is left out where it deletes
//	  m s {_id}                    missing, settled
//	  e {crc}                      the batch is whole: CRC-32C over everything from B on
//	C {position, op, view, crc}    a command or an operation on views, position afterwards
//	P {position, crc}              only the position moved on
//	D {}                           what the record before says was done in full
//
// A record that follows a batch or a command says as much as D: it would not have been written otherwise. What is torn at
// the end was not begun.
const (
	recGeneration = 'G'
	recBatch      = 'B'
	recWrites     = 'w'
	recInsert     = 'i'
	recReplace    = 'r'
	recUpsert     = 'u'
	recDelete     = 'd'
	recOrdered    = 'o'
	recDocument   = 'x'
	recMissing    = 'm'
	recSettled    = 's'
	recEnd        = 'e'
	recCommand    = 'C'
	recPosition   = 'P'
	recDone       = 'D'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a table

// redoLog is the log being written.
type redoLog struct {
	f    *os.File
	w    *bufio.Writer
	crc  hash.Hash32
	size int64
}

// newRedo begins a log in the place of the old one.
func newRedo(dir string, generation int64) (*redoLog, error) {
	path := filepath.Join(dir, redoFile)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	l := &redoLog{f: f, w: bufio.NewWriterSize(f, 1<<18), crc: crc32.New(castagnoli)}
	l.record(recGeneration, bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "generation", generation)))
	if err = l.sync(); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin the redo log: %w", err), f.Close())
	}
	return l, nil
}

// record appends; an error stays in the writer until sync.
func (l *redoLog) record(kind byte, doc []byte) {
	_ = l.w.WriteByte(kind)
	_, _ = l.w.Write(doc)
	_, _ = l.crc.Write([]byte{kind})
	_, _ = l.crc.Write(doc)
	l.size += int64(1 + len(doc))
}

func (l *redoLog) flush() error { return l.w.Flush() }

func (l *redoLog) sync() error { return errors.Join(l.w.Flush(), l.f.Sync()) }

func (l *redoLog) close() error { return errors.Join(l.w.Flush(), l.f.Close()) }

func positionDocument(p position, more []byte) ([]byte, error) {
	b, err := bson.Marshal(p.stored())
	if err != nil {
		return nil, err
	}
	return bsoncore.BuildDocument(nil, append(bsoncore.AppendDocumentElement(nil, "position", b), more...)), nil
}

// sealed appends a record that carries its own checksum.
func (l *redoLog) sealed(kind byte, p position, more []byte) error {
	doc, err := positionDocument(p, more)
	if err != nil {
		return err
	}
	sum := crc32.Checksum(append([]byte{kind}, doc...), castagnoli)
	doc = bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(doc[4:len(doc)-1:len(doc)-1], "crc", int64(sum)))
	l.record(kind, doc)
	return nil
}

func (l *redoLog) position(p position) error {
	if err := l.sealed(recPosition, p, nil); err != nil {
		return err
	}
	return l.sync()
}

func (l *redoLog) command(p position, op *oplog.Op, view bool) error {
	more := bsoncore.AppendDocumentElement(nil, "op", encodeOp(op))
	if err := l.sealed(recCommand, p, bsoncore.AppendBooleanElement(more, "view", view)); err != nil {
		return err
	}
	return l.sync()
}

// done needs no sync: the next record's does it.
func (l *redoLog) done() error {
	l.record(recDone, bsoncore.BuildDocument(nil, nil))
	return l.flush()
}

// batch appends a batch and waits until it is on disk.
func (l *redoLog) batch(p position, writes []plan.Writes) error {
	doc, err := positionDocument(p, nil)
	if err != nil {
		return err
	}
	l.crc.Reset()
	l.record(recBatch, doc)
	var buf []byte
	id := func(kind byte, v bsoncore.Value) {
		buf = bsoncore.BuildDocument(buf[:0], bsoncore.AppendValueElement(nil, "_id", v))
		l.record(kind, buf)
	}
	for i := range writes {
		w := &writes[i]
		head := bsoncore.AppendBinaryElement(nil, "uuid", bson.TypeBinaryUUID, w.Collection.UUID[:])
		head = bsoncore.AppendStringElement(head, "ns", w.Collection.NS)
		l.record(recWrites, bsoncore.BuildDocument(nil, bsoncore.AppendInt32Element(head, "way", int32(w.Way))))
		for _, x := range w.Inserts {
			l.record(recInsert, x.Doc)
		}
		for _, x := range w.Replaces {
			l.record(recReplace, x.Doc)
		}
		for _, x := range w.Upserts {
			l.record(recUpsert, x.Doc)
		}
		for _, x := range w.Deletes {
			id(recDelete, x.ID)
		}
		for _, x := range w.Ordered {
			buf = bsoncore.BuildDocument(buf[:0], bsoncore.AppendValueElement(bsoncore.AppendInt32Element(nil, "do", int32(x.Do)), "_id", x.ID))
			l.record(recOrdered, buf)
			if x.Do != plan.Delete {
				l.record(recDocument, x.Doc)
			}
		}
		for _, v := range w.Missing {
			id(recMissing, v)
		}
		for _, v := range w.Settled {
			id(recSettled, v)
		}
	}
	l.record(recEnd, bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "crc", int64(l.crc.Sum32()))))
	return l.sync()
}

// encodeOp gives an operation the form in which applyOps holds it.
func encodeOp(op *oplog.Op) []byte {
	b := bsoncore.AppendStringElement(nil, "op", op.Kind.String())
	b = bsoncore.AppendStringElement(b, "ns", op.NS)
	if !op.UI.IsZero() {
		b = bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, op.UI[:])
	}
	b = bsoncore.AppendDocumentElement(b, "o", op.O)
	if op.O2 != nil {
		b = bsoncore.AppendDocumentElement(b, "o2", op.O2)
	}
	if op.Upsert {
		b = bsoncore.AppendBooleanElement(b, "b", true)
	}
	return bsoncore.BuildDocument(nil, b)
}

// unfinished is what a log ends with and may not have been done.
type unfinished struct {
	batch bool
	to    position
	write []plan.Writes
	steps []schema.Step
}

// replay brings a state to the end of the log and says what must be done again. A log of another generation is an old one
// and of no account.
func (s *state) replay(dir string) (last *unfinished, err error) {
	f, err := os.Open(filepath.Join(dir, redoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing to do
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	last, err = s.read(bufio.NewReaderSize(f, 1<<18))
	if err != nil {
		err = fmt.Errorf("redo log: %w", err)
	}
	return last, err
}

// errTorn is the end of a log in the middle of a record.
var errTorn = errors.New("torn")

func (s *state) read(r *bufio.Reader) (last *unfinished, err error) {
	kind, doc, err := readRecord(r)
	if errors.Is(err, errTorn) || errors.Is(err, io.EOF) {
		return nil, nil //nolint:nilnil // it was being made
	}
	if err != nil {
		return nil, err
	}
	if kind != recGeneration || number(doc, "generation") != s.generation {
		return nil, nil //nolint:nilnil // not this state's
	}
	for {
		kind, doc, err := readRecord(r)
		if errors.Is(err, errTorn) || errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		switch kind {
		case recDone:
			last = nil
			continue
		case recBatch:
			next, err := s.readBatch(r, doc)
			if errors.Is(err, errTorn) {
				return last, nil
			}
			if err != nil {
				return nil, err
			}
			last = next
		case recCommand, recPosition:
			if !intact(kind, doc) {
				return last, nil
			}
			last = nil
			if kind == recCommand {
				if last, err = s.again(doc); err != nil {
					return nil, err
				}
			}
			if s.position, err = positionOf(doc); err != nil {
				return nil, err
			}
			if last != nil {
				last.to = s.position
			}
		default:
			return nil, fmt.Errorf("%w: record %q", oplog.ErrCorrupt, kind)
		}
	}
}

func positionOf(doc bson.Raw) (position, error) {
	var in struct {
		Position storedPosition `bson:"position"`
	}
	err := bson.Unmarshal(doc, &in)
	return in.Position.position(), err
}

// intact checks the checksum that is a record's last field.
func intact(kind byte, doc bson.Raw) bool {
	v, ok := oplog.Lookup(doc, "crc")
	sum, isInt := v.Int64OK()
	const field = 1 + len("crc") + 1 + 8
	if !ok || !isInt || len(doc) < 5+field {
		return false
	}
	body := bsoncore.BuildDocument(nil, doc[4:len(doc)-1-field])
	return int64(crc32.Checksum(append([]byte{kind}, body...), castagnoli)) == sum
}

// again takes a command to the catalogue, as it was taken when it was logged.
func (s *state) again(doc bson.Raw) (*unfinished, error) {
	v, _ := oplog.Lookup(doc, "op")
	inner, ok := v.DocumentOK()
	if !ok {
		return nil, fmt.Errorf("%w: command without operation", oplog.ErrCorrupt)
	}
	op, err := oplog.DecodeInner(inner)
	if err != nil {
		return nil, err
	}
	apply := s.cat.Apply
	v, _ = oplog.Lookup(doc, "view")
	if view, _ := v.BooleanOK(); view {
		apply = s.cat.ApplyView
	}
	steps, _, err := apply(&op)
	if err != nil {
		return nil, err
	}
	s.dropped(steps)
	return &unfinished{steps: steps}, nil
}

// dropped forgets what was missing in collections that are gone.
func (s *state) dropped(steps []schema.Step) {
	for i := range steps {
		if steps[i].Do == schema.DropCollection {
			s.missing.Drop(steps[i].Collection.UUID)
		}
	}
}

func readRecord(r *bufio.Reader) (kind byte, doc bson.Raw, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	doc, err = spill.ReadDocument(r, spill.MaxEntry)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, oplog.ErrCorrupt) {
		err = errTorn // pages of a file that was being written may hold anything
	}
	return kind, doc, err
}

// readBatch reads a batch whose first record is given.
func (s *state) readBatch(r *bufio.Reader, first bson.Raw) (*unfinished, error) {
	crc := crc32.New(castagnoli)
	sum := func(kind byte, doc []byte) {
		_, _ = crc.Write([]byte{kind})
		_, _ = crc.Write(doc)
	}
	sum(recBatch, first)
	to, err := positionOf(first)
	if err != nil {
		return nil, errTorn
	}
	u := &unfinished{batch: true, to: to}
	var w *plan.Writes
	var do *plan.Ordered
	for {
		kind, doc, err := readRecord(r)
		if errors.Is(err, io.EOF) {
			err = errTorn
		}
		if err != nil {
			return nil, err
		}
		if kind == recEnd {
			if number(doc, "crc") != int64(crc.Sum32()) {
				return nil, errTorn
			}
			break
		}
		sum(kind, doc)
		if kind == recWrites {
			u.write = append(u.write, writesOf(doc))
			w, do = &u.write[len(u.write)-1], nil
			continue
		}
		if w == nil {
			return nil, errTorn
		}
		id, _ := oplog.Lookup(doc, "_id")
		switch kind {
		case recInsert, recReplace, recUpsert:
			p := put(id, doc)
			switch kind {
			case recInsert:
				w.Inserts = append(w.Inserts, p)
			case recReplace:
				w.Replaces = append(w.Replaces, p)
			case recUpsert:
				w.Upserts = append(w.Upserts, p)
			}
		case recDelete:
			w.Deletes = append(w.Deletes, plan.Gone{ID: id})
		case recOrdered:
			w.Ordered = append(w.Ordered, plan.Ordered{Do: plan.Do(number(doc, "do")), Put: plan.Put{ID: id}})
			do = &w.Ordered[len(w.Ordered)-1]
		case recDocument:
			if do == nil {
				return nil, errTorn
			}
			do.Put = put(id, doc)
		case recMissing:
			w.Missing = append(w.Missing, id)
		case recSettled:
			w.Settled = append(w.Settled, id)
		default:
			return nil, errTorn
		}
	}
	for i := range u.write {
		s.missing.Note(&u.write[i])
	}
	s.position = to
	return u, nil
}

func put(id bsoncore.Value, doc bson.Raw) plan.Put {
	x, _ := document.Exceptions(doc)
	return plan.Put{ID: id, Doc: doc, Exception: x}
}

func writesOf(doc bson.Raw) plan.Writes {
	w := plan.Writes{Way: plan.Way(number(doc, "way"))}
	v, _ := oplog.Lookup(doc, "uuid")
	if _, data, ok := oplog.Binary(v); ok {
		copy(w.Collection.UUID[:], data)
	}
	v, _ = oplog.Lookup(doc, "ns")
	w.Collection.NS, _ = v.StringValueOK()
	return w
}

// number is an integer field, -1 where there is none. (The log may be torn: nothing may be looked up as if it were whole.)
func number(doc []byte, name string) int64 {
	v, ok := oplog.Lookup(doc, name)
	n, isInt := v.AsInt64OK()
	if !ok || !isInt {
		return -1
	}
	return n
}
