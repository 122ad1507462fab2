package alert

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

var now = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func TestWhenSomebodyIsToldNext(t *testing.T) {
	at := func(min int) time.Time { return now.Add(time.Duration(min) * time.Minute) }
	rules := model.AlertConfig{Notifications: []model.Notification{{ID: "a"}, {ID: "b", DelayMin: 30}}}
	told := []model.Notified{{NotifierID: "a", Count: 1, Next: at(50)}}
	for name, c := range map[string]struct {
		a    model.Alert
		want time.Time
	}{
		"the first at once":                       {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(0)}, at(0)},
		"the second after its delay":              {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(-10), Notified: told}, at(20)},
		"a pause puts delays off":                 {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(-10), Paused: 5 * time.Minute, Notified: told}, at(25)},
		"the next repeat":                         {model.Alert{Status: model.AlertOpen, Rule: model.AlertConfig{Notifications: rules.Notifications[:1]}, Since: at(-10), Notified: told}, at(50)},
		"not before an acknowledgement ends":      {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(-10), Notified: told, AckUntil: at(45)}, at(45)},
		"never when acknowledged for ever":        {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(-10), AckUntil: now.Add(forever)}, time.Time{}},
		"held back after another that just ended": {model.Alert{Status: model.AlertTracking, Rule: rules, Since: at(0), HoldUntil: at(4)}, at(4)},
		"never while muted":                       {model.Alert{Status: model.AlertOpen, Rule: rules, Since: at(0), Muted: "x"}, time.Time{}},
		"never after the end":                     {model.Alert{Status: model.AlertClosed, Rule: rules, Since: at(0)}, time.Time{}},
		"never without notifications":             {model.Alert{Status: model.AlertOpen, Since: at(0)}, time.Time{}},
	} {
		if got := Next(&c.a, now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestEnds(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	v := &view.Visit{Now: now, Zone: zone}
	for choice, want := range map[string]time.Time{
		"1h": now.Add(time.Hour), "4h": now.Add(4 * time.Hour), "tomorrow": time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
		"forever": now.Add(forever), "custom": time.Date(2026, 12, 1, 9, 30, 0, 0, time.UTC),
	} {
		f := view.NewForm(nil).Set("until", choice).Set("untilAt", "2026-12-01T10:30")
		if got := EndOf(v, f, "until"); !got.Equal(want) || !f.OK() {
			t.Errorf("%s: %s, want %s (%v)", choice, got, want, f.Errors)
		}
	}
	for _, at := range []string{"", "x", "2026-11-20T00:00", "2999-01-01T00:00"} {
		f := view.NewForm(nil).Set("until", "custom").Set("untilAt", at)
		if EndOf(v, f, "until"); f.Errors["untilAt"] == "" {
			t.Errorf("%q was taken for an end", at)
		}
	}
	for _, o := range Ends() {
		f := view.NewForm(nil).Set("until", o.Value).Set("untilAt", "2026-12-01T10:30")
		if EndOf(v, f, "until"); !f.OK() {
			t.Errorf("%q is offered and refused", o.Value)
		}
	}
	for at, want := range map[time.Time]string{now.Add(time.Hour): "until 10:00", now.Add(48 * time.Hour): "until 2026-11-23 09:00", now.Add(forever): "for ever"} {
		if got := Until(v, at); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFormsLeadBackToTheirList(t *testing.T) {
	v := &view.Visit{Request: httptest.NewRequestWithContext(t.Context(), "POST", "/", nil), Group: &model.Group{ID: "g"}}
	for back, want := range map[string]string{
		"/g/g/alerts?state=open": "/g/g/alerts?done=x&state=open", "https://evil.example/": "/g/g/alerts?done=x", "/g/other/alerts": "/g/g/alerts?done=x", "": "/g/g/alerts?done=x",
	} {
		if got := backTo(v, back, "x"); got != want {
			t.Errorf("%q leads to %q, want %q", back, got, want)
		}
	}
}

func TestEveryVerdictHasAWord(t *testing.T) {
	for _, x := range []trial.Verdict{
		trial.Paged, trial.Pending, trial.Failed, trial.NoAddress, trial.LacksRole, trial.NotMeant, trial.NoNotifications, trial.Muted, trial.Acknowledged, trial.BeforeDelay, trial.StillTracking,
		trial.NotDue, trial.NotCrossed, trial.NotBad, trial.NoData, trial.AgentDown, trial.NotRunning, trial.NotMatched, trial.AlertsOff, trial.Disabled, trial.TooNew, trial.NotRaised,
	} {
		if w := VerdictState(x).Word; w == "" || strings.Contains(w, "_") {
			t.Errorf("%s reads %q", x, w)
		}
	}
	if weight(trial.AgentDown) >= weight(trial.Paged) || weight(trial.NotCrossed) <= weight(trial.Paged) {
		t.Error("what went wrong does not come first, or the quiet not last")
	}
}

func TestEveryStepAndKindHasAWord(t *testing.T) {
	for _, k := range []model.StepKind{model.StepTracked, model.StepOpened, model.StepNotified, model.StepMuted, model.StepUnmuted, model.StepNoData, model.StepDataAgain, model.StepAcknowledged, model.StepUnacknowledged, model.StepClosed, model.StepCancelled, "other", ""} {
		if stepWord(k) == "" {
			t.Errorf("step %q has no word", k)
		}
	}
	for _, k := range []model.DeliveryKind{model.DeliverOpen, model.DeliverUpdate, model.DeliverAcknowledge, model.DeliverCancel, model.DeliverClose, model.DeliverInform, model.DeliverTest, "x"} {
		if KindWord(k) == "" {
			t.Errorf("kind %q has no word", k)
		}
	}
}

func TestWhatWasDoneComesFromAList(t *testing.T) {
	if got := doneText(url.QueryEscape("<b>anything</b>")); got != "" {
		t.Errorf("an address puts %q on a page", got)
	}
}
