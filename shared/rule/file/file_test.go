package file

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

// table has two channels with fields, as the one of shared/notify.
type table struct{}

func (table) Fields(channel string) (string, map[string]bool, bool) {
	switch strings.ToUpper(channel) {
	case "SLACK":
		return "SLACK", map[string]bool{"apiToken": true, "channelName": false}, true
	case "EMAIL":
		return "EMAIL", map[string]bool{"emailAddress": false}, true
	case "GROUP":
		return "GROUP", map[string]bool{}, true
	}
	return channel, nil, false
}

func (table) Mask(s model.Secret) string {
	if r := s.Reveal(); len(r) >= 8 {
		return "************" + r[len(r)-4:]
	}
	return "************"
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func mustDecode(t *testing.T, s string, global bool) *File {
	t.Helper()
	f, faults := Decode([]byte(s), Options{Channels: table{}, Global: global})
	if len(faults) > 0 {
		t.Fatalf("%v\n%s", faults, s)
	}
	return f
}

const slack = `
alertConfigs:
  - eventTypeName: HOST_DOWN
    notifications:
      - {typeName: SLACK, intervalMin: 30, channelName: "#ops", apiToken: "%s"}
`

// stored is what a server would answer of a file's configuration: with ids, and secrets masked.
func stored(t *testing.T, f *File) *File {
	t.Helper()
	out := &File{HasConfigs: true, HasWindows: true}
	for i := range f.Configs {
		c := f.Configs[i]
		b, err := json.Marshal(c.Body(c.ForAllGroups))
		if err != nil {
			t.Fatal(err)
		}
		var o map[string]any
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		o["id"] = string(model.DeriveID("config", string(rune('a'+i))))
		o["created"], o["links"], o["somethingNew"] = "2026-01-01T00:00:00Z", []any{}, map[string]any{"of": "a newer server"}
		for k, n := range o["notifications"].([]any) {
			n := n.(map[string]any)
			n["id"] = string(model.DeriveID("notifier", string(rune('a'+i)), string(rune('a'+k))))
			if s, ok := n["apiToken"].(string); ok {
				n["apiToken"] = table{}.Mask(model.Secret(s))
			}
		}
		have, err := FromAPI(o, Options{Channels: table{}, Global: c.ForAllGroups})
		if err != nil {
			t.Fatal(err)
		}
		out.Configs = append(out.Configs, have)
	}
	for i := range f.Windows {
		w := f.Windows[i]
		w.ID = model.DeriveID("window", string(rune('a'+i)))
		out.Windows = append(out.Windows, w)
	}
	return out
}

func diff(t *testing.T, have, want *File, o DiffOptions) *Plan {
	t.Helper()
	o.Channels, o.Now = table{}, now
	plan, faults := Diff(have, want, o)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return plan
}

func actions(p *Plan) []string {
	out := []string{}
	for _, s := range p.Steps {
		out = append(out, s.Action+" "+s.Label)
	}
	return out
}

func TestWhatIsWrongIsSaidWithItsLine(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"nothing", "", "the file is empty"},
		{"a comment only", "# x\n", "the file is empty"},
		{"a list", "- a\n", "line 1: the file must begin with fields"},
		{"neither list", "version: 1\n", "neither alertConfigs nor maintenanceWindows"},
		{"another version", "version: 2\nalertConfigs: []\n", "reads version 1 of the format, not 2"},
		{"two documents", "alertConfigs: []\n---\nalertConfigs: []\n", "one document"},
		{"an unknown field", "alertConfigs:\n  - eventTypename: X\n", "line 2: alertConfigs[0].eventTypename: there is no field eventTypename here: did you mean eventTypeName?"},
		{"a field twice", "alertConfigs: []\nalertConfigs: []\n", "line 2: alertConfigs is given twice"},
		{"text for a number", "alertConfigs:\n  - threshold: {threshold: much}\n", "line 2: alertConfigs[0].threshold.threshold: a number is needed here"},
		{"no number", "alertConfigs:\n  - threshold: {threshold: .nan}\n", "a number is needed here"},
		{"half minutes", "alertConfigs:\n  - notifications: [{typeName: GROUP, delayMin: 1.5}]\n", "a whole number of minutes"},
		{"a map for a list", "alertConfigs:\n  a: b\n", "a list is needed here"},
		{"a list for a text", "alertConfigs:\n  - note: [a]\n", "a text is needed here"},
		{"another channel's field", "alertConfigs:\n  - notifications: [{typeName: EMAIL, apiToken: x}]\n", "EMAIL has no field apiToken: it has emailAddress"},
		{"a mode of old", "alertConfigs:\n  - metricThreshold: {metricName: A, mode: TOTAL}\n", "mode must be AVERAGE"},
		{"a field of global ones", "alertConfigs:\n  - tags: [a]\n", "use --global"},
		{"no date", "maintenanceWindows:\n  - startDate: soon\n", "line 2: maintenanceWindows[0].startDate: \"soon\" is no date"},
		{"no weekday", "maintenanceWindows:\n  - recurrence: {weekdays: [FUNDAY]}\n", "\"FUNDAY\" is none of SUNDAY"},
		{"an alias bomb", bomb(), "aliases multiply"},
		{"not YAML", "alertConfigs: [\n", "this is not YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, faults := Decode([]byte(c.file), Options{Channels: table{}})
			if f != nil || !strings.Contains(faults.Error(), c.want) {
				t.Errorf("%v", faults)
			}
		})
	}
}

