package dump

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// Names of the files in a part.
const (
	catalogueName = "catalogue.bson"
	dataFolder    = "data/"
)

// Writer writes one part. It belongs to one goroutine.
type Writer struct {
	z     *zstd.Encoder
	tar   *tar.Writer
	name  string // of the run that is being gathered
	run   []byte
	bytes int64
}

// NewWriter begins a part.
func NewWriter(w io.Writer) (*Writer, error) {
	// The fastest level: what is written is read once, and heads share their machine with others.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("begin a part: %w", err)
	}
	return &Writer{z: z, tar: tar.NewWriter(z)}, nil
}

// window is the size of the window of zstd in bytes: what a reader needs as memory.
const window = 4 << 20

// Doc adds a document of the entry with that number.
func (w *Writer) Doc(number int64, doc bson.Raw) error {
	if number <= 0 || number > MaxEntries {
		return fmt.Errorf("write a part: %d is no number of an entry", number)
	}
	return w.add(dataFolder+strconv.FormatInt(number, 10), doc)
}

// Entry adds an entry of the catalogue.
func (w *Writer) Entry(e *Entry) error {
	doc, err := bson.Marshal(e)
	if err != nil {
		return fmt.Errorf("write the catalogue: %s: %w", e.NS, err)
	}
	return w.add(catalogueName, doc)
}

func (w *Writer) add(name string, doc bson.Raw) error {
	if n, err := docSize(doc); err != nil || n != len(doc) {
		return fmt.Errorf("write a part: %d bytes for %s are no document", len(doc), name)
	}
	if name != w.name {
		if err := w.flush(); err != nil {
			return err
		}
		w.name = name
	}
	w.run = append(w.run, doc...)
	w.bytes += int64(len(doc))
	if len(w.run) >= RunBytes {
		return w.flush()
	}
	return nil
}

func (w *Writer) flush() error {
	if len(w.run) == 0 {
		return nil
	}
	err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: w.name, Mode: 0o600, Size: int64(len(w.run)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.tar.Write(w.run)
	}
	w.run = w.run[:0]
	return err
}

// Bytes is how many bytes of documents were added.
func (w *Writer) Bytes() int64 { return w.bytes }

// Close ends the part. What it was written to stays open.
func (w *Writer) Close() error {
	return errors.Join(w.flush(), w.tar.Close(), w.z.Close())
}

// ErrBad is in the chain of errors about parts that are not what the format says.
var ErrBad = errors.New("not a part of a push")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Run is a piece of a part: documents one after another, each of the length that it says.
type Run struct {
	Number int64 // of the entry; 0: these are entries of the catalogue
	Docs   []byte
}

// Each calls a function for every document. They share the run's memory.
func (r *Run) Each(each func(doc bson.Raw) error) error {
	for rest := r.Docs; len(rest) > 0; {
		n, err := docSize(rest)
		if err != nil {
			return err
		}
		if err := each(bson.Raw(rest[:n:n])); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// docSize is the length of the document that bytes begin with.
func docSize(b []byte) (int, error) {
	if len(b) < 5 {
		return 0, bad("%d bytes are no document", len(b))
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n < 5 || n > MaxDoc || n > int64(len(b)) || b[n-1] != 0 {
		return 0, bad("a document claims %d bytes, %d are there", n, len(b))
	}
	return int(n), nil
}

// Reader reads one part. It belongs to one goroutine, and takes memory for one run and the window of zstd.
type Reader struct {
	z   *zstd.Decoder
	tar *tar.Reader
}

// NewReader begins to read a part.
func NewReader(r io.Reader) (*Reader, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(2*window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("read a part: %w", err)
	}
	return &Reader{z: z, tar: tar.NewReader(z)}, nil
}

// Close gives memory back.
func (r *Reader) Close() { r.z.Close() }

// Next gives the next run, in memory of its own, and io.EOF after the last. Runs of entries that keep refuses (by number) are
// passed over; nil takes all. Errors about the content have ErrBad in their chain.
func (r *Reader) Next(keep func(number int64) bool) (Run, error) {
	for {
		h, err := r.tar.Next()
		if errors.Is(err, io.EOF) {
			return Run{}, io.EOF
		}
		if err != nil {
			return Run{}, bad("%v", err)
		}
		run, err := runOf(h)
		if err != nil {
			return Run{}, err
		}
		if run.Number > 0 && keep != nil && !keep(run.Number) {
			continue
		}
		// Not at once as much as the header claims: memory grows with what is there.
		content, err := io.ReadAll(io.LimitReader(r.tar, h.Size))
		if err == nil && int64(len(content)) != h.Size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return Run{}, bad("%v", err)
		}
		run.Docs = content
		if err := run.Each(func(bson.Raw) error { return nil }); err != nil {
			return Run{}, err
		}
		return run, nil
	}
}

func runOf(h *tar.Header) (Run, error) {
	if h.Typeflag != tar.TypeReg || h.Size < 5 || h.Size > MaxRun {
		return Run{}, bad("a file of %d bytes", h.Size)
	}
	if h.Name == catalogueName {
		return Run{}, nil
	}
	text, ok := strings.CutPrefix(h.Name, dataFolder)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || n <= 0 || n > MaxEntries || strconv.FormatInt(n, 10) != text {
		return Run{}, bad("a file %q", h.Name[:min(len(h.Name), 100)])
	}
	return Run{Number: n}, nil
}

// Entries reads the entries of a run of the catalogue, for a push with that many objects.
func (r *Run) Entries(parts int) ([]Entry, error) {
	var out []Entry
	err := r.Each(func(doc bson.Raw) error {
		var e Entry
		if err := bson.Unmarshal(doc, &e); err != nil {
			return bad("the catalogue: %v", err)
		}
		if err := e.Check(parts); err != nil {
			return fmt.Errorf("%w: %w", ErrBad, err)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// MarshalSize is about how many bytes an entry takes in the catalogue.
func (e *Entry) MarshalSize() int64 {
	n := 200 + len(e.NS) + len(e.Options) + len(e.IDIndex)
	for _, x := range e.Indexes {
		n += len(x) + 16
	}
	return int64(n)
}
