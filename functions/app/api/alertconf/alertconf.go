// Package alertconf is the Public API's resource of alert configurations, of groups and of the site. What goes beyond the
// documented API is trying a configuration on history, a note, and the warnings of a valid one.
package alertconf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Alerting is what the resource reads and changes of configurations. An empty group means the site.
type Alerting interface {
	CreateConfig(ctx context.Context, c model.AlertConfig) error
	UpdateConfig(ctx context.Context, group, id model.ID, change func(*model.AlertConfig) error) error
	DeleteConfig(ctx context.Context, group, id model.ID) error
	Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error)
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
}

// Inventory knows what configurations are about.
type Inventory interface {
	Groups(ctx context.Context) ([]model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
}

// Access knows whom notifications name.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Sender sends test messages.
type Sender interface {
	Send(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error)
	Missing(channel string) string
}

// Trial tries configurations on history.
type Trial interface {
	Try(ctx context.Context, group model.Group, c model.AlertConfig, days int) (trial.Trial, error)
}

// Options are what the resource needs from outside.
type Options struct {
	Alerting  Alerting
	Inventory Inventory
	Access    Access
	Sender    Sender // nil: this server sends nothing
	Trial     Trial
	Admin     []string // mailbox of the site's operators
}

// call is one request. Global says that it is about the site's configurations.
type call struct {
	*rest.Call
	Options
	global bool
}

// Routes are the routes of the resource.
func Routes(o Options) []rest.Route {
	out := []rest.Route{{Method: http.MethodGet, Path: "/alertConfigs/matchers/fieldNames", Do: fieldNames}}
	for _, at := range []struct {
		base        string
		scope       func(*rest.Call, auth.Permission) error
		read, write auth.Permission
		global      bool
	}{
		{"/groups/{}/alertConfigs", rest.InGroup, auth.View, auth.EditAlerts, false},
		{"/globalAlertConfigs", rest.OnSite, auth.AdminView, auth.AdminMonitoring, true},
	} {
		route := func(method, path string, perm auth.Permission, do func(*call) (any, error)) {
			out = append(out, rest.Route{Method: method, Path: at.base + path, Scope: at.scope, Perm: perm, Do: func(c *rest.Call) (any, error) {
				return do(&call{Call: c, Options: o, global: at.global})
			}})
		}
		if !at.global {
			route(http.MethodPost, "/try", at.write, (*call).try)
		}
		route(http.MethodGet, "", at.read, (*call).list)
		route(http.MethodPost, "", at.write, (*call).create)
		route(http.MethodGet, "/{}", at.read, (*call).one)
		route(http.MethodPut, "/{}", at.write, (*call).replace)
		route(http.MethodPatch, "/{}", at.write, (*call).enable)
		route(http.MethodDelete, "/{}", at.write, (*call).remove)
		route(http.MethodPost, "/{}/{}/test", at.write, (*call).test)
	}
	return out
}

func fieldNames(*rest.Call) (any, error) {
	return []string{"TYPE_NAME", "HOSTNAME", "PORT", "HOSTNAME_AND_PORT", "REPLICA_SET_NAME", "SHARD_NAME", "CLUSTER_NAME"}, nil
}

// args are the path's variables after the group's id.
func (c *call) args() []string {
	if c.global {
		return c.Args
	}
	return c.Args[1:]
}

func (c *call) href(segments ...string) string {
	if c.global {
		return c.Href(append([]string{"globalAlertConfigs"}, segments...)...)
	}
	return c.Href(append([]string{"groups", string(c.Group.ID), "alertConfigs"}, segments...)...)
}

func (c *call) entity(cfg *model.AlertConfig, relations bool) rest.Object {
	o := Entity(cfg)
	id := string(cfg.ID)
	o["links"] = c.Self(c.href(id))
	if relations {
		o["links"] = c.Self(c.href(id), rest.Rel("alerts", c.href(id, "alerts")))
	}
	return o
}

func (c *call) list() (any, error) {
	all, err := c.Alerting.Configs(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b model.AlertConfig) int { return a.Created.Compare(b.Created) })
	return rest.Page(c.Call, all, func(cfg model.AlertConfig) rest.Object { return c.entity(&cfg, false) })
}

// stored is the configuration that the path names.
func (c *call) stored() (model.AlertConfig, error) {
	id := model.ID(c.args()[0])
	if !id.Valid() {
		return model.AlertConfig{}, rest.Fail(http.StatusNotFound, "INVALID_ALERT_CONFIG_ID", "An invalid alert configuration ID %s was specified.", id)
	}
	cfg, err := c.Alerting.Config(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		return cfg, c.missing(id)
	}
	return cfg, err
}

func (c *call) missing(id model.ID) error {
	if c.global {
		return rest.Fail(http.StatusNotFound, "GLOBAL_ALERT_CONFIG_NOT_FOUND", "No global alert configuration with ID %s exists.", id)
	}
	return rest.Fail(http.StatusNotFound, "ALERT_CONFIG_NOT_FOUND", "No alert configuration with ID %s exists in group %s.", id, c.Group.ID)
}

