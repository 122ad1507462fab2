// Package spill keeps what transactions have written until they commit: in memory up to a limit, then in files.
package spill

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// MaxEntry bounds an entry of the oplog: documents of 16 MiB with what an entry and a transaction add.
const MaxEntry = 64 << 20

// Store keeps the entries of open transactions: in memory up to a limit, then the largest in files. The files serve one
// process: after a restart the entries are read again from the oplog.
type Store struct {
	dir   string
	limit int
	held  map[string]*kept
	size  int // of what is in memory
	files int // made so far
}

// kept is one transaction: what is in its file comes first.
type kept struct {
	file   string
	memory []bson.Raw
	size   int
}

var _ txn.Store = (*Store)(nil)

// New empties the folder, which is made when it is needed. limit is in bytes.
func New(dir string, limit int) (*Store, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty the folder of transactions: %w", err)
	}
	return &Store{dir: dir, limit: limit, held: map[string]*kept{}}, nil
}

// Append is txn.Store's.
func (s *Store) Append(key string, entry bson.Raw) error {
	k := s.held[key]
	if k == nil {
		k = &kept{}
		s.held[key] = k
	}
	k.memory = append(k.memory, entry)
	k.size += len(entry)
	s.size += len(entry)
	for s.size > s.limit {
		var largest *kept
		for _, k := range s.held {
			if largest == nil || k.size > largest.size {
				largest = k
			}
		}
		if err := s.write(largest); err != nil {
			return err
		}
	}
	return nil
}

// write moves a transaction's entries from memory to its file.
func (s *Store) write(k *kept) (err error) {
	if k.file == "" {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
		k.file = filepath.Join(s.dir, strconv.Itoa(s.files))
		s.files++
	}
	f, err := os.OpenFile(k.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	for _, e := range k.memory {
		_, _ = w.Write(e) // its error stays until Flush
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("spill a transaction: %w", err)
	}
	s.size -= k.size
	k.memory, k.size = nil, 0
	return nil
}

// Entries is txn.Store's.
func (s *Store) Entries(key string) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		k := s.held[key]
		if k == nil {
			return
		}
		if k.file != "" {
			f, err := os.Open(k.file)
			if err != nil {
				yield(nil, err)
				return
			}
			defer f.Close()
			r := bufio.NewReaderSize(f, 1<<18)
			for {
				doc, err := ReadDocument(r, MaxEntry)
				if errors.Is(err, io.EOF) {
					break
				}
				if !yield(doc, err) || err != nil {
					return
				}
			}
		}
		for _, e := range k.memory {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Drop is txn.Store's.
func (s *Store) Drop(key string) error {
	k := s.held[key]
	if k == nil {
		return nil
	}
	delete(s.held, key)
	s.size -= k.size
	if k.file == "" {
		return nil
	}
	return os.Remove(k.file)
}

// Close removes the files.
func (s *Store) Close() error { return os.RemoveAll(s.dir) }

// ReadDocument reads one BSON document; io.EOF is the end between two, io.ErrUnexpectedEOF the end within one. What is no
// document of at most limit bytes is oplog.ErrCorrupt.
func ReadDocument(r io.Reader, limit uint32) (bson.Raw, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 5 || n > limit {
		return nil, fmt.Errorf("%w: document of %d bytes", oplog.ErrCorrupt, n)
	}
	doc := append(make([]byte, 0, min(n, 1<<16)), head[:]...)
	for have := uint32(4); have < n; have = uint32(len(doc)) { // what it claims to be is not believed before it is there
		doc = slices.Grow(doc, int(min(n, 2*have+1<<16)-have))[:min(n, 2*have+1<<16)]
		if _, err := io.ReadFull(r, doc[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	if doc[n-1] != 0 {
		return nil, fmt.Errorf("%w: document without an end", oplog.ErrCorrupt)
	}
	return doc, nil
}
