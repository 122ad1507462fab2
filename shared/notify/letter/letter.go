// Package letter writes a message as mail: a subject, plain text and HTML that say the same. The HTML needs neither images nor
// a style sheet to be read, and follows the reader's dark mode. Package post below it puts the parts into one MIME message.
package letter

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// PictureID names the picture in the mail: the HTML shows "cid:" and it.
const PictureID = "chart.png"

const (
	maxText    = 64 << 10 // bytes of the text part
	maxListed  = 50       // alerts of a digest that are named, as in the text
	maxSamples = 10       // newest ones
)

// Letter is a message as mail.
type Letter struct {
	Subject string
	Text    string
	HTML    string
	Picture []byte // PNG, or nil
}

// Options are what a letter needs beside its message.
type Options struct {
	// SettingsURL is the page where an alert's configuration is changed, "" when there is none.
	SettingsURL func(*model.Alert) string
}

//go:embed letter.html
var files embed.FS

var page = template.Must(template.ParseFS(files, "letter.html"))

// view is what the template shows.
type view struct {
	Subject, Lead string
	Single        bool
	Item          item
	Items         []item // of a digest
	More          int
	Facts         []notify.Fact
	Note          string
	Picture       template.URL // "cid:…", or "" without one
	PictureText   string
	Samples       []sample
	Next          string
	SettingsURL   string
	Site          string
	Test          bool
}

type item struct {
	Word, Headline, Sentence, URL, AckURL string
	Color                                 template.CSS
}

type sample struct{ At, Value string }

// Compose writes a letter.
func Compose(m notify.Message, o Options) (Letter, error) {
	v := view{Subject: notify.Subject(m), Single: len(m.Others) == 0, Site: m.Site, Test: m.Kind == model.DeliverTest}
	settings := ""
	if o.SettingsURL != nil && m.Alert != nil && !v.Test {
		settings = o.SettingsURL(m.Alert)
	}
	v.SettingsURL = settings
	text := strings.TrimSpace(notify.Text(m, maxText)) + "\n"
	l := Letter{Subject: v.Subject}
	if v.Single {
		v.Item = itemOf(m)
		v.Lead = v.Item.Sentence
		for _, f := range notify.Facts(m) {
			if m.Alert != nil && m.Alert.Rule.Note != "" && f.Name == "What to do" {
				v.Note = f.Value // stands out
				continue
			}
			v.Facts = append(v.Facts, f)
		}
		v.Samples = samples(m.Alert)
		text += table(v.Samples)
		if len(m.Picture) > 0 {
			l.Picture = m.Picture
			v.Picture, v.PictureText = "cid:"+PictureID, pictureText(m)
		}
		if !m.NextAt.IsZero() && notify.Acknowledgeable(m.Kind) {
			v.Next = notify.Moment(m.NextAt)
		}
	} else {
		v.Lead = notify.Summary(m)
		for i, one := range m.All() {
			if i == maxListed {
				v.More = len(m.Others) + 1 - i
				break
			}
			v.Items = append(v.Items, itemOf(one))
		}
	}
	if settings != "" {
		text += "\nWho is told, and when: " + settings + "\n"
	}
	l.Text = strings.TrimSpace(text) + "\n"
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return Letter{}, fmt.Errorf("write a letter: %w", err)
	}
	l.HTML = b.String()
	return l, nil
}

func itemOf(m notify.Message) item {
	i := item{Word: notify.KindWord(m.Kind), Headline: notify.Headline(m), Sentence: notify.Sentence(m), URL: m.URL, Color: colorOf(m)}
	if notify.Acknowledgeable(m.Kind) {
		i.AckURL = m.AckURL
	}
	return i
}

// colorOf is the colour of the label that names what happened: white letters are readable on each.
func colorOf(m notify.Message) template.CSS {
	switch severity := notify.SeverityOf(m); {
	case notify.Over(m.Kind):
		return "#2e7d32"
	case m.Kind == model.DeliverAcknowledge, m.Kind == model.DeliverTest:
		return "#455a64"
	case severity == notify.Critical:
		return "#c62828"
	case severity == notify.Warning:
		return "#b45309"
	}
	return "#455a64"
}

// samples are the newest ones, oldest first.
func samples(a *model.Alert) []sample {
	if a == nil {
		return nil
	}
	units := ""
	if a.Value != nil {
		units = a.Value.Units
	}
	list := a.Samples[max(0, len(a.Samples)-maxSamples):]
	out := make([]sample, len(list))
	for i, s := range list {
		out[i] = sample{s.At.UTC().Format(time.TimeOnly), notify.Reading(model.Reading{Number: s.Value, Units: units})}
	}
	return out
}

// table is the samples as text.
func table(list []sample) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nSamples (UTC):\n")
	for _, s := range list {
		fmt.Fprintf(&b, "  %s  %s\n", s.At, s.Value)
	}
	return b.String()
}

// pictureText stands for the picture where it is not shown.
func pictureText(m notify.Message) string {
	a := m.Alert
	if a == nil || len(a.Samples) == 0 {
		return "Chart of the newest samples"
	}
	low, high := a.Samples[0].Value, a.Samples[0].Value
	for _, s := range a.Samples {
		low, high = min(low, s.Value), max(high, s.Value)
	}
	units := ""
	if a.Value != nil {
		units = a.Value.Units
	}
	return fmt.Sprintf("Chart of %d samples between %s and %s", len(a.Samples),
		notify.Reading(model.Reading{Number: low, Units: units}), notify.Reading(model.Reading{Number: high, Units: units}))
}
