// Package areas lists the areas of the store: what a program has to hand to store.Open so that all of them work. A new
// area, a new migration and a new check is added here and nowhere else.
package areas

import (
	"context"
	"maps"
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/facts"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Collections declares the collections of all areas, without the kernel's own.
func Collections() []docstore.Collection {
	return slices.Concat(inventory.Collections(), access.Collections(), alerting.Collections(), backup.Collections(), facts.Collections(), series.Collections())
}

// Migrations are the steps from the first schema to the one of this binary, in order.
func Migrations() []store.Migration { return nil }

// Checks are the checks of all areas and of the kernel.
func Checks() store.Checks {
	all := store.KernelChecks()
	for _, area := range []store.Checks{inventory.Checks(), access.Checks(), alerting.Checks(), backup.Checks(), facts.Checks(), series.Checks()} {
		maps.Copy(all, area)
	}
	return all
}

// Open opens the store with all areas.
func Open(ctx context.Context, o store.Options) (*store.Store, error) {
	o.Collections = append(Collections(), o.Collections...)
	o.Migrations = append(Migrations(), o.Migrations...)
	return store.Open(ctx, o)
}

// Attach is a store with all areas on a database that is open already; see store.Attach.
func Attach(o store.Options) (*store.Store, error) {
	o.Collections = append(Collections(), o.Collections...)
	o.Migrations = append(Migrations(), o.Migrations...)
	return store.Attach(o)
}
