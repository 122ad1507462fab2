// Package logline is a simulated server's log: lines in a real server's form and the ring of them that getLog reads.
package logline

import (
	"encoding/json"
	"fmt"
	"time"
)

// Line is one line of a server's log.
type Line struct {
	At        time.Time
	Severity  string
	Component string
	ID        int
	Context   string
	Msg       string
	Attr      map[string]any
	Tags      []string
}

// Format is the line in the JSON form of servers from 4.4, or in the text form of those before.
func (l Line) Format(asJSON bool) string {
	if !asJSON {
		return fmt.Sprintf("%s %s  %-8s [%s] %s", l.At.UTC().Format("2006-01-02T15:04:05.000-0700"), l.Severity, l.Component, l.Context, l.Msg)
	}
	quote := func(x any) string {
		b, err := json.Marshal(x)
		if err != nil {
			return `""`
		}
		return string(b)
	}
	s := fmt.Sprintf(`{"t":{"$date":"%s"},"s":%q,  "c":%q, "id":%d, "ctx":%q,"msg":%s`,
		l.At.UTC().Format("2006-01-02T15:04:05.000-07:00"), l.Severity, l.Component, l.ID, l.Context, quote(l.Msg))
	if len(l.Attr) > 0 {
		s += `,"attr":` + quote(l.Attr)
	}
	if len(l.Tags) > 0 {
		s += `,"tags":` + quote(l.Tags)
	}
	return s + "}"
}

// Ring keeps the last lines of a member's log, as many as getLog gives.
type Ring struct {
	Lines   []Line
	Written int64
}

// keep is how many lines a server keeps in memory.
const keep = 1024

// Add appends a line and lets the oldest go when there are too many.
func (r *Ring) Add(l Line) {
	if len(r.Lines) == keep {
		r.Lines = append(r.Lines[:0:0], r.Lines[keep/4:]...)
	}
	r.Lines = append(r.Lines, l)
	r.Written++
}
