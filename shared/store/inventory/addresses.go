package inventory

import (
	"context"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// The addresses collection answers "whose address is this?": one empty document an address and host, with the id
// "<group>/<host:port>/<hostId>". It is a hint that may point to too much, never to too little: an address is written
// before the host that has it and removed after; readers check what they find against the host itself.

// emptyDoc is the body of a document whose id says everything.
type emptyDoc struct{}

func addressPrefix(group model.ID, address string) string {
	return string(group) + "/" + address + "/"
}

func hostAddresses(h *model.Host) []string {
	all := make([]string, 0, 1+len(h.Aliases))
	all = append(all, h.Address())
	for _, a := range h.Aliases {
		if canonical, ok := canonicalAddress(a); ok {
			all = append(all, canonical)
		}
	}
	return all
}

func canonicalAddress(s string) (string, bool) {
	hostname, port, err := model.SplitAddress(s)
	if err != nil {
		return "", false
	}
	return model.Address(hostname, port), true
}

func (in *Inventory) writeAddresses(ctx context.Context, group model.ID, id model.HostID, add, remove []string) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	body, err := store.Encode(emptyDoc{})
	if err != nil {
		return err
	}
	ops := make([]docstore.Op, 0, len(add)+len(remove))
	for _, a := range add {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: collAddresses, ID: addressPrefix(group, a) + string(id), Body: body})
	}
	for _, a := range remove {
		ops = append(ops, docstore.Op{Kind: docstore.Delete, Collection: collAddresses, ID: addressPrefix(group, a) + string(id)})
	}
	if err := in.s.WriteOnce(ctx, ops...); err != nil {
		return fmt.Errorf("addresses of host %s: %w", id, err)
	}
	return nil
}

// FindHost finds a host by host:port, be it its own address or one it was seen as, or answers store.ErrNotFound. When
// several share the address a visible host comes first.
func (in *Inventory) FindHost(ctx context.Context, group model.ID, address string) (model.Host, error) {
	none := model.Host{}
	canonical, ok := canonicalAddress(address)
	if !ok {
		return none, fmt.Errorf("host %q: %w", address, store.ErrNotFound)
	}
	prefix := addressPrefix(group, canonical)
	from, to := store.Under(prefix)
	var ids []model.HostID
	for doc, err := range in.s.Docs(ctx, docstore.Query{Collection: collAddresses, From: from, To: to, IDsOnly: true}) {
		if err != nil {
			return none, err
		}
		ids = append(ids, model.HostID(doc.ID[len(prefix):]))
	}
	hosts, err := in.HostsByID(ctx, group, ids...)
	if err != nil {
		return none, err
	}
	found := false
	for _, h := range hosts {
		if !has(&h, canonical) || found && !h.Visible() {
			continue
		}
		if none, found = h, true; h.Visible() {
			break
		}
	}
	if !found {
		return model.Host{}, fmt.Errorf("host %q: %w", address, store.ErrNotFound)
	}
	return none, nil
}

func has(h *model.Host, canonical string) bool {
	for _, a := range hostAddresses(h) {
		if a == canonical {
			return true
		}
	}
	return false
}
