// Package pagerduty opens, acknowledges and resolves incidents by PagerDuty's Events API v2. The incident's dedup_key is the
// alert's id, so that repeats and restarts never make a second one.
package pagerduty

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Options are what a Notifier needs.
type Options struct {
	Client  *http.Client // nil: notify.Client with its strictest options
	BaseURL string       // "": https://events.pagerduty.com
}

// Notifier sends events to PagerDuty.
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
	return &Notifier{o.Client, strings.TrimSuffix(cmp.Or(o.BaseURL, "https://events.pagerduty.com"), "/") + "/v2/enqueue"}
}

const (
	maxSummary = 1024
	maxDetail  = 2000
)

// Notify sends an event for each alert of a message.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	key := to.Secrets["serviceKey"]
	return notify.Each(ctx, m, func(ctx context.Context, one notify.Message) (notify.Result, error) {
		h := http.Header{}
		h.Set("Idempotency-Key", one.Key)
		a, err := notify.Do(ctx, n.client, notify.Request{
			Service: "PagerDuty", URL: n.url, Header: h, Body: Body(key, one), Secrets: []model.Secret{key},
		})
		if err != nil {
			return notify.Result{}, err
		}
		var said struct {
			Message  string `json:"message"`
			DedupKey string `json:"dedup_key"`
		}
		_ = json.Unmarshal(a.Body, &said) // the status has already told that it was taken
		return notify.Result{Text: cmp.Or(said.Message, "taken"), ID: said.DedupKey}, nil
	})
}

type event struct {
	RoutingKey string   `json:"routing_key"`
	Action     string   `json:"event_action"`
	DedupKey   string   `json:"dedup_key"`
	Client     string   `json:"client"`
	ClientURL  string   `json:"client_url,omitempty"`
	Links      []link   `json:"links,omitempty"`
	Payload    *payload `json:"payload,omitempty"`
}

type payload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp string            `json:"timestamp,omitempty"`
	Component string            `json:"component,omitempty"`
	Group     string            `json:"group,omitempty"`
	Class     string            `json:"class,omitempty"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

type link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

func action(k model.DeliveryKind) string {
	switch {
	case notify.Over(k):
		return "resolve"
	case k == model.DeliverAcknowledge:
		return "acknowledge"
	}
	return "trigger"
}

// Body is the event for a message about one alert.
func Body(key model.Secret, m notify.Message) []byte {
	a := m.Alert
	if a == nil {
		a = &model.Alert{ID: model.ID(m.Key)}
	}
	e := event{RoutingKey: key.Reveal(), Action: action(m.Kind), DedupKey: string(a.ID), Client: "Heartwood", ClientURL: m.URL}
	if m.URL != "" {
		e.Links = append(e.Links, link{m.URL, "Details"})
	}
	if m.AckURL != "" && notify.Acknowledgeable(m.Kind) {
		e.Links = append(e.Links, link{m.AckURL, "Acknowledge in Heartwood"})
	}
	details := map[string]string{"Delivery": m.Key}
	if s := notify.Sentence(m); s != "" {
		details["What"] = notify.Cut(s, maxDetail)
	}
	for _, f := range notify.Facts(m) {
		details[f.Name] = notify.Cut(f.Value, maxDetail)
	}
	e.Payload = &payload{
		Summary: notify.Cut(notify.Subject(m), maxSummary), Source: source(a, m), Severity: string(notify.SeverityOf(m)),
		Component: notify.Cut(a.Target.ReplicaSet, 200), Group: notify.Cut(cmp.Or(m.Group.Name, m.Site), 200), Class: string(a.EventType), Details: details,
	}
	if !a.Since.IsZero() {
		e.Payload.Timestamp = a.Since.UTC().Format(time.RFC3339)
	}
	return notify.JSON(e)
}

// source is never empty: PagerDuty refuses events without one.
func source(a *model.Alert, m notify.Message) string {
	return notify.Cut(cmp.Or(notify.Where(a), m.Group.Name, m.Site, "Heartwood"), 200)
}
