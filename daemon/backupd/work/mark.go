package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

// mark is a small file in the folder of each head: how far it is. What matters for the content is the applier's own state; the mark
// says what may be done with the folder, and makes the folder known as ours.
type mark struct {
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
	Filter *held `json:"filter,omitempty"`
}

// held is a list of namespaces, as a backup's settings have it.
type held struct {
	Kind       filter.Kind `json:"kind"`
	Namespaces []string    `json:"namespaces,omitempty"`
}

func (h *held) same(o *held) bool {
	return h != nil && o != nil && h.Kind == o.Kind && slices.Equal(h.Namespaces, o.Namespaces)
}

// narrowed is what a head is to hold where people want something: that, but nothing that was not read for it. A wider list
// counts from the next full read on.
func narrowed(have, want *held) (*held, *filter.Filter, error) {
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
	markFile = "heartwood.json"
	maxMark  = 64 << 10
)

// readMark reads a head's mark; ok is false where the folder is not ours.
func readMark(dir string) (m mark, ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, markFile)) //nolint:gosec // below the root of heads
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
	if info.Size() > maxMark {
		return m, false, fmt.Errorf("%s: %d bytes are no mark of a head", f.Name(), info.Size())
	}
	b := make([]byte, info.Size())
	if _, err := f.Read(b); err != nil && len(b) > 0 {
		return m, false, err
	}
	if json.Unmarshal(b, &m) != nil {
		return mark{Dirty: true}, true, nil // torn by a crash: the head is made again
	}
	return m, true, nil
}

// writeMark replaces a head's mark as a whole.
func writeMark(dir string, m mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, markFile+".new")
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
	return os.Rename(tmp, filepath.Join(dir, markFile))
}

// JobDir is the folder of a job.
func (h *Host) JobDir(id model.ID) string { return filepath.Join(h.Root, string(id)) }

func (h *Host) epochDir(id model.ID, epoch int64) string {
	return filepath.Join(h.JobDir(id), strconv.FormatInt(epoch, 10))
}

// epochs lists the epochs of a job that have a folder here, ascending as the file system does.
func (h *Host) epochs(id model.ID) ([]int64, error) {
	entries, err := os.ReadDir(h.JobDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, e := range entries {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil && n > 0 && e.IsDir() {
			out = append(out, n)
		}
	}
	return out, nil
}

// Discard removes the heads of a job that this daemon does not have any more. A folder that does not carry our mark stays.
func (h *Host) Discard(ctx context.Context, id model.ID) error {
	epochs, err := h.epochs(id)
	if err != nil {
		return err
	}
	for _, n := range epochs {
		dir := h.epochDir(id, n)
		if m, ok, err := readMark(dir); err != nil || !ok || m.Job != "" && m.Job != id {
			continue
		}
		h.Log.InfoContext(ctx, "the head of a backup that is not this daemon's any more is deleted", obs.KeyCluster, id, obs.KeyPath, dir)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	_ = os.Remove(h.JobDir(id)) // if nothing else is in it
	return nil
}
