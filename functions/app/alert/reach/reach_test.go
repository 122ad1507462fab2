package reach

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func sent(to string, min int, state model.DeliveryState, change ...func(*model.Delivery)) model.Delivery {
	d := model.Delivery{Kind: model.DeliverOpen, Channel: notify.Email, Address: to, State: state, Created: now.Add(time.Duration(min) * time.Minute), Attempts: 1}
	if state == model.DeliveryDelivered {
		d.Delivered = d.Created
	}
	for _, f := range change {
		f(&d)
	}
	return d
}

func because(why string) func(*model.Delivery) { return func(d *model.Delivery) { d.LastError = why } }

func TestWhetherAnAlertReachedAnybody(t *testing.T) {
	told := model.Alert{LastNotified: now.Add(-10 * time.Minute)}
	unreachable := told
	unreachable.History = []model.AlertStep{
		{Kind: model.StepNotified, Text: NotTold + "there is nobody yet"}, {Kind: model.StepNotified, Text: NotTold + "there are no users of the group"}, {Kind: model.StepClosed, Text: NotTold + "of a step of another kind"},
	}
	untried := func(d *model.Delivery) { d.Attempts = 0 }
	for name, c := range map[string]struct {
		a            *model.Alert
		ds           []model.Delivery
		nobody, some bool
		why          []string
	}{
		"nobody was to be told":                       {a: &model.Alert{}},
		"all were told":                               {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryDelivered), sent("bob", -10, model.DeliveryDelivered)}},
		"no address behind the notifications":         {a: &unreachable, nobody: true, why: []string{"There are no users of the group."}},
		"notifications without anybody":               {a: &told, nobody: true, why: []string{"Nobody is behind its notifications."}},
		"the only message failed":                     {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryFailed, because("no such mailbox"))}, nobody: true, why: []string{"No such mailbox."}},
		"a message is tried again":                    {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryPending, because("mail is not configured: set mms.mail.hostname"))}, nobody: true, why: []string{"Mail is not configured: set mms.mail.hostname."}},
		"a message is about to be sent":               {a: &told, ds: []model.Delivery{sent("ann", 0, model.DeliveryPending, untried)}},
		"a message has waited for long":               {a: &told, ds: []model.Delivery{sent("ann", -5, model.DeliveryPending, untried)}, nobody: true, why: []string{"A message waits to be sent."}},
		"a message waits for what is not set up":      {a: &told, ds: []model.Delivery{sent("+49", -5, model.DeliveryPending, untried, func(d *model.Delivery) { d.Channel = notify.SMS })}, nobody: true, why: []string{"SMS is not configured."}},
		"one of two was told":                         {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryDelivered), sent("bob", -10, model.DeliveryFailed, because("refused"))}, some: true, why: []string{"Refused."}},
		"one was told, and another has no address":    {a: &unreachable, ds: []model.Delivery{sent("ann", -10, model.DeliveryDelivered)}, some: true, why: []string{"There are no users of the group."}},
		"what failed first and arrived later":         {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryFailed, because("refused")), sent("ann", -5, model.DeliveryDelivered)}},
		"what arrived first and fails now":            {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryDelivered), sent("ann", -5, model.DeliveryFailed, because("refused"))}, some: true, why: []string{"Refused."}},
		"that it was acknowledged is no news of it":   {a: &unreachable, ds: []model.Delivery{sent("ann", -1, model.DeliveryDelivered, func(d *model.Delivery) { d.Kind = model.DeliverAcknowledge })}, nobody: true, why: []string{"There are no users of the group."}},
		"the same reason for several is given once":   {a: &told, ds: []model.Delivery{sent("ann", -10, model.DeliveryFailed, because("no route")), sent("bob", -10, model.DeliveryFailed, because("no route"))}, nobody: true, why: []string{"No route."}},
		"a sentence that begins with a name keeps it": {a: &told, ds: []model.Delivery{sent("x", -10, model.DeliveryFailed, because("ann@example.com is unknown"))}, nobody: true, why: []string{"ann@example.com is unknown."}},
	} {
		r := Of(c.a, c.ds, site{notify.SMS: "SMS is not configured"}, now)
		if r.Nobody() != c.nobody || r.Some() != c.some || !slices.Equal(r.Why, c.why) {
			t.Errorf("%s: nobody %v, some %v, %q; want %v, %v, %q", name, r.Nobody(), r.Some(), r.Why, c.nobody, c.some, c.why)
		}
	}
	if r := Of(&told, []model.Delivery{sent("ann", -10, model.DeliveryDelivered), sent("ann", -5, model.DeliveryDelivered)}, site{}, now); !r.Last.Equal(now.Add(-5*time.Minute)) || r.Delivered != 2 {
		t.Errorf("last told %s, %d times", r.Last, r.Delivered)
	}
}

type site map[string]string

func (s site) Missing(channel string) string { return s[channel] }

func TestWhatASiteLacksForANotification(t *testing.T) {
	s := site{notify.Email: "mail is not configured: set mms.mail.hostname", notify.Slack: "no"}
	for name, c := range map[string]struct {
		n    model.Notification
		want string
	}{
		"mail to people":           {model.Notification{Channel: notify.Group, EmailEnabled: true}, "Mail is not configured: set mms.mail.hostname."},
		"only SMS to people":       {model.Notification{Channel: notify.User, SMSEnabled: true}, ""},
		"SMS and mail":             {model.Notification{Channel: notify.Org, SMSEnabled: true, EmailEnabled: true}, "Mail is not configured: set mms.mail.hostname."},
		"a channel of its own":     {model.Notification{Channel: notify.Slack}, "No."},
		"a channel that is set up": {model.Notification{Channel: notify.Webhook}, ""},
	} {
		if got := strings.Join(Missing(s, c.n), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
