package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// Version is where a server keeps its feature compatibility version. A head has its own from its first start on, under a
// UUID of its own; it cannot be replaced under a running server, so it is kept and written into.
const Version = "admin.system.version"

// VersionDocument is the document of the head's feature compatibility version.
func (w *Writer) VersionDocument(ctx context.Context) (bson.Raw, error) {
	db, coll := oplog.Split(Version)
	doc, err := w.client.Database(db).Collection(coll).FindOne(ctx, bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}}).Raw()
	if err != nil {
		return nil, fmt.Errorf("read the head's feature compatibility version: %w", err)
	}
	return doc, nil
}

// SetVersion sets the head's feature compatibility version. A mongod that does not know it refuses (Code is not 0 then).
func (w *Writer) SetVersion(ctx context.Context, to string) error {
	cmd := bson.D{{Key: "setFeatureCompatibilityVersion", Value: to}}
	_, err := w.do(ctx, "admin", append(slices.Clip(cmd), bson.E{Key: "confirm", Value: true}))
	if Code(err) == codeUnknownField { // a mongod before 7.0 needs no confirmation
		_, err = w.do(ctx, "admin", cmd)
	}
	if err != nil {
		return fmt.Errorf("set the head's feature compatibility version to %s: %w", to, err)
	}
	return nil
}

// Step carries out a step of a catalogue. In the fuzzy window, what is about secondary indexes and views is left for later: names of
// later collections and views may be taken there, and only the catalogue knows what they end as. Doing a step twice is the same as doing
// it once.
func (w *Writer) Step(ctx context.Context, s schema.Step, window bool) error {
	indexes := !window
	var err error
	switch s.Do {
	case schema.CreateCollection:
		err = w.Create(ctx, s.Collection)
	case schema.DropCollection:
		err = w.drop(ctx, s.Collection)
	case schema.RenameCollection:
		err = w.rename(ctx, s)
	case schema.ModifyCollection:
		err = w.modify(ctx, s, indexes)
	case schema.BuildIndexes:
		if indexes {
			some := schema.Collection{NS: s.Collection.NS, Options: s.Collection.Options, Indexes: s.Indexes}
			err = w.BuildIndexes(ctx, some.NS, some.BuildSpecs())
		}
	case schema.DropIndexes:
		if indexes {
			err = w.dropIndexes(ctx, s.Collection.NS, s.Names)
		}
	case schema.EmptyCollection:
		// A capped collection is emptied by making it anew: the command for it is one of servers under test.
		if err = w.drop(ctx, s.Collection); err != nil {
			break
		}
		if err = w.Create(ctx, s.Collection); err == nil && indexes {
			err = w.BuildIndexes(ctx, s.Collection.NS, s.Collection.BuildSpecs())
		}
	case schema.CreateView:
		if !window {
			err = w.View(ctx, s.View)
		}
	case schema.ModifyView:
		if !window {
			err = w.modifyView(ctx, s.View)
		}
	case schema.DropView:
		if !window {
			err = w.dropView(ctx, s.View)
		}
	default:
		err = fmt.Errorf("step %d is unknown", s.Do)
	}
	if err != nil {
		return fmt.Errorf("%s on the head: %w", s.Do, err)
	}
	return nil
}

// lookup gives the UUID of the collection with a name, zero for a view or one without.
func (w *Writer) lookup(ctx context.Context, ns string) (id oplog.UUID, found bool, err error) {
	db, coll := oplog.Split(ns)
	reply, err := w.do(ctx, db, bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: coll}}}})
	if err != nil {
		return id, false, fmt.Errorf("look for %s: %w", ns, err)
	}
	v, err := reply.LookupErr("cursor", "firstBatch", "0")
	if err != nil {
		return id, false, nil //nolint:nilerr // none
	}
	doc, ok := v.DocumentOK()
	if !ok {
		return id, false, nil
	}
	if _, data, ok := doc.Lookup("info", "uuid").BinaryOK(); ok {
		copy(id[:], data)
	}
	return id, true, nil
}

