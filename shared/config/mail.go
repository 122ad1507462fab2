package config

import (
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The values of mms.mail.transport.
const (
	MailSMTP  = "smtp"
	MailSMTPS = "smtps"
	MailSES   = "ses"
)

// BySES reports whether mail goes through Amazon SES.
func (s *Server) BySES() bool {
	return s.MailTransport == MailSES || s.MailClass == "AWS_MAILER" || strings.HasSuffix(s.MailClass, "AwsEmailDao")
}

// HasMail reports whether the site can send mail.
func (s *Server) HasMail() bool { return s.MailHost != "" || s.BySES() }

var sesEndpoint = regexp.MustCompile(`(?:^|\.)email(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9]+)\.`)

// SESRegion is the region of aws.ses.endpoint, or "" when the address does not say.
func (s *Server) SESRegion() string {
	u, err := url.Parse(s.SESEndpoint)
	if err != nil {
		return ""
	}
	if m := sesEndpoint.FindStringSubmatch(u.Hostname()); m != nil {
		return m[1]
	}
	return ""
}

func (s *Server) mailFaults() []error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if !slices.Contains([]string{MailSMTP, MailSMTPS, MailSES}, s.MailTransport) {
		fault("mms.mail.transport: %q: use smtp, smtps or ses", s.MailTransport)
	}
	if s.MailPort < 0 || s.MailPort > 65535 {
		fault("mms.mail.port: %d is not a port", s.MailPort)
	}
	if strings.ContainsAny(s.MailHost, ":/@ ") && !strings.HasPrefix(s.MailHost, "[") {
		fault("mms.mail.hostname: %q is not the name of a machine, such as mail.example.com; the port goes to mms.mail.port", s.MailHost)
	}
	for name, a := range map[string]string{"mms.fromEmailAddr": s.FromEmail, "mms.replyToEmailAddr": s.ReplyToEmail} {
		if _, err := mail.ParseAddress(a); a != "" && err != nil {
			fault("%s: %q is not a mail address such as heartwood@example.com", name, a)
		}
	}
	for _, a := range s.AdminEmail {
		if _, err := mail.ParseAddress(a); err != nil {
			fault("mms.adminEmailAddr: %q is not a mail address such as ops@example.com", a)
		}
	}
	if s.HasMail() && s.FromEmail == "" {
		fault("mms.fromEmailAddr: mail needs an address that it comes from")
	}
	if (s.MailUser == "") != (s.MailPass == "") {
		fault("mms.mail.username and mms.mail.password: set both or neither")
	}
	return faults
}

// accountFaults is about the services that need an account.
func (s *Server) accountFaults() []error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if (s.AWSAccessKey == "") != (s.AWSSecretKey == "") {
		fault("aws.accesskey and aws.secretkey: set both or neither")
	}
	if s.BySES() {
		if s.AWSAccessKey == "" {
			fault("aws.accesskey and aws.secretkey: Amazon SES (mms.mail.transport=ses) needs both")
		}
		if u, err := url.Parse(s.SESEndpoint); err != nil || u.Scheme != "https" || s.SESRegion() == "" {
			fault("aws.ses.endpoint: %q is not the endpoint of a region such as https://email.eu-central-1.amazonaws.com", s.SESEndpoint)
		}
	}
	if set := []bool{s.TwilioSID != "", s.TwilioToken != "", s.TwilioFrom != ""}; slices.Contains(set, true) && slices.Contains(set, false) {
		fault("twilio.account.sid, twilio.auth.token and twilio.from.num: set all three or none")
	}
	return faults
}
