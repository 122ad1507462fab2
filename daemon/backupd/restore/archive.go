package restore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/archive"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// stem is the archive's one folder, and its name without the end: "<set>-<seconds>-<restore>".
func (w *work) stem() string {
	set := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, w.name())
	return fmt.Sprintf("%s-%d-%s", set, w.plan.Target.T, w.job.ID)
}

func (w *work) file() string {
	if w.plan.Compress {
		return w.stem() + ".tar.gz"
	}
	return w.stem() + ".tar"
}

// archiveSnapshot makes the archive of a snapshot as it is, straight from the block store.
func (w *work) archiveSnapshot(ctx context.Context) error {
	m, err := tree.Load(ctx, w.blocks, string(w.job.Job), w.shot.ID)
	if err != nil {
		return fmt.Errorf("load snapshot %s: %w", w.shot.ID, err)
	}
	files, err := archive.Snapshot(w.blocks, m, func(path string) bool { return !head.Leave(path) })
	if err != nil {
		return err
	}
	return w.store(ctx, files)
}

// archiveFolder makes the archive of what lies in a folder.
func (w *work) archiveFolder(ctx context.Context, dir string, only func(path string) bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	files, err := archive.Folder(root, only)
	if err != nil {
		return err
	}
	if w.plan.Format == restoreplan.BSON {
		for i := range files {
			files[i].Path = dumpFolder + "/" + files[i].Path
		}
	}
	return w.store(ctx, files)
}

// store writes the archive as an object and offers it.
func (w *work) store(ctx context.Context, files []archive.File) error {
	const step = "writes the archive"
	var bytes int64
	for i := range files {
		bytes += files[i].Size
	}
	if err := w.begin(ctx, w.delivers(), step, bytes); err != nil {
		return err
	}
	files = append(files, archive.Small("restoreInfo.txt", []byte(w.info())))
	// An attempt that was cut short may have stored an object: it is made anew, under another name.
	name := w.file()
	key := strings.ToLower(fmt.Sprintf("restores/%s/%d-%s", w.job.ID, w.job.Token, name))
	out, err := w.blocks.Create(ctx, key)
	if err != nil {
		return err
	}
	res, err := archive.Write(ctx, out, files, archive.Options{
		Top: w.stem(), Time: w.job.Created, Gzip: w.plan.Compress, Progress: func(done int64) { w.progress(step, done, bytes) },
	})
	if err != nil {
		out.Abort()
		return err
	}
	if err := out.Commit(ctx); err != nil && !errors.Is(err, blockstore.ErrExists) {
		return err
	}
	now := w.o.Now().UTC()
	err = w.o.Backup.UpdateRestoreAs(ctx, w.job.ID, w.job.Token, func(x *backup.Restore) error {
		x.Status, x.Finished, x.StoreID, x.Step, x.Done, x.Total = model.RestoreFinished, now, w.shot.StoreID, "", bytes, bytes
		x.Objects = []backup.Object{{Key: key, Name: name, Bytes: res.Size, SHA256: hex.EncodeToString(res.SHA256[:])}}
		w.o.Backup.OfferDownload(x, now)
		return nil
	})
	if err != nil {
		if del := w.blocks.Delete(context.WithoutCancel(ctx), key); del != nil {
			err = errors.Join(err, del)
		}
		return err
	}
	w.event(ctx, model.EventRestoreReady, fmt.Sprintf("The archive of the restore of %s to %s can be fetched: %d MB.", w.name(), w.moment(), res.Size>>20))
	return nil
}

func (w *work) moment() string {
	return time.Unix(int64(w.plan.Target.T), 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

// info is restoreInfo.txt: what this is, and how it is used.
func (w *work) info() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-31s%s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Restore", "%s", w.job.ID)
	line("Group", "%s", w.job.GroupID)
	line("Replica set", "%s", w.name())
	line("Restored to", "%s", w.moment())
	line("Everything up to", "%d:%d, inclusive", w.plan.Target.T, w.plan.Target.I)
	line("Snapshot", "%s of %s", w.shot.ID, w.shot.At.UTC().Format("2006-01-02 15:04:05 UTC"))
	line("Oplog replayed", "%d entries", w.plan.Oplog.Entries)
	line("mongod", "%s", w.shot.Version)
	line("Feature compatibility version", "%s", w.shot.FCV)
	if len(w.plan.Selected) > 0 {
		line("Namespaces", "%s", strings.Join(w.plan.Selected, ", "))
	}
	b.WriteString("\n")
	if w.plan.Format == restoreplan.BSON {
		b.WriteString("Each collection is a file of BSON documents with its options and indexes beside it. To load it:\n\n  mongorestore --uri mongodb://... dump\n")
		return b.String()
	}
	held := ""
	if len(w.shot.Namespaces) > 0 {
		held = fmt.Sprintf("They hold only a part of the replica set: its backup was set to %s %s.\n", w.shot.Filter, strings.Join(w.shot.Namespaces, ", "))
	}
	fmt.Fprintf(&b, `These are the data files of a stand-alone mongod. %sTo look at them, start a mongod %s of the same series on this folder:

  mongod --dbpath . --port 27117 --bind_ip 127.0.0.1 --setParameter ttlMonitorEnabled=false --setParameter disableLogicalSessionCacheRefresh=true

With these parameters nothing is deleted or written by the server itself. All files lie in one folder: start it
without the options directoryPerDB and wiredTigerDirectoryForIndexes.

To make a replica set of them, start it with --replSet and run rs.initiate(); then add empty members, which copy the data.

Do not start them as a member of the replica set they come from. Its members also hold what servers write for themselves (sessions,
transactions, images of changed documents, all in the database config), under identities that only an initial sync copies: a member
without it stops at the first such entry of the oplog. A member of that set is added empty.
`, held, w.shot.Version)
	return b.String()
}
