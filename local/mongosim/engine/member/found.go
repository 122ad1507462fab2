package member

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
)

// VersionNS holds the feature compatibility version.
const VersionNS = "admin.system.version"

// FCV is the feature compatibility version of a server that was never of another.
func (v Version) FCV() string {
	if v == (Version{}) {
		return "4.4"
	}
	if v.Major == 4 && v.Minor > 4 {
		return "4.4"
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Initiate is what the first primary of a set does before it opens its first term: the collection of sessions, in the oplog, and
// the feature compatibility version, which is in no oplog.
func (e *Engine) Initiate(msg bson.Raw) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.wake()
	defer e.Seal()
	e.Log(oplog.Entry{Op: "n", O: msg})
	if err := e.version(); err != nil {
		return err
	}
	if e.st.Get(session.NS) != nil {
		return nil
	}
	return e.CreateCollection(session.NS, nil, NewUUID(), nil)
}

// Settle is what the first primary does once it leads: what its version keeps for itself.
func (e *Engine) Settle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.wake()
	defer e.Seal()
	var names []string
	if e.o.Version.AtLeast(4, 4) {
		names = append(names, "config.system.indexBuilds")
	}
	names = append(names, "admin.system.keys")
	if e.o.Version.AtLeast(5, 0) {
		names = append(names, "config.image_collection")
	}
	for _, ns := range names {
		if e.st.Get(ns) != nil {
			continue
		}
		if err := e.CreateCollection(ns, nil, NewUUID(), nil); err != nil {
			return err
		}
	}
	keys := e.st.Get("admin.system.keys")
	if keys.Records.Len() > 0 {
		return nil
	}
	for i := range 2 {
		secret := make([]byte, 20)
		_, _ = rand.Read(secret)
		at := e.Now().Add(time.Duration(i+1) * 90 * 24 * time.Hour)
		doc := new(bsonval.Builder).Int64("_id", e.last.ID()+int64(i)).String("purpose", "HMAC").Value("key", bsonval.Binary(0, secret)).
			Value("expiresAt", bsonval.Timestamp(bson.Timestamp{T: uint32(at.Unix())})).Raw()
		if _, err := e.st.Insert(e.Batch(), keys, doc); err != nil {
			return err
		}
		e.Log(oplog.Entry{Op: "i", NS: keys.NS, UI: keys.UUID, O: doc})
	}
	return nil
}

// version writes the feature compatibility version unless there is one; mu is held.
func (e *Engine) version() error {
	c := e.st.Get(VersionNS)
	if c == nil {
		fresh, _, err := e.newCollection(VersionNS, nil, NewUUID())
		if err != nil {
			return err
		}
		e.st.Create(e.Batch(), fresh)
		c = fresh
	}
	if _, _, has := c.FindID(bsonval.String("featureCompatibilityVersion")); has {
		return nil
	}
	_, err := e.st.Insert(e.Batch(), c, new(bsonval.Builder).String("_id", "featureCompatibilityVersion").String("version", e.o.Version.FCV()).Raw())
	return err
}

// ResizeOplog changes the oplog's size and drops what no longer fits.
func (e *Engine) ResizeOplog(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.st.Get(oplog.NS)
	if c == nil {
		return
	}
	var o bsonval.Builder
	for k, v := range bsonval.Each(c.Options) {
		if k == "size" {
			v = bsonval.Int64(bytes)
		}
		o.Value(k, v)
	}
	e.st.SetOptions(e.Batch(), c, o.Raw())
	e.Trim(c)
	e.wake()
	e.Seal()
}

// FCV is the feature compatibility version that the data say, empty when they say none.
func (e *Engine) FCV() string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.fcv()
}

func (e *Engine) fcv() string {
	c := e.st.Get(VersionNS)
	if c == nil {
		return ""
	}
	_, doc, _ := c.FindID(bsonval.String("featureCompatibilityVersion"))
	return bsonval.StringField(doc, "version")
}

// Diffs says that updates are logged as $v: 2 diffs: from 5.0 on, unless the feature compatibility version is still an older
// one. mu is held.
func (e *Engine) Diffs() bool { return e.o.DiffUpdates && !strings.HasPrefix(e.fcv(), "4.") }
