package deployment

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func hostRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/groups/{}/hosts", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).hosts)},
		{Method: http.MethodPost, Path: "/groups/{}/hosts", Scope: rest.InGroup, Perm: auth.EditHosts, Status: http.StatusCreated, Do: h((*call).createHost)},
		{Method: http.MethodGet, Path: "/groups/{}/hosts/byName/{}", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).hostByName)},
		{Method: http.MethodGet, Path: "/groups/{}/hosts/{}", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).oneHost)},
		{Method: http.MethodPatch, Path: "/groups/{}/hosts/{}", Scope: rest.InGroup, Perm: auth.EditHosts, Do: h((*call).patchHost)},
		{Method: http.MethodDelete, Path: "/groups/{}/hosts/{}", Scope: rest.InGroup, Perm: auth.EditHosts, Do: h((*call).deleteHost)},
		{Method: http.MethodGet, Path: "/groups/{}/hosts/{}/lastPing", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).lastPing)},
		{Method: http.MethodGet, Path: "/groups/{}/lastPing", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).lastPings)},
	}
}

// hostEntity renders a host with its newest status; st is nil before the first ping.
func (c *call) hostEntity(h model.Host, st *model.HostStatus, relations ...rest.Link) rest.Object {
	o := rest.Object{
		"id": h.ID, "groupId": h.GroupID, "hostname": h.Hostname, "port": h.Port, "typeName": h.Type, "created": rest.ISOTime(h.Created),
		"alertsEnabled": h.AlertsEnabled, "deactivated": h.Deactivated, "hidden": h.Hidden, "hiddenSecondary": h.HiddenSecondary,
		"hostEnabled": h.Enabled, "hasStartupWarnings": len(h.StartupWarnings) > 0, "journalingEnabled": h.Journaling,
		"logsEnabled": h.LogsEnabled, "profilerEnabled": h.ProfilerEnabled, "sslEnabled": h.TLS, "lowUlimit": h.LowUlimit,
		"muninEnabled": false, "aliases": orNone(h.Aliases), "authMechanismName": cmp.Or(h.AuthMechanism, "NONE"),
		"lastDataSizeBytes": h.LastDataBytes, "lastIndexSizeBytes": h.LastIndexBytes, "uptimeMsec": int64(0),
		"secondaryDelaySecs": h.DelaySecs, "slaveDelaySec": h.DelaySecs,
		"links": c.Self(c.Href("groups", string(h.GroupID), "hosts", string(h.ID)), relations...),
	}
	rest.Put(o, "ipAddress", h.IP)
	rest.Put(o, "version", h.Version)
	rest.Put(o, "replicaSetName", h.ReplicaSet)
	rest.Put(o, "shardName", h.ShardName)
	rest.Put(o, "clusterId", h.ClusterID)
	rest.Put(o, "username", h.Credentials.Username)
	rest.PutTime(o, "lastRestart", h.LastRestart)
	if h.NumCores > 0 || h.MemSizeMB > 0 {
		o["systemInfo"] = rest.Object{"memSizeMB": h.MemSizeMB, "numCores": h.NumCores}
	}
	if st != nil {
		o["uptimeMsec"] = st.UptimeMS
		rest.PutTime(o, "lastPing", st.LastPing)
		if h.ReplicaSet != "" && st.Reach == model.ReachDown {
			o["replicaStateName"] = model.StateDown.String()
		} else if h.ReplicaSet != "" {
			o["replicaStateName"] = st.State.String()
		}
	}
	return o
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (c *call) hosts() (any, error) {
	ctx := c.R.Context()
	all, err := c.Inventory.Hosts(ctx, c.Group.ID)
	if err != nil {
		return nil, err
	}
	within, err := c.clusterFilter()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(h model.Host) bool { return !h.Visible() || !within(h.ClusterID) })
	slices.SortFunc(all, func(a, b model.Host) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.Port, b.Port))
	})
	statuses, err := c.Inventory.Statuses(ctx, c.Group.ID)
	if err != nil {
		return nil, err
	}
	byHost := make(map[model.HostID]*model.HostStatus, len(statuses))
	for i := range statuses {
		byHost[statuses[i].HostID] = &statuses[i]
	}
	return rest.Page(c.Call, all, func(h model.Host) rest.Object { return c.hostEntity(h, byHost[h.ID]) })
}

