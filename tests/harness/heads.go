package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// StandInVersion is the version that heads claim where the simulator stands in for mongod and a test names none.
const StandInVersion = "7.0.14"

// Releases is a release directory: the folders with mongods that the backup daemon starts heads from.
type Releases struct {
	Dir      string
	Versions []string // in the order asked for; one, its own, of a real mongod
	Real     bool     // a real mongod; else the simulator stands in
}

// Mongod is the path of a version's mongod.
func (r Releases) Mongod(version string) string {
	return filepath.Join(r.Dir, "mongodb-linux-x86_64-"+version, "bin", "mongod")
}

// Heads makes a release directory: of the mongod that HEARTWOOD_TEST_MONGOD names, or of this tree's heartwood binary, which
// stands in for the versions asked for (StandInVersion when none is). It prints which it is.
func Heads(t testing.TB, versions ...string) Releases {
	t.Helper()
	r := Releases{Dir: t.TempDir(), Versions: versions}
	target := os.Getenv("HEARTWOOD_TEST_MONGOD")
	if target != "" {
		out, err := exec.Command(target, "--version").Output()
		m := regexp.MustCompile(`db version v([0-9]+\.[0-9]+\.[0-9]+)`).FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("%s --version (HEARTWOOD_TEST_MONGOD): %v\n%s", target, err, out)
		}
		r.Versions, r.Real = []string{string(m[1])}, true
		t.Logf("heads run on mongod %s (%s)", m[1], target)
	} else {
		target = Binary(t)
		if len(versions) == 0 {
			r.Versions = []string{StandInVersion}
		}
		t.Logf("heads run on the simulator, which stands in for mongod %v: set HEARTWOOD_TEST_MONGOD to a mongod for the real thing", r.Versions)
	}
	target, err := filepath.Abs(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Versions {
		path := r.Mongod(v)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	return r
}
