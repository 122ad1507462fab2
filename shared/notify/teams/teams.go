// Package teams posts an Adaptive Card to a workflow of Microsoft Teams that starts when a webhook request is received.
package teams

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Options are what a Notifier needs.
type Options struct {
	Client *http.Client // nil: notify.Client with its strictest options
}

// Notifier posts to addresses that people have entered.
type Notifier struct{ client *http.Client }

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) *Notifier {
	if o.Client == nil {
		o.Client = notify.Client(notify.ClientOptions{})
	}
	return &Notifier{o.Client}
}

const (
	maxBody   = 26 << 10 // Teams takes 28 kB
	maxText   = 2000
	maxFact   = 500
	maxListed = 40
)

// Notify posts a message.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	hook := to.Secrets["microsoftTeamsWebhookUrl"]
	h := http.Header{}
	h.Set("Idempotency-Key", m.Key)
	a, err := notify.Do(ctx, n.client, notify.Request{
		Service: "Microsoft Teams", URL: hook.Reveal(), Header: h, Body: Body(m), Secrets: []model.Secret{hook},
	})
	if err != nil {
		return notify.Result{}, err
	}
	// Connectors of old answer 200 and tell in words what Teams said.
	if found := failed.FindSubmatch(a.Body); found != nil {
		status, _ := strconv.Atoi(string(found[1]))
		if err := notify.Judge("Microsoft Teams", status, http.Header{}, string(a.Body), m.At); err != nil {
			return notify.Result{}, err
		}
	}
	return notify.Result{Text: fmt.Sprintf("answered %d", a.Status)}, nil
}

var failed = regexp.MustCompile(`returned HTTP error ([0-9]{3})`)

type envelope struct {
	Type        string       `json:"type"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	ContentType string `json:"contentType"`
	Content     card   `json:"content"`
}

type card struct {
	Schema  string            `json:"$schema"`
	Type    string            `json:"type"`
	Version string            `json:"version"`
	Text    string            `json:"fallbackText"`
	Teams   map[string]string `json:"msteams"`
	Body    []any             `json:"body"`
	Actions []action          `json:"actions,omitempty"`
}

type container struct {
	Type  string `json:"type"`
	Style string `json:"style"`
	Bleed bool   `json:"bleed"`
	Items []any  `json:"items"`
}

// richText is a paragraph that is shown as it is: no markdown, so that no name of a host becomes a link.
type richText struct {
	Type    string `json:"type"`
	Inlines []run  `json:"inlines"`
}

type run struct {
	Type   string  `json:"type"`
	Text   string  `json:"text"`
	Weight string  `json:"weight,omitempty"`
	Size   string  `json:"size,omitempty"`
	Open   *action `json:"selectAction,omitempty"`
}

type factSet struct {
	Type  string `json:"type"`
	Facts []fact `json:"facts"`
}

type fact struct {
	Title string `json:"title"`
	Value string `json:"value"`
}

type action struct {
	Type  string `json:"type"`
	Title string `json:"title,omitempty"`
	URL   string `json:"url"`
}

// Body is what is posted for a message: less of it until Teams takes it.
func Body(m notify.Message) []byte {
	listed, text := maxListed, maxText
	for {
		body := notify.JSON(envelope{Type: "message", Attachments: []attachment{{
			ContentType: "application/vnd.microsoft.card.adaptive", Content: cardOf(m, listed, text),
		}}})
		if len(body) <= maxBody || listed == 0 && text == 0 {
			return body
		}
		listed, text = listed/2, text/2
	}
}

func cardOf(m notify.Message, listed, max int) card {
	c := card{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4",
		Text: notify.Subject(m), Teams: map[string]string{"width": "Full"},
	}
	c.Body = append(c.Body, container{Type: "Container", Style: style(m), Bleed: true, Items: []any{
		richText{"RichTextBlock", []run{{Type: "TextRun", Text: notify.Subject(m), Weight: "Bolder", Size: "Medium"}}},
	}})
	say := func(runs ...run) { c.Body = append(c.Body, richText{"RichTextBlock", runs}) }
	if len(m.Others) > 0 {
		all := m.All()
		for i, one := range all {
			if i == listed {
				say(run{Type: "TextRun", Text: fmt.Sprintf("… and %d more.", len(all)-i)})
				break
			}
			what := run{Type: "TextRun", Text: notify.Cut(m.Entry(one), 300)}
			if one.URL != "" {
				what.Open = &action{Type: "Action.OpenUrl", URL: one.URL}
			}
			say(run{Type: "TextRun", Text: notify.KindWord(one.Kind) + ": ", Weight: "Bolder"}, what)
		}
		return c
	}
	if s := notify.Cut(notify.Sentence(m), max); s != "" {
		say(run{Type: "TextRun", Text: s})
	}
	var facts []fact
	for _, f := range notify.Facts(m) {
		if v := notify.Cut(f.Value, min(max, maxFact)); v != "" {
			facts = append(facts, fact{f.Name, plain.Replace(v)})
		}
	}
	if len(facts) > 0 {
		c.Body = append(c.Body, factSet{"FactSet", facts})
	}
	if m.URL != "" {
		c.Actions = append(c.Actions, action{"Action.OpenUrl", "Details", m.URL})
	}
	if m.AckURL != "" && notify.Acknowledgeable(m.Kind) {
		c.Actions = append(c.Actions, action{"Action.OpenUrl", "Acknowledge", m.AckURL})
	}
	return c
}

// plain keeps the markdown of facts from being read as such.
var plain = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, "*", `\*`, "_", `\_`, "`", "\\`")

func style(m notify.Message) string {
	for _, one := range m.All() {
		if notify.SeverityOf(one) == notify.Critical {
			return "attention"
		}
	}
	switch {
	case notify.Over(m.Kind):
		return "good"
	case notify.SeverityOf(m) == notify.Warning:
		return "warning"
	}
	return "accent"
}
