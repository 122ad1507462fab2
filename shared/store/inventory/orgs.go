package inventory

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Orgs lists all organizations by id.
func (in *Inventory) Orgs(ctx context.Context) ([]model.Org, error) {
	return store.All[model.Org](ctx, in.s, docstore.Query{Collection: collOrgs})
}

// Org returns one organization, or store.ErrNotFound.
func (in *Inventory) Org(ctx context.Context, id model.ID) (model.Org, error) {
	return store.Get[model.Org](ctx, in.s, collOrgs, string(id))
}

// CreateOrg adds an organization. Its id may be chosen by the caller; store.ErrExists when it is taken.
func (in *Inventory) CreateOrg(ctx context.Context, o model.Org) error {
	if err := checkPart("organization", string(o.ID)); err != nil {
		return err
	}
	return store.Insert(ctx, in.s, collOrgs, string(o.ID), o)
}

// UpdateOrg changes an organization. change may run several times.
func (in *Inventory) UpdateOrg(ctx context.Context, id model.ID, change func(*model.Org) error) error {
	return store.Update(ctx, in.s, collOrgs, string(id), func(o *model.Org) error {
		if err := change(o); err != nil {
			return err
		}
		o.ID = id
		return nil
	})
}

// DeleteOrg removes an organization. That it has no groups is the caller's business.
func (in *Inventory) DeleteOrg(ctx context.Context, id model.ID) error {
	return in.s.Delete(ctx, collOrgs, string(id))
}
