// Package replies makes the replies of any number of hosts at any time out of two recorded samples of a real server: what the
// load generator and the chaos tests post.
package replies

import (
	"embed"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

//go:embed testdata
var recorded embed.FS

// recordedGap is the time between the two recorded samples.
const recordedGap = 10 * time.Second

// Template is a ping's replies as a real server gave them, and where in their bytes the numbers stand that moved between the
// two samples, so that a ping of any host at any time is a copy with a few hundred numbers overwritten.
type Template struct {
	replies bson.Raw
	moving  []number
	clocks  []number // uptimes and localTime: they follow the clock exactly
}

// number is one numeric value of the replies.
type number struct {
	at    int // offset of its eight or four bytes
	kind  bson.Type
	base  float64
	delta float64 // change over recordedGap
	unit  time.Duration
}

// New reads the recorded samples.
func New() (*Template, error) {
	docs := map[string]bson.Raw{}
	for _, name := range []string{"hello", "serverStatus", "serverStatus-10s-later", "replSetGetStatus", "systemMetrics"} {
		b, err := recorded.ReadFile("testdata/" + name + ".json")
		if err != nil {
			return nil, err
		}
		var doc bson.D
		if err := bson.UnmarshalExtJSON(b, true, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if docs[name], err = bson.Marshal(doc); err != nil {
			return nil, err
		}
	}
	build := func(status bson.Raw) (bson.Raw, error) {
		return bson.Marshal(bson.D{
			{Key: "hello", Value: docs["hello"]},
			{Key: "serverStatus", Value: status},
			{Key: "replSetGetStatus", Value: docs["replSetGetStatus"]},
			{Key: "systemMetrics", Value: docs["systemMetrics"]},
		})
	}
	before, err := build(docs["serverStatus"])
	if err != nil {
		return nil, err
	}
	after, err := build(docs["serverStatus-10s-later"])
	if err != nil {
		return nil, err
	}
	t := &Template{replies: before}
	later := map[string]float64{}
	if err := walk(bsoncore.Document(after), "", 0, func(path string, _ int, v bsoncore.Value) { later[path] = numeric(v) }); err != nil {
		return nil, err
	}
	units := map[string]time.Duration{
		"/serverStatus/uptime": time.Second, "/serverStatus/uptimeMillis": time.Millisecond,
		"/serverStatus/uptimeEstimate": time.Second, "/serverStatus/localTime": time.Millisecond,
	}
	err = walk(bsoncore.Document(before), "", 0, func(path string, at int, v bsoncore.Value) {
		n := number{at: at, kind: bson.Type(v.Type), base: numeric(v), unit: units[path]}
		n.delta = later[path] - n.base
		switch {
		case n.unit != 0:
			t.clocks = append(t.clocks, n)
		case n.delta != 0 && v.Type != bsoncore.TypeDateTime:
			t.moving = append(t.moving, n)
		}
	})
	return t, err
}

// Size is the length of one ping's replies in bytes.
func (t *Template) Size() int { return len(t.replies) }

// walk visits every numeric or date value of a document with its path and the offset of its bytes.
func walk(doc bsoncore.Document, path string, base int, visit func(path string, at int, v bsoncore.Value)) error {
	elems, err := doc.Elements()
	if err != nil {
		return err
	}
	at := base + 4
	for _, e := range elems {
		v := e.Value()
		valueAt := at + len(e) - len(v.Data)
		name := path + "/" + e.Key()
		switch v.Type {
		case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
			if err := walk(bsoncore.Document(v.Data), name, valueAt, visit); err != nil {
				return err
			}
		case bsoncore.TypeInt32, bsoncore.TypeInt64, bsoncore.TypeDouble, bsoncore.TypeDateTime:
			visit(name, valueAt, v)
		}
		at += len(e)
	}
	return nil
}

func numeric(v bsoncore.Value) float64 {
	switch v.Type {
	case bsoncore.TypeInt32:
		return float64(v.Int32())
	case bsoncore.TypeInt64:
		return float64(v.Int64())
	case bsoncore.TypeDateTime:
		return float64(v.DateTime())
	default:
		return v.Double()
	}
}

// At writes into dst the replies of a host that has run for `up` at the moment now: counters have advanced as between the
// recorded samples, faster or slower from minute to minute and host to host.
func (t *Template) At(dst []byte, host string, up time.Duration, now time.Time) []byte {
	dst = append(dst[:0], t.replies...)
	h := fnv.New64a()
	_, _ = h.Write([]byte(host))
	phase := float64(h.Sum64()%1000) / 1000 * 2 * math.Pi
	// The integral of 1 + 0.5 sin: a load that comes and goes every seven minutes.
	s := up.Seconds()
	const period = 420.0
	steps := (s + 0.5*period/(2*math.Pi)*(math.Cos(phase)-math.Cos(2*math.Pi*s/period+phase))) / recordedGap.Seconds()
	for _, n := range t.moving {
		v := n.base + math.Round(n.delta*steps)
		if n.delta < 0 { // a gauge that sank: let it swing, not run away
			v = n.base + math.Round(n.delta*math.Sin(s/97+phase))
		}
		n.put(dst, v)
	}
	for _, n := range t.clocks {
		if n.kind == bson.TypeDateTime {
			n.put(dst, float64(now.UnixMilli()))
			continue
		}
		n.put(dst, n.base+math.Floor(float64(up)/float64(n.unit)))
	}
	return dst
}

func (n number) put(b []byte, v float64) {
	switch n.kind {
	case bson.TypeInt32:
		binary.LittleEndian.PutUint32(b[n.at:], uint32(int32(math.Min(math.Max(v, 0), math.MaxInt32))))
	case bson.TypeInt64, bson.TypeDateTime:
		binary.LittleEndian.PutUint64(b[n.at:], uint64(int64(v)))
	default:
		binary.LittleEndian.PutUint64(b[n.at:], math.Float64bits(v))
	}
}
