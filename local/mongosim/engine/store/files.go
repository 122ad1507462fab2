package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

const (
	catalogName = "_mdb_catalog.sim"
	filePrefix  = "collection-"
	fileSuffix  = ".sim"
	// frameSize is about how much of a collection's file one checksum covers.
	frameSize = 256 << 10
	// slack is how much dead bytes a file may always hold.
	slack = 1 << 20
	// recordHead is what a record takes in a file besides its document.
	recordHead = 9
)

// formatVersion is the catalog's.
const formatVersion = 1

// file is one collection's file as the catalog has it.
type file struct {
	name   string // from the dbpath
	length int64  // what counts; bytes beyond were left by a crash
}

// files are the collections' files of a dbpath. One checkpoint at a time writes them.
type files struct {
	dir     string
	o       JournalOptions
	byUUID  map[[16]byte]*file
	next    int  // number of the next file
	saved   bool // there is a catalog
	pending map[[16]byte][]int64
	failed  error // of the last checkpoint
}

// load reads the catalog and every collection's file into s, deletes what a crash left, and gives the generation of the first
// journal to replay.
func (fs *files) load(s *State) (gen int, err error) {
	fs.pending = map[[16]byte][]int64{}
	path := filepath.Join(fs.dir, catalogName)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return 0, fs.clean()
	}
	first := true
	_, err = replayFile(path, false, func(b []byte) error {
		doc := bson.Raw(b)
		if err := bsonval.Validate(doc); err != nil {
			return fmt.Errorf("%w: %w", errBadJournal, err)
		}
		if first {
			first = false
			n, err := fs.header(doc)
			gen = n
			return err
		}
		return fs.loadCollection(s, doc)
	})
	if err == nil && first {
		err = fmt.Errorf("%s is empty: %w", catalogName, errBadJournal)
	}
	if err != nil {
		return 0, err
	}
	fs.saved = true
	return gen, fs.clean()
}

// header reads the catalog's first frame.
func (fs *files) header(doc bson.Raw) (gen int, err error) {
	number := func(name string) int64 {
		v, _ := bsonval.Lookup(doc, name)
		n, _ := bsonval.Integer(v)
		return n
	}
	if v := number("format"); v != formatVersion {
		return 0, fmt.Errorf("%s is of format %d, not %d", catalogName, v, formatVersion)
	}
	fs.next = int(number("next"))
	return int(number("generation")), nil
}

// loadCollection reads one collection by its frame of the catalog.
func (fs *files) loadCollection(s *State, doc bson.Raw) error {
	v, _ := bsonval.Lookup(doc, "uuid")
	u, ok := bsonval.UUIDOf(v)
	if !ok {
		return fmt.Errorf("%w: a collection without a UUID", errBadJournal)
	}
	v, _ = bsonval.Lookup(doc, "options")
	c := &Collection{NS: bsonval.StringField(doc, "ns"), UUID: u, Options: bsonval.SubDoc(v)}
	if c.Options == nil || s.byUUID[u] != nil || s.byNS[c.NS] != nil {
		return fmt.Errorf("%w: collection %s", errBadJournal, c.NS)
	}
	s.Create(nil, c)
	if c.View {
		return nil
	}
	f := &file{name: filepath.FromSlash(bsonval.StringField(doc, "file"))}
	v, _ = bsonval.Lookup(doc, "length")
	f.length, _ = bsonval.Integer(v)
	if !filepath.IsLocal(f.name) {
		return fmt.Errorf("%w: file %q of %s", errBadJournal, f.name, c.NS)
	}
	if err := fs.loadRecords(c, f); err != nil {
		return fmt.Errorf("%s (%s): %w", f.name, c.NS, err)
	}
	v, _ = bsonval.Lookup(doc, "nextRID")
	n, _ := bsonval.Integer(v)
	c.NextRID = max(c.NextRID, n)
	v, _ = bsonval.Lookup(doc, "indexes")
	for _, spec := range bsonval.SubDocs(v) {
		x, err := s.NewIndex(spec)
		if err == nil {
			err = c.build(x)
		}
		if err != nil {
			return fmt.Errorf("%w: index of %s: %w", errBadJournal, c.NS, err)
		}
		c.Indexes = append(c.Indexes, x)
	}
	fs.byUUID[u] = f
	return nil
}

// loadRecords reads as much of a file as counts, without indexes.
func (fs *files) loadRecords(c *Collection, f *file) error {
	in, err := os.Open(filepath.Join(fs.dir, f.name))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	if f.length < 0 || fi.Size() < f.length {
		return fmt.Errorf("%w: %d bytes of %d", errBadJournal, fi.Size(), f.length)
	}
	good, err := replayFrames(bufio.NewReaderSize(io.LimitReader(in, f.length), 1<<20), f.length, c.replayRecords)
	if err == nil && good != f.length {
		err = fmt.Errorf("%w: %d bytes of %d", errBadJournal, good, f.length)
	}
	return err
}

// replayRecords applies one frame of a collection's file.
func (c *Collection) replayRecords(b []byte) error {
	for len(b) > 0 {
		if len(b) < recordHead {
			return fmt.Errorf("%w: short record", errBadJournal)
		}
		op, rid := b[0], int64(binary.BigEndian.Uint64(b[1:]))
		b = b[recordHead:]
		switch op {
		case opDel:
			c.remove(rid)
		case opPut:
			if len(b) < 5 {
				return fmt.Errorf("%w: short document", errBadJournal)
			}
			n := int(int32(binary.LittleEndian.Uint32(b)))
			if n < 5 || n > len(b) {
				return fmt.Errorf("%w: document length", errBadJournal)
			}
			doc := bson.Raw(b[:n:n])
			if err := bsonval.Validate(doc); err != nil {
				return fmt.Errorf("%w: %w", errBadJournal, err)
			}
			if err := c.put(rid, doc); err != nil {
				return err
			}
			b = b[n:]
		default:
			return fmt.Errorf("%w: change %q", errBadJournal, op)
		}
	}
	return nil
}

