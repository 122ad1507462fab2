package inventory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// hostDoc is a host as stored: its credentials are sealed beside it, in the same document, so that host and credentials
// cannot disagree.
type hostDoc struct {
	model.Host `bson:",inline"`
	Sealed     []byte `bson:"sealed,omitempty"`
}

// credentialDoc is what is sealed. It exists because model.Secret redacts itself wherever it is printed.
type credentialDoc struct {
	Username  string `bson:"username,omitempty"`
	Password  string `bson:"password,omitempty"`
	Mechanism string `bson:"mechanism,omitempty"`
	Source    string `bson:"source,omitempty"`
}

func credentialContext(id model.HostID) string { return "host/" + string(id) + "/credentials" }

// Hosts lists all hosts of a group, hidden and deleted ones too, by name and port. Credentials are left out.
func (in *Inventory) Hosts(ctx context.Context, group model.ID) ([]model.Host, error) {
	// A host is a large value: what is sorted are the undecoded ones, by the two fields that the order needs, so that each
	// is decoded where it stays.
	var order []rawHost
	for doc, err := range in.s.Docs(ctx, under(collHosts, group)) {
		if err != nil {
			return nil, err
		}
		order = append(order, newRawHost(doc))
	}
	slices.SortFunc(order, rawHost.compare)
	dec := newHostDecoder()
	hosts := make([]model.Host, len(order))
	for i, raw := range order {
		if err := dec.host(raw.body, &hosts[i]); err != nil {
			return nil, fmt.Errorf("host %s: %w", raw.id, err)
		}
	}
	return hosts, nil
}

// rawHost is an undecoded host and what it is sorted by.
type rawHost struct {
	id       string
	hostname []byte
	port     int64
	body     bson.Raw
}

func newRawHost(doc docstore.Doc) rawHost {
	raw := rawHost{id: doc.ID, body: doc.Body}
	_ = walk(doc.Body, func(key []byte, v bsonValue) bool { // a document it cannot read fails when it is decoded
		switch string(key) {
		case "hostname":
			raw.hostname = v.str()
		case "port":
			raw.port = v.int()
			return false // the hostname comes before it
		}
		return true
	})
	return raw
}

func (x rawHost) compare(y rawHost) int {
	return cmp.Or(bytes.Compare(x.hostname, y.hostname), cmp.Compare(x.port, y.port), strings.Compare(x.id, y.id))
}

// Host returns one host without its credentials, or store.ErrNotFound.
func (in *Inventory) Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error) {
	d, err := store.Get[hostDoc](ctx, in.s, collHosts, hostKey(group, id))
	return d.Host, err
}

// HostsByID returns those of the hosts that exist, in the order asked for.
func (in *Inventory) HostsByID(ctx context.Context, group model.ID, ids ...model.HostID) ([]model.Host, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = hostKey(group, id)
	}
	docs, err := in.s.Engine().Get(ctx, collHosts, keys...)
	if err != nil {
		return nil, fmt.Errorf("read %d hosts: %w", len(ids), err)
	}
	dec := newHostDecoder()
	hosts := make([]model.Host, len(docs))
	for i, doc := range docs {
		if err := dec.host(doc.Body, &hosts[i]); err != nil {
			return nil, fmt.Errorf("host %s: %w", doc.ID, err)
		}
	}
	return hosts, nil
}

// CreateHost adds a host, with its credentials if it has any. store.ErrExists when its id is taken.
func (in *Inventory) CreateHost(ctx context.Context, h model.Host) error {
	if err := checkKey(h.GroupID, "host", string(h.ID)); err != nil {
		return err
	}
	d := hostDoc{Host: h}
	if err := in.sealInto(&d, h.Credentials); err != nil {
		return err
	}
	// The addresses go first: one that leads to no host is harmless, a host that is not found by its address is not.
	if err := in.writeAddresses(ctx, h.GroupID, h.ID, hostAddresses(&h), nil); err != nil {
		return err
	}
	return store.Insert(ctx, in.s, collHosts, hostKey(h.GroupID, h.ID), d)
}

// UpdateHost changes a host; its credentials are SetHostCredentials' business. change may run several times.
func (in *Inventory) UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error {
	var before, after []string
	err := store.Update(ctx, in.s, collHosts, hostKey(group, id), func(d *hostDoc) error {
		before = hostAddresses(&d.Host)
		has := d.HasCredentials
		if err := change(&d.Host); err != nil {
			return err
		}
		d.ID, d.GroupID, d.HasCredentials = id, group, has
		after = hostAddresses(&d.Host)
		return in.writeAddresses(ctx, group, id, without(after, before), nil)
	})
	if err != nil {
		return err
	}
	return in.writeAddresses(ctx, group, id, nil, without(before, after))
}

// DeleteHost removes a host with everything that is kept once a host. Its series and change rows run out by age.
// To make agents forget a host but not discover it again, set Deleted instead.
func (in *Inventory) DeleteHost(ctx context.Context, group model.ID, id model.HostID) error {
	h, err := in.Host(ctx, group, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	key := hostKey(group, id)
	for _, collection := range append(perHost(), collHosts) {
		err := in.s.Delete(ctx, collection, key)
		if err != nil && !errors.Is(err, docstore.ErrCollection) { // of an area that this program does not use
			return err
		}
	}
	return in.writeAddresses(ctx, group, id, nil, hostAddresses(&h))
}

// HostCredentials returns what agents sign in to the host with; the zero value when there is nothing.
func (in *Inventory) HostCredentials(ctx context.Context, group model.ID, id model.HostID) (model.Credentials, error) {
	d, err := store.Get[hostDoc](ctx, in.s, collHosts, hostKey(group, id))
	if err != nil || d.Sealed == nil {
		return model.Credentials{}, err
	}
	plain, err := in.s.Box().Open(d.Sealed, credentialContext(id))
	if err != nil {
		return model.Credentials{}, fmt.Errorf("credentials of host %s: %w", id, err)
	}
	var c credentialDoc
	if err := bson.Unmarshal(plain, &c); err != nil {
		return model.Credentials{}, fmt.Errorf("credentials of host %s: %w", id, err)
	}
	return model.Credentials{Username: c.Username, Password: model.Secret(c.Password), Mechanism: c.Mechanism, Source: c.Source}, nil
}

// SetHostCredentials stores what agents sign in to the host with. The zero value clears it.
func (in *Inventory) SetHostCredentials(ctx context.Context, group model.ID, id model.HostID, c model.Credentials) error {
	return store.Update(ctx, in.s, collHosts, hostKey(group, id), func(d *hostDoc) error { return in.sealInto(d, c) })
}

func (in *Inventory) sealInto(d *hostDoc, c model.Credentials) error {
	d.Credentials = model.Credentials{}
	if d.HasCredentials = c != (model.Credentials{}); !d.HasCredentials {
		d.Sealed = nil
		return nil
	}
	plain, err := store.Encode(credentialDoc{Username: c.Username, Password: c.Password.Reveal(), Mechanism: c.Mechanism, Source: c.Source})
	if err != nil {
		return err
	}
	d.Sealed = in.s.Box().Seal(plain, credentialContext(d.ID))
	return nil
}

// without returns what is in a but not in b.
func without(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
