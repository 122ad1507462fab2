package oplog

import (
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// Name is a command as entries spell it; old spellings of one command are read as the present one.
type Name string

// The commands of an oplog.
const (
	Create            Name = "create"
	Drop              Name = "drop"
	DropDatabase      Name = "dropDatabase"
	Rename            Name = "renameCollection"
	CreateIndexes     Name = "createIndexes"
	CommitIndexBuild  Name = "commitIndexBuild"
	DropIndexes       Name = "dropIndexes"
	CollMod           Name = "collMod"
	EmptyCapped       Name = "emptycapped"
	ApplyOps          Name = "applyOps"
	CommitTransaction Name = "commitTransaction"
	AbortTransaction  Name = "abortTransaction"
	// Ignored stands for commands that change nothing a backup keeps; Cmd.Spelling says which it was.
	Ignored Name = "ignored"
)

// maxDepth is how deep applyOps may lie in applyOps: servers allow ten.
const maxDepth = 10

// Cmd is what a command entry says.
type Cmd struct {
	Name     Name
	Spelling string // the first field of o
	// Target is the namespace it is about ("db.coll"), only a database's name for dropDatabase, "" for those of transactions.
	Target string
	// Options are the fields after the first of create, collMod and emptycapped.
	Options bson.Raw

	To             string // of a rename
	DropTarget     bool   // a living target made room
	DropTargetUUID UUID   // which; zero where the entry does not say
	StayTemp       bool

	Indexes []bson.Raw // specifications of createIndexes and commitIndexBuild
	Index   string     // dropIndexes: the name, "*" for all but _id's

	Ops             []Op  // of applyOps, nested ones unrolled, no-ops left out
	Length          int64 // of the array as it was: what count counts
	Partial         bool  // more entries of this transaction follow
	Prepare         bool  // commits or aborts by a later entry
	Count           int64
	CommitTimestamp bson.Timestamp
}

// ignored commands leave no trace in what a backup keeps: index builds count at their commit.
var ignored = map[string]bool{"startIndexBuild": true, "abortIndexBuild": true, "dbCheck": true, "setMultikeyMetadata": true, "dropIdent": true}

// endings are commands after which no replay is right, with the reason for people.
var endings = map[string]string{
	"importCollection":                     "files were imported into the source",
	"convertToCapped":                      "a collection was converted in place",
	"upgradeDowngradeViewlessTimeseries":   "time-series collections changed their form with the feature compatibility version",
	"modifyCollectionShardingIndexCatalog": "the catalogue of sharded indexes changed",
	"createDatabaseMetadata":               "the metadata of a sharded database changed",
	"dropDatabaseMetadata":                 "the metadata of a sharded database changed",
}

func decodeCommand(o *Op, depth int) (*Cmd, error) {
	db, _ := Split(o.NS)
	c := &Cmd{}
	var first bsoncore.Value
	rest := []byte(nil)
	index := false
	err := Elements(o.O, func(key []byte, v bsoncore.Value) error {
		if c.Spelling == "" {
			c.Spelling, first = string(key), v
			return c.name()
		}
		switch c.Name {
		case Create, CollMod, EmptyCapped, DropDatabase, Ignored:
			rest = bsoncore.AppendValueElement(rest, string(key), v)
			return nil
		case CreateIndexes:
			rest = bsoncore.AppendValueElement(rest, string(key), v)
			index = true
			return nil
		}
		return c.argument(string(key), v)
	})
	if err != nil {
		return nil, err
	}
	if c.Spelling == "" {
		return nil, fmt.Errorf("%w: command on %s without a name", ErrCorrupt, o.NS)
	}
	switch {
	case index:
		err = c.flattened(bsoncore.BuildDocument(nil, rest))
	case rest != nil:
		c.Options = bson.Raw(bsoncore.BuildDocument(nil, rest))
	}
	if err != nil {
		return nil, err
	}
	return c, c.complete(o, db, first, depth)
}

// name says which command the first field is.
func (c *Cmd) name() error {
	switch n := Name(c.Spelling); n {
	case Create, Drop, DropDatabase, Rename, CreateIndexes, CommitIndexBuild, DropIndexes, CollMod, EmptyCapped, ApplyOps, CommitTransaction, AbortTransaction:
		c.Name = n
		return nil
	case "deleteIndex", "deleteIndexes", "dropIndex":
		c.Name = DropIndexes
		return nil
	}
	if ignored[c.Spelling] {
		c.Name = Ignored
		return nil
	}
	if why := endings[c.Spelling]; why != "" {
		return fmt.Errorf("command %s: %s: %w", c.Spelling, why, ErrNewSnapshot)
	}
	return fmt.Errorf("command %q is %w", c.Spelling, ErrUnknown)
}

// argument reads a further field of a command whose fields are all known.
func (c *Cmd) argument(key string, v bsoncore.Value) error {
	ok := true
	switch {
	case c.Name == Rename && key == "to":
		c.To, ok = v.StringValueOK()
	case c.Name == Rename && key == "stayTemp":
		c.StayTemp, ok = v.BooleanOK()
	case c.Name == Rename && key == "dropTarget":
		if u, is := uuidOf(v); is {
			c.DropTarget, c.DropTargetUUID = true, u
			break
		}
		c.DropTarget, ok = v.BooleanOK()
	case c.Name == DropIndexes && key == "index":
		c.Index, ok = v.StringValueOK()
	case c.Name == CommitIndexBuild && key == "indexes":
		return c.specs(v)
	case c.Name == ApplyOps && key == "partialTxn":
		c.Partial = truth(v)
	case c.Name == ApplyOps && key == "prepare":
		c.Prepare = truth(v)
	case c.Name == ApplyOps && key == "count":
		c.Count, ok = integer(v)
	case c.Name == CommitTransaction && key == "commitTimestamp":
		c.CommitTimestamp.T, c.CommitTimestamp.I, ok = v.TimestampOK()
	case c.Name == Drop, c.Name == DropIndexes, c.Name == CommitIndexBuild, c.Name == CommitTransaction, c.Name == AbortTransaction:
		// Says how, not what: indexBuildUUID, writeConcern, key of a dropped index.
	case c.Name == ApplyOps && passedOn[key]:
	default:
		return fmt.Errorf("field %q of %s is %w", key, c.Spelling, ErrUnknown)
	}
	if !ok {
		return fmt.Errorf("%w: field %q of %s is a %s", ErrCorrupt, key, c.Spelling, v.Type)
	}
	return nil
}

// passedOn are fields that a user's applyOps command leaves in its entry; they say how it was sent.
var passedOn = map[string]bool{
	"$db": true, "lsid": true, "$clusterTime": true, "alwaysUpsert": true, "allowAtomic": true, "bypassDocumentValidation": true, "oplogApplicationMode": true,
	"preCondition": true, "writeConcern": true, "readConcern": true, "txnNumber": true, "$readPreference": true, "apiVersion": true, "maxTimeMS": true,
}

func (c *Cmd) specs(v bsoncore.Value) error {
	a, ok := v.ArrayOK()
	if !ok {
		return fmt.Errorf("%w: indexes of %s are a %s", ErrCorrupt, c.Spelling, v.Type)
	}
	return Elements(a, func(_ []byte, v bsoncore.Value) error {
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("%w: an index of %s is a %s", ErrCorrupt, c.Spelling, v.Type)
		}
		return c.addIndex(bson.Raw(d))
	})
}

