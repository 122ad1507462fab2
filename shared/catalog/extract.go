package catalog

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog/raw"
)

// Bounds of what one row takes in, so that no reply can make it huge.
const (
	maxDimensions = 256 // of each scope
	maxDimension  = 255 // bytes of a name
)

// errReplies: the bytes are not a BSON document of replies.
var errReplies = errors.New("catalog: the replies are not a BSON document")

// node is a place in the tree of all paths; targets are the columns found there.
type node struct {
	children map[string]*node
	wild     *node
	targets  []target
}

// target is a column at a path. The path with the smaller rank wins.
type target struct {
	column *Column
	slot   int
	rank   uint8
}

// buildPaths makes one tree of the paths of all columns, so that a reply is walked once.
func (t *tables) buildPaths() {
	root := &node{children: map[string]*node{}}
	for i := range t.columns {
		c := &t.columns[i]
		for rank, path := range c.Paths {
			at := root
			for name := range strings.SplitSeq(path, ".") {
				if name == "*" {
					if at.wild == nil {
						at.wild = &node{children: map[string]*node{}}
					}
					at = at.wild
					continue
				}
				next := at.children[name]
				if next == nil {
					next = &node{children: map[string]*node{}}
					at.children[name] = next
				}
				at = next
			}
			at.targets = append(at.targets, target{column: c, slot: i, rank: uint8(rank)}) //nolint:gosec // a few paths
		}
	}
	// dbStats is a list of replies, each of which says in itself which database it is about.
	t.dbPaths = root.children["dbStats"].wild
	delete(root.children, "dbStats")
	t.paths = root
}

// extraction gathers the values of one row.
type extraction struct {
	t     *tables
	slots []slot
	dims  []dimCell
	seen  [3]map[string]bool // dimensions by scope
}

type slot struct {
	value Value
	rank  uint8 // 1 + the rank of the path it came from; 0: absent
}

type dimCell struct {
	column *Column
	dim    string
	value  Value
}

// Extract picks out of a ping's replies everything the catalogue points at: the values of all columns, those of disks,
// mount points and databases, and the identity of the process. Extra cells (of columns without a path, or better known
// elsewhere) replace what the replies hold. Absent paths make absent cells, never zeros.
func Extract(replies bson.Raw, at time.Time, extra ...Cell) (Row, error) {
	t := catalogue()
	x := &extraction{t: t, slots: make([]slot, len(t.columns))}
	row := Row{At: at.UTC().Truncate(time.Millisecond)}
	w := raw.Walk(replies)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		if e.Type != raw.Document {
			continue
		}
		switch string(e.Key) {
		case "serverStatus":
			row.identify(e.Data)
		case "dbStats":
			x.round(e.Data, listed(replies))
			continue
		}
		if n := t.paths.children[string(e.Key)]; n != nil {
			x.document(e.Data, n, "")
		}
	}
	if w.Bad() {
		return Row{}, errReplies
	}
	row.Process = processID(replies)
	if ms, ok := ReplicationLag(replies); ok {
		x.set("repl.lagMs", Int(ms))
	}
	if secs, ok := OplogWindow(replies); ok {
		x.set("oplog.windowSecs", Int(secs))
	}
	for _, c := range extra {
		if err := x.extra(c); err != nil {
			return Row{}, err
		}
	}
	row.Cells = x.cells()
	return row, nil
}

// identify takes from a serverStatus reply what tells one incarnation of a process from another.
func (r *Row) identify(status []byte) {
	w := raw.Walk(status)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		switch string(e.Key) {
		case "pid":
			if v, ok := e.Number(); ok {
				r.PID = v.Int64()
			}
		case "uptimeMillis":
			if v, ok := e.Number(); ok {
				r.UptimeMS = v.Int64()
			}
		case "uptime":
			if v, ok := e.Number(); ok && r.UptimeMS == 0 {
				r.UptimeMS = int64(v.Float64() * 1000)
			}
		case "localTime":
			if v, ok := e.Number(); ok && e.Type == raw.Date {
				r.Local = time.UnixMilli(v.Int64()).UTC()
			}
		}
	}
}

