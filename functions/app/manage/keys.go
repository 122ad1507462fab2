package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

type agentKeysPage struct {
	settingsTab
	Keys   []model.AgentKey
	Names  map[model.ID]string // user names of those who made them
	NewKey *newKey
}

func (m *Manage) agentKeys(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return m.agentKeysPage(ctx, v, view.NewForm(nil), nil)
}

func (m *Manage) agentKeysPage(ctx context.Context, v *view.Visit, f *view.Form, made *newKey) (view.Answer, error) {
	d := agentKeysPage{settingsTab: newTab(v, "agent-keys", view.ManageKeys, f), NewKey: made}
	var err error
	if d.Keys, err = m.opt.Access.AgentKeys(ctx, v.Group.ID); err != nil {
		return view.Answer{}, fmt.Errorf("read the agent keys: %w", err)
	}
	if d.Names, err = m.userNames(ctx); err != nil {
		return view.Answer{}, err
	}
	return settingsAnswer(v, "Agent API keys", "settings-agent-keys.html", &d, f), nil
}

func (m *Manage) userNames(ctx context.Context) (map[model.ID]string, error) {
	users, err := m.opt.Access.Users(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	out := make(map[model.ID]string, len(users))
	for i := range users {
		out[users[i].ID] = users[i].Username
	}
	return out, nil
}

// describe reads the description of a new key.
func describe(v *view.Visit) (*view.Form, string) {
	f := view.NewForm(v.Request, "desc", "role")
	desc := strings.TrimSpace(f.Value("desc"))
	if desc == "" || len(desc) > 250 {
		f.Fail("desc", "Say in up to 250 characters what the key is for.")
	}
	return f, desc
}

func (m *Manage) createAgentKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ManageKeys); err != nil {
		return view.Answer{}, err
	}
	f, desc := describe(v)
	if !f.OK() {
		return m.agentKeysPage(ctx, v, f, nil)
	}
	made, err := m.makeAgentKey(ctx, v, desc)
	if err != nil {
		return view.Answer{}, err
	}
	if v.Request.PostFormValue("from") == "agents" {
		return m.agentsPage(ctx, v, made)
	}
	return m.agentKeysPage(ctx, v, view.NewForm(nil), made)
}

