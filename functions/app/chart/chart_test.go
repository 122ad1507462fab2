package chart

import (
	"encoding/json"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
)

func TestClusterChartsAreOfTheCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range ClusterCharts() {
		if seen[c.ID] || c.Title == "" || c.ID == "" {
			t.Errorf("chart %+v: no title, or its id is taken", c)
		}
		seen[c.ID] = true
		for _, name := range c.Measurements {
			m, ok := catalog.Find(name)
			if !ok {
				t.Errorf("%s: the catalogue has no %s", c.ID, name)
			} else if m.Unit != c.Unit {
				t.Errorf("%s: %s is in %s, the chart in %s", c.ID, name, m.Unit, c.Unit)
			}
		}
	}
}

func TestWindowOf(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for query, want := range map[string]Window{
		"":              {now.Add(-24 * time.Hour), now, 86400, "24h"},
		"range=1h":      {now.Add(-time.Hour), now, 3600, "1h"},
		"range=604800s": {now.Add(-7 * 24 * time.Hour), now, 604800, "7d"},
		"range=99y":     {now.Add(-24 * time.Hour), now, 86400, "24h"},
		"from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z": {time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), 0, ""},
		"from=2026-11-01T00:00&to=2026-11-01T06:30":         {time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 30, 0, 0, time.UTC), 0, ""},
		"from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z": {now.Add(-24 * time.Hour), now, 86400, "24h"},
		"from=yesterday&to=now":                             {now.Add(-24 * time.Hour), now, 86400, "24h"},
		"from=0001-01-01T00:00:00Z&to=9999-01-01T00:00:00Z": {now.Add(-24 * time.Hour), now, 86400, "24h"},
	} {
		v := &view.Visit{Now: now, Request: httptest.NewRequestWithContext(t.Context(), "GET", "/p?"+query, nil)}
		if got := WindowOf(v); got != want {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
		if on := slices.IndexFunc(WindowOf(v).Presets(v), func(p Preset) bool { return p.On }); (on >= 0) != (want.Preset != "") {
			t.Errorf("%q: preset %d is lit", query, on)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-21T08:00:00Z")
	f.Add("2026-11-21T08:00")
	f.Fuzz(func(t *testing.T, s string) {
		if at, ok := parseTime(s); ok && (at.Year() <= 1970 || at.Year() >= 2200 || at.Location() != time.UTC) {
			t.Errorf("parseTime(%q) = %s", s, at)
		}
	})
}

func TestSumLeavesAGapOnlyWhereNothingWasMeasured(t *testing.T) {
	nan := math.NaN()
	lines := map[string][]float64{"a": {1, nan, nan, 4}, "b": {10, 20, nan}}
	got := sum([]string{"a", "b", "c"}, lines)
	want := []float64{11, 20, nan, 4}
	if !slices.EqualFunc(got, want, func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }) {
		t.Errorf("sum %v, want %v", got, want)
	}
	if got := lines["a"][0]; got != 1 {
		t.Errorf("the sum changed its parts: %v", got)
	}
}

func TestJSON(t *testing.T) {
	nan := math.NaN()
	a := Answer{
		Start: time.Unix(1_700_000_000, 0), Step: time.Minute, N: 5,
		Marks:  []model.Mark{{At: time.UnixMilli(1_700_000_001_500), Type: model.EventHostNowPrimary, Text: `db"1: <b>`}},
		Charts: []Drawn{{ID: "x", Unit: catalog.Percent, Percent: true, Stacked: true, Why: "none", Lines: []Line{{"a", 3, []float64{1, nan, 1234567, 0.123456789}, ""}, {"b", 0, nil, ""}, {"c", 1, []float64{math.Inf(1), -5, 1e-9, 2.5e15, 1e6}, catalog.Scalar}}}},
	}
	body := a.json()
	var got any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	want := `{"start":1700000000,"step":60,"n":5,"resolution":"1 min","marks":[{"t":1700000001.5,"kind":"primary","text":"db\"1: \u003cb\u003e"}],` +
		`"charts":[{"id":"x","unit":"PERCENT","stacked":true,"max":100,"why":"none","series":[{"name":"a","c":3,"v":[1,null,1.2346e+06,0.12346,null]},` +
		`{"name":"b","c":0,"v":[null,null,null,null,null]},{"name":"c","c":1,"u":"SCALAR","v":[null,-5,1e-09,2.5e+15,1e+06]}]}]}` + "\n"
	if string(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	if empty := string((&Answer{}).json()); !json.Valid([]byte(empty)) {
		t.Errorf("an empty answer is no JSON: %s", empty)
	}
}

func TestCSV(t *testing.T) {
	a := Answer{Start: time.Unix(1_700_000_000, 0), Step: time.Minute, N: 2, Charts: []Drawn{{ID: "x", Unit: catalog.Scalar, Lines: []Line{{"a", 0, []float64{1.5}, ""}, {"b", 1, []float64{math.NaN(), 2}, catalog.Bytes}}}}}
	w := httptest.NewRecorder()
	if err := a.writeCSV(w, `../"evil`); err != nil {
		t.Fatal(err)
	}
	if want := "time (UTC),x a (SCALAR),x b (BYTES)\n2023-11-14T22:13:20Z,1.5,\n2023-11-14T22:14:20Z,,2\n"; w.Body.String() != want {
		t.Errorf("CSV %q, want %q", w.Body.String(), want)
	}
	if got := w.Header().Get("Content-Disposition"); got != `attachment; filename="..--evil.csv"` {
		t.Errorf("Content-Disposition %s", got)
	}
	if fileName("") != "series" {
		t.Error("a file without a name")
	}
}

func TestResolution(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "", 10 * time.Second: "10 s", time.Minute: "1 min", 5 * time.Minute: "5 min", time.Hour: "1 h", 24 * time.Hour: "1 d"} {
		if got := Resolution(d); got != want {
			t.Errorf("Resolution(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestMembersKeepTheirOrder(t *testing.T) {
	c := &model.Cluster{ID: "c"}
	hosts := []model.Host{{ID: "1", ClusterID: "c"}, {ID: "2", ClusterID: "other"}, {ID: "3", ClusterID: "c", Hidden: true}, {ID: "4", ClusterID: "c"}}
	got := Members(c, hosts)
	if len(got) != 2 || got[0].ID != "1" || got[1].ID != "4" {
		t.Errorf("members %+v", got)
	}
}

func TestMarks(t *testing.T) {
	for _, typ := range markTypes() {
		if w := EventWord(typ); w == "" || strings.Contains(w, "_") {
			t.Errorf("%s reads %q", typ, w)
		}
	}
	kinds := map[string]bool{}
	for _, typ := range markTypes() {
		kinds[markKind(typ)] = true
	}
	if len(kinds) != 6 {
		t.Errorf("kinds of marks: %v", kinds)
	}
	if got := EventWord(model.EventAgentTookOver); got != "agent took over" {
		t.Errorf("an unmarked type reads %q", got)
	}
}

func TestEmptyChartsSayWhy(t *testing.T) {
	for _, c := range []struct {
		typ  model.ProcessType
		id   string
		says bool
	}{
		{model.TypeReplicaPrimary, "replication-lag", true},
		{model.TypeReplicaSecondary, "replication-lag", false},
		{model.TypeShardSecondary, "oplog-rate", true},
		{model.TypeReplicaPrimary, "oplog-rate", false},
		{model.TypeReplicaPrimary, "memory", false},
	} {
		if got := notHere(&model.Host{Type: c.typ}, c.id); (got != "") != c.says {
			t.Errorf("%s of a %s: %q", c.id, c.typ, got)
		}
	}
	for _, typ := range []model.ProcessType{model.TypeReplicaPrimary, model.TypeShardMongos} {
		for _, ch := range catalog.Charts(typ) {
			d := draw(ch, nil)
			if len(d.Lines) != len(ch.Measurements) {
				t.Errorf("%s: %d lines of %d measurements", ch.ID, len(d.Lines), len(ch.Measurements))
			}
			names := map[string]bool{}
			for _, l := range d.Lines {
				if l.Name == "" || names[l.Name] {
					t.Errorf("%s: line %q has no name or one twice", ch.ID, l.Name)
				}
				names[l.Name] = true
			}
		}
	}
}

func TestAboutTellsMountsFromDisks(t *testing.T) {
	all := []string{"/", "/data", "nvme0n1", "sda"}
	for _, c := range []struct {
		about About
		all   []string
		asked string
		names int
		shown string
	}{
		{AboutMount, all, "", 2, "/"},
		{AboutMount, all, "/data", 2, "/data"},
		{AboutMount, all, "sda", 2, "/"},
		{AboutDisk, all, "", 2, "nvme0n1"},
		{AboutDisk, all, "sda", 2, "sda"},
		{AboutMount, []string{"data", "nvme0n1", "/var"}, "", 2, "/var"},
		{AboutDisk, []string{"data", "nvme0n1"}, "", 1, "nvme0n1"},
		{AboutMount, []string{"data", "sda"}, "", 1, "data"},
		{AboutMount, []string{"sda"}, "", 1, "sda"},
		{AboutDisk, nil, "x", 0, ""},
		{AboutDatabase, []string{"shop"}, "evil", 1, "shop"},
		{AboutDatabase, []string{"admin", "local", "shop"}, "", 3, "shop"},
		{AboutDatabase, []string{"admin", "local", "shop"}, "local", 3, "local"},
	} {
		if names, shown := c.about.Choose(c.all, c.asked); len(names) != c.names || shown != c.shown {
			t.Errorf("%s of %v, asked for %q: %v, %q", c.about, c.all, c.asked, names, shown)
		}
	}
	seen := map[About]int{}
	for _, ch := range catalog.Charts(model.TypeReplicaPrimary) {
		seen[AboutOf(&ch)]++
	}
	for _, a := range Abouts() {
		if seen[a] == 0 || a != AboutProcess && a.Label() == "" {
			t.Errorf("no chart is about %q, or it has no label", a)
		}
	}
}
