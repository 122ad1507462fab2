package chain

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Head is the end of what is stored of an epoch. The zero Head with Job and Epoch set stands before the first slice.
type Head struct {
	Job   string       `bson:"job"`
	Epoch int64        `bson:"epoch"`
	Last  oplog.OpTime `bson:"last"`
	Sum   Digest       `bson:"sum"`   // of the last slice
	Entry Digest       `bson:"entry"` // of the source's entry at Last
	// LastFirst is the first position of the last slice: with Sum it tells a repetition of it from a fault.
	LastFirst oplog.OpTime `bson:"lastFirst"`
}

// Follow judges the next slice. next is the head after it; repeated says that the slice is the one the head ends with
// (its sender did not hear of its success), so that there is nothing to store and the answer is success.
func (h Head) Follow(s *Slice) (next Head, repeated bool, err error) {
	if err := s.check(); err != nil {
		return h, false, err
	}
	if s.Job != h.Job || s.Epoch != h.Epoch {
		return h, false, fmt.Errorf("%w: %s epoch %d, stored is %s epoch %d", ErrEpoch, s.Job, s.Epoch, h.Job, h.Epoch)
	}
	next = Head{Job: s.Job, Epoch: s.Epoch, Last: s.Last, Sum: s.Sum(), Entry: s.LastEntry, LastFirst: s.First}
	if h.Last.IsZero() {
		if !s.Prev.IsZero() || !s.After.IsZero() {
			return h, false, fmt.Errorf("%w: it follows %s, nothing is stored", ErrGap, s.After)
		}
		return next, false, nil
	}
	switch {
	case next.Sum == h.Sum:
		return h, true, nil
	case h.Last.Before(s.After):
		return h, false, fmt.Errorf("%w: it follows %s, stored is up to %s", ErrGap, s.After, h.Last)
	case s.After.Before(h.Last):
		return h, false, fmt.Errorf("%w: it follows %s, stored is up to %s", ErrOverlap, s.After, h.Last)
	case s.Prev != h.Sum:
		return h, false, fmt.Errorf("%w: at %s", ErrSplice, h.Last)
	case s.First.Term < h.Last.Term:
		return h, false, fmt.Errorf("%w: the term goes back from %s to %s", ErrSplice, h.Last, s.First)
	}
	return next, false, nil
}

// Verify checks that slices, in order, are one unbroken history, and gives its end. It begins wherever the first one does.
func Verify(slices []Slice) (Head, error) {
	var h Head
	for i := range slices {
		s := &slices[i]
		if i == 0 {
			h = Head{Job: s.Job, Epoch: s.Epoch, Last: s.After, Sum: s.Prev}
			if err := s.check(); err != nil {
				return h, err
			}
			if s.After.IsZero() != s.Prev.IsZero() {
				return h, fmt.Errorf("%w: %s", ErrSplice, s.ID())
			}
		}
		next, repeated, err := h.Follow(s)
		if err == nil && repeated {
			err = ErrOverlap
		}
		if err != nil {
			return h, fmt.Errorf("slice %s: %w", s.ID(), err)
		}
		h = next
	}
	return h, nil
}

// Saved is what a tailer knows of its place: the last entry it shipped, and the set it came from.
type Saved struct {
	At           oplog.OpTime
	Entry        Digest
	ReplicaSetID bson.ObjectID
}

// Seen is what a member's oplog shows when a cursor from ts >= Saved.At has given its first result. Oldest and Newest
// must be read after that result: read before, the oplog may roll over in between.
type Seen struct {
	ReplicaSetID bson.ObjectID
	First        *oplog.Entry // the first result; nil if there is none yet
	Oldest       oplog.OpTime
	Newest       oplog.OpTime // of the majority-committed entries of this member
}

// Verdict is what a tailer does.
type Verdict string

// The verdicts. All but Continue and Behind end the epoch.
const (
	Continue Verdict = "continue"
	// Behind: the member has not got so far; ask another or wait.
	Behind Verdict = "behind"
	// Gap: the oplog rolled over past the saved position.
	Gap Verdict = "gap"
	// Rollback: the saved entry is gone or another, while older ones are there: it was rolled back, or the set was restored.
	Rollback Verdict = "rollback"
	// OtherSet: this is not the replica set the history comes from.
	OtherSet Verdict = "other set"
)

// Resume judges whether tailing may go on, with the reason for people. Equality of the saved entry is the only proof.
func Resume(saved Saved, seen Seen) (Verdict, string) {
	switch {
	case saved.ReplicaSetID != seen.ReplicaSetID:
		return OtherSet, fmt.Sprintf("the replica set is %s, the history comes from %s", seen.ReplicaSetID.Hex(), saved.ReplicaSetID.Hex())
	case seen.First != nil && seen.First.At == saved.At && EntryDigest(seen.First.Raw) == saved.Entry:
		return Continue, ""
	case saved.At.Before(seen.Oldest):
		return Gap, fmt.Sprintf("the oldest entry is %s, the last one stored is %s", seen.Oldest, saved.At)
	case seen.First == nil && seen.Newest.Before(saved.At) && seen.Newest.Term > saved.At.Term:
		return Rollback, fmt.Sprintf("the newest entry is %s, of a later term, and the last one stored, %s, is not there", seen.Newest, saved.At)
	case seen.First == nil:
		return Behind, fmt.Sprintf("the member is at %s, the last entry stored is %s", seen.Newest, saved.At)
	case seen.First.At.TS != saved.At.TS:
		return Rollback, fmt.Sprintf("the last entry stored, %s, is not there; the next one is %s", saved.At, seen.First.At)
	}
	return Rollback, fmt.Sprintf("the entry at %s is another one than was stored", saved.At)
}
