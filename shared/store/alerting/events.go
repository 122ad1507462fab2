package alerting

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
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
	randDigits  = 24 - entry.TimeDigits
	eventsLimit = 100    // when a query names no limit
	eventsMax   = 10_000 // whatever a query says
	scanFactor  = 20     // documents looked at for each asked for, before a filtered page ends early
	scanLeast   = 2_000  // and for each page at least
	scanBatch   = 1_000  // documents read at once
)

// EventID makes an event's id: its time, and a digest of whatever tells it from others of that time. The same parts
// give the same id, so that an event which is found again is not kept twice; without parts it is random.
func EventID(at time.Time, parts ...string) model.ID {
	if len(parts) == 0 {
		parts = []string{string(model.NewID())}
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return model.ID(entry.TimePart(at) + hex.EncodeToString(sum[:])[:randDigits])
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
	if strings.Contains(string(e.GroupID), "/") || e.GroupID == entry.Site {
		return docstore.Op{}, fmt.Errorf("event %s: %q is no group", e.Type, e.GroupID)
	}
	switch {
	case e.ID == "":
		e.ID = EventID(e.At)
	case !e.ID.Valid() || !strings.HasPrefix(string(e.ID), entry.TimePart(e.At)):
		e.ID = EventID(e.At, string(e.ID))
	}
	d := eventDoc{Event: e, HostKey: string(e.HostID), ClusterKey: string(e.ClusterID)}
	return store.PutOp(collEvents, entry.Scope(e.GroupID)+"/"+string(e.ID), d)
}

// EventQuery selects events. With AllGroups set GroupID is ignored; without it an empty GroupID selects the events of
// the site itself. Everything else narrows further, where it is set. From is inclusive, To exclusive; zero times are
// open ends.
type EventQuery struct {
	GroupID   model.ID
	AllGroups bool
	Groups    []model.ID // with AllGroups: only events of these groups, and of the organization OrgID
	OrgID     model.ID
	HostID    model.HostID
	ClusterID model.ID
	Types     []model.EventType
	Actor     string // part of a user name, a public key or an agent's id, whatever the case
	Text      string // part of anything a reader of the event sees, whatever the case
	From, To  time.Time
	Before    string // a cursor: next of the page before
	Limit     int    // 0 means 100
}

func (q EventQuery) matches(d *eventDoc) bool {
	return (q.HostID == "" || d.HostID == q.HostID) &&
		(q.ClusterID == "" || d.ClusterID == q.ClusterID) &&
		q.ofGroups(&d.Event) &&
		(len(q.Types) == 0 || slices.Contains(q.Types, d.Type)) &&
		(q.Actor == "" || holds(q.Actor, d.Username, d.APIKey, d.AgentID)) &&
		(q.Text == "" || holds(q.Text, d.Text, d.HostName, string(d.Type), d.Username, d.APIKey, d.AgentID, d.IP, d.TargetUser, d.TargetKey, d.AccessEntry))
}

func (q EventQuery) ofGroups(e *model.Event) bool {
	switch {
	case !q.AllGroups:
		return e.GroupID == q.GroupID
	case q.Groups == nil && q.OrgID == "":
		return true
	case e.GroupID == "":
		return q.OrgID != "" && e.OrgID == q.OrgID
	}
	return slices.Contains(q.Groups, e.GroupID)
}

func holds(part string, in ...string) bool {
	part = strings.ToLower(part)
	return slices.ContainsFunc(in, func(s string) bool { return strings.Contains(strings.ToLower(s), part) })
}

// Holds reports whether an event is among those that the query selects, wherever its cursor is.
func (q EventQuery) Holds(e model.Event) bool {
	return q.matches(&eventDoc{Event: e}) && q.within(e.At)
}

// scan is the range of the engine that holds what is asked for. All its orders end in the event's id.
func (q EventQuery) scan() docstore.Query {
	sq := docstore.Query{Collection: collEvents, Descending: true}
	low, high := entry.Bounds(q.From, q.To, q.Before)
	if q.AllGroups { // also with a host or cluster: their indexes are ordered within a group only
		sq.Index = "event"
		sq.Low, sq.High = entry.Bound(low), entry.Bound(high)
		return sq
	}
	// "<group>/<event id>": the group's own range, cut at both ends. An index on host or cluster has the same tail.
	prefix := entry.Scope(q.GroupID) + "/"
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
	sq.Low, sq.High = from, to
	return sq
}

// Events returns a page of events, newest first, and the cursor of the next one, "" at the end. A page may be shorter
// than the limit, even empty, when few of many events match: go on while there is a cursor.
func (al *Alerting) Events(ctx context.Context, q EventQuery) (events []model.Event, next string, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = eventsLimit
	}
	limit = min(limit, eventsMax)
	events = []model.Event{}
	next, err = al.EachEvent(ctx, q, max(limit*scanFactor, scanLeast), func(e model.Event) bool {
		if len(events) == limit {
			return false
		}
		events = append(events, e)
		return true
	})
	if err != nil {
		return nil, "", err
	}
	return events, next, nil
}

// EachEvent hands the events of a query to take, newest first, until take refuses one, none is left, or look events were
// looked at: a query that matches rarely must not read everything there is. It returns the cursor from which to go on,
// which is "" at the end; an event that was refused comes again. The query's Limit
// bounds nothing here: it only says how many events are likely to be taken.
func (al *Alerting) EachEvent(ctx context.Context, q EventQuery, look int, take func(model.Event) bool) (next string, err error) {
	sq := q.scan()
	if sq.Limit = scanBatch; q.Limit > 0 { // a short page should not read a long batch
		sq.Limit = min(q.Limit+1, scanBatch)
	}
	looked := 0
	for d, err := range store.ScanAll[eventDoc](ctx, al.s, sq) {
		if err != nil {
			return "", err
		}
		if looked >= look && looked > 0 {
			return next, nil
		}
		looked++
		if q.matches(&d) && (q.Before == "" || string(d.ID) < q.Before) && q.within(d.At) && !take(d.Event) {
			return next, nil
		}
		next = string(d.ID)
	}
	return "", nil
}

// CursorTime is how far back the events before a cursor were read. What is no cursor has no time.
func CursorTime(cursor string) (at time.Time, ok bool) {
	if !model.ID(cursor).Valid() {
		return at, false
	}
	ms, err := strconv.ParseInt(cursor[:entry.TimeDigits], 16, 64)
	if err != nil {
		return at, false
	}
	return time.UnixMilli(ms).UTC(), true
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
	prefix := entry.Scope(group) + "/"
	n, err := al.s.Engine().DeleteRange(ctx, collEvents, prefix, prefix+entry.TimePart(before), limit)
	if err != nil {
		return n, fmt.Errorf("expire events: %w", err)
	}
	return n, nil
}
