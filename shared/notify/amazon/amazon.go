// Package amazon sends mail by Amazon SES and messages to topics of Amazon SNS. Both are plain HTTPS calls, signed with the
// site's key (Signature Version 4); the region is that of the endpoint or the topic.
package amazon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/letter/post"
)

// Options are what both services need.
type Options struct {
	AccessKey string
	SecretKey model.Secret
	Client    *http.Client // nil: notify.Client with its strictest options
	Endpoint  string       // of SES; of SNS "" is the endpoint of the topic's region
	Region    string       // of SES
	Sender    *post.Sender // of SES
	Now       func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Client == nil {
		o.Client = notify.Client(notify.ClientOptions{})
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Endpoint = strings.TrimSuffix(o.Endpoint, "/")
	return o
}

// call makes a signed call.
func (o *Options) call(ctx context.Context, service, name, region, address, contentType string, body []byte) (notify.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(string(body)))
	if err != nil {
		return notify.Answer{}, notify.Later(0, "the endpoint of %s is not a URL", name)
	}
	req.Header.Set("Content-Type", contentType)
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: o.AccessKey, SecretAccessKey: o.SecretKey.Reveal()}
	if err := v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), service, region, o.Now()); err != nil {
		return notify.Answer{}, notify.Later(0, "a call of %s cannot be signed: %v", name, err)
	}
	a, err := notify.Do(ctx, o.Client, notify.Request{Service: name, URL: address, Header: req.Header, Body: body, Secrets: []model.Secret{o.SecretKey}})
	if err != nil && (a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden) {
		// The site's key or clock, not the recipient: it may be mended.
		return a, notify.Later(0, "%v: check aws.accesskey, aws.secretkey, what the key is allowed, and this machine's clock", err)
	}
	return a, err
}

// Mail sends mail by Amazon SES.
type Mail struct{ o Options }

var _ notify.Notifier = (*Mail)(nil)

// NewMail makes a Mail.
func NewMail(o Options) *Mail { return &Mail{o.withDefaults()} }

// Secrets are what must not be seen in errors.
func (n *Mail) Secrets() []model.Secret { return []model.Secret{n.o.SecretKey} }

// Notify sends a message to one address. SES knows no idempotency keys; the mail's Message-ID is replaced by its own, its
// other headers arrive.
func (n *Mail) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	raw, err := n.o.Sender.Bytes(to.Address, m)
	if err != nil {
		return notify.Result{}, err
	}
	type content struct {
		Raw struct{ Data []byte } // base64 in JSON
	}
	body := struct {
		FromEmailAddress string
		Destination      struct{ ToAddresses []string }
		Content          content
	}{FromEmailAddress: n.o.Sender.From()}
	body.Destination.ToAddresses = []string{to.Address}
	body.Content.Raw.Data = raw
	a, err := n.o.call(ctx, "ses", "Amazon SES", n.o.Region, n.o.Endpoint+"/v2/email/outbound-emails", "application/json", notify.JSON(body))
	if err != nil {
		return notify.Result{}, n.judge(a, err)
	}
	var said struct {
		MessageID string `json:"MessageId"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil {
		return notify.Result{Text: "taken by Amazon SES"}, nil // 200 is what counts: sending it again would double it
	}
	return notify.Result{Text: "taken by Amazon SES", ID: said.MessageID}, nil
}

// judge keeps what is wrong with the account from being for good.
func (*Mail) judge(a notify.Answer, err error) error {
	kind, _, _ := strings.Cut(a.Header.Get("X-Amzn-Errortype"), ":")
	switch kind {
	case "LimitExceededException", "AccountSuspendedException", "SendingPausedException", "MailFromDomainNotVerifiedException":
		if errors.Is(err, notify.ErrPermanent) {
			return notify.Later(0, "%v (%s)", err, kind)
		}
	}
	return err
}

// Topic sends to topics of Amazon SNS.
type Topic struct{ o Options }

var _ notify.Notifier = (*Topic)(nil)

// NewTopic makes a Topic.
func NewTopic(o Options) *Topic { return &Topic{o.withDefaults()} }

// Secrets are what must not be seen in errors.
func (n *Topic) Secrets() []model.Secret { return []model.Secret{n.o.SecretKey} }

const (
	maxTopicText    = 200 << 10 // bytes; SNS takes 256 KiB with all attributes
	maxTopicSubject = 100
)

// Notify publishes a message. Topics of the kind FIFO drop a second message with the same key; to all others the key goes as
// an attribute.
func (n *Topic) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	topic := to.Fields["snsTopicArn"]
	part := strings.Split(topic, ":")
	if len(part) != 6 || part[3] == "" {
		return notify.Result{}, notify.Refused("%q is not the ARN of a topic", topic)
	}
	region, endpoint := part[3], n.o.Endpoint
	if endpoint == "" {
		endpoint = "https://sns." + region + ".amazonaws.com"
		if part[1] == "aws-cn" {
			endpoint += ".cn"
		}
	}
	form := url.Values{
		"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {topic}, "Subject": {subject(notify.Subject(m))}, "Message": {notify.Text(m, maxTopicText)},
	}
	sum := sha256.Sum256([]byte(m.Key))
	if strings.HasSuffix(topic, ".fifo") {
		group := "site"
		if m.Alert != nil {
			group = string(m.Alert.ID) // messages about one alert stay in order
		}
		form.Set("MessageGroupId", group)
		form.Set("MessageDeduplicationId", hex.EncodeToString(sum[:]))
	}
	attributes := [][2]string{{"key", m.Key}, {"event", "alert." + string(m.Kind)}}
	if m.Alert != nil && len(m.Others) == 0 {
		attributes = append(attributes, [2]string{"eventTypeName", string(m.Alert.EventType)}, [2]string{"alertId", string(m.Alert.ID)},
			[2]string{"groupId", string(m.Alert.GroupID)}, [2]string{"status", string(m.Alert.Status)})
	}
	i := 0
	for _, at := range attributes {
		if at[1] == "" { // refused by SNS
			continue
		}
		i++
		entry := "MessageAttributes.entry." + strconv.Itoa(i)
		form.Set(entry+".Name", at[0])
		form.Set(entry+".Value.DataType", "String")
		form.Set(entry+".Value.StringValue", at[1])
	}
	a, err := n.o.call(ctx, "sns", "Amazon SNS", region, endpoint+"/", "application/x-www-form-urlencoded; charset=utf-8", []byte(form.Encode()))
	if err != nil {
		var fault struct {
			Code string `xml:"Error>Code"`
		}
		if xml.Unmarshal(a.Body, &fault) == nil && strings.HasPrefix(fault.Code, "Throttl") && errors.Is(err, notify.ErrPermanent) {
			return notify.Result{}, notify.Later(0, "%v", err)
		}
		return notify.Result{}, err
	}
	var said struct {
		ID string `xml:"PublishResult>MessageId"`
	}
	if err := xml.Unmarshal(a.Body, &said); err != nil {
		return notify.Result{Text: "published"}, nil // 200 is what counts
	}
	return notify.Result{Text: "published", ID: said.ID}, nil
}

// subject is one of SNS: ASCII, at most 100 characters, beginning with a letter.
func subject(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	s = cmp.Or(strings.TrimLeft(s, " ?"), "Alert")
	return s[:min(len(s), maxTopicSubject)]
}
