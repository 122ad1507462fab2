// Package notify tells people. It owns the table of channels with their fields, who is behind a notification (Expand), what a
// message says (Subject, Text, Facts), how the other side's answer is judged, and the HTTP client that refuses to be turned
// against the machines around this one (Guard). Each channel is a package below it and implements Notifier; the Sender
// chooses among them and makes sure that nothing secret leaves in an error.
//
// It keeps no state: deciding, repeating and remembering are shared/rule's and the alerts function's. It must not import a
// channel.
package notify

import (
	"context"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Message is what one recipient is told: of one alert, or of several at once when Others is not empty.
type Message struct {
	Key       string // idempotency key: equal keys are the same message
	Kind      model.DeliveryKind
	Alert     *model.Alert // nil only in a test message
	Group     model.Group  // zero: the alert is of the site
	Others    []Message    // more alerts in the same message; each has its own key and kind
	URL       string       // the alert's page; "" when the site does not know its own address
	AckURL    string       // where it is acknowledged
	Site      string       // the site's name or address, to tell several apart
	Picture   []byte       // PNG of the chart, where the channel can show one
	At        time.Time    // when the message was decided
	NextAt    time.Time    // when the next one is due if nothing changes; zero: none
	TestLabel string       // of a test message: what was tested, in a word or two
}

// All is the message and its others, each alone.
func (m *Message) All() []Message {
	first := *m
	first.Others = nil
	return append([]Message{first}, m.Others...)
}

// Target is whom a Notifier tells.
type Target struct {
	Channel string
	Address string // of EMAIL, SMS, SNMP; what a person may read of the others' destination
	Fields  map[string]string
	Secrets map[string]model.Secret
}

// Result is what the other side said of a message it took.
type Result struct {
	Text string // a few words
	ID   string // the other side's name of the message, if it gives one
}

// Notifier is one channel. Notify may be called again with a message that was sent before, when nobody knows what became of
// it: a channel that knows idempotency keys passes the message's on. An error that wraps ErrPermanent is never tried again.
type Notifier interface {
	Notify(ctx context.Context, to Target, m Message) (Result, error)
}

// ErrPermanent is in errors that another attempt would only repeat.
var ErrPermanent = errors.New("it will not be accepted later either")

// ErrNotConfigured is in errors of channels that need settings this site does not have.
var ErrNotConfigured = errors.New("not configured")
