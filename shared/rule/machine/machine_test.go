package machine

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

var nine = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return nine.Add(time.Duration(minutes) * time.Minute) }

func config(event model.EventType, notes ...model.Notification) *model.AlertConfig {
	if len(notes) == 0 {
		notes = []model.Notification{{ID: "n1", Channel: "EMAIL", IntervalMin: 5}}
	}
	c := &model.AlertConfig{ID: "c1", GroupID: "g1", EventType: event, Enabled: true, Notifications: notes}
	if event == model.EventOutsideMetric {
		c.Metric = &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 10}}
	}
	return c
}

var target = model.Target{Key: "host/h1", HostID: "h1", HostName: "db1:27017"}

func bad(since time.Time) Verdict {
	return Verdict{GroupID: "g1", Target: target, State: Bad, Since: since, Text: "db1:27017 is in trouble."}
}

func good() Verdict   { return Verdict{Target: target, State: Good} }
func silent() Verdict { return Verdict{Target: target, State: Unknown, Why: "the host is down"} }

func TestDistancesGrowByOneInterval(t *testing.T) {
	c := config(model.EventHostDown)
	var a *model.Alert
	var sent []string
	for m := range 60 {
		next, due := Advance(a, c, bad(nine), "", at(m))
		for _, d := range due {
			sent = append(sent, fmt.Sprintf("%s %s-%d", at(m).Format("15:04"), d.Kind, d.N))
		}
		a = next
	}
	want := []string{"09:00 open-1", "09:05 update-2", "09:15 update-3", "09:30 update-4", "09:50 update-5"}
	if !reflect.DeepEqual(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
	if a.Notified[0].Next != at(75) {
		t.Errorf("the next one is due at %s", a.Notified[0].Next)
	}
}

func TestNextNotificationIsCappedAtADay(t *testing.T) {
	for _, c := range []struct {
		count, interval int
		fixed, want     time.Duration
	}{
		{1, 5, 0, 5 * time.Minute},
		{4, 5, 0, 50 * time.Minute},
		{1, 1440, 0, 24 * time.Hour},
		{2, 1440, 0, 48 * time.Hour},
		{3, 600, 0, (10 + 20 + 24) * time.Hour},
		{1, 10080, 0, 24 * time.Hour},
		{1, 0, 0, time.Hour},
		{3, 5, 24 * time.Hour, 72 * time.Hour},
	} {
		if got := NextNotification(nine, c.count, c.interval, c.fixed).Sub(nine); got != c.want {
			t.Errorf("after %d of interval %d: %s, want %s", c.count, c.interval, got, c.want)
		}
	}
}

func TestCertificatesAreToldDaily(t *testing.T) {
	c := config(model.EventCertificateStale)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	if !a.Notified[0].Next.Equal(nine.Add(24 * time.Hour)) {
		t.Errorf("next at %s", a.Notified[0].Next)
	}
}

func TestMissedRepeatsAreNotMadeUp(t *testing.T) {
	c := config(model.EventHostDown)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, due := Advance(a, c, bad(nine), "", at(180))
	if len(due) != 1 || !a.Notified[0].Next.Equal(at(190)) {
		t.Fatalf("%d sent, next at %s", len(due), a.Notified[0].Next)
	}
	if _, due = Advance(a, c, bad(nine), "", at(181)); len(due) != 0 {
		t.Error("another one a minute later")
	}
}

func TestDelaysAreEscalation(t *testing.T) {
	c := config(model.EventHostDown, model.Notification{ID: "n1", Channel: "SLACK", DelayMin: 2, IntervalMin: 60}, model.Notification{ID: "n2", Channel: "PAGER_DUTY", DelayMin: 10, IntervalMin: 60})
	var a *model.Alert
	opened, sent := -1, map[string]int{}
	for m := range 20 {
		next, due := Advance(a, c, bad(nine), "", at(m))
		a = next
		if opened < 0 && a.Status == model.AlertOpen {
			opened = m
		}
		for _, d := range due {
			sent[d.Notification.Channel] = m
		}
	}
	if opened != 2 || sent["SLACK"] != 2 || sent["PAGER_DUTY"] != 10 {
		t.Errorf("opened after %d min, sent %v", opened, sent)
	}
}

func TestElectionsHaveADelayOfTheirOwn(t *testing.T) {
	c := config(model.EventNoPrimary)
	a, due := Advance(nil, c, bad(nine), "", nine)
	if a.Status != model.AlertTracking || len(due) != 0 {
		t.Fatalf("%s at once", a.Status)
	}
	if a, due = Advance(a, c, bad(nine), "", at(1)); a.Status != model.AlertOpen || len(due) != 1 {
		t.Errorf("%s with %d after a minute", a.Status, len(due))
	}
}

func TestWithoutNotificationsAnAlertOpensAtOnce(t *testing.T) {
	c := config(model.EventHostDown)
	c.Notifications = nil
	if a, _ := Advance(nil, c, bad(nine), "", nine); a.Status != model.AlertOpen {
		t.Error(a.Status)
	}
}

func TestAStateClosesAtOnceAndThoseToldAreTold(t *testing.T) {
	c := config(model.EventHostDown, model.Notification{ID: "n1", IntervalMin: 5}, model.Notification{ID: "n2", DelayMin: 60, IntervalMin: 5})
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, due := Advance(a, c, good(), "", at(1))
	if a.Status != model.AlertClosed || !a.Resolved.Equal(at(1)) || len(due) != 1 || due[0].Kind != model.DeliverClose || due[0].Notification.ID != "n1" {
		t.Errorf("%s, %+v", a.Status, due)
	}
}

func TestWhatEndsWhileWatchedIsCancelledInSilence(t *testing.T) {
	c := config(model.EventHostDown, model.Notification{ID: "n1", DelayMin: 5, IntervalMin: 5})
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, due := Advance(a, c, good(), "", at(1))
	if a.Status != model.AlertCancelled || len(due) != 0 {
		t.Errorf("%s, %+v", a.Status, due)
	}
	if next, _ := Advance(a, c, bad(at(2)), "", at(2)); !next.HoldUntil.IsZero() {
		t.Error("nobody was told, so nothing is to be held back")
	}
}

func TestAnAverageMustBeGoodTwice(t *testing.T) {
	c := config(model.EventOutsideMetric)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, due := Advance(a, c, good(), "", at(1))
	if a.Status != model.AlertOpen || a.GoodSince.IsZero() || len(due) != 0 {
		t.Fatalf("%s after one good pass", a.Status)
	}
	again, _ := Advance(a, c, bad(at(2)), "", at(2))
	if again.Status != model.AlertOpen || !again.GoodSince.IsZero() || !again.Since.Equal(nine) {
		t.Errorf("bad again is another alert: %+v", again)
	}
	same, _ := Advance(a, c, good(), "", at(1))
	if same.Status != model.AlertOpen {
		t.Error("one pass counted twice")
	}
	if a, due = Advance(a, c, good(), "", at(2)); a.Status != model.AlertClosed || len(due) != 1 {
		t.Errorf("%s after two", a.Status)
	}
}

func TestUnknownNeitherOpensNorCloses(t *testing.T) {
	c := config(model.EventHostDown, model.Notification{ID: "n1", DelayMin: 5, IntervalMin: 5})
	if a, due := Advance(nil, c, silent(), "", nine); a != nil || due != nil {
		t.Fatal("something of nothing")
	}
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, _ = Advance(a, c, silent(), "", at(2))
	if a.NoDataWhy != "the host is down" || Held(a, at(10)) != 2*time.Minute {
		t.Errorf("held %s: a pause counts", Held(a, at(10)))
	}
	a, due := Advance(a, c, bad(nine), "", at(10))
	if a.Status != model.AlertTracking || len(due) != 0 || Held(a, at(10)) != 2*time.Minute || !a.NoDataSince.IsZero() {
		t.Errorf("%s, held %s", a.Status, Held(a, at(10)))
	}
	a, due = Advance(a, c, bad(nine), "", at(13))
	if a.Status != model.AlertOpen || len(due) != 1 {
		t.Fatalf("%s after 2 + 3 minutes", a.Status)
	}
	a, due = Advance(a, c, silent(), "", at(60))
	if a.Status != model.AlertOpen || len(due) != 0 {
		t.Errorf("%s, %+v while nothing is known", a.Status, due)
	}
}

func TestAMetricThatStopsIsToldOnceToThoseWhoWereTold(t *testing.T) {
	c := config(model.EventOutsideMetric)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	stopped := Verdict{Target: target, State: Unknown, Why: "nothing arrives", NoData: true}
	a, due := Advance(a, c, stopped, "", at(1))
	if len(due) != 1 || due[0].Kind != model.DeliverUpdate || due[0].N != 2 {
		t.Fatalf("%+v", due)
	}
	a, due = Advance(a, c, stopped, "", at(2))
	if len(due) != 0 || a.Status != model.AlertOpen {
		t.Errorf("%+v", due)
	}
}

func TestANewAlertSoonAfterAnotherRestsFirst(t *testing.T) {
	c := config(model.EventHostDown)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	closed, _ := Advance(a, c, good(), "", at(1))
	next, due := Advance(closed, c, bad(at(2)), "", at(2))
	if next.ID != "" || next.Status != model.AlertOpen || len(due) != 0 || !next.HoldUntil.Equal(at(6)) {
		t.Fatalf("%s, %+v, held until %s", next.Status, due, next.HoldUntil)
	}
	if _, due = Advance(next, c, bad(at(2)), "", at(5)); len(due) != 0 {
		t.Error("told before the rest is over")
	}
	if _, due = Advance(next, c, bad(at(2)), "", at(6)); len(due) != 1 || due[0].Kind != model.DeliverOpen {
		t.Errorf("%+v after the rest", due)
	}
	if _, due = Advance(closed, c, good(), "", at(2)); due != nil {
		t.Error("a finished alert goes on")
	}
	changed := *c
	changed.Matchers = []model.Matcher{{Field: "PORT", Operator: "EQUALS", Value: "1"}}
	if next, _ = Advance(closed, &changed, bad(at(2)), "", at(2)); !next.HoldUntil.IsZero() {
		t.Error("a changed rule rests for the old one")
	}
}

func TestAcknowledging(t *testing.T) {
	c := config(model.EventHostDown)
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, due := Acknowledge(a, c, at(60), "ann", "on it", at(2))
	if len(due) != 1 || due[0].Kind != model.DeliverAcknowledge || a.AckBy != "ann" {
		t.Fatalf("%+v", due)
	}
	if _, due = Acknowledge(a, c, at(90), "ann", "", at(3)); len(due) != 0 {
		t.Error("told twice")
	}
	for m := 3; m < 60; m++ {
		if a, due = Advance(a, c, bad(nine), "", at(m)); len(due) != 0 {
			t.Fatalf("told after %d min", m)
		}
	}
	if a, due = Advance(a, c, bad(nine), "", at(60)); len(due) != 1 || a.Acknowledged(at(60)) || a.History[len(a.History)-2].Kind != model.StepUnacknowledged {
		t.Fatalf("%+v, %+v", due, a.History)
	}
	b, _ := Acknowledge(a, c, at(120), "bob", "", at(61))
	b, due = Acknowledge(b, c, time.Time{}, "bob", "", at(62))
	if b.Acknowledged(at(62)) || len(due) != 0 || b.AckBy != "" {
		t.Errorf("still acknowledged: %+v", b)
	}
	b, _ = Acknowledge(a, c, at(120), "bob", "", at(61))
	b, due = Advance(b, c, good(), "", at(63))
	if b.Status != model.AlertClosed || len(due) != 1 || due[0].Kind != model.DeliverClose {
		t.Errorf("%s: %+v", b.Status, due)
	}
	steps := len(b.History)
	if b, due = Acknowledge(b, c, at(200), "ann", "late", at(64)); b.Status != model.AlertClosed || len(due) != 0 || len(b.History) != steps || b.AckComment != "late" {
		t.Errorf("a closed alert: %+v", b)
	}
}

func TestCancelling(t *testing.T) {
	c := config(model.EventHostDown)
	c.Notifications[0].Secrets = map[string]model.Secret{"webhookSecret": "s3cret"}
	open, _ := Advance(nil, c, bad(nine), "", nine)
	if open.Rule.Notifications[0].Secrets != nil || c.Notifications[0].Secrets == nil {
		t.Fatal("the alert's copy of the rule has secrets, or the rule has lost them")
	}
	off, other, threshold := *c, *c, *c
	off.Enabled = false
	other.Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "db9"}}
	threshold.Threshold = &model.Threshold{Operator: model.GreaterThan, Value: 1}
	for name, step := range map[string]func() (*model.Alert, []Due){
		"disabled":          func() (*model.Alert, []Due) { return Advance(open, &off, bad(nine), "", at(1)) },
		"other matchers":    func() (*model.Alert, []Due) { return Advance(open, &other, bad(nine), "", at(1)) },
		"another threshold": func() (*model.Alert, []Due) { return Advance(open, &threshold, bad(nine), "", at(1)) },
		"gone": func() (*model.Alert, []Due) {
			return Advance(open, c, Verdict{State: Gone, Why: "the host was removed"}, "", at(1))
		},
		"deleted": func() (*model.Alert, []Due) { return Cancel(open, nil, "the configuration was deleted", at(1)) },
		"muted":   func() (*model.Alert, []Due) { return Advance(open, &off, bad(nine), "the window", at(1)) },
	} {
		a, due := step()
		if a.Status != model.AlertCancelled || len(due) != 1 || due[0].Kind != model.DeliverCancel || due[0].N != 1 || a.Resolved.IsZero() {
			t.Errorf("%s: %s %+v", name, a.Status, due)
		}
		if has := due[0].Notification.Secrets != nil; has == (name == "deleted") {
			t.Errorf("%s: secrets %v", name, has)
		}
		if again, more := Cancel(a, c, "again", at(2)); more != nil || !again.Resolved.Equal(at(1)) {
			t.Errorf("%s: cancelled twice", name)
		}
	}
	renamed := *c
	renamed.Note, renamed.Notifications = "call Ann", []model.Notification{{ID: "n2", Channel: "SLACK", IntervalMin: 5}}
	if a, due := Advance(open, &renamed, bad(nine), "", at(1)); a.Status != model.AlertOpen || len(due) != 1 || due[0].Kind != model.DeliverOpen {
		t.Errorf("another recipient: %s %+v", a.Status, due)
	}
}

