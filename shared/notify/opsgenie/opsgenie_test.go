package opsgenie

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

func target(region string) notify.Target {
	return notify.Target{
		Channel: notify.OpsGenie, Fields: map[string]string{"opsGenieRegion": region},
		Secrets: map[string]model.Secret{"opsGenieApiKey": "0e2c1f6d-aaaa-bbbb-cccc-0123456789ab"},
	}
}

func taken(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"result":"Request will be processed","took":0.302,"requestId":"43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}`)
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	notifytest.Run(t, notifytest.Suite{
		New: func(*testing.T) notify.Notifier {
			return New(Options{Client: notifytest.Client(), US: url, EU: "http://127.0.0.1:1"})
		},
		Target: target("US"), Server: srv, HasKey: true, PerAlert: true, MaxBytes: 50_000,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body(notifytest.Message(kind)))
	}
}

func TestCallsGoByRegionAndKind(t *testing.T) {
	const alias = "/v2/alerts/5f0000000000000000000d02"
	us, usURL := notifytest.HTTP(t, taken)
	eu, euURL := notifytest.HTTP(t, taken)
	n := New(Options{Client: notifytest.Client(), US: usURL, EU: euURL + "/"})
	for _, c := range []struct {
		region string
		kind   model.DeliveryKind
		path   string
		at     *notifytest.Server
	}{
		{"", model.DeliverOpen, "/v2/alerts", us},
		{"US", model.DeliverAcknowledge, alias + "/acknowledge?identifierType=alias", us},
		{"EU", model.DeliverUpdate, "/v2/alerts", eu},
		{"EU", model.DeliverClose, alias + "/close?identifierType=alias", eu},
		{"EU", model.DeliverCancel, alias + "/close?identifierType=alias", eu},
	} {
		r, err := n.Notify(t.Context(), target(c.region), notifytest.Message(c.kind))
		if err != nil || r.ID != "43a29c5c-3dbf-4fa4-9c26-f4f71023e120" || r.Text != "Request will be processed" {
			t.Errorf("%s in %s: %+v, %v", c.kind, c.region, r, err)
		}
		all := c.at.Received()
		if len(all) == 0 || !strings.HasPrefix(all[len(all)-1], "POST "+c.path+"\n") {
			t.Errorf("%s in %s: not sent to %s", c.kind, c.region, c.path)
			continue
		}
		if !strings.Contains(all[len(all)-1], "\nAuthorization: GenieKey 0e2c1f6d-aaaa-bbbb-cccc-0123456789ab\n") {
			t.Errorf("%s: no key in %s", c.kind, all[len(all)-1])
		}
	}
}

func TestAnAlertThatIsGoneThereNeedsNoClosing(t *testing.T) {
	_, url := notifytest.HTTP(t, http.NotFound)
	n := New(Options{Client: notifytest.Client(), US: url})
	if r, err := n.Notify(t.Context(), target(""), notifytest.Message(model.DeliverClose)); err != nil || r.Text == "" {
		t.Errorf("closing: %+v, %v", r, err)
	}
	if _, err := n.Notify(t.Context(), target(""), notifytest.Message(model.DeliverOpen)); !errors.Is(err, notify.ErrPermanent) {
		t.Errorf("opening: %v, want a permanent failure", err)
	}
}

func TestAlertsStayWithinTheLimits(t *testing.T) {
	m := notifytest.Message(model.DeliverOpen)
	huge := strings.Repeat("ü", 20000)
	m.Alert.Target.HostName, m.Group.Name, m.Alert.Text, m.Alert.Rule.Note, m.Site = huge, huge, huge, huge, huge
	var c create
	if err := json.Unmarshal(Body(m), &c); err != nil {
		t.Fatal(err)
	}
	details := 0
	for k, v := range c.Details {
		details += len(k) + len(v)
	}
	if len(c.Message) > 130 || len(c.Description) > 15000 || len(c.Entity) > 512 || len(c.Source) > 100 || details > 8000 {
		t.Errorf("message %d, description %d, entity %d, source %d, details %d", len(c.Message), len(c.Description), len(c.Entity), len(c.Source), details)
	}
}
