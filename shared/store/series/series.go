// Package series keeps what was measured: a row of raw values a ping, closed hours packed into chunks, and roll-ups. It
// owns the collections series.*; their contents are specified in pack/FORMAT.md. Rates and quotients are computed on
// reading and in roll-ups, by shared/rollup, so that a mended rule also repairs the past.
//
// A row is in exactly one place a reader looks at, or in two: rows are dropped only after the chunk and the roll-ups that
// hold them are written, and readers take equal times once. Everything but Read is a bounded pass that may stop at any
// point and be run again.
package series

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// The collections.
const (
	collRows   = "series.rows"
	collChunks = "series.chunks"
	collH1     = "series.h1"
	collD1     = "series.d1"
)

// Collections declares what the package needs.
func Collections() []docstore.Collection {
	byTime := docstore.Index{Name: "t", Fields: []docstore.Field{{Name: "t", Kind: docstore.Time}}}
	return []docstore.Collection{
		{Name: collRows},
		{Name: collChunks, Indexes: []docstore.Index{byTime}},
		{Name: collH1, Indexes: []docstore.Index{byTime, {Name: "dirty", Fields: []docstore.Field{{Name: "dirty", Kind: docstore.Bool}, {Name: "t", Kind: docstore.Time}}}}},
		{Name: collD1, Indexes: []docstore.Index{byTime}},
	}
}

// What callers are told about a row or a question that is refused.
var (
	// ErrTooOld: the row is older than what is kept minute by minute; it will never be taken.
	ErrTooOld = errors.New("series: the sample is older than the retention of the one-minute series")
	// ErrFuture: the row is dated ahead of our clock by more than clocks may differ.
	ErrFuture = errors.New("series: the sample is dated in the future")
	// ErrMeasurement: the catalogue has no such measurement.
	ErrMeasurement = errors.New("series: unknown measurement")
	// ErrRange: the range is empty, the step is none of those offered, or there would be too many points.
	ErrRange = errors.New("series: bad range or step")
)

// Retention says how long each tier is kept. Zero is for ever. Buckets of 10 s, 1 min and 5 min are all computed from the
// rows as they were sampled: packed, those take less room than roll-ups of five minutes would. Rows are therefore kept for
// the longer of the first two.
type Retention struct {
	Minute      time.Duration // also how late a row may come
	FiveMinutes time.Duration
	Hour        time.Duration
	Day         time.Duration
}

// DefaultRetention is what is kept unless settings say otherwise.
func DefaultRetention() Retention {
	return Retention{Minute: 48 * time.Hour, FiveMinutes: 7 * 24 * time.Hour, Hour: 63 * 24 * time.Hour}
}

// Options are what New needs.
type Options struct {
	Engine    docstore.Engine
	Log       *slog.Logger
	Now       func() time.Time // nil: the system's clock
	Retention Retention        // the zero value: DefaultRetention
	// MaxHours bounds one run of a pass: hours of hosts that it compacts, days it rolls up. 0: 2,000.
	MaxHours int
}

// Series reads and writes series. It keeps nothing between calls and is safe for concurrent use.
type Series struct {
	engine  docstore.Engine
	log     *slog.Logger
	now     func() time.Time
	keep    Retention
	codec   *pack.Codec
	bound   int
	derived []catalog.Measurement // what roll-ups keep
}

