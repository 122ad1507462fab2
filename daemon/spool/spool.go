// Package spool is the queue on disk that agents send through: what is appended stays, in order, until it is acknowledged,
// across restarts and kills. It is bounded: beyond its size the oldest records are dropped, and counted. When the disk takes
// nothing it goes on in memory up to a bound.
//
// Appended records are handed to the operating system before Append returns, so they survive the death of the process; only
// whole segments are synced, so the loss of power may cost the newest ones. Records may be read again after a crash: whatever
// receives them must not mind.
package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// Options configure a spool.
type Options struct {
	Dir         string // made when absent; one spool a folder
	MaxBytes    int64  // on disk; 1 GiB when 0
	MaxMemory   int64  // while the disk is full; 16 MiB when 0
	SegmentSize int64  // 8 MiB, or an eighth of MaxBytes when that is less
	Log         *slog.Logger

	fsys fileSystem // tests only
}

// Stats are a spool's figures.
type Stats struct {
	Records  int64 // waiting
	Bytes    int64 // on disk
	Dropped  int64 // since Open: beyond a bound, or unreadable
	InMemory int64 // waiting in memory because the disk took nothing
}

// Spool is the queue. It is safe for concurrent use by any number of writers and one reader.
type Spool struct {
	dir         string
	maxBytes    int64
	maxMemory   int64
	segmentSize int64
	log         *slog.Logger
	fsys        fileSystem

	mu       sync.Mutex
	segments []segment // oldest first; the last one is written to while out is set
	out      file
	next     uint64 // sequence number of the next record on disk; records in memory follow it
	acked    uint64 // every record below is done with
	memory   [][]byte
	memBytes int64
	dropped  int64
	ailing   bool // the last write failed: said once
	closed   bool
	read     position
	arrived  chan struct{} // one token: something was appended
}

type segment struct {
	first uint64
	count uint64
	size  int64
}

func (s *segment) end() uint64 { return s.first + s.count }

// position is where a sequence number lies in a segment, so that reading on needs no walk from its start.
type position struct {
	seq    uint64
	first  uint64 // of the segment
	offset int64
}

// Batch is what Next read.
type Batch struct {
	Records [][]byte
	end     uint64
	at      position
}

// Open opens or makes the spool of a folder. The caller makes sure that no other process uses it.
func Open(o Options) (*Spool, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 16 << 20
	}
	if o.SegmentSize <= 0 {
		o.SegmentSize = min(8<<20, o.MaxBytes/8)
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.fsys == nil {
		o.fsys = osFS{}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool folder: %w", err)
	}
	s := &Spool{
		next: 1, dir: o.Dir, maxBytes: o.MaxBytes, maxMemory: o.MaxMemory, segmentSize: o.SegmentSize, log: o.Log, fsys: o.fsys,
		arrived: make(chan struct{}, 1),
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open the spool in %s: %w", o.Dir, err)
	}
	if s.Stats().Records > 0 {
		s.signal()
	}
	return s, nil
}

const cursorFile = "cursor"

func (s *Spool) load() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+segmentSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		var seg segment
		if err == nil {
			seg = segment{first: first, size: info.Size(), count: countRecords(f, info.Size())}
		}
		_ = f.Close() // read only
		switch {
		case err != nil:
			return err
		case seg.count == 0: // nothing whole in it
			if err := os.Remove(name); err != nil {
				return err
			}
		default:
			s.segments = append(s.segments, seg)
		}
	}
	for i := range s.segments {
		s.next = max(s.next, s.segments[i].end())
	}
	// A missing or damaged cursor only means that records are read again.
	if b, err := os.ReadFile(filepath.Join(s.dir, cursorFile)); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 16, 64); err == nil {
			s.acked = n
			s.next = max(s.next, n)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(s.segments) > 0 {
		s.acked = max(s.acked, s.segments[0].first)
	}
	if err := s.removeDone(); err != nil { // a full disk must not keep an agent from starting
		s.log.Warn("the spool's cursor was not stored", obs.KeyFile, s.dir, obs.KeyErr, err)
	}
	return nil
}

