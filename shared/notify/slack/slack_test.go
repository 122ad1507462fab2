package slack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

func target() notify.Target {
	return notify.Target{
		Channel: notify.Slack, Address: "#ops", Fields: map[string]string{"channelName": "#ops"},
		Secrets: map[string]model.Secret{"apiToken": "xoxb-1234567890-abcdefghij"},
	}
}

func ok(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"ok":true,"channel":"C0123","ts":"1772359200.000100"}`)
}

func TestChannel(t *testing.T) {
	srv, url := notifytest.HTTP(t, ok)
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Client: notifytest.Client(), BaseURL: url}) },
		Target: target(), Server: srv, HasKey: true, MaxBytes: 100_000,
	})
}

func TestBodies(t *testing.T) {
	for _, kind := range notifytest.Kinds() {
		notifytest.GoldenJSON(t, string(kind)+".json", Body("#ops", notifytest.Message(kind)))
	}
	notifytest.GoldenJSON(t, "digest.json", Body("#ops", notifytest.Digest(4)))
}

func TestSlackTellsInTheBodyWhatItThinks(t *testing.T) {
	for _, c := range []struct {
		name, body string
		permanent  bool
		want       string
	}{
		{"a channel nobody knows", `{"ok":false,"error":"channel_not_found"}`, true, "there is no such channel"},
		{"a code of another day", `{"ok":false,"error":"something_new"}`, true, "something_new"},
		{"too many messages", `{"ok":false,"error":"ratelimited"}`, false, "ratelimited"},
		{"its own fault", `{"ok":false,"error":"internal_error"}`, false, "internal_error"},
		{"no reason", `{}`, false, "no reason"},
		{"a page of a proxy", `<html>`, false, "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.body) })
			_, err := New(Options{Client: notifytest.Client(), BaseURL: url}).Notify(t.Context(), target(), notifytest.Message(model.DeliverOpen))
			if err == nil || errors.Is(err, notify.ErrPermanent) != c.permanent || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTheTokenIsInTheHeaderOnly(t *testing.T) {
	srv, url := notifytest.HTTP(t, ok)
	r, err := New(Options{Client: notifytest.Client(), BaseURL: url + "/"}).Notify(t.Context(), target(), notifytest.Message(model.DeliverOpen))
	if err != nil || r.ID != "1772359200.000100" || r.Text != "written in C0123" {
		t.Fatalf("%+v, %v", r, err)
	}
	head, body, _ := strings.Cut(srv.Received()[0], "\n\n")
	if !strings.HasPrefix(head, "POST /chat.postMessage\n") || !strings.Contains(head, "\nAuthorization: Bearer xoxb-1234567890-abcdefghij\n") {
		t.Errorf("headers: %s", head)
	}
	if strings.Contains(body, "xoxb") || !strings.Contains(body, `"channel":"#ops"`) {
		t.Errorf("body: %s", body)
	}
}

func TestNamesCannotMentionOrLink(t *testing.T) {
	m := notifytest.Message(model.DeliverOpen)
	m.Alert.Text, m.Group.Name, m.URL = "<!channel> & <http://evil|click>", "<@U1>", "https://h/a|b>c"
	body := string(Body("ops", m))
	for _, bad := range []string{"<!", "<http://evil", "<@", "a|b", "b>c"} {
		if strings.Contains(body, bad) {
			t.Errorf("%q is in %s", bad, body)
		}
	}
	if !strings.Contains(body, "&lt;!channel&gt; &amp;") {
		t.Errorf("the text is lost: %s", body)
	}
}

func TestBlocksStayWithinSlacksLimits(t *testing.T) {
	m := notifytest.Message(model.DeliverOpen)
	m.Alert.Text, m.Alert.Rule.Note = strings.Repeat("<&>", 5000), strings.Repeat("&", 9000)
	for _, at := range []int{1, 100} {
		d := notifytest.Digest(at)
		d.Alert.Target.HostName = strings.Repeat("&", 3000)
		for i, one := range []notify.Message{m, d} {
			var got message
			decode(t, Body("ops", one), &got)
			if n := len(got.Attachments[0].Blocks); n > 50 {
				t.Errorf("%d blocks", n)
			}
			for _, b := range got.Attachments[0].Blocks {
				if b.Text != nil && len(b.Text.Text) > 3000 || len(b.Fields) > 10 {
					t.Errorf("message %d: a block of %d bytes with %d fields", i, len(fmt.Sprint(b.Text)), len(b.Fields))
				}
				for _, f := range b.Fields {
					if len(f.Text) > 2000 {
						t.Errorf("a field of %d bytes", len(f.Text))
					}
				}
			}
		}
	}
}

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}
