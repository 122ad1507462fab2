package restore

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
)

// export writes the collections of the plan in the layout that mongodump writes and mongorestore reads: DB/COLLECTION.bson, the
// documents one after another, and DB/COLLECTION.metadata.json with options and indexes. Views have only the second.
func (w *work) export(ctx context.Context, client *mongo.Client, a *apply.Applier) error {
	const step = "exports collections"
	if err := w.begin(ctx, w.delivers(), step, 0); err != nil {
		return err
	}
	only, err := w.only()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, dumpFolder)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	collections, views := a.Catalogue()
	var done int64
	for i := range collections {
		c := &collections[i]
		if !wanted(only, c.NS) || schema.IsViews(c.NS) {
			continue
		}
		n, err := w.dump(ctx, client, c, dir, func(n int64) { w.progress(step, done+n, 0) })
		if err != nil {
			return fmt.Errorf("export %s: %w", c.NS, err)
		}
		done += n
	}
	for _, v := range views {
		if err := w.dumpView(only, v, dir); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a namespace is part of an export: what is asked for, or everything but what servers make themselves.
func wanted(only *filter.Filter, ns string) bool {
	db, coll := oplog.Split(ns)
	switch {
	case filter.Internal(ns) || db == "local" || db == "config":
		return false
	case db == "admin":
		return only == nil && (coll == "system.users" || coll == "system.roles" || coll == "system.version" || !strings.HasPrefix(coll, "system."))
	}
	return only.Wants(ns)
}

// path is where a collection goes, with its new name; the folder is made.
func (w *work) path(dir, ns, end string) (string, error) {
	db, coll := oplog.Split(w.renamed(ns))
	if err := os.MkdirAll(filepath.Join(dir, db), 0o700); err != nil {
		return "", err
	}
	return filepath.Join(dir, db, dump.FileName(coll)+end), nil
}

// renamed is a namespace's new name; the buckets of a time-series collection go with it.
func (w *work) renamed(ns string) string {
	db, coll := oplog.Split(ns)
	if inner, ok := strings.CutPrefix(coll, dump.Buckets); ok {
		db, coll = oplog.Split(restoreplan.Renamed(w.plan.Rename, db+"."+inner))
		return db + "." + dump.Buckets + coll
	}
	return restoreplan.Renamed(w.plan.Rename, ns)
}

// dump writes one collection.
func (w *work) dump(ctx context.Context, client *mongo.Client, c *schema.Collection, dir string, progress func(int64)) (n int64, err error) {
	path, err := w.path(dir, c.NS, ".bson")
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // below our own folder, its name escaped
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	err = scan(ctx, client, c.NS, func(doc bson.Raw) error {
		_, err := out.Write(doc)
		n += int64(len(doc))
		progress(n)
		return err
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return n, err
	}
	_, coll := oplog.Split(c.NS)
	if inner, ok := strings.CutPrefix(coll, dump.Buckets); ok {
		options, indexes, err := series(c)
		if err != nil {
			return n, err
		}
		db, _ := oplog.Split(c.NS)
		return n, w.metadata(dir, db+"."+inner, dump.Metadata{Options: options, Indexes: indexes, Type: dump.TimeSeries})
	}
	indexes := append([]bson.Raw{}, c.Indexes...)
	if c.IDIndex != nil {
		indexes = append([]bson.Raw{c.IDIndex}, indexes...)
	}
	return n, w.metadata(dir, c.NS, dump.Metadata{Options: c.Options, Indexes: indexes, UUID: hex.EncodeToString(c.UUID[:]), Type: dump.Collection})
}

// scan reads every document of a collection of the head in the order of insertion. A document is valid until the next.
func scan(ctx context.Context, client *mongo.Client, ns string, each func(doc bson.Raw) error) error {
	db, coll := oplog.Split(ns)
	cur, err := client.Database(db).Collection(coll).Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}).SetBatchSize(10_000))
	if err != nil {
		return err
	}
	defer func() { _ = cur.Close(context.WithoutCancel(ctx)) }()
	for cur.Next(ctx) {
		if err := each(cur.Current); err != nil {
			return err
		}
	}
	return cur.Err()
}

// series are the options and indexes of the time-series collection that a collection holds the buckets of.
func series(c *schema.Collection) (options bson.Raw, indexes []bson.Raw, err error) {
	if options, err = dump.SeriesOptions(c.Options); err != nil {
		return nil, nil, err
	}
	for _, x := range c.Indexes {
		spec, ok, err := dump.SeriesIndex(c.Options, x)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			indexes = append(indexes, spec)
		}
	}
	return options, indexes, nil
}

// view reads a document of system.views. Those of time-series collections have their type; they are written with their buckets.
func view(doc bson.Raw) (ns string, m dump.Metadata, err error) {
	m.Type = dump.View
	var fields bson.D
	elements, err := doc.Elements()
	if err != nil {
		return "", m, fmt.Errorf("read a view: %w", err)
	}
	for _, e := range elements {
		switch e.Key() {
		case "_id":
			ns, _ = e.Value().StringValueOK()
			continue
		case "timeseries":
			m.Type = dump.TimeSeries
		case "viewOn":
			if on, _ := e.Value().StringValueOK(); strings.HasPrefix(on, dump.Buckets) {
				m.Type = dump.TimeSeries
			}
		}
		fields = append(fields, bson.E{Key: e.Key(), Value: e.Value()})
	}
	if m.Options, err = bson.Marshal(fields); err != nil {
		return "", m, fmt.Errorf("read the view %s: %w", ns, err)
	}
	return ns, m, nil
}

// dumpView writes a view.
func (w *work) dumpView(only *filter.Filter, v bson.Raw, dir string) error {
	ns, m, err := view(v)
	if err != nil {
		return err
	}
	if m.Type != dump.View || !wanted(only, ns) {
		return nil
	}
	return w.metadata(dir, ns, m)
}

// metadata writes what belongs to a collection beside it, under its new name.
func (w *work) metadata(dir, ns string, m dump.Metadata) error {
	_, m.Name = oplog.Split(w.renamed(ns))
	text, err := m.JSON()
	if err != nil {
		return err
	}
	path, err := w.path(dir, ns, ".metadata.json")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
