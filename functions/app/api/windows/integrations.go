package windows

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// teamName is a field of Slack integrations that clients send and nothing here uses.
const teamName = "teamName"

// channel is the integration that the path names: a channel that is built and can be integrated with.
func (c *call) channel() (notify.Channel, error) {
	name := c.Args[1]
	ch, ok := notify.ChannelOf(name)
	if !ok || !integrates(&ch) {
		return ch, rest.Fail(http.StatusNotFound, "INTEGRATION_NOT_CONFIGURED", "There is no integration of type %s.", name)
	}
	return ch, nil
}

func integrates(ch *notify.Channel) bool {
	return slices.ContainsFunc(ch.Fields, func(f notify.Field) bool { return f.Integration != "" })
}

// integrationEntity renders an integration; secrets are masked.
func (c *call) integrationEntity(n *model.Notification) rest.Object {
	o := rest.Object{"type": n.Channel, "links": c.Self(c.Href("groups", string(c.Group.ID), "integrations", n.Channel))}
	ch, _ := notify.ChannelOf(n.Channel)
	for _, f := range ch.Fields {
		switch {
		case f.Integration == "":
		case f.Secret:
			rest.Put(o, f.Integration, notify.Mask(n.Secrets[f.Name]))
		default:
			rest.Put(o, f.Integration, n.Fields[f.Name])
		}
	}
	rest.Put(o, teamName, n.Fields[teamName])
	return o
}

func (c *call) integrations() (any, error) {
	all, err := c.Alerting.Integrations(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, func(n model.Notification) rest.Object { return c.integrationEntity(&n) })
}

// integration is the stored one that the path names.
func (c *call) integration() (model.Notification, error) {
	ch, err := c.channel()
	if err != nil {
		return model.Notification{}, err
	}
	n, err := c.Alerting.Integration(c.R.Context(), c.Group.ID, ch.Name)
	if rest.IsNotFound(err) {
		return n, rest.Fail(http.StatusNotFound, "INTEGRATION_NOT_CONFIGURED", "The group has no integration of type %s.", ch.Name)
	}
	return n, err
}

func (c *call) oneIntegration() (any, error) {
	n, err := c.integration()
	if err != nil {
		return nil, err
	}
	return c.integrationEntity(&n), nil
}

// putIntegration makes or replaces an integration and answers with all of them. A secret sent back masked stays.
func (c *call) putIntegration() (any, error) {
	ch, err := c.channel()
	if err != nil {
		return nil, err
	}
	var body map[string]json.RawMessage
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	n, faults := integrationOf(&ch, body)
	have, err := c.Alerting.Integration(c.R.Context(), c.Group.ID, ch.Name)
	if err != nil && !rest.IsNotFound(err) {
		return nil, err
	}
	n = notify.KeepMasked(have, n)
	if err := rest.Faulty(append(faults, checkIntegration(&ch, n)...)); err != nil {
		return nil, err
	}
	if err := c.Alerting.PutIntegration(c.R.Context(), c.Group.ID, n); err != nil {
		return nil, err
	}
	c.noteIntegration(ch.Name, "was set")
	return c.integrations()
}

// integrationOf reads a body: keys are those of the integration, in any case.
func integrationOf(ch *notify.Channel, body map[string]json.RawMessage) (n model.Notification, faults []rest.Fault) {
	n = model.Notification{ID: model.DeriveID("integration", ch.Name), Channel: ch.Name, Fields: map[string]string{}, Secrets: map[string]model.Secret{}}
	for _, key := range slices.Sorted(maps.Keys(body)) {
		var s string
		wrong := json.Unmarshal(body[key], &s) != nil
		name := func(want string) bool { return strings.EqualFold(want, key) }
		i := slices.IndexFunc(ch.Fields, func(f notify.Field) bool { return f.Integration != "" && name(f.Integration) })
		switch {
		case name("links") || name("id") || name("groupId"):
		case wrong:
			faults = append(faults, rest.Fault{Attribute: key, Code: "INVALID_JSON_ATTRIBUTE", Detail: fmt.Sprintf("Received JSON for the %s attribute has the wrong type.", key)})
		case name("type"):
			if other, ok := notify.ChannelOf(s); s != "" && (!ok || other.Name != ch.Name) {
				faults = append(faults, rest.Fault{Attribute: "type", Code: "ATTRIBUTE_READ_ONLY", Detail: fmt.Sprintf("The body is of type %s, the path of type %s.", s, ch.Name)})
			}
		case i >= 0 && ch.Fields[i].Secret:
			n.Secrets[ch.Fields[i].Name] = model.Secret(s)
		case i >= 0:
			n.Fields[ch.Fields[i].Name] = s
		case ch.Name == notify.Slack && name(teamName):
			n.Fields[teamName] = s
		default:
			faults = append(faults, rest.Fault{Attribute: key, Code: "INVALID_ATTRIBUTE", Detail: fmt.Sprintf("Invalid attribute %s specified.", key)})
		}
	}
	return n, faults
}

// checkIntegration lists what is wrong with an integration. Only secrets are needed: what else a channel needs, each notification
// may say. Faults name the integration's own fields.
func checkIntegration(ch *notify.Channel, n model.Notification) (faults []rest.Fault) {
	plain := n
	plain.Fields = maps.Clone(n.Fields)
	delete(plain.Fields, teamName)
	for _, f := range notify.Check(plain, false) {
		field, ok := ch.Field(f.Path)
		if !ok || !field.Secret && n.Fields[f.Path] == "" {
			continue
		}
		text := strings.ReplaceAll(f.Text, field.Name, field.Integration)
		faults = append(faults, rest.Fault{Attribute: field.Integration, Code: f.Code, Detail: strings.TrimSuffix(text, ".") + "."})
	}
	return faults
}

func (c *call) deleteIntegration() (any, error) {
	n, err := c.integration()
	if err != nil {
		return nil, err
	}
	if err := c.Alerting.DeleteIntegration(c.R.Context(), c.Group.ID, n.Channel); err != nil {
		return nil, err
	}
	c.noteIntegration(n.Channel, "was removed")
	return nil, nil
}

func (c *call) noteIntegration(channel, done string) {
	c.Event(model.Event{Type: model.EventIntegrationChanged, GroupID: c.Group.ID, Text: "The integration with " + channel + " " + done + "."})
}
