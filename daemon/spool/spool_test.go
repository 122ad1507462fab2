package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func open(t *testing.T, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fill(t *testing.T, s *Spool, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Append(record(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func record(i int) []byte { return fmt.Appendf(nil, "record %05d %s", i, strings.Repeat("x", i%37)) }

// drain reads everything in batches and acknowledges it.
func drain(t *testing.T, s *Spool) (got []string) {
	t.Helper()
	for {
		b, err := s.Next(7, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Records) == 0 {
			return got
		}
		for _, r := range b.Records {
			got = append(got, string(r))
		}
		if err := s.Ack(b); err != nil {
			t.Fatal(err)
		}
	}
}

func wantRange(t *testing.T, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("got %d records, want %d: %q", len(got), to-from, got)
	}
	for i, g := range got {
		if g != string(record(from+i)) {
			t.Fatalf("record %d is %q, want %q", i, g, record(from+i))
		}
	}
}

func TestRecordsComeBackInOrder(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), SegmentSize: 500})
	fill(t, s, 0, 100)
	if n := s.Stats().Records; n != 100 {
		t.Errorf("%d records waiting, want 100", n)
	}
	wantRange(t, drain(t, s), 0, 100)
	fill(t, s, 100, 150)
	wantRange(t, drain(t, s), 100, 150)
	if st := s.Stats(); st.Records != 0 || st.Dropped != 0 {
		t.Errorf("stats after draining: %+v", st)
	}
}

func TestNextAgainGivesTheSameUntilAcknowledged(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	fill(t, s, 0, 10)
	for range 3 {
		b, err := s.Next(4, 1<<20)
		if err != nil || len(b.Records) != 4 || !bytes.Equal(b.Records[0], record(0)) {
			t.Fatalf("batch %d records, first %q, err %v", len(b.Records), b.Records[0], err)
		}
	}
	b, _ := s.Next(100, 40) // bytes bound: a first record always fits
	if len(b.Records) == 0 || len(b.Records) > 3 {
		t.Errorf("%d records within 40 bytes", len(b.Records))
	}
}

func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, SegmentSize: 300})
	fill(t, s, 0, 40)
	b, err := s.Next(15, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ack(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, SegmentSize: 300})
	select {
	case <-s.Arrived():
	default:
		t.Error("a spool that holds records did not say so when opened")
	}
	fill(t, s, 40, 50)
	wantRange(t, drain(t, s), 15, 50)
}

func TestOldestAreDroppedAtTheCap(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxBytes: 4000, SegmentSize: 500})
	fill(t, s, 0, 500)
	st := s.Stats()
	if st.Dropped == 0 || st.Dropped+st.Records != 500 || st.Bytes > 4000 {
		t.Fatalf("stats %+v", st)
	}
	wantRange(t, drain(t, s), int(st.Dropped), 500)
}

func TestDropWhileABatchIsUnderWay(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxBytes: 4000, SegmentSize: 500})
	fill(t, s, 0, 10)
	b, err := s.Next(5, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, 10, 500)
	before := s.Stats()
	if err := s.Ack(b); err != nil { // long dropped: acknowledges nothing else
		t.Fatal(err)
	}
	if after := s.Stats(); after.Records != before.Records {
		t.Errorf("records %d, before the late acknowledgement %d", after.Records, before.Records)
	}
}

func TestTornTailIsTolerated(t *testing.T) {
	for cut := 1; cut < 40; cut++ {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		fill(t, s, 0, 10)
		_ = s.Close()
		names, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
		info, err := os.Stat(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(names[0], info.Size()-int64(cut)); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Dir: dir})
		kept := int(s.Stats().Records)
		if kept < 8 || kept > 9 {
			t.Fatalf("cut %d: %d records kept", cut, kept)
		}
		fill(t, s, 10, 12)
		got := drain(t, s)
		wantRange(t, got[:kept], 0, kept)
		wantRange(t, got[kept:], 10, 12)
	}
}

func TestDamageCostsTheRestOfOneSegment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, SegmentSize: 300})
	fill(t, s, 0, 60)
	_ = s.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	b, err := os.ReadFile(names[1])
	if err != nil {
		t.Fatal(err)
	}
	b[len(segmentMagic)+headerLen+3] ^= 0x40
	if err := os.WriteFile(names[1], b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir, SegmentSize: 300})
	got := drain(t, s)
	st := s.Stats()
	if st.Dropped == 0 || int(st.Dropped)+len(got) != 60 || st.Records != 0 {
		t.Fatalf("%d records read, stats %+v", len(got), st)
	}
	if got[len(got)-1] != string(record(59)) {
		t.Errorf("the segments after the damaged one were not read: last is %q", got[len(got)-1])
	}
}

// fullDisk is a file system that takes a number of bytes and then no more, with writes cut short.
type fullDisk struct {
	osFS
	left int
}

type fullFile struct {
	file
	d *fullDisk
}

var errFull = errors.New("no space left on device")

func (d *fullDisk) Create(name string) (file, error) {
	f, err := d.osFS.Create(name)
	return &fullFile{f, d}, err
}

func (d *fullDisk) WriteFile(name string, b []byte, perm fs.FileMode) error {
	if d.left < len(b) {
		return errFull
	}
	return d.osFS.WriteFile(name, b, perm)
}