// clusterFilter tells which clusters' hosts the query asks for: a sharded cluster stands for its parts too.
func (c *call) clusterFilter() (func(model.ID) bool, error) {
	id := model.ID(c.R.URL.Query().Get("clusterId"))
	if id == "" {
		return func(model.ID) bool { return true }, nil
	}
	if !id.Valid() {
		return nil, rest.Fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", id)
	}
	clusters, err := c.Inventory.Clusters(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	within := map[model.ID]bool{}
	for _, k := range clusters {
		if k.ID == id || k.ParentID == id {
			within[k.ID] = true
		}
	}
	if !within[id] {
		return nil, rest.Fail(http.StatusNotFound, "CLUSTER_NOT_FOUND", "No cluster with ID %s exists in group %s.", id, c.Group.ID)
	}
	return func(k model.ID) bool { return within[k] }, nil
}

// host reads the host that is the path's second variable.
func (c *call) host() (model.Host, error) {
	id := model.HostID(c.Args[1])
	missing := rest.Fail(http.StatusNotFound, "HOST_NOT_FOUND", "No host with ID %s exists in group %s.", id, c.Group.ID)
	if !id.Valid() {
		return model.Host{}, missing
	}
	h, err := c.Inventory.Host(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) || err == nil && h.Deleted {
		return h, missing
	}
	return h, err
}

func (c *call) oneHost() (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	return c.fullHost(h)
}

// fullHost renders a host as the answer itself: with its status, its credentials' user name and its relations.
func (c *call) fullHost(h model.Host) (rest.Object, error) {
	ctx := c.R.Context()
	st, err := c.Inventory.Status(ctx, c.Group.ID, h.ID)
	status := &st
	if rest.IsNotFound(err) {
		status = nil
	} else if err != nil {
		return nil, err
	}
	if h.HasCredentials {
		if h.Credentials, err = c.Inventory.HostCredentials(ctx, c.Group.ID, h.ID); err != nil && !rest.IsNotFound(err) {
			return nil, err
		}
	}
	g, id := string(c.Group.ID), string(h.ID)
	relations := []rest.Link{
		rest.Rel("group", c.Href("groups", g)), rest.Rel("disks", c.Href("groups", g, "hosts", id, "disks")),
		rest.Rel("databases", c.Href("groups", g, "hosts", id, "databases")), rest.Rel("measurements", c.Href("groups", g, "hosts", id, "measurements")),
	}
	if h.ClusterID != "" {
		relations = append(relations, rest.Rel("cluster", c.Href("groups", g, "clusters", string(h.ClusterID))))
	}
	return c.hostEntity(h, status, relations...), nil
}

func (c *call) hostByName() (any, error) {
	missing := rest.Fail(http.StatusNotFound, "HOSTNAME_AND_PORT_NOT_FOUND", "No host with hostname and port %s exists in group %s.", c.Args[1], c.Group.ID)
	if !strings.Contains(c.Args[1], ":") {
		return nil, missing
	}
	hostname, port, err := model.SplitAddress(c.Args[1])
	if err != nil {
		return nil, missing
	}
	h, err := c.Inventory.FindHost(c.R.Context(), c.Group.ID, model.Address(hostname, port))
	if rest.IsNotFound(err) || err == nil && h.Deleted {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	return c.fullHost(h)
}

// hostBody is the body of POST and PATCH; what the answer has besides is accepted when it is echoed.
type hostBody struct {
	rest.Ignored
	ID                string `json:"id"`
	GroupID           string `json:"groupId"`
	Hostname          string `json:"hostname"`
	Port              int    `json:"port"`
	Username          string `json:"username"`
	Password          string `json:"password"`
	AuthMechanismName string `json:"authMechanismName"`
	SSLEnabled        *bool  `json:"sslEnabled"`
	LogsEnabled       *bool  `json:"logsEnabled"`
	ProfilerEnabled   *bool  `json:"profilerEnabled"`
	AlertsEnabled     *bool  `json:"alertsEnabled"`
	MuninEnabled      *bool  `json:"muninEnabled"`
	MuninPort         int    `json:"muninPort"`
}

// mechanisms maps the spellings of authMechanismName to ours.
var mechanisms = map[string]string{
	"NONE": "NONE", "MONGODB_CR": "MONGODB_CR", "SCRAM-SHA-1": "SCRAM-SHA-1", "SCRAM_SHA_1": "SCRAM-SHA-1", "SCRAM-SHA-256": "SCRAM-SHA-256",
	"SCRAM_SHA_256": "SCRAM-SHA-256", "MONGODB_X509": "MONGODB_X509", "MONGODB-X509": "MONGODB_X509", "GSSAPI": "GSSAPI", "PLAIN": "PLAIN",
}

// credentials reads the body's credentials against what the host has. change is false when the body says nothing about them, or
// nothing new: the password is never read out, so a client that sends back what it read sends none.
func (in *hostBody) credentials(h model.Host) (creds model.Credentials, change bool, err error) {
	if in.AuthMechanismName == "" && in.Username == "" && in.Password == "" {
		return creds, false, nil
	}
	if h.HasCredentials && in.Username == "" && in.Password != "" && in.AuthMechanismName != "NONE" {
		in.Username = h.Credentials.Username // a new password of the same user
	}
	mech := cmp.Or(in.AuthMechanismName, h.AuthMechanism)
	if mech == "" || mech == "NONE" && in.AuthMechanismName == "" {
		mech = "SCRAM-SHA-256"
	}
	known, ok := mechanisms[mech]
	if !ok {
		return creds, false, rest.Fail(http.StatusBadRequest, "INVALID_AUTH_MECHANISM", "An invalid auth mechanism was specified: %s.", mech)
	}
	tls := h.TLS
	if in.SSLEnabled != nil {
		tls = *in.SSLEnabled
	}
	creds = model.Credentials{Username: in.Username, Password: model.Secret(in.Password), Mechanism: known}
	switch known {
	case "NONE":
		if in.Username != "" || in.Password != "" {
			return creds, false, rest.Fail(http.StatusBadRequest, "CANNOT_SET_CREDENTIALS_FOR_AUTH_MECHANISM", "Credentials cannot be set for auth mechanism %s.", known)
		}
	case "MONGODB_X509", "GSSAPI":
		if in.Password != "" {
			return creds, false, rest.Fail(http.StatusBadRequest, "CANNOT_SET_PASSWORD_FOR_AUTH_MECHANISM", "A password cannot be set for auth mechanism %s.", known)
		}
		if known == "MONGODB_X509" && !tls {
			return creds, false, rest.Fail(http.StatusBadRequest, "AUTH_MECHANISM_REQUIRES_SSL", "Auth mechanism %s requires SSL.", known)
		}
	default:
		if in.Password == "" && h.HasCredentials && known == h.AuthMechanism && (in.Username == "" || in.Username == h.Credentials.Username) {
			return creds, false, nil
		}
		if in.Username == "" {
			return creds, false, rest.Fail(http.StatusBadRequest, "MISSING_CREDENTIALS_FOR_AUTH_MECHANISM", "Username and password are required for auth mechanism %s.", known)
		}
		if in.Password == "" {
			return creds, false, rest.Fail(http.StatusBadRequest, "MISSING_PASSWORD", "A username was specified without a password.")
		}
	}
	return creds, true, nil
}

// apply sets what the body says about a host, credentials apart.
func (in *hostBody) apply(h *model.Host) {
	for to, from := range map[*bool]*bool{
		&h.TLS: in.SSLEnabled, &h.LogsEnabled: in.LogsEnabled, &h.ProfilerEnabled: in.ProfilerEnabled, &h.AlertsEnabled: in.AlertsEnabled,
	} {
		if from != nil {
			*to = *from
		}
	}
	if m := mechanisms[in.AuthMechanismName]; m != "" {
		h.AuthMechanism = m
	} else if in.Username != "" && (h.AuthMechanism == "" || h.AuthMechanism == "NONE") {
		h.AuthMechanism = "SCRAM-SHA-256"
	}
}

func checkHostname(s string) error {
	bad := len(s) > 255 || strings.ContainsAny(s, " /@?#") || strings.Contains(s, "..")
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(strings.Trim(s, "[]"))
		bad = bad || err != nil || !a.Is6()
	}
	if bad {
		return rest.Fail(http.StatusBadRequest, "INVALID_HOSTNAME", "An invalid hostname was specified: %s.", s)
	}
	return nil
}

// readOnlyOfHost are the fields that a host has only when something is known of them, and that nobody sets.
func readOnlyOfHost() []string {
	return []string{"ipAddress", "version", "replicaSetName", "shardName", "clusterId", "lastRestart", "lastPing", "replicaStateName", "systemInfo"}
}

func (c *call) createHost() (any, error) {
	var in hostBody
	blank := model.Host{Type: model.TypeNoData, Enabled: true, AlertsEnabled: true, Created: c.Now()}
	if err := c.DecodeOver(&in, c.hostEntity(blank, nil), readOnlyOfHost()...); err != nil {
		return nil, err
	}
	if err := rest.Require("hostname", strings.TrimSpace(in.Hostname), "port", in.Port); err != nil {
		return nil, err
	}
	in.Hostname = strings.ToLower(strings.TrimSpace(in.Hostname))
	if err := checkHostname(in.Hostname); err != nil {
		return nil, err
	}
	if in.Port < 1 || in.Port > 65535 {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_HOST_PORT", "An invalid port was specified: %s.", strconv.Itoa(in.Port))
	}
	in.Hostname = strings.Trim(in.Hostname, "[]")
	h := model.Host{
		ID: model.NewHostID(c.Group.ID, in.Hostname, in.Port), GroupID: c.Group.ID, Hostname: in.Hostname, Port: in.Port, Created: c.Now().UTC(),
		Type: model.TypeNoData, MemberID: -1, Enabled: true, AlertsEnabled: true, Seed: true,
	}
	creds, haveCreds, err := in.credentials(h)
	if err != nil {
		return nil, err
	}
	in.apply(&h)
	if h, err = c.addHost(h); err != nil {
		return nil, err
	}
	if haveCreds && creds.Mechanism != "NONE" {
		if err := c.Inventory.SetHostCredentials(c.R.Context(), c.Group.ID, h.ID, creds); err != nil {
			return nil, err
		}
		h.HasCredentials = true
	}
	c.Event(model.Event{Type: model.EventHostAdded, GroupID: c.Group.ID, HostID: h.ID, HostName: h.Address(), Text: "Host " + h.Address() + " was added."})
	return c.fullHost(h)
}

// addHost creates a host, or brings back one that was removed: asking for it by hand is how a removal is undone. One that is
// monitored already keeps its history and takes the new settings.
func (c *call) addHost(h model.Host) (model.Host, error) {
	ctx := c.R.Context()
	have, err := c.Inventory.FindHost(ctx, c.Group.ID, h.Address())
	if rest.IsNotFound(err) {
		err = c.Inventory.CreateHost(ctx, h)
		if !errors.Is(err, store.ErrExists) {
			return h, err
		}
		have, err = c.Inventory.Host(ctx, c.Group.ID, h.ID)
	}
	if err != nil {
		return h, err
	}
	err = c.Inventory.UpdateHost(ctx, c.Group.ID, have.ID, func(old *model.Host) error {
		old.Deleted, old.Hidden, old.Deactivated, old.Enabled, old.Seed, old.DuplicateOf = false, false, false, true, true, ""
		old.TLS, old.LogsEnabled, old.ProfilerEnabled, old.AlertsEnabled = h.TLS, h.LogsEnabled, h.ProfilerEnabled, h.AlertsEnabled
		old.AuthMechanism = cmp.Or(h.AuthMechanism, old.AuthMechanism)
		have = *old
		return nil
	})
	return have, err
}

func (c *call) patchHost() (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	entity, err := c.fullHost(h)
	if err != nil {
		return nil, err
	}
	var in hostBody
	if err := c.DecodeOver(&in, entity, readOnlyOfHost()...); err != nil {
		return nil, err
	}
	err = errors.Join(rest.ReadOnly("hostname", strings.ToLower(in.Hostname), h.Hostname), rest.ReadOnly("port", in.Port, h.Port),
		rest.ReadOnly("id", in.ID, string(h.ID)), rest.ReadOnly("groupId", in.GroupID, string(h.GroupID)))
	if err != nil {
		return nil, err
	}
	ctx := c.R.Context()
	if h.HasCredentials {
		if h.Credentials, err = c.Inventory.HostCredentials(ctx, c.Group.ID, h.ID); err != nil && !rest.IsNotFound(err) {
			return nil, err
		}
	}
	creds, change, err := in.credentials(h)
	if err != nil {
		return nil, err
	}
	err = c.Inventory.UpdateHost(ctx, c.Group.ID, h.ID, func(old *model.Host) error {
		in.apply(old)
		h = *old
		return nil
	})
	if err != nil {
		return nil, err
	}
	if change {
		if creds.Mechanism == "NONE" {
			creds = model.Credentials{}
		}
		if err := c.Inventory.SetHostCredentials(ctx, c.Group.ID, h.ID, creds); err != nil {
			return nil, err
		}
		h.HasCredentials = creds != model.Credentials{}
	}
	c.Event(model.Event{Type: model.EventHostUpdated, GroupID: c.Group.ID, HostID: h.ID, HostName: h.Address(), Text: "The settings of " + h.Address() + " were changed."})
	return c.fullHost(h)
}

func (c *call) deleteHost() (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	// Kept and marked, so that discovery does not bring it back.
	err = c.Inventory.UpdateHost(c.R.Context(), c.Group.ID, h.ID, func(old *model.Host) error {
		old.Deleted, old.Enabled = true, false
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventHostDeleted, GroupID: c.Group.ID, HostID: h.ID, HostName: h.Address(), Text: "Host " + h.Address() + " was removed."})
	return nil, nil
}

// lastPing answers the newest raw replies of a host.
func (c *call) lastPing() (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	o, err := c.pingEntity(h)
	if rest.IsNotFound(err) {
		return nil, rest.Fail(http.StatusNotFound, "HOST_LAST_PING_NOT_FOUND", "No last ping of host %s exists.", h.ID)
	}
	return o, err
}

// lastPings answers the newest raw replies of each host of the group, a page at a time.
func (c *call) lastPings() (any, error) {
	ctx := c.R.Context()
	hosts, err := c.Inventory.Hosts(ctx, c.Group.ID)
	if err != nil {
		return nil, err
	}
	statuses, err := c.Inventory.Statuses(ctx, c.Group.ID)
	if err != nil {
		return nil, err
	}
	answered := make(map[model.HostID]bool, len(statuses))
	for i := range statuses {
		answered[statuses[i].HostID] = !statuses[i].LastPing.IsZero()
	}
	hosts = slices.DeleteFunc(hosts, func(h model.Host) bool { return !h.Visible() || !answered[h.ID] })
	if len(hosts) == 0 {
		return nil, rest.Fail(http.StatusNotFound, "LAST_PING_NOT_FOUND", "No last ping exists in group %s.", c.Group.ID)
	}
	var failed error
	page, err := rest.Page(c.Call, hosts, func(h model.Host) rest.Object {
		o, err := c.pingEntity(h)
		if err != nil && !rest.IsNotFound(err) {
			failed = errors.Join(failed, err)
		}
		return o
	})
	return page, errors.Join(err, failed)
}

func (c *call) pingEntity(h model.Host) (rest.Object, error) {
	p, err := c.Inventory.LastPing(c.R.Context(), c.Group.ID, h.ID)
	if err != nil {
		return rest.Object{"hostId": h.ID, "groupId": h.GroupID}, err
	}
	raw, err := wire.DecodeReplies(p.Replies)
	if err != nil {
		return nil, err
	}
	text, err := bson.MarshalExtJSON(raw, false, false)
	if err != nil {
		return nil, err
	}
	return rest.Object{
		"hostId": h.ID, "groupId": h.GroupID, "lastPing": p.At.UTC().Format(time.RFC3339Nano), "ping": json.RawMessage(text),
		"links": c.Self(c.Href("groups", string(c.Group.ID), "hosts", string(h.ID), "lastPing")),
	}, nil
}
