package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Rollup writes the days of which the hours have changed since, as soon as they are over: compaction marks them dirty, and the mark
// goes only if nothing changed meanwhile.
func (s *Series) Rollup(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	q := docstore.Query{
		Collection: collH1, Index: "dirty", Prefix: []any{true}, Limit: hoursBatch,
		// The last hour of a day is compacted a little after its end.
		High: dayOf(now.Add(-grace - 5*time.Minute)),
	}
	for {
		if report.Done >= int64(s.bound) {
			report.More = true
			return report, nil
		}
		page, err := s.engine.Scan(ctx, q)
		if err != nil {
			return report, fmt.Errorf("series: find changed days: %w", err)
		}
		n, err := s.rollDays(ctx, page.Docs)
		report.Done += int64(n)
		if err != nil {
			return report, err
		}
		if page.Next == "" {
			return report, nil
		}
		q.Resume = page.Next
	}
}

// rollDays writes days into their months, then takes the marks off.
func (s *Series) rollDays(ctx context.Context, docs []docstore.Doc) (int, error) {
	type month struct {
		host  model.HostID
		start time.Time
		block *pack.Block
	}
	months := map[string]*month{}
	var ids []string
	days := make([]packedDoc, len(docs))
	for i := range docs {
		d, err := decodeDoc(&docs[i])
		if err != nil {
			return 0, err
		}
		days[i] = d
		host := model.HostID(docs[i].ID[:max(0, len(docs[i].ID)-len(dayLayout)-1)])
		id := monthID(host, d.At)
		if months[id] == nil {
			months[id] = &month{host: host, start: monthOf(d.At)}
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	old, err := s.get(ctx, collD1, ids)
	if err != nil {
		return 0, err
	}
	for id, m := range months {
		m.block = pack.NewBlock(31)
		if d, ok := old[id]; ok {
			if b, err := s.codec.DecodeBlock(d.doc.Packed, nil); err == nil && len(b.Samples) == 31 {
				m.block = b
			} else {
				s.log.Error("a stored roll-up cannot be read and is begun anew", obs.KeyHostID, m.host, obs.KeyFrom, m.start, obs.KeyErr, err)
			}
		}
	}
	var marks []docstore.Op
	for i := range docs {
		b, err := s.codec.DecodeBlock(days[i].Packed, nil)
		if err != nil {
			s.log.Error("a stored roll-up cannot be read", obs.KeyFile, docs[i].ID, obs.KeyErr, err)
		} else {
			host := model.HostID(docs[i].ID[:len(docs[i].ID)-len(dayLayout)-1])
			fold(b, months[monthID(host, days[i].At)].block, days[i].At.UTC().Day()-1)
		}
		days[i].Dirty = false
		op, err := days[i].op(docstore.Replace, collH1, docs[i].ID, docs[i].Rev)
		if err != nil {
			return 0, err
		}
		marks = append(marks, op)
	}
	var ops []docstore.Op
	for _, id := range ids {
		m := months[id]
		doc := packedDoc{At: m.start, Samples: total(m.block.Samples), Packed: s.codec.EncodeBlock(m.block)}
		kind, rev := docstore.Insert, int64(0)
		if o, ok := old[id]; ok {
			kind, rev = docstore.Replace, o.rev
		}
		op, err := doc.op(kind, collD1, id, rev)
		if err != nil {
			return 0, err
		}
		ops = append(ops, op)
	}
	if err := s.writeAll(ctx, ops); err != nil {
		return 0, err
	}
	results, err := s.engine.Write(ctx, marks, false)
	if err != nil {
		return 0, fmt.Errorf("series: mark days as done: %w", err)
	}
	done := 0
	for i, r := range results {
		switch {
		case r.Err == nil:
			done++
		case errors.Is(r.Err, docstore.ErrConflict) || errors.Is(r.Err, docstore.ErrNotFound):
			// Compaction changed the day meanwhile; it stays marked.
		default:
			return done, fmt.Errorf("series: mark %s as done: %w", marks[i].ID, r.Err)
		}
	}
	return done, nil
}

// Expire drops what is older than its tier's retention, oldest first.
func (s *Series) Expire(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	for _, tier := range []struct {
		collection   string
		keep, length time.Duration // length: of what one document covers, and a little more
	}{
		{collChunks, s.keep.raw(), stepHour + margin}, {collH1, s.keep.Hour, stepDay + margin}, {collD1, s.keep.Day, 31*stepDay + margin},
	} {
		if tier.keep == 0 {
			continue // for ever
		}
		for {
			page, err := s.engine.Scan(ctx, docstore.Query{
				Collection: tier.collection, Index: "t", High: now.Add(-tier.keep - tier.length), Limit: 1000, IDsOnly: true,
			})
			if err != nil {
				return report, fmt.Errorf("series: find what is to expire: %w", err)
			}
			ops := make([]docstore.Op, len(page.Docs))
			for i := range page.Docs {
				ops[i] = docstore.Op{Kind: docstore.Delete, Collection: tier.collection, ID: page.Docs[i].ID}
			}
			if err := s.writeAll(ctx, ops); err != nil {
				return report, err
			}
			report.Done += int64(len(ops))
			if page.Next == "" {
				break
			}
			if report.Done >= int64(10*s.bound) {
				report.More = true
				return report, nil
			}
		}
	}
	return report, nil
}
