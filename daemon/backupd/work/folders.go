package work

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

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
		if m, ok, err := mark.Read(dir); err != nil || !ok || m.Job != "" && m.Job != id {
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
