package instance

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// namespace is where CloudWatch has our measures.
const namespace = "Heartwood"

// measure writes how late the function's duties are as a line that CloudWatch takes for a metric (the embedded metric format): the
// alarm on it also sees schedules that no longer call. A duty that never ran has no state and counts from its first run on.
func (i *Instance) measure(ctx context.Context) {
	states, err := i.site.Store.PassStates(ctx)
	if err != nil {
		i.log.WarnContext(ctx, "how late duties are is not known", obs.KeyErr, err)
		return
	}
	line, err := json.Marshal(lateLine(i.passes(), states, os.Getenv("AWS_LAMBDA_FUNCTION_NAME"), time.Now()))
	if err != nil {
		i.log.WarnContext(ctx, "how late duties are was not written", obs.KeyErr, err)
		return
	}
	_, _ = i.o.Out.Write(append(line, '\n'))
}

type lateMetric struct {
	AWS struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	} `json:"_aws"`
	FunctionName    string
	PassLateSeconds float64
	Pass            string `json:"pass"` // the latest of them
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metricName
}

type metricName struct{ Name, Unit string }

// lateLine says how late the latest of the duties is. States of duties that are not the function's, or no longer, do not count.
func lateLine(passes []store.Pass, states []store.PassState, function string, now time.Time) lateMetric {
	m := lateMetric{FunctionName: function}
	m.AWS.Timestamp = now.UnixMilli()
	m.AWS.CloudWatchMetrics = []directive{{namespace, [][]string{{"FunctionName"}}, []metricName{{"PassLateSeconds", "Seconds"}}}}
	for _, s := range states {
		if !slices.ContainsFunc(passes, func(p store.Pass) bool { return p.Name == s.Name }) {
			continue
		}
		if late := s.Lateness(now).Seconds(); m.Pass == "" || late > m.PassLateSeconds {
			m.PassLateSeconds, m.Pass = late, s.Name
		}
	}
	return m
}

// gatherer shows some of the metrics.
type gatherer struct {
	from prometheus.Gatherer
	only func(family string) bool
}

// Gather implements prometheus.Gatherer.
func (g *gatherer) Gather() ([]*dto.MetricFamily, error) {
	all, err := g.from.Gather()
	if g.only != nil {
		all = slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !g.only(f.GetName()) })
	}
	return all, err
}
