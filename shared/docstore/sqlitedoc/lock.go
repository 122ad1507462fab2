package sqlitedoc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// ErrLocked is in the chain of Open's error when another process, or another engine of this one, owns the file.
var ErrLocked = errors.New("the database is in use")

// lockFile takes the lock beside the database. SQLite itself would let several processes write; our group commit, schema
// and revisions assume that one does. The kernel drops the lock when the owner dies, however it dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, opererr.New("lock the database "+path, err, "check the folder's owner and mode")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, opererr.New("lock the database "+path, err, "the file system must support flock; use a local one")
		}
		pid := strings.TrimSpace(string(holder))
		if pid == "" {
			pid = "unknown"
		}
		return nil, opererr.New("open the database "+path, fmt.Errorf("%w by process %s", ErrLocked, pid),
			"stop process "+pid+" first, or use another data folder")
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	// A full disk must not keep the server from starting: the pid is only for the message above.
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		_ = f.Close()
		return nil, opererr.New("lock the database "+path, err, "check the folder's owner and mode")
	}
	return f, nil
}
