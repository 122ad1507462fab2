// Snapshot measures snapshots and restores of a large head beside restic's: seconds, processor time, bytes added to the store,
// memory. The head is made of recorded files of a real WiredTiger in three states, repeated under other names.
//
//	go run ./tests/snapshot --heads ../shared/fixtures/recorded/heads
//
// From the first state to the second a share of all documents was updated at random (A), from the second to the third some were
// inserted and some recent ones updated (B). Each measured step is a process of its own, started for it; both programs work on
// the same folder, ours first in one round, restic first in the next.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

type options struct {
	heads    string
	size     int
	rounds   int
	distinct bool
	dir      string
	child    string
}

func main() {
	var o options
	flag.StringVar(&o.heads, "heads", "", "folder with the recorded heads 0, 1 and 2 (default: $HEARTWOOD_TEST_FIXTURES/recorded/heads, or beside the repository)")
	flag.IntVar(&o.size, "size", 4096, "MiB of the head in its second state")
	flag.IntVar(&o.rounds, "rounds", 2, "how often; the table shows the best of each")
	flag.BoolVar(&o.distinct, "distinct", false, "make every copy differ from the others in each 4 KiB, so that none is found twice")
	flag.StringVar(&o.dir, "dir", "", "where to work (default: a temporary folder); it needs four times the size")
	flag.StringVar(&o.child, "child", "", "a measured step, started by this program itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if o.child != "" {
		err = child(ctx, o.child, flag.Args())
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "snapshot:", err)
		os.Exit(1)
	}
}

