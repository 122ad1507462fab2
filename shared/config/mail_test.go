package config

import (
	"slices"
	"strings"
	"testing"
)

func TestMailSettingsOfAnOpsManagerFileAreUsedWithoutAWarning(t *testing.T) {
	l := load(t, Sources{FileName: "f", File: map[string]string{
		"mms.fromEmailAddr": "Heartwood <hw@example.com>", "mms.replyToEmailAddr": "noreply@example.com", "mms.adminEmailAddr": "ops@example.com,dba@example.com",
		"mms.mail.transport": "smtps", "mms.mail.hostname": "mail.example.com", "mms.mail.port": "465",
		"mms.mail.username": "hw", "mms.mail.password": "mail-secret", "mms.mail.tls": "true",
		"aws.accesskey": "AKIAEXAMPLE", "aws.secretkey": "aws-secret", "twilio.account.sid": "AC1", "twilio.auth.token": "twilio-secret", "twilio.from.num": "+15005550006",
	}})
	s := l.Server
	if len(l.Warnings) != 0 {
		t.Errorf("warnings: %q", l.Warnings)
	}
	if !s.HasMail() || s.BySES() || s.MailPort != 465 || !s.MailTLS || s.MailPass.Reveal() != "mail-secret" || s.TwilioToken.Reveal() != "twilio-secret" ||
		s.AWSSecretKey.Reveal() != "aws-secret" || !slices.Equal(s.AdminEmail, []string{"ops@example.com", "dba@example.com"}) {
		t.Errorf("not read: %+v", s)
	}
	for _, r := range l.Redacted() {
		if strings.Contains(r.Value, "-secret") {
			t.Errorf("%s shows a secret: %s", r.Key, r.Value)
		}
	}
}

func TestWithoutAMailServerThereIsNoMail(t *testing.T) {
	if s := load(t, Sources{}).Server; s.HasMail() {
		t.Error("mail by default")
	}
}

func TestAmazonSESIsChosenByTransportOrByTheNamesOfOpsManager(t *testing.T) {
	for _, how := range []map[string]string{
		{"mms.mail.transport": "ses"}, {"mms.emailDaoClass": "AWS_MAILER"}, {"mms.emailDaoClass": "com.xgen.svc.core.dao.email.AwsEmailDao"},
	} {
		how["mms.fromEmailAddr"], how["aws.accesskey"], how["aws.secretkey"] = "hw@example.com", "AKIA", "s"
		how["aws.ses.endpoint"] = "https://email.eu-central-1.amazonaws.com"
		if s := load(t, Sources{File: how}).Server; !s.BySES() || !s.HasMail() || s.SESRegion() != "eu-central-1" {
			t.Errorf("%v: %v, region %q", how, s.BySES(), s.SESRegion())
		}
	}
	if s := load(t, Sources{File: map[string]string{"mms.emailDaoClass": "SIMPLE_MAILER"}}).Server; s.BySES() {
		t.Error("SIMPLE_MAILER is not SES")
	}
}

func TestTheRegionIsReadFromTheEndpointOfSES(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://email.us-east-1.amazonaws.com": "us-east-1", "https://email-fips.us-gov-west-1.amazonaws.com/": "us-gov-west-1",
		"https://vpce-1.email.ap-southeast-2.vpce.amazonaws.com": "ap-southeast-2", "https://email.example.com": "", "": "", "https://xemail.us-east-1.amazonaws.com": "", "::": "",
	} {
		if got := (&Server{SESEndpoint: endpoint}).SESRegion(); got != want {
			t.Errorf("%s: region %q, want %q", endpoint, got, want)
		}
	}
}

func TestFaultsOfMailAndAccountsNameTheirSettings(t *testing.T) {
	for name, c := range map[string]struct {
		file map[string]string
		want string
	}{
		"a server without a sender":     {map[string]string{"mms.mail.hostname": "m"}, "mms.fromEmailAddr: mail needs"},
		"SES without a sender":          {map[string]string{"mms.mail.transport": "ses", "aws.accesskey": "a", "aws.secretkey": "b"}, "mms.fromEmailAddr: mail needs"},
		"SES without keys":              {map[string]string{"mms.mail.transport": "ses", "mms.fromEmailAddr": "a@b.example"}, "needs both"},
		"SES with a strange endpoint":   {map[string]string{"mms.mail.transport": "ses", "aws.ses.endpoint": "https://mail.example.com"}, "aws.ses.endpoint"},
		"SES without TLS":               {map[string]string{"mms.mail.transport": "ses", "aws.ses.endpoint": "http://email.us-east-1.amazonaws.com"}, "aws.ses.endpoint"},
		"an unknown transport":          {map[string]string{"mms.mail.transport": "uucp"}, `mms.mail.transport: "uucp"`},
		"a port that is none":           {map[string]string{"mms.mail.port": "70000"}, "mms.mail.port: 70000"},
		"a host with a port":            {map[string]string{"mms.mail.hostname": "m:25", "mms.fromEmailAddr": "a@b.example"}, "the port goes to mms.mail.port"},
		"a sender that is none":         {map[string]string{"mms.fromEmailAddr": "nobody"}, `mms.fromEmailAddr: "nobody"`},
		"an operator's mailbox":         {map[string]string{"mms.adminEmailAddr": "ops@example.com,root"}, `mms.adminEmailAddr: "root"`},
		"a name without a password":     {map[string]string{"mms.mail.username": "hw"}, "mms.mail.username and mms.mail.password"},
		"half a key of AWS":             {map[string]string{"aws.secretkey": "hush-hush"}, "aws.accesskey and aws.secretkey: set both"},
		"a third of what Twilio wants":  {map[string]string{"twilio.auth.token": "hush-hush"}, "set all three or none"},
		"a setting that does not exist": {map[string]string{"mms.mail.hostnam": "m"}, "did you mean mms.mail.hostname?"},
	} {
		_, err := Load(Sources{File: c.file})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("%s: the secret is in %v", name, err)
		}
	}
}
