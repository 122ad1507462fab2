package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// pidName is the file in the data folder that names the running server. It is held with an exclusive lock for as long as the
// server runs, so a process that died leaves no lock behind and a reused process number does not mislead anybody.
const pidName = "heartwood.pid"

const dataHint = "choose a folder this user may write with --data"

// State is what the pid file of a data folder says.
type State int

// What `heartwood status` tells, numbered as the LSB's exit codes.
const (
	Running    State = 0
	Dead       State = 1 // a pid file without its process
	NotRunning State = 3
)

// claimData locks the data folder for this process.
func claimData(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, opererr.New("create the data folder", err, dataHint)
	}
	name := filepath.Join(dir, pidName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, opererr.New("open the pid file", err, dataHint)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid := readPid(f)
		_ = f.Close()
		return nil, opererr.New("start on the data folder "+dir, fmt.Errorf("a heartwood server is already running there (process %d)", pid),
			"run: heartwood stop --data "+dir+", or choose another folder with --data and other ports with --port-base")
	}
	if err := errors.Join(f.Truncate(0), writePid(f), f.Sync()); err != nil {
		return nil, errors.Join(opererr.New("write the pid file", err, "make room there: df -h "+dir), f.Close())
	}
	// Emptied, not removed: a file that vanished between another process's open and lock would let two of them start.
	return func() error { return errors.Join(f.Truncate(0), f.Close()) }, nil
}

func writePid(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPid(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// Status tells whether a server runs on the data folder, and its process number.
func Status(dir string) (State, int, error) {
	f, err := os.Open(filepath.Join(dir, pidName)) //nolint:gosec // the operator names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return NotRunning, 0, nil
	}
	if err != nil {
		return NotRunning, 0, fmt.Errorf("open the pid file: %w", err)
	}
	defer f.Close()
	pid := readPid(f)
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return Running, pid, nil
	case err != nil:
		return NotRunning, pid, fmt.Errorf("probe the pid file: %w", err)
	}
	if pid == 0 {
		return NotRunning, 0, nil
	}
	return Dead, pid, nil
}

// Signal sends a signal to a running server's process.
func Signal(pid int, sig syscall.Signal) error {
	if pid <= 1 {
		return fmt.Errorf("the pid file holds no process number")
	}
	return syscall.Kill(pid, sig)
}
