// Package replies makes the replies of any number of hosts at any time out of two recorded samples of a real server: what the
// load generator and the chaos tests post.
package replies

import (
	"bytes"
	"embed"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

//go:embed testdata
var recorded embed.FS

// recordedGap is the time between the two recorded samples.
const recordedGap = 10 * time.Second

// roles are the members of each set, by the folder their replies were recorded in.
var roles = []string{"primary", "secondary", "hidden"}

// Host n is member n%3 of set n/3. Its address is found in its replies in place of the recorded one.
func address(n int) string { return fmt.Sprintf("db%05d.load.example:27017", n) }

// Name is the host name of host n; its port is 27017.
func Name(n int) string { return fmt.Sprintf("db%05d.load.example", n) }

// Number is the host's number by its name, -1 when it has none.
func Number(name string) int {
	var n int
	if _, err := fmt.Sscanf(name, "db%05d.load.example", &n); err != nil {
		return -1
	}
	return n
}

// Placeholders of fixed length in the built replies: the members' addresses by letter, the set's name, the process id.
const (
	memberMark  = "db#%c###.load.example:27017"
	setMark     = "rs#####"
	processMark = "\xff\xfe\xfd\xfcprocess!"
)

// Template makes the replies of any host of any set.
type Template struct{ roles [3]*member }

// member is a ping's replies as a real server gave them, and where in their bytes the numbers stand that moved between the
// two samples, so that a ping of any host at any time is a copy with a few hundred numbers overwritten.
type member struct {
	replies   bson.Raw
	moving    []number
	clocks    []number // uptimes and localTime: they follow the clock exactly
	addresses [3][]int // where each member's address stands
	sets      []int
	processes []int
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
	// How the numbers move was recorded on the primary; the other members' same counters move alike.
	deltas := map[string]float64{}
	before, err := build("primary", "serverStatus")
	if err != nil {
		return nil, err
	}
	after, err := build("primary", "serverStatus-10s-later")
	if err != nil {
		return nil, err
	}
	if err := walk(bsoncore.Document(after), "", 0, func(path string, _ int, v bsoncore.Value) { deltas[path] = numeric(v) }); err != nil {
		return nil, err
	}
	if err := walk(bsoncore.Document(before), "", 0, func(path string, _ int, v bsoncore.Value) { deltas[path] -= numeric(v) }); err != nil {
		return nil, err
	}
	t := &Template{}
	for i, role := range roles {
		if t.roles[i], err = newMember(role, deltas); err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
	}
	return t, nil
}

// build puts one ping's replies together, with the names replaced by placeholders.
func build(role, status string) (bson.Raw, error) {
	names := strings.NewReplacer(`"rs0"`, `"`+setMark+`"`, "db1.example.net:2711", "127.0.0.1:2711")
	reply := func(file string) (bson.Raw, error) {
		b, err := recorded.ReadFile("testdata/" + file + ".json")
		if err != nil {
			return nil, err
		}
		text := names.Replace(string(b))
		for i, port := range []string{"27117", "27118", "27119"} {
			text = strings.ReplaceAll(text, "127.0.0.1:"+port, fmt.Sprintf(memberMark, 'a'+i))
		}
		var doc bson.D
		if err := bson.UnmarshalExtJSON([]byte(text), true, &doc); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return bson.Marshal(withoutArbiter(doc))
	}
	var all bson.D
	for _, part := range [][2]string{
		{"hello", role + "/hello"}, {"serverStatus", role + "/" + status}, {"replSetGetStatus", role + "/replSetGetStatus"}, {"systemMetrics", "systemMetrics"},
	} {
		doc, err := reply(part[1])
		if err != nil {
			return nil, err
		}
		all = append(all, bson.E{Key: part[0], Value: doc})
	}
	return bson.Marshal(all)
}

// withoutArbiter drops the recorded set's fourth member and marks the process id.
func withoutArbiter(doc bson.D) bson.D {
	out := doc[:0:0]
	for _, e := range doc {
		switch v := e.Value.(type) {
		case bson.A:
			kept := bson.A{}
			for _, x := range v {
				if m, ok := x.(bson.D); ok && e.Key == "members" {
					if name, _ := m[1].Value.(string); strings.HasSuffix(name, "27120") {
						continue
					}
				}
				kept = append(kept, x)
			}
			if e.Key == "arbiters" {
				continue
			}
			e.Value = kept
		case bson.D:
			e.Value = withoutArbiter(v)
		case bson.ObjectID:
			if e.Key == "processId" {
				e.Value = bson.ObjectID([]byte(processMark))
			}
		}
		out = append(out, e)
	}
	return out
}

func newMember(role string, deltas map[string]float64) (*member, error) {
	raw, err := build(role, "serverStatus")
	if err != nil {
		return nil, err
	}
	m := &member{replies: raw, sets: offsets(raw, setMark), processes: offsets(raw, processMark)}
	for i := range m.addresses {
		m.addresses[i] = offsets(raw, fmt.Sprintf(memberMark, 'a'+i))
	}
	units := map[string]time.Duration{
		"/serverStatus/uptime": time.Second, "/serverStatus/uptimeMillis": time.Millisecond,
		"/serverStatus/uptimeEstimate": time.Second, "/serverStatus/localTime": time.Millisecond,
	}
	err = walk(bsoncore.Document(raw), "", 0, func(path string, at int, v bsoncore.Value) {
		n := number{at: at, kind: bson.Type(v.Type), base: numeric(v), delta: deltas[path], unit: units[path]}
		switch {
		case n.unit != 0:
			m.clocks = append(m.clocks, n)
		case n.delta != 0 && v.Type != bsoncore.TypeDateTime:
			m.moving = append(m.moving, n)
		}
	})
	return m, err
}

func offsets(raw bson.Raw, mark string) (at []int) {
	for from := 0; ; {
		i := bytes.Index(raw[from:], []byte(mark))
		if i < 0 {
			return at
		}
		at = append(at, from+i)
		from += i + len(mark)
	}
}

// Size is the length of one ping's replies in bytes.
func (t *Template) Size() int { return len(t.roles[0].replies) }

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

// At writes into dst the replies of host n after it has run for `up`, at the moment now: counters have advanced as between the
// recorded samples, faster or slower from minute to minute and host to host.
func (t *Template) At(dst []byte, n int, up time.Duration, now time.Time) []byte {
	m := t.roles[n%len(roles)]
	dst = append(dst[:0], m.replies...)
	first := n - n%len(roles)
	for i, offsets := range m.addresses {
		for _, at := range offsets {
			copy(dst[at:], address(first+i))
		}
	}
	for _, at := range m.sets {
		copy(dst[at:], fmt.Sprintf("rs%05d", n/len(roles)))
	}
	for _, at := range m.processes {
		binary.BigEndian.PutUint32(dst[at+8:], uint32(n)) //nolint:gosec // host numbers are small
	}
	phase := float64(n*7919%1000) / 1000 * 2 * math.Pi
	// The integral of 1 + 0.5 sin: a load that comes and goes every seven minutes.
	s := up.Seconds()
	const period = 420.0
	steps := (s + 0.5*period/(2*math.Pi)*(math.Cos(phase)-math.Cos(2*math.Pi*s/period+phase))) / recordedGap.Seconds()
	for _, v := range m.moving {
		value := v.base + math.Round(v.delta*steps)
		if v.delta < 0 { // a gauge that sank: let it swing, not run away
			value = v.base + math.Round(v.delta*math.Sin(s/97+phase))
		}
		v.put(dst, value)
	}
	for _, v := range m.clocks {
		if v.kind == bson.TypeDateTime {
			v.put(dst, float64(now.UnixMilli()))
			continue
		}
		v.put(dst, v.base+math.Floor(float64(up)/float64(v.unit)))
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
