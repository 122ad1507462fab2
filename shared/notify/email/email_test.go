package email

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/letter"
	"github.com/heartwood-db/heartwood/shared/notify/letter/post"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
	"github.com/heartwood-db/heartwood/shared/notify/picture"
)

func sender(t *testing.T) *post.Sender {
	t.Helper()
	s, err := post.NewSender("Heartwood <alerts@example.com>", "ops@example.com", letter.Options{
		SettingsURL: func(a *model.Alert) string {
			return "https://heartwood.example.com/g/" + string(a.GroupID) + "/alert-settings"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func notifier(t *testing.T, o Options) *Notifier {
	t.Helper()
	if o.Sender == nil {
		o.Sender = sender(t)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

var ann = notify.Target{Channel: notify.Email, Address: "ann@example.com"}

func send(t *testing.T, n *Notifier, m notify.Message) (notify.Result, error) {
	t.Helper()
	return notify.NewSender(map[string]notify.Notifier{notify.Email: n}).Send(t.Context(), ann, m)
}

func TestSuite(t *testing.T) {
	s := &server{user: "heartwood", password: "correct-horse-battery", mechs: []string{"PLAIN"}, secret: "correct-horse-battery"}
	roots, conf := authority(t, "127.0.0.1")
	host, port := s.start(t, conf, false, false)
	notifytest.Run(t, notifytest.Suite{
		New: func(t *testing.T) notify.Notifier {
			return notifier(t, Options{
				Host: host, Port: port, StartTLS: true, Roots: roots, Username: s.user, Password: model.Secret(s.password), Timeout: 500 * time.Millisecond,
			})
		},
		Target: ann,
		Server: &notifytest.Server{
			Set: s.set, Received: s.received,
			Outcomes: []notifytest.Outcome{notifytest.Busy, notifytest.Broken, notifytest.Refuse, notifytest.Hang, notifytest.Gone},
		},
		HasKey: true, Plain: plain(t),
	})
}

func TestAMailIsTextHTMLAndPictureUnderIdsThatFollowFromTheAlert(t *testing.T) {
	s := &server{}
	host, port := s.start(t, nil, false, false)
	n := notifier(t, Options{Host: host, Port: port})
	open, closed := notifytest.Message(model.DeliverOpen), notifytest.Message(model.DeliverClose)
	for i := range 12 {
		open.Alert.Samples = append(open.Alert.Samples, model.Sample{At: notifytest.At.Add(time.Duration(i-12) * time.Minute), Value: float64(400 + 40*i)})
	}
	open.Picture = picture.OfAlert(open.Alert)
	for _, m := range []notify.Message{open, open, closed} {
		r, err := send(t, n, m)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.Text, "taken by 127.0.0.1") || r.ID == "" {
			t.Errorf("result %+v", r)
		}
	}
	got := s.received()
	first, again, last := parse(t, got[0]), parse(t, got[1]), parse(t, got[2])
	id := first.header.Get("Message-ID")
	if again.header.Get("Message-ID") != id || last.header.Get("Message-ID") == id || !strings.HasSuffix(id, "@example.com>") {
		t.Errorf("message ids %s, %s, %s", id, again.header.Get("Message-ID"), last.header.Get("Message-ID"))
	}
	root := "<alert." + string(open.Alert.ID) + "@example.com>"
	for _, l := range []letterIn{first, last} {
		if l.header.Get("References") != root || l.header.Get("In-Reply-To") != root {
			t.Errorf("thread %q, %q, want %q", l.header.Get("References"), l.header.Get("In-Reply-To"), root)
		}
	}
	for name, want := range map[string]string{
		"From": `"Heartwood" <alerts@example.com>`, "Reply-To": "<ops@example.com>", "To": "<ann@example.com>", "X-Heartwood-Delivery": open.Key,
		"X-Mms-Event": "alert.open", "Auto-Submitted": "auto-generated", "Subject": notify.Subject(open),
	} {
		if first.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, first.header.Get(name), want)
		}
	}
	if at, err := mail.ParseDate(first.header.Get("Date")); err != nil || !at.Equal(open.At) {
		t.Errorf("date %s: %v", first.header.Get("Date"), err)
	}
	if !bytes.Equal(first.picture, open.Picture) || len(first.picture) == 0 || first.cid != "<"+letter.PictureID+">" || !strings.Contains(first.html, `src="cid:`+letter.PictureID+`"`) {
		t.Errorf("the picture (%d bytes, %s) is not what the page shows", len(first.picture), first.cid)
	}
	if last.picture != nil || strings.Contains(last.html, "cid:") {
		t.Error("a picture that is not there is shown")
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	s := &server{}
	host, port := s.start(t, nil, false, false)
	n := notifier(t, Options{Host: host, Port: port})
	for range 5 {
		if _, err := send(t, n, notifytest.Message(model.DeliverOpen)); err != nil {
			t.Fatal(err)
		}
	}
	if sessions, _ := s.count(); sessions != 1 {
		t.Errorf("5 mails took %d connections", sessions)
	}
	// A connection that the server has closed meanwhile is replaced, and nobody notices.
	l := n.idle.take()
	_ = l.conn.Close()
	n.idle.give(l, time.Minute)
	if _, err := send(t, n, notifytest.Message(model.DeliverOpen)); err != nil {
		t.Errorf("after the connection was closed: %v", err)
	}
	if got := len(s.received()); got != 6 {
		t.Errorf("%d mails", got)
	}
	n.Close()
	if l := n.idle.take(); l != nil {
		t.Error("a connection is kept after Close")
	}
}

func TestAConnectionServesOnlySoManyMessages(t *testing.T) {
	s := &server{}
	host, port := s.start(t, nil, false, false)
	n := notifier(t, Options{Host: host, Port: port})
	if _, err := send(t, n, notifytest.Message(model.DeliverOpen)); err != nil {
		t.Fatal(err)
	}
	l := n.idle.take()
	l.sent = maxPerLink
	n.idle.give(l, time.Minute)
	if n.idle.take() != nil {
		t.Error("it is kept")
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := &server{}
	host, port := s.start(t, nil, false, false)
	n := notifier(t, Options{Host: host, Port: port, Idle: time.Millisecond})
	if _, err := send(t, n, notifytest.Message(model.DeliverOpen)); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		n.idle.mu.Lock()
		left := len(n.idle.idle)
		n.idle.mu.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the timer is the real one: the connection is
	}
	t.Error("it is kept for ever")
}

func TestSigningIn(t *testing.T) {
	roots, conf := authority(t, "127.0.0.1")
	for name, c := range map[string]struct {
		tls    bool
		offers []string
		want   string
	}{
		"PLAIN over STARTTLS":              {true, []string{"CRAM-MD5", "LOGIN", "PLAIN"}, "PLAIN"},
		"LOGIN where that is all there is": {true, []string{"LOGIN"}, "LOGIN"},
		"CRAM-MD5 without TLS":             {false, []string{"PLAIN", "LOGIN", "CRAM-MD5"}, "CRAM-MD5"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{user: "heartwood", password: "s3cret-password", mechs: c.offers}
			o := Options{Username: s.user, Password: model.Secret(s.password), StartTLS: c.tls, Roots: roots}
			if c.tls {
				o.Host, o.Port = s.start(t, conf, false, false)
			} else {
				o.Host, o.Port = s.start(t, nil, false, true)
			}
			if _, err := send(t, notifier(t, o), notifytest.Message(model.DeliverOpen)); err != nil {
				t.Fatal(err)
			}
			if _, auths := s.count(); !slices.Equal(auths, []string{c.want}) {
				t.Errorf("signed in by %v, want %s", auths, c.want)
			}
		})
	}
}

func TestTLSFromTheFirstByte(t *testing.T) {
	roots, conf := authority(t, "127.0.0.1")
	s := &server{user: "heartwood", password: "s3cret-password", mechs: []string{"PLAIN"}}
	host, port := s.start(t, conf, true, false)
	o := Options{Host: host, Port: port, Implicit: true, Roots: roots, Username: s.user, Password: model.Secret(s.password)}
	if _, err := send(t, notifier(t, o), notifytest.Message(model.DeliverOpen)); err != nil {
		t.Fatal(err)
	}
	if len(s.received()) != 1 {
		t.Error("no mail")
	}
}

func TestWhatIsWrongWithTheSettingsIsSaidAndTriedAgain(t *testing.T) {
	roots, conf := authority(t, "127.0.0.1")
	itsRoots, others := authority(t, "elsewhere.example.com")
	strangers, _ := authority(t, "127.0.0.1")
	const user, password = "heartwood", "s3cret-password"
	for name, c := range map[string]struct {
		server              *server
		tls                 bool
		wrongName, implicit bool
		o                   Options
		want                string
	}{
		"a certificate of an unknown CA": {tls: true, o: Options{StartTLS: true, Roots: strangers}, want: "certificate that is not trusted here: x509: certificate signed by unknown authority"},
		"a certificate for another name": {tls: true, wrongName: true, o: Options{StartTLS: true, Roots: itsRoots}, want: "certificate that is not trusted here: x509: cannot validate certificate for 127.0.0.1"},
		"the same from the first byte":   {tls: true, implicit: true, o: Options{Implicit: true, Roots: strangers}, want: "heartwood.mail.CAFile"},
		"no STARTTLS on the server":      {o: Options{StartTLS: true, Roots: roots}, want: "does not offer STARTTLS"},
		"TLS where there is none":        {o: Options{Implicit: true, Roots: roots}, want: "does not speak TLS from the first byte"},
		"a wrong password": {
			server: &server{user: user, password: "another", mechs: []string{"PLAIN"}}, tls: true,
			o: Options{StartTLS: true, Roots: roots, Username: user, Password: password}, want: "check mms.mail.username and mms.mail.password",
		},
		"nobody signs in": {
			server: &server{user: user, password: password, mechs: []string{"PLAIN"}}, tls: true, o: Options{StartTLS: true, Roots: roots}, want: "wants callers to sign in",
		},
		"a sender the server does not like": {server: &server{badFrom: true}, o: Options{}, want: "check mms.fromEmailAddr"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.server
			if s == nil {
				s = &server{}
			}
			cert := conf
			if c.wrongName {
				cert = others
			}
			if !c.tls {
				cert = nil
			}
			c.o.Host, c.o.Port = s.start(t, cert, c.implicit, false)
			_, err := send(t, notifier(t, c.o), notifytest.Message(model.DeliverOpen))
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, notify.ErrPermanent) {
				t.Errorf("%v, want %q and another attempt", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), password) {
				t.Errorf("the password is in %v", err)
			}
			if len(s.received()) > 0 {
				t.Error("a mail was sent")
			}
		})
	}
}

func TestThePasswordIsNotShownToListeners(t *testing.T) {
	// Not this machine by name: only the name counts, as nobody knows who listens on the way.
	n := notifier(t, Options{Host: "mail.example.com", Username: "u", Password: "p"})
	for _, m := range n.mechanisms() {
		if m == "PLAIN" || m == "LOGIN" {
			t.Errorf("%s without TLS", m)
		}
	}
	err := n.notIn(t.Context(), errors.New("server does not support SMTP AUTH"))
	if err == nil || !strings.Contains(err.Error(), "mms.mail.tls=true") {
		t.Errorf("the advice is %v", err)
	}
}

func TestAServerThatAcceptsAndSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := notifier(t, Options{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Timeout: 200 * time.Millisecond})
	if _, err := send(t, n, notifytest.Message(model.DeliverOpen)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, notify.ErrPermanent) {
		t.Errorf("%v", err)
	}
	// Whoever stops waiting is not kept.
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	began := time.Now()
	n = notifier(t, Options{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Timeout: time.Minute})
	if _, err := n.Notify(ctx, ann, notifytest.Message(model.DeliverOpen)); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	_, err = send(t, notifier(t, Options{Host: "127.0.0.1", Port: port}), notifytest.Message(model.DeliverOpen))
	if err == nil || !strings.Contains(err.Error(), "cannot be used") || errors.Is(err, notify.ErrPermanent) {
		t.Errorf("%v", err)
	}
}

func TestSettingsThatAreMissingAreNamed(t *testing.T) {
	if _, err := New(Options{Sender: sender(t)}); !errors.Is(err, notify.ErrNotConfigured) || !strings.Contains(err.Error(), "mms.mail.hostname") {
		t.Errorf("%v", err)
	}
	if _, err := New(Options{Host: "h"}); !errors.Is(err, notify.ErrNotConfigured) || !strings.Contains(err.Error(), "mms.fromEmailAddr") {
		t.Errorf("%v", err)
	}
	if n := notifier(t, Options{Host: "h", Implicit: true}); n.o.Port != 465 {
		t.Errorf("smtps on port %d", n.o.Port)
	}
	if n := notifier(t, Options{Host: "h"}); n.o.Port != 25 {
		t.Errorf("smtp on port %d", n.o.Port)
	}
}

func TestAnAddressThatIsNoneIsRefusedForGood(t *testing.T) {
	n := notifier(t, Options{Host: "127.0.0.1", Port: 1})
	_, err := n.Notify(t.Context(), notify.Target{Channel: notify.Email, Address: "nobody"}, notifytest.Message(model.DeliverOpen))
	if !errors.Is(err, notify.ErrPermanent) {
		t.Errorf("%v", err)
	}
}
