package release

import (
	"strings"
	"testing"
	"time"
)

func TestBehindCountsTheReleasesOfTheSeries(t *testing.T) {
	table, err := Load([]byte(`{"format":1,"date":"2019-05-01","series":[{"name":"3.6","latest":"3.6.12"},{"name":"4.0","latest":"4.0.9","released":"2019-04-15"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		version, latest string
		behind          int
		known           bool
	}{
		{"4.0.9", "4.0.9", 0, true},
		{"4.0.8", "4.0.9", 1, true},
		{"4.0.7", "4.0.9", 2, true},
		{"4.0.10", "4.0.9", 0, true},
		{"3.6.0-rc1", "3.6.12", 12, true},
		{"4.0.7-2", "4.0.9", 2, true},
		{"4.2.0", "", 0, false},
		{"", "", 0, false},
		{"4.0", "", 0, false},
		{"four", "", 0, false},
		{"4.0.7x", "", 0, false},
		{"4.0.-7", "", 0, false},
	} {
		latest, behind, known := table.Behind(c.version)
		if latest != c.latest || behind != c.behind || known != c.known {
			t.Errorf("%q: %q %d %v, want %q %d %v", c.version, latest, behind, known, c.latest, c.behind, c.known)
		}
	}
}

func TestEmbeddedTableIsSound(t *testing.T) {
	table := Embedded()
	for _, name := range []string{"4.2.1", "4.4.1", "5.0.1", "6.0.1", "7.0.1", "8.0.1", "8.3.1"} {
		if _, behind, known := table.Behind(name); !known || behind == 0 {
			t.Errorf("%s: behind %d, known %v", name, behind, known)
		}
	}
	for _, s := range table.Series {
		if !s.Released.IsZero() && s.Released.Before(time.Date(2009, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s was released before there was a MongoDB", s.Latest)
		}
	}
	if table.Stale(table.Date.Add(StaleAfter)) || !table.Stale(table.Date.Add(StaleAfter+time.Hour)) {
		t.Error("staleness does not count from the date")
	}
}

func TestFaultsAreAllNamed(t *testing.T) {
	_, err := Load([]byte(`{"format":1,"date":"soon","series":[
		{"name":"8","latest":"8.0.1"},{"name":"4.0","latest":"4.2.1"},{"name":"3.6","latest":"3.6"},{"name":"4.4","latest":"4.4.1","endOfLife":"never"}]}`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"date: \"soon\"", "series[0].name", "series[1].latest: 4.2.1 is not of series 4.0", "series[2].name: 3.6 is there twice or out of order", "series[2].latest", "series[3].endOfLife"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not name %s", err, part)
		}
	}
	for name, text := range map[string]string{
		"no JSON":          `nope`,
		"another format":   `{"format":2,"date":"2026-01-01","series":[]}`,
		"an unknown field": `{"format":1,"date":"2026-01-01","serie":[]}`,
		"no series":        `{"format":1,"date":"2026-01-01","series":[]}`,
		"something behind": `{"format":1,"date":"2026-01-01","series":[{"name":"4.0","latest":"4.0.1"}]} {}`,
		"a huge file":      strings.Repeat(" ", maxBytes+1),
	} {
		if _, err := Load([]byte(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(embedded, "8.0.4")
	f.Add([]byte(`{"format":1,"date":"2026-01-01","series":[{"name":"4.0","latest":"4.0.1"}]}`), "4.0.1-rc0")
	f.Fuzz(func(t *testing.T, b []byte, version string) {
		table, err := Load(b)
		if err != nil {
			return
		}
		if len(table.Series) == 0 || table.Date.IsZero() && !strings.Contains(string(b), "0001-01-01") {
			t.Errorf("accepted a table without content: %s", b)
		}
		for _, s := range table.Series {
			if latest, behind, known := table.Behind(s.Latest); !known || behind != 0 || latest != s.Latest {
				t.Errorf("the newest of %s is behind: %s %d %v", s.Name, latest, behind, known)
			}
		}
		if _, behind, _ := table.Behind(version); behind < 0 {
			t.Error("negative")
		}
	})
}
