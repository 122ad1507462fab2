package webhook

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

const secret = "s3cr3t-of-the-hook"

func target(url string) notify.Target {
	return notify.Target{
		Channel: notify.Webhook,
		Secrets: map[string]model.Secret{"webhookUrl": model.Secret(url + "/hooks/T0123456/abcdefghijklmnop?token=qrstuvwxyz0123"), "webhookSecret": secret},
	}
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, nil)
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Client: notifytest.Client()}) },
		Target: target(url), Server: srv, HasKey: true, MaxBytes: 8 << 20,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body(notifytest.Message(kind)))
	}
	notifytest.GoldenJSON(t, "digest.json", Body(notifytest.Digest(4)))
}

func TestTheSignaturesAreThoseOfTheBody(t *testing.T) {
	srv, url := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	n := New(Options{Client: notifytest.Client()})
	r, err := n.Notify(t.Context(), target(url), notifytest.Message(model.DeliverClose))
	if err != nil || r.Text != "answered 204" {
		t.Fatalf("%+v, %v", r, err)
	}
	head, body, _ := strings.Cut(srv.Received()[0], "\n\n")
	one, two := hmac.New(sha1.New, []byte(secret)), hmac.New(sha256.New, []byte(secret))
	one.Write([]byte(body))
	two.Write([]byte(body))
	for _, want := range []string{
		"X-Mms-Event: alert.close", "X-Mms-Signature: " + base64.StdEncoding.EncodeToString(one.Sum(nil)), "Content-Type: application/json",
		"X-Heartwood-Signature-256: " + hex.EncodeToString(two.Sum(nil)), "Idempotency-Key: 5f0000000000000000000d02/close-1/5f0000000000000000000e01",
	} {
		if !strings.Contains(head+"\n", "\n"+want+"\n") {
			t.Errorf("no header %s in\n%s", want, head)
		}
	}

	unsigned := target(url)
	delete(unsigned.Secrets, "webhookSecret")
	if _, err := n.Notify(t.Context(), unsigned, notifytest.Message(model.DeliverOpen)); err != nil || strings.Contains(srv.Received()[1], "Signature") {
		t.Errorf("without a secret: %v, %s", err, srv.Received()[1])
	}
}

func TestAddressesOfThisMachineAreRefusedUnlessAllowed(t *testing.T) {
	srv, url := notifytest.HTTP(t, nil)
	_, err := New(Options{}).Notify(t.Context(), target(url), notifytest.Message(model.DeliverOpen))
	if err == nil || !strings.Contains(err.Error(), "heartwood.alerts.webhook.allow") || len(srv.Received()) > 0 {
		t.Errorf("got %v, and %d calls", err, len(srv.Received()))
	}
}

// FuzzBody: whatever hosts and people are called, the body is JSON that holds the alert's id, and bounded.
func FuzzBody(f *testing.F) {
	f.Add("db1.example.com:27017", "connection refused", "Shop", 812.0, uint8(0))
	f.Add("\x00\xff\u2028</script>", strings.Repeat("\"\\", 30), "🌲", math.Inf(1), uint8(1))
	f.Add("", "", "", math.NaN(), uint8(9))
	f.Fuzz(func(t *testing.T, host, text, group string, number float64, n uint8) {
		m := notifytest.Message(model.DeliverOpen)
		m.Alert.Target.HostName, m.Alert.Text, m.Group.Name = host, text, group
		m.Alert.Rule.Note, m.Alert.AckComment, m.Alert.AckUntil = text, text, time.Unix(int64(n), 0)
		m.Alert.Value = &model.Reading{Number: number, Units: group}
		for range n % 4 {
			m.Others = append(m.Others, notifytest.Message(model.DeliverClose))
		}
		body := Body(m)
		var got digest
		if err := json.Unmarshal(body, &got); err != nil || got.ID != m.Alert.ID || !utf8.Valid(body) {
			t.Fatalf("%v in %q", err, body)
		}
		if len(got.Alerts) != 0 && len(got.Alerts) != len(m.Others)+1 || len(body) > (len(m.Others)+1)*200_000 {
			t.Fatalf("%d alerts in %d bytes", len(got.Alerts), len(body))
		}
	})
}
