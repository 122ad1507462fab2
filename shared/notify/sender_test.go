package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

type notifier func(ctx context.Context, to Target, m Message) (Result, error)

func (f notifier) Notify(ctx context.Context, to Target, m Message) (Result, error) {
	return f(ctx, to, m)
}

type withPassword struct{ notifier }

func (withPassword) Secrets() []model.Secret { return []model.Secret{"the-password"} }

func TestTheSenderSaysWhatIsMissing(t *testing.T) {
	none := NewSender(nil)
	for _, c := range Channels() {
		if none.Has(c.Name) || none.Missing(c.Name) == "" {
			t.Errorf("%s works without anything", c.Name)
		}
	}
	mail := NewSender(map[string]Notifier{Email: notifier(nil)})
	for name, want := range map[string]bool{Email: true, Group: true, Org: true, User: true, Admin: true, SMS: false, Slack: false, "PIGEON": false} {
		if mail.Has(name) != want {
			t.Errorf("with mail, %s: %q", name, mail.Missing(name))
		}
	}
	text := NewSender(map[string]Notifier{SMS: notifier(nil)})
	if !text.Has(Group) || text.Has(Admin) {
		t.Error("with SMS, users can be told and the operators' mailbox cannot")
	}
	if !strings.Contains(none.Missing(Email), "mms.mail.hostname") || !strings.Contains(none.Missing(SMS), "twilio.account.sid") {
		t.Errorf("%q, %q", none.Missing(Email), none.Missing(SMS))
	}

	_, err := none.Send(t.Context(), Target{Channel: Email}, Message{})
	if !errors.Is(err, ErrNotConfigured) || errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "mms.mail.hostname") {
		t.Errorf("mail without mail: %v", err)
	}
	if _, err := none.Send(t.Context(), Target{Channel: "HIPCHAT"}, Message{}); !errors.Is(err, ErrPermanent) {
		t.Errorf("a channel that is not built: %v", err)
	}
}

func TestTheSenderLetsNoSecretOut(t *testing.T) {
	to := Target{Channel: Slack, Secrets: map[string]model.Secret{"apiToken": "xoxb-123456"}}
	leak := fmt.Sprint("token xoxb-123456 and the-password, see https://slack.com/api/x?token=y\nnext ", strings.Repeat("long ", 1000))
	for _, fail := range []error{errors.New(leak), Refused("%s", leak), Later(time.Minute, "%s", leak), fmt.Errorf("%s: %w", leak, context.Canceled)} {
		s := NewSender(map[string]Notifier{Slack: withPassword{func(context.Context, Target, Message) (Result, error) { return Result{}, fail }}})
		_, err := s.Send(t.Context(), to, Message{})
		if errors.Is(err, ErrPermanent) != errors.Is(fail, ErrPermanent) || RetryAfter(err) != RetryAfter(fail) || errors.Is(err, context.Canceled) != errors.Is(fail, context.Canceled) {
			t.Errorf("%v lost its meaning", err)
		}
		whole := fmt.Sprintf("%v %+v %v", err, err, errors.Unwrap(err))
		for _, bad := range []string{"123456", "password", "token=y", "\n"} {
			if strings.Contains(whole, bad) {
				t.Errorf("%q is in %q", bad, whole)
			}
		}
		if len(err.Error()) > maxSaid {
			t.Errorf("%d bytes", len(err.Error()))
		}
	}
	s := NewSender(map[string]Notifier{Slack: withPassword{func(context.Context, Target, Message) (Result, error) { return Result{leak, leak}, nil }}})
	r, err := s.Send(t.Context(), to, Message{})
	if err != nil || strings.Contains(r.Text+r.ID, "123456") || strings.Contains(r.Text+r.ID, "password") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAChannelThatHangsIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSender(map[string]Notifier{Slack: notifier(func(ctx context.Context, _ Target, _ Message) (Result, error) {
			<-ctx.Done()
			return Result{}, ctx.Err()
		})})
		began := time.Now()
		_, err := s.Send(t.Context(), Target{Channel: Slack}, Message{})
		if took := time.Since(began); took != sendTimeout || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "30s") {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestEach(t *testing.T) {
	m := Message{Key: "1", Others: []Message{{Key: "2"}, {Key: "3"}}}
	for _, c := range []struct {
		name      string
		fail      map[string]error
		sent      string
		text      string
		permanent bool
	}{
		{"all well", nil, "123", "3 alerts: ok 1", false},
		{"one refused", map[string]error{"1": Refused("no")}, "123", "1 of 3 alerts were refused", true},
		{"one fails for now", map[string]error{"2": Later(0, "busy")}, "12", "busy", false},
		{"one refused, one fails for now", map[string]error{"1": Refused("no"), "3": Later(0, "busy")}, "123", "busy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := ""
			r, err := Each(t.Context(), m, func(_ context.Context, one Message) (Result, error) {
				sent += one.Key
				return Result{Text: "ok " + one.Key}, c.fail[one.Key]
			})
			if sent != c.sent || errors.Is(err, ErrPermanent) != c.permanent || !strings.Contains(fmt.Sprint(r.Text, err), c.text) || (err == nil) != (c.fail == nil) {
				t.Errorf("sent %s: %+v, %v", sent, r, err)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	sent := 0
	_, err := Each(ctx, m, func(context.Context, Message) (Result, error) { sent++; stop(); return Result{}, nil })
	if sent != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("stopped after %d: %v", sent, err)
	}
}

func TestHeadersOfARequestWin(t *testing.T) {
	var got http.Header
	rt := roundTrip(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	_, err := Do(t.Context(), &http.Client{Transport: rt}, Request{Service: "x", URL: "http://h/", Header: http.Header{"Content-Type": {"text/plain"}, "X-A": {"b"}}})
	if err != nil || got.Get("Content-Type") != "text/plain" || got.Get("X-A") != "b" {
		t.Errorf("%v, %v", got, err)
	}
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
