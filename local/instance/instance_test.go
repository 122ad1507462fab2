package instance

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store"
)

func TestWorkEndsBeforeItsTimeIsOver(t *testing.T) {
	for _, c := range []struct {
		name     string
		given    time.Duration // 0: no deadline
		schedule bool
		ends     time.Duration
		err      error
	}{
		{"a request of a slow function", 5 * time.Minute, false, requestLimit, context.DeadlineExceeded},
		{"a request of a fast function", 10 * time.Second, false, 8 * time.Second, context.DeadlineExceeded},
		{"a request with hardly any time", time.Second, false, 0, context.DeadlineExceeded},
		{"a schedule", 5 * time.Minute, true, 5*time.Minute - endSlack, context.Canceled},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			outer, stop := context.WithTimeout(t.Context(), c.given)
			defer stop()
			ctx, end := inTime(outer, c.schedule)
			defer end()
			<-ctx.Done()
			if took := time.Since(began); took != c.ends || !errors.Is(ctx.Err(), c.err) || !errors.Is(context.Cause(ctx), errEnds) {
				t.Errorf("%s: ended after %v with %v (%v), want %v with %v", c.name, took, ctx.Err(), context.Cause(ctx), c.ends, c.err)
			}
			if _, has := ctx.Deadline(); has == c.schedule {
				t.Errorf("%s: has a deadline: %t", c.name, has)
			}
		})
	}
	ctx, end := inTime(t.Context(), true)
	if ctx.Err() != nil {
		t.Error("no deadline, and over")
	}
	if end(); ctx.Err() == nil {
		t.Error("not ended by its end")
	}
}

func TestSchedulesAreToldFromRequests(t *testing.T) {
	for event, want := range map[string]bool{
		`{"passes":["x"]}`: true, `{"source":"aws.events"}`: true, `{"requestContext":{"elb":{}}}`: false,
		`{"passes":["x"],"requestContext":{"elb":{}}}`: false, `nonsense`: false,
	} {
		if isSchedule([]byte(event)) != want {
			t.Errorf("%s: %t", event, !want)
		}
	}
}

func TestOnlyTheFunctionsOwnDutiesAreLate(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	states := []store.PassState{
		{Name: "compact", Next: now.Add(-90 * time.Second)},
		{Name: "rollup", Next: now.Add(time.Minute)},
		{Name: "renamed long ago", Next: now.Add(-1000 * time.Hour)},
	}
	passes := []store.Pass{{Name: "rollup"}, {Name: "compact"}, {Name: "never ran"}}
	if m := lateLine(passes, states, "f", now); m.Pass != "compact" || m.PassLateSeconds != 90 || m.FunctionName != "f" || m.AWS.Timestamp != now.UnixMilli() {
		t.Errorf("%+v", m)
	}
	if m := lateLine(passes, states[1:], "f", now); m.Pass != "rollup" || m.PassLateSeconds != 0 {
		t.Errorf("%+v", m)
	}
}

func TestShownMetricsAreChosen(t *testing.T) {
	reg := prometheus.NewRegistry()
	for _, name := range []string{"a_one", "b_two"} {
		reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: name}))
	}
	for want, only := range map[int]func(string) bool{2: nil, 1: func(n string) bool { return strings.HasPrefix(n, "a_") }} {
		if got, err := (&gatherer{from: reg, only: only}).Gather(); err != nil || len(got) != want {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestWhatAnInstanceCannotWorkWithIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		settings config.Server
		hint     string
	}{
		"no replica set": {config.Server{GenKey: "x"}, "HEARTWOOD_MONGO_MONGOURI"},
		"no key":         {config.Server{MongoURI: "mongodb://a"}, "HEARTWOOD_GEN_KEY"},
	} {
		if err := check(&c.settings); err == nil || !strings.Contains(opererr.HintOf(err), c.hint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(&config.Server{MongoURI: "mongodb://a", GenKey: "x"}); err != nil {
		t.Error(err)
	}
}
