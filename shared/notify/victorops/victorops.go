// Package victorops opens, acknowledges and resolves incidents by the REST endpoint of Splunk On-Call, VictorOps of old. The
// entity_id is the alert's id, so that repeats and restarts never make a second incident.
package victorops

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
	Client  *http.Client // nil: notify.Client with its strictest options
	BaseURL string       // "": https://alert.victorops.com
}

// Notifier sends to the REST endpoint.
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
	return &Notifier{o.Client, strings.TrimSuffix(cmp.Or(o.BaseURL, "https://alert.victorops.com"), "/") + "/integrations/generic/20131114/alert/"}
}

const (
	maxName  = 500
	maxState = 10000
)

// Notify makes one call for each alert of a message. A route that does not exist leads to the default one, there.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	key := to.Secrets["victorOpsApiKey"]
	address := n.url + url.PathEscape(key.Reveal()) + "/" + url.PathEscape(cmp.Or(to.Fields["victorOpsRoutingKey"], "default"))
	return notify.Each(ctx, m, func(ctx context.Context, one notify.Message) (notify.Result, error) {
		h := http.Header{}
		h.Set("Idempotency-Key", one.Key)
		a, err := notify.Do(ctx, n.client, notify.Request{
			Service: "Splunk On-Call", URL: address, Header: h, Body: Body(one), Secrets: []model.Secret{key},
		})
		if err != nil {
			return notify.Result{}, err
		}
		var said struct {
			Result   string `json:"result"`
			EntityID string `json:"entity_id"`
			Message  string `json:"message"`
		}
		_ = json.Unmarshal(a.Body, &said) // the status has already told that it was taken, unless the body says otherwise
		if said.Result == "failure" {
			return notify.Result{}, notify.Refused("Splunk On-Call refuses the message: %s", cmp.Or(said.Message, "it gave no reason"))
		}
		return notify.Result{Text: cmp.Or(said.Result, "taken"), ID: said.EntityID}, nil
	})
}

type event struct {
	Type      string          `json:"message_type"`
	EntityID  string          `json:"entity_id"`
	Name      string          `json:"entity_display_name"`
	State     string          `json:"state_message"`
	StartTime int64           `json:"state_start_time,omitempty"`
	Tool      string          `json:"monitoring_tool"`
	Host      string          `json:"host_name,omitempty"`
	Group     string          `json:"group,omitempty"`
	EventType model.EventType `json:"event_type,omitempty"`
	Delivery  string          `json:"delivery_key"`
	AlertURL  string          `json:"alert_url,omitempty"`
	AckAuthor string          `json:"ack_author,omitempty"`
}

func messageType(m notify.Message) string {
	switch {
	case notify.Over(m.Kind):
		return "RECOVERY"
	case m.Kind == model.DeliverAcknowledge:
		return "ACKNOWLEDGEMENT"
	}
	if notify.SeverityOf(m) == notify.Info {
		return "INFO"
	}
	return "CRITICAL" // WARNING pages nobody unless the other side is told so
}

// Body is the event for a message about one alert.
func Body(m notify.Message) []byte {
	a := m.Alert
	if a == nil {
		a = &model.Alert{ID: model.ID(m.Key)}
	}
	e := event{
		Type: messageType(m), EntityID: string(a.ID), Name: notify.Cut(notify.Subject(m), maxName), State: notify.Text(m, maxState), Tool: "Heartwood",
		Host: notify.Cut(a.Target.HostName, maxName), Group: notify.Cut(m.Group.Name, maxName), EventType: a.EventType, Delivery: m.Key, AlertURL: m.URL,
	}
	if !a.Since.IsZero() {
		e.StartTime = a.Since.Unix()
	}
	if m.Kind == model.DeliverAcknowledge {
		e.AckAuthor = notify.Cut(a.AckBy, maxName)
	}
	return notify.JSON(e)
}
