package obs

import (
	"runtime/debug"
	"strings"
	"sync"
)

// BuildInfo is what the binary knows about its own origin.
type BuildInfo struct {
	Version  string // a tag such as "0.3.1", else "0.0.0-dev"
	Revision string // 40 hexadecimal digits; zeros when not built from a checkout
	Dirty    bool   // built with uncommitted changes
	Go       string
}

// Build reads the build information that the Go tool stamped into the binary.
func Build() BuildInfo { return readBuild() }

var readBuild = sync.OnceValue(func() BuildInfo {
	b := BuildInfo{Version: "0.0.0-dev", Revision: strings.Repeat("0", 40)}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := strings.TrimPrefix(info.Main.Version, "v"); v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
})