// processID is the id a process makes at its start: from 4.4 in every hello, before that from _isSelf.
func processID(replies []byte) string {
	for _, path := range [][]string{
		{"hello", "topologyVersion", "processId"},
		{"serverStatus", "repl", "topologyVersion", "processId"},
		{"isSelf", "id"},
	} {
		if e, ok := raw.Lookup(replies, path...); ok && e.Type == raw.ObjectID {
			return hex.EncodeToString(e.Data)
		}
	}
	return ""
}

// document walks one document of a reply along the tree of paths.
func (x *extraction) document(doc []byte, n *node, dim string) {
	w := raw.Walk(doc)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		next := n.children[string(e.Key)]
		if next != nil {
			x.field(&e, next, dim)
			continue
		}
		if n.wild != nil && e.Type == raw.Document {
			x.field(&e, n.wild, string(e.Key))
		}
	}
}

func (x *extraction) field(e *raw.Element, n *node, dim string) {
	if e.Type == raw.Document {
		if len(n.children) > 0 || n.wild != nil {
			x.document(e.Data, n, dim)
		}
		return
	}
	if len(n.targets) == 0 {
		return
	}
	v, ok := e.Number()
	if !ok {
		return
	}
	for _, to := range n.targets {
		x.put(to, dim, v)
	}
}

// put takes one value in. Gauges may be read while being updated and come out slightly negative; a negative counter is
// none.
func (x *extraction) put(to target, dim string, v Value) {
	if v.Float64() < 0 {
		if to.column.Counter {
			return
		}
		v = Int(0)
	}
	if to.column.Scope == Process {
		if s := &x.slots[to.slot]; s.rank == 0 || to.rank+1 <= s.rank {
			*s = slot{value: v, rank: to.rank + 1}
		}
		return
	}
	if !x.admit(to.column.Scope, dim) {
		return
	}
	x.dims = append(x.dims, dimCell{column: to.column, dim: dim, value: v})
}

// admit decides whether a dimension is kept.
func (x *extraction) admit(s Scope, dim string) bool {
	seen := x.seen[s]
	if known, ok := seen[dim]; ok {
		return known
	}
	good := dim != "" && dim != "." && len(dim) <= maxDimension && utf8.ValidString(dim)
	if s == Disk {
		good = good && !pseudoDisk(dim)
	}
	if good && len(seen) >= maxDimensions {
		return false
	}
	if seen == nil {
		seen = map[string]bool{}
		x.seen[s] = seen
	}
	seen[dim] = good
	return good
}

// pseudoDisk tells devices and mount points that hold nobody's data.
func pseudoDisk(name string) bool {
	for _, device := range []string{"loop", "ram"} {
		if number, ok := strings.CutPrefix(name, device); ok && strings.Trim(number, "0123456789") == "" {
			return true
		}
	}
	for _, mount := range []string{"/proc", "/sys", "/dev", "/etc", "/snap", "/run"} {
		if below, ok := strings.CutPrefix(name, mount); ok && (below == "" || below[0] == '/') {
			return !strings.HasPrefix(name, "/run/media/")
		}
	}
	return false
}

// roundLimit is how many databases agents measure at most: the largest. Their sums stand for the sums of all.
const roundLimit = 200

// listed are the databases that the same ping's listDatabases names; nil when it was not asked.
func listed(replies []byte) map[string]bool {
	list, ok := raw.Lookup(replies, "listDatabases", "databases")
	if !ok || list.Type != raw.Array {
		return nil
	}
	names := map[string]bool{}
	w := raw.Walk(list.Data)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		if e.Type != raw.Document {
			continue
		}
		if name, ok := stringField(e.Data, "name"); ok {
			names[name] = true
		}
	}
	return names
}

