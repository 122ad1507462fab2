package inventory

import (
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Checks checks the area's collections for `heartwood store check`. Addresses may lead to hosts that are gone, so they
// refer to nothing.
func Checks() store.Checks {
	return store.Checks{
		collOrgs: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *model.Org) error { return store.CheckID(doc, string(v.ID)) }),
		collGroups: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *groupDoc) error {
			if v.OrgID != "" {
				c.Refer(collOrgs, string(v.OrgID))
			}
			return store.CheckID(doc, string(v.ID))
		}),
		collHosts: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *hostDoc) error {
			c.Refer(collGroups, string(v.GroupID))
			for _, a := range hostAddresses(&v.Host) {
				c.Refer(collAddresses, addressPrefix(v.GroupID, a)+string(v.ID))
			}
			if v.Sealed != nil {
				if err := c.Opens(v.Sealed, credentialContext(v.ID)); err != nil {
					return fmt.Errorf("its credentials do not open: %w", err)
				}
			}
			if (v.Sealed != nil) != v.HasCredentials {
				return fmt.Errorf("it says that it has credentials: %v, but it has: %v", v.HasCredentials, v.Sealed != nil)
			}
			return store.CheckID(doc, hostKey(v.GroupID, v.ID))
		}),
		collAddresses: func(_ *store.Checking, doc docstore.Doc) error {
			if strings.Count(doc.ID, "/") != 2 {
				return fmt.Errorf("its id is not group/address/host")
			}
			return nil
		},
		collStatuses: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *model.HostStatus) error {
			c.Refer(collHosts, hostKey(v.GroupID, v.HostID))
			return store.CheckID(doc, hostKey(v.GroupID, v.HostID))
		}),
		collLastPings: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *model.LastPing) error {
			c.Refer(collHosts, hostKey(v.GroupID, v.HostID))
			return store.CheckID(doc, hostKey(v.GroupID, v.HostID))
		}),
		collClusters: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *model.Cluster) error {
			c.Refer(collGroups, string(v.GroupID))
			return store.CheckID(doc, clusterKey(v.GroupID, v.ID))
		}),
		collAgents: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *model.Agent) error {
			c.Refer(collGroups, string(v.GroupID))
			return store.CheckID(doc, agentKey(v.GroupID, v.ID))
		}),
		collActive: store.CheckAs[activeDoc](nil),
		collChanges: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *model.Change) error {
			if want := changePrefix(v.GroupID, v.HostID, v.At); !strings.HasPrefix(doc.ID, want) {
				return fmt.Errorf("its id should begin with %q", want)
			}
			return nil
		}),
	}
}