// New checks the options.
func New(o Options) (*Series, error) {
	if o.Engine == nil {
		return nil, errors.New("series: an engine is needed")
	}
	codec, err := pack.NewCodec()
	if err != nil {
		return nil, err
	}
	s := &Series{engine: o.Engine, log: o.Log, now: o.Now, keep: o.Retention, codec: codec, bound: o.MaxHours, derived: derived()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.keep == (Retention{}) {
		s.keep = DefaultRetention()
	}
	if s.bound <= 0 {
		s.bound = 2000
	}
	return s, nil
}

// raw is how long rows are kept; 0 is for ever.
func (r Retention) raw() time.Duration {
	if r.Minute == 0 || r.FiveMinutes == 0 {
		return 0
	}
	return max(r.Minute, r.FiveMinutes)
}

// Times a row may differ from our clock by.
const (
	maxAhead = 10 * time.Minute // clocks that differ by more are refused
	grace    = 12 * time.Minute // an hour is closed this long after its end: the rows of the last minutes are read as rows
	margin   = 2 * time.Hour    // chunks outlive the retention, so that a late row still finds its hour
)

// CheckTime says whether a row of that time is taken: ErrTooOld or ErrFuture if not.
func (s *Series) CheckTime(at time.Time) error {
	now := s.now()
	if s.keep.Minute > 0 && at.Before(now.Add(-s.keep.Minute)) {
		return fmt.Errorf("%w (%s; %s are kept)", ErrTooOld, at.UTC().Format(time.RFC3339), s.keep.Minute)
	}
	if at.After(now.Add(maxAhead)) {
		return fmt.Errorf("%w (%s; it is %s here)", ErrFuture, at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// RowOp makes the write that adds a row. Host and time identify it: written twice, it is there once. Rows too old or in
// the future are refused with ErrTooOld or ErrFuture.
func (s *Series) RowOp(host model.HostID, row catalog.Row) (docstore.Op, error) {
	if host == "" || strings.ContainsRune(string(host), '/') {
		return docstore.Op{}, fmt.Errorf("series: %q is no host id", host)
	}
	if err := s.CheckTime(row.At); err != nil {
		return docstore.Op{}, err
	}
	packed, err := pack.AppendRow(make([]byte, 0, 1024), &row)
	if err != nil {
		return docstore.Op{}, err
	}
	body, err := bson.Marshal(rowDoc{Packed: packed})
	if err != nil {
		return docstore.Op{}, fmt.Errorf("series: row of %s: %w", host, err)
	}
	return docstore.Op{Kind: docstore.Put, Collection: collRows, ID: rowID(host, row.At), Body: body}, nil
}

type rowDoc struct {
	Packed []byte `bson:"p"`
}

// packedDoc is a chunk or a roll-up.
type packedDoc struct {
	At      time.Time `bson:"t"`
	Samples int       `bson:"n"`
	Dirty   bool      `bson:"dirty"`
	Packed  []byte    `bson:"z"`
}

func (d *packedDoc) op(kind docstore.OpKind, collection, id string, rev int64) (docstore.Op, error) {
	body, err := bson.Marshal(d)
	if err != nil {
		return docstore.Op{}, fmt.Errorf("series: %s %s: %w", collection, id, err)
	}
	return docstore.Op{Kind: kind, Collection: collection, ID: id, Rev: rev, Body: body}, nil
}

func decodeDoc(d *docstore.Doc) (packedDoc, error) {
	var p packedDoc
	if err := bson.Unmarshal(d.Body, &p); err != nil {
		return p, fmt.Errorf("series: document %s: %w", d.ID, err)
	}
	return p, nil
}

const (
	buckets    = "0123456789abcdef"
	hourLayout = "2006010215"
	dayLayout  = "20060102"
	monLayout  = "200601"
)

// bucketOf spreads hosts over sixteen ranges of row ids.
func bucketOf(host model.HostID) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // never fails
	k := h.Sum32() % uint32(len(buckets))
	return buckets[k : k+1]
}

func hourOf(at time.Time) time.Time { return at.UTC().Truncate(time.Hour) }
func dayOf(at time.Time) time.Time  { return at.UTC().Truncate(24 * time.Hour) }
func monthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// hourRange is the prefix of a host's row ids in an hour.
func hourRange(host model.HostID, hour time.Time) string {
	return bucketOf(host) + "/" + hour.UTC().Format(hourLayout) + "/" + string(host) + "/"
}

func rowID(host model.HostID, at time.Time) string {
	hour := hourOf(at)
	return hourRange(host, hour) + fmt.Sprintf("%07d", at.Sub(hour).Milliseconds())
}

// place is what a row's id says.
type place struct {
	bucket string
	hour   time.Time
	host   model.HostID
	at     time.Time
}

func parseRowID(id string) (place, error) {
	parts := strings.Split(id, "/")
	if len(parts) == 4 {
		hour, err := time.Parse(hourLayout, parts[1])
		ms, errMS := strconv.Atoi(parts[3])
		if err == nil && errMS == nil && ms >= 0 && ms < int(time.Hour.Milliseconds()) {
			return place{parts[0], hour, model.HostID(parts[2]), hour.Add(time.Duration(ms) * time.Millisecond)}, nil
		}
	}
	return place{}, fmt.Errorf("series: %q is no id of a row", id)
}

func chunkID(host model.HostID, hour time.Time) string {
	return string(host) + "/" + hour.UTC().Format(hourLayout)
}

func dayID(host model.HostID, day time.Time) string {
	return string(host) + "/" + day.UTC().Format(dayLayout)
}

func monthID(host model.HostID, month time.Time) string {
	return string(host) + "/" + month.UTC().Format(monLayout)
}

// after is the smallest id that follows all ids beginning with prefix; prefixes end in '/', and '0' follows '/'.
func after(prefix string) string { return prefix[:len(prefix)-1] + "0" }
