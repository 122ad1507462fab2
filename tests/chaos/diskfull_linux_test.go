package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/daemon/spool"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// smallDisk mounts a file system of its own size, or skips the test where that is not allowed.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("heartwood-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", megabytes)); err != nil {
		t.Skipf("needs a small file system, which only root may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes what is free on the disk, to the last byte.
func fill(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "ballast")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else {
			must(t, err)
		}
	}
	return file
}

// TestDiskFull fills the disk of a server with its embedded database under load.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk, base := smallDisk(t, 64), harness.PortBase(t)
	data := filepath.Join(disk, "data")
	srv := serve(t, data, base)
	site := provision(t, base)
	load := startTraffic(t, site, addHosts(t, site, 20), 2)
	load.more(100)

	for range 3 {
		ballast := fill(t, disk)
		before := load.refused.Load()
		harness.Eventually(t, 30*time.Second, "refusals", func(context.Context) error {
			fill(t, disk) // what a checkpoint gave back
			if n := load.refused.Load() - before; n < 10 {
				return fmt.Errorf("%d posts were refused", n)
			}
			return nil
		})
		if err := wantStatus(t.Context(), local(base+diagnostics, "/live"), http.StatusOK); err != nil {
			t.Error(err)
		}
		must(t, os.Remove(ballast))
		load.more(100)
	}
	load.mu.Lock()
	for reason, n := range load.reasons {
		if !strings.Contains(reason, "status 503") || !strings.Contains(reason, "disk is full") {
			t.Errorf("%d posts were refused because of %q", n, reason)
		}
	}
	load.mu.Unlock()
	// Killed while it is full, it must still open afterwards.
	ballast := fill(t, disk)
	before := load.refused.Load()
	harness.Eventually(t, 30*time.Second, "refusals", func(context.Context) error {
		if load.refused.Load() == before {
			return errors.New("none")
		}
		return nil
	})
	srv.Kill()
	must(t, os.Remove(ballast))
	srv = serve(t, data, base)
	load.more(100)
	load.finish()
	must(t, srv.Stop(30*time.Second))

	if code, said := harness.Run(t, "store", "check", "--data", data); code != 0 {
		t.Errorf("store check: exit code %d\n%s", code, said)
	}
	load.verify(look(t, data, ""))
	t.Logf("%d pings acknowledged, %d posts refused", load.acked.Load(), load.refused.Load())
}

// TestSpoolOnAFullDisk lets an agent's spool run out of disk: it goes on in memory, and nothing is lost.
func TestSpoolOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 4)
	s, err := spool.Open(spool.Options{Dir: filepath.Join(disk, "spool")})
	must(t, err)
	record := func(n int) []byte { return []byte(strings.Repeat(fmt.Sprintf("%07d ", n), 1000)) }
	n := 0
	add := func(count int) {
		for range count {
			must(t, s.Append(record(n)))
			n++
		}
	}
	add(50)
	ballast := fill(t, disk)
	add(50)
	if st := s.Stats(); st.InMemory == 0 || st.Dropped > 0 || st.Records != int64(n) {
		t.Errorf("on a full disk: %+v", st)
	}
	must(t, os.Remove(ballast))
	add(50)
	if st := s.Stats(); st.InMemory > 0 {
		t.Errorf("with room again: %+v", st)
	}
	must(t, s.Close())
	s, err = spool.Open(spool.Options{Dir: filepath.Join(disk, "spool")})
	must(t, err)
	defer s.Close()
	for next := 0; next < n; {
		batch, err := s.Next(7, 1<<20)
		must(t, err)
		if len(batch.Records) == 0 {
			t.Fatalf("%d of %d records are there", next, n)
		}
		for _, r := range batch.Records {
			if string(r) != string(record(next)) {
				t.Fatalf("record %d is %.8s", next, r)
			}
			next++
		}
		must(t, s.Ack(batch))
	}
}
