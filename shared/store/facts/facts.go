// Package facts is the store's area of the seldom replies: what a host answered last to the commands that are asked once an
// hour or a day (options, parameters, machine, configuration). They are not in every ping, so the last ping alone does not
// show them, and telling what changed needs the one before. One compressed document a host.
package facts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const collection = "hostfacts"

// Collections declares the area's collection for store.Options.
func Collections() []docstore.Collection { return []docstore.Collection{{Name: collection}} }

// Facts reads and writes seldom replies. It is safe for concurrent use and keeps nothing in memory.
type Facts struct{ s *store.Store }

// New returns the facts of an opened store.
func New(s *store.Store) *Facts { return &Facts{s: s} }

// document is what is stored. Replies is the zstd of one BSON document, reply name to reply; At says of when each is.
type document struct {
	At      []asOf `bson:"at"`
	Replies []byte `bson:"z"`
}

type asOf struct {
	Name string    `bson:"name"`
	At   time.Time `bson:"at"`
}

func key(group model.ID, host model.HostID) string { return string(group) + "/" + string(host) }

// Replies returns the seldom replies of a host, reply name to reply, and of when each is; nil when there are none yet.
func (f *Facts) Replies(ctx context.Context, group model.ID, host model.HostID) (bson.Raw, map[string]time.Time, error) {
	d, err := store.Get[document](ctx, f.s, collection, key(group, host))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("facts of host %s: %w", host, err)
	}
	doc, err := wire.DecodeReplies(d.Replies)
	if err != nil {
		return nil, nil, fmt.Errorf("facts of host %s: %w", host, err)
	}
	at := make(map[string]time.Time, len(d.At))
	for _, a := range d.At {
		at[a.Name] = a.At
	}
	return doc, at, nil
}

// Op is the write that keeps the seldom replies of a host, for a batch with the rest of a ping. It may be repeated. What is not in
// replies is forgotten: Merge first.
func (f *Facts) Op(group model.ID, host model.HostID, replies bson.Raw, at map[string]time.Time) (docstore.Op, error) {
	if group == "" || host == "" || strings.Contains(string(group)+string(host), "/") {
		return docstore.Op{}, fmt.Errorf("facts of host %q of group %q: no such key", host, group)
	}
	z, err := wire.EncodeReplies(replies)
	if err != nil {
		return docstore.Op{}, fmt.Errorf("facts of host %s: %w", host, err)
	}
	d := document{Replies: z}
	for _, name := range slices.Sorted(maps.Keys(at)) {
		d.At = append(d.At, asOf{name, at[name]})
	}
	return store.PutOp(collection, key(group, host), d)
}

// Merge puts newer replies, as of a time, over those known.
func Merge(known bson.Raw, at map[string]time.Time, newer bson.D, now time.Time) (bson.Raw, map[string]time.Time, error) {
	merged := make(bson.D, 0, len(newer)+8)
	times := make(map[string]time.Time, len(at)+len(newer))
	merged = append(merged, newer...)
	for _, e := range newer {
		times[e.Key] = now
	}
	wire.Each(known, func(name []byte, v bson.RawValue) bool {
		if _, replaced := times[string(name)]; !replaced {
			merged = append(merged, bson.E{Key: string(name), Value: v})
			times[string(name)] = at[string(name)]
		}
		return true
	})
	doc, err := bson.Marshal(merged)
	return doc, times, err
}

// Forget removes what is known of a host; that there was nothing is no error.
func (f *Facts) Forget(ctx context.Context, group model.ID, host model.HostID) error {
	return f.s.Delete(ctx, collection, key(group, host))
}

// ForgetGroup removes what is known of a deleted group's hosts, up to limit of them, and says how many. Running it again goes on.
func (f *Facts) ForgetGroup(ctx context.Context, group model.ID, limit int) (int, error) {
	return f.s.DeleteUnder(ctx, collection, string(group)+"/", limit)
}
