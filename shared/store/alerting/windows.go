package alerting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
)

// CreateWindow adds a maintenance window. store.ErrExists when the id is taken.
func (al *Alerting) CreateWindow(ctx context.Context, w model.MaintenanceWindow) error {
	id, err := entry.ID(w.GroupID, string(w.ID))
	if err != nil {
		return fmt.Errorf("maintenance window: %w", err)
	}
	return store.Insert(ctx, al.s, collWindows, id, w)
}

// UpdateWindow changes a maintenance window, or answers store.ErrNotFound. change may run several times.
func (al *Alerting) UpdateWindow(ctx context.Context, group, id model.ID, change func(*model.MaintenanceWindow) error) error {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return fmt.Errorf("maintenance window: %w", err)
	}
	return store.Update(ctx, al.s, collWindows, key, func(w *model.MaintenanceWindow) error {
		if err := change(w); err != nil {
			return err
		}
		w.ID, w.GroupID = id, group
		return nil
	})
}

// DeleteWindow removes a maintenance window; that there was none is no error.
func (al *Alerting) DeleteWindow(ctx context.Context, group, id model.ID) error {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return fmt.Errorf("maintenance window: %w", err)
	}
	return al.s.Delete(ctx, collWindows, key)
}

// Window returns a maintenance window, or store.ErrNotFound.
func (al *Alerting) Window(ctx context.Context, group, id model.ID) (model.MaintenanceWindow, error) {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return model.MaintenanceWindow{}, fmt.Errorf("maintenance window: %w: %w", err, store.ErrNotFound)
	}
	return store.Get[model.MaintenanceWindow](ctx, al.s, collWindows, key)
}

// Windows lists the maintenance windows of a group by id.
func (al *Alerting) Windows(ctx context.Context, group model.ID) ([]model.MaintenanceWindow, error) {
	return store.All[model.MaintenanceWindow](ctx, al.s, entry.Under(collWindows, group))
}

// AllWindows lists the maintenance windows of all groups.
func (al *Alerting) AllWindows(ctx context.Context) ([]model.MaintenanceWindow, error) {
	return store.All[model.MaintenanceWindow](ctx, al.s, docstore.Query{Collection: collWindows, Limit: entry.ScanPage})
}

// CreateSilence adds a silence, which needs an end. store.ErrExists when the id is taken.
func (al *Alerting) CreateSilence(ctx context.Context, s model.Silence) error {
	id, err := entry.ID(s.GroupID, string(s.ID))
	if err == nil && s.End.IsZero() {
		err = errors.New("it needs an end")
	}
	if err != nil {
		return fmt.Errorf("silence: %w", err)
	}
	s.End = s.End.UTC()
	return store.Insert(ctx, al.s, collSilences, id, s)
}

// EndSilence ends a silence at a time, if it does not end before; store.ErrNotFound when there is none. It stays listed
// until ExpireSilences takes it.
func (al *Alerting) EndSilence(ctx context.Context, group, id model.ID, at time.Time) error {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return fmt.Errorf("silence: %w: %w", err, store.ErrNotFound)
	}
	return store.Update(ctx, al.s, collSilences, key, func(s *model.Silence) error {
		if !at.Before(s.End) {
			return store.ErrUnchanged
		}
		s.End = at.UTC()
		return nil
	})
}

// Silence returns a silence, or store.ErrNotFound.
func (al *Alerting) Silence(ctx context.Context, group, id model.ID) (model.Silence, error) {
	key, err := entry.ID(group, string(id))
	if err != nil {
		return model.Silence{}, fmt.Errorf("silence: %w: %w", err, store.ErrNotFound)
	}
	return store.Get[model.Silence](ctx, al.s, collSilences, key)
}

// Silences lists the silences of a group by id, those that ended not long ago too.
func (al *Alerting) Silences(ctx context.Context, group model.ID) ([]model.Silence, error) {
	return store.All[model.Silence](ctx, al.s, entry.Under(collSilences, group))
}

