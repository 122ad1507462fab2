//go:build unix

package agent

import (
	"os"
	"syscall"
)

// rotateSignals ask for a rotation of the log.
func rotateSignals() []os.Signal { return []os.Signal{syscall.SIGUSR1, syscall.SIGHUP} }

// lockExclusive fails when another process holds the lock; the lock ends with the process.
func lockExclusive(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits an int
}
