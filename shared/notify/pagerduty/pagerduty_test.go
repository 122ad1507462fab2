package pagerduty

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

const key = "R0123456789ABCDEFGHIJ0123456789A"

func target() notify.Target {
	return notify.Target{Channel: notify.PagerDuty, Secrets: map[string]model.Secret{"serviceKey": key}}
}

func taken(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"success","message":"Event processed","dedup_key":"5f0000000000000000000d02"}`)
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Client: notifytest.Client(), BaseURL: url}) },
		Target: target(), Server: srv, HasKey: true, PerAlert: true, MaxBytes: 500_000,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body(key, notifytest.Message(kind)))
	}
}

func TestOneIncidentFromOpenToClose(t *testing.T) {
	srv, url := notifytest.HTTP(t, taken)
	n := New(Options{Client: notifytest.Client(), BaseURL: url})
	var got []string
	for _, kind := range []model.DeliveryKind{model.DeliverOpen, model.DeliverUpdate, model.DeliverAcknowledge, model.DeliverClose} {
		r, err := n.Notify(t.Context(), target(), notifytest.Message(kind))
		if err != nil || r.Text != "Event processed" || r.ID != "5f0000000000000000000d02" {
			t.Fatalf("%s: %+v, %v", kind, r, err)
		}
	}
	for _, one := range srv.Received() {
		head, body, _ := strings.Cut(one, "\n\n")
		if !strings.HasPrefix(head, "POST /v2/enqueue\n") {
			t.Errorf("sent to %s", head)
		}
		var e event
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Action+" "+e.DedupKey)
	}
	const id = " 5f0000000000000000000d02"
	if want := "trigger" + id + ", trigger" + id + ", acknowledge" + id + ", resolve" + id; strings.Join(got, ", ") != want {
		t.Errorf("got %s", strings.Join(got, ", "))
	}
}

func TestOneRefusedAlertKeepsTheOthersNotBack(t *testing.T) {
	d := notifytest.Digest(5)
	bad := string(d.Others[1].Alert.ID)
	srv, url := notifytest.HTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), bad) {
			http.Error(w, `{"status":"invalid event"}`, http.StatusBadRequest)
			return
		}
		taken(w, r)
	})
	_, err := New(Options{Client: notifytest.Client(), BaseURL: url}).Notify(t.Context(), target(), d)
	if !errors.Is(err, notify.ErrPermanent) || !strings.Contains(err.Error(), "1 of 5 alerts were refused") {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Received()); n != 5 {
		t.Errorf("%d events were sent, want 5", n)
	}
}

func TestEventsStayWithinTheLimits(t *testing.T) {
	m := notifytest.Message(model.DeliverOpen)
	m.Alert.Target.HostName, m.Group.Name = strings.Repeat("ü", 3000), strings.Repeat("g", 3000)
	var e event
	if err := json.Unmarshal(Body(key, m), &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Payload.Summary) > 1024 || e.Payload.Source == "" || e.Payload.Severity != "warning" {
		t.Errorf("got %+v", e.Payload)
	}
	m.Alert, m.Group, m.Site = nil, model.Group{}, ""
	if err := json.Unmarshal(Body(key, m), &e); err != nil || e.DedupKey == "" || e.Payload.Source == "" || e.Payload.Summary == "" {
		t.Errorf("without an alert: %+v, %v", e, err)
	}
}