func TestMutedAlertsOpenAndAreToldWhenItIsOver(t *testing.T) {
	c := config(model.EventHostDown)
	a, due := Advance(nil, c, bad(nine), `the maintenance window "disks"`, nine)
	if a.Status != model.AlertOpen || len(due) != 0 || a.Muted == "" {
		t.Fatalf("%s, %+v", a.Status, due)
	}
	steps := len(a.History)
	if a, _ = Advance(a, c, bad(nine), `the maintenance window "disks"`, at(1)); len(a.History) != steps {
		t.Error("a step each pass")
	}
	a, due = Advance(a, c, bad(nine), "", at(30))
	if len(due) != 1 || due[0].Kind != model.DeliverOpen || a.Muted != "" {
		t.Errorf("%+v, muted %q", due, a.Muted)
	}
	a, _ = Advance(a, c, bad(nine), "a silence", at(31))
	if _, due = Advance(a, c, good(), "a silence", at(32)); len(due) != 1 || due[0].Kind != model.DeliverClose {
		t.Errorf("who was called is not called off: %+v", due)
	}
}

func TestAStateThatBeganAnewStartsItsDelayAnew(t *testing.T) {
	c := config(model.EventHostDown, model.Notification{ID: "n1", DelayMin: 5, IntervalMin: 5})
	a, _ := Advance(nil, c, bad(nine), "", nine)
	a, _ = Advance(a, c, bad(at(3)), "", at(4))
	if a, _ = Advance(a, c, bad(at(3)), "", at(6)); a.Status != model.AlertTracking || !a.Since.Equal(at(3)) {
		t.Errorf("%s since %s", a.Status, a.Since)
	}
}

