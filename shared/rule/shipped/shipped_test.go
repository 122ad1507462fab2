package shipped_test

import (
	"slices"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestShippedConfigurationsAreValidAndOffered(t *testing.T) {
	group := model.ID("5f0000000000000000000001")
	ids := map[model.ID]bool{}
	for _, set := range [][]model.AlertConfig{shipped.Defaults(group, now), shipped.Recommended(group, now), shipped.Backup(group, now), shipped.Global(now)} {
		for i := range set {
			c := &set[i]
			if faults := rule.Check(c, nil); len(faults) > 0 {
				t.Errorf("%s: %+v", c.EventType, faults)
			}
			kind, ok := rule.TypeOf(c.EventType)
			if !ok || !kind.Raised || kind.Global != (c.GroupID == "") {
				t.Errorf("%s is not offered there", c.EventType)
			}
			if ids[c.ID] || !c.ID.Valid() || !c.Notifications[0].ID.Valid() {
				t.Errorf("%s: id %q", c.EventType, c.ID)
			}
			ids[c.ID] = true
		}
	}
}

func TestWhatANewGroupHas(t *testing.T) {
	var enabled []model.EventType
	for _, c := range shipped.Defaults("5f0000000000000000000001", now) {
		if c.Enabled {
			enabled = append(enabled, c.EventType)
		}
	}
	want := []model.EventType{model.EventAgentDown, model.EventHostDown, model.EventCertificateStale, model.EventUserJoined}
	if !slices.Equal(enabled, want) {
		t.Errorf("enabled by default: %v", enabled)
	}
	for _, c := range shipped.Recommended("5f0000000000000000000001", now) {
		if c.Enabled {
			t.Errorf("%s of the recommended set is enabled", c.EventType)
		}
	}
	again := shipped.Defaults("5f0000000000000000000001", now.Add(time.Hour))
	if again[0].ID != shipped.Defaults("5f0000000000000000000001", now)[0].ID || again[0].ID == shipped.Defaults("5f0000000000000000000002", now)[0].ID {
		t.Error("ids do not belong to group and type")
	}
}
