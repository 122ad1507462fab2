package backup

import (
	"context"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/shared/store"
)

// Sweep is how far the search for objects that no document names is in a block store. Its id is the store's.
type Sweep struct {
	StoreID string    `bson:"storeId"`
	Key     string    `bson:"key,omitempty"` // last one looked at, "" at the beginning
	Began   time.Time `bson:"began"`         // of the round
	Done    time.Time `bson:"done,omitempty"`
	Swept   int64     `bson:"swept"` // objects deleted, ever
}

// Sweep returns the state of a store's sweep, the zero one before the first.
func (b *Backup) Sweep(ctx context.Context, storeID string) (Sweep, error) {
	s, err := store.Get[Sweep](ctx, b.s, collSweeps, storeID)
	if errors.Is(err, store.ErrNotFound) {
		return Sweep{StoreID: storeID}, nil
	}
	return s, err
}

// SaveSweep keeps it.
func (b *Backup) SaveSweep(ctx context.Context, s Sweep) error {
	return store.Put(ctx, b.s, collSweeps, s.StoreID, s)
}
