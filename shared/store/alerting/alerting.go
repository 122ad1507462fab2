// Package alerting is the store's area of what happened and what it sets off: events, alert configurations, alerts, the
// outbox of notifications, maintenance windows, silences, integrations of groups, and what the evaluation remembers.
//
// Several processes may evaluate and deliver at once. What they decide is kept right by document ids that belong to the
// decision and by revisions, never by locks. Everything of a group has ids that begin with "<group>/" ("-" for the site),
// except slots and deliveries, which are found by an index.
package alerting

import (
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/outbox"
)

const (
	collEvents       = "events"
	collConfigs      = "alertconfigs"
	collAlerts       = "alerts"
	collSlots        = "alertslots"
	collWindows      = "maintenance"
	collSilences     = "silences"
	collWatch        = "alertwatch"
	collIntegrations = "integrations"
)

// Alerting reads and writes the area; deliveries are the outbox's. It is safe for concurrent use and keeps nothing in memory.
type Alerting struct {
	*outbox.Outbox
	s *store.Store
}

// New returns the alerting area of an opened store.
func New(s *store.Store) *Alerting { return &Alerting{Outbox: outbox.New(s), s: s} }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	text := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.String} }
	at := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.Time} }
	index := func(name string, fields ...docstore.Field) docstore.Index {
		return docstore.Index{Name: name, Fields: fields}
	}
	return append(outbox.Collections(), []docstore.Collection{
		{Name: collEvents, Indexes: []docstore.Index{
			index("event", text("id")), index("host", text("hostKey")), index("cluster", text("clusterKey")),
		}},
		{Name: collConfigs},
		{Name: collAlerts, Indexes: []docstore.Index{
			index("alert", text("id")), index("time", text("order")), index("live", text("liveKey"), at("ackKey")),
			index("host", text("hostKey")), index("ended", text("groupKey"), at("endKey")),
		}},
		{Name: collSlots, Indexes: []docstore.Index{index("group", text("groupKey"))}},
		{Name: collWindows},
		{Name: collSilences, Indexes: []docstore.Index{index("end", at("end"))}},
		{Name: collWatch},
		{Name: collIntegrations},
	}...)
}

// DeliveryQuery selects deliveries.
type DeliveryQuery = outbox.Query

// DeliveryStats says how the outbox is doing.
type DeliveryStats = outbox.Stats
