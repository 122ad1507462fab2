package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

const (
	sendTimeout = 30 * time.Second // of one message on any channel
	maxSaid     = 500              // bytes of what the other side said that are kept
)

var errSlow = errors.New("the message was not sent within " + sendTimeout.String())

// Sender sends through the channels this site has.
type Sender struct{ notifiers map[string]Notifier }

// NewSender takes the channels that are configured, by name.
func NewSender(notifiers map[string]Notifier) *Sender {
	return &Sender{notifiers: maps.Clone(notifiers)}
}

// Has reports whether messages on a channel can be sent; to GROUP, ORG and USER they can by mail or by SMS, to ADMIN by mail.
func (s *Sender) Has(channel string) bool { return s.Missing(channel) == "" }

// Missing says what to set before a channel works, as a sentence, or "".
func (s *Sender) Missing(channel string) string {
	c, ok := ChannelOf(channel)
	switch {
	case !ok:
		return unsupported(channel)
	case c.Name == Admin:
		return s.Missing(Email)
	case c.People:
		if s.Has(SMS) {
			return ""
		}
		return s.Missing(Email)
	case s.notifiers[c.Name] != nil:
		return ""
	case c.settings != "":
		return c.settings
	}
	return c.Label + " is not part of this program"
}

// Channels names the channels that are configured, sorted.
func (s *Sender) Channels() []string { return slices.Sorted(maps.Keys(s.notifiers)) }

// keeper is a Notifier that has secrets of its own: passwords and keys from the site's settings.
type keeper interface{ Secrets() []model.Secret }

// Send sends a message. What it returns, also its error, is free of the target's secrets and of those the channel names by a
// method Secrets() []model.Secret. A channel that is not configured is a failure to be tried again: it may be, tomorrow.
func (s *Sender) Send(ctx context.Context, to Target, m Message) (Result, error) {
	c, ok := ChannelOf(to.Channel)
	if !ok {
		return Result{}, Refused("%s", unsupported(to.Channel))
	}
	n := s.notifiers[c.Name]
	if n == nil {
		return Result{}, &Failure{Text: s.Missing(c.Name), cause: ErrNotConfigured}
	}
	secrets := slices.Collect(maps.Values(to.Secrets))
	if k, ok := n.(keeper); ok {
		secrets = append(secrets, k.Secrets()...)
	}
	ctx, stop := context.WithTimeoutCause(ctx, sendTimeout, errSlow)
	defer stop()
	r, err := n.Notify(ctx, to, m)
	if err != nil {
		return Result{}, clean(ctx, err, secrets)
	}
	return Result{Text: said(r.Text, secrets), ID: said(r.ID, secrets)}, nil
}

// clean makes a Failure of any error: its text without secrets, and nothing else of it.
func clean(ctx context.Context, err error, secrets []model.Secret) error {
	f := &Failure{Text: said(err.Error(), secrets), Permanent: errors.Is(err, ErrPermanent), After: RetryAfter(err)}
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded, ErrNotConfigured} {
		if errors.Is(err, cause) {
			f.cause = cause
		}
	}
	if errors.Is(f.cause, context.DeadlineExceeded) && errors.Is(context.Cause(ctx), errSlow) && !strings.Contains(f.Text, "within") {
		f.Text = fmt.Sprintf("%s (%v)", f.Text, errSlow)
	}
	return f
}

func said(text string, secrets []model.Secret) string {
	return Cut(line(Scrub(text, secrets...), 0), maxSaid)
}
