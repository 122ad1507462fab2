//go:build !linux

package head

import (
	"errors"
	"os"
)

// share lets a file share the blocks of another, where the file system can.
func share(_, _ *os.File) error { return errors.ErrUnsupported }
