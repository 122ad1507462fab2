package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply/spill"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// Files of a job's folder that are the applier's.
const (
	stateFile = "state.bson"
	redoFile  = "redo"
	spillDir  = "spill"
)

const stateVersion = 1

// maxState bounds state.bson and what is packed in it: a million collections fit.
const maxState = 1 << 30

// position is a place in the oplog that the head stands at.
type position struct {
	applied oplog.OpTime // the last entry carried out in full
	partial int          // operations of the entry after it that are carried out too
	from    oplog.OpTime // the first entry of the oldest transaction open there; zero for none
	wall    time.Time
}

// state is what must be known of a head that stands still.
type state struct {
	generation int64 // of the redo log that goes on from here
	position
	open    bool // the fuzzy window
	end     oplog.OpTime
	cat     *schema.Catalogue
	missing *plan.Missing
	fcv     string   // the feature compatibility version that the oplog brought the head to; empty before the first change
	change  bson.Raw // the document of a change of it that has begun and not ended
}

// storedState is state.bson. Packed is zstd over documents one after another: collections, views and missing documents.
type storedState struct {
	V          int            `bson:"v"`
	Generation int64          `bson:"generation"`
	Position   storedPosition `bson:"position"`
	Open       bool           `bson:"windowOpen"`
	End        oplog.OpTime   `bson:"windowEnd"`
	FCV        string         `bson:"fcv,omitempty"`
	Change     bson.Raw       `bson:"fcvChange,omitempty"`
	Packed     []byte         `bson:"packed"`
}

type storedPosition struct {
	Applied oplog.OpTime `bson:"applied"`
	Partial int          `bson:"partial,omitempty"`
	From    oplog.OpTime `bson:"from"`
	Wall    time.Time    `bson:"wall"`
}

func (p position) stored() storedPosition {
	return storedPosition{Applied: p.applied, Partial: p.partial, From: p.from, Wall: p.wall}
}

func (p storedPosition) position() position {
	return position{applied: p.Applied, partial: p.Partial, from: p.From, wall: p.Wall}
}

// storedItem is one document of what is packed; one of its three parts is there.
type storedItem struct {
	Collection *storedCollection `bson:"c,omitempty"`
	View       bson.Raw          `bson:"view,omitempty"`
	Missing    bson.Raw          `bson:"missing,omitempty"` // {_id}
	Of         *oplog.UUID       `bson:"of,omitempty"`
}

type storedCollection struct {
	UUID    oplog.UUID `bson:"uuid"`
	NS      string     `bson:"ns"`
	Options bson.Raw   `bson:"options,omitempty"`
	IDIndex bson.Raw   `bson:"idIndex,omitempty"`
	Indexes []bson.Raw `bson:"indexes,omitempty"`
	Temp    bool       `bson:"temp,omitempty"`
}

// encode gives state.bson.
func (s *state) encode() (bson.Raw, error) {
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	put := func(i storedItem) error {
		b, err := bson.Marshal(i)
		if err == nil {
			_, err = z.Write(b)
		}
		return err
	}
	for _, c := range s.cat.Collections() {
		if err := put(storedItem{Collection: &storedCollection{UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes, Temp: c.Temp}}); err != nil {
			return nil, err
		}
	}
	for _, v := range s.cat.Views() {
		if err := put(storedItem{View: v}); err != nil {
			return nil, err
		}
	}
	for id, docs := range s.missing.IDs() {
		for _, v := range docs {
			if err := put(storedItem{Missing: idDocument(v), Of: &id}); err != nil {
				return nil, err
			}
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return bson.Marshal(storedState{V: stateVersion, Generation: s.generation, Position: s.stored(), Open: s.open, End: s.end, FCV: s.fcv, Change: s.change, Packed: packed.Bytes()})
}

func idDocument(v bsoncore.Value) bson.Raw {
	return bson.Raw(bsoncore.BuildDocument(nil, bsoncore.AppendValueElement(nil, "_id", v)))
}

// decodeState reads what encode gave.
func decodeState(b []byte) (*state, error) {
	var in storedState
	if err := bson.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("state of an applier: %w", err)
	}
	if in.V != stateVersion {
		return nil, fmt.Errorf("state of an applier has version %d, this build knows %d", in.V, stateVersion)
	}
	s := &state{generation: in.Generation, position: in.Position.position(), open: in.Open, end: in.End, missing: &plan.Missing{}, fcv: in.FCV, change: in.Change}
	z, err := zstd.NewReader(bytes.NewReader(in.Packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxState))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var colls []schema.Collection
	var views []bson.Raw
	r := io.LimitReader(z, maxState)
	for {
		doc, err := spill.ReadDocument(r, spill.MaxEntry)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("state of an applier: %w", err)
		}
		var i storedItem
		if err := bson.Unmarshal(doc, &i); err != nil {
			return nil, fmt.Errorf("state of an applier: %w", err)
		}
		switch {
		case i.Collection != nil:
			c := i.Collection
			colls = append(colls, schema.Collection{UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes, Temp: c.Temp})
		case i.View != nil:
			views = append(views, i.View)
		case i.Missing != nil && i.Of != nil:
			id, ok := oplog.Lookup(i.Missing, "_id")
			if !ok {
				return nil, fmt.Errorf("state of an applier: %w: missing document without _id", oplog.ErrCorrupt)
			}
			s.missing.Note(&plan.Writes{Collection: schema.Collection{UUID: *i.Of}, Missing: []bsoncore.Value{id}})
		}
	}
	if s.cat, err = catalogue(colls, views); err != nil {
		return nil, fmt.Errorf("state of an applier: %w", err)
	}
	return s, nil
}

func catalogue(colls []schema.Collection, views []bson.Raw) (*schema.Catalogue, error) {
	cat, err := schema.New(colls...)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		if err := cat.AddView(v); err != nil {
			return nil, err
		}
	}
	return cat, nil
}

// save writes state.bson so that it is the old or the new one after a crash, and on disk when it returns.
func (s *state) save(dir string) error {
	b, err := s.encode()
	if err != nil {
		return fmt.Errorf("encode the state of an applier: %w", err)
	}
	return replaceFile(filepath.Join(dir, stateFile), b)
}

// replaceFile writes a file in one step.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads state.bson.
func load(dir string) (*state, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoState, dir)
	}
	if err != nil {
		return nil, err
	}
	return decodeState(b)
}

// FCV reads from a folder which feature compatibility version the oplog brought the head to: what it must be started with. It is ""
// while the head has the one it began with, and where nothing was applied yet.
func FCV(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var in struct {
		FCV string `bson:"fcv"`
	}
	if err := bson.Unmarshal(b, &in); err != nil {
		return "", fmt.Errorf("state of an applier: %w", err)
	}
	return in.FCV, nil
}
