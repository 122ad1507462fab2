package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
)

// swap puts everything in place: first what was staged, each collection by one rename, then what can only be written in
// place, then views, then users. It ends between two of them when ctx does.
func (w *work) swap(ctx context.Context) error {
	n := int64(0)
	next := func(e *dump.Entry) {
		w.begin(fmt.Sprintf("puts collections in place: %d of %d, %s", n, len(w.entries), e.NS), n, int64(len(w.entries)))
		n++
	}
	for i := range w.entries {
		e := &w.entries[i]
		if !stages(e) {
			continue
		}
		next(e)
		if err := w.rename(ctx, e); err != nil {
			return err
		}
	}
	if err := w.writeDirect(ctx, next); err != nil {
		return err
	}
	for i := range w.entries {
		e := &w.entries[i]
		if e.Type != dump.View {
			continue
		}
		next(e)
		if err := w.view(ctx, e); err != nil {
			return err
		}
	}
	return w.users(ctx)
}

func (w *work) inTheWay(e *dump.Entry) error {
	return refuse("Allow collections in the way to be dropped, or restore under other names.", "%s is there since the restore began", e.NS)
}

// rename puts a staged collection in place.
func (w *work) rename(ctx context.Context, e *dump.Entry) error {
	p := w.j.colls[e.Number]
	if p.Placed {
		return nil
	}
	db, final := oplog.Split(e.NS)
	_, from := w.staged(e)
	isOurs := func(x target.Info) bool { return len(x.UUID) > 0 && bytes.Equal(x.UUID, p.UUID.Data) }
	there, ok, err := w.t.At(ctx, db, final)
	if err != nil {
		return err
	}
	switch {
	case ok && isOurs(there): // in place, but the journal did not hear of it
		p.Placed = true
		return w.j.place(ctx, e.Number, p)
	case ok && !w.push.Drop:
		return w.inTheWay(e)
	case ok && there.Type != dump.Collection: // nothing is renamed over a view
		if err := w.t.Drop(ctx, db, final); err != nil {
			return err
		}
	}
	_, err = w.t.Write(ctx, target.Slow, "admin", bson.D{{Key: "renameCollection", Value: db + "." + from}, {Key: "to", Value: e.NS}, {Key: "dropTarget", Value: w.push.Drop}})
	switch {
	case target.Is(err, target.CodeNamespaceGone): // an answer was lost?
		if there, ok, lerr := w.t.At(ctx, db, final); lerr != nil {
			return lerr
		} else if !ok || !isOurs(there) {
			return fmt.Errorf("put %s in place: %w", e.NS, errGone)
		}
	case target.Is(err, target.CodeNamespaceExists):
		return w.inTheWay(e)
	case err != nil:
		return fmt.Errorf("put %s in place: %w", e.NS, err)
	}
	p.Placed = true
	return w.j.place(ctx, e.Number, p)
}

// stored is the collection that holds the documents of an entry that is written in place.
func stored(e *dump.Entry) (db, coll string) {
	db, coll = oplog.Split(e.NS)
	if e.Type == dump.TimeSeries {
		coll = dump.Buckets + coll
	}
	return db, coll
}

func isScripts(e *dump.Entry) bool {
	_, coll := oplog.Split(e.NS)
	return coll == "system.js"
}

// writeDirect makes and fills the collections that cannot be staged.
func (w *work) writeDirect(ctx context.Context, next func(e *dump.Entry)) error {
	wanted := map[int64]bool{}
	need := make([]bool, len(w.push.Objects))
	for i := range w.entries {
		e := &w.entries[i]
		if e.Type == dump.View || stages(e) || e.IsUsers() || w.j.colls[e.Number].Placed {
			continue
		}
		next(e)
		if err := w.makeRoom(ctx, e); err != nil {
			return err
		}
		if e.Docs == 0 {
			continue
		}
		wanted[e.Number] = true
		for n := e.First; n <= e.Last; n++ {
			need[n] = true
		}
	}
	for n := range need {
		if !need[n] {
			continue
		}
		if err := w.part(ctx, n, func(number int64) bool { return wanted[number] }, stored); err != nil {
			return err
		}
		w.f.Done(n)
	}
	for i := range w.entries {
		e := &w.entries[i]
		p := w.j.colls[e.Number]
		if e.Type == dump.View || stages(e) || e.IsUsers() || p.Placed {
			continue
		}
		db, coll := stored(e)
		if err := w.whole(ctx, e, db, coll); err != nil {
			return err
		}
		_, name := oplog.Split(e.NS) // indexes of a time series are its own
		if err := w.index(ctx, e, db, name); err != nil {
			return err
		}
		p.Placed = true
		if err := w.j.place(ctx, e.Number, p); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom removes what is in the way of a collection that is written in place, and makes it, unless an earlier attempt did.
func (w *work) makeRoom(ctx context.Context, e *dump.Entry) error {
	p := w.j.colls[e.Number]
	db, coll := stored(e)
	there, ok, err := w.t.At(ctx, db, coll)
	if err != nil {
		return err
	}
	if p.Begun && (isScripts(e) || ok && bytes.Equal(there.UUID, p.UUID.Data)) {
		return nil
	}
	if isScripts(e) { // it cannot be dropped everywhere
		if ok && !w.push.Drop {
			return w.inTheWay(e)
		}
		if err := w.j.place(ctx, e.Number, placed{NS: e.NS, Begun: true}); err != nil || !ok {
			return err
		}
		_, err := w.t.Write(ctx, target.Slow, db, bson.D{{Key: "delete", Value: coll}, {Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "limit", Value: 0}}}}})
		return err
	}
	_, name := oplog.Split(e.NS)
	_, shown, err := w.t.At(ctx, db, name)
	if err != nil {
		return err
	}
	empty := false
	if ok && !w.push.Drop { // made by an attempt that could not note it, or somebody else's
		raw, err := w.t.Do(ctx, target.Slow, db, bson.D{{Key: "count", Value: coll}})
		if err != nil {
			return err
		}
		if empty = target.Whole(raw, "n") == 0; !empty {
			return w.inTheWay(e)
		}
	} else if shown && !w.push.Drop {
		return w.inTheWay(e)
	}
	if !empty {
		for _, x := range []string{name, coll} { // a time series goes with its buckets, and buckets alone may be left over
			if err := w.t.Drop(ctx, db, x); err != nil {
				return err
			}
		}
		if err := w.create(ctx, db, name, e.Options); err != nil {
			return err
		}
	}
	if there, ok, err = w.t.At(ctx, db, coll); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s.%s: %w", db, coll, errGone)
	}
	return w.j.place(ctx, e.Number, placed{NS: e.NS, UUID: bson.Binary{Subtype: 4, Data: there.UUID}, Begun: true})
}

