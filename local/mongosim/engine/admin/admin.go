// Package admin is the commands of a replica set's administration that change data or write to the oplog: notes in the oplog, its size,
// the feature compatibility version. It owns no state; a member.Call gives it the member to work on.
package admin

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// AppendOplogNote is the command appendOplogNote.
func AppendOplogNote(c *member.Call) (*bsonval.Builder, error) {
	if c.E.Options().NextOpTime == nil {
		return nil, refuse.Errf(refuse.CodeNoReplicationEnabled, "Must have replication set up to run \"appendOplogNote\"")
	}
	data := c.Arg("data")
	if data.Type == 0 {
		return nil, refuse.Errf(4, "Missing expected field \"data\"") // NoSuchKey
	}
	if data.Type != bson.TypeEmbeddedDocument {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "\"data\" had the wrong type. Expected object, found %s", bsonval.TypeName(data.Type))
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	c.Wrote = true
	c.E.Log(oplog.Entry{Op: "n", O: bson.Raw(data.Value)})
	return &bsonval.Builder{}, nil
}

// smallestOplog is the smallest oplog that replSetResizeOplog makes, in megabytes.
const smallestOplog = 990

// ResizeOplog is the command replSetResizeOplog.
func ResizeOplog(c *member.Call) (*bsonval.Builder, error) {
	if c.E.Options().NextOpTime == nil {
		return nil, refuse.Errf(refuse.CodeNoReplicationEnabled, "not running with --replSet")
	}
	v := c.Arg("size")
	if v.Type == 0 {
		return &bsonval.Builder{}, nil // only minRetentionHours, which is not simulated
	}
	mb, ok := bsonval.Float(v)
	if !ok || mb < smallestOplog {
		return nil, refuse.Errf(refuse.CodeBadValue, "BSON field 'size' value must be greater than or equal to %d, actual value '%s'", smallestOplog, bsonval.Format(v))
	}
	Resize(c.E, int64(mb*(1<<20)))
	return &bsonval.Builder{}, nil
}

// SetFCV is the command setFeatureCompatibilityVersion: the document first says where it goes, then that it is there.
func SetFCV(c *member.Call) (*bsonval.Builder, error) {
	own := c.E.Options().Version.FCV()
	to := bsonval.Str(c.Arg("setFeatureCompatibilityVersion"))
	if choice := []string{before(own), own}; !slices.Contains(choice, to) {
		return nil, refuse.Errf(4926900, "Invalid feature compatibility version value '%s'; expected '%s'. See https://docs.mongodb.com/master/release-notes/%s-compatibility/#feature-compatibility.", to, strings.Join(choice, "' or '"), own)
	}
	if c.E.Options().Version.AtLeast(7, 0) && !bsonval.Truthy(c.Arg("confirm")) {
		return nil, refuse.Errf(7369100, "Once you have changed the FCV to %s, you will not be able to go back without support. To proceed, please re-run this command with the 'confirm' field set to true.", to)
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll, err := c.Writable(member.VersionNS, true)
	if err != nil {
		return nil, err
	}
	id := bsonval.String("featureCompatibilityVersion")
	rid, doc, had := coll.FindID(id)
	from := bsonval.StringField(doc, "version")
	if from == to {
		return &bsonval.Builder{}, nil
	}
	final := new(bsonval.Builder).Value("_id", id).String("version", to)
	if !had {
		_, err := c.E.Main().Insert(c.E.Batch(), coll, final.Raw())
		c.Record(oplog.Entry{Op: "i", NS: coll.NS, UI: coll.UUID, O: final.Raw()}, 0, member.StmtResult{N: 1})
		return &bsonval.Builder{}, err
	}
	going := new(bsonval.Builder).Value("_id", id).String("version", min(from, to)).String("targetVersion", to)
	if to == own {
		going = new(bsonval.Builder).Value("_id", id).String("version", from).String("targetVersion", to)
	} else {
		going.String("previousVersion", from)
	}
	for _, step := range []bson.Raw{going.Raw(), final.Raw()} {
		if err := c.E.Main().Put(c.E.Batch(), coll, rid, step); err != nil {
			return nil, err
		}
		c.Record(oplog.Entry{Op: "u", NS: coll.NS, UI: coll.UUID, O: step, O2: new(bsonval.Builder).Value("_id", id).Raw()}, 0, member.StmtResult{N: 1})
	}
	return &bsonval.Builder{}, nil
}

// before is the version one release before, to which a server can go back.
func before(v string) string {
	releases := []string{"4.0", "4.2", "4.4", "5.0", "6.0", "7.0", "8.0", "9.0"}
	for i, r := range releases {
		if r >= v && i > 0 {
			return releases[i-1]
		}
	}
	return v
}
