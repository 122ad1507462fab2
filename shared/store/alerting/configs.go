package alerting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
)

// configDoc is an alert configuration as stored, with the id "<group>/<id>": the secrets of its notifications are sealed
// beside it, in the same document, so that both change together.
//
// Who was told of an alert is told of its end, also by a notification that is no longer there. So a document keeps the
// notifications that were removed from it, and one that was deleted stays as what is left of it, which only Former shows,
// until DropFormer finds that no live alert needs it.
type configDoc struct {
	model.AlertConfig `bson:",inline"`
	Sealed            []byte               `bson:"sealed,omitempty"` // of Notifications and of Former
	Gone              bool                 `bson:"gone,omitempty"`
	Former            []model.Notification `bson:"former,omitempty"`
	FormerAt          time.Time            `bson:"formerAt,omitempty"` // when the last was removed, by the database's clock
}

// formerMax is how many removed notifications a configuration remembers: the newest.
const formerMax = 50

// formerGrace is how long they stay at least: an evaluation that read the configuration before may still open alerts by it.
const formerGrace = 15 * time.Minute

func (al *Alerting) unseal(id string, d *configDoc) error {
	of := make([]*model.Notification, 0, len(d.Notifications)+len(d.Former))
	for i := range d.Notifications {
		of = append(of, &d.Notifications[i])
	}
	for i := range d.Former {
		of = append(of, &d.Former[i])
	}
	return entry.Unseal(al.s.Box(), collConfigs, id, d.Sealed, of...)
}

func (al *Alerting) seal(id string, d *configDoc) (err error) {
	d.Sealed, err = entry.Seal(al.s.Box(), collConfigs, id, d.Sealed, slices.Concat(d.Notifications, d.Former)...)
	return err
}

// remove remembers the notifications of had that d has no longer.
func (d *configDoc) remove(had []model.Notification, now time.Time) {
	has := func(list []model.Notification, id model.ID) bool {
		return slices.ContainsFunc(list, func(n model.Notification) bool { return n.ID == id })
	}
	d.Former = slices.DeleteFunc(slices.Clone(d.Former), func(n model.Notification) bool { return has(d.Notifications, n.ID) })
	for i := range had {
		if n := &had[i]; !has(d.Notifications, n.ID) && !has(d.Former, n.ID) {
			d.Former, d.FormerAt = append(d.Former, *n), now.UTC().Truncate(time.Millisecond)
		}
	}
	d.Former = d.Former[max(0, len(d.Former)-formerMax):]
	if len(d.Former) == 0 {
		d.Former, d.FormerAt = nil, time.Time{}
	}
}

// CreateConfig adds an alert configuration; an empty group makes it a global one. store.ErrExists when the id is taken.
func (al *Alerting) CreateConfig(ctx context.Context, c model.AlertConfig) error {
	id, err := entry.ID(c.GroupID, string(c.ID))
	if err != nil {
		return fmt.Errorf("alert configuration: %w", err)
	}
	d := configDoc{AlertConfig: c}
	if err := al.seal(id, &d); err != nil {
		return err
	}
	if err = store.Insert(ctx, al.s, collConfigs, id, d); !errors.Is(err, store.ErrExists) {
		return err
	}
	// What is left of one that was deleted does not keep the id.
	return al.change(ctx, id, func(d *configDoc) error {
		if !d.Gone {
			return fmt.Errorf("alert configuration %s: %w", c.ID, store.ErrExists)
		}
		d.AlertConfig, d.Gone = c, false
		return nil
	})
}

// UpdateConfig changes an alert configuration, secrets included, or answers store.ErrNotFound. change may run several
// times; store.ErrUnchanged from it leaves everything as it is. A notification that goes on by another channel is another
// one, and gets another id.
func (al *Alerting) UpdateConfig(ctx context.Context, group, id model.ID, change func(*model.AlertConfig) error) error {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return fmt.Errorf("alert configuration: %w", err)
	}
	return al.change(ctx, key, func(d *configDoc) error {
		if d.Gone {
			return fmt.Errorf("alert configuration %s: %w", id, store.ErrNotFound)
		}
		channels := map[model.ID]string{}
		for i := range d.Notifications {
			channels[d.Notifications[i].ID] = d.Notifications[i].Channel
		}
		c := d.AlertConfig
		c.Notifications = slices.Clone(c.Notifications)
		if err := change(&c); err != nil {
			return err
		}
		c.ID, c.GroupID = id, group
		for i := range c.Notifications {
			if n := &c.Notifications[i]; channels[n.ID] != "" && channels[n.ID] != n.Channel {
				n.ID = model.NewID()
			}
		}
		d.AlertConfig = c
		return nil
	})
}

// change alters a configuration's document, and sees to what it remembers and seals.
func (al *Alerting) change(ctx context.Context, id string, change func(*configDoc) error) error {
	now, err := al.s.Now(ctx)
	if err != nil {
		return err
	}
	return store.Update(ctx, al.s, collConfigs, id, func(d *configDoc) error {
		if err := al.unseal(id, d); err != nil {
			return err
		}
		had := slices.Clone(d.Notifications)
		if err := change(d); err != nil {
			return err
		}
		d.remove(had, now)
		return al.seal(id, d)
	})
}