// Append adds a record. It fails only for a record over MaxRecord or a closed spool: when the disk takes nothing the record
// is kept in memory, and when that is full the oldest one there is dropped and counted.
func (s *Spool) Append(record []byte) error {
	if len(record) > MaxRecord {
		return fmt.Errorf("record of %d bytes is over the limit of %d", len(record), MaxRecord)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the spool is closed")
	}
	s.drainMemory()
	if len(s.memory) > 0 || !s.write(record) {
		s.memory = append(s.memory, slices.Clone(record))
		s.memBytes += int64(len(record))
		for s.memBytes > s.maxMemory && len(s.memory) > 1 {
			s.memBytes -= int64(len(s.memory[0]))
			s.memory[0] = nil
			s.memory = s.memory[1:]
			s.next++ // its number is used up, so that a batch that holds it does not acknowledge another
			s.dropped++
			s.closeSegment()
		}
	}
	s.signal()
	return nil
}

// drainMemory moves what the disk did not take onto it, oldest first.
func (s *Spool) drainMemory() {
	for len(s.memory) > 0 {
		if !s.write(s.memory[0]) {
			return
		}
		s.memBytes -= int64(len(s.memory[0]))
		s.memory[0] = nil
		s.memory = s.memory[1:]
	}
	s.memory = nil
}

// write appends to the newest segment and reports whether the disk took it. A part of a record is cut off again.
func (s *Spool) write(record []byte) bool {
	if s.out != nil && s.segments[len(s.segments)-1].size >= s.segmentSize {
		s.closeSegment()
	}
	s.makeRoom(int64(len(record)) + headerLen)
	err := s.writeTo(record)
	switch {
	case err == nil && s.ailing:
		s.ailing = false
		s.log.Info("the spool's disk takes writes again", obs.KeyFile, s.dir)
	case err != nil && !s.ailing:
		s.ailing = true
		s.log.Error("the spool cannot write: what arrives is kept in memory, up to a bound", obs.KeyFile, s.dir, obs.KeyErr, err)
	}
	return err == nil
}

func (s *Spool) writeTo(record []byte) error {
	if s.out == nil {
		out, err := s.fsys.Create(filepath.Join(s.dir, segmentName(s.next)))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(out, segmentMagic); err != nil {
			_ = out.Close()
			_ = os.Remove(filepath.Join(s.dir, segmentName(s.next)))
			return err
		}
		s.out = out
		s.segments = append(s.segments, segment{first: s.next, size: int64(len(segmentMagic))})
	}
	seg := &s.segments[len(s.segments)-1]
	b := appendRecord(make([]byte, 0, len(record)+headerLen), record)
	if _, err := s.out.Write(b); err != nil {
		if cut := s.out.Truncate(seg.size); cut != nil {
			s.closeSegment() // its torn end is passed over by the reader; the next record starts a new one
		}
		return err
	}
	seg.size += int64(len(b))
	seg.count++
	s.next++
	return nil
}

// makeRoom drops whole segments from the oldest end until n more bytes fit.
func (s *Spool) makeRoom(n int64) {
	total := n
	for i := range s.segments {
		total += s.segments[i].size
	}
	for total > s.maxBytes && len(s.segments) > 1 {
		old := s.segments[0]
		if from := max(old.first, s.acked); from < old.end() {
			s.dropped += int64(old.end() - from)
		}
		s.acked = max(s.acked, s.segments[1].first)
		total -= old.size
		s.removeSegment()
	}
}

func (s *Spool) removeSegment() {
	if err := os.Remove(filepath.Join(s.dir, segmentName(s.segments[0].first))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a spool segment cannot be removed", obs.KeyFile, s.dir, obs.KeyErr, err)
	}
	s.segments = s.segments[1:]
}

