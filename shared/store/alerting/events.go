package alerting

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// eventDoc is an event as stored, with the id "<group>/<event id>" ("-" for the site). Event ids sort by time, so every
// order that ends in the document's id is an order by time. The keys are there for the indexes, which need a field
// always.
type eventDoc struct {
	model.Event `bson:",inline"`
	HostKey     string `bson:"hostKey"`
	ClusterKey  string `bson:"clusterKey"`
}

const (
	siteScope   = "-"
	timeDigits  = 11 // milliseconds in hexadecimal, until the year 2527
	randDigits  = 24 - timeDigits
	eventsLimit = 100    // when a query names no limit
	eventsMax   = 10_000 // whatever a query says
	scanFactor  = 20     // documents looked at for each asked for, before a filtered page ends early
)

// EventID makes an event's id: its time, and a digest of whatever tells it from others of that time. The same parts
// give the same id, so that an event which is found again is not kept twice; without parts it is random.
func EventID(at time.Time, parts ...string) model.ID {
	if len(parts) == 0 {
		parts = []string{string(model.NewID())}
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return model.ID(timePart(at) + hex.EncodeToString(sum[:])[:randDigits])
}

func timePart(at time.Time) string {
	return fmt.Sprintf("%0*x", timeDigits, max(0, at.UnixMilli()))
}

func scope(group model.ID) string {
	if group == "" {
		return siteScope
	}
	return string(group)
}

// AddEvents keeps events. An event without an id gets a random one; an id that was not made for the event's time is
// replaced by one derived from it. Adding an event again writes the same document again.
func (al *Alerting) AddEvents(ctx context.Context, events ...model.Event) error {
	ops := make([]docstore.Op, 0, len(events))
	for _, e := range events {
		op, err := al.EventOp(e)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	return al.s.WriteOnce(ctx, ops...)
}

// EventOp is the write that keeps an event, for a batch with other writes. It may be repeated if the event has an id.
func (al *Alerting) EventOp(e model.Event) (docstore.Op, error) {
	if strings.Contains(string(e.GroupID), "/") || e.GroupID == siteScope {
		return docstore.Op{}, fmt.Errorf("event %s: %q is no group", e.Type, e.GroupID)
	}
	switch {
	case e.ID == "":
		e.ID = EventID(e.At)
	case !e.ID.Valid() || !strings.HasPrefix(string(e.ID), timePart(e.At)):
		e.ID = EventID(e.At, string(e.ID))
	}
	d := eventDoc{Event: e, HostKey: string(e.HostID), ClusterKey: string(e.ClusterID)}
	return store.PutOp(collEvents, scope(e.GroupID)+"/"+string(e.ID), d)
}

// EventQuery selects events. With AllGroups set GroupID is ignored; without it an empty GroupID selects the events of
// the site itself. HostID and ClusterID narrow further, and so do Types if there are any. From is inclusive, To
// exclusive; zero times are open ends.
type EventQuery struct {
	GroupID   model.ID
	AllGroups bool
	HostID    model.HostID
	ClusterID model.ID
	Types     []model.EventType
	From, To  time.Time
	Before    string // a cursor: next of the page before
	Limit     int    // 0 means 100
}

func (q EventQuery) matches(d *eventDoc) bool {
	return (q.HostID == "" || d.HostID == q.HostID) &&
		(q.ClusterID == "" || d.ClusterID == q.ClusterID) &&
		(q.AllGroups || d.GroupID == q.GroupID) &&
		(len(q.Types) == 0 || slices.Contains(q.Types, d.Type))
}

// scan is the range of the engine that holds what is asked for. All its orders end in the event's id.
func (q EventQuery) scan() docstore.Query {
	sq := docstore.Query{Collection: collEvents, Descending: true}
	low, high := "", ""
	if !q.From.IsZero() {
		low = timePart(q.From)
	}
	if !q.To.IsZero() {
		high = timePart(q.To)
	}
	if q.Before != "" && (high == "" || q.Before < high) {
		high = q.Before
	}
	if q.AllGroups && q.HostID == "" && q.ClusterID == "" {
		sq.Index = "event"
		sq.Low, sq.High = bound(low), bound(high)
		return sq
	}
	// "<group>/<event id>": the group's own range, cut at both ends. An index on host or cluster has the same tail.
	prefix := scope(q.GroupID) + "/"
	from, to := store.Under(prefix)
	if low != "" {
		from = prefix + low
	}
	if high != "" {
		to = prefix + high
	}
	switch {
	case q.HostID != "":
		sq.Index, sq.Prefix = "host", []any{string(q.HostID)}
	case q.ClusterID != "":
		sq.Index, sq.Prefix = "cluster", []any{string(q.ClusterID)}
	default:
		sq.From, sq.To = from, to
		return sq
	}
	if !q.AllGroups { // a host or cluster is of one group anyway; without it known the whole index range is read
		sq.Low, sq.High = from, to
	}
	return sq
}

func bound(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Events returns a page of events, newest first, and the cursor of the next one, "" at the end. A page may be shorter
// than the limit, even empty, when few of many events match: go on while there is a cursor.
func (al *Alerting) Events(ctx context.Context, q EventQuery) (events []model.Event, next string, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = eventsLimit
	}
	limit = min(limit, eventsMax)
	sq := q.scan()
	sq.Limit = min(limit+1, 1_000)
	events = []model.Event{}
	looked := 0
	for d, err := range store.ScanAll[eventDoc](ctx, al.s, sq) {
		if err != nil {
			return nil, "", err
		}
		if len(events) == limit || looked >= limit*scanFactor && looked >= 2_000 {
			return events, next, nil
		}
		looked++
		next = string(d.ID)
		if q.matches(&d) && (q.Before == "" || next < q.Before) && q.within(d.At) {
			events = append(events, d.Event)
		}
	}
	return events, "", nil
}

func (q EventQuery) within(at time.Time) bool {
	return (q.From.IsZero() || !at.Before(q.From)) && (q.To.IsZero() || at.Before(q.To))
}

// Event returns one event, or store.ErrNotFound.
func (al *Alerting) Event(ctx context.Context, id model.ID) (model.Event, error) {
	d, err := store.First[eventDoc](ctx, al.s, docstore.Query{Collection: collEvents, Index: "event", Prefix: []any{string(id)}})
	return d.Event, err
}

// ExpireEvents is the pass that deletes a group's events older than a time, up to limit. An empty group means the
// site's own.
func (al *Alerting) ExpireEvents(ctx context.Context, group model.ID, before time.Time, limit int) (int, error) {
	prefix := scope(group) + "/"
	n, err := al.s.Engine().DeleteRange(ctx, collEvents, prefix, prefix+timePart(before), limit)
	if err != nil {
		return n, fmt.Errorf("expire events: %w", err)
	}
	return n, nil
}
