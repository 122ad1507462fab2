package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// apiKeyDoc is a key as stored. Owner is its organization's id, or "global": the index needs the field always.
type apiKeyDoc struct {
	model.APIKey `bson:",inline"`
	Owner        string `bson:"owner"`
	Sealed       []byte `bson:"sealed"` // HA1
}

func owner(org model.ID) string {
	if org == "" {
		return "global"
	}
	return string(org)
}

func ha1Context(id model.ID) string { return "apikey/" + string(id) + "/ha1" }

// APIKeys lists the keys of an organization, or the global ones for "". HA1 is left out.
func (a *Access) APIKeys(ctx context.Context, org model.ID) ([]model.APIKey, error) {
	keys := []model.APIKey{}
	q := docstore.Query{Collection: collAPIKeys, Index: "org", Prefix: []any{owner(org)}}
	for d, err := range store.ScanAll[apiKeyDoc](ctx, a.s, q) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, d.APIKey)
	}
	return keys, nil
}

// APIKey returns one key without its HA1, or store.ErrNotFound.
func (a *Access) APIKey(ctx context.Context, id model.ID) (model.APIKey, error) {
	d, err := store.Get[apiKeyDoc](ctx, a.s, collAPIKeys, string(id))
	return d.APIKey, err
}

// APIKeyByPublic finds a key by its public part, with its HA1, or answers store.ErrNotFound.
func (a *Access) APIKeyByPublic(ctx context.Context, public string) (model.APIKey, error) {
	d, err := store.First[apiKeyDoc](ctx, a.s, docstore.Query{Collection: collAPIKeys, Index: "public", Prefix: []any{public}})
	if err != nil {
		return model.APIKey{}, err
	}
	ha1, err := a.s.Box().Open(d.Sealed, ha1Context(d.ID))
	if err != nil {
		return model.APIKey{}, fmt.Errorf("API key %s: %w", d.ID, err)
	}
	d.HA1 = model.Secret(ha1)
	return d.APIKey, nil
}

// CreateAPIKey adds a key with its HA1. store.ErrExists when the id or the public key is taken.
func (a *Access) CreateAPIKey(ctx context.Context, k model.APIKey) error {
	if err := checkPart("API key", string(k.ID)); err != nil {
		return err
	}
	if k.PublicKey == "" || k.HA1 == "" {
		return errors.New("an API key needs a public key and its HA1")
	}
	return store.Insert(ctx, a.s, collAPIKeys, string(k.ID), apiKeyDoc{
		APIKey: k, Owner: owner(k.OrgID), Sealed: a.s.Box().Seal([]byte(k.HA1.Reveal()), ha1Context(k.ID)),
	})
}

// UpdateAPIKey changes a key. Its HA1 stays unless change sets another. change may run several times.
func (a *Access) UpdateAPIKey(ctx context.Context, id model.ID, change func(*model.APIKey) error) error {
	return store.Update(ctx, a.s, collAPIKeys, string(id), func(d *apiKeyDoc) error {
		if err := change(&d.APIKey); err != nil {
			return err
		}
		d.ID, d.Owner = id, owner(d.OrgID)
		if d.HA1 != "" {
			d.Sealed = a.s.Box().Seal([]byte(d.HA1.Reveal()), ha1Context(id))
		}
		return nil
	})
}

// DeleteAPIKey removes a key; that there was none is no error.
func (a *Access) DeleteAPIKey(ctx context.Context, id model.ID) error {
	return a.s.Delete(ctx, collAPIKeys, string(id))
}

func (a *Access) forgetInKeys(ctx context.Context, about func(model.Grant) bool) error {
	for d, err := range store.ScanAll[apiKeyDoc](ctx, a.s, docstore.Query{Collection: collAPIKeys}) {
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(d.Grants, about) {
			continue
		}
		err := a.UpdateAPIKey(ctx, d.ID, func(k *model.APIKey) error {
			k.Grants = slices.DeleteFunc(k.Grants, about)
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

const globalList = "global"

type accessListDoc struct {
	Entries []model.AccessEntry `bson:"entries"`
}

// GlobalAccessList is from where global keys and global roles may be used; empty means anywhere.
func (a *Access) GlobalAccessList(ctx context.Context) ([]model.AccessEntry, error) {
	d, err := store.Get[accessListDoc](ctx, a.s, collLists, globalList)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return d.Entries, err
}

// UpdateGlobalAccessList changes the global access list as it is at that moment, so that of several changes at once none is
// lost. change may run several times; its error ends the update.
func (a *Access) UpdateGlobalAccessList(ctx context.Context, change func([]model.AccessEntry) ([]model.AccessEntry, error)) error {
	return store.Upsert(ctx, a.s, collLists, globalList, func(d *accessListDoc, _ bool) error {
		changed, err := change(slices.Clone(d.Entries))
		if err == nil {
			d.Entries = changed
		}
		return err
	})
}

// SetGlobalAccessList replaces the global access list.
func (a *Access) SetGlobalAccessList(ctx context.Context, entries []model.AccessEntry) error {
	return store.Put(ctx, a.s, collLists, globalList, accessListDoc{Entries: entries})
}
