// Package outbox keeps the notifications that are to be delivered, and what became of them. It is part of the alerting area.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
)

// Collection is the collection of deliveries.
const Collection = "deliveries"

// Outbox reads and writes deliveries. It is safe for concurrent use and keeps nothing in memory.
type Outbox struct{ s *store.Store }

// New returns the outbox of an opened store.
func New(s *store.Store) *Outbox { return &Outbox{s: s} }

// Collections declares the outbox's collection.
func Collections() []docstore.Collection {
	text := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.String} }
	return []docstore.Collection{{Name: Collection, Indexes: []docstore.Index{
		{Name: "state", Fields: []docstore.Field{text("stateKey"), {Name: "stateAt", Kind: docstore.Time}}},
		{Name: "group", Fields: []docstore.Field{text("groupKey"), text("order")}},
		{Name: "time", Fields: []docstore.Field{text("order")}},
	}}}
}

// Checks checks the outbox's collection for `heartwood store check`.
func Checks() store.Checks {
	return store.Checks{Collection: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *deliveryDoc) error {
		want := *v
		if want.key(); want.Order != v.Order || want.GroupKey != v.GroupKey || want.StateKey != v.StateKey || !want.StateAt.Equal(v.StateAt) {
			return errors.New("its index keys differ from its fields")
		}
		return errors.Join(entry.CheckSecrets(c, doc, v.Sealed, Collection), store.CheckID(doc, v.ID))
	})}
}

// deliveryDoc is an entry of the outbox as stored, with the delivery's own id. Secrets are sealed beside it until it is
// finished, and then dropped.
type deliveryDoc struct {
	model.Delivery `bson:",inline"`
	Sealed         []byte    `bson:"sealed,omitempty"`
	Order          string    `bson:"order"` // Created and the id
	GroupKey       string    `bson:"groupKey"`
	StateKey       string    `bson:"stateKey"`
	StateAt        time.Time `bson:"stateAt"` // NextAt while it is pending, then when it was finished
	Claims         int       `bson:"claims"`
	Tried          time.Time `bson:"tried"` // when it was claimed last
}

// Pending deliveries have two places in the index of states, so that those that already failed once are counted without
// reading the others.
const (
	stateNew   = "NEW"
	stateAgain = "AGAIN"
)

// oldestLook is how many pending deliveries of each place are looked at for the oldest.
const oldestLook = 1_000

func (d *deliveryDoc) key() {
	d.Order, d.GroupKey = entry.Order(d.Created, d.ID), entry.Scope(d.GroupID)
	switch d.State {
	case model.DeliveryPending:
		d.StateKey, d.StateAt = stateNew, d.NextAt.UTC()
		if d.LastError != "" {
			d.StateKey = stateAgain
		}
	case model.DeliveryDelivered:
		d.StateKey, d.StateAt = string(d.State), d.Delivered.UTC()
	default:
		d.StateKey, d.StateAt = string(d.State), d.Tried.UTC()
	}
}

func (o *Outbox) delivery(id string, d *deliveryDoc) (model.Delivery, error) {
	err := entry.Unseal(o.s.Box(), Collection, id, d.Sealed, &d.Notification)
	return d.Delivery, err
}

// AddDeliveries puts deliveries into the outbox. The id of one belongs to the decision it follows from: those that are there
// already stay as they are.
func (o *Outbox) AddDeliveries(ctx context.Context, ds ...model.Delivery) error {
	ops := make([]docstore.Op, 0, len(ds))
	for _, one := range ds {
		if one.ID == "" || one.State != model.DeliveryPending {
			return fmt.Errorf("delivery %q: one that is added has an id and is %s", one.ID, model.DeliveryPending)
		}
		if _, err := entry.ID(one.GroupID, "x"); err != nil {
			return fmt.Errorf("delivery %s: %w", one.ID, err)
		}
		d := deliveryDoc{Delivery: one}
		d.ClaimedBy = ""
		d.key()
		var err error
		if d.Sealed, err = entry.Seal(o.s.Box(), Collection, one.ID, nil, one.Notification); err != nil {
			return err
		}
		op, err := store.InsertOp(Collection, one.ID, d)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		return nil
	}
	return o.s.WriteOnce(ctx, ops...)
}