// DeleteConfig removes an alert configuration; that there was none is no error. Its live alerts are the evaluation's to
// cancel: what that needs of it stays, seen by Former alone.
func (al *Alerting) DeleteConfig(ctx context.Context, group, id model.ID) error {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return fmt.Errorf("alert configuration: %w", err)
	}
	var bare bool
	err = al.change(ctx, key, func(d *configDoc) error {
		if d.Gone {
			return store.ErrUnchanged
		}
		if bare = len(d.Notifications)+len(d.Former) == 0; bare {
			return store.ErrUnchanged
		}
		d.Gone, d.Notifications = true, nil
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case bare, errors.Is(err, seal.ErrKey), errors.Is(err, seal.ErrDamaged): // nobody can be told by one whose secrets are spoilt
		return al.s.Delete(ctx, collConfigs, key)
	}
	return err
}

// Former is what is remembered of a configuration for the sake of its live alerts: the notifications that were removed from
// it, with their secrets.
type Former struct {
	GroupID       model.ID // empty: of a global one
	ConfigID      model.ID
	Notifications []model.Notification
	At            time.Time // when the last was removed
}

// FormerNotifications returns the notifications that were removed from a configuration, also from one that was deleted,
// with their secrets, as far as anything is remembered.
func (al *Alerting) FormerNotifications(ctx context.Context, group, id model.ID) ([]model.Notification, error) {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return nil, fmt.Errorf("alert configuration: %w", err)
	}
	d, err := store.Get[configDoc](ctx, al.s, collConfigs, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = al.unseal(key, &d)
	return d.Former, err
}

// DropFormer forgets what f says is remembered, unless something was added since or a moment ago. The caller knows of no live
// alert of the configuration.
func (al *Alerting) DropFormer(ctx context.Context, f Former) error {
	key, err := entry.ID(f.GroupID, string(f.ConfigID))
	if err != nil {
		return fmt.Errorf("alert configuration: %w", err)
	}
	now, err := al.s.Now(ctx)
	if err != nil || now.Sub(f.At) < formerGrace {
		return err
	}
	doc, err := al.s.Doc(ctx, collConfigs, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := store.Decode[configDoc](doc)
	if err != nil || !d.FormerAt.Equal(f.At) {
		return err
	}
	if d.Gone {
		return entry.Delete(ctx, al.s, collConfigs, key, doc.Rev)
	}
	return store.Update(ctx, al.s, collConfigs, key, func(d *configDoc) error {
		if d.Gone || !d.FormerAt.Equal(f.At) {
			return store.ErrUnchanged
		}
		if err := al.unseal(key, d); err != nil {
			return err
		}
		d.Former, d.FormerAt = nil, time.Time{}
		return al.seal(key, d)
	})
}

// Config returns an alert configuration with its secrets, or store.ErrNotFound.
func (al *Alerting) Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error) {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return model.AlertConfig{}, fmt.Errorf("alert configuration: %w: %w", err, store.ErrNotFound)
	}
	d, err := store.Get[configDoc](ctx, al.s, collConfigs, key)
	if err == nil && d.Gone {
		err = fmt.Errorf("alert configuration %s: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return model.AlertConfig{}, err
	}
	err = al.unseal(key, &d)
	return d.AlertConfig, err
}

// Configs lists the alert configurations of a group by id, with their secrets; an empty group lists the global ones.
func (al *Alerting) Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error) {
	configs, _, err := al.configs(ctx, entry.Under(collConfigs, group))
	return configs, err
}

// AllConfigs lists the alert configurations of all groups and the global ones, with their secrets, in one scan, and what is
// remembered of those that were deleted or changed.
func (al *Alerting) AllConfigs(ctx context.Context) ([]model.AlertConfig, []Former, error) {
	return al.configs(ctx, docstore.Query{Collection: collConfigs, Limit: entry.ScanPage})
}

func (al *Alerting) configs(ctx context.Context, q docstore.Query) ([]model.AlertConfig, []Former, error) {
	configs, former := []model.AlertConfig{}, []Former{}
	for doc, err := range al.s.Docs(ctx, q) {
		if err != nil {
			return nil, nil, err
		}
		d, err := store.Decode[configDoc](doc)
		if err != nil {
			return nil, nil, err
		}
		if err := al.unseal(doc.ID, &d); err != nil { // one that is spoilt must not stop all alerting: it goes on without secrets
			al.s.Log().ErrorContext(ctx, "an alert configuration cannot be read whole", obs.KeyErr, err)
		}
		if !d.Gone {
			configs = append(configs, d.AlertConfig)
		}
		if len(d.Former) > 0 {
			former = append(former, Former{GroupID: d.GroupID, ConfigID: d.ID, Notifications: d.Former, At: d.FormerAt})
		}
	}
	return configs, former, nil
}
