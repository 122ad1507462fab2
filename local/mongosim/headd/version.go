package headd

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/local/mongosim/status"
)

// Program is the name under which the heartwood binary is mongod: through a symbolic link of this name in a release folder.
const Program = "mongod"

var inName = regexp.MustCompile(`(?:^|[^0-9])([0-9]+\.[0-9]+\.[0-9]+)(?:[^0-9]|$)`)

// VersionOf gives the version that a program in a release folder claims: the one in the name of the innermost folder that has
// one, as in mongodb-linux-x86_64-7.0.14/bin/mongod. It is empty when there is none.
func VersionOf(program string) string {
	for dir := filepath.Dir(filepath.ToSlash(program)); dir != "." && dir != "/"; dir = filepath.Dir(dir) {
		if m := inName.FindStringSubmatch(filepath.Base(dir)); m != nil {
			return m[1]
		}
	}
	return ""
}

// versionText is what --version prints.
func versionText(v status.Version) string {
	if !v.AtLeast(4, 4) {
		return fmt.Sprintf(`db version v%s
git version: %s
allocator: system
modules: none
build environment:
    distmod: mongosim
    distarch: x86_64
    target_arch: x86_64
`, v, simulated)
	}
	return fmt.Sprintf(`db version v%s
Build Info: {
    "version": "%s",
    "gitVersion": "%s",
    "modules": [],
    "allocator": "system",
    "environment": {
        "distmod": "mongosim",
        "distarch": "x86_64",
        "target_arch": "x86_64"
    }
}
`, v, v, simulated)
}

// simulated stands where a server has the commit it was built from, so that nobody takes the stand-in for one.
const simulated = "simulated"

// series are the release series in order: a server reads data of its own and of the one before.
var series = []string{"4.0", "4.2", "4.4", "5.0", "6.0", "7.0", "8.0", "9.0"} //nolint:gochecknoglobals // read only

// own is the version's featureCompatibilityVersion, lower the one it may be set down to.
func own(v status.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func lower(v status.Version) string {
	at := slices.Index(series, own(v))
	switch {
	case at > 0:
		return series[at-1]
	case slices.Contains(series, fmt.Sprintf("%d.0", v.Major)): // a rapid release goes down to its major one
		return fmt.Sprintf("%d.0", v.Major)
	}
	return own(v)
}

// readable says that a server of a version starts on data of a featureCompatibilityVersion.
func readable(v status.Version, fcv string) bool {
	return fcv == own(v) || fcv == lower(v) || strings.HasPrefix(fcv, fmt.Sprintf("%d.", v.Major)) && fcv < own(v)
}