// child is a step of ours, in a process of its own.
func child(ctx context.Context, what string, args []string) error {
	if len(args) != 4 {
		return errors.New("a step needs store, folder, snapshot and the one before")
	}
	s, err := fileblock.Open(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	if what == "restore" {
		m, err := tree.Load(ctx, s, "bench", args[2])
		if err != nil {
			return err
		}
		_, err = tree.Restore(ctx, s, m, args[1], tree.RestoreOptions{})
		return err
	}
	root, err := os.OpenRoot(args[1])
	if err != nil {
		return err
	}
	defer root.Close()
	var prev *tree.Manifest
	if args[3] != "" {
		if prev, err = tree.Load(ctx, s, "bench", args[3]); err != nil {
			return err
		}
	}
	_, err = tree.Write(ctx, s, root, prev, tree.Options{Job: "bench", ID: args[2], Token: 1, Created: time.Now(), Trust: true})
	return err
}

// cost is what a step took.
type cost struct {
	wall, cpu time.Duration
	added     int64
	rss       int64 // bytes at most
}

type bench struct {
	o    options
	self string
	best map[string]cost // by step and program

	one, two []byte // to read files into
}

var steps = []struct{ id, prev, name string }{
	{"0", "", "first snapshot"},
	{"1", "0", "A: random updates"},
	{"2", "1", "B: recent changes"},
}

const ours, theirs = "heartwood", "restic"

func run(ctx context.Context, o options) error {
	if o.heads == "" {
		o.heads = filepath.Join("..", "shared", "fixtures", "recorded", "heads")
		if dir := os.Getenv("HEARTWOOD_TEST_FIXTURES"); dir != "" {
			o.heads = filepath.Join(dir, "recorded", "heads")
		}
	}
	if _, err := os.Stat(filepath.Join(o.heads, "2")); err != nil {
		return fmt.Errorf("the recorded heads are not here, say --heads: %w", err)
	}
	if _, err := exec.LookPath("restic"); err != nil {
		return fmt.Errorf("restic is needed beside: apt-get install restic: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{o: o, self: self, best: map[string]cost{}, one: make([]byte, 1<<20), two: make([]byte, 1<<20)}
	for round := range o.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	b.print()
	return nil
}

func (b *bench) round(ctx context.Context, round int) error {
	dir, err := os.MkdirTemp(b.o.dir, "snapshot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	head := filepath.Join(dir, "head")
	repo := filepath.Join(dir, theirs)
	if _, err := b.step(ctx, exec.CommandContext(ctx, "restic", "-q", "init", "-r", repo), ""); err != nil {
		return err
	}
	programs := []string{ours, theirs}
	if round%2 == 1 {
		slices.Reverse(programs)
	}
	for _, st := range steps {
		if err := b.fill(head, st.id); err != nil {
			return err
		}
		syscall.Sync()
		for _, p := range programs {
			cmd := exec.CommandContext(ctx, "restic", "-q", "-r", repo, "backup", head)
			if p == ours {
				cmd = exec.CommandContext(ctx, b.self, "--child", "write", filepath.Join(dir, ours), head, st.id, st.prev)
			}
			c, err := b.step(ctx, cmd, filepath.Join(dir, p))
			if err != nil {
				return err
			}
			b.keep(st.name, p, c)
		}
	}
	for _, p := range programs {
		to := filepath.Join(dir, "restored")
		cmd := exec.CommandContext(ctx, "restic", "-q", "-r", repo, "restore", "latest", "--target", to)
		if p == ours {
			cmd = exec.CommandContext(ctx, b.self, "--child", "restore", filepath.Join(dir, ours), to, "2", "")
		}
		c, err := b.step(ctx, cmd, "")
		if err != nil {
			return err
		}
		b.keep("restore", p, c)
		if p == theirs {
			to = filepath.Join(to, head)
		}
		if err := b.same(head, to); err != nil {
			return fmt.Errorf("%s restored something else: %w", p, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "restored")); err != nil {
			return err
		}
		syscall.Sync()
	}
	return nil
}

// step runs a program and waits until what it wrote is on disk: the time includes that.
func (b *bench) step(ctx context.Context, cmd *exec.Cmd, store string) (cost, error) {
	before, err := size(store)
	if err != nil {
		return cost{}, err
	}
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=x", "RESTIC_CACHE_DIR="+filepath.Join(os.TempDir(), "restic-bench-cache"))
	cmd.Stderr = os.Stderr
	runtime.GC()
	debug.FreeOSMemory() // a new process counts what this one held when it began
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	syscall.Sync()
	c := cost{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.rss = ru.Maxrss << 10
	}
	after, err := size(store)
	c.added = after - before
	return c, errors.Join(err, ctx.Err())
}

func (b *bench) keep(step, program string, c cost) {
	key := step + "/" + program
	fmt.Printf("%-20s %-10s %6.2f s  %6.2f s processor  %9.2f MB added  %4d MB memory\n", step, program, c.wall.Seconds(), c.cpu.Seconds(), float64(c.added)/1e6, c.rss>>20)
	if have, ok := b.best[key]; ok {
		c = cost{wall: min(c.wall, have.wall), cpu: min(c.cpu, have.cpu), added: max(c.added, have.added), rss: max(c.rss, have.rss)}
	}
	b.best[key] = c
}

// asked is what the table is read against.
var asked = map[string]string{
	steps[0].name: "2x",
	steps[1].name: "2x, no more bytes",
	steps[2].name: "2x, a quarter of the bytes",
	"restore":     "1.5x",
}

func (b *bench) print() {
	fmt.Printf("\n%-18s %-22s %-22s %-23s %-10s %s\n", "best of the rounds", "seconds", "processor seconds", "MB added", "MB memory", "asked")
	names := []string{"restore"}
	for i := range steps {
		names = slices.Insert(names, i, steps[i].name)
	}
	for _, n := range names {
		us, them := b.best[n+"/"+ours], b.best[n+"/"+theirs]
		ratio := func(x, y float64) string {
			if x == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f | %.2f = %.1fx", x, y, y/x)
		}
		fmt.Printf("%-18s %-22s %-22s %-23s %-10s %s\n", n, ratio(us.wall.Seconds(), them.wall.Seconds()), ratio(us.cpu.Seconds(), them.cpu.Seconds()),
			ratio(float64(us.added)/1e6, float64(them.added)/1e6), fmt.Sprintf("%d | %d", us.rss>>20, them.rss>>20), asked[n])
	}
	fmt.Println("heartwood | restic. Seconds include a sync of everything after the program's end: we have synced all we wrote by then, restic has not synced what it restored.")
}

// fill brings the head into a state. Files that are as they should be are not touched.
func (b *bench) fill(head, state string) error {
	from := filepath.Join(b.o.heads, state)
	second, err := size(filepath.Join(b.o.heads, "1"))
	if err != nil {
		return err
	}
	copies := max(int(int64(b.o.size)<<20/second), 1)
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for k := range copies {
		dir := filepath.Join(head, fmt.Sprintf("%04d", k))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for _, f := range files {
			if err := b.copyFile(filepath.Join(from, f.Name()), filepath.Join(dir, f.Name()), k); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyFile copies in pieces, for the memory of this process is counted against those that it starts. A copy that is as it should
// be is left alone.
func (b *bench) copyFile(from, to string, k int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	var at int64
	for {
		n, err := io.ReadFull(in, b.one)
		want, have := b.one[:n], b.two[:n]
		if b.o.distinct {
			mark(want, k, at)
		}
		if h, _ := out.ReadAt(have, at); h < n || !bytes.Equal(want, have) {
			if _, err := out.WriteAt(want, at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	info, err := out.Stat()
	if err == nil && info.Size() > at {
		err = out.Truncate(at)
	}
	return err
}

// mark makes a copy differ in each 4 KiB from the others, but not from its own other states.
func mark(b []byte, k int, offset int64) {
	for at := 64; at+16 <= len(b); at += 4096 {
		copy(b[at:], fmt.Sprintf("%08x%08x", k, offset+int64(at)))
	}
}

func size(dir string) (n int64, err error) {
	if dir == "" {
		return 0, nil
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n += info.Size()
		return nil
	})
	return n, err
}

// same compares two folders of files.
func (b *bench) same(one, two string) error {
	return filepath.WalkDir(one, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(one, path)
		if err != nil {
			return err
		}
		x, err := os.Open(path)
		if err != nil {
			return err
		}
		defer x.Close()
		y, err := os.Open(filepath.Join(two, rel))
		if err != nil {
			return err
		}
		defer y.Close()
		for {
			n, err := io.ReadFull(x, b.one)
			m, _ := io.ReadFull(y, b.two)
			if !bytes.Equal(b.one[:n], b.two[:m]) {
				return fmt.Errorf("%s differs", rel)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}
