//go:build !wasip1 && !windows

package fetch

import "os"

// syncDir makes the names in a folder durable.
func syncDir(d *os.File) error { return d.Sync() }
