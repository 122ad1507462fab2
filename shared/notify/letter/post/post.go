// Package post puts a letter into one MIME message, with a Message-ID and References that follow from the alert and the
// message's key: mail programs show all messages about an alert together, and one that arrives twice is seen to be the same.
package post

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/mail"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/letter"
)

// Sender is whom mail comes from.
type Sender struct {
	from    *mail.Address
	replyTo *mail.Address // nil: from
	domain  string        // of message ids
	letter  letter.Options
}

// NewSender takes the addresses of the settings, each "ops@example.com" or "Heartwood <ops@example.com>"; replyTo may be empty.
func NewSender(from, replyTo string, o letter.Options) (*Sender, error) {
	s := &Sender{letter: o}
	var err error
	if s.from, err = mail.ParseAddress(from); err != nil {
		return nil, fmt.Errorf("mms.fromEmailAddr: %q is not a mail address", from)
	}
	if s.from.Name == "" {
		s.from.Name = "Heartwood"
	}
	if replyTo != "" {
		if s.replyTo, err = mail.ParseAddress(replyTo); err != nil {
			return nil, fmt.Errorf("mms.replyToEmailAddr: %q is not a mail address", replyTo)
		}
	}
	s.domain = s.from.Address[strings.LastIndexByte(s.from.Address, '@')+1:]
	return s, nil
}

// From is the sender's address without its name.
func (s *Sender) From() string { return s.from.Address }

// MessageID is the id of a message, without brackets.
func (s *Sender) MessageID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + "@" + s.domain
}

// Thread is the id that all messages about an alert refer to. No message has it: which one arrives first cannot be known.
func (s *Sender) Thread(alert model.ID) string { return "alert." + string(alert) + "@" + s.domain }

// Message makes the mail of a message to an address.
func (s *Sender) Message(to string, m notify.Message) (*gomail.Msg, error) {
	l, err := letter.Compose(m, s.letter)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(s.from)
	if s.replyTo != nil {
		msg.ReplyToMailAddress(s.replyTo)
	}
	if err := msg.To(to); err != nil {
		return nil, notify.Refused("%q is not a mail address", to)
	}
	msg.Subject(l.Subject)
	msg.SetDateWithValue(m.At)
	msg.SetMessageIDWithValue(s.MessageID(m.Key))
	if len(m.Others) == 0 && m.Alert != nil && m.Kind != model.DeliverTest {
		root := "<" + s.Thread(m.Alert.ID) + ">"
		msg.SetGenHeader(gomail.HeaderReferences, root)
		msg.SetGenHeader(gomail.HeaderInReplyTo, root)
		msg.SetGenHeader("X-Heartwood-Alert", string(m.Alert.ID))
	}
	msg.SetGenHeader("X-Heartwood-Delivery", m.Key)
	msg.SetGenHeader("X-MMS-Event", "alert."+string(m.Kind))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // keeps holiday notices from being sent back
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetBodyString(gomail.TypeTextPlain, l.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	if len(l.Picture) > 0 {
		if err := msg.EmbedReader(letter.PictureID, bytes.NewReader(l.Picture), gomail.WithFileContentID("<"+letter.PictureID+">"), gomail.WithFileContentType("image/png")); err != nil {
			return nil, fmt.Errorf("embed the picture: %w", err)
		}
	}
	return msg, nil
}

// Bytes is the mail of a message to an address as it goes over the wire.
func (s *Sender) Bytes(to string, m notify.Message) ([]byte, error) {
	msg, err := s.Message(to, m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	return b.Bytes(), nil
}
