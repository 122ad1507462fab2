//go:build unix

package head

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// apart puts the process into a group of its own: a terminal's interrupt is the daemon's to act upon.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

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

// Space is the room of the disk that holds a folder, in bytes.
func Space(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
