package history

import (
	"errors"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// Checks checks the part's collections.
func Checks() store.Checks {
	return store.Checks{
		CollEpochs: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Epoch) error {
			if v.Head.Job != string(v.Job) || v.Head.Epoch != v.Number {
				return fmt.Errorf("its head is of epoch %d of job %s", v.Head.Epoch, v.Head.Job)
			}
			if v.Last != nil && v.Last.Slice.Sum() != v.Head.Sum {
				return errors.New("its head is not its last slice")
			}
			return store.CheckID(doc, entry.EpochID(v.Job, v.Number))
		}),
		CollCollections: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *Collection) error {
			epoch, rest := splitEpoch(doc.ID)
			c.Refer(CollEpochs, epoch)
			want := "c/" + v.UUID.String()
			if v.View != nil {
				want = "v/" + v.NS
			}
			if rest != want {
				return fmt.Errorf("its id should end with %q", want)
			}
			return nil
		}),
		CollSeeds: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *SeedSlice) error {
			epoch, rest := splitEpoch(doc.ID)
			c.Refer(CollEpochs, epoch)
			if want := fmt.Sprintf("/%06d/%010d", v.Attempt, v.Seq); !strings.HasSuffix(rest, want) {
				return fmt.Errorf("its id should end with %q", want)
			}
			return nil
		}),
		CollSlices: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *OplogSlice) error {
			return store.CheckID(doc, v.Slice.ID())
		}),
	}
}

// splitEpoch cuts "<job>/<epoch>/<rest>" behind the epoch.
func splitEpoch(id string) (epoch, rest string) {
	i := strings.IndexByte(id, '/')
	if i < 0 {
		return id, ""
	}
	j := strings.IndexByte(id[i+1:], '/')
	if j < 0 {
		return id, ""
	}
	return id[:i+1+j], id[i+1+j+1:]
}
