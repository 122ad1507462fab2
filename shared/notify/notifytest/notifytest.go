// Package notifytest is what every channel must pass: Run checks a Notifier against a server in the test's process, HTTP
// makes such a server for channels that call one, and Message and Digest are examples for golden files.
package notifytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Outcome is what a message meets on the other side.
type Outcome string

// The outcomes.
const (
	Accept Outcome = "accept"
	Busy   Outcome = "busy"   // too many messages; says for how long (RetryIn) where the protocol can: HTTP 429
	Broken Outcome = "broken" // its own fault, perhaps soon over: HTTP 503, SMTP 451
	Refuse Outcome = "refuse" // for good: HTTP 400, SMTP 550. Repeats the message's secrets in what it says, as real servers do
	Hang   Outcome = "hang"   // takes the connection and never answers
	Gone   Outcome = "gone"   // closes the connection without an answer
)

// RetryIn is what a busy server asks for.
const RetryIn = 7 * time.Second

// Server is the other side, a real one in the test's process.
type Server struct {
	Set       func(Outcome)   // what messages meet from now on
	Received  func() []string // all messages so far, each whole as text: headers, decoded body, everything
	Outcomes  []Outcome       // those the protocol knows besides Accept
	TellsTime bool            // Busy says RetryIn
}

// Suite is a channel under test.
type Suite struct {
	New      func(t *testing.T) notify.Notifier // to talk to Server; its time limit must be short where Hang is an outcome
	Target   notify.Target                      // with every secret that the channel knows, each of at least 8 characters
	Server   *Server
	HasKey   bool                         // the message's idempotency key is part of what is sent
	PerAlert bool                         // a digest makes one call for each alert
	MaxBytes int                          // what the other side takes at most; 0: no limit
	Plain    func(received string) string // undoes encodings of the whole (quoted-printable, form, base64); nil: JSON or plain text
	Silent   []model.DeliveryKind         // kinds the channel sends nothing for
}

// Kinds are all the kinds of messages.
func Kinds() []model.DeliveryKind {
	return []model.DeliveryKind{
		model.DeliverOpen, model.DeliverUpdate, model.DeliverAcknowledge, model.DeliverCancel, model.DeliverClose, model.DeliverInform, model.DeliverTest,
	}
}

// Run checks a channel.
func Run(t *testing.T, s Suite) {
	t.Run("every kind of message arrives and says what it is about", s.kinds)
	t.Run("the idempotency key goes along, the same each time", s.keys)
	t.Run("answers are judged", s.outcomes)
	t.Run("no secret is in an error or a result", s.secrets)
	t.Run("a cancelled context ends it", s.cancelled)
	t.Run("several alerts in one message", s.digest)
	t.Run("what hosts and people are called arrives as it is", s.unicode)
	t.Run("long texts are cut", s.long)
}

// send sends through a Sender, as the alerts function does, and returns what arrived.
func (s *Suite) send(t *testing.T, o Outcome, m notify.Message) ([]string, notify.Result, error) {
	t.Helper()
	s.Server.Set(o)
	before := len(s.Server.Received())
	sender := notify.NewSender(map[string]notify.Notifier{s.Target.Channel: s.New(t)})
	r, err := sender.Send(t.Context(), s.Target, m)
	got := s.Server.Received()[before:]
	plain := make([]string, len(got))
	for i, g := range got {
		if plain[i] = g; s.Plain != nil {
			plain[i] = s.Plain(g)
		}
	}
	return plain, r, err
}

func (s *Suite) silent(k model.DeliveryKind) bool {
	for _, is := range s.Silent {
		if is == k {
			return true
		}
	}
	return false
}