func TestNothingChangesWhereNothingHappens(t *testing.T) {
	c := config(model.EventHostDown)
	since := nine.Add(1234567 * time.Nanosecond)
	a, _ := Advance(nil, c, bad(since), "", at(1))
	b, due := Advance(a, c, bad(since), "", at(2))
	if len(due) != 0 || !reflect.DeepEqual(a, b) || a == b {
		t.Errorf("%+v\nis now\n%+v", a, b)
	}
	if a.Since.Nanosecond()%1e6 != 0 {
		t.Error("more precise than the store")
	}
}

func TestInformsAreToldOnceAndNotInWindows(t *testing.T) {
	c := config(model.EventPrimaryElected)
	e := &model.Event{ID: "e1", GroupID: "g1", Type: model.EventPrimaryElected, At: nine}
	a, due := Inform(c, e, model.Target{Key: "event/e1"}, "db1 is primary.", "")
	b, _ := Inform(c, e, model.Target{Key: "event/e1"}, "db1 is primary.", "a window")
	if a.ID != b.ID || !a.ID.Valid() || a.Status != model.AlertClosed || !a.Inform || len(due) != 1 || due[0].Kind != model.DeliverInform {
		t.Errorf("%+v %+v", a, due)
	}
	if _, none := Inform(c, e, model.Target{}, "", "a window"); len(none) != 0 || b.Muted == "" {
		t.Error("told in a window")
	}
}

