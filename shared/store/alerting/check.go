package alerting

import (
	"errors"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Checks checks the area's collections for `heartwood store check`. Events outlive what they are about, so they refer to
// nothing.
func Checks() store.Checks {
	return store.Checks{collEvents: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *eventDoc) error {
		if v.HostKey != string(v.HostID) || v.ClusterKey != string(v.ClusterID) {
			return errors.New("its index keys differ from its fields")
		}
		return store.CheckID(doc, scope(v.GroupID)+"/"+string(v.ID))
	})}
}
