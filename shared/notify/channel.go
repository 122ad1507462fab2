package notify

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
)

// The channels, spelled as typeName in the Public API. SNS is ours.
const (
	Group     = "GROUP"
	Org       = "ORG"
	User      = "USER"
	Admin     = "ADMIN"
	Email     = "EMAIL"
	SMS       = "SMS"
	Webhook   = "WEBHOOK"
	Slack     = "SLACK"
	PagerDuty = "PAGER_DUTY"
	OpsGenie  = "OPS_GENIE"
	Teams     = "MICROSOFT_TEAMS"
	VictorOps = "VICTOR_OPS"
	SNMP      = "SNMP"
	SNS       = "SNS"
)

// Field is one thing a notification of a channel says besides its delay and interval. Secret ones are in
// model.Notification.Secrets, the others in its Fields, both by Name.
type Field struct {
	Name        string // in the Public API
	Label       string
	Help        string
	Placeholder string
	Secret      bool
	Required    bool
	Choices     []string // if not empty: the values it may have, the first being the default
	Integration string   // its name in a third-party integration (public-api.md 2.17); "" when it has none

	check func(value string) string // what is wrong with a value, or ""
	code  string                    // of the Public API when the check fails; "" is INVALID_ATTRIBUTE
}

// Channel is one way to tell people.
type Channel struct {
	Name       string
	Label      string
	Help       string
	Fields     []Field
	Aliases    []string // other spellings that are understood
	People     bool     // stands for people, who are told by mail or SMS (emailEnabled, smsEnabled)
	Roles      bool     // of those people only some may be meant, by role
	GlobalOnly bool

	settings string                               // what to set before it works
	where    func(n *model.Notification) string   // Destination
	roles    func(r model.Role, global bool) bool // which roles it may name
	absent   string                               // the code for a required field that is missing; "" is MISSING_ATTRIBUTE
}

