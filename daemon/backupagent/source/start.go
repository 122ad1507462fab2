package source

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// ErrStartGone is in the chain of errors about a transaction that has been open for so long that the oplog no longer holds its
// beginning: no history can begin before it ends.
var ErrStartGone = errors.New("the oplog no longer holds the beginning of a transaction that is open")

// Start finds where the history of a full read begins: at the first entry of the oldest transaction that may still commit, or
// else at the newest entry. It is called before anything is read. The entry itself belongs to the history.
//
// Three looks, in this order: the newest entry P; the transactions that are open now (A); the entries between P and A. A
// transaction that was open at P is open at A too, or it ended in between, and then its last entry lies there.
//
// The newest entry must not lie before floor, where a history ended that is not to be begun again.
func (m *Member) Start(ctx context.Context, floor oplog.OpTime) (bson.Raw, error) {
	entry, err := m.edge(ctx, -1)
	if err != nil {
		return nil, err
	}
	newest := position(entry)
	if newest.Before(floor) {
		return nil, fmt.Errorf("the majority is at %s on %s, the history before ended at %s: the next one does not begin earlier", newest, m.Address, floor)
	}
	start := newest
	open, err := m.oldestOpen(ctx)
	if err != nil {
		return nil, err
	}
	if !open.IsZero() && open.Before(start) {
		start = open
	}
	if start, err = m.endedSince(ctx, newest, start); err != nil {
		return nil, err
	}
	if start == newest {
		return entry, nil
	}
	if entry, err = m.At(ctx, start.TS); err == nil && entry == nil {
		err = fmt.Errorf("%w (%s)", ErrStartGone, start)
	}
	return entry, err
}

// oldestOpen is the first position of the oldest open transaction, zero if there is none.
func (m *Member) oldestOpen(ctx context.Context) (oplog.OpTime, error) {
	raw, err := m.Run(ctx, "config", bson.D{
		{Key: "find", Value: "transactions"},
		{Key: "filter", Value: bson.D{{Key: "state", Value: bson.D{{Key: "$in", Value: bson.A{"prepared", "inProgress"}}}}}},
		{Key: "sort", Value: bson.D{{Key: "startOpTime.ts", Value: 1}}},
		{Key: "limit", Value: 1},
		{Key: "singleBatch", Value: true},
		majority,
	})
	if err != nil {
		return oplog.OpTime{}, err
	}
	b, err := firstBatch(raw)
	if err != nil {
		return oplog.OpTime{}, err
	}
	var at oplog.OpTime
	err = b.Each(func(doc bson.Raw) error {
		at = opTime(doc, "startOpTime")
		return nil
	})
	return at, err
}

// endedSince looks at the entries behind a position for the ends of transactions that began before start, and gives the
// earliest of their beginnings.
func (m *Member) endedSince(ctx context.Context, after, start oplog.OpTime) (oplog.OpTime, error) {
	now, err := m.edge(ctx, -1)
	if err != nil {
		return start, err
	}
	until := position(now)
	if !after.Before(until) {
		return start, nil
	}
	c, err := m.Open(ctx, Find{DB: "local", Command: m.seeking(bson.D{
		{Key: "find", Value: oplogName},
		{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gt", Value: after.TS}, {Key: "$lte", Value: until.TS}}}, {Key: "op", Value: "c"}}},
		majority,
	})})
	if err != nil {
		return start, err
	}
	defer c.Close(ctx)
	for {
		b, err := c.Next(ctx, 0)
		if errors.Is(err, ErrEnd) {
			return start, nil
		}
		if err != nil {
			return start, err
		}
		err = b.Each(func(raw bson.Raw) error {
			e, err := oplog.Decode(raw)
			if err != nil {
				return err
			}
			if !e.Transaction() {
				return nil
			}
			for at := e.Prev; !at.IsZero() && at.Before(start); {
				start = at
				raw, err := m.At(ctx, at.TS)
				if err != nil {
					return err
				}
				if raw == nil {
					return fmt.Errorf("%w (%s)", ErrStartGone, at)
				}
				if e, err = oplog.Decode(raw); err != nil {
					return err
				}
				at = e.Prev
			}
			return nil
		})
		if err != nil {
			return start, err
		}
	}
}
