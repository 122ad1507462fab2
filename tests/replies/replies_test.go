package replies

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestCountersAdvanceAsBetweenTheRecordedSamples(t *testing.T) {
	tpl, err := New()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	read := func(up time.Duration, path ...string) int64 {
		raw := bson.Raw(tpl.At(nil, 4, up, now.Add(up)))
		if err := raw.Validate(); err != nil {
			t.Fatal(err)
		}
		v, err := raw.LookupErr(append([]string{"serverStatus"}, path...)...)
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := v.DateTimeOK(); ok {
			return d
		}
		n, ok := v.AsInt64OK()
		if !ok {
			t.Fatalf("%v is %s", path, v.Type)
		}
		return n
	}
	if d := read(2*time.Minute, "uptimeMillis") - read(time.Minute, "uptimeMillis"); d != 60_000 {
		t.Errorf("uptime advanced by %d ms in a minute", d)
	}
	if got := read(time.Minute, "localTime"); got != now.Add(time.Minute).UnixMilli() {
		t.Errorf("localTime is %d", got)
	}
	last := int64(-1)
	for m := range 30 {
		v := read(time.Duration(m)*time.Minute, "network", "numRequests")
		if v <= last {
			t.Fatalf("minute %d: requests went from %d to %d", m, last, v)
		}
		last = v
	}
}

func TestHostsOfASetAgreeAndSetsDiffer(t *testing.T) {
	tpl, err := New()
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) bson.Raw { return tpl.At(nil, n, time.Hour, time.Unix(1_800_000_000, 0)) }
	text := func(raw bson.Raw, path ...string) string {
		v, err := raw.LookupErr(path...)
		if err != nil {
			t.Fatal(err)
		}
		return v.String()
	}
	for n := range 3 {
		if me := text(at(6+n), "hello", "me"); me != `"`+Name(6+n)+`:27017"` {
			t.Errorf("host %d calls itself %s", 6+n, me)
		}
		if set := text(at(6+n), "hello", "setName"); set != `"rs00002"` {
			t.Errorf("host %d is of set %s", 6+n, set)
		}
	}
	if text(at(6), "hello", "topologyVersion", "processId") == text(at(9), "hello", "topologyVersion", "processId") {
		t.Error("two processes have one id")
	}
	if Number(Name(1234)) != 1234 || Number("localhost") != -1 {
		t.Error("names and numbers do not agree")
	}
}
