package backup

import (
	"encoding/base64"
	"encoding/hex"

	"github.com/heartwood-db/heartwood/shared/store"
)

// errUnchanged ends a change without a write.
var errUnchanged = store.ErrUnchanged

// base64Of turns a hexadecimal digest into the form of the Repr-Digest header (RFC 9530).
func base64Of(digest string) string {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(raw)
}
