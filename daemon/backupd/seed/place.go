package seed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// The place is a log of the slices that are in the head: fixed records of a UUID, the slice's number, its
// documents and bytes, and a checksum. A record of zeros with number -1 says that all is done.
const placeFile = "seed.log"

const recordSize = 16 + 8 + 8 + 8 + 4

// place is where a seeding is.
type place struct {
	mu       sync.Mutex
	f        *os.File
	finished bool
	had      map[oplog.UUID]*reached // by earlier runs
}

// reached is what earlier runs put into a collection.
type reached struct {
	slices map[int64][2]int64 // documents and bytes
}

func openPlace(dir string) (*place, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, placeFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p := &place{had: map[oplog.UUID]*reached{}}
	whole := p.read(bufio.NewReader(bytes.NewReader(b)))
	if p.f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	// A torn record at the end is written over.
	if _, err = p.f.Seek(whole, io.SeekStart); err == nil {
		err = p.f.Truncate(whole)
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(dir); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.f.Close())
	}
	return p, nil
}

// read takes whole records and says how many bytes they are.
func (p *place) read(r io.Reader) (whole int64) {
	var rec [recordSize]byte
	for {
		if _, err := io.ReadFull(r, rec[:]); err != nil || crc32.ChecksumIEEE(rec[:recordSize-4]) != binary.LittleEndian.Uint32(rec[recordSize-4:]) {
			return whole
		}
		whole += recordSize
		n := int64(binary.LittleEndian.Uint64(rec[16:]))
		if n < 0 {
			p.finished = true
			continue
		}
		id := oplog.UUID(rec[:16])
		if p.had[id] == nil {
			p.had[id] = &reached{slices: map[int64][2]int64{}}
		}
		p.had[id].slices[n] = [2]int64{int64(binary.LittleEndian.Uint64(rec[24:])), int64(binary.LittleEndian.Uint64(rec[32:]))}
	}
}

// of says from which slice on a collection is to be filled, and what is there before it. Slices that were done after one
// that was not are done again.
func (p *place) of(id oplog.UUID) (first, docs, bytes int64) {
	r := p.had[id]
	if r == nil {
		return 0, 0, 0
	}
	for {
		s, ok := r.slices[first]
		if !ok {
			return first, docs, bytes
		}
		first, docs, bytes = first+1, docs+s[0], bytes+s[1]
	}
}

// done notes a slice; it is on disk when done returns.
func (p *place) done(id oplog.UUID, number, docs, bytes int64) error {
	var rec [recordSize]byte
	copy(rec[:], id[:])
	binary.LittleEndian.PutUint64(rec[16:], uint64(number))
	binary.LittleEndian.PutUint64(rec[24:], uint64(docs))
	binary.LittleEndian.PutUint64(rec[32:], uint64(bytes))
	binary.LittleEndian.PutUint32(rec[recordSize-4:], crc32.ChecksumIEEE(rec[:recordSize-4]))
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.f.Write(rec[:])
	if err = errors.Join(err, p.f.Sync()); err != nil {
		return fmt.Errorf("note a slice: %w", err)
	}
	return nil
}

// finish notes that all is done.
func (p *place) finish() error { return p.done(oplog.UUID{}, -1, 0, 0) }

func (p *place) close() { _ = p.f.Close() }
