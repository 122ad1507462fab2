package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/store/backup/restores"
)

// Sweep is how far the search for objects that no document names is in a block store. Its id is the store's.
type Sweep struct {
	StoreID string    `bson:"storeId"`
	Key     string    `bson:"key,omitempty"` // last one looked at, "" at the beginning
	Began   time.Time `bson:"began"`         // of the round
	Done    time.Time `bson:"done,omitempty"`
	Swept   int64     `bson:"swept"` // objects deleted, ever
}

// Sweep returns the state of a store's sweep, the zero one before the first.
func (b *Backup) Sweep(ctx context.Context, storeID string) (Sweep, error) {
	s, err := store.Get[Sweep](ctx, b.s, collSweeps, storeID)
	if errors.Is(err, store.ErrNotFound) {
		return Sweep{StoreID: storeID}, nil
	}
	return s, err
}

// SaveSweep keeps it.
func (b *Backup) SaveSweep(ctx context.Context, s Sweep) error {
	return store.Put(ctx, b.s, collSweeps, s.StoreID, s)
}

// Known says which objects some document names, or may yet name, by their keys. What it does not understand counts as known,
// and so does everything of a backup or restore that this site never had: a block store may be shared by mistake, or be older
// than the database.
func (b *Backup) Known(ctx context.Context, keys []string) (map[string]bool, error) {
	refs := make(map[string][]reference, len(keys))
	want := map[string]map[string]docstore.Doc{} // by collection and id; the zero document until it is read
	for _, key := range keys {
		refs[key] = references(key)
		for _, ref := range refs[key] {
			if want[ref.collection] == nil {
				want[ref.collection] = map[string]docstore.Doc{}
			}
			want[ref.collection][ref.id] = docstore.Doc{}
		}
	}
	// In the order of their names: epochs before slices, because a slice has its own document before its epoch lets go of it.
	for _, collection := range slices.Sorted(maps.Keys(want)) {
		docs := want[collection]
		for ids := range slices.Chunk(slices.Collect(maps.Keys(docs)), entry.MaxPage) {
			found, err := b.s.Engine().Get(ctx, collection, ids...)
			if err != nil {
				return nil, fmt.Errorf("read %d documents of %s: %w", len(ids), collection, err)
			}
			for _, doc := range found {
				docs[doc.ID] = doc
			}
		}
	}
	known := make(map[string]bool, len(keys))
	for _, key := range keys {
		ours, named := false, false
		for _, ref := range refs[key] {
			doc := want[ref.collection][ref.id]
			if doc.Body == nil {
				continue
			}
			ours = true
			yes, err := ref.names(doc, key)
			if err != nil {
				return nil, err
			}
			named = named || yes
		}
		known[key] = named || !ours
	}
	return known, nil
}

// reference is a document by which an object may be known, or the site.
type reference struct {
	collection, id string
	names          func(doc docstore.Doc, key string) (bool, error)
}

// references are the documents that say whether an object is known, by its key. None: the key is of no kind that is swept.
func references(key string) []reference {
	parts := strings.Split(key, "/")
	if len(parts) < 3 || !model.ID(parts[1]).Valid() {
		return nil
	}
	owner := parts[1]
	never := func(docstore.Doc, string) (bool, error) { return false, nil }
	always := func(docstore.Doc, string) (bool, error) { return true, nil }
	site := reference{collConfigs, owner, never} // it only says that the backup is, or was, ours
	switch parts[0] {
	case "snapshots", "pages", "blocks": // groomed by the daemon while there is a job
		return []reference{site, {collJobs, owner, always}}
	case "restores":
		return []reference{{restores.Coll, owner, func(doc docstore.Doc, _ string) (bool, error) { return restores.Keeps(doc) }}}
	case "oplog":
		if len(parts) != 4 || len(parts[3]) < 16 {
			return nil
		}
		var n int64
		if _, err := fmt.Sscanf(parts[2], "%08d", &n); err != nil {
			return nil
		}
		return []reference{
			site,
			{history.CollSlices, history.SlicesOf(model.ID(owner), n) + parts[3][:16], func(doc docstore.Doc, key string) (bool, error) {
				s, err := store.Decode[OplogSlice](doc)
				return err == nil && s.Key == key, err
			}},
			{history.CollEpochs, entry.EpochID(model.ID(owner), n), func(doc docstore.Doc, key string) (bool, error) {
				e, err := store.Decode[Epoch](doc)
				return err == nil && e.Last != nil && e.Last.Key == key, err
			}},
		}
	case "seed":
		if len(parts) != 5 {
			return nil
		}
		if parts[3] == "missing" {
			return []reference{site, {collJobs, owner, func(doc docstore.Doc, key string) (bool, error) {
				j, err := store.Decode[Job](doc)
				return err == nil && j.Found != nil && j.Found.Key == key, err
			}}}
		}
		place := strings.SplitN(parts[4], "-", 3)
		if len(place) != 3 {
			return nil
		}
		id := strings.Join([]string{owner, parts[2], parts[3], place[0], place[1]}, "/")
		return []reference{site, {history.CollSeeds, id, func(doc docstore.Doc, key string) (bool, error) {
			s, err := store.Decode[SeedSlice](doc)
			return err == nil && s.Key == key, err
		}}}
	}
	return nil
}
