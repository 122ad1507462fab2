package notify

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

func TestTheTableIsConsistent(t *testing.T) {
	names := map[string]bool{}
	spelling := regexp.MustCompile(`^[a-z][A-Za-z]+$`)
	for _, c := range Channels() {
		for _, name := range append([]string{c.Name}, c.Aliases...) {
			if names[name] {
				t.Errorf("%s is there twice", name)
			}
			names[name] = true
			if got, ok := ChannelOf(strings.ToLower(name)); !ok || got.Name != c.Name {
				t.Errorf("%s is not found", name)
			}
		}
		if c.Label == "" || c.Help == "" || c.where == nil || c.Roles != (c.roles != nil) {
			t.Errorf("%s lacks something: %+v", c.Name, c)
		}
		for _, f := range c.Fields {
			if !spelling.MatchString(f.Name) || f.Label == "" {
				t.Errorf("%s: field %+v", c.Name, f)
			}
			if f.check != nil && f.Placeholder != "" && !strings.Contains(f.Placeholder, "…") && f.check(f.Placeholder) != "" {
				t.Errorf("%s: the placeholder of %s %s", c.Name, f.Name, f.check(f.Placeholder))
			}
		}
	}
}

func of(channel string, kv ...string) model.Notification {
	n := model.Notification{Channel: channel, Fields: map[string]string{}, Secrets: map[string]model.Secret{}}
	c, _ := ChannelOf(channel)
	for i := 0; i < len(kv); i += 2 {
		if f, ok := c.Field(kv[i]); ok && f.Secret {
			n.Secrets[kv[i]] = model.Secret(kv[i+1])
		} else {
			n.Fields[kv[i]] = kv[i+1]
		}
	}
	return n
}

func people(channel string, mail, sms bool, roles ...model.Role) model.Notification {
	n := of(channel, "username", "ann")
	if channel != User {
		n.Fields = nil
	}
	n.EmailEnabled, n.SMSEnabled, n.Roles = mail, sms, roles
	return n
}

