package fileblock_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
)

const childEnv = "HEARTWOOD_FILEBLOCK_CHILD"

// sealedContent is an object that proves itself: random bytes behind their digest.
func sealedContent(seed uint64) []byte {
	body := blockstoretest.Random(seed, 300_000+int(seed%7)*65_537) //nolint:gosec // small
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

func whole(b []byte) bool {
	if len(b) < sha256.Size {
		return false
	}
	sum := sha256.Sum256(b[sha256.Size:])
	return bytes.Equal(sum[:], b[:sha256.Size])
}

// writeForEver writes objects of its own and fights for shared ones, and reports each that it was told is durable.
func writeForEver(t *testing.T, folder, name string) {
	s := open(t, folder)
	acked := os.NewFile(3, "acked")
	for i := uint64(0); ; i++ {
		for _, key := range []string{fmt.Sprintf("own/%s/%04d/%d", name, i/16, i), fmt.Sprintf("shared/%04d/%d", i/16, i)} {
			content := sealedContent(i + uint64(name[0])<<8)
			w, err := s.Create(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(content); at += 70_000 { // several writes: there is a middle to be killed in
				if _, err := w.Write(content[at:min(at+70_000, len(content))]); err != nil {
					t.Fatal(err)
				}
			}
			err = w.Commit(t.Context())
			if errors.Is(err, blockstore.ErrExists) && strings.HasPrefix(key, "shared/") {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(content)
			if _, err := fmt.Fprintf(acked, "%s %s\n", key, hex.EncodeToString(sum[:])); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// child is one writing process.
type child struct {
	name string
	cmd  *exec.Cmd
	said *bytes.Buffer
	acks chan map[string]string
	some chan struct{} // closed after enough acknowledgements
}

func start(t *testing.T, folder, name string, enough int) *child {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{name: name, said: &bytes.Buffer{}, acks: make(chan map[string]string, 1), some: make(chan struct{})}
	c.cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestParallelProcesses$")
	c.cmd.Env = append(os.Environ(), childEnv+"="+name+":"+folder)
	c.cmd.ExtraFiles = []*os.File{w}
	c.cmd.Stdout, c.cmd.Stderr = c.said, c.said
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		defer func() { _ = r.Close() }()
		acks := map[string]string{}
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // a last line that was cut by the kill is no acknowledgement
			}
			key, sum, _ := strings.Cut(strings.TrimSpace(line), " ")
			acks[key] = sum
			if len(acks) == enough {
				close(c.some)
			}
		}
		c.acks <- acks
	}()
	return c
}

// kill ends the child at once and gives what it was told.
func (c *child) kill(t *testing.T) map[string]string {
	t.Helper()
	_ = c.cmd.Process.Kill()
	acks := <-c.acks
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("writer %s ended by itself: %v\n%s", c.name, err, c.said.String())
	}
	return acks
}

// TestParallelProcesses has several processes write into one folder, kills one in the middle again and again, and reads all the
// while: no reader ever sees less than a whole object, what was acknowledged is there as it was written, of the objects that all
// fought for there is one, and cleaning leaves objects only.
func TestParallelProcesses(t *testing.T) {
	if env := os.Getenv(childEnv); env != "" {
		name, folder, _ := strings.Cut(env, ":")
		writeForEver(t, folder, name)
	}
	folder := t.TempDir()
	s := open(t, folder)
	const enough = 30
	a, b := start(t, folder, "a", enough), start(t, folder, "b", enough)
	ctx, stop := context.WithCancel(t.Context())
	read := make(chan int)
	go func() { read <- readForEver(ctx, t, s) }()
	acked := map[string]string{}
	keep := func(acks map[string]string) {
		for key, sum := range acks {
			if have, twice := acked[key]; twice {
				t.Errorf("%s was acknowledged to two writers: %s and %s", key, have, sum)
			}
			acked[key] = sum
		}
	}
	for i := range 4 {
		victim := start(t, folder, string(rune('c'+i)), enough)
		select {
		case <-victim.some:
		case <-t.Context().Done():
		}
		keep(victim.kill(t))
	}
	<-a.some
	<-b.some
	keep(a.kill(t))
	keep(b.kill(t))
	stop()
	if n := <-read; n == 0 {
		t.Error("nothing was read meanwhile")
	}
	if len(acked) < 6*enough {
		t.Fatalf("only %d objects", len(acked))
	}
	if _, err := s.Clean(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, f := range files(t, folder) {
		if strings.Contains(f, ".tmp-") {
			t.Errorf("%s is left", f)
		}
	}
	seen := 0
	for o, err := range blockstore.All(t.Context(), s, "") {
		if err != nil {
			t.Fatal(err)
		}
		b, err := blockstore.Get(t.Context(), s, o.Key, 1<<20)
		if err != nil || !whole(b) {
			t.Errorf("%s is not whole: %d bytes, %v", o.Key, len(b), err)
		}
		if sum, ok := acked[o.Key]; ok {
			seen++
			if have := sha256.Sum256(b); hex.EncodeToString(have[:]) != sum {
				t.Errorf("%s is not what was acknowledged", o.Key)
			}
		}
	}
	if seen != len(acked) {
		t.Errorf("%d objects were acknowledged, %d are there", len(acked), seen)
	}
}

// readForEver lists and reads beside the writers and says how many objects it read.
func readForEver(ctx context.Context, t *testing.T, s blockstore.Store) int {
	n := 0
	for ctx.Err() == nil {
		for o, err := range blockstore.All(ctx, s, "") {
			if err != nil {
				break
			}
			b, err := blockstore.Get(ctx, s, o.Key, 1<<20)
			if ctx.Err() != nil {
				break
			}
			if err != nil || !whole(b) || int64(len(b)) != o.Size {
				t.Errorf("while others write: %s: %d of %d bytes, whole: %t, %v", o.Key, len(b), o.Size, whole(b), err)
				return n
			}
			n++
		}
	}
	return n
}

func BenchmarkStore(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 32 << 20} {
		content := blockstoretest.Random(1, size)
		s, err := fileblock.Open(filepath.Join(b.TempDir(), "blocks"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("write/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				if err := blockstoretest.Write(b.Context(), s, fmt.Sprintf("w%d/%d", b.N, i), content); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := blockstoretest.Write(b.Context(), s, "k", content); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("read/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			buf := make([]byte, 256<<10)
			for b.Loop() {
				r, err := s.Open(b.Context(), "k", 0, -1)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(io.Discard, onlyReader{r}, buf)
				if err != nil || n != int64(size) {
					b.Fatal(n, err)
				}
				_ = r.Close()
			}
		})
		_ = s.Close()
	}
}

// onlyReader hides WriteTo, which would choose its own buffer.
type onlyReader struct{ io.Reader }
