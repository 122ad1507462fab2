// Package mark keeps a small file in the folder of each head: whose it is, how far it is, and which namespaces it holds. It makes a
// folder known as ours.
package mark

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

// Mark is the file's content. What matters for the head's content is the applier's own state; the mark says what may be done with the
// folder.
type Mark struct {
	Job   model.ID  `json:"job"`
	Epoch int64     `json:"epoch"`
	Phase job.Phase `json:"phase"`
	Dirty bool      `json:"dirty,omitempty"`
	// From is the snapshot that the folder is being made from; "" when it is not, or is done.
	From       string       `json:"from,omitempty"`
	Applied    oplog.OpTime `json:"applied"`
	ReplayFrom oplog.OpTime `json:"replayFrom"`
	// Snapshot is the last one that was stored of this very folder: its files may be trusted by size, time and inode.
	Snapshot string `json:"snapshot,omitempty"`
	// Filter is which namespaces the head holds; nil where an older version wrote the mark.
	Filter *Held `json:"filter,omitempty"`
}

// Held is a list of namespaces, as a backup's settings have it.
type Held struct {
	Kind       filter.Kind `json:"kind"`
	Namespaces []string    `json:"namespaces,omitempty"`
}

// Same reports whether two lists are the same; one that is nil is not known and the same as none.
func (h *Held) Same(o *Held) bool {
	return h != nil && o != nil && h.Kind == o.Kind && slices.Equal(h.Namespaces, o.Namespaces)
}

// Narrowed is what a head is to hold where people want something: that, but nothing that was not read for it. A wider list
// counts from the next full read on.
func Narrowed(have, want *Held) (*Held, *filter.Filter, error) {
	is, err := filter.New(want.Kind, want.Namespaces)
	if err != nil || have == nil {
		return want, is, err
	}
	was, err := filter.New(have.Kind, have.Namespaces)
	if err != nil {
		return nil, nil, err
	}
	if is.Wider(was) {
		return have, was, nil
	}
	return want, is, nil
}

const (
	file    = "heartwood.json"
	maxSize = 64 << 10
)

// Read reads a head's mark; ok is false where the folder is not ours.
func Read(dir string) (m Mark, ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, file)) //nolint:gosec // below the root of heads
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return m, false, err
	}
	if info.Size() > maxSize {
		return m, false, fmt.Errorf("%s: %d bytes are no mark of a head", f.Name(), info.Size())
	}
	b := make([]byte, info.Size())
	if _, err := f.Read(b); err != nil && len(b) > 0 {
		return m, false, err
	}
	if json.Unmarshal(b, &m) != nil {
		return Mark{Dirty: true}, true, nil // torn by a crash: the head is made again
	}
	return m, true, nil
}

// Write replaces a head's mark as a whole.
func Write(dir string, m Mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, file+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // below the root of heads
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, file))
}
