// Package arch holds the checks that keep the tree's shape: who may import whom, how large a package may grow, and that
// every package says what it owns.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "github.com/heartwood-db/heartwood"
	maxLines = 1500 // code lines of one package, tests and comments left out
	driver   = "go.mongodb.org/mongo-driver/v2"
)

// pkg is one folder with Go files.
type pkg struct {
	dir     string              // from the repository's root, with slashes
	imports map[string][]string // import path -> files (not tests)
	lines   int
	doc     bool
}

// level gives a package its place: a package imports only packages of its own level or below (deeper rules follow).
func level(dir string) int {
	in := func(roots ...string) bool {
		return slices.ContainsFunc(roots, func(r string) bool { return dir == r || strings.HasPrefix(dir, r+"/") })
	}
	switch {
	case in("shared/model"):
		return 0
	case in("shared/wire", "shared/catalog", "shared/rollup", "shared/rule", "shared/oplog", "shared/snapshot", "shared/restoreplan", "shared/opererr", "shared/topology"):
		return 1
	case in("shared/docstore/mongodoc", "shared/docstore/sqlitedoc", "shared/blockstore/fileblock", "shared/blockstore/cloudblock"):
		return 3
	case strings.HasPrefix(dir, "shared/notify/") && !in("shared/notify/picture", "shared/notify/letter", "shared/notify/guard", "shared/notify/notifytest"):
		return 3 // a channel
	case in("shared"):
		return 2
	case strings.HasPrefix(dir, "functions/") && (strings.HasSuffix(dir, "/guest") || strings.HasSuffix(dir, "/lambda")):
		return 5 // mains
	case in("functions", "daemon"):
		return 4
	case in("local"):
		return 5
	}
	return 6 // tests
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.dir, "tests") || strings.HasSuffix(p.dir, "test") { // test helpers may import what tests may
			continue
		}
		for imp, files := range p.imports {
			target, ours := strings.CutPrefix(imp, module+"/")
			if reason := forbidden(p.dir, imp, target, ours); reason != "" {
				t.Errorf("%s imports %s (%s): %s", p.dir, imp, strings.Join(files, ", "), reason)
			}
		}
	}
}

// forbidden says why a package must not import another, or "".
func forbidden(dir, imp, target string, ours bool) string {
	from := level(dir)
	if !ours {
		return forbiddenOutside(dir, imp, from)
	}
	to := level(target)
	sameFunction := func() bool {
		a, b := strings.Split(dir, "/"), strings.Split(target, "/")
		return len(a) > 1 && len(b) > 1 && a[0] == b[0] && a[1] == b[1]
	}
	switch {
	case strings.HasPrefix(target, "tests/"):
		return "nothing imports tests"
	case strings.HasSuffix(target, "test") || strings.HasSuffix(target, "/faultdoc") || strings.HasSuffix(target, "/faultblock"):
		return "test helpers are for test files"
	case to > from:
		return "imports run downwards only"
	case to == 3 && from < 5 && !strings.HasPrefix(target, dir+"/"):
		return "adapters are imported by mains and local only"
	case from == 4 && strings.HasPrefix(dir, "functions/") && (strings.HasPrefix(target, "daemon/") || strings.HasPrefix(target, "functions/") && !sameFunction()):
		return "functions know nothing of the daemons or of each other"
	case strings.HasPrefix(dir, "daemon/") && !strings.HasPrefix(dir+"/", "daemon/backupd/") && (strings.HasPrefix(target, "shared/store") || strings.HasPrefix(target, "shared/docstore") || strings.HasPrefix(target, "functions/")):
		return "agents speak the wire, never the store"
	case strings.HasPrefix(dir, "shared/docstore") && strings.HasPrefix(target, "shared/store"):
		return "docstore is below store"
	case strings.HasPrefix(dir, "shared/config") && strings.HasPrefix(target, "shared/") && to == 2 && target != "shared/obs" && target != dir:
		return "config is below everything that is configured"
	}
	return ""
}

func forbiddenOutside(dir, imp string, from int) string {
	std := !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
	bson := imp == driver+"/bson" || strings.HasPrefix(imp, driver+"/bson/") || strings.HasPrefix(imp, driver+"/x/bsonx/bsoncore")
	switch {
	case from == 0 && !std:
		return "model is standard library only"
	case from == 1 && std && (imp == "net/http" || imp == "os" || imp == "os/exec" || imp == "database/sql"):
		return "pure packages have no network and no files"
	case strings.HasPrefix(imp, driver) && !bson && !driverAllowed(dir):
		return "the driver beyond bson belongs to the adapters, the agents and the simulator's users"
	case imp == "os/exec" && !strings.HasPrefix(dir, "daemon/") && dir != "local/cli":
		return "programs are started by the head manager, for credentials from a command, and in tests"
	}
	return ""
}

func driverAllowed(dir string) bool {
	return slices.ContainsFunc([]string{"shared/docstore/mongodoc", "shared/probe", "daemon/", "local/", "tests/"}, func(p string) bool {
		return strings.HasPrefix(dir, p)
	})
}

func TestPackagesStaySmallAndDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.lines > maxLines {
			t.Errorf("%s has %d code lines, more than %d: split it", p.dir, p.lines, maxLines)
		}
		if !p.doc && p.lines > 0 {
			t.Errorf("%s has no package comment", p.dir)
		}
	}
}

func packages(t *testing.T) []*pkg {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*pkg{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "ferretdb" || name == "bin" || name == "data") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		return add(found, root, path)
	})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*pkg, 0, len(found))
	for _, p := range found {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	if len(all) < 10 {
		t.Fatalf("found only %d packages under %s", len(all), root)
	}
	return all
}

func add(found map[string]*pkg, root, path string) error {
	rel, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(rel)
	p := found[dir]
	if p == nil {
		p = &pkg{dir: dir, imports: map[string][]string{}}
		found[dir] = p
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.ImportsOnly)
	if err != nil {
		return err
	}
	p.doc = p.doc || f.Doc != nil
	if strings.HasSuffix(path, "_test.go") {
		return nil
	}
	for _, i := range f.Imports {
		imp := strings.Trim(i.Path.Value, `"`)
		p.imports[imp] = append(p.imports[imp], filepath.Base(path))
	}
	for line := range strings.SplitSeq(string(src), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			p.lines++
		}
	}
	return nil
}

// TestWhatFunctionsAreMadeOfBuildsForGuests keeps the functions and all below them free of what a WebAssembly guest has not.
func TestWhatFunctionsAreMadeOfBuildsForGuests(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for another platform")
	}
	dirs := []string{"build"}
	for _, p := range packages(t) {
		if l := level(p.dir); (l <= 2 || strings.HasPrefix(p.dir, "functions/")) && !strings.HasSuffix(p.dir, "/lambda") && !strings.HasSuffix(p.dir, "test") && p.lines > 0 {
			dirs = append(dirs, "./"+p.dir)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", dirs...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