// bomb is a short file whose aliases stand for a million notifications.
func bomb() string {
	list := func(what string) string { return "[" + strings.TrimSuffix(strings.Repeat(what+", ", 1000), ", ") + "]" }
	return "alertConfigs: [&c {notifications: &n " + list("{typeName: GROUP}") + "}, " + strings.TrimPrefix(list("*c"), "[") + "\n"
}

func TestSettingsAreCheckedWithTheirLines(t *testing.T) {
	f := mustDecode(t, `
alertConfigs:
  - id: 65f0c0ffee0000000000a1e7
    eventTypeName: HOST_DOWN
    notifications:
      - {typeName: GROUP, intervalMin: 60}
      - typeName: GROUP
        intervalMin: 1
  - id: 65f0c0ffee0000000000a1e7
    eventTypeName: HOST_ON_FIRE
    notifications: [{typeName: GROUP, intervalMin: 60}]
  - id: seven
    eventTypeName: HOST_DOWN
    notifications: [{typeName: GROUP, intervalMin: 60}]
maintenanceWindows:
  - startDate: 2026-11-22
    endDate: 2026-11-24
    alertTypeNames: [MOON]
    recurrence: {weekdays: [MONDAY], timeZone: Mars/Base}
`, false)
	got := f.Check("65f0c0ffee0000000000beef", nil).Error()
	for _, want := range []string{
		"line 8: alertConfigs[0].notifications[1].intervalMin", "line 5: alertConfigs[0].notifications: There is more than one notification to GROUP",
		"line 10: alertConfigs[1].eventTypeName", "line 9: alertConfigs[1].id: line 3 has the id", "line 12: alertConfigs[2].id: \"seven\" is no id",
		"line 17: maintenanceWindows[0].endDate", "line 18: maintenanceWindows[0].alertTypeNames[0]: \"MOON\"", "Mars/Base",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not said:\n%s", want, got)
		}
	}
}

func TestAnExportAppliesToItself(t *testing.T) {
	f := mustDecode(t, `
alertConfigs:
  - eventTypeName: OUTSIDE_METRIC_THRESHOLD
    enabled: false
    matchers: [{fieldName: PORT, operator: EQUALS, value: 27017}]
    metricThreshold: {metricName: CONNECTIONS, operator: GREATER_THAN, threshold: 1500000.25, units: RAW}
    note: "first: line\n  second # line\n\ttab "
    notifications:
      - {typeName: SLACK, delayMin: 3, intervalMin: 30, channelName: "#ops", apiToken: xoxb-0123456789}
      - {typeName: GROUP, intervalMin: 60, emailEnabled: true, roles: [GROUP_OWNER]}
  - eventTypeName: HOST_DOWN
    notifications: [{typeName: EMAIL, intervalMin: 5, emailAddress: "yes"}]
maintenanceWindows:
  - description: "no"
    startDate: 2026-11-22T01:00:00Z
    endDate: 2026-11-22 03:00
    alertTypeNames: [HOST]
    recurrence: {weekdays: [sunday, MONDAY], until: 2027-01-01}
`, false)
	have := stored(t, f)
	b, err := Encode(have, "first", "of a group\nwith a break")
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); !strings.HasPrefix(s, "# first\n# of a group with a break\nversion: 1\n") || strings.Contains(s, "units") || strings.Contains(s, "xoxb") {
		t.Error(s)
	}
	again := mustDecode(t, string(b), false)
	for i, c := range again.Configs {
		want := have.Configs[i].AlertConfig
		for k := range want.Notifications {
			want.Notifications[k].ID = ""
		}
		if d := cmp.Diff(plainText(t, want), plainText(t, c.AlertConfig)); d != "" {
			t.Errorf("configuration %d:\n%s\n%s", i, d, b)
		}
	}
	if p := diff(t, stored(t, f), again, DiffOptions{Prune: true}); len(p.Steps) > 0 || p.Same != 3 {
		t.Errorf("%+v", p)
	}
}

