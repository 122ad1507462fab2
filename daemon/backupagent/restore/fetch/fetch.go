// Package fetch fetches the parts of a push from the server and reads them. What it hands on is whole: its digest was right.
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Objects is where parts come from.
type Objects interface {
	// Object begins to read a part of a restore, from a byte on; from is the byte that body begins with.
	Object(ctx context.Context, restore string, n int, offset int64) (body io.ReadCloser, from int64, err error)
}

// ErrStopped says that the restore was ended by somebody else.
var ErrStopped = errors.New("the restore was ended")

// Parts keeps parts on the agent's disk while they are written: what is written is known to be whole, and a slow target
// holds no connection to the server. There are at most two at a time.
type Parts struct {
	Server  Objects
	Restore string // its id
	Dir     string // theirs alone
	Objects []wire.PushObject
	Pause   func(ctx context.Context, d time.Duration) bool // says false when ctx ended first
	// Waits is told why nothing goes on, and "" when it does again.
	Waits func(why string)

	mu      sync.Mutex   // one object is fetched at a time
	checked map[int]bool // fetched, or found whole, by this process
}

// damaged is how often an object is fetched again that is not what its digest says.
const damaged = 3

// Get fetches a part, unless it is there already, and gives its file. While the server is away it waits.
func (f *Parts) Get(ctx context.Context, n int) (path string, err error) {
	if n < 0 || n >= len(f.Objects) {
		return "", fmt.Errorf("%w: there is no part %d of %d", dump.ErrBad, n, len(f.Objects))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	path = filepath.Join(f.Dir, dump.PartName(n+1))
	if f.checked == nil {
		f.checked = map[int]bool{}
	}
	if _, err := os.Stat(path); err == nil {
		if f.checked[n] {
			return path, nil
		}
		if err := os.Rename(path, path+".partial"); err != nil { // of an earlier process: looked at again
			return "", err
		}
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return "", err
	}
	var backoff call.Backoff
	waited := false
	for wrong := 0; ; {
		size, err := f.fetch(ctx, n, path)
		var bad *digestError
		switch {
		case err == nil:
			if waited {
				f.Waits("")
			}
			f.checked[n] = true
			return path, nil
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case errors.Is(err, syscall.ENOSPC):
			return "", &target.Waiting{What: fmt.Sprintf("there is no room for a part of %d MB in %s: make room on the agent's disk, or set stateDir to another", f.Objects[n].Bytes>>20, f.Dir)}
		case push.Refused(err, wire.CodeStopped):
			return "", ErrStopped
		case errors.As(err, &bad):
			if wrong++; wrong == damaged {
				return "", fmt.Errorf("part %d of %d: %w", n+1, len(f.Objects), err)
			}
		case call.Judge(err) == call.Never:
			return "", fmt.Errorf("part %d of %d: %w", n+1, len(f.Objects), err)
		}
		if size > 0 {
			backoff.Reset() // it moves
		}
		waited = true
		f.Waits(err.Error())
		if !f.Pause(ctx, backoff.Next(0)) {
			return "", context.Cause(ctx)
		}
	}
}

// digestError says that an object is not what the server says of it.
type digestError struct{ reason string }

func (e *digestError) Error() string { return e.reason }

// fetch goes on with a part where an earlier attempt ended, and says how many bytes came.
func (f *Parts) fetch(ctx context.Context, n int, path string) (came int64, err error) {
	o := &f.Objects[n]
	partial := path + ".partial"
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return 0, err
	}
	defer func() {
		if file != nil {
			_ = file.Close()
		}
	}()
	sum := sha256.New()
	have, err := io.Copy(sum, io.LimitReader(file, o.Bytes+1))
	if err != nil {
		return 0, err
	}
	if have < o.Bytes {
		if came, err = f.more(ctx, n, file, sum, have); err != nil {
			return came, err
		}
		have += came
	}
	if have != o.Bytes || hex.EncodeToString(sum.Sum(nil)) != o.SHA256 {
		_ = os.Remove(partial) // all of it comes again
		return came, &digestError{fmt.Sprintf("%d bytes of %d came, and their SHA-256 is not %s", have, o.Bytes, o.SHA256)}
	}
	err, file = file.Close(), nil
	if err != nil {
		return came, err
	}
	return came, os.Rename(partial, path)
}

// more appends what is missing.
func (f *Parts) more(ctx context.Context, n int, file *os.File, sum hash.Hash, have int64) (int64, error) {
	o := &f.Objects[n]
	body, from, err := f.Server.Object(ctx, f.Restore, n, have)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	if from != have { // the whole came
		if _, err := io.CopyN(io.Discard, body, have-from); err != nil {
			return 0, err
		}
	}
	if _, err := file.Seek(have, io.SeekStart); err != nil {
		return 0, err
	}
	came, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(body, o.Bytes-have+1))
	switch {
	case err != nil || have+came >= o.Bytes:
		return came, err
	case came == 0: // there is no more
		return 0, &digestError{fmt.Sprintf("it ends after %d bytes of %d", have, o.Bytes)}
	}
	return came, io.ErrUnexpectedEOF
}

// Done removes a part that was written.
func (f *Parts) Done(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.checked, n)
	_ = os.Remove(filepath.Join(f.Dir, dump.PartName(n+1)))
}

// Read calls a function for each run of a part that keep wants.
func (f *Parts) Read(ctx context.Context, n int, keep func(number int64) bool, each func(run dump.Run) error) error {
	path, err := f.Get(ctx, n)
	if err != nil {
		return err
	}
	file, err := os.Open(path) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, err := dump.NewReader(file)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		run, err := r.Next(keep)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("part %d of %d: %w", n+1, len(f.Objects), err)
		}
		if err := each(run); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// errCatalogueEnds says that the catalogue has ended.
var errCatalogueEnds = errors.New("the catalogue ends")

// Catalogue reads the entries.
func (f *Parts) Catalogue(ctx context.Context) ([]dump.Entry, error) {
	var all []dump.Entry
	size := 0
	for n := range f.Objects {
		err := f.Read(ctx, n, nil, func(run dump.Run) error {
			if run.Number > 0 {
				return errCatalogueEnds
			}
			if size += len(run.Docs); size > dump.MaxCatalogue {
				return fmt.Errorf("%w: a catalogue of over %d bytes", dump.ErrBad, dump.MaxCatalogue)
			}
			entries, err := run.Entries(len(f.Objects))
			if err != nil {
				return err
			}
			for i := range entries {
				if entries[i].Number != int64(len(all)+1) {
					return fmt.Errorf("%w: entry %d of the catalogue follows %d", dump.ErrBad, entries[i].Number, len(all))
				}
				all = append(all, entries[i])
			}
			return nil
		})
		if errors.Is(err, errCatalogueEnds) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		f.Done(n)
	}
	return all, nil
}
