package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/archive"
)

var when = time.Date(2026, 11, 1, 10, 0, 0, 5, time.UTC)

// head makes a folder and a snapshot of it.
func head(t *testing.T) (*os.Root, map[string]string, *memblock.Store, *tree.Manifest) {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	long := strings.Repeat("d", 120) + "/" + strings.Repeat("e", 130) + "-ü.wt" // longer than ustar can name
	want := map[string]string{}
	for path, n := range map[string]int{"WiredTiger": 47, "collection-7.wt": 5 << 20, "empty": 0, long: 700, "journal/x": 512} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.UintN(9))
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700), os.WriteFile(filepath.Join(dir, path), b, 0o640)); err != nil {
			t.Fatal(err)
		}
		want["top/"+path] = string(b)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	s := memblock.New()
	m, err := tree.Write(t.Context(), s, root, nil, tree.Options{Job: "j", ID: "s", Created: when})
	if err != nil {
		t.Fatal(err)
	}
	return root, want, s, m
}

func read(t *testing.T, b []byte, zipped bool) map[string]string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	if zipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	}
	got := map[string]string{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			got[h.Name] = string(b)
		}
		if h.ModTime.IsZero() || h.Mode == 0 {
			t.Errorf("%s: %v %o", h.Name, h.ModTime, h.Mode)
		}
	}
}

func TestArchivesHoldWhatTheirSourceHolds(t *testing.T) {
	root, want, s, m := head(t)
	info := archive.Small("restoreInfo.txt", []byte("Restored by Heartwood\n"))
	want["top/restoreInfo.txt"] = "Restored by Heartwood\n"
	fromSnapshot, err := archive.Snapshot(s, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	fromFolder, err := archive.Folder(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, zipped := range []bool{false, true} {
		var first []byte
		for i, files := range [][]archive.File{append(fromSnapshot, info), append(fromFolder, info)} {
			var b bytes.Buffer
			o := archive.Options{Top: "top", Time: when, Gzip: zipped, Workers: 1 + 3*i}
			res, err := archive.Write(t.Context(), &b, files, o)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, read(t, b.Bytes(), zipped)); d != "" {
				t.Errorf("%.1000s", d)
			}
			if res.Size != int64(b.Len()) || res.SHA256 != sha256.Sum256(b.Bytes()) || res.Files != 6 {
				t.Errorf("%+v", res)
			}
			if n, err := archive.Size(files, o); !zipped && (err != nil || n != res.Size) {
				t.Errorf("said beforehand: %d, %v; is %d", n, err, res.Size)
			}
			if first == nil {
				first = bytes.Clone(b.Bytes())
			} else if !bytes.Equal(first, b.Bytes()) {
				t.Error("the same files gave other bytes")
			}
		}
	}
}

func TestAFileThatChangesSpoilsTheArchive(t *testing.T) {
	for _, n := range []int64{4, 6, 1 << 30} {
		f := archive.Small("a", []byte("hello"))
		f.Size = n
		if _, err := archive.Write(t.Context(), io.Discard, []archive.File{f}, archive.Options{Time: when}); !errors.Is(err, archive.ErrChanged) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

type broken struct{ left int }

var errBroken = errors.New("the client went away")

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestAWriterThatFailsEndsIt(t *testing.T) {
	_, _, s, m := head(t)
	files, err := archive.Snapshot(s, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, zipped := range []bool{false, true} {
		if _, err := archive.Write(t.Context(), &broken{100_000}, files, archive.Options{Time: when, Gzip: zipped}); !errors.Is(err, errBroken) {
			t.Errorf("gzip %v: %v", zipped, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := archive.Write(ctx, io.Discard, files, archive.Options{Time: when, Gzip: zipped}); !errors.Is(err, context.Canceled) {
			t.Errorf("gzip %v: %v", zipped, err)
		}
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for _, files := range [][]archive.File{{archive.Small("../a", nil)}, {archive.Small("/a", nil)}, {archive.Small("a", nil), archive.Small("a", nil)}} {
		if _, err := archive.Write(t.Context(), io.Discard, files, archive.Options{Time: when}); err == nil {
			t.Errorf("%s was accepted", files[0].Path)
		}
	}
}

// TestSizeOfLargeFiles needs no content: only the headers differ.
func TestSizeOfLargeFiles(t *testing.T) {
	files := []archive.File{{Path: "big", Size: 9 << 30}}
	n, err := archive.Size(files, archive.Options{Time: when})
	if err != nil || n < 9<<30 || n%512 != 0 {
		t.Errorf("%d, %v", n, err)
	}
}
