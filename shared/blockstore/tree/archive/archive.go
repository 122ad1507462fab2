// Package archive makes the file a person downloads: a tar, or tar.gz, of the files of a snapshot or of a folder, with a few small
// files of ours beside them, all under one folder. Equal input gives equal bytes, so an archive that is made again after a
// crash has the SHA-256 that was published. Names are pax names: any length, UTF-8.
package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

// File is something that goes into an archive.
type File struct {
	Path    string // with slashes, below Options.Top
	Size    int64
	Mode    uint32    // permission bits; 0 means 0600, or 0700 for a folder
	ModTime time.Time // zero means Options.Time; whole seconds are kept
	Dir     bool
	// Open gives the content: exactly Size bytes.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Options of Write and Size.
type Options struct {
	Top   string    // the folder all files are in, without a slash at the end; "" for none
	Time  time.Time // of files that have none, and of Top; required
	Gzip  bool      // a .tar.gz
	Level int       // of gzip, 1 to 9; 0 means 1: heads hold compressed pages already
	// Workers compress at a time; 0 means the number of processors. The bytes do not depend on it.
	Workers int
	// Progress hears how many bytes of files are done; may be nil.
	Progress func(done int64)
}

// Result is what was written.
type Result struct {
	Size   int64             // of the archive
	SHA256 [sha256.Size]byte // of the archive
	Files  int64
	Bytes  int64 // of the files
}

// ErrChanged says that a file had not the size that was said. The archive is of no use.
var ErrChanged = errors.New("archive: a file changed while it was being read")

// Small makes a file of content that is in memory.
func Small(path string, content []byte) File {
	return File{Path: path, Size: int64(len(content)), Mode: 0o644, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(&sliceReader{content}), nil
	}}
}

