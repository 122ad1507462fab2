package admin

import (
	"crypto/rand"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/catalog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
)

// Initiate is what the first primary of a set does before it opens its first term: the collection of sessions, in the oplog, and
// the feature compatibility version, which is in no oplog.
func Initiate(e *member.Engine, msg bson.Raw) error {
	return e.Change(func() error {
		e.Log(oplog.Entry{Op: "n", O: msg})
		if err := writeVersion(e); err != nil {
			return err
		}
		if e.Main().Get(session.NS) != nil {
			return nil
		}
		return e.CreateCollection(session.NS, nil, member.NewUUID(), nil)
	})
}

// writeVersion writes the feature compatibility version unless there is one; the lock is held.
func writeVersion(e *member.Engine) error {
	st := e.Main()
	c := st.Get(member.VersionNS)
	if c == nil {
		fresh, _, err := catalog.New(st, member.VersionNS, nil, member.NewUUID())
		if err != nil {
			return err
		}
		st.Create(e.Batch(), fresh)
		c = fresh
	}
	if _, _, has := c.FindID(bsonval.String("featureCompatibilityVersion")); has {
		return nil
	}
	doc := new(bsonval.Builder).String("_id", "featureCompatibilityVersion").String("version", e.Options().Version.FCV()).Raw()
	_, err := st.Insert(e.Batch(), c, doc)
	return err
}

// Settle is what the first primary does once it leads: what its version keeps for itself.
func Settle(e *member.Engine) error {
	var names []string
	if e.Options().Version.AtLeast(4, 4) {
		names = append(names, "config.system.indexBuilds")
	}
	names = append(names, "admin.system.keys")
	if e.Options().Version.AtLeast(5, 0) {
		names = append(names, "config.image_collection")
	}
	return e.Change(func() error {
		st := e.Main()
		for _, ns := range names {
			if st.Get(ns) != nil {
				continue
			}
			if err := e.CreateCollection(ns, nil, member.NewUUID(), nil); err != nil {
				return err
			}
		}
		keys := st.Get("admin.system.keys")
		if keys.Records.Len() > 0 {
			return nil
		}
		for i := range 2 {
			secret := make([]byte, 20)
			_, _ = rand.Read(secret)
			at := e.Now().Add(time.Duration(i+1) * 90 * 24 * time.Hour)
			doc := new(bsonval.Builder).Int64("_id", e.Now().UnixNano()+int64(i)).String("purpose", "HMAC").Value("key", bsonval.Binary(0, secret)).
				Value("expiresAt", bsonval.Timestamp(bson.Timestamp{T: uint32(at.Unix())})).Raw()
			if _, err := st.Insert(e.Batch(), keys, doc); err != nil {
				return err
			}
			e.Log(oplog.Entry{Op: "i", NS: keys.NS, UI: keys.UUID, O: doc})
		}
		return nil
	})
}

// Resize changes the oplog's size in bytes and drops what no longer fits.
func Resize(e *member.Engine, bytes int64) {
	_ = e.Change(func() error { // which never fails
		c := e.Main().Get(oplog.NS)
		if c == nil {
			return nil
		}
		var o bsonval.Builder
		for k, v := range bsonval.Each(c.Options) {
			if k == "size" {
				v = bsonval.Int64(bytes)
			}
			o.Value(k, v)
		}
		e.Main().SetOptions(e.Batch(), c, o.Raw())
		e.Trim(c)
		return nil
	})
}
