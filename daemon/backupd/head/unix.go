//go:build unix

package head

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// apart puts the process into a group of its own: a terminal's interrupt is the daemon's to act upon.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// Lock makes the folder of heads this process's own, until release or the end of the process: two daemons over the same heads would
// stop each other's.
func Lock(root string) (release func() error, err error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("folder of heads: %w", err)
	}
	path := filepath.Join(root, ".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of heads: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); { //nolint:gosec // a descriptor fits an int
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(opererr.New("lock the folder of heads "+root, errors.New("another backup daemon works in it"),
			"stop that daemon first, or give this one a folder of its own (rootDirectory)"), f.Close())
	case err != nil:
		return nil, errors.Join(opererr.New("lock the folder of heads "+root, err, "the file system must support flock: heads belong on a local disk"), f.Close())
	}
	return f.Close, nil
}

// interrupt asks for a clean end.
func interrupt(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// commandLine gives the arguments of a living process.
func commandLine(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err == nil {
		return strings.Split(string(b), "\x00"), nil
	}
	if _, there := os.Stat("/proc/self"); there == nil {
		return nil, err
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx // at once
	return strings.Fields(string(out)), err
}

// process is one of our user's.
type process struct {
	pid  int
	args []string
}

// processes lists those of our user.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil || len(entries) == 0 {
		return listed()
	}
	me := uint32(os.Geteuid()) //nolint:gosec // ids are not negative here
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		info, err := e.Info()
		if err != nil { // it has just ended
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != me {
			continue
		}
		if args, err := commandLine(pid); err == nil {
			out = append(out, process{pid: pid, args: args})
		}
	}
	return out, nil
}

// listed asks ps, on systems without /proc.
func listed() ([]process, error) {
	text, err := exec.Command("ps", "-U", strconv.Itoa(os.Geteuid()), "-o", "pid=,command=").Output() //nolint:noctx,gosec // at once; a number
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var out []process
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if pid, err := strconv.Atoi(fields[0]); err == nil && pid != os.Getpid() {
			out = append(out, process{pid: pid, args: fields[1:]})
		}
	}
	return out, nil
}

// wantFiles is how many open files mongod asks for.
const wantFiles = 64000

// allowFiles lets processes that are started from here on open as many files as the system allows: a mongod opens one for each
// collection and index, and ends when it may not. Go gives children the limit that the process began with unless it is set.
func allowFiles() (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur = l.Max
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	return uint64(l.Max), err //nolint:unconvert // signed on some systems
}

// Space is the room of the disk that holds a folder, in bytes.
func Space(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