// clean deletes files that no catalog names: a crash left them.
func (fs *files) clean() error {
	known := map[string]bool{}
	for _, f := range fs.byUUID {
		known[f.name] = true
	}
	_ = os.Remove(filepath.Join(fs.dir, catalogName+".tmp"))
	found, err := filepath.Glob(filepath.Join(fs.dir, filePrefix+"*"+fileSuffix))
	if err != nil {
		return err
	}
	deeper, err := filepath.Glob(filepath.Join(fs.dir, "*", filePrefix+"*"+fileSuffix))
	if err != nil {
		return err
	}
	for _, path := range append(found, deeper...) {
		if name, err := filepath.Rel(fs.dir, path); err == nil && !known[name] {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// save writes what changed up to a state into the collections' files, then the catalog, and deletes files of collections that
// are gone. After an error everything is as before, and the changes are written again by the next.
func (fs *files) save(gen int, s *State) error {
	fresh := map[[16]byte]*file{}
	var docs []bson.Raw
	for _, c := range s.Collections("") {
		b := c.meta().Value("uuid", bsonval.UUID(c.UUID))
		if !c.View {
			f, err := fs.saveCollection(c)
			if err != nil {
				return fmt.Errorf("checkpoint %s: %w", c.NS, err)
			}
			fresh[c.UUID] = f
			b.String("file", filepath.ToSlash(f.name)).Int64("length", f.length).Int64("nextRID", c.NextRID)
		}
		docs = append(docs, b.Raw())
	}
	if err := fs.saveCatalog(gen, docs); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	old := fs.byUUID
	fs.byUUID, fs.saved = fresh, true
	clear(fs.pending)
	for u, f := range old {
		if g := fresh[u]; g == nil || g.name != f.name {
			_ = os.Remove(filepath.Join(fs.dir, f.name)) // what stays is deleted at the next opening
			if fs.o.PerDB {
				_ = os.Remove(filepath.Dir(filepath.Join(fs.dir, f.name))) // when it is empty
			}
		}
	}
	return nil
}

// saveCollection brings a collection's file up to date: by what changed, or as a whole when most of it would be dead.
func (fs *files) saveCollection(c *Collection) (*file, error) {
	old, touched := fs.byUUID[c.UUID], fs.pending[c.UUID]
	if old != nil && len(touched) == 0 {
		return old, nil
	}
	touched = slices.Clone(touched)
	slices.Sort(touched)
	touched = slices.Compact(touched)
	if old == nil || old.length+grows(c, touched) > 2*(c.Bytes+int64(c.Records.Len())*recordHead)+slack {
		name := fmt.Sprintf("%s%d%s", filePrefix, fs.next, fileSuffix)
		if fs.o.PerDB {
			name = filepath.Join(DBOf(c.NS), name)
		}
		fs.next++
		return fs.write(&file{name: name}, func(emit func(op byte, rid int64, doc bson.Raw) error) error {
			for rid, doc := range c.Records.Ascend(0) {
				if err := emit(opPut, rid, doc); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return fs.write(old, func(emit func(op byte, rid int64, doc bson.Raw) error) error {
		for _, rid := range touched {
			op := byte(opDel)
			doc, ok := c.Records.Get(rid)
			if ok {
				op = opPut
			}
			if err := emit(op, rid, doc); err != nil {
				return err
			}
		}
		return nil
	})
}

// grows is how many bytes some records take in a file.
func grows(c *Collection, rids []int64) (n int64) {
	for _, rid := range rids {
		doc, _ := c.Records.Get(rid)
		n += recordHead + int64(len(doc))
	}
	return n
}

// write appends to a file what records emits, behind what counts of it.
func (fs *files) write(f *file, records func(emit func(op byte, rid int64, doc bson.Raw) error) error) (*file, error) {
	path := filepath.Join(fs.dir, f.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	if err := out.Truncate(f.length); err != nil {
		return nil, err
	}
	if _, err := out.Seek(f.length, io.SeekStart); err != nil {
		return nil, err
	}
	length := f.length
	var b, framed []byte
	flush := func() error {
		if len(b) == 0 {
			return nil
		}
		framed = frame(framed[:0], b)
		b = b[:0]
		n, err := out.Write(framed)
		length += int64(n)
		return err
	}
	err = records(func(op byte, rid int64, doc bson.Raw) error {
		b = append(b, op)
		b = binary.BigEndian.AppendUint64(b, uint64(rid))
		b = append(b, doc...)
		if len(b) < frameSize {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err == nil && !fs.o.NoSync {
		err = out.Sync()
	}
	if err != nil {
		return nil, err
	}
	return &file{name: f.name, length: length}, nil
}

// saveCatalog replaces the catalog.
func (fs *files) saveCatalog(gen int, collections []bson.Raw) error {
	path := filepath.Join(fs.dir, catalogName)
	out, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	w := bufio.NewWriterSize(out, 1<<20)
	header := new(bsonval.Builder).Int32("format", formatVersion).Int64("generation", int64(gen)).Int64("next", int64(fs.next)).Raw()
	for _, doc := range append([]bson.Raw{header}, collections...) {
		if _, err := w.Write(frame(nil, doc)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !fs.o.NoSync {
		if err := out.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	if fs.o.NoSync {
		return nil
	}
	return syncDir(fs.dir)
}

// syncDir makes a folder's names durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
