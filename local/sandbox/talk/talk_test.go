package talk

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func roundTrip[T any](t *testing.T, v T) T {
	t.Helper()
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode[T](b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestResultsSurviveTheWay(t *testing.T) {
	if r, err := roundTrip(t, NewSent(notify.Result{Text: "taken", ID: "7"}, nil)).Result(); err != nil || r.Text != "taken" || r.ID != "7" {
		t.Errorf("%+v, %v", r, err)
	}
	for name, c := range map[string]struct {
		err       error
		permanent bool
		after     time.Duration
		is        error
	}{
		"refused for good": {notify.Refused("no such address"), true, 0, notify.ErrPermanent},
		"asked to wait":    {notify.Later(90*time.Second, "slow down"), false, 90 * time.Second, nil},
		"not in time":      {fmt.Errorf("sent: %w", context.DeadlineExceeded), false, 0, context.DeadlineExceeded},
		"stopped":          {context.Canceled, false, 0, context.Canceled},
		"not configured":   {fmt.Errorf("mail: %w", notify.ErrNotConfigured), false, 0, notify.ErrNotConfigured},
		"anything else":    {errors.New("broken"), false, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := roundTrip(t, NewSent(notify.Result{}, c.err)).Result()
			if err == nil || err.Error() != c.err.Error() || errors.Is(err, notify.ErrPermanent) != c.permanent || notify.RetryAfter(err) != c.after {
				t.Errorf("%v, after %v", err, notify.RetryAfter(err))
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is no %v any more", err, c.is)
			}
		})
	}
}

func TestALetterArrivesWhole(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	value := 81.5
	alert := &model.Alert{ID: "a", GroupID: "g", EventType: "HOST_DOWN", Status: "OPEN", Created: at, Value: &model.Reading{Number: value, Units: "RAW"}}
	want := Letter{
		To: notify.Target{Channel: notify.Webhook, Address: "https://…", Fields: map[string]string{"a": "b"}, Secrets: map[string]model.Secret{"url": "https://secret"}},
		Message: notify.Message{
			Key: "k", Kind: "open", Alert: alert, Group: model.Group{ID: "g", Name: "prod"}, Others: []notify.Message{{Key: "2", Alert: alert, At: at}},
			URL: "https://hw", Picture: []byte{1, 2}, At: at, NextAt: at.Add(time.Minute),
		},
	}
	if diff := cmp.Diff(want, roundTrip(t, want)); diff != "" {
		t.Error(diff)
	}
}

// TestGuestsGetNoSecretsOfOthers: every setting that is a secret is empty, or is listed here with its reason.
func TestGuestsGetNoSecretsOfOthers(t *testing.T) {
	full := map[string]string{
		"mongo.mongoUri": "mongodb://u:p@h/", "mongo.backupdb.mongoUri": "mongodb://u:p@h/", "mongodb.ssl.PEMKeyFilePassword": "x", "mms.https.PEMKeyFilePassword": "x",
		"heartwood.alerts.heartbeatUrl": "https://x/secret", "mms.mail.password": "x", "aws.secretkey": "x", "aws.accesskey": "a", "twilio.account.sid": "AC1",
		"twilio.auth.token": "x", "twilio.from.num": "+15005550006", "mms.mail.username": "u", "mms.mail.hostname": "m", "mms.fromEmailAddr": "a@example.com",
	}
	l, err := config.Load(config.Sources{File: full})
	if err != nil {
		t.Fatal(err)
	}
	l.Server.GenKey = "x"
	given := config.Loaded{Server: ForGuests(&l.Server)}
	for _, v := range given.Redacted() {
		if v.Value == "***" || v.Key == "mongo.mongoUri" && v.Value != "" {
			t.Errorf("guests get %s", v.Key)
		}
	}
	if l.Server.MailPass != "x" {
		t.Error("the server's own settings have changed")
	}
	if got := roundTrip(t, Config{Server: ForGuests(&l.Server), Key: []byte("k")}); got.Server.RetainAlerts != l.Server.RetainAlerts || got.Server.FromEmail != "a@example.com" {
		t.Errorf("%+v", got.Server)
	}
}

func TestGuestsOfAnotherRevisionAreRefused(t *testing.T) {
	for _, c := range []struct {
		host, guest string
		fits        bool
	}{{"aaa", "aaa", true}, {"aaa", "bbb", false}, {"000", "bbb", true}, {"aaa", "", true}} {
		if why := Mismatch(obs.BuildInfo{Revision: c.host}, obs.BuildInfo{Revision: c.guest}); (why == "") != c.fits {
			t.Errorf("%+v: %q", c, why)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(Letter{To: notify.Target{Channel: "EMAIL"}, Message: notify.Message{Key: "k", Alert: &model.Alert{ID: "a"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := Decode[Letter](b); err == nil {
			if _, err := Encode(l); err != nil {
				t.Error(err)
			}
		}
		_, _ = Decode[Duties](b)
		_, _ = Decode[Password](b)
		_, _ = Decode[Door](b)
	})
}
