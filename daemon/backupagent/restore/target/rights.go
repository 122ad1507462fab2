package target

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The roles that together may do what a restore does, in the words of the mongo shell.
const roles = `["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"]`

// Create is the command that makes the user of restores.
func Create(user string) string {
	if user == "" {
		user = "heartwood-restore"
	}
	return fmt.Sprintf(`db.getSiblingDB("admin").createUser({user: %q, pwd: passwordPrompt(), roles: %s})`, user, roles)
}

// Grant gives a user that exists what it lacks.
func Grant(user string) string {
	return fmt.Sprintf(`db.getSiblingDB("admin").grantRolesToUser(%q, %s)`, user, roles)
}

// need is an action that a restore takes: on the cluster, or on every database.
type need struct {
	action  string
	cluster bool
	why     string
}

var needs = []need{
	{action: "find", why: "to see what is there"},
	{action: "insert", why: "to write documents"},
	{action: "update", why: "to keep its journal"},
	{action: "remove", why: "to replace system.js"},
	{action: "createCollection", why: "to make collections"},
	{action: "createIndex", why: "to build indexes"},
	{action: "dropCollection", why: "to remove what it staged, and what is in the way"},
	{action: "renameCollectionSameDB", why: "to put collections in place"},
	{action: "bypassDocumentValidation", why: "to write documents as they were"},
	{action: "listCollections", why: "to see what is in the way"},
	{action: "listDatabases", cluster: true, why: "to find what it staged"},
	{action: "getParameter", cluster: true, why: "to read the compatibility version"},
}

var needsOfUsers = []need{
	{action: "createUser", why: "to restore users"},
	{action: "createRole", why: "to restore roles"},
	{action: "grantRole", why: "to restore users and roles"},
}

type privilege struct {
	any, cluster bool
	everywhere   bool // every collection of every database that is no system collection
	actions      []string
}

func (p *privilege) covers(n need) bool {
	if !slices.Contains(p.actions, n.action) && !slices.Contains(p.actions, "anyAction") {
		return false
	}
	return p.any || n.cluster && p.cluster || !n.cluster && p.everywhere
}

// Rights are who the agent is in the target, and what it lacks.
type Rights struct {
	User    string
	Missing []string
}

// Rights asks who the agent is and what it may do. Without access control nothing is missing.
func (t *Target) Rights(ctx context.Context, users bool) (Rights, error) {
	raw, err := t.Do(ctx, Quick, "admin", bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}})
	if err != nil {
		return Rights{}, err
	}
	var r Rights
	signed, err := documents(raw, "authInfo", "authenticatedUsers")
	if err != nil {
		return r, err
	}
	for _, u := range signed {
		r.User = Text(u, "user")
	}
	if r.User == "" {
		// Nobody is signed in: either nobody needs to, or this is refused.
		_, err := t.Do(ctx, Quick, "admin", bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
		return r, err
	}
	if Lookup(raw, "authInfo", "authenticatedUserPrivileges").Type == 0 {
		return r, nil // this server does not tell; what is refused later says so itself
	}
	list, err := documents(raw, "authInfo", "authenticatedUserPrivileges")
	if err != nil {
		return r, err
	}
	var have []privilege
	for _, p := range list {
		x := privilege{any: truth(p, "resource", "anyResource"), cluster: truth(p, "resource", "cluster")}
		db, isDB := Lookup(p, "resource", "db").StringValueOK()
		coll, isColl := Lookup(p, "resource", "collection").StringValueOK()
		x.everywhere = isDB && isColl && db == "" && coll == ""
		if a, ok := Lookup(p, "actions").ArrayOK(); ok {
			values, _ := a.Values() // a list cut short only makes something seem missing
			for _, v := range values {
				s, _ := v.StringValueOK()
				x.actions = append(x.actions, s)
			}
		}
		have = append(have, x)
	}
	r.Missing = missing(have, users)
	return r, nil
}

// missing says which needs no privilege covers, one line each.
func missing(have []privilege, users bool) (out []string) {
	all := needs
	if users {
		all = append(all[:len(all):len(all)], needsOfUsers...)
	}
	for _, n := range all {
		if slices.ContainsFunc(have, func(p privilege) bool { return p.covers(n) }) {
			continue
		}
		where := "every database"
		if n.cluster {
			where = "the cluster"
		}
		out = append(out, fmt.Sprintf("%s on %s (%s)", n.action, where, n.why))
	}
	return out
}

// Check fails with what a person must do before anything can be written.
func (r *Rights) Check(set string, err error, configured bool) error {
	switch {
	case Denied(err) && !configured:
		return &Waiting{"the agent may not write to " + set + ": set restoreUsername and restorePassword in its configuration, with a user made on the primary: " + Create("")}
	case Denied(err):
		return &Waiting{fmt.Sprintf("%s refuses the agent's restoreUsername: %v. Make the user on the primary: %s", set, err, Create(r.User))}
	case err != nil:
		return err
	case len(r.Missing) > 0:
		return &Waiting{fmt.Sprintf("in %s the user %q lacks %s. On the primary run: %s", set, r.User, strings.Join(r.Missing, "; "), Grant(r.User))}
	}
	return nil
}
