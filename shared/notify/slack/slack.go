// Package slack writes in a channel of Slack by chat.postMessage, with the token of an app that its owner has made. It owns
// the message's look and the meaning of Slack's error codes.
package slack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Options are what a Notifier needs.
type Options struct {
	Client  *http.Client // nil: notify.Client with its strictest options
	BaseURL string       // "": https://slack.com/api
}

// Notifier writes in channels of Slack.
type Notifier struct {
	client *http.Client
	url    string
}

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) *Notifier {
	if o.Client == nil {
		o.Client = notify.Client(notify.ClientOptions{})
	}
	return &Notifier{o.Client, strings.TrimSuffix(cmp.Or(o.BaseURL, "https://slack.com/api"), "/") + "/chat.postMessage"}
}

// Limits of Slack's blocks, in characters; ours are in bytes, which are never fewer.
const (
	maxText   = 2900 // of a section: 3000 with its escapes
	maxField  = 1900
	maxFields = 10
	maxListed = 40 // alerts of a digest: a message has at most 50 blocks
)

// Notify writes a message. Slack answers 200 even to what it refuses; its body tells.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	token := to.Secrets["apiToken"]
	h := http.Header{}
	h.Set("Authorization", "Bearer "+token.Reveal())
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Idempotency-Key", m.Key)
	a, err := notify.Do(ctx, n.client, notify.Request{
		Service: "Slack", URL: n.url, Header: h, Body: Body(to.Fields["channelName"], m), Secrets: []model.Secret{token},
	})
	if err != nil {
		return notify.Result{}, err
	}
	return judge(a.Body)
}

// judge reads Slack's answer. What a person must mend is permanent.
func judge(body []byte) (notify.Result, error) {
	var said struct {
		OK      bool   `json:"ok"`
		Error   string `json:"error"`
		Channel string `json:"channel"`
		TS      string `json:"ts"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return notify.Result{}, notify.Later(0, "Slack answered something that is not JSON: %.200s", body)
	}
	if said.OK {
		return notify.Result{Text: "written in " + cmp.Or(said.Channel, "the channel"), ID: said.TS}, nil
	}
	switch said.Error {
	case "ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org", "message_limit_exceeded", "":
		return notify.Result{}, notify.Later(0, "Slack is not able to take the message now: %s", cmp.Or(said.Error, "it gave no reason"))
	}
	if hint := hints[said.Error]; hint != "" {
		return notify.Result{}, notify.Refused("Slack refuses the message: %s: %s", said.Error, hint)
	}
	return notify.Result{}, notify.Refused("Slack refuses the message: %s", said.Error)
}

var hints = map[string]string{
	"not_in_channel":    "invite the app to the channel, or give it the scope chat:write.public",
	"channel_not_found": "there is no such channel, or it is private and the app was not invited",
	"is_archived":       "the channel is archived",
	"invalid_auth":      "the token is not valid",
	"not_authed":        "the token is missing",
	"token_revoked":     "the token was revoked",
	"token_expired":     "the token has expired",
	"account_inactive":  "the token belongs to an app or a person that was removed",
	"missing_scope":     "the app lacks the scope chat:write",
}

type message struct {
	Channel     string       `json:"channel"`
	Text        string       `json:"text"`
	UnfurlLinks bool         `json:"unfurl_links"`
	UnfurlMedia bool         `json:"unfurl_media"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	Color  string  `json:"color"`
	Blocks []block `json:"blocks"`
}

type block struct {
	Type     string `json:"type"`
	Text     *text  `json:"text,omitempty"`
	Fields   []text `json:"fields,omitempty"`
	Elements []text `json:"elements,omitempty"`
}

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// Body is what is posted for a message.
func Body(channel string, m notify.Message) []byte {
	out := message{Channel: channel, Text: "*" + escape(notify.Subject(m), maxText) + "*"}
	at := attachment{Color: color(m)}
	section := func(s string) { at.Blocks = append(at.Blocks, block{Type: "section", Text: &text{"mrkdwn", s}}) }
	if len(m.Others) > 0 {
		all := m.All()
		for i, one := range all {
			if i == maxListed {
				section(fmt.Sprintf("… and %d more.", len(all)-i))
				break
			}
			section(fmt.Sprintf("*%s:* %s", notify.KindWord(one.Kind), link(one.URL, notify.Cut(m.Entry(one), 300))))
		}
		out.Attachments = []attachment{at}
		return notify.JSON(out)
	}
	if s := notify.Sentence(m); s != "" {
		section(escape(s, maxText))
	}
	var fields []text
	for _, f := range notify.Facts(m) {
		fields = append(fields, text{"mrkdwn", "*" + escape(f.Name, 100) + "*\n" + escape(f.Value, maxField)})
	}
	for some := range slices.Chunk(fields, maxFields) {
		at.Blocks = append(at.Blocks, block{Type: "section", Fields: some})
	}
	var links []string
	if m.URL != "" {
		links = append(links, link(m.URL, "Details"))
	}
	if m.AckURL != "" && notify.Acknowledgeable(m.Kind) {
		links = append(links, link(m.AckURL, "Acknowledge"))
	}
	if len(links) > 0 {
		at.Blocks = append(at.Blocks, block{Type: "context", Elements: []text{{"mrkdwn", strings.Join(links, " · ")}}})
	}
	if len(at.Blocks) > 0 {
		out.Attachments = []attachment{at}
	}
	return notify.JSON(out)
}

func color(m notify.Message) string {
	for _, one := range m.All() {
		if notify.SeverityOf(one) == notify.Critical {
			return "#c62828"
		}
	}
	switch {
	case notify.Over(m.Kind):
		return "#2e7d32"
	case notify.SeverityOf(m) == notify.Warning:
		return "#ef6c00"
	}
	return "#546e7a"
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escape keeps a text from being a mention or a link, cut so that its escapes fit.
func escape(s string, max int) string {
	for n := max; ; n = n * 3 / 4 {
		if e := escaper.Replace(notify.Cut(s, n)); len(e) <= max {
			return e
		}
	}
}

func link(url, label string) string {
	if url == "" {
		return escape(label, maxText)
	}
	return "<" + strings.ReplaceAll(escaper.Replace(url), "|", "%7C") + "|" + escape(label, maxText) + ">"
}
