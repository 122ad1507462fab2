package apply

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// Unwanted lists the collections and views that the head holds and the filter does not want: they were excluded since. Between two
// operations of one entry it lists none.
func (a *Applier) Unwanted() (namespaces []string) {
	colls, views := a.unwanted()
	for i := range colls {
		namespaces = append(namespaces, colls[i].NS)
	}
	for _, v := range views {
		ns, _ := v.Lookup("_id").StringValueOK()
		namespaces = append(namespaces, ns)
	}
	return namespaces
}

func (a *Applier) unwanted() (colls []schema.Collection, views []bson.Raw) {
	if a.o.Filter == nil || a.state.partial > 0 {
		return nil, nil
	}
	for _, v := range a.state.cat.Views() {
		if ns, ok := v.Lookup("_id").StringValueOK(); ok && !a.o.Filter.Wants(ns) {
			views = append(views, v)
		}
	}
	for _, c := range a.state.cat.Collections() {
		if !a.o.Filter.Wants(c.NS) {
			colls = append(colls, c)
		}
	}
	return colls, views
}

// Narrow drops what Unwanted lists, as if the source had dropped it where the head stands. It can be called again after a crash.
func (a *Applier) Narrow(ctx context.Context) error {
	if a.failed != nil {
		return a.reopen()
	}
	colls, views := a.unwanted()
	for _, v := range views {
		ns, _ := v.Lookup("_id").StringValueOK()
		db, _ := oplog.Split(ns)
		if err := a.synthetic(ctx, true, bson.D{{Key: "op", Value: "d"}, {Key: "ns", Value: db + ".system.views"}, {Key: "o", Value: bson.D{{Key: "_id", Value: ns}}}}); err != nil {
			return fmt.Errorf("drop the excluded view %s: %w", ns, err)
		}
	}
	for i := range colls {
		db, name := oplog.Split(colls[i].NS)
		id := bson.Binary{Subtype: bson.TypeBinaryUUID, Data: colls[i].UUID[:]}
		op := bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: db + ".$cmd"}, {Key: "ui", Value: id}, {Key: "o", Value: bson.D{{Key: "drop", Value: name}}}}
		if err := a.synthetic(ctx, false, op); err != nil {
			return fmt.Errorf("drop the excluded collection %s: %w", colls[i].NS, err)
		}
	}
	return nil
}

// synthetic carries out an operation that no entry holds, where the head stands.
func (a *Applier) synthetic(ctx context.Context, view bool, op bson.D) error {
	raw, err := bson.Marshal(op)
	if err != nil {
		return err
	}
	made, err := oplog.DecodeInner(raw)
	if err != nil {
		return err
	}
	if err := a.step(ctx, &made, view, a.state.position); err != nil {
		a.failed = err
		return err
	}
	return nil
}
