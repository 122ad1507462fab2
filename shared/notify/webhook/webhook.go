// Package webhook tells a program: it posts the Public API's alert as JSON. It owns the body's form and its signatures.
//
// The headers are X-MMS-Event (alert.open, alert.update, alert.acknowledge, alert.cancel, alert.close, alert.inform,
// alert.test), Idempotency-Key (equal for repeats of one message) and, where the notification has a secret, X-MMS-Signature
// (base64 of the body's HMAC-SHA1) and X-Heartwood-Signature-256 (hex of its HMAC-SHA256). Any 2xx answer takes the message.
package webhook

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1" // what receivers of X-MMS-Signature verify
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
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

// Notify posts a message. Of a digest the body is the first alert with all of them in its field alerts.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	body := Body(m)
	h := http.Header{}
	h.Set("X-MMS-Event", event(m.Kind))
	h.Set("Idempotency-Key", m.Key)
	if secret := to.Secrets["webhookSecret"]; secret != "" {
		old := hmac.New(sha1.New, []byte(secret.Reveal()))
		old.Write(body)
		h.Set("X-MMS-Signature", base64.StdEncoding.EncodeToString(old.Sum(nil)))
		sum := hmac.New(sha256.New, []byte(secret.Reveal()))
		sum.Write(body)
		h.Set("X-Heartwood-Signature-256", hex.EncodeToString(sum.Sum(nil)))
	}
	a, err := notify.Do(ctx, n.client, notify.Request{
		Service: "the webhook", URL: to.Secrets["webhookUrl"].Reveal(), Header: h, Body: body,
		Secrets: []model.Secret{to.Secrets["webhookUrl"], to.Secrets["webhookSecret"]},
	})
	if err != nil {
		return notify.Result{}, err
	}
	return notify.Result{Text: fmt.Sprintf("answered %d", a.Status)}, nil
}

func event(k model.DeliveryKind) string { return "alert." + string(k) }

// The texts of people and hosts are bounded, so that one alert's body stays below 16 kB.
const (
	maxText   = 4000
	maxAlerts = 500 // of a digest; count says how many there are
)

// alert is the Public API's alert (public-api.md 2.12) and what a message says besides.
type alert struct {
	ID            model.ID          `json:"id"`
	GroupID       model.ID          `json:"groupId,omitempty"`
	ConfigID      model.ID          `json:"alertConfigId,omitempty"`
	EventType     model.EventType   `json:"eventTypeName"`
	TypeName      string            `json:"typeName,omitempty"`
	Status        model.AlertStatus `json:"status"`
	Created       string            `json:"created,omitempty"`
	Updated       string            `json:"updated,omitempty"`
	Resolved      string            `json:"resolved,omitempty"`
	LastNotified  string            `json:"lastNotified,omitempty"`
	AckUntil      string            `json:"acknowledgedUntil,omitempty"`
	AckComment    string            `json:"acknowledgementComment,omitempty"`
	AckBy         string            `json:"acknowledgingUsername,omitempty"`
	HostID        model.HostID      `json:"hostId,omitempty"`
	HostName      string            `json:"hostnameAndPort,omitempty"`
	ReplicaSet    string            `json:"replicaSetName,omitempty"`
	ShardName     string            `json:"shardName,omitempty"`
	ClusterID     model.ID          `json:"clusterId,omitempty"`
	ClusterName   string            `json:"clusterName,omitempty"`
	MetricName    string            `json:"metricName,omitempty"`
	CurrentValue  *value            `json:"currentValue,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	Links         []link            `json:"links"`
	Event         string            `json:"event"`
	DeliveryKey   string            `json:"deliveryKey"`
	HumanReadable string            `json:"humanReadable"`
	GroupName     string            `json:"groupName,omitempty"`
	Note          string            `json:"note,omitempty"`
	Since         string            `json:"since,omitempty"`
	Site          string            `json:"site,omitempty"`
}

type digest struct {
	alert
	Count  int     `json:"count"`
	Alerts []alert `json:"alerts"`
}

type value struct {
	Number float64 `json:"number"`
	Units  string  `json:"units"`
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// Body is what is posted for a message.
func Body(m notify.Message) []byte {
	first := alertOf(m)
	if len(m.Others) == 0 {
		return notify.JSON(first)
	}
	d := digest{alert: first, Count: len(m.Others) + 1, Alerts: []alert{}}
	d.HumanReadable = text(notify.Summary(m))
	for _, one := range m.All() {
		if len(d.Alerts) == maxAlerts {
			break
		}
		d.Alerts = append(d.Alerts, alertOf(one))
	}
	return notify.JSON(d)
}

func alertOf(m notify.Message) alert {
	a := m.Alert
	if a == nil {
		a = &model.Alert{}
	}
	out := alert{
		ID: a.ID, GroupID: a.GroupID, ConfigID: a.ConfigID, EventType: a.EventType, TypeName: typeName(a.EventType), Status: a.Status,
		Created: moment(a.Created), Updated: moment(a.Updated), Resolved: moment(a.Resolved), LastNotified: moment(a.LastNotified), Since: moment(a.Since),
		HostID: a.Target.HostID, HostName: text(a.Target.HostName), ReplicaSet: text(a.Target.ReplicaSet), ShardName: text(a.Target.ShardName),
		ClusterID: a.Target.ClusterID, ClusterName: text(a.Target.ClusterName), Tags: a.Tags,
		Event: event(m.Kind), DeliveryKey: m.Key, HumanReadable: text(cmp.Or(notify.Sentence(m), notify.Headline(m))),
		GroupName: text(m.Group.Name), Note: text(a.Rule.Note), Site: text(m.Site), Links: []link{},
	}
	if !a.AckUntil.IsZero() {
		out.AckUntil, out.AckComment, out.AckBy = moment(a.AckUntil), text(a.AckComment), text(a.AckBy)
	}
	if a.EventType == model.EventOutsideMetric && a.Rule.Metric != nil {
		out.MetricName = text(a.Rule.Metric.Metric)
		if a.Value != nil && finite(a.Value.Number) {
			out.CurrentValue = &value{a.Value.Number, cmp.Or(a.Value.Units, "RAW")}
		}
	}
	if m.URL != "" {
		out.Links = append(out.Links, link{"self", m.URL})
	}
	if m.AckURL != "" && notify.Acknowledgeable(m.Kind) {
		out.Links = append(out.Links, link{"acknowledge", m.AckURL})
	}
	return out
}

// finite says whether JSON has the number.
func finite(f float64) bool { return f-f == 0 }

func text(s string) string { return notify.Cut(s, maxText) }

// moment is a time in the form of the Public API.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// typeName is the Public API's deprecated kind of an alert.
func typeName(e model.EventType) string {
	if e == model.EventOutsideMetric {
		return "HOST_METRIC"
	}
	t, _ := rule.TypeOf(e)
	switch t.Category {
	case rule.Host, rule.ReplicaSet, rule.Cluster, rule.Agent, rule.Backup:
		return string(t.Category)
	}
	return ""
}
