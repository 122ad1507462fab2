package notify

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestExpand(t *testing.T) {
	grant := func(r model.Role, group, org model.ID) []model.Grant {
		return []model.Grant{{Role: r, GroupID: group, OrgID: org}}
	}
	p := People{
		GroupID: "g1", OrgID: "o1", Admin: []string{" admin@example.com ", ""},
		Users: []model.User{
			{Username: "bob", Email: "bob@example.com", Mobile: "0049 170 1", Grants: grant(model.GroupReadOnly, "g1", "")},
			{Username: "ann@example.com", Mobile: "+49 170 1234567", Grants: grant(model.GroupOwner, "g1", "")},
			{Username: "twin", Email: "ANN@example.com", Grants: grant(model.GroupOwner, "g1", "")},
			{Username: "cy", Grants: grant(model.GroupOwner, "g1", "")},
			{Username: "org", Email: "org@example.com", Grants: grant(model.OrgOwner, "", "o1")},
			{Username: "else", Email: "else@example.com", Grants: grant(model.GroupOwner, "g2", "")},
			{Username: "site", Email: "site@example.com", Grants: grant(model.GlobalOwner, "", "")},
		},
	}
	one := func(n model.Notification, username string) model.Notification {
		n.Fields = map[string]string{"username": username}
		return n
	}
	for _, c := range []struct {
		name    string
		n       model.Notification
		to      []Recipient
		missing []string
	}{
		{
			"everybody in the group, one address once", people(Group, true, false),
			[]Recipient{{Email, "ann@example.com"}, {Email, "bob@example.com"}},
			[]string{"cy has no email address"},
		},
		{
			"some roles, both ways", people(Group, true, true, model.GroupReadOnly, model.GroupOwner),
			[]Recipient{{Email, "ann@example.com"}, {SMS, "+491701234567"}, {Email, "bob@example.com"}},
			[]string{"bob has no mobile number with a country code", "cy has no email address", "cy has no mobile number with a country code", "twin has no mobile number with a country code"},
		},
		{"a role nobody has", people(Group, true, false, model.GroupBackupAdmin), nil, []string{"there are no users of the group who are GROUP_BACKUP_ADMIN"}},
		{"the organization", people(Org, true, false), []Recipient{{Email, "org@example.com"}}, nil},
		{"one user", one(people(User, true, false), "BOB"), []Recipient{{Email, "bob@example.com"}}, nil},
		{"a user who is gone", one(people(User, true, false), "zoe"), nil, []string{"there is no user zoe"}},
		{"operators", of(Admin), []Recipient{{Email, "admin@example.com"}}, nil},
		{"an address", of(Email, "emailAddress", "x@example.com"), []Recipient{{Email, "x@example.com"}}, nil},
		{"a number", of(SMS, "mobileNumber", "0049 (170) 123"), []Recipient{{SMS, "+49170123"}}, nil},
		{"a channel of its own", of(Slack, "channelName", "ops"), []Recipient{{Slack, "#ops"}}, nil},
		{"an alias", of("opsgenie", "opsGenieApiKey", "0123456789"), []Recipient{{OpsGenie, "integration with key ************6789"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, missing := Expand(c.n, p)
			if d := cmp.Diff(c.to, to); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.missing, missing); d != "" {
				t.Error(d)
			}
		})
	}
	if to, missing := Expand(of(Admin), People{}); len(to) != 0 || len(missing) != 1 {
		t.Errorf("without the operators' address: %v, %v", to, missing)
	}
	if to, missing := Expand(of("PIGEON"), p); len(to) != 0 || len(missing) != 1 {
		t.Errorf("an unknown channel: %v, %v", to, missing)
	}
	if to, _ := Expand(people(Group, true, false), People{Users: p.Users}); len(to) != 0 {
		t.Errorf("of the site, whose alerts have no group: %v", to)
	}
}
