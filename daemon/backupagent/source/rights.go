package source

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Privilege is one of a user's: what it may do to a resource.
type Privilege struct {
	Any, Cluster bool
	DB, Coll     string // both "" for every collection that is no system collection
	Actions      []string
}

func (p *Privilege) covers(n need) bool {
	if !slices.Contains(p.Actions, n.action) && !slices.Contains(p.Actions, "anyAction") {
		return false
	}
	switch {
	case p.Any:
		return true
	case n.cluster || p.Cluster:
		return n.cluster && p.Cluster
	}
	// A database's privilege, or that for every database, is not one for its system collections.
	named := p.Coll == n.coll || p.Coll == "" && !strings.HasPrefix(n.coll, "system.")
	// What holds for every database does not for local and config, unless it names the collection.
	every := p.DB == "" && (p.Coll != "" || n.db != "local" && n.db != "config")
	return named && (p.DB == n.db || every)
}

type need struct {
	action   string
	cluster  bool
	db, coll string
	why      string
}

// needs are what the agent must be able to do.
var needs = []need{
	{action: "find", why: "to read collections"},
	{action: "listCollections", why: "to find collections"},
	{action: "listIndexes", why: "to know indexes"},
	{action: "find", db: "local", coll: "oplog.rs", why: "to read the oplog"},
	{action: "find", db: "config", coll: "transactions", why: "to know open transactions"},
	{action: "find", db: "admin", coll: "system.users", why: "to read users"},
	{action: "find", db: "admin", coll: "system.roles", why: "to read roles"},
	{action: "find", db: "admin", coll: "system.version", why: "to read the compatibility version"},
	{action: "listDatabases", cluster: true, why: "to find databases"},
	{action: "useUUID", cluster: true, why: "to read a collection that is renamed meanwhile"},
	{action: "replSetGetConfig", cluster: true, why: "to know the set"},
	{action: "replSetGetStatus", cluster: true, why: "to know its members' state"},
	{action: "serverStatus", cluster: true, why: "to see rollbacks"},
}

// Missing says which needs of a backup no privilege covers, one line each.
func Missing(have []Privilege) (out []string) {
	for _, n := range needs {
		if slices.ContainsFunc(have, func(p Privilege) bool { return p.covers(n) }) {
			continue
		}
		where := n.db + "." + n.coll
		switch {
		case n.cluster:
			where = "the cluster"
		case n.db == "":
			where = "every database"
		}
		out = append(out, fmt.Sprintf("%s on %s (%s)", n.action, where, n.why))
	}
	return out
}

// Rights are who the agent is on a member, and what it lacks.
type Rights struct {
	User    string // "" without access control or without sign-in
	Missing []string
}

// Rights asks a member. Without access control nothing is missing.
func (m *Member) Rights(ctx context.Context) (Rights, error) {
	raw, err := m.Run(ctx, "admin", bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}})
	if err != nil {
		return Rights{}, err
	}
	var r Rights
	for _, u := range documents(lookup(raw, "authInfo", "authenticatedUsers")) {
		r.User = text(u, "user")
	}
	if r.User == "" {
		// Nobody is signed in: either nobody needs to, or the first command is refused.
		_, err := m.edge(ctx, 1)
		return r, err
	}
	var have []Privilege
	for _, p := range documents(lookup(raw, "authInfo", "authenticatedUserPrivileges")) {
		if lookup(p, "resource", "system_buckets").Type != 0 {
			continue // comes with what is needed of ordinary collections
		}
		x := Privilege{
			Any: truth(p, "resource", "anyResource"), Cluster: truth(p, "resource", "cluster"),
			DB: text(p, "resource", "db"), Coll: text(p, "resource", "collection"),
		}
		if a, ok := lookup(p, "actions").ArrayOK(); ok {
			values, _ := a.Values() // a list cut short only makes something seem missing
			for _, v := range values {
				s, _ := v.StringValueOK()
				x.Actions = append(x.Actions, s)
			}
		}
		have = append(have, x)
	}
	if lookup(raw, "authInfo", "authenticatedUserPrivileges").Type == 0 {
		return r, nil // this server does not tell; what is refused later says so itself
	}
	r.Missing = Missing(have)
	return r, nil
}

// Create and Grant are the commands that give the agent its user, in the words of the mongo shell.
func Create(user string) string {
	if user == "" {
		user = "heartwood-backup"
	}
	return fmt.Sprintf(`db.getSiblingDB("admin").createUser({user: %q, pwd: passwordPrompt(), roles: [%s]})`, user, roles)
}

// Grant gives a user that exists what it lacks.
func Grant(user string) string {
	return fmt.Sprintf(`db.getSiblingDB("admin").grantRolesToUser(%q, [%s])`, user, roles)
}

const roles = `{role: "backup", db: "admin"}, {role: "clusterMonitor", db: "admin"}`

// Check fails with what is missing and the command that mends it, unless the agent may do everything.
func (r *Rights) Check(address string) error {
	if len(r.Missing) == 0 {
		return nil
	}
	return opererr.New("read "+address, fmt.Errorf("user %q lacks %s", r.User, strings.Join(r.Missing, "; ")), "on the primary run: "+Grant(r.User))
}

// Hint is what to do about a refusal by a server, "" where nothing is known to help.
func Hint(err error, user string) string {
	switch {
	case err == nil:
		return ""
	case Is(err, codeMajorityOff):
		return "start the member without enableMajorityReadConcern: false: only what the majority has is backed up"
	case Is(err, codeUnauthorized) && strings.Contains(err.Error(), "directly to a shard"): // 8.0 and later
		if user == "" {
			user = "<the agent's user>"
		}
		return fmt.Sprintf(`the member is a shard: on its primary run: db.getSiblingDB("admin").grantRolesToUser(%q, [{role: "directShardOperations", db: "admin"}])`, user)
	case Denied(err) || NotSignedIn(err):
		return "make the user on the primary, and give it to the agent as globalAuthUsername and globalAuthPassword: " + Create(user)
	}
	return ""
}

// NotSignedIn reports whether a connection could not be made because the user was not let in.
func NotSignedIn(err error) bool { return err != nil && strings.Contains(err.Error(), "auth error") } // the driver has no type for it
