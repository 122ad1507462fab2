package headd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// lockName is the file that says whose a dbpath is: locked while a process runs on it, and holding its number; empty after a
// clean stop.
const lockName = "mongod.lock"

// lock is a held lock file.
type lock struct {
	f       *os.File
	unclean bool // the process before did not stop cleanly
}

// errInUse says that another process runs on the dbpath.
var errInUse = errors.New("in use")

// takeLock locks a dbpath for this process.
func takeLock(dbpath string) (*lock, error) {
	path := filepath.Join(dbpath, lockName)
	if fi, err := os.Stat(dbpath); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("NonExistentPath: Data directory %s not found. Create the missing directory or specify another path using (1) the --dbpath command line option, or (2) by adding the 'storage.dbPath' option in the configuration file.", dbpath) //nolint:staticcheck,revive // the server's words
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("IllegalOperation: Attempted to create a lock file on a read-only directory: %s: %w", dbpath, err) //nolint:staticcheck,revive // the server's words
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("DBPathInUse: Unable to lock the lock file: %s (%w). Another mongod instance is already running on the %s directory: %w", path, err, dbpath, errInUse) //nolint:staticcheck,revive // the server's words
	}
	fi, err := f.Stat()
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &lock{f: f, unclean: fi.Size() > 0}, nil
}

// release gives the dbpath up; clean says that its files are in order.
func (l *lock) release(clean bool) error {
	var err error
	if clean {
		err = l.f.Truncate(0)
	}
	return errors.Join(err, l.f.Close())
}
