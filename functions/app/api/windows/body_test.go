package windows

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// FuzzBodies: whatever a client sends is refused with a reason, or is a window, a silence, an integration that can be used.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"startDate":"2026-03-02","endDate":"2026-03-03","alertTypeNames":["HOST"],"recurrence":{"weekdays":["MONDAY"],"timeZone":"Europe/Berlin","until":"2027-01-01"}}`))
	f.Add([]byte(`{"endDate":"2026-03-02","matchers":[{"fieldName":"HOSTNAME","operator":"REGEX","value":"a+"}]}`))
	f.Add([]byte(`{"type":"SLACK","apiToken":"x","TEAMNAME":"y","links":7}`))
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		var window windowBody
		w := model.MaintenanceWindow{}
		if json.Unmarshal(b, &window) == nil && len(window.apply(&w)) == 0 {
			if !w.Start.Before(w.End) || len(w.Types) == 0 {
				t.Fatalf("%+v", w)
			}
			if start, end, ok := rule.Occurrence(&w, now); ok && (!start.Before(end) || !end.After(now)) {
				t.Fatalf("%+v is on from %s to %s", w, start, end)
			}
		}
		var silence silenceBody
		if json.Unmarshal(b, &silence) == nil {
			if s, faults := silence.silence(now); len(faults) == 0 {
				rule.Muted(nil, []model.Silence{s}, nil)
				if !s.End.After(now) {
					t.Fatalf("%+v", s)
				}
			}
		}
		var raw map[string]json.RawMessage
		if json.Unmarshal(b, &raw) == nil {
			for _, ch := range notify.Channels() {
				if n, faults := integrationOf(&ch, raw); len(faults) == 0 {
					checkIntegration(&ch, n)
				}
			}
		}
	})
}

func TestEveryFaultOfAWindowIsNamed(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		w    model.MaintenanceWindow
		want string
	}{
		"an empty one":           {model.MaintenanceWindow{}, "startDate endDate alertTypeNames "},
		"only a beginning":       {model.MaintenanceWindow{Start: at, Types: []string{"HOST"}}, "endDate "},
		"only an end":            {model.MaintenanceWindow{End: at, Types: []string{"HOST"}}, "startDate "},
		"the end comes first":    {model.MaintenanceWindow{Start: at, End: at, Types: []string{"HOST"}}, "endDate "},
		"longer than a year":     {model.MaintenanceWindow{Start: at, End: at.AddDate(2, 0, 0), Types: []string{"HOST"}}, "endDate "},
		"one that is as it must": {model.MaintenanceWindow{Start: at, End: at.Add(time.Hour), Types: []string{"HOST"}}, ""},
	} {
		got := ""
		for _, f := range checkWindow(&c.w) {
			got += f.Attribute + " "
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
