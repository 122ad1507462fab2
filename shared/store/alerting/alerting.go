// Package alerting is the store's area of what happened and what it sets off. So far it holds the events.
package alerting

import (
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
)

const collEvents = "events"

// Alerting reads and writes events. It is safe for concurrent use and keeps nothing in memory.
type Alerting struct{ s *store.Store }

// New returns the alerting area of an opened store.
func New(s *store.Store) *Alerting { return &Alerting{s: s} }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	text := func(name string) []docstore.Field { return []docstore.Field{{Name: name, Kind: docstore.String}} }
	return []docstore.Collection{{Name: collEvents, Indexes: []docstore.Index{
		{Name: "event", Fields: text("id")},
		{Name: "host", Fields: text("hostKey")},
		{Name: "cluster", Fields: text("clusterKey")},
	}}}
}
