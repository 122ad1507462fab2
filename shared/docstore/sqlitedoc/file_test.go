package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

var rows = []docstore.Collection{{Name: "rows"}, {Name: "indexed", Indexes: []docstore.Index{
	{Name: "g", Fields: []docstore.Field{{Name: "g", Kind: docstore.String}}},
}}}

func filled(t *testing.T, o Options, n, size int) *Engine {
	t.Helper()
	e := open(t, o)
	if err := e.Ensure(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	put(t, e, 0, n, size)
	return e
}

func ops(t testing.TB, from, to, size int) []docstore.Op {
	t.Helper()
	var out []docstore.Op
	for i := from; i < to; i++ {
		out = append(out, docstore.Op{Kind: docstore.Put, Collection: "rows", ID: fmt.Sprintf("%06d", i), Body: body(t, size)})
	}
	return out
}

func put(t *testing.T, e *Engine, from, to, size int) {
	t.Helper()
	if _, err := e.Write(t.Context(), ops(t, from, to, size), false); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, e *Engine) int {
	t.Helper()
	n, err := e.Count(t.Context(), docstore.Query{Collection: "rows"}, 1e6)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOneOwner(t *testing.T) {
	e := open(t, Options{})
	_, err := Open(Options{Path: e.Path()})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || opererr.HintOf(err) == "" {
		t.Errorf("a second owner: %v, hint %q", err, opererr.HintOf(err))
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Path: e.Path()})
}

func TestReadOnlyBesideTheOwner(t *testing.T) {
	e := filled(t, Options{}, 10, 100)
	r, err := Open(Options{Path: e.Path(), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	put(t, e, 10, 20, 100)
	if n := count(t, r); n != 20 {
		t.Errorf("the reader sees %d documents", n)
	}
	if _, err := r.Write(t.Context(), ops(t, 0, 1, 10), true); !errors.Is(err, docstore.ErrUnavailable) {
		t.Errorf("a write: %v", err)
	}
	if err := r.Ensure(t.Context(), rows); err != nil {
		t.Errorf("Ensure of what is there: %v", err)
	}
	if err := r.Ensure(t.Context(), []docstore.Collection{{Name: "new"}}); err == nil {
		t.Error("Ensure of something new succeeded")
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := r.Backup(t.Context(), path, nil); err != nil {
		t.Fatalf("Backup: %v", err)
	}
	if n := count(t, open(t, Options{Path: path})); n != 20 {
		t.Errorf("the copy has %d documents", n)
	}
	if _, err := Open(Options{Path: filepath.Join(t.TempDir(), "none"), ReadOnly: true}); err == nil {
		t.Error("opened a file that is not there")
	}
}

func TestRefusedFiles(t *testing.T) {
	whole := func(t *testing.T) string {
		e := filled(t, Options{}, 200, 1000)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		return e.Path()
	}
	rewrite := func(t *testing.T, path string, change func(b []byte) []byte) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(b []byte) []byte
	}{
		{"not a database", "not a database", func([]byte) []byte { return []byte(strings.Repeat("log line\n", 100)) }},
		{"shorter than a header", "shorter", func(b []byte) []byte { return b[:50] }},
		{"cut short", "bytes of", func(b []byte) []byte { return b[:len(b)-pageSize] }},
		{"first page overwritten", "damaged", func(b []byte) []byte { clear(b[100:pageSize]); return b }},
		{"another program's", "another program", func(b []byte) []byte { copy(b[68:72], "\x00\x00\x00\x01"); return b }},
		{"a later format", "version 200", func(b []byte) []byte { copy(b[60:64], "\x00\x00\x00\xc8"); return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := whole(t)
			rewrite(t, path, c.change)
			_, err := Open(Options{Path: path})
			if err == nil || !strings.Contains(err.Error(), c.want) || opererr.HintOf(err) == "" {
				t.Fatalf("Open: %v, hint %q", err, opererr.HintOf(err))
			}
			// The lock was given back: the message is the same the second time.
			if _, again := Open(Options{Path: path}); again == nil || again.Error() != err.Error() {
				t.Errorf("Open again: %v", again)
			}
		})
	}
	t.Run("damage inside is found by Check", func(t *testing.T) {
		path := whole(t)
		rewrite(t, path, func(b []byte) []byte {
			for i := len(b) / 2; i < len(b)/2+3*pageSize; i++ {
				b[i] ^= 0xA5
			}
			return b
		})
		e := open(t, Options{Path: path})
		faults, err := e.Check(t.Context())
		if err != nil || len(faults) == 0 {
			t.Errorf("Check: %q, %v", faults, err)
		}
		if err := e.Backup(t.Context(), filepath.Join(t.TempDir(), "b.db"), nil); err == nil {
			t.Error("a damaged database was backed up as if it were whole")
		}
	})
}

func TestBackupWhileWriting(t *testing.T) {
	e := filled(t, Options{}, 3000, 2000)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	written := 3000
	wg.Go(func() {
		for ; ctx.Err() == nil; written++ {
			if _, err := e.Write(t.Context(), ops(t, written, written+1, 2000), true); err != nil {
				t.Error(err)
				return
			}
		}
	})
	path := filepath.Join(t.TempDir(), "copy.db")
	steps := 0
	err := e.Backup(t.Context(), path, func(done, total int) {
		if steps++; done > total || total == 0 {
			t.Errorf("progress %d of %d", done, total)
		}
	})
	stop()
	wg.Wait()
	if err != nil || steps < 3 {
		t.Fatalf("Backup: %v, %d steps", err, steps)
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 {
		t.Errorf("Backup left %v", names)
	}
	if err := e.Backup(t.Context(), path, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("Backup over a file: %v", err)
	}
	copied, err := Open(Options{Path: path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = copied.Close() }()
	if faults, err := copied.Check(t.Context()); err != nil || len(faults) > 0 {
		t.Errorf("Check: %v, %v", faults, err)
	}
	// The writer was sequential, so the copy holds a prefix of what it wrote.
	n := count(t, copied)
	p, err := copied.Scan(t.Context(), docstore.Query{Collection: "rows", Descending: true, Limit: 1, IDsOnly: true})
	if err != nil || n < 3000 || n > written || p.Docs[0].ID != fmt.Sprintf("%06d", n-1) {
		t.Errorf("the copy has %d of %d documents, the last %v, %v", n, written, p.Docs, err)
	}

	cancelled, stop := context.WithCancel(t.Context())
	other := filepath.Join(t.TempDir(), "cancelled.db")
	err = e.Backup(cancelled, other, func(int, int) { stop() })
	if names, _ := filepath.Glob(other + "*"); !errors.Is(err, context.Canceled) || len(names) != 0 {
		t.Errorf("a cancelled backup: %v, left %v", err, names)
	}
}

// TestLogIsBounded writes several times what it may be at rest under readers that never pause.
func TestLogIsBounded(t *testing.T) {
	e := filled(t, Options{}, 100, 20_000)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.Scan(t.Context(), docstore.Query{Collection: "rows", Limit: 10}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var largest int64
	rounds := 80
	if testing.Short() {
		rounds = 50
	}
	for range rounds {
		put(t, e, 0, 100, 20_000)
		s, err := e.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, s.LogBytes)
	}
	stop()
	wg.Wait()
	t.Logf("largest log %d MB", largest>>20)
	if largest > walHard+groupBytes*2 {
		t.Errorf("the log grew to %d MB", largest>>20)
	}
}

func TestQuota(t *testing.T) {
	e := filled(t, Options{MaxBytes: 1 << 20}, 10, 1000)
	res, err := e.Write(t.Context(), ops(t, 1000, 2000, 5000), false)
	if !errors.Is(err, docstore.ErrFull) || !errors.Is(res[0].Err, docstore.ErrFull) {
		t.Fatalf("a batch past the quota: %v", err)
	}
	if n := count(t, e); n != 10 {
		t.Errorf("%d documents after a refused batch", n)
	}
	// A batch that fits is not refused for the sake of one beside it that does not.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if i%2 == 0 {
				if _, err := e.Write(t.Context(), ops(t, 1000, 2000, 5000), false); !errors.Is(err, docstore.ErrFull) {
					t.Errorf("a batch past the quota: %v", err)
				}
				return
			}
			if _, err := e.Write(t.Context(), ops(t, i, i+1, 100), false); err != nil {
				t.Errorf("a batch within the quota: %v", err)
			}
		})
	}
	wg.Wait()
	if n, err := e.DeleteRange(t.Context(), "rows", "", "", 1e6); err != nil || n == 0 {
		t.Errorf("delete: %d, %v", n, err)
	}
	put(t, e, 0, 100, 5000)
	if faults, err := e.Check(t.Context()); err != nil || len(faults) > 0 {
		t.Errorf("Check: %v, %v", faults, err)
	}
}

// TestDiskFull fills a small file system of its own, which needs the right to mount one.
func TestDiskFull(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("mounts a tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("cannot mount a small file system: %v (run as root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	e := filled(t, Options{Path: filepath.Join(dir, "db")}, 10, 1000)
	t.Cleanup(func() { _ = e.Close() })
	acked := 10
	var err error
	for ; err == nil && acked < 10_000; acked++ {
		_, err = e.Write(t.Context(), ops(t, acked, acked+1, 20_000), true)
	}
	acked--
	if !errors.Is(err, docstore.ErrFull) {
		t.Fatalf("on a full disk after %d writes: %v", acked, err)
	}
	if n := count(t, e); n != acked {
		t.Errorf("%d documents, %d were acknowledged", n, acked)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	put(t, e, acked, acked+100, 20_000)
	if n := count(t, e); n != acked+100 {
		t.Errorf("%d documents after space returned, %d were acknowledged", n, acked+100)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, Options{Path: e.Path()})
	if faults, err := e.Check(t.Context()); err != nil || len(faults) > 0 || count(t, e) != acked+100 {
		t.Errorf("after opening again: %v, %v", faults, err)
	}
	_ = e.Close()
}

// TestWaitingWriteIsTakenBack holds the writer, and cancels a batch that waits behind it.
func TestWaitingWriteIsTakenBack(t *testing.T) {
	e := filled(t, Options{}, 1, 10)
	held, release := make(chan struct{}), make(chan struct{})
	r := newRequest(context.Background())
	r.outside = true
	r.run = func(*sqlconn.Conn) error {
		close(held)
		<-release
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.submit(r) })
	<-held
	ctx, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := e.Write(ctx, ops(t, 5, 6, 10), true); !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled write: %v", err)
		}
	})
	stop()
	second := make(chan error, 1)
	wg.Go(func() {
		_, err := e.Write(t.Context(), ops(t, 6, 7, 10), true)
		second <- err
	})
	close(release)
	wg.Wait()
	if err := <-second; err != nil {
		t.Error(err)
	}
	docs, err := e.Get(t.Context(), "rows", "000005", "000006")
	if err != nil || len(docs) != 1 || docs[0].ID != "000006" {
		t.Errorf("there are %v, %v", docs, err)
	}
}

