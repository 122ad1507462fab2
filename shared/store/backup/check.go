package backup

import (
	"errors"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Checks checks the area's collections for `heartwood store check`.
func Checks() store.Checks {
	return store.Checks{
		collConfigs: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *Config) error {
			if v.Password != nil {
				if err := c.Opens(v.Password, passwordContext(v.ClusterID)); err != nil {
					return fmt.Errorf("its password does not open: %w", err)
				}
			}
			return store.CheckID(doc, string(v.ClusterID))
		}),
		collJobs: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *Job) error {
			c.Refer(collConfigs, string(v.ID))
			return store.CheckID(doc, string(v.ID))
		}),
		collEpochs: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Epoch) error {
			if v.Head.Job != string(v.Job) || v.Head.Epoch != v.Number {
				return fmt.Errorf("its head is of epoch %d of job %s", v.Head.Epoch, v.Head.Job)
			}
			if v.Last != nil && v.Last.Slice.Sum() != v.Head.Sum {
				return errors.New("its head is not its last slice")
			}
			return store.CheckID(doc, epochID(v.Job, v.Number))
		}),
		collCollections: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *Collection) error {
			epoch, rest := splitEpoch(doc.ID)
			c.Refer(collEpochs, epoch)
			want := "c/" + v.UUID.String()
			if v.View != nil {
				want = "v/" + v.NS
			}
			if rest != want {
				return fmt.Errorf("its id should end with %q", want)
			}
			return nil
		}),
		collSeeds: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *SeedSlice) error {
			epoch, rest := splitEpoch(doc.ID)
			c.Refer(collEpochs, epoch)
			if want := fmt.Sprintf("/%06d/%010d", v.Attempt, v.Seq); !strings.HasSuffix(rest, want) {
				return fmt.Errorf("its id should end with %q", want)
			}
			return nil
		}),
		collSlices: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *OplogSlice) error {
			return store.CheckID(doc, v.Slice.ID())
		}),
		collSnapshots: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Snapshot) error {
			return store.CheckID(doc, snapshotID(v.Job, v.ID))
		}),
		collContents: store.CheckAs(func(*store.Checking, docstore.Doc, *contentsDoc) error { return nil }),
		collRestores: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *restoreDoc) error {
			if v.Delivery.Sealed != nil {
				if err := c.Opens(v.Delivery.Sealed, tokenContext(v.ID)); err != nil {
					return fmt.Errorf("its link does not open: %w", err)
				}
			}
			was := *v
			if v.index(); was.Open != v.Open || was.Kept != v.Kept {
				return errors.New("its state and what it is found by differ")
			}
			return store.CheckID(doc, v.ID)
		}),
		collDaemons: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Daemon) error { return store.CheckID(doc, v.ID) }),
		collStores: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *storeDoc) error {
			if err := c.Opens(v.Sealed, storeContext(v.ID)); err != nil {
				return fmt.Errorf("its secrets do not open: %w", err)
			}
			return store.CheckID(doc, v.ID)
		}),
		collSweeps: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Sweep) error { return store.CheckID(doc, v.StoreID) }),
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
