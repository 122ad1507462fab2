package inventory

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// changePrefix is the id of a host's change rows before the part that tells two rows of one time apart. Times are
// milliseconds in hexadecimal of fixed width, so that ids sort by time.
func changePrefix(group model.ID, host model.HostID, at time.Time) string {
	return fmt.Sprintf("%s/%s/%011x", group, host, max(0, at.UnixMilli()))
}

// AddChanges keeps change rows. A row belongs to its host, time, kind and path: adding it again changes nothing.
func (in *Inventory) AddChanges(ctx context.Context, changes ...model.Change) error {
	ops := make([]docstore.Op, 0, len(changes))
	for _, c := range changes {
		op, err := in.ChangeOp(c)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	return in.s.WriteOnce(ctx, ops...)
}

// ChangeOp is the write of one change row, for a batch with the rest of a ping. It may be repeated.
func (in *Inventory) ChangeOp(c model.Change) (docstore.Op, error) {
	if err := checkKey(c.GroupID, "host", string(c.HostID)); err != nil {
		return docstore.Op{}, err
	}
	what := fnv.New64a()
	_, _ = what.Write([]byte(c.Kind + "\x00" + c.Path))
	return store.PutOp(collChanges, changePrefix(c.GroupID, c.HostID, c.At)+"/"+hex.EncodeToString(what.Sum(nil)), c)
}

// Changes lists change rows from from (inclusive) to to (exclusive), newest first, at most limit (0: 1,000). A zero time
// is an open end; host "" means all hosts of the group.
func (in *Inventory) Changes(ctx context.Context, group model.ID, host model.HostID, from, to time.Time, limit int) ([]model.Change, error) {
	if limit <= 0 {
		limit = 1_000
	}
	q := docstore.Query{Collection: collChanges, Descending: true, Limit: limit}
	if host == "" {
		q.Index, q.Prefix = "group", []any{string(group)}
		if !from.IsZero() {
			q.Low = from
		}
		if !to.IsZero() {
			q.High = to
		}
	} else {
		q.From, q.To = store.Under(hostKey(group, host) + "/")
		if !from.IsZero() {
			q.From = changePrefix(group, host, from)
		}
		if !to.IsZero() {
			q.To = changePrefix(group, host, to)
		}
	}
	changes := []model.Change{}
	for c, err := range store.ScanAll[model.Change](ctx, in.s, q) {
		if err != nil {
			return nil, err
		}
		if changes = append(changes, c); len(changes) == limit {
			break
		}
	}
	return changes, nil
}