func TestCollectionsComeFromTheFile(t *testing.T) {
	e := filled(t, Options{}, 3, 10)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, Options{Path: e.Path()})
	var names []string
	for _, c := range e.Collections() {
		names = append(names, c.Name)
	}
	if fmt.Sprint(names) != "[indexed rows]" || count(t, e) != 3 {
		t.Errorf("collections %v", names)
	}
}

// TestCloseEndsABackup: nobody waits for a long copy at the end of the program.
func TestCloseEndsABackup(t *testing.T) {
	e := filled(t, Options{}, 3000, 2000)
	var wg sync.WaitGroup
	path := filepath.Join(t.TempDir(), "copy.db")
	err := e.Backup(t.Context(), path, func(done, total int) {
		if done < total {
			wg.Go(func() { _ = e.Close() })
			<-e.life.Done()
		}
	})
	wg.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Backup: %v", err)
	}
}

// TestQueriesUseTheirIndex asks SQLite how it would answer: always by a search, never by sorting.
func TestQueriesUseTheirIndex(t *testing.T) {
	e := open(t, Options{})
	f := func(name string, k docstore.Kind) docstore.Field { return docstore.Field{Name: name, Kind: k} }
	err := e.Ensure(t.Context(), []docstore.Collection{{Name: "c", Indexes: []docstore.Index{
		{Name: "abc", Fields: []docstore.Field{f("a", docstore.String), f("b", docstore.Int64), f("c", docstore.Bool)}},
		{Name: "u", Unique: true, Fields: []docstore.Field{f("a", docstore.String), f("b", docstore.Int64)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    docstore.Query
		want string
	}{
		{docstore.Query{From: "a", To: "b"}, "PRIMARY KEY (id>? AND id<?)"},
		{docstore.Query{Index: "abc", Prefix: []any{"x"}}, "x:c:abc (f:a=?)"},
		{docstore.Query{Index: "abc", Prefix: []any{"x"}, Low: int64(1), High: int64(5)}, "x:c:abc (f:a=? AND f:b>? AND f:b<?)"},
		{docstore.Query{Index: "abc", Prefix: []any{"x", int64(1), true}, Low: "i"}, "x:c:abc (f:a=? AND f:b=? AND f:c=? AND id>?)"},
		{docstore.Query{Index: "u", Prefix: []any{"x"}, Low: int64(1)}, "x:c:u (f:a=? AND f:b>?)"},
	} {
		c.q.Collection = "c"
		for _, desc := range []bool{false, true} {
			for _, resume := range []bool{false, true} {
				q := c.q
				q.Descending = desc
				p, err := e.schema.Load().Plan(q)
				if err != nil {
					t.Fatal(err)
				}
				if resume {
					for _, r := range p.Rest {
						p.After = append(p.After, docstore.Key{Kind: r.Kind, S: "k", I: 1})
					}
					p.After = append(p.After, docstore.Key{Kind: docstore.String, S: "k"})
				}
				sql, args := selectSQL(p, "id, rev, body")
				var how []string
				err = e.read(t.Context(), func(conn *sqlconn.Conn) error {
					return conn.Each(t.Context(), "EXPLAIN QUERY PLAN "+sql, args, func(v []driver.Value) error {
						how = append(how, v[3].(string))
						return nil
					})
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(how) != 1 || !strings.HasPrefix(how[0], "SEARCH") || !resume && !strings.Contains(how[0], c.want) || resume && !strings.Contains(how[0], "id") {
					t.Errorf("%s\n%q, want %q", sql, how, c.want)
				}
			}
		}
	}
}

// TestFileSystemErrorsSayWhatToDo: whoever runs the tests may be allowed everything, so the errors are given.
func TestFileSystemErrorsSayWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		&os.PathError{Op: "open", Path: "/d/x", Err: syscall.EACCES}: "own the folder",
		&os.PathError{Op: "open", Path: "/d/x", Err: syscall.EROFS}:  "own the folder",
		fmt.Errorf("write: %w", syscall.ENOSPC):                      "df -h /d",
		errors.New("else"):                                           "",
	} {
		if got := sqlconn.Hint(err, "/d/x"); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%v: %q", err, got)
		}
	}
}
