package alerting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
)

// alertDoc is an alert as stored, with the id "<group>/<order>". Order is the time it began and its id, so that whatever
// order ends in the document's id is one by time. The keys are there for the indexes, which need a field always.
type alertDoc struct {
	model.Alert `bson:",inline"`
	Order       string    `bson:"order"`
	GroupKey    string    `bson:"groupKey"`
	HostKey     string    `bson:"hostKey"`
	LiveKey     string    `bson:"liveKey"` // "<group>/<status>" while it is live, else ""
	AckKey      time.Time `bson:"ackKey"`  // AckUntil
	EndKey      time.Time `bson:"endKey"`  // Resolved; the zero time while it is live
}

func newAlertDoc(a model.Alert, order string) alertDoc {
	a.Rule.Notifications = slices.Clone(a.Rule.Notifications)
	d := alertDoc{
		Alert: a, Order: order, GroupKey: entry.Scope(a.GroupID), HostKey: string(a.Target.HostID),
		AckKey: a.AckUntil.UTC(), EndKey: a.Resolved.UTC(),
	}
	switch {
	case a.Status.Live():
		d.LiveKey, d.EndKey = d.GroupKey+"/"+string(a.Status), time.Time{}
	case a.Resolved.IsZero():
		d.EndKey = a.Updated.UTC() // it expires all the same
	}
	return d
}

func (d *alertDoc) docID() string { return d.GroupKey + "/" + d.Order }

// Live is a live alert and the revision it was read at.
type Live struct {
	model.Alert
	Rev int64
}

// endedMax bounds what Ended lists.
const endedMax = 10_000

func checkAlert(a *model.Alert) error {
	if _, err := entry.ID(a.GroupID, string(a.ID)); err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	if a.ConfigID == "" || a.Target.Key == "" {
		return errors.New("alert: it needs a configuration and a target")
	}
	return nil
}

// findAlert returns the document of an alert, or store.ErrNotFound.
func (al *Alerting) findAlert(ctx context.Context, id model.ID) (docstore.Doc, error) {
	for doc, err := range al.s.Docs(ctx, docstore.Query{Collection: collAlerts, Index: "alert", Prefix: []any{string(id)}, Limit: 1}) {
		return doc, err
	}
	return docstore.Doc{}, fmt.Errorf("alert %s: %w", id, store.ErrNotFound)
}

// Alert returns an alert of a group, or of the site, or store.ErrNotFound.
func (al *Alerting) Alert(ctx context.Context, group, id model.ID) (model.Alert, error) {
	a, err := al.AnyAlert(ctx, id)
	if err == nil && a.GroupID != group {
		return model.Alert{}, fmt.Errorf("alert %s: %w", id, store.ErrNotFound)
	}
	return a, err
}

// AnyAlert returns an alert, whichever group it is of, or store.ErrNotFound. It is for those who may see all of them.
func (al *Alerting) AnyAlert(ctx context.Context, id model.ID) (model.Alert, error) {
	doc, err := al.findAlert(ctx, id)
	if err != nil {
		return model.Alert{}, err
	}
	d, err := store.Decode[alertDoc](doc)
	return d.Alert, err
}

// SaveAlert writes the next state of a live alert that was read at a revision: store.ErrConflict when somebody else wrote
// since. One that has ended gives its slot free.
func (al *Alerting) SaveAlert(ctx context.Context, next model.Alert, rev int64) error {
	if err := checkAlert(&next); err != nil {
		return err
	}
	doc, err := al.findAlert(ctx, next.ID)
	if err != nil {
		return err
	}
	_, order, _ := strings.Cut(doc.ID, "/")
	d := newAlertDoc(next, order)
	if d.docID() != doc.ID {
		return fmt.Errorf("alert %s: it belongs to another group", next.ID)
	}
	body, err := store.Encode(d)
	if err != nil {
		return err
	}
	op := docstore.Op{Kind: docstore.Replace, Collection: collAlerts, ID: doc.ID, Rev: rev, Body: body}
	if err := entry.Replace(ctx, al.s, op); err != nil {
		return err
	}
	if next.Status.Live() {
		return nil
	}
	return al.freeSlot(ctx, &next)
}

