// Package chain proves that slices of an oplog are one history without holes. It owns the header of a slice, the rules by
// which one follows another within an epoch, and the judgement of a source's oplog when tailing begins again.
//
// A slice covers the positions after After up to Last: it holds every entry there that the namespace filter left, in
// order. Digests chain the slices, so that a foreign or repeated one is known. Any doubt ends the epoch: epochs are never
// spliced, a new one begins with its own snapshot.
package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// String is its hexadecimal form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether there is none.
func (d Digest) IsZero() bool { return d == Digest{} }

// EntryDigest is that of an entry's bytes as the source has them: two entries are one when position and digest agree.
func EntryDigest(raw []byte) Digest { return sha256.Sum256(raw) }

// Slice is the header of a slice: what the metadata hold and what travels with the bytes.
type Slice struct {
	Job   string
	Epoch int64
	// After is the position that the first entry directly follows in the source: Last of the slice before.
	After oplog.OpTime
	First oplog.OpTime // first position covered
	Last  oplog.OpTime // last position covered
	Count int64        // entries held; a filter may leave fewer than there are positions
	Bytes int64        // of the entries, uncompressed
	// LastEntry is the digest of the source's entry at Last: the proof when tailing begins again.
	LastEntry Digest
	Content   Digest // of the entries, uncompressed, one after another
	Prev      Digest // Sum of the slice before, zero for the first of an epoch
}

// What can be wrong with a slice. All but ErrDamaged end an epoch or call for the slices between; none may be papered over.
var (
	ErrDamaged = errors.New("damaged oplog slice")
	ErrGap     = errors.New("a part of the oplog is missing before this slice")
	ErrOverlap = errors.New("this slice overlaps what is stored")
	ErrSplice  = errors.New("this slice does not follow what is stored: its history is another one")
	ErrEpoch   = errors.New("this slice belongs to another job or epoch")
	ErrOrder   = errors.New("oplog entries out of order")
)

// Sum is the digest of the whole header, and by Content and Prev of everything up to here.
func (s *Slice) Sum() Digest { return sha256.Sum256(s.Encode()) }

// ID is the identity of a slice: a second one with the same ID is a repetition or a fault, never more data.
func (s *Slice) ID() string {
	return fmt.Sprintf("%s/%08x/%08x%08x", s.Job, s.Epoch, s.First.TS.T, s.First.TS.I)
}

// version is that of the format: FORMAT.md.
const version = 1

// Encode gives the header as BSON. The order of its fields is part of the format: Sum is over these bytes.
func (s *Slice) Encode() []byte {
	b := bsoncore.NewDocumentBuilder().AppendInt32("v", version).AppendString("job", s.Job).AppendInt64("epoch", s.Epoch)
	for _, o := range []struct {
		name string
		at   oplog.OpTime
	}{{"after", s.After}, {"first", s.First}, {"last", s.Last}} {
		b.AppendTimestamp(o.name, o.at.TS.T, o.at.TS.I).AppendInt64(o.name+"Term", o.at.Term)
	}
	b.AppendInt64("count", s.Count).AppendInt64("bytes", s.Bytes)
	b.AppendBinary("lastEntry", 0, s.LastEntry[:]).AppendBinary("content", 0, s.Content[:]).AppendBinary("prev", 0, s.Prev[:])
	return b.Build()
}

