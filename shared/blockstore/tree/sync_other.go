//go:build wasip1 || windows

package tree

import "os"

// syncDir does nothing: folders cannot be synced here.
func syncDir(*os.File) error { return nil }
