package fetch

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncMany writes what is dirty on the folder's file system to disk, in one go and in the order of the disk. The files are synced one
// by one afterwards, which then finds nothing to do but tells of errors: syncing thousands of dirty files one by one makes the file
// system commit its journal thousands of times.
func syncMany(d *os.File) { _ = unix.Syncfs(int(d.Fd())) }
