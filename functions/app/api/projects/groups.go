package projects

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func groupRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/groups", Do: h((*call).groups)},
		{Method: http.MethodPost, Path: "/groups", Status: http.StatusCreated, Do: h((*call).createGroup)},
		{Method: http.MethodGet, Path: "/orgs/{}/groups", Scope: rest.InOrg, Perm: auth.ViewOrg, Do: h((*call).orgGroups)},
		{Method: http.MethodGet, Path: "/groups/byName/{}", Do: h((*call).groupByName)},
		{Method: http.MethodGet, Path: "/groups/byAgentApiKey/{}", Do: h((*call).groupByAgentKey)},
		{Method: http.MethodGet, Path: "/groups/{}", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).oneGroup)},
		{Method: http.MethodPatch, Path: "/groups/{}", Scope: rest.InGroup, Perm: auth.EditGroup, Do: h((*call).patchGroup)},
		{Method: http.MethodDelete, Path: "/groups/{}", Scope: rest.InGroup, Perm: auth.DeleteGroup, Do: h((*call).deleteGroup)},
	}
}

// agentSilence is how long after its last call an agent no longer counts as active.
const agentSilence = 7 * time.Minute

// groupEntity renders a group with the counts of its hosts and agents.
func (c *call) groupEntity(ctx context.Context, g model.Group) (rest.Object, error) {
	hosts, err := c.Inventory.Hosts(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	clusters, err := c.Inventory.Clusters(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	agents, err := c.Inventory.Agents(ctx, g.ID)
	if err != nil {
		return nil, err
	}
	active, last := 0, time.Time{}
	for _, a := range agents {
		if c.Now().Sub(a.LastConf) < agentSilence {
			active++
		}
		if a.LastConf.After(last) {
			last = a.LastConf
		}
	}
	sets, shards := 0, 0
	for _, k := range clusters {
		if k.Type == model.ClusterReplicaSet {
			sets++
			if k.ShardName != "" {
				shards++
			}
		}
	}
	tags := []string{}
	if c.Who.Global() && g.Tags != nil {
		tags = g.Tags
	}
	id := string(g.ID)
	o := rest.Object{
		"id": g.ID, "orgId": g.OrgID, "name": g.Name, "tags": tags, "activeAgentCount": active, "hostCounts": hostCounts(hosts),
		"replicaSetCount": sets, "shardCount": shards, "publicApiEnabled": true, "ldapGroupMappings": []rest.Object{},
		"links": c.Self(c.Href("groups", id), rest.Rel("hosts", c.Href("groups", id, "hosts")), rest.Rel("users", c.Href("groups", id, "users")),
			rest.Rel("clusters", c.Href("groups", id, "clusters")), rest.Rel("agents", c.Href("groups", id, "agents"))),
	}
	rest.PutTime(o, "lastActiveAgent", last)
	return o, nil
}

// hostCounts counts by kind; kinds without hosts are 0, never absent.
func hostCounts(hosts []model.Host) map[string]int {
	counts := map[string]int{"arbiter": 0, "config": 0, "master": 0, "mongos": 0, "primary": 0, "secondary": 0, "slave": 0}
	kinds := map[model.ProcessType]string{
		model.TypeReplicaArbiter: "arbiter", model.TypeShardConfig: "config", model.TypeShardMongos: "mongos",
		model.TypeReplicaPrimary: "primary", model.TypeShardPrimary: "primary",
		model.TypeReplicaSecondary: "secondary", model.TypeShardSecondary: "secondary",
	}
	for i := range hosts {
		if kind := kinds[hosts[i].Type]; kind != "" && hosts[i].Visible() {
			counts[kind]++
		}
	}
	return counts
}

// groupList renders one page of groups; each costs some reads, so only those of the page are looked at.
func (c *call) groupList(groups []model.Group) (any, error) {
	var failed error
	answer, err := rest.Page(c.Call, groups, func(g model.Group) rest.Object {
		o, err := c.groupEntity(c.R.Context(), g)
		failed = errors.Join(failed, err)
		return o
	})
	return answer, errors.Join(err, failed)
}

func (c *call) groups() (any, error) {
	all, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	tags := slices.DeleteFunc(c.R.URL.Query()["tag"], func(s string) bool { return s == "" })
	all = slices.DeleteFunc(all, func(g model.Group) bool {
		if !c.Who.InGroup(g.ID, g.OrgID) {
			return true
		}
		return slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(g.Tags, t) })
	})
	return c.groupList(all)
}

func (c *call) oneGroup() (any, error) { return c.groupEntity(c.R.Context(), c.Group) }

func (c *call) groupByName() (any, error) {
	name := c.Args[0]
	all, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(g model.Group) bool { return g.Name != name || !c.Who.InGroup(g.ID, g.OrgID) })
	switch len(all) {
	case 0:
		return nil, rest.Fail(http.StatusNotFound, "GROUP_NAME_NOT_FOUND", "No group with name %s exists.", name)
	case 1:
		return c.groupEntity(c.R.Context(), all[0])
	}
	return nil, rest.Fail(http.StatusConflict, "MULTIPLE_GROUPS", "Multiple groups exist with the name %s.", name)
}

