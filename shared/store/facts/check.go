package facts

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Checks checks the area's collection for `heartwood store check`: the replies can be read, each says of when it is, and the
// host they are about exists.
func Checks() store.Checks {
	return store.Checks{collection: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *document) error {
		group, host, ok := strings.Cut(doc.ID, "/")
		if !ok || group == "" || host == "" || strings.Contains(host, "/") {
			return errors.New("its id is not group/host")
		}
		c.Refer("hosts", doc.ID)
		replies, err := wire.DecodeReplies(v.Replies)
		if err != nil {
			return fmt.Errorf("its replies cannot be read: %w", err)
		}
		dated := make([]string, len(v.At))
		for i, a := range v.At {
			dated[i] = a.Name
		}
		var undated string
		wire.Each(replies, func(name []byte, _ bson.RawValue) bool {
			if !slices.Contains(dated, string(name)) {
				undated = string(name)
			}
			return undated == ""
		})
		if undated != "" {
			return fmt.Errorf("it does not say of when %s is", undated)
		}
		return nil
	})}
}