func (s *Suite) kinds(t *testing.T) {
	for _, kind := range Kinds() {
		got, r, err := s.send(t, Accept, Message(kind))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if s.silent(kind) {
			if len(got) > 0 || r.Text == "" {
				t.Errorf("%s: sent %q with result %q, want nothing sent and a result that says so", kind, got, r.Text)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d messages arrived, want 1", kind, len(got))
			continue
		}
		if !strings.Contains(got[0], "db1.example.com:27017") && !strings.Contains(got[0], string(Message(kind).Alert.ID)) {
			t.Errorf("%s: the message names neither host nor alert: %s", kind, got[0])
		}
		if (kind == model.DeliverOpen || kind == model.DeliverInform) && !strings.Contains(got[0], "db1.example.com:27017") {
			t.Errorf("%s: the message does not name the host: %s", kind, got[0])
		}
	}
}

func (s *Suite) keys(t *testing.T) {
	if !s.HasKey {
		t.Skip("the channel knows no keys")
	}
	m := Message(model.DeliverOpen)
	for range 2 {
		got, _, err := s.send(t, Accept, m)
		if err != nil || len(got) != 1 || !strings.Contains(got[0], m.Key) {
			t.Fatalf("key %q is not in %q (%v)", m.Key, got, err)
		}
	}
}

func (s *Suite) outcomes(t *testing.T) {
	for _, o := range s.Server.Outcomes {
		began := time.Now()
		got, _, err := s.send(t, o, Message(model.DeliverOpen))
		if err == nil {
			t.Errorf("%s: no error", o)
			continue
		}
		if permanent := errors.Is(err, notify.ErrPermanent); permanent != (o == Refuse) {
			t.Errorf("%s: permanent is %v: %v", o, permanent, err)
		}
		if o == Busy && s.Server.TellsTime && notify.RetryAfter(err) != RetryIn {
			t.Errorf("busy: to be tried again after %v, want %v", notify.RetryAfter(err), RetryIn)
		}
		if o == Hang && time.Since(began) > 10*time.Second {
			t.Errorf("hang: took %v", time.Since(began))
		}
		if len(got) > 1 {
			t.Errorf("%s: tried %d times: trying again is the outbox's", o, len(got))
		}
	}
	if _, _, err := s.send(t, Accept, Message(model.DeliverOpen)); err != nil {
		t.Errorf("after the failures: %v", err)
	}
}

func (s *Suite) secrets(t *testing.T) {
	for _, o := range append([]Outcome{Accept}, s.Server.Outcomes...) {
		_, r, err := s.send(t, o, Message(model.DeliverOpen))
		said := r.Text + "\n" + r.ID + "\n" + fmt.Sprintf("%v\n%+v\n%#v", err, err, err)
		for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(next) {
			said += "\n" + next.Error()
		}
		for name, secret := range s.Target.Secrets {
			if len(secret.Reveal()) < 8 {
				t.Fatalf("the secret %s of the test is too short", name)
			}
			if notify.Scrub(said, secret) != said && strings.Contains(said, secret.Reveal()) {
				t.Errorf("%s: the secret %s is in %q", o, name, said)
			}
			if tail := secret.Reveal()[len(secret.Reveal())-8:]; strings.Contains(said, tail) {
				t.Errorf("%s: the end of the secret %s is in %q", o, name, said)
			}
		}
	}
}

func (s *Suite) cancelled(t *testing.T) {
	s.Server.Set(Accept)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	before := len(s.Server.Received())
	sender := notify.NewSender(map[string]notify.Notifier{s.Target.Channel: s.New(t)})
	_, err := sender.Send(ctx, s.Target, Message(model.DeliverOpen))
	if err == nil || errors.Is(err, notify.ErrPermanent) {
		t.Errorf("a message sent with a cancelled context: %v, want an error that is not permanent", err)
	}
	if got := s.Server.Received()[before:]; len(got) > 0 {
		t.Errorf("it was sent nevertheless: %q", got)
	}
}

func (s *Suite) digest(t *testing.T) {
	m := Digest(12)
	got, _, err := s.send(t, Accept, m)
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	if s.PerAlert {
		want = 12
	}
	if len(got) != want {
		t.Fatalf("%d messages arrived, want %d", len(got), want)
	}
	if s.MaxBytes > 0 && s.MaxBytes < 2000 { // no room for names
		return
	}
	whole := strings.Join(got, "\n")
	for _, one := range m.All() {
		if !strings.Contains(whole, one.Alert.Target.HostName) {
			t.Errorf("the digest does not name %s:\n%s", one.Alert.Target.HostName, whole)
		}
	}
}

func (s *Suite) unicode(t *testing.T) {
	m := Message(model.DeliverOpen)
	name := "Søk & <Größe> \"日本\" 🌲"
	m.Group.Name = name
	m.Alert.Text = "Antwortet nicht: " + name
	got, _, err := s.send(t, Accept, m)
	if err != nil || len(got) != 1 {
		t.Fatalf("%d messages: %v", len(got), err)
	}
	if s.MaxBytes > 0 && s.MaxBytes < 2000 {
		return
	}
	for _, part := range []string{"Søk", "Größe", "日本", "🌲"} {
		if !strings.Contains(unescape(got[0]), part) {
			t.Errorf("%q did not arrive: %s", part, got[0])
		}
	}
}

// unescape undoes JSON's escapes of letters beyond ASCII.
func unescape(s string) string {
	if !strings.Contains(s, `\u`) {
		return s
	}
	return jsonText(s)
}

func (s *Suite) long(t *testing.T) {
	m := Digest(400)
	huge := strings.Repeat("Långer Text über alles. ", 4000)
	for _, one := range []*model.Alert{m.Alert, m.Others[0].Alert} {
		one.Text, one.Rule.Note, one.AckComment = huge, huge, huge
		one.Target.HostName = strings.Repeat("h", 3000) + ":27017"
	}
	m.Group.Name, m.Site = huge, huge
	if s.PerAlert {
		m.Others = m.Others[:1]
	}
	got, _, err := s.send(t, Accept, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range got {
		if !utf8.ValidString(g) {
			t.Errorf("cut within a character: %.200q", g)
		}
		if s.MaxBytes > 0 && len(g) > s.MaxBytes {
			t.Errorf("a message of %d bytes, more than the %d the other side takes", len(g), s.MaxBytes)
		}
	}
}
