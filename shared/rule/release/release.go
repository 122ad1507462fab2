// Package release knows which MongoDB versions there are: a dated table, embedded or read from a file of the same format, so
// that a site without internet can tell who is behind.
//
// The format is one JSON object: "format" is 1; "date" is the day up to which the table is complete; "note" is free; "series"
// lists the series, oldest first, each with "name" (two numbers), "latest" (three numbers that begin with the name) and,
// where known, the days "released" and "endOfLife". It imports nothing of ours.
package release

import (
	"bytes"
	_ "embed" // the table is a file
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// StaleAfter is the age at which a table should be replaced.
	StaleAfter = 120 * 24 * time.Hour

	format   = 1
	maxBytes = 1 << 20
	maxParts = 5 // digits of a number in a version
)

// Table lists the newest releases of every series.
type Table struct {
	Date   time.Time // up to when it is complete
	Series []Series  // oldest first
}

// Series is the releases of one x.y.
type Series struct {
	Name      string    // "8.0"
	Latest    string    // "8.0.4"
	Released  time.Time // of Latest; zero: not known
	EndOfLife time.Time // zero: not announced
}

//go:embed releases.json
var embedded []byte

var table = sync.OnceValue(func() *Table {
	t, err := Load(embedded)
	if err != nil {
		panic("release: the embedded table: " + err.Error())
	}
	return t
})

// Embedded is the table this build came with. It is shared: do not change it.
func Embedded() *Table { return table() }

// file is a table as it is written down.
type file struct {
	Format int    `json:"format"`
	Date   string `json:"date"`
	Note   string `json:"note"`
	Series []struct {
		Name      string `json:"name"`
		Latest    string `json:"latest"`
		Released  string `json:"released"`
		EndOfLife string `json:"endOfLife"`
	} `json:"series"`
}

// Load reads a table. The error of one that cannot be used names every fault.
func Load(b []byte) (*Table, error) {
	if len(b) > maxBytes {
		return nil, fmt.Errorf("the table is larger than %d bytes", maxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("the table is not the JSON it should be: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the table")
	}
	if f.Format != format {
		return nil, fmt.Errorf("the table has format %d; this build reads format %d", f.Format, format)
	}
	var faults []error
	day := func(where, s string, needed bool) time.Time {
		if s == "" && !needed {
			return time.Time{}
		}
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %q is no day such as 2026-01-31", where, s))
		}
		return at
	}
	t := &Table{Date: day("date", f.Date, true)}
	if len(f.Series) == 0 {
		faults = append(faults, fmt.Errorf("series: there are none"))
	}
	last := [3]int{-1}
	for i, s := range f.Series {
		where := fmt.Sprintf("series[%d]", i)
		name, okName := parse(s.Name, 2)
		latest, okLatest := parse(s.Latest, 3)
		switch {
		case !okName:
			faults = append(faults, fmt.Errorf("%s.name: %q is not two numbers such as 8.0", where, s.Name))
		case !Less(last, name):
			faults = append(faults, fmt.Errorf("%s.name: %s is there twice or out of order", where, s.Name))
		}
		if okName {
			last = name
		}
		switch {
		case !okLatest:
			faults = append(faults, fmt.Errorf("%s.latest: %q is not three numbers such as 8.0.4", where, s.Latest))
		case okName && (latest[0] != name[0] || latest[1] != name[1]):
			faults = append(faults, fmt.Errorf("%s.latest: %s is not of series %s", where, s.Latest, s.Name))
		}
		t.Series = append(t.Series, Series{
			Name: s.Name, Latest: s.Latest, Released: day(where+".released", s.Released, false), EndOfLife: day(where+".endOfLife", s.EndOfLife, false),
		})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return t, nil
}

// Find returns a version's series.
func (t *Table) Find(version string) (Series, bool) {
	have, ok := Numbers(version)
	if !ok {
		return Series{}, false
	}
	for _, s := range t.Series {
		if n, _ := parse(s.Name, 2); n[0] == have[0] && n[1] == have[1] {
			return s, true
		}
	}
	return Series{}, false
}

// Behind compares a version with the newest of its series. behind counts the releases after it; known is false for a series
// that the table does not have and for what is no version. What a vendor adds behind the three numbers does not count.
func (t *Table) Behind(version string) (latest string, behind int, known bool) {
	s, ok := t.Find(version)
	if !ok {
		return "", 0, false
	}
	have, _ := Numbers(version)
	newest, _ := parse(s.Latest, 3)
	return s.Latest, max(newest[2]-have[2], 0), true
}

// Stale reports whether the table is too old to be trusted to know the newest releases.
func (t *Table) Stale(now time.Time) bool { return now.Sub(t.Date) > StaleAfter }

// Numbers reads the three numbers of a version, whatever a vendor adds behind them: "8.0.4", "8.0.4-1", "7.0.12-rc0".
func Numbers(version string) ([3]int, bool) {
	end := strings.IndexFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end == 0 {
		return [3]int{}, false
	}
	if end > 0 {
		if c := version[end]; c != '-' && c != '+' && c != ' ' {
			return [3]int{}, false
		}
		version = version[:end]
	}
	return parse(version, 3)
}

// parse reads exactly n numbers with dots between them.
func parse(s string, n int) (v [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != n {
		return v, false
	}
	for i, p := range parts {
		x, err := strconv.Atoi(p)
		if err != nil || x < 0 || len(p) > maxParts || strconv.Itoa(x) != p {
			return v, false
		}
		v[i] = x
	}
	return v, true
}

// Less reports whether a version is before another one.
func Less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