// Field returns a field by name.
func (c *Channel) Field(name string) (Field, bool) {
	i := slices.IndexFunc(c.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return c.Fields[i], true
}

// Channels lists the channels that are built, in the order they are offered.
func Channels() []Channel {
	return []Channel{
		{
			Name: Group, Label: "Everybody in the group", People: true, Roles: true,
			Help:  "Mail or SMS to the group's users, or to those of them who have certain roles.",
			where: func(n *model.Notification) string { return withRoles("users of the group", n.Roles) },
			roles: func(r model.Role, _ bool) bool { return strings.HasPrefix(string(r), "GROUP_") },
		},
		{
			Name: Org, Label: "Everybody in the organization", People: true, Roles: true,
			Help:  "Mail or SMS to the organization's users, or to those of them who have certain roles.",
			where: func(n *model.Notification) string { return withRoles("users of the organization", n.Roles) },
			roles: func(r model.Role, _ bool) bool { return strings.HasPrefix(string(r), "ORG_") },
		},
		{
			Name: User, Label: "One user", People: true, Help: "Mail or SMS to a user of this site.",
			Fields: []Field{{Name: "username", Label: "Username", Required: true, Placeholder: "ann@example.com"}},
			where:  func(n *model.Notification) string { return n.Fields["username"] },
		},
		{
			Name: Email, Label: "Email", Help: "Mail to any address.", settings: missingMail,
			Fields: []Field{{
				Name: "emailAddress", Label: "Address", Required: true, Placeholder: "ops@example.com", check: badEmail, code: "INVALID_EMAIL_ADDRESS",
			}},
			where: func(n *model.Notification) string { return n.Fields["emailAddress"] },
		},
		{
			Name: SMS, Label: "SMS", Help: "A text message through Twilio.",
			settings: "SMS is not configured: set twilio.account.sid, twilio.auth.token and twilio.from.num",
			Fields: []Field{{
				Name: "mobileNumber", Label: "Number", Required: true, Placeholder: "+49 170 1234567", Help: "With its country code.", check: badPhone,
			}},
			where: func(n *model.Notification) string { number, _ := Phone(n.Fields["mobileNumber"]); return number },
		},
		{
			Name: Slack, Label: "Slack", Help: "A message in a Slack channel, written by an app of yours that has the scope chat:write.",
			Fields: []Field{
				{
					Name: "apiToken", Label: "Bot token", Secret: true, Required: true, Integration: "apiToken", Placeholder: "xoxb-…", check: badToken,
					Help: "From the app's page OAuth & Permissions. Invite the app to the channel, or give it chat:write.public.",
				},
				{Name: "channelName", Label: "Channel", Required: true, Integration: "channelName", Placeholder: "#ops"},
			},
			where: func(n *model.Notification) string {
				return "#" + strings.TrimPrefix(n.Fields["channelName"], "#")
			},
		},
		{
			Name: Webhook, Label: "Webhook", absent: "WEBHOOK_URL_NOT_SET",
			Help: "A POST of JSON to an address of yours, signed if you give a secret.",
			Fields: []Field{
				{
					Name: "webhookUrl", Label: "URL", Secret: true, Required: true, Integration: "url", Placeholder: "https://hooks.example.com/heartwood", check: badURL,
					Help: "Shown only in part once it is saved. Addresses of this machine and of clouds' machine credentials are refused.",
				},
				{
					Name: "webhookSecret", Label: "Secret", Secret: true, Integration: "secret",
					Help: "Signs the body: X-Heartwood-Signature-256 (hex HMAC-SHA256) and X-MMS-Signature (base64 HMAC-SHA1).",
				},
			},
			where: func(n *model.Notification) string { return hostOf(n.Secrets["webhookUrl"]) },
		},
		{
			Name: PagerDuty, Label: "PagerDuty", Aliases: []string{"PAGERDUTY"},
			Help: "An incident that is acknowledged and resolved together with the alert.",
			Fields: []Field{{
				Name: "serviceKey", Label: "Integration key", Secret: true, Required: true, Integration: "serviceKey", check: badToken,
				Help: "Of a service's integration Events API v2.",
			}},
			where: func(n *model.Notification) string { return "service with key " + Mask(n.Secrets["serviceKey"]) },
		},
		{
			Name: OpsGenie, Label: "Opsgenie", Aliases: []string{"OPSGENIE"},
			Help: "An alert that is acknowledged and closed together with ours.",
			Fields: []Field{
				{
					Name: "opsGenieApiKey", Label: "API key", Secret: true, Required: true, Integration: "apiKey", check: badToken,
					Help: "Of an integration of the kind API.",
				},
				{Name: "opsGenieRegion", Label: "Region", Choices: []string{"US", "EU"}, Integration: "region"},
			},
			where: func(n *model.Notification) string {
				return "integration with key " + Mask(n.Secrets["opsGenieApiKey"])
			},
		},
		{
			Name: Teams, Label: "Microsoft Teams", Aliases: []string{"TEAMS"}, Help: "A card in a channel of Microsoft Teams.",
			Fields: []Field{{
				Name: "microsoftTeamsWebhookUrl", Label: "Workflow URL", Secret: true, Required: true, Integration: "microsoftTeamsWebhookUrl",
				Placeholder: "https://…logic.azure.com:443/workflows/…", check: badHTTPS,
				Help: "Of a workflow that starts when a Teams webhook request is received.",
			}},
			where: func(n *model.Notification) string { return hostOf(n.Secrets["microsoftTeamsWebhookUrl"]) },
		},
		{
			Name: VictorOps, Label: "Splunk On-Call (VictorOps)", Aliases: []string{"VICTOROPS"},
			Help: "An incident that is acknowledged and resolved together with the alert.",
			Fields: []Field{
				{
					Name: "victorOpsApiKey", Label: "API key", Secret: true, Required: true, Integration: "apiKey", check: badToken,
					Help: "Of the REST endpoint integration: the part of its URL between /alert/ and the routing key.",
				},
				{Name: "victorOpsRoutingKey", Label: "Routing key", Integration: "routingKey", Help: "Empty: the default route."},
			},
			where: func(n *model.Notification) string {
				if key := n.Fields["victorOpsRoutingKey"]; key != "" {
					return "route " + key
				}
				return "the default route"
			},
		},
		{
			Name: SNMP, Label: "SNMP trap", Help: "An SNMP v2c trap to a management station.",
			Fields: []Field{
				{Name: "snmpAddress", Label: "Address", Required: true, Placeholder: "traps.example.com:162", Help: "Port 162 when none is given.", check: badAddress},
				{Name: "snmpCommunity", Label: "Community", Secret: true, Help: "Empty: public."},
			},
			where: func(n *model.Notification) string { return n.Fields["snmpAddress"] },
		},
		{
			Name: SNS, Label: "Amazon SNS", Help: "A message to a topic of Amazon Simple Notification Service.",
			settings: "Amazon SNS is not configured: set aws.accesskey and aws.secretkey",
			Fields: []Field{{
				Name: "snsTopicArn", Label: "Topic", Required: true, Placeholder: "arn:aws:sns:eu-central-1:123456789012:alerts", check: badTopic,
			}},
			where: func(n *model.Notification) string { return n.Fields["snsTopicArn"] },
		},
		{
			Name: Admin, Label: "Operators of this site", GlobalOnly: true, Help: "Mail to the address in mms.adminEmailAddr.", settings: missingMail,
			where: func(*model.Notification) string { return "operators of this site" },
		},
	}
}

const missingMail = "mail is not configured: set mms.mail.hostname and mms.fromEmailAddr, or mms.mail.transport and the keys of Amazon SES"

// ChannelOf returns a channel by its name or an alias.
func ChannelOf(name string) (Channel, bool) {
	name = strings.ToUpper(strings.TrimSpace(name))
	for _, c := range Channels() {
		if c.Name == name || slices.Contains(c.Aliases, name) {
			return c, true
		}
	}
	return Channel{}, false
}

// retired says what to use instead of channels that the Public API knows and this build does not have.
func retired(name string) string {
	switch strings.ToUpper(strings.TrimSpace(name)) {
	case "HIPCHAT", "HIP_CHAT":
		return "HipChat was shut down in 2019: use SLACK, MICROSOFT_TEAMS or WEBHOOK instead"
	case "FLOWDOCK":
		return "Flowdock was shut down in 2023: use SLACK, MICROSOFT_TEAMS or WEBHOOK instead"
	case "DATADOG":
		return "notifications to Datadog are not supported: use WEBHOOK or EMAIL with an address of Datadog's events instead"
	case "TEAM":
		return "there are no teams here: use GROUP or ORG with roles, or USER, instead"
	}
	return ""
}

// Destination says where a notification goes, without anything secret: "#ops", "hooks.example.com", "users of the group".
func Destination(n model.Notification) string {
	if c, ok := ChannelOf(n.Channel); ok {
		return line(c.where(&n), 200)
	}
	return ""
}

func withRoles(who string, roles []model.Role) string {
	if len(roles) == 0 {
		return who
	}
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return who + " who are " + strings.Join(names, " or ")
}

func hostOf(secret model.Secret) string {
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Host // without user and password
}

func badEmail(v string) string {
	if a, err := mail.ParseAddress(v); err != nil || a.Address != v {
		return "is not an email address such as ops@example.com"
	}
	return ""
}

func badPhone(v string) string {
	if _, ok := Phone(v); !ok {
		return "is not a number with its country code such as +49 170 1234567"
	}
	return ""
}

var phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Phone is a telephone number as networks want it (E.164), from what people write: "+49 (170) 123-4567", "0049 170 …".
func Phone(s string) (string, bool) {
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/\u00a0", r) {
			return -1
		}
		return r
	}, s)
	if rest, ok := strings.CutPrefix(s, "00"); ok {
		s = "+" + rest
	}
	return s, phoneNumber.MatchString(s)
}