// closeSegment ends the newest segment; the next write starts another.
func (s *Spool) closeSegment() {
	if s.out == nil {
		return
	}
	if err := errors.Join(s.out.Sync(), s.out.Close()); err != nil {
		s.log.Warn("a spool segment was not synced", obs.KeyFile, s.dir, obs.KeyErr, err)
	}
	s.out = nil
	if last := s.segments[len(s.segments)-1]; last.count == 0 { // its name would be the next one's too
		_ = os.Remove(filepath.Join(s.dir, segmentName(last.first)))
		s.segments = s.segments[:len(s.segments)-1]
	}
}

// Next reads the oldest records that are not acknowledged, at most maxRecords and about maxBytes of them, at least one
// unless none is waiting. Reading again without Ack gives the same records, unless they were dropped meanwhile.
func (s *Spool) Next(maxRecords int, maxBytes int64) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Batch{end: s.acked}
	var bytes int64
	full := func(n int) bool {
		return len(b.Records) > 0 && (len(b.Records) >= maxRecords || bytes+int64(n) > maxBytes)
	}
	for i := 0; i < len(s.segments); i++ {
		seg := &s.segments[i]
		if seg.end() <= b.end {
			continue
		}
		stopped, err := s.readSegment(seg, &b, &bytes, full)
		if err != nil {
			return Batch{}, err
		}
		if stopped {
			return b, nil
		}
	}
	b.end = max(b.end, s.next)
	for i, record := range s.memory {
		if s.next+uint64(i) < s.acked {
			continue
		}
		if full(len(record)) {
			break
		}
		b.Records = append(b.Records, record)
		bytes += int64(len(record))
		b.end = s.next + uint64(i) + 1
	}
	return b, nil
}

// readSegment adds records of one segment to the batch, and reports whether the batch is full. What cannot be read of a
// segment is counted as dropped, once: its count is corrected.
func (s *Spool) readSegment(seg *segment, b *Batch, bytes *int64, full func(int) bool) (stopped bool, err error) {
	f, err := os.Open(filepath.Join(s.dir, segmentName(seg.first)))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			s.giveUp(seg, max(seg.first, b.end), "it was removed")
			return false, nil
		}
		return false, fmt.Errorf("read the spool: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	at := position{seq: seg.first, first: seg.first, offset: int64(len(segmentMagic))}
	if s.read.offset > 0 && s.read.first == seg.first && s.read.seq >= at.seq && s.read.seq <= b.end {
		at = s.read
	} else if err := readMagic(f); err != nil {
		s.giveUp(seg, max(seg.first, b.end), err.Error())
		return false, nil
	}
	if _, err := f.Seek(at.offset, io.SeekStart); err != nil {
		return false, fmt.Errorf("read the spool: %w", err)
	}
	r := bufio.NewReaderSize(f, 64<<10)
	for at.seq < seg.end() {
		record, err := readRecord(r, seg.size-at.offset)
		if err != nil {
			s.giveUp(seg, max(at.seq, b.end), err.Error())
			return false, nil
		}
		if at.seq >= b.end {
			if full(len(record)) {
				return true, nil
			}
			b.Records = append(b.Records, record)
			*bytes += int64(len(record))
			b.end = at.seq + 1
		}
		at.seq++
		at.offset += headerLen + int64(len(record))
		b.at = at
	}
	return false, nil
}

// giveUp counts the records of a segment from a sequence number on as dropped.
func (s *Spool) giveUp(seg *segment, from uint64, why string) {
	lost := seg.end() - from
	s.dropped += int64(lost)
	s.log.Error("a spool segment is damaged: the rest of it is lost", obs.KeyFile, segmentName(seg.first), obs.KeyReason, why,
		obs.KeyDropped, lost)
	if s.out != nil && seg.first == s.segments[len(s.segments)-1].first {
		// Numbers of records to come must stay above those given away.
		_ = s.out.Close()
		s.out = nil
	}
	seg.count -= lost
}

