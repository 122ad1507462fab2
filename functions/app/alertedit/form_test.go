package alertedit

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
)

// TestAFormSaysWhatItsSettingSays: what is shown for a change and sent back unchanged is the same setting.
func TestAFormSaysWhatItsSettingSays(t *testing.T) {
	all := append(shipped.Recommended("5f0000000000000000000001", model.Alert{}.Since), model.AlertConfig{
		ID: "5f0000000000000000000d01", GroupID: "5f0000000000000000000001", EventType: model.EventOutsideMetric, Enabled: true, Note: "call Ann",
		Metric:   &model.MetricThreshold{Metric: "OPLOG_MASTER_TIME", Threshold: model.Threshold{Operator: model.LessThan, Value: 1.5, Units: "HOURS"}},
		Matchers: []model.Matcher{{Field: "HOSTNAME", Operator: "REGEX", Value: "^db[0-9]+$"}, {Field: "PORT", Operator: "NOT_EQUALS", Value: "27018"}},
		Notifications: []model.Notification{
			{ID: "5f0000000000000000000e01", Channel: notify.Group, DelayMin: 5, IntervalMin: 60, EmailEnabled: true, SMSEnabled: true, Roles: []model.Role{model.GroupOwner}},
			{ID: "5f0000000000000000000e02", Channel: notify.OpsGenie, IntervalMin: 30, Fields: map[string]string{"opsGenieRegion": "EU"}, Secrets: map[string]model.Secret{"opsGenieApiKey": "0123456789abcdef"}},
		},
	}, model.AlertConfig{
		ID: "5f0000000000000000000d02", EventType: model.EventHostDown, GroupIDs: []model.ID{"5f0000000000000000000001"}, Tags: []string{"prod", "eu"},
		Notifications: []model.Notification{{ID: "5f0000000000000000000e03", Channel: notify.Admin, IntervalMin: 60}},
	})
	for _, c := range all {
		d := parse(valuesOf(&c), c)
		if !d.Form.OK() {
			t.Errorf("%s: %v", c.EventType, d.Form.Errors)
		}
		got := d.Config
		for i := range got.Notifications {
			n := &got.Notifications[i]
			if len(n.Fields) == 0 {
				n.Fields = c.Notifications[i].Fields
			}
			if len(n.Secrets) == 0 {
				n.Secrets = c.Notifications[i].Secrets
			}
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s became another setting:\n%+v\n%+v", c.EventType, c, got)
		}
	}
}

func TestWhatIsOfferedIsRaised(t *testing.T) {
	for _, site := range []bool{false, true} {
		n := 0
		for _, h := range frame.TypeOptions(site, "") {
			for _, o := range h.Options {
				k, ok := rule.TypeOf(model.EventType(o.Value))
				if n++; !ok || !k.Raised || k.Global && !site {
					t.Errorf("site %v: %s is offered", site, o.Value)
				}
			}
		}
		if n < 10 {
			t.Errorf("site %v: only %d types are offered", site, n)
		}
	}
	kept := frame.TypeOptions(false, "BAD_CLUSTERSHOTS")
	if last := kept[len(kept)-1]; len(last.Options) != 1 || !last.Options[0].On {
		t.Errorf("a type that is set but never raised is lost: %+v", last)
	}
}

func TestTheWholeCatalogueIsOffered(t *testing.T) {
	n, on := 0, 0
	for _, h := range metricOptions("OPLOG_SLAVE_LAG_MASTER_TIME") {
		for _, o := range h.Options {
			if _, ok := rule.MetricOf(o.Value); !ok {
				t.Errorf("%s is offered and unknown", o.Value)
			}
			if n++; o.On {
				on++
			}
		}
	}
	if n < 100 || on != 1 {
		t.Errorf("%d measurements, %d of them chosen", n, on)
	}
}

func FuzzForm(f *testing.F) {
	for _, s := range []string{"type=HOST_DOWN&n=0&n0-channel=GROUP&n0-email=on", "type=OUTSIDE_METRIC_THRESHOLD&metric=CONNECTIONS&threshold=1e9&m=0&m0-field=PORT&m=1", "n=-1&n=x&n=3&n3-channel=slack&n3-delay=9999999999999999999", "m=1&m=1&m1-value=%00&threshold=NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		values, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		d := parse(values, model.AlertConfig{GroupID: "g"})
		d.check(&facts{})
		if len(d.Config.Notifications) > maxRows || len(d.Config.Matchers) > maxRows {
			t.Errorf("%d notifications, %d matchers", len(d.Config.Notifications), len(d.Config.Matchers))
		}
		if again := parse(valuesOf(&d.Config), d.Config); len(again.Config.Notifications) != len(d.Config.Notifications) {
			t.Errorf("%d notifications became %d", len(d.Config.Notifications), len(again.Config.Notifications))
		}
	})
}