func (m *Manage) makeAgentKey(ctx context.Context, v *view.Visit, desc string) (*newKey, error) {
	text := auth.NewAgentKey()
	k := model.AgentKey{
		ID: model.NewID(), GroupID: v.Group.ID, Desc: desc, Digest: access.KeyDigest(text), Last4: access.Last4(text),
		Created: v.Now, CreatedBy: "USER", CreatedUserID: v.User.ID, CreatedIP: v.IP,
	}
	if err := m.opt.Access.CreateAgentKey(ctx, k); err != nil {
		return nil, fmt.Errorf("create the agent key: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventAgentKeyCreated, Text: "Agent API key " + desc + " created, ending in " + k.Last4})
	return &newKey{Desc: desc, Text: text}, nil
}

func (m *Manage) agentKeyForm(ctx context.Context, v *view.Visit) (confirmPage, model.AgentKey, error) {
	if err := v.Need(view.ManageKeys); err != nil {
		return confirmPage{}, model.AgentKey{}, err
	}
	keys, err := m.opt.Access.AgentKeys(ctx, v.Group.ID)
	if err != nil {
		return confirmPage{}, model.AgentKey{}, fmt.Errorf("read the agent keys: %w", err)
	}
	for _, k := range keys {
		if string(k.ID) == v.Request.PathValue("id") {
			return confirmPage{
				What: "agent API key", Name: k.Desc, Button: "Delete", Form: view.NewForm(nil), Back: v.GroupPath("/settings/agent-keys"),
				Action: v.GroupPath("/settings/agent-keys/" + string(k.ID) + "/delete"),
				Loses:  "Agents that use the key ending in " + k.Last4 + " are refused from now on: what they watch is not monitored until they get another key. It cannot be brought back.",
			}, k, nil
		}
	}
	return confirmPage{}, model.AgentKey{}, view.NotFound("agent API key")
}

func (m *Manage) confirmDeleteAgentKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := m.agentKeyForm(ctx, v)
	return confirmAnswerOr(d, err)
}

func (m *Manage) deleteAgentKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, k, err := m.agentKeyForm(ctx, v)
	if err != nil || !confirmed(v, &d) {
		return confirmAnswerOr(d, err)
	}
	if err := m.opt.Access.DeleteAgentKey(ctx, v.Group.ID, k.ID); err != nil {
		return view.Answer{}, fmt.Errorf("delete the agent key: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventAgentKeyDeleted, Text: "Agent API key " + k.Desc + " deleted, ending in " + k.Last4})
	return view.Redirect(v.GroupPath("/settings/agent-keys?done=key-deleted")), nil
}

type apiKeysPage struct {
	settingsTab
	Keys   []model.APIKey
	Roles  []roleChoice
	NewKey *newKey
	Base   string
}

type roleChoice struct {
	Role  model.Role
	Label string
	On    bool
}

// keyRoles are what a key made here may be: a role in this group, or owner of its organization.
func keyRoles(chosen string) []roleChoice {
	out := []roleChoice{
		{model.GroupReadOnly, "Read only in this group", false},
		{model.GroupMonitoringAdmin, "Monitoring Admin of this group", false},
		{model.GroupOwner, "Owner of this group", false},
		{model.OrgOwner, "Owner of the organization", false},
	}
	for i := range out {
		out[i].On = string(out[i].Role) == chosen
	}
	return out
}

func (m *Manage) apiKeys(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return m.apiKeysPage(ctx, v, view.NewForm(nil), nil)
}

func (m *Manage) apiKeysPage(ctx context.Context, v *view.Visit, f *view.Form, made *newKey) (view.Answer, error) {
	d := apiKeysPage{settingsTab: newTab(v, "api-keys", view.ManageAPIKeys, f), NewKey: made, Roles: keyRoles(f.Value("role")), Base: m.baseURL(v) + "/api/public/v1.0"}
	var err error
	if d.May {
		if d.Keys, err = m.opt.Access.APIKeys(ctx, v.Group.OrgID); err != nil {
			return view.Answer{}, fmt.Errorf("read the API keys: %w", err)
		}
	}
	return settingsAnswer(v, "API keys", "settings-api-keys.html", &d, f), nil
}

func (m *Manage) createAPIKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ManageAPIKeys); err != nil {
		return view.Answer{}, err
	}
	f, desc := describe(v)
	var grant model.Grant
	for _, r := range keyRoles(f.Value("role")) {
		if r.On {
			grant = model.Grant{Role: r.Role, GroupID: v.Group.ID}
			if r.Role == model.OrgOwner {
				grant = model.Grant{Role: r.Role, OrgID: v.Group.OrgID}
			}
		}
	}
	if grant.Role == "" {
		f.Fail("role", "Choose what the key may do.")
	}
	if !f.OK() {
		return m.apiKeysPage(ctx, v, f, nil)
	}
	for range 3 { // public keys are short: one taken already is possible, three in a row are not
		public, private := auth.NewAPIKey()
		err := m.opt.Access.CreateAPIKey(ctx, model.APIKey{
			ID: model.NewID(), OrgID: v.Group.OrgID, Desc: desc, PublicKey: public, HA1: model.Secret(auth.HA1(public, private)),
			MaskedTail: auth.MaskedTail(private), Grants: []model.Grant{grant}, Created: v.Now,
		})
		if errors.Is(err, docstore.ErrExists) {
			continue
		}
		if err != nil {
			return view.Answer{}, fmt.Errorf("create the API key: %w", err)
		}
		m.note(ctx, v, model.Event{Type: model.EventAPIKeyCreated, TargetKey: public, OrgID: v.Group.OrgID, Text: "Programmatic API key " + desc + " created"})
		return m.apiKeysPage(ctx, v, view.NewForm(nil), &newKey{Desc: desc, Text: private, Public: public})
	}
	return view.Answer{}, &view.Problem{Status: http.StatusServiceUnavailable, Title: "No free key was found", What: "Nothing was created.", Do: "Try again."}
}

func (m *Manage) apiKeyForm(ctx context.Context, v *view.Visit) (confirmPage, model.APIKey, error) {
	if err := v.Need(view.ManageAPIKeys); err != nil {
		return confirmPage{}, model.APIKey{}, err
	}
	keys, err := m.opt.Access.APIKeys(ctx, v.Group.OrgID)
	if err != nil {
		return confirmPage{}, model.APIKey{}, fmt.Errorf("read the API keys: %w", err)
	}
	for _, k := range keys {
		if string(k.ID) == v.Request.PathValue("id") {
			return confirmPage{
				What: "programmatic API key", Name: k.PublicKey, Button: "Delete", Form: view.NewForm(nil), Back: v.GroupPath("/settings/api-keys"),
				Action: v.GroupPath("/settings/api-keys/" + string(k.ID) + "/delete"),
				Loses:  "Scripts that use “" + k.Desc + "” are refused from now on. It cannot be brought back.",
			}, k, nil
		}
	}
	return confirmPage{}, model.APIKey{}, view.NotFound("API key")
}

func (m *Manage) confirmDeleteAPIKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := m.apiKeyForm(ctx, v)
	return confirmAnswerOr(d, err)
}

func (m *Manage) deleteAPIKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, k, err := m.apiKeyForm(ctx, v)
	if err != nil || !confirmed(v, &d) {
		return confirmAnswerOr(d, err)
	}
	if err := m.opt.Access.DeleteAPIKey(ctx, k.ID); err != nil {
		return view.Answer{}, fmt.Errorf("delete the API key: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventAPIKeyDeleted, TargetKey: k.PublicKey, OrgID: v.Group.OrgID, Text: "Programmatic API key " + k.Desc + " deleted"})
	return view.Redirect(v.GroupPath("/settings/api-keys?done=key-deleted")), nil
}
