// Package channels makes the channels of notifications that the settings allow.
package channels

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/amazon"
	"github.com/heartwood-db/heartwood/shared/notify/email"
	"github.com/heartwood-db/heartwood/shared/notify/letter"
	"github.com/heartwood-db/heartwood/shared/notify/letter/post"
	"github.com/heartwood-db/heartwood/shared/notify/opsgenie"
	"github.com/heartwood-db/heartwood/shared/notify/pagerduty"
	"github.com/heartwood-db/heartwood/shared/notify/slack"
	"github.com/heartwood-db/heartwood/shared/notify/snmp"
	"github.com/heartwood-db/heartwood/shared/notify/teams"
	"github.com/heartwood-db/heartwood/shared/notify/twilio"
	"github.com/heartwood-db/heartwood/shared/notify/victorops"
	"github.com/heartwood-db/heartwood/shared/notify/webhook"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// notifiers makes the channels that the settings allow, by name. Those that need settings which are not there are left out:
// the Sender says what to set. open says what may be called.
func notifiers(c *config.Server, open notify.ClientOptions) (map[string]notify.Notifier, error) {
	client := notify.Client(open)
	made := map[string]notify.Notifier{
		notify.Webhook:   webhook.New(webhook.Options{Client: client}),
		notify.Teams:     teams.New(teams.Options{Client: client}),
		notify.Slack:     slack.New(slack.Options{Client: client}),
		notify.PagerDuty: pagerduty.New(pagerduty.Options{Client: client}),
		notify.OpsGenie:  opsgenie.New(opsgenie.Options{Client: client}),
		notify.VictorOps: victorops.New(victorops.Options{Client: client}),
		notify.SNMP:      snmp.New(snmp.Options{Control: notify.Guard(open.Allow, open.AllowPrivate), Started: time.Now()}),
	}
	if c.TwilioSID != "" {
		made[notify.SMS] = twilio.New(twilio.Options{Account: c.TwilioSID, Token: c.TwilioToken, From: c.TwilioFrom, Client: client})
	}
	if c.AWSAccessKey != "" {
		made[notify.SNS] = amazon.NewTopic(amazon.Options{AccessKey: c.AWSAccessKey, SecretKey: c.AWSSecretKey, Client: client})
	}
	if !c.HasMail() {
		return made, nil
	}
	from, err := post.NewSender(c.FromEmail, c.ReplyToEmail, letter.Options{SettingsURL: settingsURL(c.CentralURL)})
	if err != nil {
		return nil, err
	}
	if c.BySES() {
		made[notify.Email] = amazon.NewMail(amazon.Options{
			AccessKey: c.AWSAccessKey, SecretKey: c.AWSSecretKey, Client: client, Endpoint: c.SESEndpoint, Region: c.SESRegion(), Sender: from,
		})
		return made, nil
	}
	roots, err := mailRoots(c.MailCAFile)
	if err != nil {
		return nil, err
	}
	made[notify.Email], err = email.New(email.Options{
		Host: c.MailHost, Port: c.MailPort, Implicit: c.MailTransport == config.MailSMTPS, StartTLS: c.MailTLS, Roots: roots,
		Username: c.MailUser, Password: c.MailPass, Sender: from,
	})
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return made, nil
}

// settingsURL makes the links to the pages where configurations are changed; nil when the site does not know its own address.
func settingsURL(central string) func(*model.Alert) string {
	if central == "" {
		return nil
	}
	return func(a *model.Alert) string {
		if a.Global || a.GroupID == "" {
			return "" // the group's page does not show it
		}
		return strings.TrimSuffix(central, "/") + "/g/" + string(a.GroupID) + "/alert-settings"
	}
}

// mailRoots reads the CAs that the mail server's certificate is checked against; nil for this machine's.
func mailRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	const hint = "name a file with PEM certificates, or leave heartwood.mail.CAFile empty for those of this machine"
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, opererr.New("read heartwood.mail.CAFile", err, hint)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, opererr.New("read heartwood.mail.CAFile", fmt.Errorf("%s holds no certificate", file), hint)
	}
	return roots, nil
}
