package alert

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/reach"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

type step struct {
	At          time.Time
	Word        string
	Text, Value string
}

type sample struct {
	At     time.Time
	Value  string
	Beyond bool
}

type sent struct {
	model.Delivery
	State view.State
	What  string // why it was sent
	To    string
	Note  string // what came of it
}

type told struct {
	Who, When string
	Count     int // messages that arrived
	Missed    int // that did not
	Last      time.Time
	Next      time.Time
}

type detailPage struct {
	Row       row
	Ack       *view.Form
	Silence   *view.Form
	Ends      []Option
	May       bool
	Why       string
	Said      string
	List      string
	Act       string
	Site      bool
	Sentence  string
	Threshold string
	Worst     string
	Config    string // path of the configuration; "" when it is gone
	Changed   time.Time
	Told      []told
	Steps     []step
	Pager     view.Pager
	Samples   []sample
	Unit      string
	Sent      []sent
	More      bool // there are more deliveries
	Charts    []catalog.Chart
	SeriesAt  string
	From, To  int64
	Here      string // what "only here" silences
	WhyPage   string
	Help      string
}

const (
	maxSent   = 200
	stepsPage = 50
)

// detail answers: why is this alert there, and whom did it tell?
func (p *Pages) detail(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return p.detailPage(ctx, v, view.NewForm(nil), view.NewForm(nil))
}

func (p *Pages) detailPage(ctx context.Context, v *view.Visit, ack, silence *view.Form) (view.Answer, error) {
	if err := needRead(v); err != nil {
		return view.Answer{}, err
	}
	a, err := p.opt.Alerting.Alert(ctx, groupID(v), model.ID(v.Request.PathValue("id")))
	if err != nil {
		return view.Answer{}, view.Missing(err, "alert")
	}
	d := detailPage{
		Row: p.rowOf(v, a), Ack: ack, Silence: silence, Ends: Ends(), May: v.May(editRight(v)), Why: "You cannot do this: " + editRight(v).Reason(),
		Said: doneText(v.Query("done")), List: base(v), Act: base(v) + "/" + string(a.ID), Site: v.Group == nil, Sentence: words.Rule(&a.Rule),
		Worst: words.Reading(a.Worst, metricName(&a)), Here: words.Target(&a.Target),
	}
	if matcherOf(&a.Target) == nil {
		d.Here = ""
	}
	if v.Group != nil {
		end := v.Now
		if !a.Resolved.IsZero() {
			end = a.Resolved
		}
		q := url.Values{"from": {a.Since.Add(-time.Minute).Format(time.RFC3339)}, "to": {end.Add(time.Minute).Format(time.RFC3339)}}
		if a.Target.HostID != "" {
			q.Set("host", a.Target.HostName)
		}
		d.WhyPage = v.GroupPath("/alerts/why?" + q.Encode())
	}
	if t, ok := rule.TypeOf(a.EventType); ok {
		d.Help = t.Help
	}
	switch {
	case a.Rule.Metric != nil:
		d.Threshold = words.Number(a.Rule.Metric.Value, a.Rule.Metric.Units, a.Rule.Metric.Metric)
	case a.Rule.Threshold != nil:
		d.Threshold = words.Number(a.Rule.Threshold.Value, a.Rule.Threshold.Units, "")
	}
	if err := p.config(ctx, v, &d, &a); err != nil {
		return view.Answer{}, err
	}
	if err := p.deliveries(ctx, v, &d, &a); err != nil {
		return view.Answer{}, err
	}
	d.history(v, &a)
	d.chart(v, &a)
	answer := view.Answer{Template: "alert.html", Title: headline(&a), Nav: "alerts", Data: &d}
	if !ack.OK() || !silence.OK() {
		answer.Status = http.StatusUnprocessableEntity
	}
	return answer, nil
}

// config finds the rule as it is now: it may have changed since the alert began, or be gone.
func (p *Pages) config(ctx context.Context, v *view.Visit, d *detailPage, a *model.Alert) error {
	owner, path := a.GroupID, "/g/"+string(a.GroupID)+"/alert-settings/"
	if a.Global {
		owner, path = "", "/admin/alert-settings/"
	}
	c, err := p.opt.Alerting.Config(ctx, owner, a.ConfigID)
	switch {
	case missing(err):
		return nil
	case err != nil:
		return fmt.Errorf("read the alert's configuration: %w", err)
	}
	if !a.Global || v.SeesSite() {
		d.Config = path + string(c.ID)
	}
	if c.Updated.After(a.Created) {
		d.Changed = c.Updated
	}
	return nil
}

func (d *detailPage) history(v *view.Visit, a *model.Alert) {
	t, _ := rule.TypeOf(a.EventType)
	for _, n := range a.Rule.Notifications {
		w := told{Who: words.Who(n), When: words.When(n, t.Inform)}
		for _, done := range a.Notified {
			if done.NotifierID == n.ID && a.Status.Live() && a.Muted == "" && !a.Acknowledged(v.Now) {
				w.Next = done.Next
			}
		}
		for i := range d.Sent {
			m := &d.Sent[i]
			switch {
			case m.Notification.ID != n.ID:
			case m.Delivery.State == model.DeliveryDelivered:
				w.Count++
				if m.Delivered.After(w.Last) {
					w.Last = m.Delivered
				}
			case m.Delivery.State == model.DeliveryFailed || m.Attempts > 0:
				w.Missed++
			}
		}
		d.Told = append(d.Told, w)
	}
	for _, s := range slices.Backward(a.History) {
		word, text := stepText(s)
		d.Steps = append(d.Steps, step{s.At, word, text, words.Reading(s.Value, metricName(a))})
	}
	d.Steps, d.Pager = view.PagedBy(v, "steps", stepsPage, d.Steps)
	for _, s := range slices.Backward(a.Samples) {
		one := sample{At: s.At}
		if m := a.Rule.Metric; m != nil {
			one.Value = words.Number(s.Value, m.Units, m.Metric)
			one.Beyond = m.Operator == model.LessThan && s.Value < m.Value || m.Operator != model.LessThan && s.Value > m.Value
		} else {
			one.Value = words.Number(s.Value, "", "")
		}
		d.Samples = append(d.Samples, one)
	}
}

