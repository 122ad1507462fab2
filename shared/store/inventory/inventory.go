// Package inventory is the store's area of what is monitored: organizations, groups, hosts with their status and last
// ping, clusters, agents, and change rows. One file owns one collection.
//
// Ids are built so that ranges of them serve lists without an index: everything of a group begins with "<group>/".
package inventory

import (
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

const (
	collOrgs      = "orgs"
	collGroups    = "groups"
	collHosts     = "hosts"
	collAddresses = "addresses"
	collStatuses  = "statuses"
	collLastPings = "lastpings"
	collClusters  = "clusters"
	collAgents    = "agents"
	collActive    = "activeagents"
	collChanges   = "changes"
)

// perHost are the collections with one document a host, which goes when the host goes. The last belongs to another area,
// shared/store/facts.
func perHost() []string { return []string{collStatuses, collLastPings, "hostfacts"} }

// Inventory reads and writes what is monitored. It is safe for concurrent use and keeps nothing in memory.
type Inventory struct{ s *store.Store }

// New returns the inventory of an opened store.
func New(s *store.Store) *Inventory { return &Inventory{s: s} }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	return []docstore.Collection{
		{Name: collOrgs},
		{Name: collGroups, Indexes: []docstore.Index{{
			Name: "name", Unique: true, Fields: []docstore.Field{{Name: "nameKey", Kind: docstore.String}},
		}}},
		{Name: collHosts},
		{Name: collAddresses},
		{Name: collStatuses},
		{Name: collLastPings},
		{Name: collClusters},
		{Name: collAgents},
		{Name: collActive},
		{Name: collChanges, Indexes: []docstore.Index{{
			Name: "group", Fields: []docstore.Field{{Name: "groupId", Kind: docstore.String}, {Name: "at", Kind: docstore.Time}},
		}}},
	}
}

// scanPage is the page size of whole-group scans: big enough that ten thousand hosts take a few calls, small enough
// that a page stays in single megabytes.
const scanPage = 5_000

// under is the query for everything of a group in a collection whose ids begin with the group's.
func under(collection string, group model.ID) docstore.Query {
	from, to := store.Under(string(group) + "/")
	return docstore.Query{Collection: collection, From: from, To: to, Limit: scanPage}
}

func hostKey(group model.ID, id model.HostID) string { return string(group) + "/" + string(id) }

// checkPart refuses what would reach into another document's range when it becomes part of an id.
func checkPart(what, part string) error {
	if part == "" || len(part) > 256 || strings.ContainsAny(part, "/\x00") {
		return fmt.Errorf("%s %q cannot be part of a document id: it must have 1 to 256 characters and no slash", what, part)
	}
	return nil
}

func checkKey(group model.ID, what, part string) error {
	if err := checkPart("group", string(group)); err != nil {
		return err
	}
	return checkPart(what, part)
}
