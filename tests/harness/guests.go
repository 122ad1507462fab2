package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// guestNames are the functions that are built as guests.
var guestNames = []string{"app", "ingestion", "alerts", "health"}

// guestsKept is how long guests of other contents stay in the cache.
const guestsKept = 48 * time.Hour

var guestsBuilt = sync.OnceValues(buildGuests)

// Guests builds the functions as WebAssembly guests and returns their folder, and the folder of their compiled code. Both are kept
// beside Go's build cache by the content of the tree, so that several test processes share them.
func Guests(t testing.TB) (folder, compiled string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the guests")
	}
	folder, err := guestsBuilt()
	if err != nil {
		t.Fatal(err)
	}
	return folder, filepath.Join(folder, "compiled")
}

func buildGuests() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for !exists(filepath.Join(root, "go.mod")) {
		if root = filepath.Dir(root); root == "/" {
			return "", errors.New("no go.mod above the working folder")
		}
	}
	key, err := contentOf(root, "go.mod", "go.sum", "functions", "shared", "local/sandbox")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "heartwood-guests")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	forgetGuests(cache)
	folder := filepath.Join(cache, key)
	if exists(filepath.Join(folder, "done")) {
		now := time.Now()
		return folder, os.Chtimes(folder, now, now)
	}
	for _, name := range guestNames {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-buildmode=c-shared", //nolint:gosec // our own
			"-o", filepath.Join(folder, name+".wasm"), "./functions/"+name+"/guest")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build guest %s: %w\n%s", name, err, said)
		}
	}
	return folder, os.WriteFile(filepath.Join(folder, "done"), nil, 0o600)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// contentOf is a digest of all files below some folders, tests left out.
func contentOf(root string, under ...string) (string, error) {
	sum := sha256.New()
	for _, u := range under {
		err := filepath.WalkDir(filepath.Join(root, u), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") {
				return err
			}
			f, err := os.Open(path) //nolint:gosec // of this tree
			if err != nil {
				return err
			}
			defer f.Close()
			fmt.Fprintln(sum, path)
			_, err = io.Copy(sum, f)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:32], nil
}

// forgetGuests removes what nobody has used for long.
func forgetGuests(cache string) {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && time.Since(info.ModTime()) > guestsKept {
			_ = os.RemoveAll(filepath.Join(cache, e.Name()))
		}
	}
}
