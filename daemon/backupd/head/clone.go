package head

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// slack is what a head needs beside its data: journal, logs, redo log, and room for what grows before the next look.
const slack = 2 << 30

// Need checks that there is room for bytes more below dir, a tenth and some slack included; the error says how much is missing (ErrNoSpace).
func Need(dir string, bytes int64) error {
	for { // the folder may not be there yet
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, size, err := Space(dir)
	if err != nil {
		return err
	}
	if want := bytes + bytes/10 + slack; free < want {
		return fmt.Errorf("%w: %s has %d MB free of %d, %d MB are wanted: %d MB are missing", ErrNoSpace, dir, free>>20, size>>20, want>>20, (want-free)>>20)
	}
	return nil
}

// Leave reports whether a file of a stopped head is not part of its data: the journal after a clean stop, locks, diagnostics.
func Leave(rel string) bool {
	first, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
	switch first {
	case "journal", "diagnostic.data", "mongod.lock", "_tmp":
		return true
	}
	return false
}

// Clone copies the data files of a head that was stopped cleanly: sharing their blocks where the file system can (FICLONE),
// byte by byte elsewhere. What Leave names is left out; times are kept, so that unchanged files are known.
func Clone(ctx context.Context, src, dst string) (shared bool, err error) {
	shared = true
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case rel != "." && Leave(rel):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		one, err := cloneFile(path, to)
		shared = shared && one
		return err
	})
	if err != nil {
		return false, fmt.Errorf("copy %s: %w", src, err)
	}
	return shared, nil
}

func cloneFile(src, dst string) (shared bool, err error) {
	in, err := os.Open(src)
	if err != nil {
		return false, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return false, err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	if shared = share(out, in) == nil; !shared {
		_, err = io.Copy(out, in)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Chtimes(dst, info.ModTime(), info.ModTime())
	}
	return shared, err
}
