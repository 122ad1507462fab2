package auth

import (
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

const (
	g1, g2 = model.ID("g1"), model.ID("g2")
	o1, o2 = model.ID("o1"), model.ID("o2")
)

// The matrix of who may do what in a group, row by row: x may, space may not.
func TestGroupMatrix(t *testing.T) {
	columns := []model.Grant{
		{Role: model.GroupReadOnly, GroupID: g1},
		{Role: model.GroupMonitoringAdmin, GroupID: g1},
		{Role: model.GroupBackupAdmin, GroupID: g1},
		{Role: model.GroupUserAdmin, GroupID: g1},
		{Role: model.GroupOwner, GroupID: g1},
		{Role: model.GlobalBackupAdmin},
		{Role: model.GlobalOwner},
		{Role: model.OrgOwner, OrgID: o1}, // beyond the matrix: what the other roles include
		{Role: model.GlobalReadOnly},
		{Role: model.GlobalMonitoringAdmin},
		{Role: model.GlobalUserAdmin},
		{Role: model.OrgReadOnly, OrgID: o1},
		{Role: model.OrgMember, OrgID: o1},
		{Role: model.OrgGroupCreator, OrgID: o1},
	}
	rows := []struct {
		name  string
		perm  Permission
		group model.ID
		may   string
	}{
		{"see charts, hosts, events", View, g1, "xxxxxxxxxxxx  "},
		{"edit alert configurations, acknowledge", EditAlerts, g1, " x  x xx x    "},
		{"add or remove hosts", EditHosts, g1, " x  x xx x    "},
		{"start and stop backup, restore", OperateBackup, g1, "  x xxxx      "},
		{"delete snapshots, terminate", DeleteSnapshots, g1, "  x xxxx      "},
		{"see agent keys", SeeAgentKeys, g1, "xxxxxxxxxxx   "},
		{"make agent keys", ManageAgentKeys, g1, "    x xx      "},
		{"invite users, change roles", ManageUsers, g1, "   xx xx  x   "},
		{"change the group", EditGroup, g1, "    x xx      "},
		{"delete the group", DeleteGroup, g1, "    x xx      "},
		{"see the organization", ViewOrg, "", "     xxxxxxxxx"},
		{"add a group", CreateGroup, "", "      xx     x"},
		{"manage the organization", ManageOrg, "", "      xx      "},
		{"daemons, stores, job moves, grooms", AdminBackup, "", "     xx       "},
		{"site statistics", AdminView, "", "     xx xxx   "},
		{"all accounts", AdminUsers, "", "      x   x   "},
		{"component versions", AdminMonitoring, "", "      x  x    "},
		{"server settings, system alerts", AdminServer, "", "      x       "},
	}
	if len(rows) != int(lastPermission) {
		t.Fatalf("%d rows for %d permissions", len(rows), lastPermission)
	}
	for _, r := range rows {
		for i, g := range columns {
			p := Principal{Grants: []model.Grant{g}}
			if got, want := p.Can(r.perm, r.group, o1), r.may[i] == 'x'; got != want {
				t.Errorf("%s: %s may: %v, want %v", r.name, g.Role, got, want)
			}
			// In another group and organization only global roles count.
			global := g.GroupID == "" && g.OrgID == ""
			other := r.group
			if other != "" {
				other = g2
			}
			if got, want := p.Can(r.perm, other, o2), global && r.may[i] == 'x'; got != want {
				t.Errorf("%s elsewhere: %s may: %v, want %v", r.name, g.Role, got, want)
			}
		}
	}
}

func TestGrantsThatMakeNoSensePermitNothing(t *testing.T) {
	for _, g := range []model.Grant{
		{},
		{Role: "NO_SUCH_ROLE"},
		{Role: "NO_SUCH_ROLE", GroupID: g1},
		{Role: model.GroupOwner},
		{Role: model.OrgOwner},
		{Role: model.GlobalOwner, GroupID: g1},
		{Role: model.GlobalOwner, OrgID: o1},
		{Role: model.GroupOwner, OrgID: o1},
		{Role: model.OrgOwner, GroupID: g1},
		{Role: model.OrgOwner, GroupID: g1, OrgID: o1},
	} {
		p := Principal{Grants: []model.Grant{g}}
		for perm := View; perm <= lastPermission; perm++ {
			if p.Can(perm, g1, o1) {
				t.Errorf("%+v permits %d", g, perm)
			}
		}
	}
	owner := Principal{Grants: []model.Grant{{Role: model.GlobalOwner}}}
	for _, perm := range []Permission{0, -1, lastPermission + 1} {
		if owner.Can(perm, g1, o1) {
			t.Errorf("permission %d exists", perm)
		}
	}
	if (Principal{Grants: []model.Grant{{Role: model.GroupOwner, GroupID: g1}}}).Can(View, "", "") {
		t.Error("a group's owner may view no group at all")
	}
}

func TestPrincipals(t *testing.T) {
	u := &model.User{Username: "ann", Grants: []model.Grant{{Role: model.GroupReadOnly, GroupID: g1}, {Role: model.OrgMember, OrgID: o1}}}
	k := &model.APIKey{PublicKey: "abcdefgh", Grants: []model.Grant{{Role: model.GlobalReadOnly}}}
	p, q := UserPrincipal(u), KeyPrincipal(k)
	if p.Name() != "ann" || q.Name() != "abcdefgh" || (Principal{}).Name() != "" {
		t.Error("names")
	}
	if p.Global() || !q.Global() {
		t.Error("global")
	}
	if !p.InGroup(g1, o1) || p.InGroup(g2, o1) || !q.InGroup(g2, o2) {
		t.Error("in group")
	}
	if !p.InOrg(o1) || p.InOrg(o2) || !q.InOrg(o2) {
		t.Error("in organization")
	}
}
