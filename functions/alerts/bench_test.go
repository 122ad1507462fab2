package alerts_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts/evaluate"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// BenchmarkEvaluate is one evaluation of 10,000 hosts (HEARTWOOD_BENCH_HOSTS) in sets of three under 30 configurations: half of
// them about ten measurements, half about states. Five rows of each host were taken in the last five minutes; one host in a
// thousand is down.
func BenchmarkEvaluate(b *testing.B) {
	hosts := 10_000
	if n, err := strconv.Atoi(os.Getenv("HEARTWOOD_BENCH_HOSTS")); err == nil {
		hosts = n
	}
	now := time.Date(2026, 11, 21, 8, 30, 0, 0, time.UTC)
	x := openSite(b, func() time.Time { return now })
	g := x.group("bench")
	tpl, err := replies.New()
	x.ok(err)
	rows := make([]catalog.Row, 5)
	for m := range rows {
		at := now.Add(time.Duration(m-5) * time.Minute)
		rows[m], err = catalog.Extract(tpl.At(nil, 1, time.Hour, at), at)
		x.ok(err)
	}
	var ops []docstore.Op
	flush := func() {
		x.ok(x.store.Write(b.Context(), ops...))
		ops = ops[:0]
	}
	for n := range hosts {
		h := x.newHost(g.ID, fmt.Sprintf("db%d.example.com", n))
		if n%3 == 0 {
			members := make([]model.Member, 3)
			for m := range members {
				name := fmt.Sprintf("db%d.example.com", n+m)
				members[m] = model.Member{ID: m, Host: name + ":27017", HostID: model.NewHostID(g.ID, name, 27017), Priority: 1, Votes: 1}
			}
			x.cluster(g.ID, clusterID(n/3), members)
		}
		h.ClusterID, h.ReplicaSet, h.MemberID = clusterID(n/3), fmt.Sprintf("rs%d", n/3), n%3
		st := x.up(h, now.Add(-30*time.Second))
		if st.State = model.StateSecondary; n%3 == 0 {
			st.State = model.StatePrimary
		}
		if n%1_000 == 999 {
			st.Reach, st.ReachSince = model.ReachDown, now.Add(-10*time.Minute)
		}
		x.putHost(h, st)
		for m := range rows {
			op, err := x.series.RowOp(h.ID, rows[m])
			x.ok(err)
			ops = append(ops, op)
		}
		if len(ops) >= 5_000 {
			flush()
		}
	}
	flush()
	x.agent(g.ID, now)
	for i, metric := range []string{
		"CONNECTIONS", "OPCOUNTER_INSERT", "OPCOUNTER_QUERY", "OPCOUNTER_CMD", "MEMORY_RESIDENT", "NETWORK_BYTES_IN", "NETWORK_NUM_REQUESTS",
		"GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", "CACHE_BYTES_READ_INTO", "TICKETS_AVAILABLE_READS",
	} {
		x.config(g.ID, model.EventOutsideMetric, func(c *model.AlertConfig) {
			c.Metric = &model.MetricThreshold{Metric: metric, Threshold: model.Threshold{Operator: model.GreaterThan, Value: 1e15, Units: "RAW"}}
		})
		if i < 5 {
			x.config(g.ID, model.EventOutsideMetric, func(c *model.AlertConfig) {
				c.Metric = &model.MetricThreshold{Metric: metric, Threshold: model.Threshold{Operator: model.LessThan, Value: -1, Units: "RAW"}}
				c.Matchers = []model.Matcher{{Field: "TYPE_NAME", Operator: "NOT_EQUALS", Value: "MONGOS"}}
			})
		}
	}
	states := []model.EventType{
		model.EventHostDown, model.EventHostRecovering, model.EventCertificateStale, model.EventVersionBehind, model.EventClockSkew,
		model.EventSecurityNotMet, model.EventHostExposed, model.EventNoPrimary, model.EventMultiplePrimaries, model.EventTooManyUnhealthy,
		model.EventTooManyElections, model.EventAgentDown, model.EventAgentVersionBehind, model.EventHostDown, model.EventNoPrimary,
	}
	for _, t := range states {
		x.config(g.ID, t, func(c *model.AlertConfig) {
			if t == model.EventTooManyUnhealthy || t == model.EventTooManyElections {
				c.Threshold = &model.Threshold{Operator: model.GreaterThan, Value: 2}
			}
		})
	}
	e, err := evaluate.New(x.evaluateOptions())
	x.ok(err)
	if _, err = e.Pass(b.Context(), now); err != nil { // what is bad opens its alerts once
		b.Fatal(err)
	}
	w, err := x.alerting.Watch(b.Context())
	x.ok(err)
	if w.Configs != 30 || w.Hosts != hosts || hosts >= 1_000 && w.Open == 0 {
		b.Fatalf("%+v", w)
	}
	b.ReportAllocs()
	var changed int64
	busy := processor()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		report, err := e.Pass(b.Context(), now)
		if err != nil {
			b.Fatal(err)
		}
		changed = report.Done
	}
	b.ReportMetric(float64(processor()-busy)/1e6/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(w.Open), "alerts")
	b.ReportMetric(float64(changed), "changed")
}

// processor is the processor time that this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func clusterID(n int) model.ID { return model.DeriveID("cluster", strconv.Itoa(n)) }