// plainText is a configuration with its secrets, to compare.
func plainText(t *testing.T, c model.AlertConfig) string {
	t.Helper()
	x := Config{AlertConfig: c}
	if c.Metric != nil && c.Metric.Units == "" {
		m := *c.Metric
		m.Units = "RAW"
		x.Metric = &m
	}
	b, err := json.MarshalIndent(x.Body(false), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEntriesFindTheirPartners(t *testing.T) {
	const two = `
alertConfigs:
  - eventTypeName: HOST_DOWN
    note: first
    notifications: [{typeName: GROUP, intervalMin: 60, emailEnabled: true}]
  - eventTypeName: HOST_DOWN
    note: second
    notifications: [{typeName: GROUP, intervalMin: 60, emailEnabled: true}]
`
	have := stored(t, mustDecode(t, two, false))
	second := string(have.Configs[1].ID)
	for _, c := range []struct {
		name, file string
		prune      bool
		want       []string
		left       int
	}{
		{"the same in order", two, true, []string{}, 0},
		{"only one of two alike", strings.Split(two, "  - eventTypeName: HOST_DOWN\n    note: second")[0], false, []string{}, 1},
		{"the others pruned", strings.Split(two, "  - eventTypeName: HOST_DOWN\n    note: second")[0], true, []string{"remove HOST_DOWN"}, 0},
		{"an empty list pruned", "alertConfigs: []", true, []string{"remove HOST_DOWN", "remove HOST_DOWN"}, 0},
		{"a list that is not there", "maintenanceWindows: []", true, []string{}, 0},
		{
			"the id before the order", "alertConfigs: [{id: " + second + ", eventTypeName: NO_PRIMARY, note: second, notifications: [{typeName: GROUP, intervalMin: 60, emailEnabled: true}]}]", false,
			[]string{"change NO_PRIMARY"},
			1,
		},
		{"an id that is not there", "alertConfigs: [{id: 65f0c0ffee0000000000a1e7, eventTypeName: NO_PRIMARY, notifications: [{typeName: GROUP, intervalMin: 60}]}]", false, []string{"add NO_PRIMARY"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := diff(t, have, mustDecode(t, c.file, false), DiffOptions{Prune: c.prune})
			if d := cmp.Diff(c.want, actions(p)); d != "" || len(p.Left) != c.left {
				t.Errorf("%s\nleft %v", d, p.Left)
			}
		})
	}
}

func TestSecretsAreKeptOrWritten(t *testing.T) {
	token := func(s string) string { return strings.Replace(slack, "%s", s, 1) }
	have := stored(t, mustDecode(t, token("xoxb-0123456789"), false))
	for _, c := range []struct {
		name, token string
		secrets     bool
		want        []FieldChange
		fault       string
	}{
		{"still masked", "************6789", false, nil, ""},
		{"the same", "xoxb-0123456789", false, nil, ""},
		{"the same, written anew", "xoxb-0123456789", true, []FieldChange{{"notifications[0].apiToken", "************6789", "************6789 (written anew)"}}, ""},
		{"another", "xoxb-0000000000", false, []FieldChange{{"notifications[0].apiToken", "************6789", "************0000"}}, ""},
		{"too short to tell", "abc", false, []FieldChange{{"notifications[0].apiToken", "************6789", "************"}}, ""},
		{"another's mask", "************1111", false, nil, "line 5: alertConfigs[0].notifications[0].apiToken is masked, and the server has no such secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, faults := Diff(have, mustDecode(t, token(c.token), false), DiffOptions{Channels: table{}, Now: now, Secrets: c.secrets})
			if c.fault != "" {
				if !strings.Contains(strings.ReplaceAll(faults.Error(), ": apiToken is", " is"), c.fault) {
					t.Error(faults)
				}
				return
			}
			var got []FieldChange
			for _, s := range p.Steps {
				got = append(got, s.Fields...)
				body, err := json.Marshal(s.Config.Body(false))
				if err != nil || !strings.Contains(string(body), c.token) || !strings.Contains(string(body), string(have.Configs[0].Notifications[0].ID)) {
					t.Errorf("%s: %v", body, err)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" || len(faults) > 0 {
				t.Error(d, faults)
			}
			if b, err := json.Marshal(p); err != nil || strings.Contains(string(b), "xoxb") {
				t.Errorf("%s %v", b, err)
			}
		})
	}
}

func TestVariablesBecomeSecrets(t *testing.T) {
	f := mustDecode(t, strings.Replace(slack, "%s", "${SLACK_TOKEN}", 1), false)
	if faults := f.Resolve(func(string) (string, bool) { return "", false }); len(faults) != 1 || faults[0].Line != 5 || !strings.Contains(faults[0].Text, "SLACK_TOKEN") {
		t.Error(faults)
	}
	if faults := f.Resolve(func(name string) (string, bool) { return "xoxb-" + name, true }); len(faults) > 0 {
		t.Error(faults)
	}
	if got := f.Configs[0].Notifications[0].Secrets["apiToken"].Reveal(); got != "xoxb-SLACK_TOKEN" {
		t.Error(got)
	}
	for _, s := range []string{"${", "${}", "$X", "${A B}", "x${A}"} {
		if name, ok := variable(s); ok {
			t.Errorf("%s is the variable %s", s, name)
		}
	}
}

func TestWindowsComeAgainOrAreOver(t *testing.T) {
	const weekly = "maintenanceWindows: [{description: w, startDate: 2026-11-01T01:00:00Z, endDate: 2026-11-01T02:00:00Z, alertTypeNames: [HOST], recurrence: {weekdays: [SUNDAY]}}]"
	once := strings.Replace(weekly, ", recurrence: {weekdays: [SUNDAY]}", "", 1)
	have := stored(t, mustDecode(t, weekly, false))
	if p := diff(t, have, mustDecode(t, strings.ReplaceAll(once, "2026-11-01", "2026-12-01"), false), DiffOptions{}); len(p.Steps) != 1 || p.Steps[0].Action != Replace {
		t.Errorf("a window that comes again becomes one that does not: %+v", p.Steps)
	}
	if p := diff(t, &File{}, mustDecode(t, once, false), DiffOptions{}); len(p.Steps) > 0 || len(p.Notes) != 1 {
		t.Errorf("a window that is over: %+v", p)
	}
	if p := diff(t, stored(t, mustDecode(t, once, false)), mustDecode(t, "maintenanceWindows: []", false), DiffOptions{Prune: true}); len(p.Steps) > 0 {
		t.Errorf("a stored window that is over: %+v", p)
	}
	if p := diff(t, have, mustDecode(t, "maintenanceWindows: []", false), DiffOptions{Prune: true}); len(p.Steps) != 1 || p.Steps[0].Action != Remove {
		t.Errorf("one that comes again: %+v", p)
	}
}

func TestAnInterruptedApplyGoesOn(t *testing.T) {
	want := mustDecode(t, `
alertConfigs:
  - eventTypeName: HOST_DOWN
    notifications: [{typeName: GROUP, intervalMin: 60}]
  - eventTypeName: HOST_DOWN
    notifications: [{typeName: EMAIL, intervalMin: 60, emailAddress: a@example.com}]
  - eventTypeName: NO_PRIMARY
    notifications: [{typeName: GROUP, intervalMin: 60}]
`, false)
	all := stored(t, want)
	for n := range len(all.Configs) + 1 {
		have := &File{Configs: all.Configs[:n]}
		if p := diff(t, have, want, DiffOptions{Prune: true}); len(p.Steps) != len(all.Configs)-n || p.Same != n {
			t.Errorf("after %d steps: %v, %d the same", n, actions(p), p.Same)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(strings.Replace(slack, "%s", "${A}", 1)), false)
	f.Add([]byte("alertConfigs: &a [{eventTypeName: X, notifications: *a}]"), false)
	f.Add([]byte("maintenanceWindows: [{startDate: 2026-11-01, recurrence: {weekdays: [MONDAY]}}]"), false)
	f.Add([]byte("{\"eventTypeName\":\"HOST_DOWN\",\"groupIds\":[\"a\"],\"forAllGroups\":true}"), true)
	f.Add([]byte(bomb()), false)
	f.Fuzz(func(t *testing.T, b []byte, global bool) {
		got, faults := Decode(b, Options{Channels: table{}, Global: global})
		if (got == nil) != (len(faults) > 0) {
			t.Fatalf("%v and %v", got, faults)
		}
		if got == nil {
			return
		}
		got.Check("65f0c0ffee0000000000beef", nil)
		out, err := Encode(got)
		if err != nil {
			t.Fatal(err)
		}
		again, faults := Decode(out, Options{Channels: table{}, Global: global})
		if len(faults) > 0 {
			t.Fatalf("what was written cannot be read: %v\n%s", faults, out)
		}
		if len(again.Configs) != len(got.Configs) || len(again.Windows) != len(got.Windows) {
			t.Fatalf("entries are lost:\n%s", out)
		}
		for i := range got.Configs {
			if a, b := plainText(t, got.Configs[i].AlertConfig), plainText(t, again.Configs[i].AlertConfig); a != b {
				t.Fatal(cmp.Diff(a, b))
			}
		}
	})
}