func (c *call) one() (any, error) {
	cfg, err := c.stored()
	if err != nil {
		return nil, err
	}
	return c.whole(&cfg)
}

// whole is the answer to a question about one configuration: with what is odd about it.
func (c *call) whole(cfg *model.AlertConfig) (any, error) {
	o := c.entity(cfg, true)
	warnings := []string{}
	if !c.global {
		hosts, err := c.Inventory.Hosts(c.R.Context(), c.Group.ID)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, rule.Warnings(cfg, hosts)...)
	}
	if c.Sender != nil {
		for i := range cfg.Notifications {
			for _, channel := range notify.Ways(cfg.Notifications[i]) {
				if why := c.Sender.Missing(channel); why != "" && !slices.Contains(warnings, why) {
					warnings = append(warnings, why)
				}
			}
		}
	}
	o["warnings"] = warnings
	return o, nil
}

// check lists everything that is wrong with a configuration.
func (c *call) check(in *input) error {
	users, err := c.Access.Users(c.R.Context())
	if err != nil {
		return err
	}
	faults := slices.Clone(in.faults)
	for _, f := range rule.Check(&in.config, notify.Check) {
		faults = append(faults, rest.Fault{Attribute: f.Path, Code: f.Code, Detail: sentence(f.Text)})
	}
	for i := range in.config.Notifications {
		n := &in.config.Notifications[i]
		name := n.Fields["username"]
		if n.Channel != notify.User || name == "" {
			continue
		}
		path := fmt.Sprintf("notifications[%d].username", i)
		j := slices.IndexFunc(users, func(u model.User) bool { return strings.EqualFold(u.Username, name) })
		switch {
		case j < 0:
			faults = append(faults, rest.Fault{Attribute: path, Code: "BAD_USERNAME_REF", Detail: fmt.Sprintf("No user with username %s exists.", name)})
		case !c.global && !auth.UserPrincipal(&users[j]).InGroup(c.Group.ID, c.Group.OrgID):
			faults = append(faults, rest.Fault{Attribute: path, Code: "BAD_USERNAME_IN_GROUP_REF", Detail: fmt.Sprintf("User %s is not in the group.", name)})
		}
	}
	if len(in.config.GroupIDs) > 0 {
		groups, err := c.Inventory.Groups(c.R.Context())
		if err != nil {
			return err
		}
		for i, id := range in.config.GroupIDs {
			if !slices.ContainsFunc(groups, func(g model.Group) bool { return g.ID == id }) {
				faults = append(faults, rest.Fault{Attribute: fmt.Sprintf("groupIds[%d]", i), Code: "GROUP_NOT_FOUND", Detail: fmt.Sprintf("No group with ID %s exists.", id)})
			}
		}
	}
	return rest.Faulty(faults)
}

func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// prefill takes what notifications leave out from the group's integrations.
func (c *call) prefill(in *input) error {
	if c.global {
		return nil
	}
	integrations, err := c.Alerting.Integrations(c.R.Context(), c.Group.ID)
	if err != nil {
		return err
	}
	for i := range in.config.Notifications {
		for _, have := range integrations {
			in.config.Notifications[i] = notify.Prefill(in.config.Notifications[i], have)
		}
	}
	return nil
}

func (c *call) create() (any, error) {
	in, err := c.read()
	if err != nil {
		return nil, err
	}
	in.merge(nil)
	if err := c.prefill(in); err != nil {
		return nil, err
	}
	cfg := &in.config
	now := c.now()
	cfg.ID, cfg.GroupID, cfg.Created, cfg.Updated = model.NewID(), c.Group.ID, now, now
	if err := c.check(in); err != nil {
		return nil, err
	}
	if err := c.Alerting.CreateConfig(c.R.Context(), *cfg); err != nil {
		return nil, err
	}
	c.note(model.EventAlertConfigAdded, cfg, "was added")
	return c.whole(cfg)
}

// now is the time without what answers do not show.
func (c *call) now() time.Time { return c.Now().UTC().Truncate(time.Millisecond) }

// replace is PUT. A global configuration may also be sent only {"enabled": ...}.
func (c *call) replace() (any, error) {
	old, err := c.stored()
	if err != nil {
		return nil, err
	}
	if c.global {
		only, enabled, err := c.onlyEnabled()
		if err != nil {
			return nil, err
		}
		if only {
			return c.setEnabled(old.ID, enabled)
		}
	}
	in, err := c.read()
	if err != nil {
		return nil, err
	}
	if err := rest.ReadOnly("id", in.config.ID, old.ID); err != nil {
		return nil, err
	}
	now := c.now()
	var was, is model.AlertConfig
	err = c.Alerting.UpdateConfig(c.R.Context(), c.Group.ID, old.ID, func(have *model.AlertConfig) error {
		next := &input{config: in.config, given: in.given, faults: in.faults}
		next.merge(have.Notifications)
		if err := c.prefill(next); err != nil {
			return err
		}
		n := &next.config
		n.ID, n.GroupID, n.Created, n.Updated, n.Origin = have.ID, have.GroupID, have.Created, have.Updated, have.Origin
		if err := c.check(next); err != nil {
			return err
		}
		was, is = *have, *n
		if same(have, n) {
			return store.ErrUnchanged
		}
		n.Updated, is.Updated = now, now
		*have = *n
		return nil
	})
	if rest.IsNotFound(err) {
		return nil, c.missing(old.ID)
	}
	if err != nil && !errors.Is(err, store.ErrUnchanged) {
		return nil, err
	}
	c.noteChange(&was, &is)
	return c.whole(&is)
}

