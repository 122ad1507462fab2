package ask

import (
	"bytes"
	"testing"
	"time"
)

func TestTimesAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text string
		sign int
		want string
	}{
		{"2026-12-24T18:00:00Z", 1, "2026-12-24T18:00:00Z"},
		{"2026-12-24T18:00:00+02:00", 1, "2026-12-24T16:00:00Z"},
		{"2026-12-24 18:00", -1, "2026-12-24T18:00:00Z"},
		{"2026-12-24", -1, "2026-12-24T00:00:00Z"},
		{"now", 1, "2026-11-21T12:00:00Z"},
		{"90m", -1, "2026-11-21T10:30:00Z"},
		{"1.5d", 1, "2026-11-23T00:00:00Z"},
		{"2w", -1, "2026-11-07T12:00:00Z"},
		{"", 1, ""},
		{"-1h", 1, ""},
		{"0s", 1, ""},
		{"d", 1, ""},
		{"1e300d", 1, ""},
		{"NaNd", 1, ""},
		{"100000h", 1, ""},
		{"yesterday", -1, ""},
	} {
		got, err := Moment(c.text, now, c.sign)
		if (err == nil) != (c.want != "") || err == nil && Stamp(got) != c.want {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func TestTablesCannotSteerATerminal(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, []string{"A", "B"}, []string{"\x1b[2Jx\ny", "täxt\u202e"}); err != nil {
		t.Fatal(err)
	}
	if want := "A       B\n[2Jx y  täxt\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

func TestNumbersForPeople(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 12: "12", 1e9: "1000000000", 3.14159: "3.14", 0.5: "0.5", 0.00123: "0.00123", -2.5: "-2.5"} {
		if got := amount(f); got != want {
			t.Errorf("%v: %s", f, got)
		}
	}
}
