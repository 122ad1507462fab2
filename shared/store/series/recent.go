package series

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/recent"
)

// maxRecent is the longest that Recent looks back.
const maxRecent = 3 * time.Hour

// clocks is how much our own servers may differ in their times.
const clocks = 2 * time.Minute

// RecentName is the name under which Recent returns the values of one database or disk.
func RecentName(measurement, dimension string) string { return recent.Name(measurement, dimension) }

// Recent returns the newest values of measurements of many hosts: one sample for each row that was taken at or after from and
// not after now, oldest first, each the value that Read has for a bucket with that row alone. Hosts, and measurements of a
// host, without any are left out. The times may be at most three hours apart.
//
// Measurements of databases and disks have a line for each of these, under RecentName. A value that stands for a while (the
// room on a disk) is given for every row. Where it is not to be had from the rows of the last minutes (sizes of databases, which
// are measured in rounds, and sums over an hour) a host is read as Read reads it: that is slow.
func (s *Series) Recent(ctx context.Context, hosts []model.HostID, measurements []string, from, now time.Time) (map[model.HostID]map[string][]model.Sample, error) {
	from, now = from.UTC(), now.UTC()
	if from.After(now) || now.Sub(from) > maxRecent {
		return nil, fmt.Errorf("%w: recent values from %s to %s", ErrRange, from.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	q, unknown := recent.Ask(measurements, from)
	if q == nil {
		return nil, fmt.Errorf("%w: %s", ErrMeasurement, unknown)
	}
	return q.Hosts(ctx, recent.Source{Frame: s.recentFrame, Values: s.recentValues, Step: stepRaw}, hosts, now)
}

// recentValues reads measurements as Read does.
func (s *Series) recentValues(ctx context.Context, host model.HostID, names []string, dim string, from, now time.Time) (map[string][]float64, error) {
	res, err := s.Read(ctx, Query{Host: host, Measurements: names, Dimension: dim, From: from, To: now.Add(time.Millisecond), Step: stepRaw})
	if err != nil {
		return nil, err
	}
	values := make(map[string][]float64, len(res.Lines))
	for _, l := range res.Lines {
		values[l.Name] = l.Values
	}
	return values, nil
}

// recentFrame reads the wanted columns of a host's samples from begin to now, both included. Rows are read before chunks, as
// compaction writes these before it drops those.
func (s *Series) recentFrame(ctx context.Context, host model.HostID, begin, now time.Time, wanted []bool) (*rollup.Frame, error) {
	var docs []docstore.Doc
	var hours []time.Time // that may have been compacted
	clock := latest(now, s.now())
	for hour := hourOf(begin); !hour.After(now); hour = hour.Add(stepHour) {
		prefix := hourRange(host, hour)
		q := docstore.Query{Collection: collRows, From: rowID(host, latest(begin, hour)), To: after(prefix)}
		if to := now.Add(time.Millisecond); to.Before(hour.Add(stepHour)) {
			q.To = rowID(host, to)
		}
		err := s.scan(ctx, q, func(d *docstore.Doc) error {
			docs = append(docs, *d)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !clock.Before(hour.Add(stepHour + grace - clocks)) {
			hours = append(hours, hour)
		}
	}
	f := recent.Rows(docs, wanted, func(id string, err error) {
		s.log.Error("a stored row cannot be read", obs.KeyHostID, host, obs.KeyFrom, id, obs.KeyErr, err)
	})
	if len(hours) == 0 {
		return f, nil
	}
	frames := []*rollup.Frame{}
	err := s.scan(ctx, docstore.Query{
		Collection: collChunks, From: chunkID(host, hours[0]), To: chunkID(host, hours[len(hours)-1].Add(stepHour)),
	}, func(d *docstore.Doc) error {
		c, err := decodeDoc(d)
		if err != nil {
			return err
		}
		chunk, err := s.codec.DecodeChunk(c.At.UTC(), c.Packed, func(k rollup.Key) bool { return int(k.Column) < len(wanted) && wanted[k.Column] })
		if err != nil {
			s.log.Error("a stored chunk cannot be read", obs.KeyHostID, host, obs.KeyFrom, c.At, obs.KeyErr, err)
			return nil
		}
		frames = append(frames, recent.Clip(chunk, begin, now))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rollup.Concat(append(frames, f)...), nil
}
