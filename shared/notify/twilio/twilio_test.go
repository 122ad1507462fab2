package twilio

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

const token = "0123456789abcdef0123456789abcdef"

var bob = notify.Target{Channel: notify.SMS, Address: "+49 170 1234567"}

func formText(received string) string {
	_, body, _ := strings.Cut(received, "\n\n")
	text, err := url.QueryUnescape(body)
	if err != nil {
		return received
	}
	return text
}

func TestSuite(t *testing.T) {
	srv, base := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM1","status":"queued"}`)
	})
	notifytest.Run(t, notifytest.Suite{
		New: func(*testing.T) notify.Notifier {
			return New(Options{Account: "AC1", Token: token, From: "+15005550006", Client: notifytest.Client(), BaseURL: base})
		},
		Target: bob, Server: srv, MaxBytes: 1000, Plain: formText,
	})
}

func TestTheCallIsAsTwilioWantsIt(t *testing.T) {
	srv, base := notifytest.HTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM1","status":"queued"}`)
	})
	for from, field := range map[string]string{"+15005550006": "From=%2B15005550006", "MG123": "MessagingServiceSid=MG123"} {
		n := New(Options{Account: "AC1", Token: token, From: from, Client: notifytest.Client(), BaseURL: base})
		r, err := n.Notify(t.Context(), bob, notifytest.Message(model.DeliverOpen))
		if err != nil || r.ID != "SM1" || r.Text != "taken by Twilio: queued" {
			t.Fatalf("%+v, %v", r, err)
		}
		got := srv.Received()[len(srv.Received())-1]
		for _, want := range []string{
			"POST /2010-04-01/Accounts/AC1/Messages.json\n", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("AC1:"+token)) + "\n",
			"Content-Type: application/x-www-form-urlencoded\n", "To=%2B491701234567", field,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}
	}
}

func TestWhatTwilioRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		status    int
		body      string
		permanent bool
		want      string
	}{
		"a number that is none":   {400, `{"code":21211,"message":"The 'To' number is not a valid phone number."}`, true, "not a valid phone number"},
		"a wrong token":           {401, `{"code":20003,"message":"Authenticate"}`, false, "check twilio.account.sid and twilio.auth.token"},
		"too many":                {429, `{"code":20429,"message":"Too Many Requests"}`, false, "429"},
		"its own fault":           {500, `<html>`, false, "500"},
		"a number that opted out": {400, `{"code":21610,"message":"Attempt to send to unsubscribed recipient"}`, true, "unsubscribed"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		n := New(Options{Account: "AC1", Token: token, From: "+15005550006", Client: notifytest.Client(), BaseURL: srv.URL})
		_, err := n.Notify(context.Background(), bob, notifytest.Message(model.DeliverOpen))
		if err == nil || errors.Is(err, notify.ErrPermanent) != c.permanent || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		srv.Close()
	}
	n := New(Options{Account: "AC1", Token: token})
	if _, err := n.Notify(t.Context(), notify.Target{Channel: notify.SMS, Address: "0170 123"}, notifytest.Message(model.DeliverOpen)); !errors.Is(err, notify.ErrPermanent) {
		t.Errorf("a number without country code: %v", err)
	}
}

func TestOneSMSIsEnoughWhereTheAlphabetAllows(t *testing.T) {
	for _, k := range notifytest.Kinds() {
		m := notifytest.Message(k)
		m.Group.Name = "Shop – “prod”"
		text := Short(m)
		if n, ok := septets(text); !ok || n > oneSMS {
			t.Errorf("%s: %d places: %s", k, n, text)
		}
		if !strings.Contains(text, "db1.example.com:27017") {
			t.Errorf("%s: no host in %s", k, text)
		}
	}
	m := notifytest.Message(model.DeliverOpen)
	m.URL = "https://hw.example.com/a/1"
	if text := Short(m); !strings.HasSuffix(text, m.URL) || !strings.Contains(text, "812") || !strings.Contains(text, "since 09:55 UTC") {
		t.Errorf("%s", text)
	}
	m.Group.Name = "日本のお店"
	if n, _ := units(Short(m)); n > twoUCS2 || !strings.Contains(Short(m), "日本") {
		t.Errorf("%d units: %s", n, Short(m))
	}
	long := notifytest.Message(model.DeliverOpen)
	long.Alert.Target.HostName = strings.Repeat("[h]", 100)
	if n, ok := septets(Short(long)); !ok || n > oneSMS {
		t.Errorf("%d places: %s", n, Short(long))
	}
}

func TestLettersTakeTheirPlaces(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "Größe €": 8, "[x]": 5, "日": -1} {
		n, ok := septets(text)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q takes %d, want %d", text, n, want)
		}
	}
}

func FuzzShort(f *testing.F) {
	f.Add("db1:27017", "Shop", "https://x")
	f.Fuzz(func(t *testing.T, host, group, link string) {
		m := notifytest.Message(model.DeliverOpen)
		m.Alert.Target.HostName, m.Group.Name, m.URL = host, group, link
		text := Short(m)
		n, ok := septets(text)
		if u, _ := units(text); ok && n > oneSMS || !ok && u > twoUCS2 {
			t.Fatalf("%d, %d: %s", n, u, text)
		}
	})
}
