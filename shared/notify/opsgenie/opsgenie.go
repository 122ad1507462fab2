// Package opsgenie creates, acknowledges and closes alerts by Opsgenie's Alert API. The alias is our alert's id, so that
// repeats and restarts never make a second one.
package opsgenie

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Options are what a Notifier needs.
type Options struct {
	Client *http.Client // nil: notify.Client with its strictest options
	US     string       // address of the API; "": https://api.opsgenie.com
	EU     string       // "": https://api.eu.opsgenie.com
}

// Notifier sends to Opsgenie.
type Notifier struct {
	client *http.Client
	us, eu string
}

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) *Notifier {
	if o.Client == nil {
		o.Client = notify.Client(notify.ClientOptions{})
	}
	base := func(set, usual string) string { return strings.TrimSuffix(cmp.Or(set, usual), "/") + "/v2/alerts" }
	return &Notifier{o.Client, base(o.US, "https://api.opsgenie.com"), base(o.EU, "https://api.eu.opsgenie.com")}
}

// Opsgenie's limits, in characters; ours are in bytes, which are never fewer.
const (
	maxMessage     = 130
	maxDescription = 14000
	maxEntity      = 500
	maxSource      = 100
	maxNote        = 20000
	maxDetails     = 7000 // of all details together
)

// Notify makes one call for each alert of a message.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	key := to.Secrets["opsGenieApiKey"]
	base := n.us
	if strings.EqualFold(to.Fields["opsGenieRegion"], "EU") {
		base = n.eu
	}
	return notify.Each(ctx, m, func(ctx context.Context, one notify.Message) (notify.Result, error) {
		h := http.Header{}
		h.Set("Authorization", "GenieKey "+key.Reveal())
		h.Set("Idempotency-Key", one.Key)
		a, err := notify.Do(ctx, n.client, notify.Request{
			Service: "Opsgenie", URL: base + path(one), Header: h, Body: Body(one), Secrets: []model.Secret{key},
		})
		if err != nil && a.Status == http.StatusNotFound && path(one) != "" {
			// Closed and deleted there, or opened before this notification was added: there is nothing left to do.
			return notify.Result{Text: "not known there any more"}, nil
		}
		if err != nil {
			return notify.Result{}, err
		}
		var said struct {
			Result    string `json:"result"`
			RequestID string `json:"requestId"`
		}
		_ = json.Unmarshal(a.Body, &said) // the status has already told that it was taken
		return notify.Result{Text: cmp.Or(said.Result, "taken"), ID: said.RequestID}, nil
	})
}

// path is what follows /v2/alerts.
func path(m notify.Message) string {
	verb := ""
	switch {
	case notify.Over(m.Kind):
		verb = "/close"
	case m.Kind == model.DeliverAcknowledge:
		verb = "/acknowledge"
	default:
		return ""
	}
	return "/" + url.PathEscape(alias(m)) + verb + "?identifierType=alias"
}

func alias(m notify.Message) string {
	if m.Alert == nil {
		return m.Key
	}
	return string(m.Alert.ID)
}

type create struct {
	Message     string            `json:"message"`
	Alias       string            `json:"alias"`
	Description string            `json:"description"`
	Entity      string            `json:"entity,omitempty"`
	Source      string            `json:"source"`
	Priority    string            `json:"priority"`
	Tags        []string          `json:"tags,omitempty"`
	Details     map[string]string `json:"details"`
}

type change struct {
	Source string `json:"source"`
	User   string `json:"user,omitempty"`
	Note   string `json:"note"`
}

// Body is the call's body for a message about one alert.
func Body(m notify.Message) []byte {
	a := m.Alert
	if a == nil {
		a = &model.Alert{}
	}
	source := notify.Cut(cmp.Or(m.Site, "Heartwood"), maxSource)
	if path(m) != "" {
		c := change{Source: source, Note: notify.Text(m, maxNote)}
		if m.Kind == model.DeliverAcknowledge {
			c.User = notify.Cut(a.AckBy, 100)
		}
		return notify.JSON(c)
	}
	c := create{
		Message: notify.Cut(notify.Subject(m), maxMessage), Alias: alias(m), Description: notify.Text(m, maxDescription),
		Entity: notify.Cut(notify.Where(a), maxEntity), Source: source,
		Priority: map[notify.Severity]string{notify.Critical: "P1", notify.Warning: "P3", notify.Info: "P5"}[notify.SeverityOf(m)],
		Details:  map[string]string{"Delivery": m.Key},
	}
	if a.EventType != "" {
		c.Tags = []string{string(a.EventType)}
	}
	left := maxDetails
	for _, f := range notify.Facts(m) {
		if left -= len(f.Name) + len(f.Value); left < 0 {
			break
		}
		c.Details[f.Name] = f.Value
	}
	return notify.JSON(c)
}