func TestHistoryKeepsItsEnds(t *testing.T) {
	n := alert{&model.Alert{}}
	for i := range 1000 {
		n.step(at(i), model.StepNotified, fmt.Sprint(i), nil)
	}
	h := n.History
	if len(h) != 200 || h[0].Text != "0" || h[49].Text != "49" || h[50].Text != "850" || h[199].Text != "999" {
		t.Errorf("%d steps: %s %s %s", len(h), h[49].Text, h[50].Text, h[len(h)-1].Text)
	}
}

// TestRandomLives throws random verdicts, mutes, acknowledgements and gaps at alerts and checks what must always hold.
func TestRandomLives(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		event := []model.EventType{model.EventHostDown, model.EventOutsideMetric, model.EventNoPrimary, model.EventCertificateStale}[r.IntN(4)]
		c := config(event, model.Notification{ID: "n1", Channel: "EMAIL", IntervalMin: 5, DelayMin: r.IntN(4)}, model.Notification{ID: "n2", Channel: "SLACK", IntervalMin: 20, DelayMin: r.IntN(12)})
		live(t, seed, r, c)
	}
}

func live(t *testing.T, seed uint64, r *rand.Rand, c *model.AlertConfig) {
	var a *model.Alert
	now, id := nine, 0
	told := map[string]bool{}        // notifier of the live alert
	sent := map[string]bool{}        // every identity of a delivery
	last := map[model.ID]time.Time{} // end of the alert before
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("seed %d at %s: %s", seed, now.Format("15:04:05"), fmt.Sprintf(format, args...))
	}
	for range 400 {
		now = now.Add(time.Duration(50+r.IntN(20)) * time.Second)
		if r.IntN(50) == 0 {
			now = now.Add(time.Duration(r.IntN(200)) * time.Minute)
		}
		v, mute := good(), ""
		switch r.IntN(6) {
		case 0, 1, 2:
			v = bad(now.Add(-time.Duration(r.IntN(10)) * time.Minute))
			v.NoData = c.Metric != nil && r.IntN(5) == 0
		case 3:
			v = silent()
			v.NoData = c.Metric != nil && r.IntN(2) == 0
		}
		if r.IntN(10) == 0 {
			v.State, v.Why = Gone, "it is gone"
		}
		if r.IntN(4) == 0 {
			mute = "the window"
		}
		before := snapshot(a)
		acked := a != nil && a.Status.Live() && a.Acknowledged(now)
		next, due := Advance(a, c, v, mute, now)
		if again, dueAgain := Advance(a, c, v, mute, now); !reflect.DeepEqual(next, again) || !reflect.DeepEqual(due, dueAgain) {
			fail("the same values decide otherwise")
		}
		if a != nil && !reflect.DeepEqual(before, snapshot(a)) {
			fail("the alert given was changed")
		}
		if next == nil {
			if len(due) > 0 {
				fail("notifications of nothing")
			}
			continue
		}
		if next.ID == "" {
			id++
			next.ID = model.ID(fmt.Sprint(id))
			told = map[string]bool{}
		}
		check(fail, next, due, sent, told, acked, mute, now, last)
		if v.State == Unknown && (next.Status == model.AlertClosed || a != nil && a.Status == model.AlertTracking && next.Status == model.AlertOpen) {
			fail("unknown made it %s", next.Status)
		}
		if !next.Status.Live() {
			last["end"] = now
			if next.Opened.IsZero() {
				last["end"] = time.Time{}
			}
		}
		a = next
		if a.Status.Live() && r.IntN(15) == 0 {
			a, _ = Acknowledge(a, c, now.Add(time.Duration(r.IntN(60)-10)*time.Minute), "ann", "", now)
		}
		if len(a.History) > 200 || len(a.Notified) > 2 {
			fail("%d steps, %d notified", len(a.History), len(a.Notified))
		}
	}
	if id < 5 || len(sent) < 20 {
		fail("only %d alerts and %d messages: the test tests little", id, len(sent))
	}
}

