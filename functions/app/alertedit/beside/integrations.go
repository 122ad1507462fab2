package beside

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// integrationRow is one channel's common fields of a group.
type integrationRow struct {
	notify.Channel
	On      bool
	Goes    string
	Rows    []frame.FieldRow
	Open    bool
	Missing string
}

type integrationsPage struct {
	frame.Top
	Channels []integrationRow
}

// integrations answers: which accounts elsewhere do notifications of this group use?
func (p *Pages) integrations(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return p.integrationsPage(ctx, v, view.NewForm(nil), "")
}

func (p *Pages) integrationsPage(ctx context.Context, v *view.Visit, f *view.Form, open string) (view.Answer, error) {
	list, err := p.opt.Alerting.Integrations(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the integrations: %w", err)
	}
	d := integrationsPage{Top: frame.NewTop(v, "integrations", f)}
	for _, ch := range notify.Channels() {
		r := integrationRow{Channel: ch, Open: ch.Name == open, Missing: words.Sentence(p.opt.Sender.Missing(ch.Name))}
		var have model.Notification
		if i := slices.IndexFunc(list, func(n model.Notification) bool { return n.Channel == ch.Name }); i >= 0 {
			have, r.On = list[i], true
			r.Goes = notify.Destination(have)
		}
		for _, field := range ch.Fields {
			if field.Integration == "" {
				continue
			}
			row := frame.FieldRow{Field: field, Key: ch.Name + "-" + field.Name, Value: have.Fields[field.Name]}
			if field.Secret {
				row.Value = notify.Mask(have.Secrets[field.Name])
			} else if r.Open && f.Values[row.Key] != "" {
				row.Value = f.Values[row.Key]
			}
			row.Error = f.Errors[row.Key]
			row.Field.Required = false // an integration may know only some of them; the rest stands in the settings
			for _, c := range field.Choices {
				row.Options = append(row.Options, frame.Choice(c, c, c == row.Value))
			}
			r.Rows = append(r.Rows, row)
		}
		if len(r.Rows) > 0 {
			d.Channels = append(d.Channels, r)
		}
	}
	return frame.Page("alert-integrations.html", "Integrations", &d, f), nil
}

// channelAt is the channel an address names, if integrations know it.
func channelAt(v *view.Visit) (notify.Channel, error) {
	ch, ok := notify.ChannelOf(v.Request.PathValue("channel"))
	if !ok || !slices.ContainsFunc(ch.Fields, func(f notify.Field) bool { return f.Integration != "" }) {
		return ch, view.NotFound("integration")
	}
	return ch, nil
}

func (p *Pages) saveIntegration(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	ch, err := channelAt(v)
	if err != nil {
		return view.Answer{}, err
	}
	list, err := p.opt.Alerting.Integrations(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the integrations: %w", err)
	}
	var have model.Notification
	if i := slices.IndexFunc(list, func(n model.Notification) bool { return n.Channel == ch.Name }); i >= 0 {
		have = list[i]
	}
	f := view.NewForm(nil)
	n := model.Notification{ID: have.ID, Channel: ch.Name, Fields: map[string]string{}, Secrets: map[string]model.Secret{}}
	if n.ID == "" {
		n.ID = model.NewID()
	}
	some := false
	for _, field := range ch.Fields {
		key := ch.Name + "-" + field.Name
		val := strings.TrimSpace(v.Request.PostFormValue(key))
		if field.Integration == "" || val == "" {
			continue
		}
		some = true
		if field.Secret {
			n.Secrets[field.Name] = model.Secret(val)
		} else {
			n.Fields[field.Name] = val
			f.Set(key, val)
		}
	}
	n = notify.KeepMasked(have, n)
	for _, fault := range notify.Check(n, false) {
		field, ok := ch.Field(fault.Path)
		if ok && n.Fields[field.Name] == "" && n.Secrets[field.Name] == "" {
			continue // left to the settings
		}
		text := fault.Text
		if ok {
			text = strings.Replace(text, field.Name, field.Label, 1)
		}
		f.Fail(ch.Name+"-"+fault.Path, words.Sentence(text))
	}
	if !some {
		f.Fail(ch.Name+"-"+ch.Fields[0].Name, "Nothing is filled in.")
	}
	if !f.OK() {
		return p.integrationsPage(ctx, v, f, ch.Name)
	}
	if err := p.opt.Alerting.PutIntegration(ctx, v.Group.ID, n); err != nil {
		return view.Answer{}, fmt.Errorf("keep the integration: %w", err)
	}
	p.note(ctx, v, model.Event{Type: model.EventIntegrationChanged, Text: "Integration with " + ch.Label + " saved"})
	return view.Redirect(frame.Side(v) + "integrations?done=integration"), nil
}

func (p *Pages) integrationForm(ctx context.Context, v *view.Visit) (*frame.Confirm, notify.Channel, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return nil, notify.Channel{}, err
	}
	ch, err := channelAt(v)
	if err != nil {
		return nil, ch, err
	}
	list, err := p.opt.Alerting.Integrations(ctx, v.Group.ID)
	if err != nil {
		return nil, ch, fmt.Errorf("read the integrations: %w", err)
	}
	if !slices.ContainsFunc(list, func(n model.Notification) bool { return n.Channel == ch.Name }) {
		return nil, ch, view.NotFound("integration")
	}
	return &frame.Confirm{
		What: "integration", Name: ch.Label, Button: "Delete", Form: view.NewForm(nil), Back: frame.Side(v) + "integrations",
		Action: frame.Side(v) + "integrations/" + ch.Name + "/delete",
		Loses:  "Notifications that leave its fields empty cannot be delivered any more. Its secret cannot be brought back.",
	}, ch, nil
}

func (p *Pages) confirmDeleteIntegration(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := p.integrationForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return d.Answer(), nil
}

func (p *Pages) deleteIntegration(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, ch, err := p.integrationForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	if !d.Typed(v) {
		return d.Answer(), nil
	}
	if err := p.opt.Alerting.DeleteIntegration(ctx, v.Group.ID, ch.Name); err != nil {
		return view.Answer{}, fmt.Errorf("delete the integration: %w", err)
	}
	p.note(ctx, v, model.Event{Type: model.EventIntegrationChanged, Text: "Integration with " + ch.Label + " deleted"})
	return view.Redirect(frame.Side(v) + "integrations?done=integration-deleted"), nil
}