func uuid(id oplog.UUID) bson.Binary { return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: id[:]} }

// own reports whether a server makes the collection by itself, under a UUID of its own.
func own(ns string) bool { return ns == Version || schema.IsViews(ns) }

// Create makes a collection with its UUID, and without secondary indexes.
func (w *Writer) Create(ctx context.Context, c schema.Collection) error {
	have, found, err := w.lookup(ctx, c.NS)
	switch {
	case err != nil:
		return err
	case found && (have == c.UUID || own(c.NS)):
		return nil
	case found:
		return fmt.Errorf("%w: %s has UUID %s and should have %s", plan.ErrCorruption, c.NS, have, c.UUID)
	}
	db, coll := oplog.Split(c.NS)
	o := bson.D{{Key: "create", Value: coll}}
	if c.Options != nil {
		err := oplog.Elements(c.Options, func(key []byte, v bsoncore.Value) error {
			if string(key) != "temp" { // a server that starts alone drops temporary collections
				o = append(o, bson.E{Key: string(key), Value: bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("options of %s: %w", c.NS, err)
		}
	}
	if c.IDIndex != nil {
		o = append(o, bson.E{Key: "idIndex", Value: c.IDIndex})
	}
	err = w.applyOps(ctx, bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: db + ".$cmd"}, {Key: "ui", Value: uuid(c.UUID)}, {Key: "o", Value: o}})
	if err != nil && schema.IsViews(c.NS) {
		return nil // it comes with the first view
	}
	if err != nil {
		return fmt.Errorf("create %s with UUID %s: %w", c.NS, c.UUID, err)
	}
	return nil
}

func (w *Writer) drop(ctx context.Context, c schema.Collection) error {
	have, found, err := w.lookup(ctx, c.NS)
	switch {
	case err != nil:
		return err
	case !found || have != c.UUID && !own(c.NS):
		return nil // another one has the name already
	case c.NS == Version:
		return fmt.Errorf("%w: %s is dropped", oplog.ErrNewSnapshot, c.NS)
	}
	db, coll := oplog.Split(c.NS)
	_, err = w.do(ctx, db, bson.D{{Key: "drop", Value: coll}})
	if Code(err) == codeIllegalOperation || Code(err) == codeInvalidNamespace { // a system collection
		err = w.applyOps(ctx, bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: db + ".$cmd"}, {Key: "ui", Value: uuid(have)}, {Key: "o", Value: bson.D{{Key: "drop", Value: coll}}}})
	}
	if err != nil && Code(err) != codeNamespaceNotFound {
		return fmt.Errorf("drop %s: %w", c.NS, err)
	}
	return nil
}

func (w *Writer) rename(ctx context.Context, s schema.Step) error {
	to := s.Collection.NS
	have, found, err := w.lookup(ctx, to)
	switch {
	case err != nil:
		return err
	case found && have == s.Collection.UUID:
		return nil
	case found:
		return fmt.Errorf("%w: %s cannot become %s, which is %s", plan.ErrCorruption, s.From, to, have)
	}
	switch have, found, err = w.lookup(ctx, s.From); {
	case err != nil:
		return err
	case !found || have != s.Collection.UUID:
		return fmt.Errorf("%w: %s with UUID %s is not there to become %s", plan.ErrCorruption, s.From, s.Collection.UUID, to)
	}
	_, err = w.do(ctx, "admin", bson.D{{Key: "renameCollection", Value: s.From}, {Key: "to", Value: to}})
	if Code(err) == codeIllegalOperation || Code(err) == codeInvalidNamespace {
		db, _ := oplog.Split(s.From)
		err = w.applyOps(ctx, bson.D{
			{Key: "op", Value: "c"},
			{Key: "ns", Value: db + ".$cmd"},
			{Key: "ui", Value: uuid(s.Collection.UUID)},
			{Key: "o", Value: bson.D{{Key: "renameCollection", Value: s.From}, {Key: "to", Value: to}, {Key: "stayTemp", Value: false}, {Key: "dropTarget", Value: false}}},
		})
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", s.From, to, err)
	}
	return nil
}

