package alerting

import (
	"errors"
	"maps"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
	"github.com/heartwood-db/heartwood/shared/store/alerting/outbox"
)

// Checks checks the area's collections for `heartwood store check`. Events and alerts outlive what they are about, so they
// refer to nothing.
func Checks() store.Checks {
	checks := store.Checks{
		collEvents: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *eventDoc) error {
			if v.HostKey != string(v.HostID) || v.ClusterKey != string(v.ClusterID) {
				return errors.New("its index keys differ from its fields")
			}
			return store.CheckID(doc, entry.Scope(v.GroupID)+"/"+string(v.ID))
		}),
		collConfigs: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *configDoc) error {
			var left error
			if v.Gone && (len(v.Notifications) > 0 || len(v.Former) == 0) || len(v.Former) == 0 != v.FormerAt.IsZero() {
				left = errors.New("what is left of it does not fit together")
			}
			return errors.Join(left, entry.CheckSecrets(c, doc, v.Sealed, collConfigs), store.CheckID(doc, entry.Scope(v.GroupID)+"/"+string(v.ID)))
		}),
		collAlerts: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *alertDoc) error {
			want := newAlertDoc(v.Alert, v.Order)
			if want.GroupKey != v.GroupKey || want.HostKey != v.HostKey || want.LiveKey != v.LiveKey || !want.AckKey.Equal(v.AckKey) || !want.EndKey.Equal(v.EndKey) {
				return errors.New("its index keys differ from its fields")
			}
			return store.CheckID(doc, v.docID())
		}),
		collSlots: store.CheckAs(checkSlot),
		collWindows: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *model.MaintenanceWindow) error {
			return store.CheckID(doc, entry.Scope(v.GroupID)+"/"+string(v.ID))
		}),
		collSilences: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *model.Silence) error {
			return store.CheckID(doc, entry.Scope(v.GroupID)+"/"+string(v.ID))
		}),
		collWatch: store.CheckAs[model.AlertWatch](nil),
		collIntegrations: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *integrationDoc) error {
			return errors.Join(entry.CheckSecrets(c, doc, v.Sealed, collIntegrations), store.CheckID(doc, entry.Scope(v.GroupID)+"/"+v.Channel))
		}),
	}
	maps.Copy(checks, outbox.Checks())
	return checks
}
