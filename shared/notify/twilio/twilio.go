// Package twilio sends SMS through Twilio's Messages API. It owns the short text that a message becomes: one SMS where its
// letters allow.
package twilio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Options are what a Notifier needs.
type Options struct {
	Account string
	Token   model.Secret
	From    string       // a number, or the id of a messaging service (MG…)
	Client  *http.Client // nil: notify.Client with its strictest options
	BaseURL string       // "": https://api.twilio.com
}

// Notifier sends SMS.
type Notifier struct{ o Options }

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) *Notifier {
	if o.Client == nil {
		o.Client = notify.Client(notify.ClientOptions{})
	}
	o.BaseURL = strings.TrimSuffix(cmp.Or(o.BaseURL, "https://api.twilio.com"), "/")
	return &Notifier{o}
}

// Secrets are what must not be seen in errors.
func (n *Notifier) Secrets() []model.Secret { return []model.Secret{n.o.Token} }

// Notify sends an SMS. Twilio knows no idempotency keys: one whose answer was lost may come twice.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	number, ok := notify.Phone(cmp.Or(to.Address, to.Fields["mobileNumber"]))
	if !ok {
		return notify.Result{}, notify.Refused("%q is not a telephone number with its country code", cmp.Or(to.Address, to.Fields["mobileNumber"]))
	}
	form := url.Values{"To": {number}, "Body": {Short(m)}}
	if strings.HasPrefix(n.o.From, "MG") {
		form.Set("MessagingServiceSid", n.o.From)
	} else {
		form.Set("From", n.o.From)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.o.BaseURL, nil)
	if err != nil {
		return notify.Result{}, errors.New("the address of Twilio is not a URL")
	}
	req.SetBasicAuth(n.o.Account, n.o.Token.Reveal())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := notify.Do(ctx, n.o.Client, notify.Request{
		Service: "Twilio", URL: n.o.BaseURL + "/2010-04-01/Accounts/" + url.PathEscape(n.o.Account) + "/Messages.json",
		Header: req.Header, Body: []byte(form.Encode()), Secrets: n.Secrets(),
	})
	var said struct {
		SID     string `json:"sid"`
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	readable := json.Unmarshal(a.Body, &said) == nil
	switch {
	case err != nil && (a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden || a.Status == http.StatusNotFound):
		// The site's account, not the recipient: it may be mended.
		return notify.Result{}, notify.Later(0, "Twilio does not accept the account: %s: check twilio.account.sid and twilio.auth.token", cmp.Or(said.Message, http.StatusText(a.Status)))
	case err != nil && readable && said.Message != "" && errors.Is(err, notify.ErrPermanent):
		return notify.Result{}, notify.Refused("Twilio refuses the SMS to %s: %s", number, said.Message)
	case err != nil:
		return notify.Result{}, err
	}
	return notify.Result{Text: "taken by Twilio: " + cmp.Or(said.Status, "accepted"), ID: said.SID}, nil
}

const (
	oneSMS  = 160 // letters of the alphabet of GSM
	twoUCS2 = 134 // UTF-16 units of two SMS when other letters are in it
)

// Short is a message as an SMS: what happened, where, since when, and the link where there is room. Letters that only look
// better than others are replaced, so that one SMS has room for 160; with other alphabets two are sent at most.
func Short(m notify.Message) string {
	text := notify.Subject(m)
	if len(m.Others) == 0 {
		if m.Alert != nil && m.Alert.Value != nil && !notify.Over(m.Kind) {
			text += ", now " + notify.Reading(*m.Alert.Value)
		}
		if m.Alert != nil && !m.Alert.Since.IsZero() && !notify.Over(m.Kind) && m.Kind != model.DeliverTest {
			text += ", since " + m.Alert.Since.UTC().Format("15:04 UTC")
		}
	}
	text = plainer.Replace(text)
	size, limit := septets, oneSMS
	if _, ok := septets(text); !ok {
		size, limit = units, twoUCS2
	}
	if n, ok := size(text + " " + m.URL); m.URL != "" && ok && n <= limit {
		return text + " " + m.URL
	}
	return cut(text, limit, size)
}

// cut shortens a text to a size, with dots at its end.
func cut(text string, limit int, size func(string) (int, bool)) string {
	if n, _ := size(text); n <= limit {
		return text
	}
	letters := []rune(text)
	for n := len(letters); n > 0; n-- {
		short := strings.TrimRight(string(letters[:n]), " ") + "..."
		if got, _ := size(short); got <= limit {
			return short
		}
	}
	return ""
}

// plainer replaces letters that would halve the room.
var plainer = strings.NewReplacer("…", "...", "–", "-", "—", "-", "“", `"`, "”", `"`, "„", `"`, "‘", "'", "’", "'", "\u00a0", " ", "·", "-", "×", "x", "→", "->", "≥", ">=", "≤", "<=")

// The alphabet of GSM 03.38, and the letters that take two places in it.
const (
	gsm  = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsm2 = "\f^{}\\[~]|€"
)

// septets is the room a text takes in an SMS, if its alphabet is GSM's.
func septets(text string) (n int, ok bool) {
	for _, r := range text {
		switch {
		case strings.ContainsRune(gsm, r):
			n++
		case strings.ContainsRune(gsm2, r):
			n += 2
		default:
			return 0, false
		}
	}
	return n, true
}

func units(text string) (int, bool) { return len(utf16.Encode([]rune(text))), true }