// DueDeliveries lists pending deliveries whose time has come, those that wait longest first, at most limit. Among them are
// those whose claim ended without a result.
func (o *Outbox) DueDeliveries(ctx context.Context, now time.Time, limit int) ([]model.Delivery, error) {
	due := []model.Delivery{}
	for _, key := range []string{stateNew, stateAgain} {
		q := docstore.Query{
			Collection: Collection, Index: "state", Prefix: []any{key}, High: entry.Next(now),
			Limit: min(max(limit, 1), entry.ScanPage),
		}
		n := 0
		for doc, err := range o.s.Docs(ctx, q) {
			if err != nil {
				return nil, err
			}
			if n++; n > limit {
				break
			}
			d, err := store.Decode[deliveryDoc](doc)
			if err != nil {
				return nil, err
			}
			one, err := o.delivery(doc.ID, &d)
			if err != nil { // one that is spoilt must not stop the others; sent without its secrets it fails and says so
				o.s.Log().ErrorContext(ctx, "a delivery cannot be read whole", obs.KeyErr, err)
			}
			due = append(due, one)
		}
	}
	slices.SortStableFunc(due, func(a, b model.Delivery) int { return a.NextAt.Compare(b.NextAt) })
	return due[:min(len(due), max(limit, 0))], nil
}

// ClaimDelivery takes a due delivery until a time, for one that is about to send it: of several that try at once one gets
// it, and nobody else before that time. The attempt counts: Attempts grows by one. The delivery is returned as it is now,
// with its secrets and with a ClaimedBy of this claim alone; FinishDelivery is to be given that one.
func (o *Outbox) ClaimDelivery(ctx context.Context, id, by string, now, until time.Time) (model.Delivery, bool, error) {
	doc, err := o.s.Doc(ctx, Collection, id)
	if errors.Is(err, store.ErrNotFound) {
		return model.Delivery{}, false, nil
	}
	if err != nil {
		return model.Delivery{}, false, err
	}
	d, err := store.Decode[deliveryDoc](doc)
	if err != nil {
		return model.Delivery{}, false, err
	}
	if d.State != model.DeliveryPending || d.NextAt.After(now) {
		return model.Delivery{}, false, nil
	}
	d.Claims++
	d.Attempts++
	d.ClaimedBy, d.NextAt, d.Tried = by+"#"+strconv.Itoa(d.Claims)+"/"+string(model.NewID()), until.UTC(), now.UTC()
	d.key()
	op := docstore.Op{Kind: docstore.Replace, Collection: Collection, ID: id, Rev: doc.Rev}
	if op.Body, err = store.Encode(d); err != nil {
		return model.Delivery{}, false, err
	}
	if err := entry.Replace(ctx, o.s, op); errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return model.Delivery{}, false, nil
	} else if err != nil {
		return model.Delivery{}, false, err
	}
	claimed, err := o.delivery(id, &d)
	if err != nil {
		o.s.Log().ErrorContext(ctx, "a delivery cannot be read whole", obs.KeyErr, err)
	}
	return claimed, true, nil
}

// FinishDelivery records what became of a claimed delivery: DELIVERED, FAILED, or PENDING again at NextAt. Only its claimant
// may, while nobody claimed it after: store.ErrConflict otherwise. Recorded again it changes nothing. Of d only the result
// is taken: State, NextAt, Attempts, LastError, Delivered, Result and Digest.
func (o *Outbox) FinishDelivery(ctx context.Context, d model.Delivery) error {
	if d.ClaimedBy == "" {
		return fmt.Errorf("delivery %s: it is not claimed: %w", d.ID, store.ErrConflict)
	}
	return store.Update(ctx, o.s, Collection, d.ID, func(have *deliveryDoc) error {
		if have.ClaimedBy != d.ClaimedBy {
			return fmt.Errorf("delivery %s: somebody else claimed it: %w", d.ID, store.ErrConflict)
		}
		if have.State != model.DeliveryPending {
			if have.State == d.State {
				return store.ErrUnchanged
			}
			return fmt.Errorf("delivery %s: it is finished already: %w", d.ID, store.ErrConflict)
		}
		have.State, have.NextAt, have.Attempts, have.LastError = d.State, d.NextAt.UTC(), d.Attempts, d.LastError
		have.Delivered, have.Result, have.Digest = d.Delivered, d.Result, d.Digest
		if have.State == model.DeliveryDelivered && have.Delivered.IsZero() {
			have.Delivered = have.Tried
		}
		if have.State != model.DeliveryPending {
			have.Sealed = nil // nobody sends it again
		}
		have.key()
		return nil
	})
}

// Query selects deliveries: of one alert, or of a group, or with AllGroups of all. Without any of them an empty
// GroupID selects those of the site itself. Everything else narrows further, where it is set. From and To are about when
// they were decided: From is inclusive, To exclusive.
type Query struct {
	AlertID   model.ID
	GroupID   model.ID // with AlertID: the alert must be of this group, unless AllGroups is set
	AllGroups bool
	State     model.DeliveryState
	From, To  time.Time
	Before    string // a cursor: next of the page before
	Limit     int    // 0 means 100
}