// Decode reads a header. Only bytes that Encode gives are one.
func Decode(b []byte) (*Slice, error) {
	s := &Slice{}
	n := 0
	err := oplog.Elements(b, func(key []byte, v bsoncore.Value) error {
		var ok bool
		n++
		switch string(key) {
		case "v":
			var v1 int32
			if v1, ok = v.Int32OK(); ok && v1 != version {
				return fmt.Errorf("%w: a header of version %d is unknown to this build", ErrDamaged, v1)
			}
		case "job":
			s.Job, ok = v.StringValueOK()
		case "epoch":
			s.Epoch, ok = v.Int64OK()
		case "after":
			s.After.TS.T, s.After.TS.I, ok = v.TimestampOK()
		case "afterTerm":
			s.After.Term, ok = v.Int64OK()
		case "first":
			s.First.TS.T, s.First.TS.I, ok = v.TimestampOK()
		case "firstTerm":
			s.First.Term, ok = v.Int64OK()
		case "last":
			s.Last.TS.T, s.Last.TS.I, ok = v.TimestampOK()
		case "lastTerm":
			s.Last.Term, ok = v.Int64OK()
		case "count":
			s.Count, ok = v.Int64OK()
		case "bytes":
			s.Bytes, ok = v.Int64OK()
		case "lastEntry":
			ok = digestOf(v, &s.LastEntry)
		case "content":
			ok = digestOf(v, &s.Content)
		case "prev":
			ok = digestOf(v, &s.Prev)
		default:
			return fmt.Errorf("%w: header field %q", ErrDamaged, key)
		}
		if !ok {
			return fmt.Errorf("%w: header field %q is a %s", ErrDamaged, key, v.Type)
		}
		return nil
	})
	switch {
	case errors.Is(err, oplog.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return nil, err
	case string(s.Encode()) != string(b):
		return nil, fmt.Errorf("%w: header of %d fields in another form", ErrDamaged, n)
	}
	return s, s.check()
}

// MarshalBSON is Encode: the header is kept in the one form its Sum is over.
func (s Slice) MarshalBSON() ([]byte, error) { return s.Encode(), nil }

// UnmarshalBSON is Decode.
func (s *Slice) UnmarshalBSON(b []byte) error {
	have, err := Decode(b)
	if err != nil {
		return err
	}
	*s = *have
	return nil
}

func digestOf(v bsoncore.Value, d *Digest) bool {
	_, b, ok := oplog.Binary(v)
	return ok && copy(d[:], b) == len(d) && len(b) == len(d)
}

// check finds what contradicts itself within the header.
func (s *Slice) check() error {
	switch {
	case s.Job == "" || s.Epoch <= 0:
		return fmt.Errorf("%w: no job or epoch", ErrDamaged)
	case s.First.IsZero() || s.Last.Before(s.First):
		return fmt.Errorf("%w: from %s to %s", ErrDamaged, s.First, s.Last)
	case !s.After.IsZero() && !s.After.Before(s.First):
		return fmt.Errorf("%w: it begins with %s, after %s", ErrDamaged, s.First, s.After)
	case s.Last.Term < s.First.Term || s.Count < 0 || s.Bytes < 0 || s.Count > s.Bytes/5:
		return fmt.Errorf("%w: %d entries in %d bytes, terms %d to %d", ErrDamaged, s.Count, s.Bytes, s.First.Term, s.Last.Term)
	case s.Content.IsZero() || s.LastEntry.IsZero():
		return fmt.Errorf("%w: digests are missing", ErrDamaged)
	}
	return nil
}

// Builder makes one slice from entries as they are read.
type Builder struct {
	s       Slice
	content []byte
}

// Begin starts the slice that follows a position: after is the last position covered so far, with the digest of the slice
// that ends there; both are zero for the first slice of an epoch.
func Begin(job string, epoch int64, after oplog.OpTime, prev Digest) *Builder {
	return &Builder{s: Slice{Job: job, Epoch: epoch, After: after, Prev: prev}}
}

// Add takes the next entry of the source and what the filter left of it; kept is nil where it left nothing.
func (b *Builder) Add(e *oplog.Entry, kept bson.Raw) error {
	last := b.s.Last
	if last.IsZero() {
		last = b.s.After
	}
	if !last.IsZero() {
		if !last.Before(e.At) {
			return fmt.Errorf("%w: %s after %s", ErrOrder, e.At, last)
		}
		if e.At.Term < last.Term {
			return fmt.Errorf("%w: the term goes back from %s to %s", ErrOrder, last, e.At)
		}
	}
	if b.s.First.IsZero() {
		b.s.First = e.At
	}
	b.s.Last, b.s.LastEntry = e.At, EntryDigest(e.Raw)
	if kept != nil {
		b.s.Count++
		b.content = append(b.content, kept...)
	}
	return nil
}

// Empty reports whether the slice covers nothing yet.
func (b *Builder) Empty() bool { return b.s.First.IsZero() }

// Finish gives the header and the entries. The builder is spent.
func (b *Builder) Finish() (*Slice, []byte, error) {
	if b.Empty() {
		return nil, nil, errors.New("a slice without entries")
	}
	b.s.Bytes, b.s.Content = int64(len(b.content)), sha256.Sum256(b.content)
	return &b.s, b.content, b.s.check()
}

// Open checks the entries of a slice against its header and calls each for every one. Nothing is called before the whole
// content is known to be what the header says.
func (s *Slice) Open(content []byte, each func(raw bson.Raw) error) error {
	if int64(len(content)) != s.Bytes || sha256.Sum256(content) != s.Content {
		return fmt.Errorf("%w: %s: content of %d bytes differs from its digest", ErrDamaged, s.ID(), len(content))
	}
	n := int64(0)
	last := s.After
	for rest := content; len(rest) > 0; n++ {
		if len(rest) < 5 {
			return fmt.Errorf("%w: %s: %d bytes left over", ErrDamaged, s.ID(), len(rest))
		}
		size := int64(binary.LittleEndian.Uint32(rest))
		if size < 5 || size > int64(len(rest)) {
			return fmt.Errorf("%w: %s: entry of %d bytes, %d are there", ErrDamaged, s.ID(), size, len(rest))
		}
		raw := bson.Raw(rest[:size:size])
		rest = rest[size:]
		v, _ := oplog.Lookup(raw, "ts")
		t, i, ok := v.TimestampOK()
		at := oplog.OpTime{TS: bson.Timestamp{T: t, I: i}}
		switch {
		case !ok:
			return fmt.Errorf("%w: %s: entry without ts", ErrDamaged, s.ID())
		case at.Before(s.First) || s.Last.Before(at) || (!last.IsZero() && !last.Before(at)):
			return fmt.Errorf("%w: %s: entry %s is out of place", ErrDamaged, s.ID(), at)
		}
		last = at
		if err := each(raw); err != nil {
			return err
		}
	}
	if n != s.Count {
		return fmt.Errorf("%w: %s: %d entries, the header says %d", ErrDamaged, s.ID(), n, s.Count)
	}
	return nil
}
