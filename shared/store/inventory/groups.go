package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// groupDoc is a group as stored. NameKey makes names unique without regard to case. A group that is being deleted is
// gone for everybody, gives its name free at once, and stays only until everything of it was deleted.
type groupDoc struct {
	model.Group `bson:",inline"`
	NameKey     string `bson:"nameKey"`
	Deleting    bool   `bson:"deleting,omitempty"`
}

func nameKey(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// Groups lists all groups by name.
func (in *Inventory) Groups(ctx context.Context) ([]model.Group, error) {
	groups := []model.Group{}
	for d, err := range store.ScanAll[groupDoc](ctx, in.s, docstore.Query{Collection: collGroups}) {
		if err != nil {
			return nil, err
		}
		if !d.Deleting {
			groups = append(groups, d.Group)
		}
	}
	slices.SortFunc(groups, func(a, b model.Group) int {
		return cmp.Or(cmp.Compare(nameKey(a.Name), nameKey(b.Name)), cmp.Compare(a.ID, b.ID))
	})
	return groups, nil
}

// Group returns one group, or store.ErrNotFound.
func (in *Inventory) Group(ctx context.Context, id model.ID) (model.Group, error) {
	d, err := store.Get[groupDoc](ctx, in.s, collGroups, string(id))
	if err == nil && d.Deleting {
		err = fmt.Errorf("group %s: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return model.Group{}, err
	}
	return d.Group, nil
}

// GroupByName finds a group by its name, upper and lower case alike, or answers store.ErrNotFound.
func (in *Inventory) GroupByName(ctx context.Context, name string) (model.Group, error) {
	d, err := store.First[groupDoc](ctx, in.s, docstore.Query{Collection: collGroups, Index: "name", Prefix: []any{nameKey(name)}})
	return d.Group, err
}

// CreateGroup adds a group. store.ErrExists when the id or the name is taken.
func (in *Inventory) CreateGroup(ctx context.Context, g model.Group) error {
	if err := checkPart("group", string(g.ID)); err != nil {
		return err
	}
	if nameKey(g.Name) == "" {
		return errors.New("a group needs a name")
	}
	return store.Insert(ctx, in.s, collGroups, string(g.ID), groupDoc{Group: g, NameKey: nameKey(g.Name)})
}

// UpdateGroup changes a group; store.ErrExists when its new name is taken. change may run several times.
func (in *Inventory) UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error {
	return store.Update(ctx, in.s, collGroups, string(id), func(d *groupDoc) error {
		if d.Deleting {
			return fmt.Errorf("group %s: %w", id, store.ErrNotFound)
		}
		if err := change(&d.Group); err != nil {
			return err
		}
		if nameKey(d.Name) == "" {
			return errors.New("a group needs a name")
		}
		d.ID, d.NameKey = id, nameKey(d.Name)
		return nil
	})
}

// DeleteGroup deletes a group and all inventory of it. The group is gone with the first step; if the rest is
// interrupted, FlushGroups ends it. Agent keys and people's grants belong to access, events stay.
func (in *Inventory) DeleteGroup(ctx context.Context, id model.ID) error {
	err := store.Update(ctx, in.s, collGroups, string(id), func(d *groupDoc) error {
		d.Deleting, d.NameKey = true, " deleted/"+string(id) // no name begins with a space: nameKey trims
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for {
		_, more, err := in.flush(ctx, id, flushStep)
		if err != nil || !more {
			return err
		}
	}
}

const (
	flushStep  = 2_000  // documents deleted in one call of the engine
	flushBound = 50_000 // documents deleted in one pass
)

// FlushGroups is the pass that ends interrupted deletions of groups.
func (in *Inventory) FlushGroups(ctx context.Context, _ time.Time) (store.PassReport, error) {
	var report store.PassReport
	for d, err := range store.ScanAll[groupDoc](ctx, in.s, docstore.Query{Collection: collGroups}) {
		if err != nil {
			return report, err
		}
		for d.Deleting {
			n, more, err := in.flush(ctx, d.ID, flushStep)
			report.Done += int64(n)
			if err != nil {
				return report, err
			}
			if !more {
				in.s.Log().InfoContext(ctx, "deleted group flushed", obs.KeyGroup, d.ID)
				break
			}
			if report.Done >= flushBound {
				report.More = true
				return report, nil
			}
		}
	}
	return report, nil
}

// flush deletes up to limit documents of a group; the group itself goes last, so that an interrupted deletion is found
// again.
func (in *Inventory) flush(ctx context.Context, id model.ID, limit int) (n int, more bool, err error) {
	prefix := string(id) + "/"
	for _, collection := range append(perHost(), collAddresses, collChanges, collAgents, collClusters, collHosts) {
		deleted, err := in.s.DeleteUnder(ctx, collection, prefix, limit-n)
		if errors.Is(err, docstore.ErrCollection) {
			continue // of an area that this program does not use
		}
		if n += deleted; err != nil || n >= limit {
			return n, true, err
		}
	}
	for _, place := range []string{string(id), backupPlace(id)} {
		if err := in.s.Delete(ctx, collActive, place); err != nil {
			return n, true, err
		}
	}
	return n + 1, false, in.s.Delete(ctx, collGroups, string(id))
}
