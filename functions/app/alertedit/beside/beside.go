// Package beside holds the pages beside alert settings: maintenance windows and silences, when nobody is told, and
// integrations, what notifications of a group have in common. Every change leaves an event.
package beside

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Alerting is what these pages need of the alerting area.
type Alerting interface {
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	CreateWindow(ctx context.Context, w model.MaintenanceWindow) error
	UpdateWindow(ctx context.Context, group, id model.ID, change func(*model.MaintenanceWindow) error) error
	DeleteWindow(ctx context.Context, group, id model.ID) error
	Window(ctx context.Context, group, id model.ID) (model.MaintenanceWindow, error)
	Windows(ctx context.Context, group model.ID) ([]model.MaintenanceWindow, error)
	CreateSilence(ctx context.Context, s model.Silence) error
	EndSilence(ctx context.Context, group, id model.ID, at time.Time) error
	Silences(ctx context.Context, group model.ID) ([]model.Silence, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	PutIntegration(ctx context.Context, group model.ID, n model.Notification) error
	DeleteIntegration(ctx context.Context, group model.ID, channel string) error
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Sender knows which channels this site has.
type Sender interface {
	Missing(channel string) string
}

// Options are what the pages need from outside.
type Options struct {
	Alerting Alerting
	Sender   Sender
	Log      *slog.Logger
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Alerting == nil || o.Sender == nil || o.Log == nil {
		return nil, errors.New("beside options: Alerting, Sender and Log are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	return []view.Route{
		{Pattern: "GET /g/{group}/alert-windows", Handler: p.windows},
		{Pattern: "POST /g/{group}/alert-windows", Handler: p.saveWindow},
		{Pattern: "GET /g/{group}/alert-windows/{id}", Handler: p.window},
		{Pattern: "POST /g/{group}/alert-windows/{id}", Handler: p.saveWindow},
		{Pattern: "GET /g/{group}/alert-windows/{id}/delete", Handler: p.confirmDeleteWindow},
		{Pattern: "POST /g/{group}/alert-windows/{id}/delete", Handler: p.deleteWindow},
		{Pattern: "GET /g/{group}/alert-silences", Handler: p.silences},
		{Pattern: "POST /g/{group}/alert-silences", Handler: p.addSilence},
		{Pattern: "POST /g/{group}/alert-silences/{id}/end", Handler: p.endSilence},
		{Pattern: "GET /g/{group}/alert-integrations", Handler: p.integrations},
		{Pattern: "POST /g/{group}/alert-integrations/{channel}", Handler: p.saveIntegration},
		{Pattern: "GET /g/{group}/alert-integrations/{channel}/delete", Handler: p.confirmDeleteIntegration},
		{Pattern: "POST /g/{group}/alert-integrations/{channel}/delete", Handler: p.deleteIntegration},
	}
}

func (p *Pages) note(ctx context.Context, v *view.Visit, e model.Event) {
	alert.Note(ctx, v, p.opt.Alerting, p.opt.Log, e)
}
