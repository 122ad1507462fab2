package alerting

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// UpdateWatch changes what the evaluation remembers: several keep their part there. change may run several times.
func (al *Alerting) UpdateWatch(ctx context.Context, change func(*model.AlertWatch) error) error {
	return store.Upsert(ctx, al.s, collWatch, watchID, func(w *model.AlertWatch, _ bool) error { return change(w) })
}