// modify sends a collMod. Servers replicate fields that they refuse from clients: those go as an operation.
func (w *Writer) modify(ctx context.Context, s schema.Step, indexes bool) error {
	db, coll := oplog.Split(s.Collection.NS)
	cmd := bson.D{{Key: "collMod", Value: coll}}
	err := oplog.Elements(s.Command, func(key []byte, v bsoncore.Value) error {
		if name := string(key); name != "collMod" && (name != "index" || indexes) {
			cmd = append(cmd, bson.E{Key: name, Value: bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}})
		}
		return nil
	})
	if err != nil || len(cmd) == 1 {
		return err
	}
	_, err = w.do(ctx, db, cmd)
	switch Code(err) {
	case codeInvalidOptions, codeUnknownField, codeInvalidNamespace, codeIllegalOperation:
		second := w.applyOps(ctx, bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: db + ".$cmd"}, {Key: "ui", Value: uuid(s.Collection.UUID)}, {Key: "o", Value: cmd}})
		if second != nil {
			err = errors.Join(err, second)
		} else {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("collMod of %s: %w", s.Collection.NS, err)
	}
	return nil
}

// BuildIndexes makes indexes in one pass over the collection; those that are there are left alone.
func (w *Writer) BuildIndexes(ctx context.Context, ns string, specs []bson.Raw) error {
	db, coll := oplog.Split(ns)
	var list bson.A
	for _, spec := range specs {
		var one []byte
		clustered := false
		err := oplog.Elements(spec, func(key []byte, v bsoncore.Value) error {
			switch string(key) {
			case "ns": // servers before 4.4 wrote it
			case "clustered":
				clustered = true // listed among the indexes, and made with the collection
			default:
				one = bsoncore.AppendValueElement(one, string(key), v)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("index of %s: %w", ns, err)
		}
		if !clustered {
			list = append(list, bson.Raw(bsoncore.BuildDocument(nil, one)))
		}
	}
	if len(list) == 0 {
		return nil
	}
	cmd := bson.D{{Key: "createIndexes", Value: coll}, {Key: "indexes", Value: list}}
	_, err := w.do(ctx, db, cmd)
	if Code(err) == codeInvalidIndexSpec { // options of old versions that were never looked at
		_, err = w.do(ctx, db, append(slices.Clip(cmd), bson.E{Key: "ignoreUnknownIndexOptions", Value: true}))
	}
	if err != nil {
		return fmt.Errorf("build %d indexes of %s: %w", len(list), ns, err)
	}
	return nil
}

func (w *Writer) dropIndexes(ctx context.Context, ns string, names []string) error {
	db, coll := oplog.Split(ns)
	for _, name := range names {
		_, err := w.do(ctx, db, bson.D{{Key: "dropIndexes", Value: coll}, {Key: "index", Value: name}})
		if err != nil && Code(err) != codeIndexNotFound {
			return fmt.Errorf("drop index %s of %s: %w", name, ns, err)
		}
	}
	return nil
}

// viewOf splits a document of system.views into the view's namespace and what makes it.
func viewOf(doc bson.Raw) (ns string, options bson.D, err error) {
	err = oplog.Elements(doc, func(key []byte, v bsoncore.Value) error {
		if string(key) == "_id" {
			ns, _ = v.StringValueOK()
			return nil
		}
		options = append(options, bson.E{Key: string(key), Value: bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}})
		return nil
	})
	if err == nil && ns == "" {
		err = fmt.Errorf("%w: view without a name", oplog.ErrCorrupt)
	}
	return ns, options, err
}

// View makes a view from its document of system.views.
func (w *Writer) View(ctx context.Context, doc bson.Raw) error {
	ns, options, err := viewOf(doc)
	if err != nil {
		return err
	}
	db, name := oplog.Split(ns)
	_, err = w.do(ctx, db, append(bson.D{{Key: "create", Value: name}}, options...))
	switch {
	case err == nil:
		return nil
	case Code(err) == codeNamespaceExists:
		return w.modifyView(ctx, doc)
	}
	if on, _ := doc.Lookup("viewOn").StringValueOK(); ofSeries(doc) {
		// The view of a time-series collection: a server makes it by itself over buckets that are there.
		if second := w.timeseries(ctx, db, name, on); second != nil {
			return fmt.Errorf("create view %s: %w", ns, errors.Join(err, second))
		}
		return nil
	}
	return fmt.Errorf("create view %s: %w", ns, err)
}

func (w *Writer) timeseries(ctx context.Context, db, name, buckets string) error {
	reply, err := w.do(ctx, db, bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: buckets}}}})
	if err != nil {
		return err
	}
	options, ok := reply.Lookup("cursor", "firstBatch", "0", "options").DocumentOK()
	if !ok {
		return fmt.Errorf("%s.%s is not there", db, buckets)
	}
	cmd := bson.D{{Key: "create", Value: name}}
	for _, key := range []string{"timeseries", "expireAfterSeconds", "collation", "storageEngine", "indexOptionDefaults"} {
		if v, err := options.LookupErr(key); err == nil {
			cmd = append(cmd, bson.E{Key: key, Value: v})
		}
	}
	_, err = w.do(ctx, db, cmd)
	return err
}

