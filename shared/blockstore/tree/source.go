package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// scan lists the files below a root, ascending by path, with what the system says of them.
func scan(root *os.Root, skip func(string) bool) ([]image.File, error) {
	var files []image.File
	empty := map[string]bool{} // folders in which nothing was found yet
	err := fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == "." {
			return nil
		}
		if skip != nil && skip(path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		delete(empty, parent(path))
		if d.IsDir() {
			empty[path] = true
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file", path)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := image.File{Path: path, Size: info.Size(), Mode: uint32(info.Mode().Perm()), Inode: inode(info)}
		image.SetTime(&f, info.ModTime())
		files = append(files, f)
		if len(files) > image.MaxFiles {
			return fmt.Errorf("more than %d files", image.MaxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	for path := range empty {
		info, err := root.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("list files: %w", err)
		}
		f := image.File{Path: path, Dir: true, Mode: uint32(info.Mode().Perm())}
		image.SetTime(&f, info.ModTime())
		files = append(files, f)
	}
	sortFiles(files)
	return files, nil
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return ""
}

// source is a file that is being read, and the map that comes out of it. Several readers share it.
type source struct {
	f      *image.File
	file   *os.File
	old    *image.Finder // of the last snapshot; nil when the file is new
	blocks int64
	oldN   int64
	users  atomic.Int64

	mu    sync.Mutex
	refs  []page.Entry // of the leaf pages
	packs []string     // of refs
	open  int          // leaf pages that have no place yet
}

func (w *writer) open(f *image.File, old *image.File) (*source, error) {
	file, err := w.root.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	s := &source{f: f, file: file, blocks: f.Blocks(w.o.BlockSize)}
	s.users.Store(1)
	if err := s.unchanged(); err != nil {
		_ = file.Close()
		return nil, err
	}
	if old != nil {
		s.oldN = old.Blocks(w.o.BlockSize)
		s.old = image.NewFinder(w.old, old.Root, s.oldN)
	}
	n := s.leaves()
	s.refs, s.packs, s.open = make([]page.Entry, n), make([]string, n), n
	return s, nil
}

// leaves is the number of leaf pages of the file's map.
func (s *source) leaves() int { return int((s.blocks + page.Fanout - 1) / page.Fanout) }

func (s *source) use() { s.users.Add(1) }

// release closes the file after its last reader; then it must be as it was when it was listed.
func (s *source) release(w *writer) error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	err := errors.Join(s.unchanged(), s.file.Close())
	w.progress.Add(1, 0, 0)
	return err
}

// unchanged compares the file with what was listed.
func (s *source) unchanged() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if info.Size() != s.f.Size || !info.ModTime().Equal(s.f.Time()) {
		return fmt.Errorf("%w: %s", image.ErrChanged, s.f.Path)
	}
	return nil
}
