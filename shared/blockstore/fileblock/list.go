package fileblock

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// namesAtOnce is how many names of a folder are read at a time: memory does not grow with the folder.
const namesAtOnce = 4096

// List implements blockstore.Store. It walks folders in the order of keys, in which a folder stands where its name with a slash
// does ("a-b" < "a/x" < "a0"), and enters only those that can hold what is asked for.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := errors.Join(blockstore.ValidPrefix(prefix), blockstore.ValidPrefix(after)); err != nil {
		return nil, err
	}
	w := &walk{ctx: ctx, store: s, prefix: prefix, after: after, limit: blockstore.Limit(limit)}
	dir := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
	}
	if err := w.folder(dir); err != nil {
		return nil, s.fail("list", prefix, err)
	}
	return w.found, nil
}

type walk struct {
	ctx           context.Context //nolint:containedctx // lives as long as one List
	store         *Store
	prefix, after string
	limit         int
	found         []blockstore.Object
}

// folder adds what a folder holds, in order, until the limit.
func (w *walk) folder(dir string) error {
	from := "" // the last name that was handled
	for len(w.found) < w.limit {
		want := w.limit - len(w.found)
		names, err := w.names(dir, from, want)
		if missing(err) {
			return nil // gone since it was seen
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := w.entry(dir, name); err != nil {
				return err
			}
			if len(w.found) == w.limit {
				return nil
			}
		}
		if len(names) < want {
			return nil
		}
		from = names[len(names)-1]
	}
	return nil
}

func (w *walk) entry(dir, name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	key := path.Join(dir, name)
	if strings.HasSuffix(name, "/") {
		return w.folder(key)
	}
	info, err := w.store.root.Lstat(key)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	w.found = append(w.found, object(key, info))
	return nil
}

// names are the n smallest entries of a folder after from that can matter; those of folders end in a slash. The folder is read in
// pieces and only the smallest are kept: a folder may hold millions.
func (w *walk) names(dir, from string, n int) ([]string, error) {
	d, err := w.store.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	lead := ""
	if dir != "." {
		lead = dir + "/"
	}
	var smallest largestFirst
	for {
		entries, err := d.ReadDir(namesAtOnce)
		for _, e := range entries {
			name, ok := entryName(e)
			if !ok || name <= from || !w.matters(lead+name, e.IsDir()) {
				continue
			}
			switch {
			case len(smallest) < n:
				heap.Push(&smallest, name)
			case name < smallest[0]:
				smallest[0] = name
				heap.Fix(&smallest, 0)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.Sort(smallest)
	return smallest, nil
}

// entryName is the name to sort by; what is no object and no folder of objects is passed over.
func entryName(e fs.DirEntry) (string, bool) {
	name := e.Name()
	switch {
	case blockstore.ValidKey(name) != nil:
		return "", false
	case e.IsDir():
		return name + "/", true
	}
	return name, e.Type().IsRegular()
}

// matters reports whether an object, or anything in a folder, can be under the prefix and after the last key.
func (w *walk) matters(key string, folder bool) bool {
	if !folder {
		return key > w.after && strings.HasPrefix(key, w.prefix)
	}
	if !strings.HasPrefix(key, w.prefix) && !strings.HasPrefix(w.prefix, key) {
		return false
	}
	return key > w.after || strings.HasPrefix(w.after, key)
}

// largestFirst is a heap of names.
type largestFirst []string

func (h largestFirst) Len() int           { return len(h) }
func (h largestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h largestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *largestFirst) Push(x any) { *h = append(*h, x.(string)) }

// Pop implements heap.Interface.
func (h *largestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// Clean implements blockstore.Cleaner: temporary files that nobody has written to since before.
func (s *Store) Clean(ctx context.Context, before time.Time) (blockstore.Cleaned, error) {
	var done blockstore.Cleaned
	err := s.clean(ctx, ".", before, &done)
	if err != nil {
		return done, s.fail("clean", ".", err)
	}
	return done, nil
}

func (s *Store) clean(ctx context.Context, dir string, before time.Time, done *blockstore.Cleaned) error {
	d, err := s.root.Open(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	for {
		entries, err := d.ReadDir(namesAtOnce)
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir() && blockstore.ValidKey(e.Name()) == nil:
				err = errors.Join(s.clean(ctx, name, before, done), err)
			case strings.HasPrefix(e.Name(), temporary):
				err = errors.Join(s.leftover(name, before, done), err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *Store) leftover(name string, before time.Time, done *blockstore.Cleaned) error {
	info, err := s.root.Lstat(name)
	if missing(err) || err == nil && !info.ModTime().Before(before) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.root.Remove(name); err != nil {
		if missing(err) {
			return nil
		}
		return fmt.Errorf("remove %s: %w", name, err)
	}
	done.Leftovers++
	done.Bytes += info.Size()
	return nil
}
