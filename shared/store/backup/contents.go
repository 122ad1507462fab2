package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// contentsPart is how many collections one document lists: names are at most 255 bytes, so that it stays below a few MB.
const contentsPart = 10_000

// contentsDoc is a part of what a snapshot holds. Its id is "<job>/<snapshot>/<4 digits>".
type contentsDoc struct {
	Namespaces []restoreplan.Namespace `bson:"namespaces"`
}

func contentsOf(job model.ID, id string) string { return snapshotID(job, id) + "/" }

// SetContents keeps the list of a snapshot's collections, without internal ones: what previews show and selections are checked
// against. The list is written before the snapshot is complete; writing it again is harmless.
func (b *Backup) SetContents(ctx context.Context, job model.ID, id string, all []restoreplan.Namespace) error {
	if err := errors.Join(entry.CheckID("job", job), entry.CheckID("snapshot", model.ID(id))); err != nil {
		return err
	}
	n := 0
	for part := range slices.Chunk(all, contentsPart) {
		if err := store.Put(ctx, b.s, collContents, fmt.Sprintf("%s%04d", contentsOf(job, id), n), contentsDoc{part}); err != nil {
			return err
		}
		n++
	}
	return nil
}

// Contents lists a snapshot's collections; none where nothing was kept.
func (b *Backup) Contents(ctx context.Context, job model.ID, id string) ([]restoreplan.Namespace, error) {
	if err := errors.Join(entry.CheckID("job", job), entry.CheckID("snapshot", model.ID(id))); err != nil {
		return nil, err
	}
	from, to := store.Under(contentsOf(job, id))
	var all []restoreplan.Namespace
	for d, err := range store.ScanAll[contentsDoc](ctx, b.s, docstore.Query{Collection: collContents, From: from, To: to}) {
		if err != nil {
			return nil, err
		}
		all = append(all, d.Namespaces...)
	}
	return all, nil
}

// dropContents forgets the list.
func (b *Backup) dropContents(ctx context.Context, job model.ID, id string) error {
	from, to := store.Under(contentsOf(job, id))
	page, err := b.s.Engine().Scan(ctx, docstore.Query{Collection: collContents, From: from, To: to, IDsOnly: true, Limit: 1000})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range page.Docs {
		errs = append(errs, b.s.Delete(ctx, collContents, d.ID))
	}
	return errors.Join(errs...)
}
