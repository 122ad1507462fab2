package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The journal is a folder of numbered generations. snapshot-N holds a whole state, journal-N the changes after it (and
// after journal-N's predecessors without a snapshot of their own). Both are sequences of frames: length, CRC-32 (Castagnoli)
// and that many bytes of changes. A frame cut short at the end of the newest journal was never acknowledged and is cut off.
// Opening replays the newest snapshot and every journal from its number on; older files are deleted.

var errBadJournal = errors.New("journal is damaged")

// rotateAt is the size of a journal that starts a new generation.
const rotateAt = 256 << 20

// maxFrame bounds one frame.
const maxFrame = 1 << 30

// Journal keeps a state's changes on disk. Its methods are safe for concurrent use.
type Journal struct {
	dir    string
	noSync bool

	mu   sync.Mutex // guards buf and seq
	buf  []byte
	seq  uint64
	size int64

	io      sync.Mutex // held while writing to the file
	f       *os.File
	gen     int
	written uint64
	synced  uint64
	err     error
	bg      sync.WaitGroup
}

// OpenJournal replays what the folder holds into s and opens the journal for more.
func OpenJournal(dir string, s *State, noSync bool) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open dbpath: %w", err)
	}
	snaps, journals, err := generations(dir)
	if err != nil {
		return nil, fmt.Errorf("open dbpath: %w", err)
	}
	gen := 0
	if len(snaps) > 0 {
		gen = snaps[len(snaps)-1]
		if _, err := replayFile(filepath.Join(dir, fileName("snapshot", gen)), s, false); err != nil {
			return nil, err
		}
	}
	first := gen
	for i, g := range journals {
		if g < first {
			continue
		}
		last := i == len(journals)-1
		good, err := replayFile(filepath.Join(dir, fileName("journal", g)), s, last)
		if err != nil {
			return nil, err
		}
		if last {
			if err := os.Truncate(filepath.Join(dir, fileName("journal", g)), good); err != nil {
				return nil, fmt.Errorf("cut journal: %w", err)
			}
		}
		gen = g
	}
	j := &Journal{dir: dir, noSync: noSync, gen: gen}
	j.f, err = os.OpenFile(filepath.Join(dir, fileName("journal", gen)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if fi, err := j.f.Stat(); err == nil {
		j.size = fi.Size()
	}
	j.clean(first)
	return j, nil
}

func fileName(kind string, gen int) string { return fmt.Sprintf("%s-%08d", kind, gen) }

func generations(dir string) (snaps, journals []int, err error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range es {
		kind, num, ok := strings.Cut(e.Name(), "-")
		n, err := strconv.Atoi(num)
		if !ok || err != nil {
			continue
		}
		switch kind {
		case "snapshot":
			snaps = append(snaps, n)
		case "journal":
			journals = append(journals, n)
		}
	}
	slices.Sort(snaps)
	slices.Sort(journals)
	return snaps, journals, nil
}

// clean deletes generations before gen and unfinished snapshots.
func (j *Journal) clean(gen int) {
	snaps, journals, _ := generations(j.dir)
	for _, g := range snaps {
		if g < gen {
			_ = os.Remove(filepath.Join(j.dir, fileName("snapshot", g)))
		}
	}
	for _, g := range journals {
		if g < gen {
			_ = os.Remove(filepath.Join(j.dir, fileName("journal", g)))
		}
	}
	tmps, _ := filepath.Glob(filepath.Join(j.dir, "*.tmp"))
	for _, t := range tmps {
		_ = os.Remove(t)
	}
}

// replayFile applies a file's frames and says how many bytes were good. A cut tail is an error unless tailOK.
func replayFile(path string, s *State, tailOK bool) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, 1<<20)
	var good int64
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) || (tailOK && errors.Is(err, io.ErrUnexpectedEOF)) {
				return good, nil
			}
			return good, fmt.Errorf("read %s: %w", filepath.Base(path), err)
		}
		n, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
		if n > maxFrame {
			if tailOK {
				return good, nil
			}
			return good, fmt.Errorf("read %s at %d: %w", filepath.Base(path), good, errBadJournal)
		}
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		if err != nil || crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != sum {
			if tailOK {
				return good, nil
			}
			return good, fmt.Errorf("read %s at %d: %w", filepath.Base(path), good, errBadJournal)
		}
		if err := s.Replay(b); err != nil {
			return good, fmt.Errorf("replay %s at %d: %w", filepath.Base(path), good, err)
		}
		good += int64(len(head)) + int64(n)
	}
}

func frame(dst, b []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return append(dst, b...)
}

// Append hands over one batch of changes and gives the number to wait for. The caller serialises calls; the order of
// calls is the order on disk.
func (j *Journal) Append(b []byte) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.buf = frame(j.buf, b)
	j.seq++
	return j.seq
}

// Wait returns when the batch is in the file, or with sync, on the disk. Waiters are served together by whoever comes first.
func (j *Journal) Wait(seq uint64, sync bool) error {
	j.io.Lock()
	defer j.io.Unlock()
	return j.flush(seq, sync && !j.noSync)
}

// flush writes what is buffered; io is held.
func (j *Journal) flush(seq uint64, sync bool) error {
	if j.err != nil {
		return j.err
	}
	if j.written < seq {
		j.mu.Lock()
		buf, upto := j.buf, j.seq
		j.buf = nil
		j.mu.Unlock()
		if _, err := j.f.Write(buf); err != nil {
			j.err = fmt.Errorf("write journal: %w", err)
			return j.err
		}
		j.size += int64(len(buf))
		j.written = upto
	}
	if sync && j.synced < seq {
		upto := j.written
		if err := j.f.Sync(); err != nil {
			j.err = fmt.Errorf("sync journal: %w", err)
			return j.err
		}
		j.synced = upto
	}
	return nil
}

// Full says that it is time to Rotate.
func (j *Journal) Full() bool {
	j.io.Lock()
	defer j.io.Unlock()
	return j.size > rotateAt
}

// Rotate starts a new generation: what is appended from now on goes to a new file, and a copy of the state as of now is
// written beside it in the background, after which older files go. The caller holds off Append meanwhile.
func (j *Journal) Rotate(s *State) error {
	j.io.Lock()
	defer j.io.Unlock()
	j.mu.Lock()
	seq := j.seq
	j.mu.Unlock()
	if err := j.flush(seq, !j.noSync); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(j.dir, fileName("journal", j.gen+1)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("new journal: %w", err)
	}
	_ = j.f.Close()
	j.f, j.gen, j.size = f, j.gen+1, 0
	gen, snap := j.gen, s.Clone()
	j.bg.Go(func() {
		if writeSnapshot(j.dir, gen, snap, j.noSync) == nil {
			j.clean(gen)
		}
	})
	return nil
}

func writeSnapshot(dir string, gen int, s *State, noSync bool) error {
	path := filepath.Join(dir, fileName("snapshot", gen))
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = s.dump(func(b []byte) error {
		_, err := w.Write(frame(nil, b))
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil && !noSync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = os.Remove(path + ".tmp")
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// Close writes a last snapshot of s, when clean, and closes the file.
func (j *Journal) Close(s *State, clean bool) error {
	j.bg.Wait()
	var err error
	if clean {
		if err = j.Rotate(s); err == nil {
			j.bg.Wait()
		}
	}
	j.io.Lock()
	defer j.io.Unlock()
	if j.err == nil {
		j.err = errors.New("journal is closed")
	}
	return errors.Join(err, j.f.Close())
}