func TestCheck(t *testing.T) {
	const arn = "arn:aws:sns:eu-central-1:123456789012:alerts"
	for _, c := range []struct {
		name   string
		n      model.Notification
		global bool
		want   []string // path, code and a part of the text
	}{
		{"everybody in the group by mail", people(Group, true, false), false, nil},
		{"some of the group by SMS", people(Group, false, true, model.GroupOwner), false, nil},
		{"nobody in the group", people(Group, false, false), false, []string{"emailEnabled EMAIL_OR_SMS_REQUIRED_FOR_GROUP_NOTIFICATION"}},
		{"a role of another kind", people(Group, true, false, model.GlobalOwner), false, []string{"roles INVALID_ENUM_VALUE GLOBAL_OWNER"}},
		{"a role of the organization", people(Org, true, false, model.OrgOwner), false, nil},
		{"a user without a way to be told", people(User, false, false), false, []string{"emailEnabled EMAIL_OR_SMS_REQUIRED_FOR_USER_NOTIFICATION"}},
		{"a user with roles", people(User, true, false, model.GroupOwner), false, []string{"roles INVALID_ATTRIBUTE takes no roles"}},
		{"operators in a group's configuration", of(Admin), false, []string{"typeName NOTIFICATION_TYPE_IS_GLOBAL_ONLY"}},
		{"operators in a global configuration", of(Admin), true, nil},
		{"an address", of(Email, "emailAddress", "ops@example.com"), false, nil},
		{"an address with a name", of(Email, "emailAddress", "Ops <ops@example.com>"), false, []string{"emailAddress INVALID_EMAIL_ADDRESS"}},
		{"an address that breaks the line", of(Email, "emailAddress", "ops@example.com\r\nBcc: x@example.com"), false, []string{"emailAddress INVALID_EMAIL_ADDRESS line break"}},
		{"no address", of(Email), false, []string{"emailAddress MISSING_ATTRIBUTE"}},
		{"a number", of(SMS, "mobileNumber", "+49 (170) 123-4567"), false, nil},
		{"a number without its country", of(SMS, "mobileNumber", "0170 1234567"), false, []string{"mobileNumber INVALID_ATTRIBUTE country code"}},
		{"a webhook", of(Webhook, "webhookUrl", "http://hooks.example.com:8080/x?y=z", "webhookSecret", "s"), false, nil},
		{"a webhook without its URL", of(Webhook), false, []string{"webhookUrl WEBHOOK_URL_NOT_SET"}},
		{"a webhook to a file", of(Webhook, "webhookUrl", "file:///etc/passwd"), false, []string{"webhookUrl INVALID_ATTRIBUTE"}},
		{"a webhook without a host", of(Webhook, "webhookUrl", "https://:443/"), false, []string{"webhookUrl INVALID_ATTRIBUTE"}},
		{"a webhook with a fragment", of(Webhook, "webhookUrl", "https://h/#x"), false, []string{"webhookUrl INVALID_ATTRIBUTE after #"}},
		{
			"templates of webhooks", of(Webhook, "webhookUrl", "https://h/", "webhookBodyTemplate", "{}", "webhookHeadersTemplate", "x"), false,
			[]string{"webhookBodyTemplate INVALID_ATTRIBUTE not supported", "webhookHeadersTemplate INVALID_ATTRIBUTE not supported"},
		},
		{"empty templates", of(Webhook, "webhookUrl", "https://h/", "webhookBodyTemplate", ""), false, nil},
		{"a masked secret nobody knows", of(Slack, "apiToken", Mask("xoxb-123456789"), "channelName", "ops"), false, []string{"apiToken INVALID_ATTRIBUTE masked"}},
		{"a token with a blank", of(Slack, "apiToken", "xoxb 1", "channelName", "ops"), false, []string{"apiToken INVALID_ATTRIBUTE blanks"}},
		{"everything missing at once", of(Slack), false, []string{"apiToken MISSING_ATTRIBUTE", "channelName MISSING_ATTRIBUTE"}},
		{"a field of another channel", of(PagerDuty, "serviceKey", "abcdef", "channelName", "ops"), false, []string{"channelName INVALID_ATTRIBUTE PAGER_DUTY has no channelName"}},
		{"a region that is none", of(OpsGenie, "opsGenieApiKey", "k", "opsGenieRegion", "MARS"), false, []string{"opsGenieRegion INVALID_ENUM_VALUE US, EU"}},
		{"a card over plain HTTP", of(Teams, "microsoftTeamsWebhookUrl", "http://x/"), false, []string{"microsoftTeamsWebhookUrl INVALID_ATTRIBUTE https"}},
		{"the default route", of(VictorOps, "victorOpsApiKey", "k"), false, nil},
		{"traps", of(SNMP, "snmpAddress", "[2001:db8::1]:162"), false, nil},
		{"traps without a port", of(SNMP, "snmpAddress", "traps.example.com"), false, nil},
		{"traps to nowhere", of(SNMP, "snmpAddress", "a b:162"), false, []string{"snmpAddress INVALID_ATTRIBUTE"}},
		{"traps to a port that is none", of(SNMP, "snmpAddress", "a:99999"), false, []string{"snmpAddress INVALID_ATTRIBUTE"}},
		{"a topic", of(SNS, "snsTopicArn", arn), false, nil},
		{"no topic", of(SNS, "snsTopicArn", "alerts"), false, []string{"snsTopicArn INVALID_ATTRIBUTE"}},
		{"nothing", of(""), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE missing"}},
		{"a service of old", of("HIP_CHAT"), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE SLACK"}},
		{"another one", of("FLOWDOCK"), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE WEBHOOK"}},
		{"a service that is not built", of("DATADOG"), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE WEBHOOK"}},
		{"teams", of("TEAM"), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE GROUP"}},
		{"nonsense", of("PIGEON\nPOST"), false, []string{"typeName UNSUPPORTED_NOTIFICATION_TYPE PIGEON POST is not"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Check(c.n, c.global)
			if len(got) != len(c.want) {
				t.Fatalf("got %+v, want %d faults", got, len(c.want))
			}
			for i, f := range got {
				path, rest, _ := strings.Cut(c.want[i], " ")
				code, part, _ := strings.Cut(rest, " ")
				if f.Path != path || f.Code != code || !strings.Contains(f.Text, part) || f.Text == "" {
					t.Errorf("got %+v, want %s", f, c.want[i])
				}
			}
		})
	}
	_ = rule.Check(&model.AlertConfig{}, Check) // it is what rule.Check takes
}

func TestFaultsNeverRepeatASecret(t *testing.T) {
	for _, c := range Channels() {
		for _, f := range c.Fields {
			if !f.Secret {
				continue
			}
			secret := "very secret\x00 value"
			for _, fault := range Check(of(c.Name, f.Name, secret), true) {
				if strings.Contains(fault.Text, "secret\x00") || strings.Contains(fault.Text, "value") {
					t.Errorf("%s: %s", c.Name, fault.Text)
				}
			}
		}
	}
}

func TestPrefillTakesWhatIsMissingFromTheIntegration(t *testing.T) {
	n := of(Slack, "channelName", "#mine")
	got := Prefill(n, of(Slack, "apiToken", "xoxb-1", "channelName", "#theirs"))
	if d := cmp.Diff(of(Slack, "channelName", "#mine", "apiToken", "xoxb-1"), got); d != "" {
		t.Error(d)
	}
	if len(n.Secrets) != 0 {
		t.Error("the notification that was given has changed")
	}
	if got := Prefill(model.Notification{Channel: Webhook}, of(Webhook, "webhookUrl", "https://h/")); got.Secrets["webhookUrl"] != "https://h/" {
		t.Errorf("got %+v", got)
	}
	if got := Prefill(of(Webhook), of(Slack, "apiToken", "x")); len(got.Secrets) != 0 {
		t.Errorf("of another channel: %+v", got)
	}
}

func TestDestinationsHoldNoSecret(t *testing.T) {
	for _, c := range []struct {
		n    model.Notification
		want string
	}{
		{of(Webhook, "webhookUrl", "https://u:p@hooks.example.com:8443/T0/secret?x=y"), "hooks.example.com:8443"},
		{of(Teams, "microsoftTeamsWebhookUrl", "https://prod.logic.azure.com/workflows/abc"), "prod.logic.azure.com"},
		{of(Slack, "apiToken", "xoxb-1", "channelName", "ops"), "#ops"},
		{of(PagerDuty, "serviceKey", "0123456789abcdef"), "service with key ************cdef"},
		{of(VictorOps, "victorOpsApiKey", "k", "victorOpsRoutingKey", "db"), "route db"},
		{people(Group, true, false, model.GroupOwner, model.GroupMonitoringAdmin), "users of the group who are GROUP_OWNER or GROUP_MONITORING_ADMIN"},
		{of(Webhook, "webhookUrl", "::"), ""},
		{of("PIGEON"), ""},
	} {
		if got := Destination(c.n); got != c.want {
			t.Errorf("%s: got %q, want %q", c.n.Channel, got, c.want)
		}
	}
}