// round takes in the dbStats replies of one round: a set of cells a database, and their sums. A round that did not come to
// all databases (it is cut when it takes too long) has no sums: they would show a drop that never was.
func (x *extraction) round(doc []byte, missing map[string]bool) {
	list, ok := raw.Lookup(doc, "list")
	if !ok || list.Type != raw.Array {
		return
	}
	var storage, data, dataNoSystem, index, databases, collections, views, indexes float64
	found := 0
	var fsTotal, fsUsed float64
	w := raw.Walk(list.Data)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		if e.Type != raw.Document {
			continue
		}
		name, ok := stringField(e.Data, "db")
		if !ok {
			continue
		}
		get := func(field string) float64 {
			if f, ok := raw.Lookup(e.Data, field); ok {
				if v, ok := f.Number(); ok {
					return max(0, v.Float64())
				}
			}
			return 0
		}
		if failed, ok := raw.Lookup(e.Data, "ok"); ok {
			if v, isNumber := failed.Number(); isNumber && v.Float64() == 0 {
				continue
			}
		}
		found++
		delete(missing, name)
		x.document(e.Data, x.t.dbPaths, name)
		storage += get("storageSize")
		data += get("dataSize")
		index += get("indexSize")
		fsTotal, fsUsed = max(fsTotal, get("fsTotalSize")), max(fsUsed, get("fsUsedSize"))
		if !systemDatabase(name) {
			databases++
			dataNoSystem += get("dataSize")
			collections += get("collections")
			views += get("views")
			indexes += get("indexes")
		}
	}
	if found == 0 {
		return
	}
	if fsTotal > 0 {
		for _, c := range []struct {
			name  string
			value float64
		}{{"fs.total", fsTotal}, {"fs.used", fsUsed}} {
			if x.admit(Disk, DataVolume) {
				x.dims = append(x.dims, dimCell{column: x.t.byName[c.name], dim: DataVolume, value: Float(c.value)})
			}
		}
	}
	if len(missing) > 0 && found < roundLimit {
		return
	}
	for name, v := range map[string]float64{
		"storage": storage, "data": data, "dataNoSystem": dataNoSystem, "index": index,
		"databases": databases, "collections": collections, "views": views, "indexes": indexes,
	} {
		x.set("dbTotal."+name, Float(v))
	}
}

// DataVolume is the disk dimension of the volume that holds the data files where only dbStats tells its size.
const DataVolume = "data"

func systemDatabase(name string) bool { return name == "admin" || name == "local" || name == "config" }

func stringField(doc []byte, name string) (string, bool) {
	e, ok := raw.Lookup(doc, name)
	if !ok || e.Type != raw.String || len(e.Data) < 5 {
		return "", false
	}
	return string(e.Data[4 : len(e.Data)-1]), true
}

func (x *extraction) set(column string, v Value) {
	x.slots[x.t.slots[x.t.byName[column].ID]] = slot{value: v, rank: 1}
}

func (x *extraction) extra(c Cell) error {
	col := x.t.byName[c.Column]
	if col == nil || (col.Scope == Process) != (c.Dim == "") {
		return fmt.Errorf("catalog: extra cell of unknown column %q (dimension %q)", c.Column, c.Dim)
	}
	if col.Scope == Process {
		x.set(c.Column, c.Value)
		return nil
	}
	x.dims = append(x.dims, dimCell{column: col, dim: c.Dim, value: c.Value})
	return nil
}

// cells lists what was found in the order of column numbers and dimensions.
func (x *extraction) cells() []Cell {
	n := len(x.dims)
	for i := range x.slots {
		if x.slots[i].rank > 0 {
			n++
		}
	}
	out := make([]Cell, 0, n)
	for i := range x.slots {
		if x.slots[i].rank > 0 {
			out = append(out, Cell{Column: x.t.columns[i].Name, Value: x.slots[i].value})
		}
	}
	slices.SortStableFunc(x.dims, func(a, b dimCell) int {
		return cmp.Or(cmp.Compare(a.column.ID, b.column.ID), cmp.Compare(a.dim, b.dim))
	})
	for i, c := range x.dims {
		if i+1 < len(x.dims) && x.dims[i+1].column == c.column && x.dims[i+1].dim == c.dim {
			continue // the later one counts
		}
		out = append(out, Cell{Column: c.column.Name, Dim: c.dim, Value: c.value})
	}
	return out
}
