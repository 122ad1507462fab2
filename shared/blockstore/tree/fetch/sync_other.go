//go:build wasip1 || windows

package fetch

import "os"

// syncDir does nothing: folders cannot be synced here.
func syncDir(*os.File) error { return nil }
