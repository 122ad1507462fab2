package series

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Sizes of what a pass handles at once.
const (
	rowPage    = 2000 // rows a scan
	hoursBatch = 32   // hours of hosts that are written together
)

// group is the rows of one host in one closed hour.
type group struct {
	host model.HostID
	hour time.Time
	ids  []string
	rows []catalog.Row
}

// Compact turns the rows of closed hours into chunks and roll-ups, and drops them. Rows that came late for an hour that
// has its chunk are merged into it, and what was derived from that hour is computed again. It may be stopped anywhere:
// rows go only after everything made of them is written, and doing an hour again changes nothing.
func (s *Series) Compact(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	open := hourOf(now.Add(-grace))
	for i := range len(buckets) {
		b := buckets[i : i+1]
		if report.Done >= int64(s.bound) {
			report.More = true
			return report, nil
		}
		done, more, err := s.compactBucket(ctx, b+"/", b+"/"+open.Format(hourLayout), s.bound-int(report.Done))
		report.Done += int64(done)
		if err != nil {
			return report, err
		}
		if more {
			report.More = true
			return report, nil
		}
	}
	return report, nil
}

// compactBucket goes through the closed hours of one range of row ids, oldest first.
func (s *Series) compactBucket(ctx context.Context, from, to string, limit int) (done int, more bool, err error) {
	var batch []*group
	var cur *group
	flush := func() error {
		n, err := s.compactHours(ctx, batch)
		done += n
		batch = batch[:0]
		return err
	}
	finish := func() error {
		if cur == nil {
			return nil
		}
		batch = append(batch, cur)
		cur = nil
		if len(batch) >= hoursBatch {
			return flush()
		}
		return nil
	}
	q := docstore.Query{Collection: collRows, From: from, To: to, Limit: rowPage}
	for {
		page, err := s.engine.Scan(ctx, q)
		if err != nil {
			return done, false, fmt.Errorf("series: find closed hours: %w", err)
		}
		for i := range page.Docs {
			d := &page.Docs[i]
			p, err := parseRowID(d.ID)
			if err != nil {
				return done, false, err
			}
			if cur != nil && (cur.host != p.host || !cur.hour.Equal(p.hour)) {
				newHour := !cur.hour.Equal(p.hour)
				if err := finish(); err != nil {
					return done, false, err
				}
				if newHour {
					// The next hour reads this one's chunk.
					if err := flush(); err != nil {
						return done, false, err
					}
				}
				if done+len(batch) >= limit {
					return done, true, flush()
				}
			}
			if cur == nil {
				cur = &group{host: p.host, hour: p.hour}
			}
			s.take(cur, d, p)
		}
		if page.Next == "" {
			break
		}
		q.Resume = page.Next
	}
	if err := finish(); err != nil {
		return done, false, err
	}
	return done, false, flush()
}

// take adds a row to its group. A row that cannot be read is dropped with the others: keeping it would stop every pass.
func (s *Series) take(g *group, d *docstore.Doc, p place) {
	g.ids = append(g.ids, d.ID)
	row, err := decodeRow(d.Body, p.at)
	if err != nil {
		s.log.Error("a stored row cannot be read and is dropped", obs.KeyHostID, p.host, obs.KeyErr, err)
		return
	}
	if len(g.rows) < pack.MaxSamples {
		g.rows = append(g.rows, row)
	}
}

func decodeRow(body bson.Raw, at time.Time) (catalog.Row, error) {
	_, packed, ok := body.Lookup("p").BinaryOK()
	if !ok {
		return catalog.Row{}, fmt.Errorf("%w: row without its values", pack.ErrCorrupt)
	}
	return pack.DecodeRow(packed, at)
}

// compactHours writes one hour of several hosts, then drops their rows.
func (s *Series) compactHours(ctx context.Context, groups []*group) (int, error) {
	if len(groups) == 0 {
		return 0, nil
	}
	hour := groups[0].hour
	chunkIDs := make([]string, 0, 3*len(groups))
	dayIDs := make([]string, 0, 2*len(groups))
	for _, g := range groups {
		chunkIDs = append(chunkIDs, chunkID(g.host, hour), chunkID(g.host, hour.Add(-stepHour)), chunkID(g.host, hour.Add(stepHour)))
		dayIDs = append(dayIDs, dayID(g.host, hour))
		if next := dayOf(hour.Add(stepHour)); !next.Equal(dayOf(hour)) {
			dayIDs = append(dayIDs, dayID(g.host, next))
		}
	}
	chunks, err := s.get(ctx, collChunks, chunkIDs)
	if err != nil {
		return 0, err
	}
	days, err := s.get(ctx, collH1, dayIDs)
	if err != nil {
		return 0, err
	}
	var ops []docstore.Op
	var owners []int
	for k, g := range groups {
		own, err := s.compactHour(g, chunks, days)
		if err != nil {
			return 0, fmt.Errorf("series: compact %s of host %s: %w", hour.Format(time.RFC3339), g.host, err)
		}
		ops = append(ops, own...)
		for range own {
			owners = append(owners, k)
		}
	}
	results, err := s.engine.Write(ctx, ops, false)
	if err != nil {
		return 0, fmt.Errorf("series: write chunks: %w", err)
	}
	failed := make([]bool, len(groups))
	var errs []error
	for i, r := range results {
		if r.Err == nil {
			continue
		}
		failed[owners[i]] = true
		if errors.Is(r.Err, docstore.ErrConflict) || errors.Is(r.Err, docstore.ErrExists) {
			continue // another pass wrote the day meanwhile; the rows stay, and the next run does the hour again
		}
		errs = append(errs, fmt.Errorf("series: write %s %s: %w", ops[i].Collection, ops[i].ID, r.Err))
	}
	done := 0
	var drops []docstore.Op
	for k, g := range groups {
		if failed[k] {
			continue
		}
		done++
		for _, id := range g.ids {
			drops = append(drops, docstore.Op{Kind: docstore.Delete, Collection: collRows, ID: id})
		}
	}
	return done, errors.Join(errors.Join(errs...), s.writeAll(ctx, drops))
}