// same reports whether two forms of a configuration say the same; lists that are empty and those that are not there do.
func same(a, b *model.AlertConfig) bool {
	x, y := *a, *b
	x.Updated, y.Updated = time.Time{}, time.Time{}
	x.Created, y.Created = time.Time{}, time.Time{}
	return reflect.DeepEqual(plain(x), plain(y))
}

func plain(c model.AlertConfig) model.AlertConfig {
	c.Matchers, c.GroupIDs, c.Tags = list(c.Matchers), list(c.GroupIDs), list(c.Tags)
	c.Notifications = list(slices.Clone(c.Notifications))
	for i := range c.Notifications {
		n := &c.Notifications[i]
		n.Roles = list(n.Roles)
		if len(n.Fields) == 0 {
			n.Fields = nil
		}
		if len(n.Secrets) == 0 {
			n.Secrets = nil
		}
	}
	return c
}

func list[T any](l []T) []T {
	if len(l) == 0 {
		return nil
	}
	return l
}

// enable is PATCH, which changes nothing else. Clients may send the whole configuration as they read it.
func (c *call) enable() (any, error) {
	cfg, err := c.stored()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		Enabled  *bool    `json:"enabled"`
		Warnings []string `json:"warnings"`
	}
	if err := c.DecodeOver(&in, c.entity(&cfg, false)); err != nil {
		return nil, err
	}
	if in.Enabled == nil {
		return nil, rest.Fail(http.StatusBadRequest, "MISSING_ATTRIBUTE", "The required attribute %s was not specified.", "enabled")
	}
	return c.setEnabled(cfg.ID, *in.Enabled)
}

func (c *call) setEnabled(id model.ID, enabled bool) (any, error) {
	now := c.now()
	var was, is model.AlertConfig
	err := c.Alerting.UpdateConfig(c.R.Context(), c.Group.ID, id, func(have *model.AlertConfig) error {
		was, is = *have, *have
		if have.Enabled == enabled {
			return store.ErrUnchanged
		}
		have.Enabled, have.Updated = enabled, now
		is = *have
		return nil
	})
	if rest.IsNotFound(err) {
		return nil, c.missing(id)
	}
	if err != nil && !errors.Is(err, store.ErrUnchanged) {
		return nil, err
	}
	c.noteChange(&was, &is)
	return c.whole(&is)
}

func (c *call) remove() (any, error) {
	cfg, err := c.stored()
	if err != nil {
		return nil, err
	}
	if err := c.Alerting.DeleteConfig(c.R.Context(), c.Group.ID, cfg.ID); err != nil {
		return nil, err
	}
	c.note(model.EventAlertConfigDeleted, &cfg, "was deleted")
	return nil, nil
}

// noteChange records what a change was.
func (c *call) noteChange(was, is *model.AlertConfig) {
	rest := *was
	rest.Enabled = is.Enabled
	if !same(&rest, is) {
		c.note(model.EventAlertConfigChanged, is, "was changed")
	}
	switch {
	case is.Enabled && !was.Enabled:
		c.note(model.EventAlertConfigEnabled, is, "was enabled")
	case !is.Enabled && was.Enabled:
		c.note(model.EventAlertConfigDisabled, is, "was disabled")
	}
}

func (c *call) note(what model.EventType, cfg *model.AlertConfig, done string) {
	e := model.Event{Type: what, GroupID: cfg.GroupID, ConfigID: cfg.ID, Text: fmt.Sprintf("Alert configuration “%s” %s.", Label(cfg), done)}
	if cfg.Metric != nil {
		e.Metric = cfg.Metric.Metric
	}
	c.Event(e)
}

// Label is a configuration's name for people.
func Label(cfg *model.AlertConfig) string {
	t, ok := rule.TypeOf(cfg.EventType)
	switch {
	case cfg.Metric != nil:
		word := "above"
		if cfg.Metric.Operator == model.LessThan {
			word = "below"
		}
		return fmt.Sprintf("%s %s %s", cfg.Metric.Metric, word, notify.Reading(model.Reading{Number: cfg.Metric.Value, Units: cfg.Metric.Units}))
	case ok:
		return t.Label
	}
	return string(cfg.EventType)
}

// TypeName is the deprecated kind of an event type.
func TypeName(e model.EventType) string {
	t, ok := rule.TypeOf(e)
	switch {
	case !ok:
		return ""
	case t.Metric:
		return "HOST_METRIC"
	}
	return string(t.Category)
}
