package auth

import (
	"slices"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Permission is one kind of action. The rows are those of the permission matrix, with the few the console needs beside.
type Permission int

// The permissions. Of a group:
const (
	View             Permission = iota + 1 // charts, hosts, events, settings, people
	EditAlerts                             // alert configurations, acknowledge
	EditHosts                              // add, edit, remove hosts; their credentials
	OperateBackup                          // start and stop backup, restore, download links
	DeleteSnapshots                        // delete snapshots, terminate backup
	SeeAgentKeys                           // the (masked) agent keys
	ManageAgentKeys                        // make and delete agent keys
	ManageUsers                            // invite users, change roles
	EditGroup                              // rename, settings
	DeleteGroup                            //
	ViewOrg                                // of an organization: see it, its groups and keys
	CreateGroup                            // add a group to it
	ManageOrg                              // rename, API keys, people
	AdminBackup                            // of the site: daemons, stores, job moves, grooms
	AdminView                              // see the site's statistics, all users and groups
	AdminUsers                             // all accounts of the site
	AdminMonitoring                        // component versions, monitoring of the site itself
	AdminServer                            // server settings, system alerts
	lastPermission   = AdminServer
	firstOrg         = ViewOrg
	firstSite        = AdminBackup
	everybodyInGroup = View
)

// groupRoles says what a role permits in its group. Owner is not in it: an owner may do everything of a group.
var groupRoles = map[model.Role][]Permission{
	model.GroupReadOnly:        {View, SeeAgentKeys},
	model.GroupMonitoringAdmin: {View, SeeAgentKeys, EditAlerts, EditHosts},
	model.GroupBackupAdmin:     {View, SeeAgentKeys, OperateBackup, DeleteSnapshots},
	model.GroupUserAdmin:       {View, SeeAgentKeys, ManageUsers},
	model.GroupAutomationAdmin: {View, SeeAgentKeys},
	model.GroupDataAccessAdmin: {View, SeeAgentKeys},
	model.GroupDataAccessWrite: {View, SeeAgentKeys},
	model.GroupDataAccessRead:  {View, SeeAgentKeys},
}

// globalRoles says which role of every group a global role includes, and what it permits of the site.
var globalRoles = map[model.Role]struct {
	group model.Role
	site  []Permission
}{
	model.GlobalReadOnly:        {model.GroupReadOnly, []Permission{AdminView}},
	model.GlobalMonitoringAdmin: {model.GroupMonitoringAdmin, []Permission{AdminView, AdminMonitoring}},
	model.GlobalBackupAdmin:     {model.GroupBackupAdmin, []Permission{AdminView, AdminBackup}},
	model.GlobalUserAdmin:       {model.GroupUserAdmin, []Permission{AdminView, AdminUsers}},
	model.GlobalAutomationAdmin: {model.GroupAutomationAdmin, []Permission{AdminView}},
}

// Principal is who acts: a person or an API key, with what was granted to them.
type Principal struct {
	User   *model.User   // nil when a key acts
	Key    *model.APIKey // nil when a person acts
	Grants []model.Grant
}

// UserPrincipal is a person with their own grants.
func UserPrincipal(u *model.User) Principal { return Principal{User: u, Grants: u.Grants} }

// KeyPrincipal is an API key with its own grants.
func KeyPrincipal(k *model.APIKey) Principal { return Principal{Key: k, Grants: k.Grants} }

// Name is what the audit calls the principal.
func (p Principal) Name() string {
	switch {
	case p.User != nil:
		return p.User.Username
	case p.Key != nil:
		return p.Key.PublicKey
	}
	return ""
}

// Can says whether the principal may do something: in a group (whose organization the caller names, so that an
// organization's owner is known as owner of its groups), in an organization (group ""), or of the site (both "").
func (p Principal) Can(perm Permission, group, org model.ID) bool {
	if perm < 1 || perm > lastPermission {
		return false
	}
	return slices.ContainsFunc(p.Grants, func(g model.Grant) bool { return grants(g, perm, group, org) })
}

func grants(g model.Grant, perm Permission, group, org model.ID) bool {
	if global := g.GroupID == "" && g.OrgID == ""; global {
		if g.Role == model.GlobalOwner {
			return true
		}
		r, ok := globalRoles[g.Role]
		switch {
		case !ok:
			return false
		case perm >= firstSite:
			return slices.Contains(r.site, perm)
		case perm >= firstOrg:
			return perm == ViewOrg
		}
		return group != "" && slices.Contains(groupRoles[r.group], perm)
	}
	if perm >= firstSite {
		return false
	}
	if g.OrgID != "" {
		if g.GroupID != "" || g.OrgID != org {
			return false
		}
		switch g.Role {
		case model.OrgOwner:
			return true // and owner of each of its groups
		case model.OrgReadOnly:
			return perm == ViewOrg || perm == everybodyInGroup
		case model.OrgGroupCreator:
			return perm == ViewOrg || perm == CreateGroup
		case model.OrgMember:
			return perm == ViewOrg
		}
		return false
	}
	if group == "" || g.GroupID != group || perm >= firstOrg {
		return false
	}
	return g.Role == model.GroupOwner || slices.Contains(groupRoles[g.Role], perm)
}

// InGroup says whether the principal may see a group at all.
func (p Principal) InGroup(group, org model.ID) bool { return p.Can(View, group, org) }

// InOrg says whether the principal may see an organization: by a role in it or on the whole site.
func (p Principal) InOrg(org model.ID) bool { return p.Can(ViewOrg, "", org) }

// Global says whether the principal has a role on the whole site.
func (p Principal) Global() bool {
	return slices.ContainsFunc(p.Grants, func(g model.Grant) bool {
		_, known := globalRoles[g.Role]
		return g.GroupID == "" && g.OrgID == "" && (known || g.Role == model.GlobalOwner)
	})
}