func (f *fullFile) Write(b []byte) (int, error) {
	n := min(len(b), f.d.left)
	f.d.left -= n
	if m, err := f.file.Write(b[:n]); err != nil {
		return m, err
	}
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

func TestDiskFull(t *testing.T) {
	for _, left := range []int{0, 3, 20, 500, 501, 505, 513, 530} {
		t.Run(strconv.Itoa(left), func(t *testing.T) {
			dir := t.TempDir()
			disk := &fullDisk{left: left}
			s := open(t, Options{Dir: dir, SegmentSize: 200, fsys: disk})
			fill(t, s, 0, 50)
			if st := s.Stats(); st.InMemory == 0 || st.Records != 50 || st.Dropped != 0 {
				t.Fatalf("stats %+v", st)
			}
			b, err := s.Next(5, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			wantRange(t, strs(b.Records), 0, 5)
			_ = s.Ack(b) // the cursor cannot be stored, which is only told
			disk.left = 1 << 20
			fill(t, s, 50, 60)
			if st := s.Stats(); st.InMemory != 0 || st.Records != 55 {
				t.Fatalf("stats once space came back: %+v", st)
			}
			_ = s.Close()
			s = open(t, Options{Dir: dir, SegmentSize: 200})
			got := drain(t, s)
			wantRange(t, got, 5, 60)
		})
	}
}

func TestMemoryIsBoundedWhileTheDiskIsFull(t *testing.T) {
	disk := &fullDisk{}
	s := open(t, Options{Dir: t.TempDir(), MaxMemory: 400, fsys: disk})
	fill(t, s, 0, 100)
	st := s.Stats()
	if st.Dropped == 0 || st.Dropped+st.Records != 100 || st.InMemory != st.Records {
		t.Fatalf("stats %+v", st)
	}
	b, err := s.Next(3, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	wantRange(t, strs(b.Records), int(st.Dropped), int(st.Dropped)+3)
	fill(t, s, 100, 101) // drops one that the batch holds
	_ = s.Ack(b)
	if got := s.Stats().Records + s.Stats().Dropped + 3; got < 101 {
		t.Errorf("an acknowledgement took records of others with it: %+v", s.Stats())
	}
	if err := s.Close(); err == nil {
		t.Error("closing said nothing about records lost with the memory")
	}
}

func strs(records [][]byte) (out []string) {
	for _, r := range records {
		out = append(out, string(r))
	}
	return out
}

// TestKill runs itself as a process that appends and reports each record, kills it, and expects all that was reported.
func TestKill(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_CHILD"); dir != "" {
		s := open(t, Options{Dir: dir, SegmentSize: 2000})
		for i := 0; ; i++ {
			if err := s.Append(record(i)); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("spooled %d\n", i)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), "SPOOL_TEST_CHILD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make([]byte, 30_000)
	if _, err := io.ReadFull(out, seen); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	_ = cmd.Wait() // killed
	lines := strings.Split(strings.TrimSuffix(string(append(seen, rest...)), "\n"), "\n")
	reported := len(lines)
	if !strings.HasPrefix(lines[reported-1], "spooled ") {
		reported--
	}
	got := drain(t, open(t, Options{Dir: dir}))
	if len(got) < reported-1 {
		t.Fatalf("%d records found, %d were reported as spooled", len(got), reported)
	}
	wantRange(t, got, 0, len(got))
}

func TestAppendRefuses(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	if err := s.Append(make([]byte, MaxRecord+1)); err == nil {
		t.Error("a record over the limit was taken")
	}
	_ = s.Close()
	if err := s.Append([]byte("x")); err == nil {
		t.Error("a closed spool took a record")
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// FuzzSegment opens a folder whose only segment is arbitrary bytes: nothing may panic, the figures must add up, and the
// spool must work afterwards.
func FuzzSegment(f *testing.F) {
	whole := []byte(segmentMagic)
	for i := range 5 {
		whole = appendRecord(whole, record(i))
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(segmentMagic))
	f.Add([]byte(segmentMagic + "\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Dir: dir})
		before := s.Stats()
		if err := s.Append([]byte("new")); err != nil {
			t.Fatal(err)
		}
		got := drain(t, s)
		if len(got) == 0 || got[len(got)-1] != "new" {
			t.Fatalf("the new record is not the last of %d", len(got))
		}
		if st := s.Stats(); int64(len(got))+st.Dropped != before.Records+1 || st.Records != 0 {
			t.Fatalf("before %+v, after %+v, read %d", before, st, len(got))
		}
	})
}

func TestLastIsTheNewestRecord(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir, SegmentSize: 64})
	if err != nil {
		t.Fatal(err)
	}
	last := func(want string) {
		t.Helper()
		if b, err := s.Last(); err != nil || string(b) != want {
			t.Errorf("last is %q, %v, want %q", b, err, want)
		}
	}
	last("")
	for i := range 20 { // several segments
		if err := s.Append(fmt.Appendf(nil, "record %02d", i)); err != nil {
			t.Fatal(err)
		}
		last(fmt.Sprintf("record %02d", i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	slices.Sort(names)
	newest := names[len(names)-1]
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(newest, info.Size()-3); err != nil { // as a loss of power leaves it
		t.Fatal(err)
	}
	if s, err = Open(Options{Dir: dir, SegmentSize: 64}); err != nil {
		t.Fatal(err)
	}
	last("record 18")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
