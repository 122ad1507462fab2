//go:build !unix

package agent

import "os"

// rotateSignals is empty where there is no signal for it: logs rotate by size and age.
func rotateSignals() []os.Signal { return nil }

// lockExclusive does nothing: here the operating system has no lock that ends with the process in the standard library.
func lockExclusive(*os.File) error { return nil }
