package deliver

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/notify"
)

// nothing is an outbox, a sender and groups that nobody asks.
type nothing struct {
	Outbox
	Groups
}

func (nothing) Send(context.Context, notify.Target, notify.Message) (notify.Result, error) {
	return notify.Result{}, nil
}

func TestWhatIsRememberedOfDestinationsIsBounded(t *testing.T) {
	d, err := New(Options{Outbox: nothing{}, Groups: nothing{}, Sender: nothing{}, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for i := range 3 * maxDestinations {
		d.failedAt("destination "+strconv.Itoa(i), 0, 0, now)
		if len(d.failed) > maxDestinations {
			t.Fatalf("%d destinations are remembered", len(d.failed))
		}
	}
	d.failed = map[string]failing{}
	for i := range 10_000 {
		until := d.failedAt("one", 0, 0, now.Add(time.Duration(i)*time.Minute))
		if wait := until.Sub(now.Add(time.Duration(i) * time.Minute)); wait > 2*lastBackOff {
			t.Fatalf("after %d failures it waits for %v", i, wait)
		}
	}
	if len(d.failed) != 1 {
		t.Errorf("one destination takes %d places", len(d.failed))
	}
}
