package logline

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func TestFormat(t *testing.T) {
	l := Line{
		At: time.Date(2026, 11, 20, 10, 0, 0, 5e6, time.UTC), Severity: "W", Component: "CONTROL", ID: 22120, Context: "initandlisten",
		Msg: `says "no"`, Attr: map[string]any{"n": 1}, Tags: []string{"startupWarnings"},
	}
	want := `{"t":{"$date":"2026-11-20T10:00:00.005+00:00"},"s":"W",  "c":"CONTROL", "id":22120, "ctx":"initandlisten","msg":"says \"no\"","attr":{"n":1},"tags":["startupWarnings"]}`
	if got := l.Format(true); got != want || !json.Valid([]byte(got)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := l.Format(false), `2026-11-20T10:00:00.005+0000 W  CONTROL  [initandlisten] says "no"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTheRingKeepsTheNewest(t *testing.T) {
	var r Ring
	for i := range 3 * keep {
		r.Add(Line{Msg: fmt.Sprint(i)})
	}
	if r.Written != 3*keep || len(r.Lines) > keep || len(r.Lines) < keep/2 || r.Lines[len(r.Lines)-1].Msg != fmt.Sprint(3*keep-1) {
		t.Errorf("%d written, %d kept", r.Written, len(r.Lines))
	}
}
