package access

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Checks checks the area's collections for `heartwood store check`. A session may outlive its user for a moment, so it
// refers to nothing.
func Checks() store.Checks {
	return store.Checks{
		collUsers: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *userDoc) error {
			if v.Slot != firstSlot && v.Slot != string(v.ID) {
				return fmt.Errorf("it has the slot %q", v.Slot)
			}
			return store.CheckID(doc, string(v.ID))
		}),
		collSessions: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *model.Session) error { return store.CheckID(doc, v.Key) }),
		collAPIKeys: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *apiKeyDoc) error {
			if err := c.Opens(v.Sealed, ha1Context(v.ID)); err != nil {
				return fmt.Errorf("its secret does not open: %w", err)
			}
			return store.CheckID(doc, string(v.ID))
		}),
		collLists: store.CheckAs[accessListDoc](nil),
		collAgentKeys: store.CheckAs(func(_ *store.Checking, doc docstore.Doc, v *agentKeyDoc) error {
			if v.DigestHex != hex.EncodeToString(v.Digest) {
				return errors.New("its two digests differ")
			}
			return store.CheckID(doc, string(v.GroupID)+"/"+string(v.ID))
		}),
	}
}