// stored is a document as it was read, with the revision to replace it under.
type stored struct {
	doc packedDoc
	rev int64
}

func (s *Series) get(ctx context.Context, collection string, ids []string) (map[string]stored, error) {
	docs, err := s.engine.Get(ctx, collection, ids...)
	if err != nil {
		return nil, fmt.Errorf("series: read %s: %w", collection, err)
	}
	out := make(map[string]stored, len(docs))
	for i := range docs {
		d, err := decodeDoc(&docs[i])
		if err != nil {
			return nil, err
		}
		out[docs[i].ID] = stored{d, docs[i].Rev}
	}
	return out, nil
}

// writeAll carries out an unordered batch of any length, each of which must succeed.
func (s *Series) writeAll(ctx context.Context, ops []docstore.Op) error {
	var errs []error
	for len(ops) > 0 {
		n := min(len(ops), docstore.MaxBatch)
		results, err := s.engine.Write(ctx, ops[:n], false)
		if err != nil {
			return fmt.Errorf("series: write: %w", err)
		}
		for i, r := range results {
			if r.Err != nil {
				errs = append(errs, fmt.Errorf("series: write %s %s: %w", ops[i].Collection, ops[i].ID, r.Err))
			}
		}
		ops = ops[n:]
	}
	return errors.Join(errs...)
}

// chunkFrame unpacks a chunk that was read, or returns nil. One that cannot be read is as good as lost; it must not keep
// the hours around it from being packed.
func (s *Series) chunkFrame(chunks map[string]stored, host model.HostID, hour time.Time) *rollup.Frame {
	c, ok := chunks[chunkID(host, hour)]
	if !ok {
		return nil
	}
	f, err := s.codec.DecodeChunk(hour, c.doc.Packed, nil)
	if err != nil {
		s.log.Error("a stored chunk cannot be read", obs.KeyHostID, host, obs.KeyFrom, hour, obs.KeyErr, err)
		return nil
	}
	return f
}

// compactHour makes the writes for one host's hour: its chunk, its roll-ups, and those of the hour that follows, whose first
// rates were measured from this one's last sample.
func (s *Series) compactHour(g *group, chunks, days map[string]stored) ([]docstore.Op, error) {
	f := rollup.Concat(s.chunkFrame(chunks, g.host, g.hour), rollup.FrameOf(g.rows))
	if room := pack.Room(f); f.Len() > room {
		s.log.Warn("an hour has too many samples; the last are dropped", obs.KeyHostID, g.host, obs.KeyFrom, g.hour, obs.KeyCount, f.Len())
		places := make([]int, room)
		for i := range places {
			places[i] = i
		}
		f = f.Pick(places)
	}
	if f.Len() == 0 {
		return nil, nil
	}
	chunk := packedDoc{At: g.hour, Samples: f.Len(), Packed: s.codec.EncodeChunk(g.hour, f)}
	op, err := chunk.op(docstore.Put, collChunks, chunkID(g.host, g.hour), 0)
	if err != nil {
		return nil, err
	}
	ops := []docstore.Op{op}
	blocks := map[time.Time]*pack.Block{} // by day
	hour, before, frame := g.hour, s.chunkFrame(chunks, g.host, g.hour.Add(-stepHour)), f
	for frame != nil {
		day := dayOf(hour)
		if blocks[day] == nil {
			blocks[day] = s.dayBlock(days, g.host, day)
		}
		fold(rollHour(hour, frame, before, s.derived), blocks[day], int(hour.Sub(day)/stepHour))
		if !hour.Equal(g.hour) {
			break
		}
		hour, before = g.hour.Add(stepHour), frame
		frame = s.chunkFrame(chunks, g.host, hour)
	}
	for day, b := range blocks {
		doc := packedDoc{At: day, Samples: total(b.Samples), Dirty: true, Packed: s.codec.EncodeBlock(b)}
		kind, rev := docstore.Insert, int64(0)
		if old, ok := days[dayID(g.host, day)]; ok {
			kind, rev = docstore.Replace, old.rev
		}
		if op, err = doc.op(kind, collH1, dayID(g.host, day), rev); err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// dayBlock unpacks a day's hours, or makes an empty day.
func (s *Series) dayBlock(days map[string]stored, host model.HostID, day time.Time) *pack.Block {
	const hours = int(stepDay / stepHour)
	if d, ok := days[dayID(host, day)]; ok {
		b, err := s.codec.DecodeBlock(d.doc.Packed, nil)
		if err == nil && len(b.Samples) == hours {
			return b
		}
		s.log.Error("a stored roll-up cannot be read and is begun anew", obs.KeyHostID, host, obs.KeyFrom, day, obs.KeyErr, err)
	}
	return pack.NewBlock(hours)
}

func total(counts []int64) int {
	n := int64(0)
	for _, c := range counts {
		n += c
	}
	return int(n)
}