func (c *call) groupByAgentKey() (any, error) {
	missing := &rest.Error{Status: http.StatusNotFound, Code: "GROUP_API_KEY_NOT_FOUND", Detail: "No group with the specified agent API key exists."}
	id, err := c.Access.GroupByAgentKey(c.R.Context(), c.Args[0])
	if rest.IsNotFound(err) || err == nil && id == "" {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	g, err := c.Inventory.Group(c.R.Context(), id)
	if rest.IsNotFound(err) || err == nil && !c.Who.InGroup(g.ID, g.OrgID) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	return c.groupEntity(c.R.Context(), g)
}

// groupBody is the body of POST; what the answer has besides is accepted.
type groupBody struct {
	rest.Ignored
	ID                        string         `json:"id"`
	OrgID                     string         `json:"orgId"`
	Name                      string         `json:"name"`
	Tags                      *[]string      `json:"tags"`
	WithDefaultAlertsSettings *bool          `json:"withDefaultAlertsSettings"`
	LdapGroupMappings         []rest.Object  `json:"ldapGroupMappings"`
	ActiveAgentCount          int            `json:"activeAgentCount"`
	AgentAPIKey               string         `json:"agentApiKey"`
	HostCounts                map[string]int `json:"hostCounts"`
	LastActiveAgent           string         `json:"lastActiveAgent"`
	PublicAPIEnabled          bool           `json:"publicApiEnabled"`
	ReplicaSetCount           int            `json:"replicaSetCount"`
	ShardCount                int            `json:"shardCount"`
}

// Bounds of a group's name and tags.
const (
	maxGroupName = 64
	maxTags      = 10
	maxTag       = 32
)

func checkGroup(name string, tags []string) error {
	if utf8.RuneCountInString(name) > maxGroupName || strings.ContainsAny(name, "\r\n\t/") {
		return rest.Fail(http.StatusBadRequest, "INVALID_GROUP_NAME", "The group name %s is not valid: at most 64 characters, no slash.", name)
	}
	if len(tags) > maxTags {
		return rest.Fail(http.StatusBadRequest, "TOO_MANY_GROUP_TOKENS", "A group has at most %d tags.", maxTags)
	}
	for _, t := range tags {
		if t == "" || len(t) > maxTag || strings.Trim(t, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return rest.Fail(http.StatusBadRequest, "INVALID_GROUP_TOKEN", "The tag %s is not valid: letters, digits, dot, dash, underscore.", t)
		}
	}
	return nil
}

func (c *call) createGroup() (any, error) {
	var in groupBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	in.Name = strings.TrimSpace(in.Name)
	if err := rest.Require("name", in.Name); err != nil {
		return nil, err
	}
	var tags []string
	if in.Tags != nil {
		tags = *in.Tags
	}
	if err := checkGroup(in.Name, tags); err != nil {
		return nil, err
	}
	ctx := c.R.Context()
	owner, err := c.groupOwner(ctx)
	if err != nil {
		return nil, err
	}
	org, made, err := c.orgForGroup(ctx, in)
	if err != nil {
		return nil, err
	}
	g := model.Group{ID: model.NewID(), OrgID: org, Name: in.Name, Created: c.Now().UTC(), Tags: tags, Settings: model.DefaultGroupSettings()}
	if err = c.Inventory.CreateGroup(ctx, g); err != nil {
		if made && errors.Is(err, store.ErrExists) { // nobody has seen it
			err = errors.Join(err, c.Inventory.DeleteOrg(context.WithoutCancel(ctx), org))
		}
		return nil, groupExists(err, in.Name)
	}
	if err := c.grantGroup(ctx, g, owner); err != nil {
		return nil, err
	}
	_, key, err := c.makeAgentKey(ctx, g.ID, "Generated with the group", "PROVISIONING")
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventGroupCreated, GroupID: g.ID, Text: "Group " + g.Name + " was created."})
	o, err := c.groupEntity(ctx, g)
	if err == nil {
		o["agentApiKey"] = key
	}
	return o, err
}

// groupExists tells a name that is taken from what else may happen.
func groupExists(err error, name string) error {
	if errors.Is(err, store.ErrExists) {
		return rest.Fail(http.StatusConflict, "GROUP_ALREADY_EXISTS", "A group with name %s already exists.", name)
	}
	return err
}

// groupOwner reads the user that the query wants to own the new group, "" for none.
func (c *call) groupOwner(ctx context.Context) (model.ID, error) {
	id := model.ID(c.R.URL.Query().Get("projectOwnerId"))
	if id == "" {
		return "", nil
	}
	if !id.Valid() {
		return "", rest.Fail(http.StatusNotFound, "INVALID_USER_ID", "An invalid user ID %s was specified.", id)
	}
	_, err := c.Access.User(ctx, id)
	if rest.IsNotFound(err) {
		return "", rest.Fail(http.StatusNotFound, "USER_NOT_FOUND", "No user with ID %s exists.", id)
	}
	return id, err
}

