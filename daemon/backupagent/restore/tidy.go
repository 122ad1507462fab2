package restore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// tidy removes from the target what a restore left there that does not come to its end, and says what is in place all the same.
func (w *work) tidy(ctx context.Context) (became string, err error) {
	w.begin("removes what it staged", 0, 0)
	if err := w.j.load(ctx); err != nil {
		return "", err
	}
	if became, err = w.undo(ctx); err != nil {
		return "", err
	}
	databases, err := w.t.Databases(ctx)
	if err != nil {
		return "", err
	}
	for _, db := range databases {
		if db == "local" || db == "config" || db == journalDB {
			continue
		}
		have, err := w.t.List(ctx, db, bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^" + w.staging}}}})
		if err != nil {
			return "", err
		}
		for _, name := range slices.Sorted(maps.Keys(have)) {
			if !strings.HasPrefix(name, w.staging) {
				continue
			}
			if err := w.t.Drop(ctx, db, name); err != nil {
				return "", err
			}
		}
	}
	if err := w.j.drop(ctx); err != nil { // last: it says what is to be removed
		return "", err
	}
	return became, os.RemoveAll(w.f.Dir)
}

// undo drops what was written in place in part, and says what is in place.
func (w *work) undo(ctx context.Context) (became string, err error) {
	if w.j.state.Phase == "" || w.j.state.Phase == phaseDone {
		return "", nil
	}
	if w.j.state.Users && w.j.state.Phase == phaseSwap {
		if err := w.dropTemporary(ctx); err != nil {
			return "", err
		}
	}
	var in, lost []string
	for n, p := range w.j.colls {
		db, coll := oplog.Split(p.NS)
		switch {
		case p.Placed:
			in = append(in, p.NS)
		case p.View != nil:
			there, ok, err := w.t.At(ctx, db, coll)
			switch {
			case err != nil:
				return "", err
			case !ok:
				lost = append(lost, p.NS)
			case sameView(there, p.View):
				in = append(in, p.NS)
			}
		case p.Begun && len(p.UUID.Data) == 0:
			lost = append(lost, p.NS)
		case p.Begun:
			for _, x := range []string{coll, "system.buckets." + coll} {
				there, ok, err := w.t.At(ctx, db, x)
				if err != nil {
					return "", err
				}
				if ok && bytes.Equal(there.UUID, p.UUID.Data) {
					if err := w.t.Drop(ctx, db, coll); err != nil {
						return "", err
					}
				}
			}
			lost = append(lost, p.NS)
		default: // renamed, but the journal did not hear of it?
			there, ok, err := w.t.At(ctx, db, coll)
			if err != nil {
				return "", err
			}
			if ok && len(there.UUID) > 0 && bytes.Equal(there.UUID, p.UUID.Data) {
				p.Placed = true
				w.j.colls[n] = p
				in = append(in, p.NS)
			}
		}
	}
	if w.j.state.Phase == phaseStage {
		return "nothing in the target was changed", nil
	}
	slices.Sort(in)
	slices.Sort(lost)
	became = fmt.Sprintf("%d of %d collections are in place", len(in), w.j.state.Entries)
	if len(in) > 0 {
		became += " (" + some(in) + ")"
	}
	became += ", the others are as they were"
	if len(lost) > 0 {
		became += fmt.Sprintf(" but for %d that were being written in place and are incomplete or gone: %s", len(lost), some(lost))
	}
	return became, nil
}