func check(fail func(string, ...any), a *model.Alert, due []Due, sent, told map[string]bool, acked bool, mute string, now time.Time, last map[model.ID]time.Time) {
	for _, d := range due {
		key := fmt.Sprintf("%s/%s-%d/%s", a.ID, d.Kind, d.N, d.Notification.ID)
		if sent[key] {
			fail("%s is sent twice", key)
		}
		sent[key] = true
		who := string(d.Notification.ID)
		switch d.Kind {
		case model.DeliverOpen:
			if told[who] {
				fail("opened twice for %s", who)
			}
			told[who] = true
			if !last["end"].IsZero() && now.Sub(last["end"]) < Rest {
				fail("opened %s after the end of another", now.Sub(last["end"]))
			}
		case model.DeliverUpdate, model.DeliverClose, model.DeliverCancel:
			if !told[who] {
				fail("%s to %s, who knows nothing of it", d.Kind, who)
			}
		}
		if (d.Kind == model.DeliverOpen || d.Kind == model.DeliverUpdate) && (acked || mute != "" || a.Status != model.AlertOpen) {
			fail("%s while acknowledged %v, muted %q, %s", d.Kind, acked, mute, a.Status)
		}
	}
	if !a.Status.Live() {
		ends := 0
		for _, d := range due {
			if d.Kind == model.DeliverClose || d.Kind == model.DeliverCancel {
				ends++
			}
		}
		if ends != len(told) {
			fail("%d know of it, %d are told of its end", len(told), ends)
		}
		if a.Resolved.IsZero() {
			fail("no end")
		}
	}
	if a.Status == model.AlertOpen && a.Opened.IsZero() || a.Updated.After(now) || a.Since.After(now) {
		fail("times: opened %s, updated %s, since %s", a.Opened, a.Updated, a.Since)
	}
}

// snapshot copies an alert deeply enough to see changes.
func snapshot(a *model.Alert) any {
	if a == nil {
		return nil
	}
	return fmt.Sprintf("%+v", *a)
}
