package trial

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Inventory is what is known of a group now.
type Inventory interface {
	Group(ctx context.Context, id model.ID) (model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Access finds people.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Alerting is what happened, and what was to be done about it.
type Alerting interface {
	EachEvent(ctx context.Context, q alerting.EventQuery, look int, take func(model.Event) bool) (next string, err error)
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	Alerts(ctx context.Context, q alerting.AlertQuery) (alerts []model.Alert, next string, err error)
	Deliveries(ctx context.Context, q alerting.DeliveryQuery) (deliveries []model.Delivery, next string, err error)
	Windows(ctx context.Context, group model.ID) ([]model.MaintenanceWindow, error)
	Silences(ctx context.Context, group model.ID) ([]model.Silence, error)
	Watch(ctx context.Context) (model.AlertWatch, error)
}

// Series are the points that were measured.
type Series interface {
	Read(ctx context.Context, q series.Query) (series.Result, error)
	Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error)
}
