package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// userDoc is a user as stored. Slot is unique: the first user of a site takes the slot "first", everybody else the one
// of their own id. So of several who register first at once the database lets one through, in a single write.
type userDoc struct {
	model.User `bson:",inline"`
	Slot       string `bson:"slot"`
}

const firstSlot = "first"

// maxUsers is where CountUsers stops counting.
const maxUsers = 1_000_000

// Username is the stored form of a login name: lower case, no spaces around it.
func Username(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

func (u *userDoc) check(id model.ID) error {
	u.ID, u.Username = id, Username(u.Username)
	if u.Username == "" {
		return errors.New("a user needs a user name")
	}
	return checkPart("user", string(id))
}

// Users lists all users by name.
func (a *Access) Users(ctx context.Context) ([]model.User, error) {
	users := []model.User{}
	for d, err := range store.ScanAll[userDoc](ctx, a.s, docstore.Query{Collection: collUsers}) {
		if err != nil {
			return nil, err
		}
		users = append(users, d.User)
	}
	slices.SortFunc(users, func(x, y model.User) int { return cmp.Compare(x.Username, y.Username) })
	return users, nil
}

// User returns one user, or store.ErrNotFound.
func (a *Access) User(ctx context.Context, id model.ID) (model.User, error) {
	d, err := store.Get[userDoc](ctx, a.s, collUsers, string(id))
	return d.User, err
}

// UserByName finds a user by login name, upper and lower case alike, or answers store.ErrNotFound.
func (a *Access) UserByName(ctx context.Context, name string) (model.User, error) {
	d, err := store.First[userDoc](ctx, a.s, docstore.Query{Collection: collUsers, Index: "username", Prefix: []any{Username(name)}})
	return d.User, err
}

// CountUsers counts users.
func (a *Access) CountUsers(ctx context.Context) (int, error) {
	n, err := a.s.Engine().Count(ctx, docstore.Query{Collection: collUsers}, maxUsers)
	if err != nil {
		return 0, fmt.Errorf("count users: %w", err)
	}
	return n, nil
}

// CreateUser adds a user. store.ErrExists when the id or the user name is taken.
func (a *Access) CreateUser(ctx context.Context, u model.User) error {
	d := userDoc{User: u, Slot: string(u.ID)}
	if err := d.check(u.ID); err != nil {
		return err
	}
	return store.Insert(ctx, a.s, collUsers, string(d.ID), d)
}

// CreateFirstUser adds a user with grants, only while there is no user at all: store.ErrExists otherwise. Of several
// callers at once one succeeds.
func (a *Access) CreateFirstUser(ctx context.Context, u model.User, grants ...model.Grant) error {
	u.Grants = append(slices.Clone(u.Grants), grants...)
	d := userDoc{User: u, Slot: firstSlot}
	if err := d.check(u.ID); err != nil {
		return err
	}
	switch n, err := a.s.Engine().Count(ctx, docstore.Query{Collection: collUsers}, 1); {
	case err != nil:
		return fmt.Errorf("count users: %w", err)
	case n > 0:
		return fmt.Errorf("first user: there are users already: %w", store.ErrExists)
	}
	return store.Insert(ctx, a.s, collUsers, string(d.ID), d)
}

// UpdateUser changes a user; store.ErrExists when the new user name is taken. change may run several times.
func (a *Access) UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error {
	return store.Update(ctx, a.s, collUsers, string(id), func(d *userDoc) error {
		if err := change(&d.User); err != nil {
			return err
		}
		return d.check(id)
	})
}

// DeleteUser removes a user and signs them out everywhere.
func (a *Access) DeleteUser(ctx context.Context, id model.ID) error {
	// The user goes first: a session that is left over by an interruption belongs to nobody and admits nobody.
	if err := a.s.Delete(ctx, collUsers, string(id)); err != nil {
		return err
	}
	return a.DeleteSessionsOf(ctx, id, "")
}

// ForgetGroup removes what people and agents were granted about a group that is deleted. It may be run again.
func (a *Access) ForgetGroup(ctx context.Context, group model.ID) error {
	keys, err := a.AgentKeys(ctx, group)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := a.DeleteAgentKey(ctx, group, k.ID); err != nil {
			return err
		}
	}
	return a.forget(ctx, func(g model.Grant) bool { return g.GroupID == group })
}

// ForgetOrg removes the API keys of an organization that is deleted, and what people were granted about it. It may be run
// again.
func (a *Access) ForgetOrg(ctx context.Context, org model.ID) error {
	if org == "" {
		return errors.New("forget an organization: it needs an id") // the keys of none are the global ones
	}
	keys, err := a.APIKeys(ctx, org)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := a.DeleteAPIKey(ctx, k.ID); err != nil {
			return err
		}
	}
	return a.forget(ctx, func(g model.Grant) bool { return g.OrgID == org })
}

// forget takes grants away from everybody.
func (a *Access) forget(ctx context.Context, about func(model.Grant) bool) error {
	users, err := a.Users(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		if !slices.ContainsFunc(u.Grants, about) {
			continue
		}
		err := a.UpdateUser(ctx, u.ID, func(u *model.User) error {
			u.Grants = slices.DeleteFunc(u.Grants, about)
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return a.forgetInKeys(ctx, about)
}
