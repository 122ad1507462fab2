// Package fetch reads snapshots: whole ones into a folder, single files, and samples to see that all is still there.
package fetch

import "github.com/heartwood-db/heartwood/shared/blockstore/tree/image"

// Options of Restore.
type Options struct {
	Workers int
	// Only restores the files it says yes to; nil means all.
	Only func(path string) bool
	// Resume accepts files that are there already, as after a Restore that was killed: their blocks are read and hashed, and
	// only those that differ are fetched. Without it a file that is there is an error.
	Resume   bool
	Progress func(image.Progress)
}

// Report is the outcome of Check.
type Report struct {
	Files, Pages, Blocks int64 // looked at
	Packs                int64 // whose index was read
	Frames               int64 // re-read and hashed
	Bytes                int64 // of re-read blocks
	Faults               []image.Damage
	More                 int64 // faults beyond those listed
}