func badURL(v string) string {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "is not a URL such as https://hooks.example.com/heartwood"
	case u.Fragment != "":
		return "has a part after #, which is never sent"
	}
	return ""
}

func badHTTPS(v string) string {
	if u, err := url.Parse(v); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "is not a URL that begins with https://"
	}
	return ""
}

func badToken(v string) string {
	if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "holds blanks or other characters that no key has"
	}
	return ""
}

func badAddress(v string) string {
	host, _, err := model.SplitAddress(v)
	if _, notIP := netip.ParseAddr(host); err != nil || notIP != nil && !hostname.MatchString(host) {
		return "is not an address such as traps.example.com:162"
	}
	return ""
}

var (
	hostname = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?$`)
	topic    = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$`)
)

func badTopic(v string) string {
	if !topic.MatchString(v) {
		return "is not the ARN of a topic such as arn:aws:sns:eu-central-1:123456789012:alerts"
	}
	return ""
}

func badText(v string) string {
	switch {
	case !utf8.ValidString(v):
		return "is not text in UTF-8"
	case len(v) > maxField:
		return fmt.Sprintf("is longer than %d characters", maxField)
	case strings.ContainsFunc(v, unicode.IsControl):
		return "holds a line break or another control character"
	case strings.TrimSpace(v) != v:
		return "begins or ends with blanks"
	}
	return ""
}

const maxField = 4096