// Ack says that a batch is done with. Its records are not read again, unless the process dies before the cursor is stored.
func (s *Spool) Ack(b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.end <= s.acked {
		return nil
	}
	s.acked = b.end
	if b.at.seq == b.end {
		s.read = b.at
	}
	for len(s.memory) > 0 && s.next < s.acked { // acknowledged without having been on disk
		s.memBytes -= int64(len(s.memory[0]))
		s.memory[0] = nil
		s.memory = s.memory[1:]
		s.next++
		s.closeSegment()
	}
	return s.removeDone()
}

// removeDone stores the cursor and removes the segments before it. The one being written to is ended first when all of it is
// done with, so that an idle spool takes no space.
func (s *Spool) removeDone() error {
	if s.out != nil && s.segments[len(s.segments)-1].end() <= s.acked && s.segments[len(s.segments)-1].size > s.segmentSize/4 {
		_ = s.out.Close() // about to be removed
		s.out = nil
	}
	err := s.storeCursor()
	for len(s.segments) > 0 && s.segments[0].end() <= s.acked && (len(s.segments) > 1 || s.out == nil) {
		s.removeSegment()
	}
	return err
}

func (s *Spool) storeCursor() error {
	name := filepath.Join(s.dir, cursorFile)
	if err := s.fsys.WriteFile(name+".new", []byte(strconv.FormatUint(s.acked, 16)), 0o600); err != nil {
		return fmt.Errorf("store the spool's cursor: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("store the spool's cursor: %w", err)
	}
	return nil
}

// Last gives the newest record, acknowledged or not; nil when there is none. It is for writers that go on, after a restart, where
// their last record ends.
func (s *Spool) Last() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.memory); n > 0 {
		return s.memory[n-1], nil
	}
	for i := len(s.segments) - 1; i >= 0; i-- {
		record, err := s.lastOf(&s.segments[i])
		if record != nil || err != nil {
			return record, err
		}
	}
	return nil, nil
}

// lastOf reads a segment to its end, or to where it is damaged.
func (s *Spool) lastOf(seg *segment) (last []byte, err error) {
	f, err := os.Open(filepath.Join(s.dir, segmentName(seg.first)))
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	if readMagic(f) != nil {
		return nil, nil
	}
	r := bufio.NewReaderSize(f, 64<<10)
	left := seg.size - int64(len(segmentMagic))
	for range seg.count {
		record, err := readRecord(r, left)
		if err != nil {
			break
		}
		last, left = record, left-headerLen-int64(len(record))
	}
	return last, nil
}

// Arrived receives after records were appended. It holds one token: drain the spool after each.
func (s *Spool) Arrived() <-chan struct{} { return s.arrived }

func (s *Spool) signal() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Stats gives the current figures.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Dropped: s.dropped, InMemory: int64(len(s.memory)), Records: int64(len(s.memory))}
	for i := range s.segments {
		seg := &s.segments[i]
		st.Bytes += seg.size
		if from := max(seg.first, s.acked); from < seg.end() {
			st.Records += int64(seg.end() - from)
		}
	}
	return st
}

// Close ends the spool. What the disk did not take is tried once more, and counted as dropped if it fails again.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.drainMemory()
	lost := len(s.memory)
	s.closeSegment()
	if err := s.removeDone(); err != nil { // Ack may have found the disk full
		s.log.Warn("the spool's cursor was not stored", obs.KeyFile, s.dir, obs.KeyErr, err)
	}
	if lost > 0 {
		s.dropped += int64(lost)
		return fmt.Errorf("%d records were only in memory, because the disk took nothing, and are lost", lost)
	}
	return nil
}

type osFS struct{}

// Create opens for appending, so that a write after Truncate lands at the new end.
func (osFS) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600) //nolint:gosec // the name is ours
}

// WriteFile is os.WriteFile.
func (osFS) WriteFile(name string, b []byte, perm fs.FileMode) error {
	return os.WriteFile(name, b, perm)
}
