package alertconf

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

func parse(b []byte, global bool) (*input, bool) {
	var body globalBody
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if dec.Decode(&body) != nil {
		return nil, false
	}
	return body.input(global), true
}

// TestChannelsComeBack: every field of every channel's table survives the way through an answer and back.
func TestChannelsComeBack(t *testing.T) {
	for _, ch := range notify.Channels() {
		n := model.Notification{ID: model.NewID(), Channel: ch.Name, DelayMin: 3, IntervalMin: 15, Fields: map[string]string{}, Secrets: map[string]model.Secret{}}
		if ch.People {
			n.EmailEnabled = true
		}
		for _, f := range ch.Fields {
			if f.Secret {
				n.Secrets[f.Name] = model.Secret("secret-of-" + f.Name)
			} else {
				n.Fields[f.Name] = "value of " + f.Name
			}
		}
		cfg := model.AlertConfig{ID: model.NewID(), GroupID: model.NewID(), EventType: model.EventHostDown, Notifications: []model.Notification{n}}
		b, err := json.Marshal(Entity(&cfg))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range n.Secrets {
			if strings.Contains(string(b), s.Reveal()) {
				t.Errorf("%s tells a secret", ch.Name)
			}
		}
		in, ok := parse(b, false)
		if !ok || len(in.faults) > 0 {
			t.Fatalf("%s: %v\n%s", ch.Name, in, b)
		}
		in.merge(cfg.Notifications)
		got := in.config.Notifications[0]
		for name := range n.Fields {
			if got.Fields[name] != n.Fields[name] {
				t.Errorf("%s.%s became %q", ch.Name, name, got.Fields[name])
			}
		}
		for name := range n.Secrets {
			if got.Secrets[name] != n.Secrets[name] {
				t.Errorf("%s.%s became %q", ch.Name, name, got.Secrets[name].Reveal())
			}
		}
		if got.ID != n.ID || got.DelayMin != 3 || got.IntervalMin != 15 || got.EmailEnabled != n.EmailEnabled {
			t.Errorf("%s: %+v", ch.Name, got)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","metricThreshold":{"metricName":"CONNECTIONS","mode":"AVERAGE","operator":"LESS_THAN","threshold":1e300,"units":"RAW"},"notifications":[{"typeName":"SLACK","apiToken":"x","channelName":"y","intervalMin":5,"delayMin":0}]}`), true)
	f.Add([]byte(`{"forAllGroups":null,"groupIds":null,"notifications":[{"TYPENAME":"email","emailAddress":null,"links":[],"roles":["GROUP_OWNER"]},null,{}],"matchers":[{"value":"["}]}`), false)
	f.Add([]byte(`{"notifications":[{"typeName":"WEBHOOK","webhookUrl":"************abcd","intervalMin":1e99}],"threshold":{}}`), false)
	f.Fuzz(func(t *testing.T, b []byte, global bool) {
		in, ok := parse(b, global)
		if !ok {
			return
		}
		in.merge(nil)
		cfg := &in.config
		if !global {
			cfg.GroupID = "5f0000000000000000000001"
		}
		faults := rule.Check(cfg, notify.Check)
		text, err := json.Marshal(Entity(cfg))
		if err != nil {
			t.Fatalf("not encoded: %v", err)
		}
		if len(faults)+len(in.faults) > 0 {
			return
		}
		again, ok := parse(text, global)
		if !ok || len(again.faults) > 0 {
			t.Fatalf("an answer is refused as a body: %v\n%s", again, text)
		}
		again.merge(cfg.Notifications)
		again.config.GroupID = cfg.GroupID
		if twice, _ := json.Marshal(Entity(&again.config)); !reflect.DeepEqual(without(twice), without(text)) {
			t.Fatalf("changed on the way:\n%s\n%s", text, twice)
		}
	})
}

// without leaves out ids of configurations, which bodies do not set.
func without(b []byte) map[string]any {
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	delete(m, "id")
	return m
}
