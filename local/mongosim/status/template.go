package status

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The templates are recorded replies of a real server: their field names, order and types are what the answers keep.
var (
	//go:embed templates/serverStatus.json
	serverStatusJSON []byte
	//go:embed templates/collStats.json
	collStatsJSON []byte
	//go:embed templates/parameters.json
	parametersJSON []byte
	//go:embed templates/systemMetrics.json
	systemMetricsJSON []byte
	//go:embed templates/rates.tsv
	ratesTSV string
	//go:embed templates/since.tsv
	sinceTSV string
)

// pathSep separates the names of a path: wiredTiger's own names hold dots, blanks and slashes.
const pathSep = "|"

func parseTemplate(json []byte) (bson.D, error) {
	var d bson.D
	if err := bson.UnmarshalExtJSON(json, true, &d); err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return d, nil
}

// set puts a value at a path, creating the documents on the way; a nil value removes it.
func set(d bson.D, path string, value any) bson.D {
	name, rest, deeper := strings.Cut(path, pathSep)
	for i := range d {
		if d[i].Key != name {
			continue
		}
		switch {
		case deeper:
			sub, _ := d[i].Value.(bson.D)
			d[i].Value = set(sub, rest, value)
		case value == nil:
			return append(d[:i:i], d[i+1:]...)
		default:
			d[i].Value = value
		}
		return d
	}
	if value == nil {
		return d
	}
	if deeper {
		return append(d, bson.E{Key: name, Value: set(nil, rest, value)})
	}
	return append(d, bson.E{Key: name, Value: value})
}

// get finds the value at a path.
func get(d bson.D, path string) (any, bool) {
	name, rest, deeper := strings.Cut(path, pathSep)
	for _, e := range d {
		if e.Key == name {
			if !deeper {
				return e.Value, true
			}
			sub, ok := e.Value.(bson.D)
			if !ok {
				return nil, false
			}
			return get(sub, rest)
		}
	}
	return nil, false
}

// applySince turns the recorded shape into a version's: it adds what later versions brought and drops what they lost.
func applySince(d bson.D, v Version) (bson.D, error) {
	for n, line := range strings.Split(sinceTSV, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) < 4 {
			return nil, fmt.Errorf("since.tsv line %d: %d fields", n+1, len(f))
		}
		from, err := ParseVersion(f[0])
		if err != nil {
			return nil, fmt.Errorf("since.tsv line %d: %w", n+1, err)
		}
		if !v.AtLeast(from.Major, from.Minor) {
			continue
		}
		if f[1] == "-" {
			d = set(d, f[3], nil)
			continue
		}
		text := ""
		if len(f) > 4 {
			text = f[4]
		}
		switch f[2] {
		case "int":
			d = set(d, f[3], int32(0))
		case "long":
			d = set(d, f[3], int64(0))
		case "double":
			d = set(d, f[3], 0.0)
		case "bool":
			d = set(d, f[3], false)
		default:
			d = set(d, f[3], text)
		}
	}
	return d, nil
}

// readRates lists the counters that only advance with the load, with their rate.
func readRates() (map[string]float64, error) {
	out := map[string]float64{}
	for n, line := range strings.Split(ratesTSV, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		path, rate, _ := strings.Cut(line, "\t")
		r, err := strconv.ParseFloat(rate, 64)
		if err != nil {
			return nil, fmt.Errorf("rates.tsv line %d: %w", n+1, err)
		}
		out[path] = r
	}
	return out, nil
}

// A block is a document in BSON whose numbers are overwritten in place for each reply: the bytes are copied and patched,
// nothing is encoded, so that one process can answer for thousands of hosts.
type block struct {
	raw     bson.Raw
	patches []patch
}

type patch struct {
	off  int
	typ  bson.Type
	rate float64             // advances with the load, from the recorded value
	get  func(*View) float64 // else: what the value is
}

// compile finds in d the numbers that fields and rates name, by their path below prefix, and remembers where they are.
func compile(prefix string, d bson.D, fields map[string]func(*View) float64, rates map[string]float64) (*block, error) {
	raw, err := bson.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode template %s: %w", prefix, err)
	}
	b := &block{raw: raw}
	return b, b.find(prefix, 0, fields, rates)
}

func (b *block) find(prefix string, at int, fields map[string]func(*View) float64, rates map[string]float64) error {
	doc := bson.Raw(b.raw[at:])
	elems, err := doc[:binary.LittleEndian.Uint32(doc)].Elements()
	if err != nil {
		return fmt.Errorf("template %s: %w", prefix, err)
	}
	off := at + 4
	for _, e := range elems {
		val := e.Value()
		valueAt := off + len(e) - len(val.Value)
		off += len(e)
		path := e.Key()
		if prefix != "" {
			path = prefix + pathSep + path
		}
		switch val.Type {
		case bson.TypeEmbeddedDocument:
			if err := b.find(path, valueAt, fields, rates); err != nil {
				return err
			}
		case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDateTime:
			if get, ok := fields[path]; ok {
				b.patches = append(b.patches, patch{off: valueAt, typ: val.Type, get: get})
			} else if rate, ok := rates[path]; ok {
				b.patches = append(b.patches, patch{off: valueAt, typ: val.Type, rate: rate})
			}
		}
	}
	return nil
}

// appendTo appends the block with the view's numbers to dst.
func (b *block) appendTo(dst []byte, v *View) []byte {
	at := len(dst)
	dst = append(dst, b.raw...)
	out := dst[at:]
	for i := range b.patches {
		p := &b.patches[i]
		x := 0.0
		if p.get != nil {
			x = p.get(v)
		} else {
			x = p.rate * v.Activity
		}
		switch p.typ {
		case bson.TypeInt32:
			binary.LittleEndian.PutUint32(out[p.off:], uint32(int32(min(x, math.MaxInt32))))
		case bson.TypeDouble:
			binary.LittleEndian.PutUint64(out[p.off:], math.Float64bits(x))
		default:
			binary.LittleEndian.PutUint64(out[p.off:], uint64(int64(x)))
		}
	}
	return dst
}

// widen turns the 32-bit counters under a document into 64-bit ones: a server chooses by size, a patched template cannot.
func widen(d bson.D, prefix string, moves func(path string) bool) {
	for i := range d {
		path := prefix + pathSep + d[i].Key
		switch v := d[i].Value.(type) {
		case bson.D:
			widen(v, path, moves)
		case int32:
			if moves(path) {
				d[i].Value = int64(v)
			}
		}
	}
}

// appendDoc appends one element holding what fill appends as a document's elements.
func appendDoc(dst []byte, key string, fill func([]byte) []byte) []byte {
	dst = append(append(append(dst, byte(bson.TypeEmbeddedDocument)), key...), 0)
	return wrap(dst, fill)
}

// wrap appends a document: its length, what fill appends, its end.
func wrap(dst []byte, fill func([]byte) []byte) []byte {
	at := len(dst)
	dst = fill(append(dst, 0, 0, 0, 0))
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// appendValue appends one element of any value the bson package encodes.
func appendValue(dst []byte, key string, value any) []byte {
	t, raw, err := bson.MarshalValue(value)
	if err != nil { // only values this package builds itself come here
		panic(fmt.Sprintf("status: encode %s: %v", key, err))
	}
	dst = append(append(append(dst, byte(t)), key...), 0)
	return append(dst, raw...)
}
