package recent

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

// workers is how many hosts are read at once.
const workers = 8

// Source is where a host's samples and values come from.
type Source struct {
	// Frame reads the wanted columns of the samples from begin to now, both included.
	Frame func(ctx context.Context, host model.HostID, begin, now time.Time, wanted []bool) (*rollup.Frame, error)
	// Values reads measurements, by name, of a database or disk in buckets of Step from Bucket(from, Step) on.
	Values func(ctx context.Context, host model.HostID, names []string, dim string, from, now time.Time) (map[string][]float64, error)
	Step   time.Duration
}

// Hosts answers the question for many hosts. Those without any values are left out.
func (q *Question) Hosts(ctx context.Context, src Source, hosts []model.HostID, now time.Time) (map[model.HostID]map[string][]model.Sample, error) {
	// Each worker takes every so manyth host and writes only its own places.
	lines := make([]map[string][]model.Sample, len(hosts))
	failed := make([]error, min(workers, len(hosts)))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for w := range failed {
		wg.Go(func() {
			for i := w; i < len(hosts); i += len(failed) {
				if lines[i], failed[w] = q.host(ctx, src, hosts[i], now); failed[w] != nil {
					stop()
					return
				}
			}
		})
	}
	wg.Wait()
	var canceled error
	for _, err := range failed {
		if errors.Is(err, context.Canceled) { // perhaps only because another worker failed
			canceled = err
		} else if err != nil {
			return nil, err
		}
	}
	if canceled != nil {
		return nil, canceled
	}
	out := make(map[model.HostID]map[string][]model.Sample, len(hosts))
	for i, host := range hosts {
		if len(lines[i]) > 0 {
			out[host] = lines[i]
		}
	}
	return out, nil
}

// host reads the lines of one host.
func (q *Question) host(ctx context.Context, src Source, host model.HostID, now time.Time) (map[string][]model.Sample, error) {
	slow := q.Slow
	lines := map[string][]model.Sample{}
	if len(q.Measures) > 0 {
		f, err := src.Frame(ctx, host, q.Begin, now, q.Columns)
		if err != nil {
			return nil, err
		}
		slow = append(slow[:len(slow):len(slow)], q.Lines(f, lines)...)
	}
	if len(slow) == 0 {
		return lines, nil
	}
	return lines, q.further(ctx, src, host, slow, now, lines)
}

// further reads measurements that the rows of the last minutes do not give.
func (q *Question) further(ctx context.Context, src Source, host model.HostID, measures []Asked, now time.Time, lines map[string][]model.Sample) error {
	byScope := map[catalog.Scope][]string{}
	columns := map[catalog.ColumnID]bool{}
	for k := range measures {
		m := &measures[k]
		byScope[m.Scope] = append(byScope[m.Scope], m.Name)
		if m.Scope != catalog.Process {
			rollup.Needs(&m.Measurement, columns)
		}
	}
	begin := q.From
	if len(columns) > 0 { // databases are measured every 20 minutes
		begin = begin.Add(-time.Hour - 10*time.Minute)
	}
	f, err := src.Frame(ctx, host, begin, now, Wanted(columns))
	if err != nil {
		return err
	}
	dims := f.Dimensions()
	for scope, names := range byScope {
		for _, dim := range dims[scope] {
			values, err := src.Values(ctx, host, names, dim, q.From, now)
			if err != nil {
				return err
			}
			for name, line := range values {
				for i := range f.Samples {
					if at := f.Samples[i].At; !at.Before(q.From) {
						if v := valueAt(line, rollup.Bucket(q.From, src.Step), src.Step, at); !math.IsNaN(v) {
							lines[Name(name, dim)] = append(lines[Name(name, dim)], model.Sample{At: at, Value: v})
						}
					}
				}
			}
		}
	}
	return nil
}

// valueAt is the value of a sample's bucket, or of the next: Read moves samples a little where they lie on the border.
func valueAt(values []float64, begin time.Time, step time.Duration, at time.Time) float64 {
	k := int(at.Sub(begin) / step)
	for _, k := range []int{k, k + 1} {
		if k < len(values) && !math.IsNaN(values[k]) {
			return values[k]
		}
	}
	return math.NaN()
}

// Clip is the part of a frame from begin to now, both included.
func Clip(f *rollup.Frame, begin, now time.Time) *rollup.Frame {
	places := make([]int, 0, f.Len())
	for i := range f.Samples {
		if at := f.Samples[i].At; !at.Before(begin) && !at.After(now) {
			places = append(places, i)
		}
	}
	return f.Pick(places)
}
