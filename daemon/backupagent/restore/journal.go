package restore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
)

// journalDB is the database of the target that keeps how far restores are, a collection for each. Backups pass it over.
const journalDB = "heartwood_restore"

// Phases of a restore, in the journal.
const (
	phaseStage = "stage" // nothing that was there is touched
	phaseSwap  = "swap"  // some collections may be in place
	phaseDone  = "done"  // all are
)

// state is the journal's first document.
type state struct {
	ID      string `bson:"_id"` // "state"
	Phase   string `bson:"phase"`
	Digest  []byte `bson:"digest"` // of the list of parts: a journal of other parts is of no use
	Users   bool   `bson:"users,omitempty"`
	Entries int64  `bson:"entries"` // of the catalogue
}

// placed is what the journal says of one collection or view.
type placed struct {
	ID     string      `bson:"_id"` // "c/" and the entry's number
	NS     string      `bson:"ns"`  // final
	UUID   bson.Binary `bson:"uuid,omitempty"`
	Built  bool        `bson:"built,omitempty"`  // staged whole, with its indexes
	Begun  bool        `bson:"begun,omitempty"`  // one that cannot be staged: what is under its name now is ours, in part
	View   bson.Raw    `bson:"view,omitempty"`   // of a view that is being made: its definition
	Placed bool        `bson:"placed,omitempty"` // under its final name
}

// journal keeps in the target how far a restore is, so that whoever goes on, this agent or another, does nothing twice. Every
// change is on a majority of the members before it counts.
type journal struct {
	t    *target.Target
	coll string // the restore's id

	state state
	parts map[int]bool
	colls map[int64]placed
}

const (
	stateID    = "state"
	partPrefix = "p/"
	collPrefix = "c/"
)

func partID(n int) string      { return fmt.Sprintf("%s%06d", partPrefix, n) }
func collID(n int64) string    { return fmt.Sprintf("%s%06d", collPrefix, n) }
func number(id string) int64   { n, _ := strconv.ParseInt(id[2:], 10, 64); return n }
func (j *journal) begun() bool { return j.state.Phase != "" }

// load reads what is kept.
func (j *journal) load(ctx context.Context) error {
	j.state, j.parts, j.colls = state{}, map[int]bool{}, map[int64]placed{}
	docs, err := j.t.Query(ctx, journalDB, bson.D{
		{Key: "find", Value: j.coll}, {Key: "batchSize", Value: 5_000}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "majority"}}},
	})
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	for _, doc := range docs {
		id := target.Text(doc, "_id")
		switch {
		case id == stateID:
			err = bson.Unmarshal(doc, &j.state)
		case strings.HasPrefix(id, partPrefix):
			j.parts[int(number(id))] = true
		case strings.HasPrefix(id, collPrefix):
			var p placed
			if err = bson.Unmarshal(doc, &p); err == nil {
				j.colls[number(id)] = p
			}
		}
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
	}
	return nil
}

func (j *journal) put(ctx context.Context, id string, doc any) error {
	_, err := j.t.Write(ctx, target.Quick, journalDB, bson.D{
		{Key: "update", Value: j.coll},
		{Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: id}}}, {Key: "u", Value: doc}, {Key: "upsert", Value: true}}}},
	})
	if err != nil && !target.Is(err, target.CodeDuplicateKey) { // of two that write it at once, both write the same
		return fmt.Errorf("keep the journal: %w", err)
	}
	return nil
}

// setState keeps the phase.
func (j *journal) setState(ctx context.Context, s state) error {
	s.ID = stateID
	if err := j.put(ctx, stateID, s); err != nil {
		return err
	}
	j.state = s
	return nil
}

func (j *journal) phase(ctx context.Context, phase string) error {
	s := j.state
	s.Phase = phase
	return j.setState(ctx, s)
}

// part notes that every document of a part is staged.
func (j *journal) part(ctx context.Context, n int) error {
	if err := j.put(ctx, partID(n), bson.D{{Key: "_id", Value: partID(n)}}); err != nil {
		return err
	}
	j.parts[n] = true
	return nil
}

func (j *journal) place(ctx context.Context, n int64, p placed) error {
	p.ID = collID(n)
	if err := j.put(ctx, p.ID, p); err != nil {
		return err
	}
	j.colls[n] = p
	return nil
}

// drop forgets everything.
func (j *journal) drop(ctx context.Context) error {
	if err := j.t.Drop(ctx, journalDB, j.coll); err != nil {
		return fmt.Errorf("remove the journal: %w", err)
	}
	j.state, j.parts, j.colls = state{}, map[int]bool{}, map[int64]placed{}
	return nil
}

var errGone = errors.New("what was staged is no longer there")
