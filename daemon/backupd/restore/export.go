package restore

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // how mongodump shortens names, nothing secret
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
)

// export writes the collections of the plan in the layout that mongodump writes and mongorestore reads: DB/COLLECTION.bson, the
// documents one after another, and DB/COLLECTION.metadata.json with options and indexes. Views have only the second.
func (w *work) export(ctx context.Context, client *mongo.Client, a *apply.Applier) error {
	const step = "exports collections"
	if err := w.begin(ctx, step, 0); err != nil {
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
	return filepath.Join(dir, db, escape(coll)+end), nil
}

// renamed is a namespace's new name; the buckets of a time-series collection go with it.
func (w *work) renamed(ns string) string {
	db, coll := oplog.Split(ns)
	if inner, ok := strings.CutPrefix(coll, buckets); ok {
		db, coll = oplog.Split(restoreplan.Renamed(w.plan.Rename, db+"."+inner))
		return db + "." + buckets + coll
	}
	return restoreplan.Renamed(w.plan.Rename, ns)
}

const buckets = "system.buckets."

// Limits of the names of files, as mongodump has them.
const (
	longName = 238
	cutName  = 208
)

// escape is a collection's name as a file's, as mongodump writes it.
func escape(coll string) string {
	name := url.PathEscape(coll)
	if len(name) > longName {
		sum := sha1.Sum([]byte(coll)) //nolint:gosec // see the import
		name = name[:cutName] + "%24" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return name
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
	db, coll := oplog.Split(c.NS)
	cur, err := client.Database(db).Collection(coll).Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}).SetBatchSize(10_000))
	if err != nil {
		return 0, err
	}
	defer func() { _ = cur.Close(context.WithoutCancel(ctx)) }()
	for cur.Next(ctx) {
		if _, err := out.Write(cur.Current); err != nil {
			return n, err
		}
		n += int64(len(cur.Current))
		progress(n)
	}
	if err := errors.Join(cur.Err(), out.Flush()); err != nil {
		return n, err
	}
	kind := "collection"
	if strings.HasPrefix(coll, buckets) {
		return n, nil // what belongs to it is written with its view
	}
	indexes := append([]bson.Raw{}, c.Indexes...)
	if c.IDIndex != nil {
		indexes = append([]bson.Raw{c.IDIndex}, indexes...)
	}
	return n, w.metadata(dir, c.NS, metadata{Options: c.Options, Indexes: indexes, UUID: hex.EncodeToString(c.UUID[:]), Type: kind})
}

// dumpView writes a view, or a time-series collection's part that is one.
func (w *work) dumpView(only *filter.Filter, v bson.Raw, dir string) error {
	ns, ok := v.Lookup("_id").StringValueOK()
	if !ok || !wanted(only, ns) {
		return nil
	}
	m := metadata{Type: "view", Indexes: []bson.Raw{}}
	fields := bson.D{}
	elements, err := v.Elements()
	if err != nil {
		return fmt.Errorf("export view %s: %w", ns, err)
	}
	for _, e := range elements {
		switch {
		case e.Key() == "_id":
		case e.Key() == "timeseries":
			m.Type = "timeseries"
			fields = bson.D{{Key: "timeseries", Value: e.Value()}}
		case m.Type == "view":
			fields = append(fields, bson.E{Key: e.Key(), Value: e.Value()})
		}
	}
	if m.Options, err = bson.Marshal(fields); err != nil {
		return err
	}
	return w.metadata(dir, ns, m)
}

// metadata is what mongodump writes beside a collection, as extended JSON.
type metadata struct {
	Options bson.Raw   `bson:"options"`
	Indexes []bson.Raw `bson:"indexes"`
	UUID    string     `bson:"uuid"` // hexadecimal, without hyphens; "" for views
	Name    string     `bson:"collectionName"`
	Type    string     `bson:"type"` // collection, view or timeseries
}

func (w *work) metadata(dir, ns string, m metadata) error {
	_, m.Name = oplog.Split(w.renamed(ns))
	if m.Options == nil {
		m.Options, _ = bson.Marshal(bson.D{})
	}
	text, err := bson.MarshalExtJSON(m, true, false)
	if err != nil {
		return err
	}
	path, err := w.path(dir, ns, ".metadata.json")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
