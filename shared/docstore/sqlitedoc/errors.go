package sqlitedoc

import (
	"fmt"
	"syscall"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
)

// translate puts SQLite's error under the contract's. Only what fails before a commit comes here: nothing was written.
func (e *Engine) translate(err error) error {
	c := sqlconn.Code(err)
	switch c & 0xff {
	case 0:
		return err
	case sqlite3.SQLITE_CONSTRAINT:
		if c != sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY && c != sqlite3.SQLITE_CONSTRAINT_UNIQUE {
			break
		}
		return fmt.Errorf("%w: %w", docstore.ErrExists, err)
	case sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("%w: %w", docstore.ErrTooLarge, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", docstore.ErrFull, err)
	case sqlite3.SQLITE_IOERR:
		// A quota or a full disk shows as a failed write too, and as a failed growth of the shared-memory file.
		if (c == sqlite3.SQLITE_IOERR_WRITE || c == sqlite3.SQLITE_IOERR_SHMSIZE) && e.diskFull() {
			return fmt.Errorf("%w: %w", docstore.ErrFull, err)
		}
	}
	return fmt.Errorf("%w: %w", docstore.ErrUnavailable, err)
}

// translateCommit is translate for a failed COMMIT. After a failed sync the commit may or may not be on the disk.
func (e *Engine) translateCommit(err error) error {
	switch sqlconn.Code(err) {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return fmt.Errorf("%w: %w", docstore.ErrOutcomeUnknown, err)
	}
	return e.translate(err)
}

// diskFull says whether the file system has less than a megabyte left for us.
func (e *Engine) diskFull() bool {
	var st syscall.Statfs_t
	if err := syscall.Statfs(e.path, &st); err != nil {
		return false
	}
	return st.Bavail*uint64(st.Bsize) < 1<<20
}