func (q *Query) matches(d *deliveryDoc) bool {
	return (q.AlertID == "" || d.AlertID == q.AlertID) &&
		(q.AllGroups || d.GroupID == q.GroupID) &&
		(q.State == "" || d.State == q.State) &&
		(q.From.IsZero() || d.Order >= entry.TimePart(q.From)) &&
		(q.To.IsZero() || d.Order < entry.TimePart(q.To)) &&
		(q.Before == "" || d.Order < q.Before)
}

func (q *Query) scan() docstore.Query {
	sq := docstore.Query{Collection: Collection, Descending: true, Index: "time"}
	if !q.AllGroups {
		sq.Index, sq.Prefix = "group", []any{entry.Scope(q.GroupID)}
	}
	low, high := entry.Bounds(q.From, q.To, q.Before)
	sq.Low, sq.High = entry.Bound(low), entry.Bound(high)
	return sq
}

// Deliveries returns a page of deliveries without their secrets, newest first, and the cursor of the next one, "" at the
// end. A page may be shorter than the limit, even empty, when few of many match: go on while there is a cursor.
func (o *Outbox) Deliveries(ctx context.Context, q Query) (deliveries []model.Delivery, next string, err error) {
	limit := entry.Limit(q.Limit)
	order := func(d *deliveryDoc) string { return d.Order }
	deliveries = []model.Delivery{}
	if q.AlertID == "" {
		next, err = entry.Page(ctx, o.s, q.scan(), limit, order, q.matches, func(d *deliveryDoc) { deliveries = append(deliveries, d.Delivery) })
		return deliveries, next, err
	}
	if strings.ContainsAny(string(q.AlertID), "/\x00") {
		return deliveries, "", nil // no alert has such an id, and it must not reach into another's range
	}
	// Their ids begin with the alert's, but are not in the order of time.
	from, to := store.Under(string(q.AlertID) + "/")
	found, next, err := entry.Newest(ctx, o.s, docstore.Query{Collection: Collection, From: from, To: to, Limit: entry.ScanPage}, limit, order, q.matches)
	if err != nil {
		return nil, "", err
	}
	for i := range found {
		deliveries = append(deliveries, found[i].Delivery)
	}
	return deliveries, next, nil
}

// Stats says how the outbox is doing. Counts stop at 10,000.
type Stats struct {
	Pending        int
	Failing        int       // pending, and failed at least once already
	FailedLastHour int       // given up
	OldestPending  time.Time // when the oldest pending delivery was decided; zero without any
}

// DeliveryStats counts what waits and what failed. What it reads is bounded: OldestPending is of the thousand that are due
// first, and of as many of those that failed already.
func (o *Outbox) DeliveryStats(ctx context.Context, now time.Time) (Stats, error) {
	var stats Stats
	count := func(key string, since any, limit int) (int, error) {
		n, err := o.s.Engine().Count(ctx, docstore.Query{Collection: Collection, Index: "state", Prefix: []any{key}, Low: since}, limit)
		if err != nil {
			return 0, fmt.Errorf("count deliveries: %w", err)
		}
		return n, nil
	}
	fresh, err := count(stateNew, nil, entry.CountMax)
	if err != nil {
		return stats, err
	}
	if stats.Failing, err = count(stateAgain, nil, entry.CountMax); err != nil {
		return stats, err
	}
	stats.Pending = min(fresh+stats.Failing, entry.CountMax)
	if stats.FailedLastHour, err = count(string(model.DeliveryFailed), now.Add(-time.Hour).UTC(), entry.CountMax); err != nil {
		return stats, err
	}
	for _, key := range []string{stateNew, stateAgain} {
		page, err := o.s.Engine().Scan(ctx, docstore.Query{Collection: Collection, Index: "state", Prefix: []any{key}, Limit: oldestLook})
		if err != nil {
			return stats, fmt.Errorf("scan deliveries: %w", err)
		}
		for _, doc := range page.Docs {
			d, err := store.Decode[deliveryDoc](doc)
			if err != nil {
				return stats, err
			}
			if stats.OldestPending.IsZero() || d.Created.Before(stats.OldestPending) {
				stats.OldestPending = d.Created
			}
		}
	}
	return stats, nil
}

// ExpireDeliveries is the pass that deletes deliveries that were finished before a time, up to limit. Pending ones stay.
// Running it again goes on where it ended.
func (o *Outbox) ExpireDeliveries(ctx context.Context, before time.Time, limit int) (int, error) {
	total := 0
	for _, state := range []model.DeliveryState{model.DeliveryDelivered, model.DeliveryFailed} {
		q := docstore.Query{Collection: Collection, Index: "state", Prefix: []any{string(state)}, High: before.UTC()}
		n, err := entry.DeleteFound(ctx, o.s, q, limit-total)
		if total += n; err != nil {
			return total, fmt.Errorf("expire deliveries: %w", err)
		}
	}
	return total, nil
}
