package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Check lists what is wrong with a notification's channel and its fields; paths are relative to the notification. Delay and
// interval are rule.Check's. global says that the configuration is a global one.
func Check(n model.Notification, global bool) []rule.Fault {
	c, ok := ChannelOf(n.Channel)
	if !ok {
		return []rule.Fault{{Path: "typeName", Code: "UNSUPPORTED_NOTIFICATION_TYPE", Text: unsupported(n.Channel)}}
	}
	var faults []rule.Fault
	fault := func(path, code, format string, args ...any) {
		faults = append(faults, rule.Fault{Path: path, Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if c.GlobalOnly && !global {
		fault("typeName", "NOTIFICATION_TYPE_IS_GLOBAL_ONLY", "%s is for global alert configurations only", c.Name)
	}
	if c.People && !n.EmailEnabled && !n.SMSEnabled {
		code := "EMAIL_OR_SMS_REQUIRED_FOR_GROUP_NOTIFICATION"
		if c.Name == User {
			code = "EMAIL_OR_SMS_REQUIRED_FOR_USER_NOTIFICATION"
		}
		fault("emailEnabled", code, "emailEnabled or smsEnabled must be true, or nobody would be told")
	}
	for _, r := range n.Roles {
		switch {
		case !c.Roles:
			fault("roles", "INVALID_ATTRIBUTE", "%s takes no roles", c.Name)
		case !c.roles(r, global):
			fault("roles", "INVALID_ENUM_VALUE", "%s is not a role that %s can name", line(string(r), 60), c.Name)
		default:
			continue
		}
		break
	}
	for _, f := range c.Fields {
		checkField(&c, f, n, fault)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Fields)) {
		unexpected(&c, name, n.Fields[name], false, fault)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Secrets)) {
		unexpected(&c, name, n.Secrets[name].Reveal(), true, fault)
	}
	return faults
}

func unsupported(channel string) string {
	if why := retired(channel); why != "" {
		return why
	}
	var names []string
	for _, c := range Channels() {
		names = append(names, c.Name)
	}
	if channel == "" {
		return "typeName is missing: it is one of " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s is not a kind of notification: typeName is one of %s", line(channel, 40), strings.Join(names, ", "))
}

func checkField(c *Channel, f Field, n model.Notification, fault func(path, code, format string, args ...any)) {
	value := n.Fields[f.Name]
	if f.Secret {
		value = n.Secrets[f.Name].Reveal()
	}
	wrong := func(text string) {
		code := f.code
		if code == "" {
			code = "INVALID_ATTRIBUTE"
		}
		fault(f.Name, code, "%s %s", f.Name, text)
	}
	switch {
	case value == "" && f.Required:
		code := c.absent
		if code == "" {
			code = "MISSING_ATTRIBUTE"
		}
		fault(f.Name, code, "%s is missing", f.Name)
	case value == "":
	case f.Secret && strings.HasPrefix(value, masked):
		wrong("is only the masked text of a secret that is not known here: give it anew")
	case badText(value) != "":
		wrong(badText(value))
	case len(f.Choices) > 0 && !slices.Contains(f.Choices, value):
		fault(f.Name, "INVALID_ENUM_VALUE", "%s is one of %s", f.Name, strings.Join(f.Choices, ", "))
	case f.check != nil && f.check(value) != "":
		wrong(f.check(value))
	}
}

// unexpected faults a field the channel does not have. Empty ones are harmless: clients send back whatever they know.
func unexpected(c *Channel, name, value string, secret bool, fault func(path, code, format string, args ...any)) {
	f, ok := c.Field(name)
	switch {
	case value == "" || ok && f.Secret == secret:
	case name == "webhookBodyTemplate" || name == "webhookHeadersTemplate":
		fault(name, "INVALID_ATTRIBUTE", "%s is not supported: webhooks have one body, the Public API's alert, and their own headers", name)
	case ok: // a program's mistake, not a client's
		fault(name, "INVALID_ATTRIBUTE", "%s is kept in the wrong place", name)
	default:
		fault(line(name, 60), "INVALID_ATTRIBUTE", "%s has no %s", c.Name, line(name, 60))
	}
}

// Prefill takes the fields that a notification leaves out from the group's integration of the same channel.
func Prefill(n, integration model.Notification) model.Notification {
	c, ok := ChannelOf(n.Channel)
	if have, known := ChannelOf(integration.Channel); !ok || !known || have.Name != c.Name {
		return n
	}
	n.Fields, n.Secrets = maps.Clone(n.Fields), maps.Clone(n.Secrets)
	for _, f := range c.Fields {
		switch {
		case f.Integration == "":
		case f.Secret && n.Secrets[f.Name] == "" && integration.Secrets[f.Name] != "":
			put(&n.Secrets, f.Name, integration.Secrets[f.Name])
		case !f.Secret && n.Fields[f.Name] == "" && integration.Fields[f.Name] != "":
			put(&n.Fields, f.Name, integration.Fields[f.Name])
		}
	}
	return n
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}