var decision = regexp.MustCompile(`^([a-z]+) to ([A-Z_]+)( \(number \d+\))?$`)

// stepText is an entry of the history for people. That somebody is to be told is not yet that they were.
func stepText(s model.AlertStep) (word, text string) {
	if s.Kind != model.StepNotified {
		return stepWord(s.Kind), s.Text
	}
	if why, ok := strings.CutPrefix(s.Text, reach.NotTold); ok {
		return "Not told", words.Sentence(why)
	}
	parts := strings.Split(s.Text, ", ")
	for i, part := range parts {
		m := decision.FindStringSubmatch(part)
		if m == nil {
			return stepWord(s.Kind), s.Text
		}
		parts[i] = words.Channel(m[2]) + ": " + KindWord(model.DeliveryKind(m[1])) + m[3]
	}
	return stepWord(s.Kind), strings.Join(parts, ", ")
}

func stepWord(k model.StepKind) string {
	switch k {
	case model.StepTracked:
		return "Began to hold"
	case model.StepOpened:
		return "Opened"
	case model.StepNotified:
		return "To be told"
	case model.StepMuted:
		return "Muted"
	case model.StepUnmuted:
		return "No longer muted"
	case model.StepNoData:
		return "No data"
	case model.StepDataAgain:
		return "Data again"
	case model.StepAcknowledged:
		return "Acknowledged"
	case model.StepUnacknowledged:
		return "Acknowledgement ended"
	case model.StepClosed:
		return "Closed"
	case model.StepCancelled:
		return "Cancelled"
	}
	s := string(k)
	if s == "" {
		return "Changed"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func (p *Pages) deliveries(ctx context.Context, v *view.Visit, d *detailPage, a *model.Alert) error {
	list, next, err := p.opt.Alerting.Deliveries(ctx, alerting.DeliveryQuery{AlertID: a.ID, GroupID: a.GroupID, Limit: maxSent})
	if err != nil {
		return fmt.Errorf("read the deliveries: %w", err)
	}
	d.More = next != ""
	slices.SortStableFunc(list, func(x, y model.Delivery) int { return y.Created.Compare(x.Created) })
	d.Row.Reach = reach.Of(a, list, p.opt.Sender, v.Now)
	for i := range list {
		d.Sent = append(d.Sent, sentOf(v, list[i]))
	}
	return nil
}

func sentOf(v *view.Visit, m model.Delivery) sent {
	s := sent{Delivery: m, What: KindWord(m.Kind), To: m.Channel}
	n := m.Notification
	if m.Channel != "" {
		n.Channel = m.Channel
	}
	switch {
	case m.Address != "":
		s.To = words.Channel(n.Channel) + ": " + m.Address
	default:
		s.To = words.Who(n)
	}
	switch m.State {
	case model.DeliveryDelivered:
		s.State = view.State{Level: view.OK, Word: "delivered"}
		s.Note = m.Result
	case model.DeliveryFailed:
		s.State = view.State{Level: view.Critical, Word: "failed", Why: "It is not tried again."}
		s.Note = words.Sentence(m.LastError)
	case model.DeliveryPending:
		s.State = view.State{Level: view.Unknown, Word: "waiting", Why: "It is about to be sent."}
		if m.Attempts > 0 {
			s.State = view.State{Level: view.Warning, Word: "trying again", Why: m.LastError}
		}
		s.Note = words.Sentence(m.LastError)
	}
	return s
}

// KindWord is why a message is sent.
func KindWord(k model.DeliveryKind) string {
	switch k {
	case model.DeliverOpen:
		return "opened"
	case model.DeliverUpdate:
		return "still open"
	case model.DeliverAcknowledge:
		return "acknowledged"
	case model.DeliverCancel:
		return "cancelled"
	case model.DeliverClose:
		return "closed"
	case model.DeliverInform:
		return "information"
	case model.DeliverTest:
		return "test"
	}
	return string(k)
}

// chart is the metric around the alert's life, with its threshold and marks.
func (d *detailPage) chart(v *view.Visit, a *model.Alert) {
	if a.Rule.Metric == nil || a.Target.HostID == "" || v.Group == nil {
		return
	}
	c, ok := chart.SingleChart(chart.Single(a.Rule.Metric.Metric))
	if !ok {
		return
	}
	c.ID = chart.Single(c.Measurements[0])
	end := v.Now
	if !a.Resolved.IsZero() && a.Resolved.Add(time.Hour).Before(end) {
		end = a.Resolved.Add(time.Hour)
	}
	around := min(max(end.Sub(a.Since)/4, 30*time.Minute), 24*time.Hour)
	d.Charts = []catalog.Chart{c}
	d.SeriesAt = v.GroupPath("/hosts/" + string(a.Target.HostID) + "/series?alert=" + string(a.ID))
	d.From, d.To = a.Since.Add(-around).Unix(), end.Unix()
}
