package inventory

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// LastPing returns a host's newest raw ping, or store.ErrNotFound.
func (in *Inventory) LastPing(ctx context.Context, group model.ID, id model.HostID) (model.LastPing, error) {
	return store.Get[model.LastPing](ctx, in.s, collLastPings, hostKey(group, id))
}

// LastPingOp is the write that keeps a ping as its host's newest, for a batch with the rest of the ping.
func (in *Inventory) LastPingOp(p model.LastPing) (docstore.Op, error) {
	if err := checkKey(p.GroupID, "host", string(p.HostID)); err != nil {
		return docstore.Op{}, err
	}
	return store.PutOp(collLastPings, hostKey(p.GroupID, p.HostID), p)
}
