package fileblock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// missing reports whether there is nothing of that name; a file where a folder should be means so too.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// fail gives an error its meaning for the caller and, where a person must act, says what to do.
func (s *Store) fail(what, key string, err error) error {
	op := what + " " + key + " in the block store " + s.folder
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, blockstore.ErrInvalid):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrNoSpace, err),
			"Enlarge the file system (df -h "+s.folder+") or the quota, or shorten the retention and groom; nothing that is stored is lost, and writers go on when there is room.")
	case what == "write" && errors.Is(err, syscall.ENOTDIR), what == "write" && errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%w: %s: an object has the name of a folder", blockstore.ErrInvalid, op)
	case missing(err):
		return fmt.Errorf("%w: %s: %w", blockstore.ErrNotFound, op, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrDenied, err),
			"Give the user that runs heartwood the right to read and write all of "+s.folder+", and see that it is not mounted read-only.")
	}
	return fmt.Errorf("%w: %s: %w", blockstore.ErrUnavailable, op, err)
}

// Space implements blockstore.Spacer.
func (s *Store) Space(context.Context) (blockstore.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.folder, &st); err != nil {
		return blockstore.Space{}, s.fail("ask for the room", ".", err)
	}
	size := int64(st.Bsize)                                                                     //nolint:unconvert // 32 bits on some systems
	return blockstore.Space{Free: int64(st.Bavail) * size, Total: int64(st.Blocks) * size}, nil //nolint:gosec // no disk has 2^63 bytes
}