// AllSilences lists the silences of all groups that end after a time, those that end first first.
func (al *Alerting) AllSilences(ctx context.Context, now time.Time) ([]model.Silence, error) {
	after := entry.Next(now)
	return store.All[model.Silence](ctx, al.s, docstore.Query{Collection: collSilences, Index: "end", Low: after, Limit: entry.ScanPage})
}

// ExpireSilences is the pass that deletes silences of all groups that ended before a time, up to limit.
func (al *Alerting) ExpireSilences(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := entry.DeleteFound(ctx, al.s, docstore.Query{Collection: collSilences, Index: "end", High: before.UTC()}, limit)
	if err != nil {
		return n, fmt.Errorf("expire silences: %w", err)
	}
	return n, nil
}

const watchID = "watch"

// Watch returns what the evaluation remembers; the zero value before its first pass.
func (al *Alerting) Watch(ctx context.Context) (model.AlertWatch, error) {
	w, err := store.Get[model.AlertWatch](ctx, al.s, collWatch, watchID)
	if errors.Is(err, store.ErrNotFound) {
		return model.AlertWatch{}, nil
	}
	return w, err
}

// SaveWatch keeps what the evaluation remembers.
func (al *Alerting) SaveWatch(ctx context.Context, w model.AlertWatch) error {
	return store.Put(ctx, al.s, collWatch, watchID, w)
}

// integrationDoc is an integration of a group as stored, with the id "<group>/<channel>" and its secrets sealed beside it.
type integrationDoc struct {
	model.Notification `bson:",inline"`
	GroupID            model.ID `bson:"groupId"`
	Sealed             []byte   `bson:"sealed,omitempty"`
}

// Integration returns a group's integration with a channel, with its secrets, or store.ErrNotFound.
func (al *Alerting) Integration(ctx context.Context, group model.ID, channel string) (model.Notification, error) {
	key, err := entry.ID(group, channel)
	if err != nil {
		return model.Notification{}, fmt.Errorf("integration: %w: %w", err, store.ErrNotFound)
	}
	d, err := store.Get[integrationDoc](ctx, al.s, collIntegrations, key)
	if err != nil {
		return model.Notification{}, err
	}
	err = entry.Unseal(al.s.Box(), collIntegrations, key, d.Sealed, &d.Notification)
	return d.Notification, err
}

// Integrations lists a group's integrations by channel, with their secrets.
func (al *Alerting) Integrations(ctx context.Context, group model.ID) ([]model.Notification, error) {
	out := []model.Notification{}
	for doc, err := range al.s.Docs(ctx, entry.Under(collIntegrations, group)) {
		if err != nil {
			return nil, err
		}
		d, err := store.Decode[integrationDoc](doc)
		if err != nil {
			return nil, err
		}
		if err := entry.Unseal(al.s.Box(), collIntegrations, doc.ID, d.Sealed, &d.Notification); err != nil {
			return nil, err
		}
		out = append(out, d.Notification)
	}
	return out, nil
}

// PutIntegration keeps a group's integration with n's channel, whatever was there.
func (al *Alerting) PutIntegration(ctx context.Context, group model.ID, n model.Notification) error {
	key, err := entry.ID(group, n.Channel)
	if err != nil {
		return fmt.Errorf("integration: %w", err)
	}
	d := integrationDoc{Notification: n, GroupID: group}
	if d.Sealed, err = entry.Seal(al.s.Box(), collIntegrations, key, nil, n); err != nil {
		return err
	}
	return store.Put(ctx, al.s, collIntegrations, key, d)
}

// DeleteIntegration removes a group's integration with a channel; that there was none is no error.
func (al *Alerting) DeleteIntegration(ctx context.Context, group model.ID, channel string) error {
	key, err := entry.ID(group, channel)
	if err != nil {
		return fmt.Errorf("integration: %w", err)
	}
	return al.s.Delete(ctx, collIntegrations, key)
}