// grantGroup makes the named user owner of a new group, and the key that made it unless it may do everything there already: one
// that may only create groups could not go on with its own.
func (c *call) grantGroup(ctx context.Context, g model.Group, owner model.ID) error {
	grant := model.Grant{Role: model.GroupOwner, GroupID: g.ID}
	if owner != "" {
		err := c.Access.UpdateUser(ctx, owner, func(u *model.User) error {
			u.Grants = append(u.Grants, grant)
			return nil
		})
		if err != nil && !rest.IsNotFound(err) {
			return err
		}
	}
	if c.Who.Key == nil || c.Who.Can(auth.DeleteGroup, g.ID, g.OrgID) {
		return nil
	}
	c.Who.Grants = append(slices.Clone(c.Who.Grants), grant)
	return c.Access.UpdateAPIKey(ctx, c.Who.Key.ID, func(k *model.APIKey) error {
		k.Grants = append(k.Grants, grant)
		return nil
	})
}

// orgForGroup finds the organization of a new group: the one named, else the key's own, else a new one of the group's name, as
// scripts from before organizations rely on; made says that it is new.
func (c *call) orgForGroup(ctx context.Context, in groupBody) (org model.ID, made bool, err error) {
	id := model.ID(in.OrgID)
	if id == "" && c.Who.Key != nil {
		id = c.Who.Key.OrgID
	}
	if id == "" {
		if !c.Who.Can(auth.AdminServer, "", "") {
			return "", false, rest.Fail(http.StatusUnauthorized, "API_KEY_CANNOT_CREATE_GROUP", "This API key may not create groups.")
		}
		o := model.Org{ID: model.NewID(), Name: in.Name, Created: c.Now().UTC()}
		return o.ID, true, c.Inventory.CreateOrg(ctx, o)
	}
	if !id.Valid() {
		return "", false, rest.Fail(http.StatusNotFound, "INVALID_ORG_ID", "An invalid organization ID %s was specified.", id)
	}
	if _, err := c.Inventory.Org(ctx, id); rest.IsNotFound(err) {
		return "", false, rest.Fail(http.StatusNotFound, "ORG_NOT_FOUND", "No organization with ID %s exists.", id)
	} else if err != nil {
		return "", false, err
	}
	if !c.Who.Can(auth.CreateGroup, "", id) {
		return "", false, rest.Fail(http.StatusUnauthorized, "API_KEY_CANNOT_CREATE_GROUP", "This API key may not create groups in organization %s.", id)
	}
	return id, false, nil
}

func (c *call) patchGroup() (any, error) {
	entity, err := c.groupEntity(c.R.Context(), c.Group)
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		Name              string        `json:"name"`
		Tags              *[]string     `json:"tags"`
		LdapGroupMappings []rest.Object `json:"ldapGroupMappings"`
	}
	if err := c.DecodeOver(&in, entity, "agentApiKey", "lastActiveAgent"); err != nil {
		return nil, err
	}
	if in.Tags != nil && !c.Who.Can(auth.AdminServer, "", "") {
		// Who may not set tags does not see them either and sends none back, or has them from elsewhere: neither is a change.
		if len(*in.Tags) > 0 && !slices.Equal(*in.Tags, c.Group.Tags) {
			return nil, rest.ErrUnauthorized
		}
		in.Tags = nil
	}
	name, tags := strings.TrimSpace(in.Name), c.Group.Tags
	if name == "" {
		name = c.Group.Name
	}
	if in.Tags != nil {
		tags = *in.Tags
	}
	if err := checkGroup(name, tags); err != nil {
		return nil, err
	}
	err = c.Inventory.UpdateGroup(c.R.Context(), c.Group.ID, func(g *model.Group) error {
		g.Name, g.Tags = name, tags
		c.Group = *g
		return nil
	})
	if err != nil {
		return nil, groupExists(err, name)
	}
	c.Event(model.Event{Type: model.EventGroupUpdated, GroupID: c.Group.ID, Text: "The name or the tags of group " + name + " were changed."})
	return c.oneGroup()
}

func (c *call) deleteGroup() (any, error) {
	ctx := c.R.Context()
	all, err := c.Backups.List(ctx, c.Group.ID)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Config.Status != model.BackupInactive {
			return nil, rest.Fail(http.StatusConflict, "CANNOT_CLOSE_GROUP_ACTIVE_BACKUP", "The group still has backups: stop and terminate that of %s first.", all[i].Cluster.Name)
		}
	}
	if err := c.Inventory.DeleteGroup(ctx, c.Group.ID); err != nil && !rest.IsNotFound(err) {
		return nil, err
	}
	if err := c.Access.ForgetGroup(ctx, c.Group.ID); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventGroupDeleted, GroupID: c.Group.ID, Text: "Group " + c.Group.Name + " was deleted."})
	return nil, nil
}

func (c *call) groupsOf(org model.ID) ([]model.Group, error) {
	all, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(g model.Group) bool { return g.OrgID != org }), nil
}

func (c *call) orgGroups() (any, error) {
	all, err := c.groupsOf(c.Org.ID)
	if err != nil {
		return nil, err
	}
	return c.groupList(rest.NamedLike(all, c.R.URL.Query().Get("name"), func(g model.Group) string { return g.Name }))
}
