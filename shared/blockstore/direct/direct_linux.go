package direct

import (
	"errors"

	"golang.org/x/sys/unix"
)

const flag = unix.O_DIRECT

// refused says that the file system takes no such write here; nothing was written.
func refused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}
