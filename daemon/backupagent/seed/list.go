package seed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// settleLimit is how long a listing may take to be the majority's.
const settleLimit = 2 * time.Minute

// errAgain says that a listing may show what was rolled back.
var errAgain = errors.New("the source was rolled back meanwhile")

// list gives every collection and view that the filter wants. Listings are not read from a majority's snapshot, so it waits
// until the majority has what the source had, and lists again when a rollback came in between.
func list(ctx context.Context, m *source.Member, f *filter.Filter) ([]wire.CollectionInfo, error) {
	for range 5 {
		out, err := listOnce(ctx, m, f)
		if errors.Is(err, errAgain) {
			continue
		}
		return out, err
	}
	return nil, fmt.Errorf("list the collections of %s: %w", m.Address, errAgain)
}

func listOnce(ctx context.Context, m *source.Member, f *filter.Filter) ([]wire.CollectionInfo, error) {
	before, err := m.RollbackID(ctx)
	if err != nil {
		return nil, err
	}
	dbs, err := m.Run(ctx, "admin", bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
	if err != nil {
		return nil, err
	}
	var out []wire.CollectionInfo
	names, ok := bsoncore.Document(dbs).Lookup("databases").ArrayOK()
	if !ok {
		return nil, fmt.Errorf("%s lists no databases", m.Address)
	}
	values, err := names.Values()
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		d, _ := v.DocumentOK()
		name, _ := d.Lookup("name").StringValueOK()
		if !f.WantsDatabase(name) {
			continue
		}
		list, err := database(ctx, m, name, f)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	if err := settled(ctx, m, before); err != nil {
		return nil, err
	}
	return out, nil
}

// settled waits until everything the member had when it was asked is majority-committed, and fails with errAgain after a rollback.
func settled(ctx context.Context, m *source.Member, rollbacks int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, fmt.Errorf("%s does not hear of a majority", m.Address))
	defer cancel()
	h, err := m.Hello(ctx)
	if err != nil {
		return err
	}
	for want := h.Last; h.Majority.Before(want); {
		if !call.Pause(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
		if h, err = m.Hello(ctx); err != nil {
			return err
		}
	}
	after, err := m.RollbackID(ctx)
	if err == nil && after != rollbacks {
		err = errAgain
	}
	return err
}

// database lists one database: its collections with their indexes, and the documents of its views.
func database(ctx context.Context, m *source.Member, db string, f *filter.Filter) ([]wire.CollectionInfo, error) {
	c, err := m.Open(ctx, source.Find{DB: db, Command: bson.D{{Key: "listCollections", Value: 1}}})
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	var out, views []wire.CollectionInfo
	for {
		b, err := c.Next(ctx, 0)
		if errors.Is(err, source.ErrEnd) {
			break
		}
		if err != nil {
			return nil, err
		}
		err = b.Each(func(doc bson.Raw) error {
			name, _ := bsoncore.Document(doc).Lookup("name").StringValueOK()
			if !wanted(db+"."+name, f) {
				return nil
			}
			info, err := describe(db, name, doc)
			switch {
			case err != nil:
				return err
			case info.View != nil:
				views = append(views, info)
			default:
				out = append(out, info)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	kept := out[:0]
	for _, info := range out {
		there, err := indexes(ctx, m, &info)
		if err != nil {
			return nil, err
		}
		if there {
			kept = append(kept, info)
		}
	}
	return append(kept, views...), nil
}

// wanted leaves out what is no replicated data.
func wanted(ns string, f *filter.Filter) bool {
	_, coll := oplog.Split(ns)
	return f.Wants(ns) && coll != "system.profile"
}

// describe reads one answer of listCollections.
func describe(db, name string, doc bson.Raw) (info wire.CollectionInfo, err error) {
	d := bsoncore.Document(doc)
	info.NS = db + "." + name
	kind, _ := d.Lookup("type").StringValueOK()
	id, err := d.LookupErr("info", "uuid")
	switch {
	case err != nil: // a view, or a time series, which is a view of buckets that are listed by themselves
		info.Done = true
		info.View, err = viewDoc(info.NS, d.Lookup("options"))
		return info, err
	case kind == "timeseries":
		return info, opererr.New("read "+info.NS, errors.New("this server keeps the time series without a collection of buckets, which cannot be backed up yet"),
			"exclude "+info.NS+" from the backup, or lower the feature compatibility version to one that keeps buckets in system.buckets")
	}
	subtype, uuid, isBinary := id.BinaryOK()
	if !isBinary || subtype != 4 || copy(info.UUID[:], uuid) != len(info.UUID) {
		return info, fmt.Errorf("%s: a UUID of %d bytes", info.NS, len(uuid))
	}
	// Servers refuse writes to system.views, so that a head makes views by commands: there is nothing to read of it.
	info.Done = schema.IsViews(info.NS)
	if o, ok := d.Lookup("options").DocumentOK(); ok && len(o) > 5 {
		// Some servers repeat the UUID among the options.
		b := bsoncore.NewDocumentBuilder()
		elements, err := o.Elements()
		if err != nil {
			return info, err
		}
		for _, e := range elements {
			if e.Key() != "uuid" {
				b.AppendValue(e.Key(), e.Value())
			}
		}
		if built := b.Build(); len(built) > 5 {
			info.Options = bson.Raw(built)
		}
	}
	if x, ok := d.Lookup("idIndex").DocumentOK(); ok && len(x) > 5 {
		info.IDIndex = bson.Raw(x)
	}
	return info, nil
}

// viewDoc makes a view's document of system.views from what listCollections shows of it: no built-in role but root's may read
// that collection.
func viewDoc(ns string, options bsoncore.Value) (bson.Raw, error) {
	o, ok := options.DocumentOK()
	if !ok {
		return nil, fmt.Errorf("%s is listed without options", ns)
	}
	b := bsoncore.NewDocumentBuilder().AppendString("_id", ns)
	if series, ok := o.Lookup("timeseries").DocumentOK(); ok {
		_, coll := oplog.Split(ns)
		stage := bsoncore.NewDocumentBuilder()
		for _, k := range []string{"timeField", "metaField", "bucketMaxSpanSeconds"} { // in a server's order
			if v, err := series.LookupErr(k); err == nil {
				stage.AppendValue(k, v)
			}
		}
		unpack := bsoncore.NewDocumentBuilder().AppendDocument("$_internalUnpackBucket", stage.Build()).Build()
		b.AppendString("viewOn", "system.buckets."+coll).AppendArray("pipeline", bsoncore.NewArrayBuilder().AppendDocument(unpack).Build())
	} else {
		for _, k := range []string{"viewOn", "pipeline"} {
			v, err := o.LookupErr(k)
			if err != nil {
				return nil, fmt.Errorf("%s is listed as no collection, and as a view without %s", ns, k)
			}
			b.AppendValue(k, v)
		}
	}
	if v, err := o.LookupErr("collation"); err == nil {
		b.AppendValue("collation", v)
	}
	return bson.Raw(b.Build()), nil
}

// indexes fills in the indexes that are ready. One in the making comes with the oplog. It says false when the collection is
// gone or is called otherwise by now: then the oplog says so.
func indexes(ctx context.Context, m *source.Member, info *wire.CollectionInfo) (there bool, err error) {
	db, _ := oplog.Split(info.NS)
	byID := bson.Binary{Subtype: 4, Data: info.UUID[:]}
	c, err := m.Open(ctx, source.Find{DB: db, Command: bson.D{{Key: "listIndexes", Value: byID}, {Key: "includeBuildUUIDs", Value: true}}})
	if source.Unknown(err) { // before 4.4, or the simulator's answer to what it has not
		_, coll := oplog.Split(info.NS)
		c, err = m.Open(ctx, source.Find{DB: db, Command: bson.D{{Key: "listIndexes", Value: coll}}})
	}
	if source.Gone(err) {
		return true, nil // reading it will tell
	}
	if err != nil {
		return false, err
	}
	defer c.Close(ctx)
	for {
		b, err := c.Next(ctx, 0)
		if errors.Is(err, source.ErrEnd) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		err = b.Each(func(doc bson.Raw) error {
			d := bsoncore.Document(doc)
			if inner, ok := d.Lookup("spec").DocumentOK(); ok {
				if _, err := d.LookupErr("buildUUID"); err == nil {
					return nil
				}
				d = inner
			}
			if clustered, _ := d.Lookup("clustered").BooleanOK(); clustered {
				return nil // part of the options
			}
			if name, _ := d.Lookup("name").StringValueOK(); name == "_id_" {
				if info.IDIndex == nil {
					info.IDIndex = bson.Raw(d)
				}
				return nil
			}
			info.Indexes = append(info.Indexes, bson.Raw(d))
			return nil
		})
		if err != nil {
			return false, err
		}
	}
}

// size asks how much there is to read of a collection; it says false when that is not known. Nothing depends on it but progress,
// the order of reading, and whether it is worth while to be able to go on.
func size(ctx context.Context, m *source.Member, ns string) (docs, bytes int64, known bool) {
	db, coll := oplog.Split(ns)
	raw, err := m.Run(ctx, db, bson.D{{Key: "collStats", Value: coll}})
	if err != nil {
		return 0, 0, false
	}
	n, _ := bsoncore.Document(raw).Lookup("count").AsInt64OK()
	s, ok := bsoncore.Document(raw).Lookup("size").AsInt64OK()
	if !ok {
		f, _ := bsoncore.Document(raw).Lookup("size").DoubleOK()
		s = int64(f)
	}
	return n, s, true
}