type sliceReader struct{ b []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// Snapshot lists the files of a snapshot; only chooses among them, nil means all.
func Snapshot(s blockstore.Store, m *tree.Manifest, only func(path string) bool) ([]File, error) {
	view, err := tree.NewView(s, m)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	var files []File
	for i := range m.Files {
		f := &m.Files[i]
		if only != nil && !only(f.Path) {
			continue
		}
		files = append(files, File{Path: f.Path, Size: f.Size, Mode: f.Mode, ModTime: f.Time(), Dir: f.Dir, Open: func(ctx context.Context) (io.ReadCloser, error) {
			r, err := view.Open(ctx, f.Path)
			if err != nil {
				return nil, err
			}
			return &fileReader{SectionReader: io.NewSectionReader(r, 0, r.Size()), Closer: r}, nil
		}})
	}
	return files, nil
}

type fileReader struct {
	*io.SectionReader
	io.Closer
}

// Folder lists the regular files below a folder; only chooses among them, nil means all. root must stay open until Write is done.
func Folder(root *os.Root, only func(path string) bool) ([]File, error) {
	var files []File
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || only != nil && !only(p) {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file", p)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, File{Path: p, Size: info.Size(), Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime(), Open: func(context.Context) (io.ReadCloser, error) {
			return root.Open(p)
		}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	return files, nil
}

// sorted checks files and puts them in the order of their paths.
func sorted(files []File, o Options) ([]File, error) {
	if o.Time.IsZero() {
		return nil, errors.New("archive: no time is given")
	}
	if o.Top != "" && (!fs.ValidPath(o.Top) || o.Top == ".") {
		return nil, fmt.Errorf("archive: the folder %q", o.Top)
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i := range files {
		f := &files[i]
		if !fs.ValidPath(f.Path) || f.Path == "." || f.Size < 0 {
			return nil, fmt.Errorf("archive: the file %.200q", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, fmt.Errorf("archive: %.200q is there twice", f.Path)
		}
	}
	return files, nil
}

// header is the same for the same file, wherever and whenever it is written.
func header(f *File, o Options) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(o.Top, f.Path), Size: f.Size, Mode: int64(f.Mode), ModTime: f.ModTime, Format: tar.FormatPAX}
	if f.Dir {
		h.Typeflag, h.Size = tar.TypeDir, 0
		h.Name += "/"
	}
	if h.Mode == 0 {
		h.Mode = 0o600
		if f.Dir {
			h.Mode = 0o700
		}
	}
	if h.ModTime.IsZero() {
		h.ModTime = o.Time
	}
	h.ModTime = h.ModTime.UTC().Truncate(time.Second)
	return h
}

func top(o Options) *tar.Header {
	return header(&File{Path: "", Dir: true, Mode: 0o755}, o)
}

// Size is how many bytes Write will make of these files without gzip.
func Size(files []File, o Options) (int64, error) {
	o.Gzip = false
	n := &counter{}
	w := tar.NewWriter(n)
	files, err := sorted(files, o)
	if err != nil {
		return 0, err
	}
	if o.Top != "" {
		if err := w.WriteHeader(top(o)); err != nil {
			return 0, fmt.Errorf("archive: %w", err)
		}
	}
	for i := range files {
		h := header(&files[i], o)
		padded := (h.Size + 511) / 512 * 512
		// The header alone: a writer that is told of no content asks for none. A size of 8 GiB and more makes a pax record, so the
		// header is measured with its size, by a writer that is thrown away.
		one := &counter{}
		if err := tar.NewWriter(one).WriteHeader(h); err != nil {
			return 0, fmt.Errorf("archive: %s: %w", files[i].Path, err)
		}
		n.n += one.n + padded
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("archive: %w", err)
	}
	return n.n, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// Write streams an archive of files. They are put in the order of their paths.
func Write(ctx context.Context, w io.Writer, files []File, o Options) (Result, error) {
	files, err := sorted(files, o)
	if err != nil {
		return Result{}, err
	}
	sum := &summer{w: w, h: sha256.New()}
	var out io.Writer = sum
	var zip *gzipWriter
	if o.Gzip {
		zip = newGzip(ctx, sum, o)
		defer zip.stop()
		out = zip
	}
	a := &archiver{tw: tar.NewWriter(out), o: o, buf: make([]byte, 1<<20)}
	if err := a.all(ctx, files); err != nil {
		return Result{}, fmt.Errorf("archive: %w", err)
	}
	if zip != nil {
		if err := zip.Close(); err != nil {
			return Result{}, fmt.Errorf("archive: %w", err)
		}
	}
	r := Result{Size: sum.n, Files: a.files, Bytes: a.bytes}
	sum.h.Sum(r.SHA256[:0])
	return r, nil
}

type archiver struct {
	tw           *tar.Writer
	o            Options
	buf          []byte
	files, bytes int64
}

func (a *archiver) all(ctx context.Context, files []File) error {
	if a.o.Top != "" {
		if err := a.tw.WriteHeader(top(a.o)); err != nil {
			return err
		}
	}
	for i := range files {
		if err := a.file(ctx, &files[i]); err != nil {
			return fmt.Errorf("%s: %w", files[i].Path, err)
		}
	}
	return a.tw.Close()
}

func (a *archiver) file(ctx context.Context, f *File) error {
	if err := a.tw.WriteHeader(header(f, a.o)); err != nil {
		return err
	}
	if f.Dir {
		return nil
	}
	r, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	for left := f.Size; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, a.buf[:min(int64(len(a.buf)), left+1)]) // one more, to see that it ends
		if int64(n) > left || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(err, changedIf(int64(n) > left))
		}
		if _, werr := a.tw.Write(a.buf[:n]); werr != nil {
			return werr
		}
		left -= int64(n)
		a.bytes += int64(n)
		if a.o.Progress != nil {
			a.o.Progress(a.bytes)
		}
		if err != nil {
			a.files++
			return changedIf(left > 0)
		}
	}
}

func changedIf(changed bool) error {
	if changed {
		return ErrChanged
	}
	return nil
}

// summer hashes and counts what it passes on.
type summer struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}
