// Package entry is what the parts of the backup area have in common: what they answer, how documents are named, how much is
// read at once.
package entry

import (
	"errors"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

// MaxPage is the largest page that the area gives.
const MaxPage = 1_000

// What the area answers besides the store's own errors and the chain's (chain.ErrGap, ErrOverlap, ErrSplice, ErrEpoch);
// compare with errors.Is.
var (
	// ErrState: the backup, epoch or restore is not in a state in which this can be done. A StateError says more.
	ErrState = errors.New("backup: not possible in the present state")
	// ErrFenced: a daemon with a higher token has taken over. The caller stops working on it.
	ErrFenced = errors.New("backup: somebody else has taken over")
	// ErrEnded: nothing is added to an epoch that has ended.
	ErrEnded = errors.New("backup: the epoch has ended")
	// ErrSeed: the slices of a full read are not what they should be. The collection is read again, as another attempt.
	ErrSeed = errors.New("backup: the stored slices are not those of this read")
	// ErrExpired: the oplog that was asked for is no longer kept.
	ErrExpired = errors.New("backup: this oplog is no longer kept")
	// ErrDamaged: documents of the area contradict each other.
	ErrDamaged = errors.New("backup: stored documents contradict each other")
	// ErrWidened: the filter lets in what was never read. It is saved with Config.Resync, and everything is read anew.
	ErrWidened = errors.New("backup: the namespace filter is wider than before, a full resync is needed")
	// ErrLink: there is no such download, or the token is another one.
	ErrLink = errors.New("backup: no such download")
	// ErrLinkEnded: the link expired or was used up; Delivery.Status says which.
	ErrLinkEnded = errors.New("backup: the download link has ended")
)

// Under is how the ids of all documents of a job begin.
func Under(job model.ID) string { return string(job) + "/" }

// EpochID names an epoch's document, and begins the ids of what belongs to it.
func EpochID(job model.ID, n int64) string { return fmt.Sprintf("%s/%08d", job, n) }

// CheckID refuses what could not be part of a longer id.
func CheckID(what string, id model.ID) error {
	if !id.Valid() {
		return fmt.Errorf("%s %q: %w: not an id of 24 hexadecimal digits", what, id, docstore.ErrInvalid)
	}
	return nil
}