// view makes a view in place of what is there.
func (w *work) view(ctx context.Context, e *dump.Entry) error {
	p := w.j.colls[e.Number]
	if p.Placed {
		return nil
	}
	db, name := oplog.Split(e.NS)
	there, ok, err := w.t.At(ctx, db, name)
	if err != nil {
		return err
	}
	if !ok || !sameView(there, e.Options) {
		if ok && !w.push.Drop {
			return w.inTheWay(e)
		}
		if err := w.j.place(ctx, e.Number, placed{NS: e.NS, View: e.Options}); err != nil {
			return err
		}
		if ok {
			if err := w.t.Drop(ctx, db, name); err != nil {
				return err
			}
		}
		if err := w.create(ctx, db, name, e.Options); err != nil {
			return err
		}
	}
	return w.j.place(ctx, e.Number, placed{NS: e.NS, Placed: true})
}

func sameView(x target.Info, definition bson.Raw) bool {
	have, ok := target.Lookup(x.Raw, "options").DocumentOK()
	if !ok || x.Type != dump.View {
		return false
	}
	for _, key := range []string{"viewOn", "pipeline", "collation"} {
		a, aok := oplog.Lookup(have, key)
		b, bok := oplog.Lookup(definition, key)
		if aok != bok || aok && !a.Equal(b) {
			return false
		}
	}
	return true
}

// Where users and roles wait to be merged, as mongorestore calls it.
const (
	tempUsers = "tempusers"
	tempRoles = "temproles"
)

// users merges users and roles into the target's. Those that the target has and the backup has not stay, and those that both
// have stay as the target has them, so that nobody who works there, this agent least of all, is locked out.
func (w *work) users(ctx context.Context) error {
	wanted := map[int64]bool{}
	need := make([]bool, len(w.push.Objects))
	var mine []*dump.Entry
	merge := bson.D{{Key: "_mergeAuthzCollections", Value: 1}, {Key: "db", Value: ""}, {Key: "drop", Value: false}}
	for i := range w.entries {
		e := &w.entries[i]
		if !e.IsUsers() || !w.push.Users || w.j.colls[e.Number].Placed {
			continue
		}
		mine = append(mine, e)
		if e.Docs == 0 {
			continue
		}
		wanted[e.Number] = true
		for n := e.First; n <= e.Last; n++ {
			need[n] = true
		}
		key, temp := "tempUsersCollection", tempUsers
		if e.NS == dump.Roles {
			key, temp = "tempRolesCollection", tempRoles
		}
		merge = append(merge, bson.E{Key: key, Value: "admin." + temp})
	}
	if len(wanted) > 0 {
		w.begin("merges users and roles", 0, 0)
		if err := w.dropTemporary(ctx); err != nil {
			return err
		}
		for n := range need {
			if !need[n] {
				continue
			}
			err := w.part(ctx, n, func(number int64) bool { return wanted[number] }, func(e *dump.Entry) (string, string) {
				if e.NS == dump.Roles {
					return "admin", tempRoles
				}
				return "admin", tempUsers
			})
			if err != nil {
				return err
			}
			w.f.Done(n)
		}
		if _, err := w.t.Write(ctx, target.Slow, "admin", merge); err != nil {
			return fmt.Errorf("merge users and roles: %w", err)
		}
		if err := w.dropTemporary(ctx); err != nil {
			return err
		}
	}
	for _, e := range mine {
		if err := w.j.place(ctx, e.Number, placed{NS: e.NS, Placed: true}); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) dropTemporary(ctx context.Context) error {
	return errors.Join(w.t.Drop(ctx, "admin", tempUsers), w.t.Drop(ctx, "admin", tempRoles))
}
