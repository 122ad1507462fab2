package backup

import (
	"fmt"
	"maps"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/store/backup/resources"
	"github.com/heartwood-db/heartwood/shared/store/backup/restores"
)

// Checks checks the area's collections for `heartwood store check`.
func Checks() store.Checks {
	all := store.Checks{
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
		collSnapshots: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Snapshot) error {
			return store.CheckID(doc, snapshotID(v.Job, v.ID))
		}),
		collContents: store.CheckAs(func(*store.Checking, docstore.Doc, *contentsDoc) error { return nil }),
		collSweeps:   store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *Sweep) error { return store.CheckID(doc, v.StoreID) }),
	}
	for _, part := range []store.Checks{history.Checks(), restores.Checks(), resources.Checks()} {
		maps.Copy(all, part)
	}
	return all
}
