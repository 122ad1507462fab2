package history

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

// Epoch is one unbroken history of a job: a full read and the oplog from its start on. Its id is "<job>/<8 digits>".
//
// Its first oplog slice begins with the source's entry at Start itself: what an open transaction wrote first is part of it, and
// that it is the same entry is the proof that nothing lies between.
type Epoch struct {
	Job          model.ID     `bson:"job"`
	Number       int64        `bson:"number"`
	Began        time.Time    `bson:"began"`
	Why          string       `bson:"why"` // what it was begun for
	ReplicaSetID string       `bson:"replicaSetId"`
	SetName      string       `bson:"setName"`
	Version      string       `bson:"version"`
	FCV          string       `bson:"fcv"`
	StoreID      string       `bson:"storeId"`    // of the blockstore that holds its seeds and oplog
	AgentID      string       `bson:"agentId"`    // who began it
	Start        oplog.OpTime `bson:"start"`      // first position of its oplog: the oldest open transaction's first entry, or the newest entry, as it was before anything was read
	StartEntry   chain.Digest `bson:"startEntry"` // of the source's entry at Start
	ScanEnd      oplog.OpTime `bson:"scanEnd"`    // the newest entry when the last collection had been read; zero until then
	Collections  int64        `bson:"collections"`
	Seeded       time.Time    `bson:"seeded,omitempty"`   // when a head had passed ScanEnd: sync slices may go
	Head         chain.Head   `bson:"head"`               // the end of the stored oplog
	HeadWall     time.Time    `bson:"headWall,omitempty"` // wall clock of its last entry, as the source has it
	HeadAt       time.Time    `bson:"headAt,omitempty"`   // when its last slice was stored
	// Last is the slice the head ends with. It is written with the head; its own document follows.
	Last        *OplogSlice  `bson:"last,omitempty"`
	OplogBytes  int64        `bson:"oplogBytes"`  // of all its slices so far, uncompressed
	OplogStored int64        `bson:"oplogStored"` // as objects
	Kept        oplog.OpTime `bson:"kept"`        // oplog up to here was expired
	Breaks      []Break      `bson:"breaks,omitempty"`
	Ended       time.Time    `bson:"ended,omitempty"`
	EndedWhy    string       `bson:"endedWhy,omitempty"`
}

// Break is a point of an epoch behind which nothing is replayed.
type Break struct {
	At  bson.Timestamp `bson:"at"`
	Why string         `bson:"why"`
}

// Collection is one collection of a full read: its making and how far its slices are. Its id is "<job>/<epoch>/c/<uuid>", a
// view's "<job>/<epoch>/v/<name>".
type Collection struct {
	UUID    oplog.UUID
	NS      string
	Options bson.Raw // as listCollections gives them
	IDIndex bson.Raw
	Indexes []bson.Raw
	View    bson.Raw // a view instead of a collection: its document of system.views; UUID is zero
	Attempt int64    // slices of earlier attempts do not count
	Done    bool
	Slices  int64 // how many there are, once Done
	Docs    int64
	Bytes   int64
	Lost    string // why it could not be read to its end: dropped meanwhile
}

// collectionDoc is a collection as stored. What came from a server is binary: its names may begin with "$", which some servers
// that we run on refuse.
type collectionDoc struct {
	UUID    oplog.UUID `bson:"uuid"`
	NS      string     `bson:"ns"`
	Options []byte     `bson:"options,omitempty"`
	IDIndex []byte     `bson:"idIndex,omitempty"`
	Indexes [][]byte   `bson:"indexes,omitempty"`
	View    []byte     `bson:"view,omitempty"`
	Attempt int64      `bson:"attempt"`
	Done    bool       `bson:"done"`
	Slices  int64      `bson:"slices"`
	Docs    int64      `bson:"docs"`
	Bytes   int64      `bson:"bytes"`
	Lost    string     `bson:"lost,omitempty"`
}

// MarshalBSON gives the stored form.
func (c Collection) MarshalBSON() ([]byte, error) {
	d := collectionDoc{
		UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, View: c.View, Attempt: c.Attempt, Done: c.Done, Slices: c.Slices, Docs: c.Docs,
		Bytes: c.Bytes, Lost: c.Lost,
	}
	for _, spec := range c.Indexes {
		d.Indexes = append(d.Indexes, spec)
	}
	return bson.Marshal(d)
}

// UnmarshalBSON reads the stored form.
func (c *Collection) UnmarshalBSON(b []byte) error {
	var d collectionDoc
	if err := bson.Unmarshal(b, &d); err != nil {
		return err
	}
	*c = Collection{
		UUID: d.UUID, NS: d.NS, Options: d.Options, IDIndex: d.IDIndex, View: d.View, Attempt: d.Attempt, Done: d.Done, Slices: d.Slices, Docs: d.Docs,
		Bytes: d.Bytes, Lost: d.Lost,
	}
	for _, spec := range d.Indexes {
		c.Indexes = append(c.Indexes, spec)
	}
	return nil
}

// Complete reports whether nothing more is to be read of it.
func (c *Collection) Complete() bool { return c.Done || c.Lost != "" || c.View != nil }

// SeedSlice is a stored part of a collection. Its id is "<job>/<epoch>/<uuid>/<attempt>/<seq>".
type SeedSlice struct {
	Attempt int64        `bson:"attempt"`
	Seq     int64        `bson:"seq"`
	Key     string       `bson:"key"` // of the object: zstd of the documents one after another
	Docs    int64        `bson:"docs"`
	Bytes   int64        `bson:"bytes"`            // of the documents
	Stored  int64        `bson:"stored"`           // of the object
	Digest  chain.Digest `bson:"digest"`           // of the documents
	Resume  []byte       `bson:"resume,omitempty"` // the agent's note of where to read on
	At      time.Time    `bson:"at"`
}

// OplogSlice is a stored slice. Its id is "<job>/<epoch>/<first position, sortable>".
type OplogSlice struct {
	Slice  chain.Slice `bson:"slice"`
	Key    string      `bson:"key"` // of the object: zstd of the entries one after another
	Stored int64       `bson:"stored"`
	At     time.Time   `bson:"at"` // when it was stored
}