// UpdateAlert changes an alert of a group, whoever else does: what people do to it. change may run several times. An alert
// that ends so gives its slot free.
func (al *Alerting) UpdateAlert(ctx context.Context, group, id model.ID, change func(*model.Alert) error) error {
	doc, err := al.findAlert(ctx, id)
	if err != nil {
		return err
	}
	var after model.Alert
	err = store.Update(ctx, al.s, collAlerts, doc.ID, func(d *alertDoc) error {
		if d.GroupID != group {
			return fmt.Errorf("alert %s: %w", id, store.ErrNotFound)
		}
		a, order := d.Alert, d.Order
		if err := change(&a); err != nil {
			return err
		}
		a.ID, a.GroupID, a.ConfigID, a.Target.Key = id, group, d.ConfigID, d.Target.Key
		*d = newAlertDoc(a, order)
		after = a
		return nil
	})
	if err != nil || after.ID == "" || after.Status.Live() {
		return err
	}
	return al.freeSlot(ctx, &after)
}

// AddInform keeps an alert that only tells of an event. Its id belongs to the event: added again it is not added.
func (al *Alerting) AddInform(ctx context.Context, a model.Alert) (added bool, err error) {
	if err := checkAlert(&a); err != nil {
		return false, err
	}
	if !a.Inform || a.Status.Live() {
		return false, fmt.Errorf("alert %s: it does not only inform", a.ID)
	}
	d := newAlertDoc(a, entry.Order(a.Created, string(a.ID)))
	err = store.Insert(ctx, al.s, collAlerts, d.docID(), d)
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// AlertQuery selects alerts. With AllGroups set GroupID is ignored; without it an empty GroupID selects the alerts of the
// site itself. Everything else narrows further, where it is set. From and To are about when alerts began: From is
// inclusive, To exclusive; zero times are open ends.
type AlertQuery struct {
	GroupID    model.ID
	AllGroups  bool
	GlobalOnly bool // of global configurations
	Statuses   []model.AlertStatus
	ConfigID   model.ID
	HostID     model.HostID
	ClusterID  model.ID
	EventTypes []model.EventType
	From, To   time.Time
	Before     string // a cursor: next of the page before
	Limit      int    // 0 means 100
}

func (q *AlertQuery) matches(d *alertDoc) bool {
	return (q.AllGroups || d.GroupID == q.GroupID) &&
		(!q.GlobalOnly || d.Global) &&
		(len(q.Statuses) == 0 || slices.Contains(q.Statuses, d.Status)) &&
		(q.ConfigID == "" || d.ConfigID == q.ConfigID) &&
		(q.HostID == "" || d.Target.HostID == q.HostID) &&
		(q.ClusterID == "" || d.Target.ClusterID == q.ClusterID) &&
		(len(q.EventTypes) == 0 || slices.Contains(q.EventTypes, d.EventType)) &&
		(q.From.IsZero() || d.Order >= entry.TimePart(q.From)) &&
		(q.To.IsZero() || d.Order < entry.TimePart(q.To)) &&
		(q.Before == "" || d.Order < q.Before)
}

// live reports whether only live alerts are asked for, which are found without looking at ended ones.
func (q *AlertQuery) live() bool {
	return len(q.Statuses) > 0 && !slices.ContainsFunc(q.Statuses, func(s model.AlertStatus) bool { return !s.Live() })
}

// scan is the range that holds what is asked for, newest first.
func (q *AlertQuery) scan() docstore.Query {
	sq := docstore.Query{Collection: collAlerts, Descending: true}
	low, high := entry.Bounds(q.From, q.To, q.Before)
	if q.AllGroups {
		sq.Index, sq.Low, sq.High = "time", entry.Bound(low), entry.Bound(high)
		return sq
	}
	prefix := entry.Scope(q.GroupID) + "/"
	from, to := store.Under(prefix)
	if low != "" {
		from = prefix + low
	}
	if high != "" {
		to = prefix + high
	}
	if q.HostID != "" {
		sq.Index, sq.Prefix, sq.Low, sq.High = "host", []any{string(q.HostID)}, from, to
		return sq
	}
	sq.From, sq.To = from, to
	return sq
}

// Alerts returns a page of alerts, newest first, and the cursor of the next one, "" at the end. A page may be shorter than
// the limit, even empty, when few of many alerts match: go on while there is a cursor. Live alerts alone are found without
// looking at ended ones.
func (al *Alerting) Alerts(ctx context.Context, q AlertQuery) (alerts []model.Alert, next string, err error) {
	limit := entry.Limit(q.Limit)
	order := func(d *alertDoc) string { return d.Order }
	alerts = []model.Alert{}
	if !q.live() {
		next, err = entry.Page(ctx, al.s, q.scan(), limit, order, q.matches, func(d *alertDoc) { alerts = append(alerts, d.Alert) })
		return alerts, next, err
	}
	found, next, err := entry.Newest(ctx, al.s, liveRange(q.GroupID, q.AllGroups), limit, order, q.matches) // by state first, not by time
	if err != nil {
		return nil, "", err
	}
	for i := range found {
		alerts = append(alerts, found[i].Alert)
	}
	return alerts, next, nil
}

// liveRange is the query for the live alerts of a group, or of all groups and the site.
func liveRange(group model.ID, all bool) docstore.Query {
	q := docstore.Query{Collection: collAlerts, Index: "live", Limit: entry.ScanPage}
	if all {
		q.Low = entry.Site // ended ones have "", which comes before
		return q
	}
	low, high := store.Under(entry.Scope(group) + "/")
	q.Low, q.High = low, high
	return q
}

// CountOpen counts the open alerts of a group, or of the site, and how many of them are acknowledged at a time. It reads no
// alerts, and stops at 10,000.
func (al *Alerting) CountOpen(ctx context.Context, group model.ID, now time.Time) (open, acknowledged int, err error) {
	q := docstore.Query{Collection: collAlerts, Index: "live", Prefix: []any{entry.Scope(group) + "/" + string(model.AlertOpen)}}
	if open, err = al.s.Engine().Count(ctx, q, entry.CountMax); err != nil {
		return 0, 0, fmt.Errorf("count open alerts: %w", err)
	}
	if open == 0 {
		return 0, 0, nil
	}
	q.Low = entry.Next(now)
	if acknowledged, err = al.s.Engine().Count(ctx, q, entry.CountMax); err != nil {
		return 0, 0, fmt.Errorf("count acknowledged alerts: %w", err)
	}
	return open, acknowledged, nil
}

// Ended lists the alerts of a group, or of the site, that ended at or after a time, without those that only informed:
// oldest end first, at most 10,000.
func (al *Alerting) Ended(ctx context.Context, group model.ID, since time.Time) ([]model.Alert, error) {
	alerts := []model.Alert{}
	q := docstore.Query{Collection: collAlerts, Index: "ended", Prefix: []any{entry.Scope(group)}, Low: since.UTC(), Limit: entry.ScanPage}
	for d, err := range store.ScanAll[alertDoc](ctx, al.s, q) {
		if err != nil {
			return nil, err
		}
		if !d.Inform && !d.Status.Live() {
			alerts = append(alerts, d.Alert)
		}
		if len(alerts) >= endedMax {
			break
		}
	}
	return alerts, nil
}

// ExpireAlerts is the pass that deletes alerts of a group, or of the site, that ended before a time, up to limit. Live ones
// stay however old they are. Running it again goes on where it ended.
func (al *Alerting) ExpireAlerts(ctx context.Context, group model.ID, before time.Time, limit int) (int, error) {
	q := docstore.Query{Collection: collAlerts, Index: "ended", Prefix: []any{entry.Scope(group)}, Low: time.Unix(0, 0).UTC(), High: before.UTC()}
	n, err := entry.DeleteFound(ctx, al.s, q, limit)
	if err != nil {
		return n, fmt.Errorf("expire alerts: %w", err)
	}
	return n, nil
}
