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
	"sync/atomic"
)

// A dbpath holds:
//
//	_mdb_catalog.sim           what collections there are, with the file and its length of each; replaced at every checkpoint
//	collection-N.sim           one collection's documents; appended to at checkpoints and begun anew, under another number,
//	                           when most of it is dead, so that a copy differs from the one before where documents changed
//	journal/journal-N          the changes since the checkpoint, in numbered generations
//
// All are sequences of frames: length, CRC-32 (Castagnoli) and that many bytes. A frame cut short at the end of the newest
// journal was never acknowledged and is cut off. Opening reads the catalog, of each collection's file as much as the catalog
// says, and replays every journal from the catalog's generation on; whatever else is there was left by a crash and is deleted.
// After a clean stop the folder journal is empty but for an empty file and may be missing from a copy.

var (
	errBadJournal = errors.New("journal is damaged")
	// errBadFrame is a frame that is cut short or not what was written.
	errBadFrame = fmt.Errorf("%w: bad frame", errBadJournal)
)

// rotateAt is the size of a journal that starts a new generation.
const rotateAt = 256 << 20

// maxFrame bounds one frame.
const maxFrame = 1 << 30

// JournalOptions say how a journal keeps a state.
type JournalOptions struct {
	NoSync bool // do not wait for the disk
	PerDB  bool // a folder for each database
}

// journalDir is the folder of the changes since the checkpoint.
const journalDir = "journal"

// Journal keeps a state's changes on disk. Its methods are safe for concurrent use.
type Journal struct {
	dir string
	o   JournalOptions

	mu  sync.Mutex // guards buf and seq
	buf []byte
	seq uint64

	io      sync.Mutex // held while writing to the journal
	f       *os.File
	gen     int
	size    int64
	written uint64
	synced  uint64
	err     error

	bg       sync.WaitGroup // the running checkpoint
	busy     atomic.Bool
	replayed bool // opening found changes that no checkpoint had
	files
}

// OpenJournal reads what the folder holds into s and opens the journal for more.
func OpenJournal(dir string, s *State, o JournalOptions) (*Journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, journalDir), 0o755); err != nil {
		return nil, fmt.Errorf("open dbpath: %w", err)
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "snapshot-????????")); len(old) > 0 {
		return nil, fmt.Errorf("open dbpath: %s is of an earlier simulator: delete the folder's content", filepath.Base(old[0]))
	}
	j := &Journal{dir: dir, o: o, files: files{dir: dir, o: o, byUUID: map[[16]byte]*file{}}}
	gen, err := j.load(s)
	if err != nil {
		return nil, fmt.Errorf("open dbpath: %w", err)
	}
	journals, err := j.generations()
	if err != nil {
		return nil, fmt.Errorf("open dbpath: %w", err)
	}
	j.gen = gen
	for i, g := range journals {
		if g < gen {
			continue
		}
		last := i == len(journals)-1
		good, err := replayFile(j.path(g), last, s.Replay)
		if err != nil {
			return nil, err
		}
		if last {
			if err := os.Truncate(j.path(g), good); err != nil {
				return nil, fmt.Errorf("cut journal: %w", err)
			}
		}
		j.gen, j.replayed = g, j.replayed || good > 0
	}
	j.f, err = os.OpenFile(j.path(j.gen), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if fi, err := j.f.Stat(); err == nil {
		j.size = fi.Size()
	}
	j.cleanJournals(gen)
	return j, nil
}

func (j *Journal) path(gen int) string {
	return filepath.Join(j.dir, journalDir, fmt.Sprintf("journal-%08d", gen))
}

// generations lists the journals there are, in order.
func (j *Journal) generations() ([]int, error) {
	es, err := os.ReadDir(filepath.Join(j.dir, journalDir))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range es {
		kind, num, ok := strings.Cut(e.Name(), "-")
		if n, err := strconv.Atoi(num); ok && err == nil && kind == "journal" {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// cleanJournals deletes generations before gen. One that stays is deleted at the next opening.
func (j *Journal) cleanJournals(gen int) {
	journals, _ := j.generations()
	for _, g := range journals {
		if g < gen {
			_ = os.Remove(j.path(g))
		}
	}
}

// replayFile hands a file's frames to apply and says how many bytes were good. A cut tail is an error unless tailOK.
func replayFile(path string, tailOK bool, apply func([]byte) error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	good, err := replayFrames(bufio.NewReaderSize(f, 1<<20), fi.Size(), apply)
	if err != nil && (!tailOK || !errors.Is(err, errBadFrame)) {
		return good, fmt.Errorf("read %s at %d: %w", filepath.Base(path), good, err)
	}
	return good, nil
}

// replayFrames hands the frames of size bytes to apply and says how many bytes were good.
func replayFrames(r io.Reader, size int64, apply func([]byte) error) (good int64, err error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return good, nil
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return good, errBadFrame
		} else if err != nil {
			return good, err
		}
		n, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
		if n > maxFrame || int64(n) > size-good-int64(len(head)) {
			return good, errBadFrame
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return good, err
		}
		if crc32.Checksum(b, castagnoli) != sum {
			return good, errBadFrame
		}
		if err := apply(b); err != nil {
			return good, err
		}
		good += int64(len(head)) + int64(n)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // read only

func frame(dst, b []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(b, castagnoli))
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
	return j.flush(seq, sync && !j.o.NoSync)
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
	return j.size > rotateAt && !j.busy.Load()
}

// Rotate starts a checkpoint: what is appended from now on goes to a new generation, and what changed up to now goes to the
// collections' files in the background, after which the generations before are deleted. The caller holds off Append
// meanwhile. While a checkpoint runs it does nothing.
func (j *Journal) Rotate(s *State) error {
	if j.busy.Load() {
		return nil
	}
	j.io.Lock()
	defer j.io.Unlock()
	j.mu.Lock()
	seq := j.seq
	j.mu.Unlock()
	if err := j.flush(seq, !j.o.NoSync); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path(j.gen+1), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("new journal: %w", err)
	}
	_ = j.f.Close()
	j.f, j.gen, j.size = f, j.gen+1, 0
	for u, rids := range s.takeTouched() {
		j.pending[u] = append(j.pending[u], rids...)
	}
	gen, snap := j.gen, s.Clone()
	j.busy.Store(true)
	j.bg.Go(func() {
		defer j.busy.Store(false)
		if j.failed = j.save(gen, snap); j.failed == nil {
			j.cleanJournals(gen)
		}
	})
	return nil
}

// Checkpoint rotates and waits until everything up to now is in the collections' files. The caller holds off Append.
func (j *Journal) Checkpoint(s *State) error {
	j.bg.Wait()
	if err := j.Rotate(s); err != nil {
		return err
	}
	j.bg.Wait()
	return j.failed
}

// idle says that nothing changed since the checkpoint.
func (j *Journal) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.io.Lock()
	defer j.io.Unlock()
	return j.size == 0 && len(j.buf) == 0 && len(j.pending) == 0 && j.saved && !j.replayed
}

// Close makes a last checkpoint of s, when clean, and closes the file.
func (j *Journal) Close(s *State, clean bool) error {
	j.bg.Wait()
	var err error
	if clean && !j.idle() {
		err = j.Checkpoint(s)
	}
	j.io.Lock()
	defer j.io.Unlock()
	if j.err == nil {
		j.err = errors.New("journal is closed")
	}
	return errors.Join(err, j.f.Close())
}
