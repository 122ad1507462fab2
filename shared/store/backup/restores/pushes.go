package restores

import (
	"context"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store"
)

// tidyFor is for how long after its end a push is listed to agents that have not said that nothing of it is left in its target.
const tidyFor = 7 * 24 * time.Hour

// AwaitsAgent is the step of a push whose parts are stored and that no agent has begun.
const AwaitsAgent = "waits for the backup agent beside the target"

// OfferPush makes a push whose objects are stored wait for the backup agent beside its target, from now on for Delivery.Hours. It is
// called within the change that sets Objects (UpdateRestoreAs), and gives the claim up: no daemon takes such a push again.
//
// Delivery.Status tells how it stands with the agent: READY until one begins, TRANSFERRING until one says that nothing but the
// outcome is left in the target, which may be after the push has ended, then FINISHED; EXPIRED when none began.
func (r *Restore) OfferPush(now time.Time) {
	d := &r.Delivery
	d.Hours = max(d.Hours, 1)
	d.Expires, d.Status = now.Add(time.Duration(d.Hours)*time.Hour), model.DeliveryReady
	r.Daemon, r.Beat = "", now
	r.Do, r.Waits, r.Step, r.Done, r.Total = restoreplan.DoStage, true, AwaitsAgent, 0, 0
}

// Offered reports whether agents are told of a push: to carry it out, or to remove what it left in its target.
func (r *Restore) Offered(now time.Time) bool {
	switch {
	case r.Method != model.DeliverPush || len(r.Objects) == 0:
		return false
	case r.Status == model.RestoreInProgress:
		return true
	}
	return r.untidy(now)
}

// untidy reports whether a push has ended and may have left something in its target.
func (r *Restore) untidy(now time.Time) bool {
	return r.Method == model.DeliverPush && r.Status != model.RestoreInProgress && r.Delivery.Status == model.DeliveryTransferring &&
		now.Sub(r.Finished) < tidyFor
}

// Pushes lists the pushes into deployments of a group that are in progress, and those that have ended but may have left
// something there. Agents are told of those that are Offered.
func (rs *Register) Pushes(ctx context.Context, group model.ID, now time.Time) ([]Restore, error) {
	out := []Restore{}
	for d, err := range store.ScanAll[document](ctx, rs.s, docstore.Query{Collection: Coll, Index: "kept", Prefix: []any{true}}) {
		if err != nil {
			return nil, err
		}
		if d.TargetGroup == group && d.Method == model.DeliverPush && (d.Status == model.RestoreInProgress || d.Offered(now)) {
			out = append(out, d.Restore)
		}
	}
	return out, nil
}
