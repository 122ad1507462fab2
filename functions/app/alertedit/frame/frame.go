// Package frame is what the pages of alert settings share: where they are, who may change them, what is said after an action,
// how a deletion is confirmed, and the choices of their forms.
package frame

import (
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Base is the path of the settings: a group's, or the global ones.
func Base(v *view.Visit) string {
	if v.Group == nil {
		return "/admin/alert-settings"
	}
	return v.GroupPath("/alert-settings")
}

// Side is what the paths of a group's windows, silences and integrations begin with: they have ids of their own.
func Side(v *view.Visit) string { return v.GroupPath("/alert-") }

// GroupID is the group at hand; empty for the global settings.
func GroupID(v *view.Visit) model.ID {
	if v.Group == nil {
		return ""
	}
	return v.Group.ID
}

// EditRight is what changing them takes here.
func EditRight(v *view.Visit) view.Right {
	if v.Group == nil {
		return view.EditSiteAlerts
	}
	return view.EditAlerts
}

// NeedRead lets only those see the global settings who see the site.
func NeedRead(v *view.Visit) error {
	if v.Group == nil {
		return v.Need(view.ReadSite)
	}
	return nil
}

// Top is what all these pages share.
type Top struct {
	Tab  string
	Base string
	Side string // what the paths of windows, silences and integrations begin with
	Site bool
	May  bool
	Why  string
	Said string
	Form *view.Form
}

// NewTop is the frame of one of the pages for the visitor.
func NewTop(v *view.Visit, name string, f *view.Form) Top {
	return Top{
		Tab: name, Base: Base(v), Side: Side(v), Site: v.Group == nil, May: v.May(EditRight(v)), Why: "You cannot change this: " + EditRight(v).Reason(),
		Said: doneText(v.Query("done")), Form: f,
	}
}

// Page is an answer with a form, which is refused where the form has errors.
func Page(template, title string, data any, f *view.Form) view.Answer {
	a := view.Answer{Template: template, Title: title, Nav: "alert-settings", Data: data}
	if f != nil && !f.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a
}

// doneText is the sentence after an action; the address carries only its name, so that nobody can put words on a page.
func doneText(name string) string {
	switch name {
	case "saved":
		return "Saved. It is judged by it from the next minute on."
	case "added":
		return "The alert setting was added. It is judged by it from the next minute on."
	case "enabled":
		return "Switched on. It is judged by it from the next minute on."
	case "disabled":
		return "Switched off. Alerts that it had opened are cancelled within a minute."
	case "deleted":
		return "Deleted. Alerts that it had opened are cancelled within a minute."
	case "window":
		return "The maintenance window was saved. Alerts still open and close in it, but nobody is told."
	case "window-deleted":
		return "The maintenance window was deleted."
	case "silenced":
		return "Silenced. Alerts still open and close, but nobody is told."
	case "silence-ended":
		return "The silence has ended. Alerts that are still open tell people again."
	case "integration":
		return "Saved. Notifications of this channel that leave these fields empty use them."
	case "integration-deleted":
		return "Deleted. Notifications that relied on it cannot be delivered any more."
	}
	return ""
}

// Confirm asks for an object's name before it is gone; the template is shared with the other settings.
type Confirm struct {
	What, Name, Loses, Action, Back, Button string
	Form                                    *view.Form
}

// Answer is the page that asks.
func (d *Confirm) Answer() view.Answer {
	return Page("confirm.html", d.Button+" "+d.Name, *d, d.Form)
}

// Typed reads the name that was typed: whether it is the object's.
func (d *Confirm) Typed(v *view.Visit) bool {
	d.Form = view.NewForm(v.Request, "name")
	if strings.TrimSpace(d.Form.Value("name")) != d.Name {
		d.Form.Fail("name", "Type exactly: "+d.Name)
	}
	return d.Form.OK()
}

// Option is a choice of a list.
type Option struct {
	Value, Label string
	On           bool
}

// Choice makes one.
func Choice(value, label string, on bool) Option { return Option{value, label, on} }

// Heading groups choices.
type Heading struct {
	Label   string
	Options []Option
}

// FieldRow is one thing a channel wants to know. Typed secrets are not sent back: only what is stored shows, masked.
type FieldRow struct {
	notify.Field
	Key     string // of the form
	Value   string
	Error   string
	Options []Option
}

// Options makes choices of values.
func Options(values []string, label func(string) string, on string) []Option {
	out := make([]Option, len(values))
	for i, v := range values {
		out[i] = Option{v, label(v), v == on}
	}
	return out
}

// TypeOptions are what can be looked for here, by category; on is kept even if nothing raises it.
func TypeOptions(site bool, on model.EventType) (out []Heading) {
	add := func(label string, o Option) {
		i := slices.IndexFunc(out, func(h Heading) bool { return h.Label == label })
		if i < 0 {
			out, i = append(out, Heading{Label: label}), len(out)
		}
		out[i].Options = append(out[i].Options, o)
	}
	found := false
	for _, t := range rule.Types() {
		if !t.Raised || t.Global && !site {
			continue
		}
		label := words.Category(t.Category)
		if t.Inform {
			label += ": told once"
		}
		found = found || t.Name == on
		add(label, Option{string(t.Name), words.Type(t.Name), t.Name == on})
	}
	if !found && on != "" {
		add("Never raised by this version", Option{string(on), words.Type(on), true})
	}
	return out
}
