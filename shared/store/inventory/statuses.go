package inventory

import (
	"context"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Statuses lists the status of every host of a group that was ever polled, by host id.
func (in *Inventory) Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error) {
	var docs []docstore.Doc
	for doc, err := range in.s.Docs(ctx, under(collStatuses, group)) {
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	dec := newHostDecoder()
	statuses := make([]model.HostStatus, len(docs))
	for i, doc := range docs {
		if err := dec.status(doc.Body, &statuses[i]); err != nil {
			return nil, fmt.Errorf("status of host %s: %w", doc.ID, err)
		}
	}
	return statuses, nil
}

// Status returns the status of one host, or store.ErrNotFound when it was never polled.
func (in *Inventory) Status(ctx context.Context, group model.ID, id model.HostID) (model.HostStatus, error) {
	return store.Get[model.HostStatus](ctx, in.s, collStatuses, hostKey(group, id))
}

// StatusesByID returns those of the statuses that exist, in the order asked for.
func (in *Inventory) StatusesByID(ctx context.Context, group model.ID, ids ...model.HostID) ([]model.HostStatus, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = hostKey(group, id)
	}
	docs, err := in.s.Engine().Get(ctx, collStatuses, keys...)
	if err != nil {
		return nil, fmt.Errorf("read %d statuses: %w", len(ids), err)
	}
	dec := newHostDecoder()
	statuses := make([]model.HostStatus, len(docs))
	for i, doc := range docs {
		if err := dec.status(doc.Body, &statuses[i]); err != nil {
			return nil, fmt.Errorf("status of host %s: %w", doc.ID, err)
		}
	}
	return statuses, nil
}

// StatusOp is the write that renews a host's status, for a batch with the rest of a ping.
func (in *Inventory) StatusOp(st model.HostStatus) (docstore.Op, error) {
	if err := checkKey(st.GroupID, "host", string(st.HostID)); err != nil {
		return docstore.Op{}, err
	}
	return store.PutOp(collStatuses, hostKey(st.GroupID, st.HostID), st)
}
