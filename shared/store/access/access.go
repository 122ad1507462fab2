// Package access is the store's area of who may do what: users, sessions, programmatic API keys with their access
// lists, and agent keys. It keeps and finds them; what a role permits and how passwords and digests are checked is
// shared/auth. One file owns one collection.
package access

import (
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
)

const (
	collUsers     = "users"
	collSessions  = "sessions"
	collAPIKeys   = "apikeys"
	collLists     = "accesslists"
	collAgentKeys = "agentkeys"
)

// Access reads and writes people and keys. It is safe for concurrent use and keeps nothing in memory.
type Access struct{ s *store.Store }

// New returns the access area of an opened store.
func New(s *store.Store) *Access { return &Access{s: s} }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	text := func(name string) []docstore.Field { return []docstore.Field{{Name: name, Kind: docstore.String}} }
	return []docstore.Collection{
		{Name: collUsers, Indexes: []docstore.Index{
			{Name: "username", Fields: text("username"), Unique: true},
			{Name: "slot", Fields: text("slot"), Unique: true},
		}},
		{Name: collSessions, Indexes: []docstore.Index{
			{Name: "user", Fields: text("userId")},
			{Name: "expires", Fields: []docstore.Field{{Name: "expires", Kind: docstore.Time}}},
		}},
		{Name: collAPIKeys, Indexes: []docstore.Index{
			{Name: "public", Fields: text("publicKey"), Unique: true},
			{Name: "org", Fields: text("owner")},
		}},
		{Name: collLists},
		{Name: collAgentKeys, Indexes: []docstore.Index{{Name: "digest", Fields: text("digestHex")}}},
	}
}

// checkPart refuses what would reach into another document's range when it becomes part of an id.
func checkPart(what, part string) error {
	if part == "" || len(part) > 256 || strings.ContainsAny(part, "/\x00") {
		return fmt.Errorf("%s %q cannot be part of a document id: it must have 1 to 256 characters and no slash", what, part)
	}
	return nil
}
