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
		raw := bson.Raw(tpl.At(nil, "db1", up, now.Add(up)))
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
