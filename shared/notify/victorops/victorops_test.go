package victorops

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

func target(route string) notify.Target {
	return notify.Target{
		Channel: notify.VictorOps, Fields: map[string]string{"victorOpsRoutingKey": route},
		Secrets: map[string]model.Secret{"victorOpsApiKey": "9f8e7d6c-1111-2222-3333-0123456789ab"},
	}
}

func taken(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"result":"success","entity_id":"5f0000000000000000000d02"}`)
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Client: notifytest.Client(), BaseURL: url}) },
		Target: target("database"), Server: srv, HasKey: true, PerAlert: true, MaxBytes: 20_000,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body(notifytest.Message(kind)))
	}
}

func TestOneIncidentFromOpenToClose(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	n := New(Options{Client: notifytest.Client(), BaseURL: url})
	want := map[model.DeliveryKind]string{
		model.DeliverOpen: "CRITICAL", model.DeliverUpdate: "CRITICAL", model.DeliverAcknowledge: "ACKNOWLEDGEMENT", model.DeliverClose: "RECOVERY",
		model.DeliverCancel: "RECOVERY", model.DeliverInform: "INFO", model.DeliverTest: "INFO",
	}
	for _, kind := range notifytest.Kinds() {
		if _, err := n.Notify(t.Context(), target("data base/x"), notifytest.Message(kind)); err != nil {
			t.Fatal(err)
		}
		all := srv.Received()
		head, body, _ := strings.Cut(all[len(all)-1], "\n\n")
		if !strings.HasPrefix(head, "POST /integrations/generic/20131114/alert/9f8e7d6c-1111-2222-3333-0123456789ab/data%20base%2Fx\n") {
			t.Errorf("sent to %s", head)
		}
		var e event
		if err := json.Unmarshal([]byte(body), &e); err != nil || e.Type != want[kind] || e.EntityID != "5f0000000000000000000d02" {
			t.Errorf("%s: %s of %s (%v)", kind, e.Type, e.EntityID, err)
		}
	}
}

func TestWithoutARouteItIsTheDefaultOne(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	_, err := New(Options{Client: notifytest.Client(), BaseURL: url}).Notify(t.Context(), target(""), notifytest.Message(model.DeliverOpen))
	if err != nil || !strings.Contains(srv.Received()[0], "0123456789ab/default\n") {
		t.Errorf("%v, sent %s", err, srv.Received())
	}
}

func TestARefusalInTheBodyIsOne(t *testing.T) {
	_, url := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":"failure","message":"Unrecognized API key"}`)
	})
	_, err := New(Options{Client: notifytest.Client(), BaseURL: url}).Notify(t.Context(), target(""), notifytest.Message(model.DeliverOpen))
	if !errors.Is(err, notify.ErrPermanent) || !strings.Contains(err.Error(), "Unrecognized API key") {
		t.Errorf("got %v", err)
	}
}
