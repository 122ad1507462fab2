package teams

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

func target(url string) notify.Target {
	return notify.Target{
		Channel: notify.Teams, Address: "logic.azure.com",
		Secrets: map[string]model.Secret{
			"microsoftTeamsWebhookUrl": model.Secret(url + "/workflows/0a1b2c3d4e5f/triggers/manual/paths/invoke?api-version=2016-06-01&sig=AbCdEfGhIjKlMnOp"),
		},
	}
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Client: notifytest.Client()}) },
		Target: target(url), Server: srv, HasKey: true, MaxBytes: 28 << 10,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body(notifytest.Message(kind)))
	}
	notifytest.GoldenJSON(t, "digest.json", Body(notifytest.Digest(4)))
}

func TestOldConnectorsTellInWordsWhatTeamsSaid(t *testing.T) {
	for _, c := range []struct {
		name, body       string
		fails, permanent bool
	}{
		{"taken", "1", false, false},
		{"too many", "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x", true, false},
		{"gone", "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 404 with ContextId x", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.body) })
			_, err := New(Options{Client: notifytest.Client()}).Notify(t.Context(), target(url), notifytest.Message(model.DeliverOpen))
			if (err != nil) != c.fails || errors.Is(err, notify.ErrPermanent) != c.permanent {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMarkdownOfNamesIsShownAsItIs(t *testing.T) {
	m := notifytest.Message(model.DeliverOpen)
	m.Group.Name = "[click](http://evil)"
	if body := string(Body(m)); strings.Contains(body, `"value":"[click]`) || !strings.Contains(body, `\\[click\\](http://evil)`) {
		t.Errorf("got %s", body)
	}
}