func (c *Cmd) addIndex(spec bson.Raw) error {
	name, found := Lookup(spec, "name")
	if _, ok := name.StringValueOK(); !found || !ok {
		return fmt.Errorf("%w: an index of %s without a name", ErrCorrupt, c.Spelling)
	}
	c.Indexes = append(c.Indexes, spec)
	return nil
}

// flattened reads createIndexes: its fields are those of the one index, or {spec: {...}} on newest servers.
func (c *Cmd) flattened(d []byte) error {
	if v, ok := Lookup(d, "spec"); ok {
		if spec, ok := v.DocumentOK(); ok {
			return c.addIndex(bson.Raw(spec))
		}
	}
	return c.addIndex(bson.Raw(d))
}

// complete reads the first field by what the command is, and checks that nothing is missing.
func (c *Cmd) complete(o *Op, db string, first bsoncore.Value, depth int) error {
	switch c.Name {
	case ApplyOps:
		a, ok := first.ArrayOK()
		if !ok {
			return fmt.Errorf("%w: applyOps is a %s", ErrCorrupt, first.Type)
		}
		return c.unroll(a, depth)
	case CommitTransaction, AbortTransaction:
		if depth > 0 {
			return fmt.Errorf("%w: %s inside applyOps", ErrCorrupt, c.Name)
		}
		if c.Name == CommitTransaction && c.CommitTimestamp.IsZero() {
			return fmt.Errorf("%w: commitTransaction without commitTimestamp", ErrCorrupt)
		}
		return nil
	case DropDatabase:
		c.Target = db
		return nil
	case Ignored:
		return nil
	}
	name, ok := first.StringValueOK()
	if !ok || name == "" {
		return fmt.Errorf("%w: %s of a %s", ErrCorrupt, c.Spelling, first.Type)
	}
	c.Target = db + "." + name
	switch {
	case c.Name == Rename:
		c.Target = name // a whole namespace
		if _, coll := Split(c.To); coll == "" || !strings.Contains(name, ".") {
			return fmt.Errorf("%w: rename of %q to %q", ErrCorrupt, name, c.To)
		}
	case (c.Name == CreateIndexes || c.Name == CommitIndexBuild) && len(c.Indexes) == 0:
		return fmt.Errorf("%w: %s on %s without an index", ErrCorrupt, c.Spelling, c.Target)
	case c.Name == DropIndexes && c.Index == "":
		return fmt.Errorf("%w: %s on %s names no index", ErrCorrupt, c.Spelling, c.Target)
	}
	return nil
}

// unroll reads the operations of applyOps. An applyOps among them (a user's, before 7.0) is replaced by its operations.
func (c *Cmd) unroll(array []byte, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("%w: applyOps nested deeper than %d", ErrCorrupt, maxDepth)
	}
	return Elements(array, func(_ []byte, v bsoncore.Value) error {
		c.Length++
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("%w: an operation of applyOps is a %s", ErrCorrupt, v.Type)
		}
		op, err := decodeInner(d, depth+1)
		if err != nil {
			return fmt.Errorf("inside applyOps: %w", err)
		}
		switch {
		case op.Kind == Noop || op.Kind == Internal:
		case op.Kind == Command && op.Command.Name == ApplyOps:
			if op.Command.Partial || op.Command.Prepare {
				return fmt.Errorf("%w: part of a transaction inside applyOps", ErrCorrupt)
			}
			c.Ops = append(c.Ops, op.Command.Ops...)
		default:
			c.Ops = append(c.Ops, op)
		}
		return nil
	})
}