// ofSeries reports whether a view shows a time series, and where its buckets are.
func ofSeries(doc bson.Raw) bool {
	on, _ := doc.Lookup("viewOn").StringValueOK()
	return strings.HasPrefix(on, "system.buckets.")
}

// modifyView gives a view another definition. A collation cannot be changed: then it is made anew.
func (w *Writer) modifyView(ctx context.Context, doc bson.Raw) error {
	ns, options, err := viewOf(doc)
	if err != nil {
		return err
	}
	db, name := oplog.Split(ns)
	if ofSeries(doc) { // collMod is about the buckets there; an operation in the oplog's own form replaces the document
		op := bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: db + ".system.views"}, {Key: "o", Value: doc}}
		if err := w.applyOps(ctx, op); err != nil {
			return fmt.Errorf("change the view of the time series %s: %w", ns, err)
		}
		return nil
	}
	cmd := bson.D{{Key: "collMod", Value: name}}
	collation := false
	for _, e := range options {
		collation = collation || e.Key == "collation"
		if e.Key == "viewOn" || e.Key == "pipeline" {
			cmd = append(cmd, e)
		}
	}
	if !collation {
		if _, err = w.do(ctx, db, cmd); err == nil {
			return nil
		}
	}
	if err := w.dropView(ctx, doc); err != nil {
		return err
	}
	if _, err := w.do(ctx, db, append(bson.D{{Key: "create", Value: name}}, options...)); err != nil {
		return fmt.Errorf("make view %s anew: %w", ns, err)
	}
	return nil
}

func (w *Writer) dropView(ctx context.Context, doc bson.Raw) error {
	ns, _, err := viewOf(doc)
	if err != nil {
		return err
	}
	id, found, err := w.lookup(ctx, ns)
	if err != nil || !found {
		return err
	}
	if !id.IsZero() {
		return fmt.Errorf("%w: view %s is a collection", plan.ErrCorruption, ns)
	}
	db, name := oplog.Split(ns)
	if ofSeries(doc) { // drop would take the buckets too: an operation takes the document alone
		err = w.applyOps(ctx, bson.D{{Key: "op", Value: "d"}, {Key: "ns", Value: db + ".system.views"}, {Key: "o", Value: bson.D{{Key: "_id", Value: ns}}}})
	} else {
		_, err = w.do(ctx, db, bson.D{{Key: "drop", Value: name}})
	}
	if err != nil && Code(err) != codeNamespaceNotFound {
		return fmt.Errorf("drop view %s: %w", ns, err)
	}
	return nil
}
