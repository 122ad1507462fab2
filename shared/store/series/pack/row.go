package pack

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

const version = 1

// Flags of a row.
const (
	rowHasLocal = 1 << iota
	rowRawProcess
	rowTextProcess
)

// AppendRow appends the stored form of a row. Its time is not part of it.
func AppendRow(b []byte, row *catalog.Row) ([]byte, error) {
	w := writer{b: b}
	w.byte(version)
	var flags byte
	if !row.Local.IsZero() {
		flags |= rowHasLocal
	}
	raw, err := hex.DecodeString(row.Process)
	switch {
	case row.Process == "":
	case err == nil && len(raw) == 12 && hex.EncodeToString(raw) == row.Process:
		flags |= rowRawProcess
	default:
		flags |= rowTextProcess
	}
	w.byte(flags)
	w.uvarint(uint64(max(0, row.UptimeMS)))
	w.uvarint(uint64(max(0, row.PID)))
	if flags&rowHasLocal != 0 {
		w.varint(row.Local.Sub(row.At).Milliseconds())
	}
	if flags&rowRawProcess != 0 {
		w.b = append(w.b, raw...)
	} else if flags&rowTextProcess != 0 {
		w.string(row.Process)
	}
	var dims []string
	place := map[string]int{}
	for i := range row.Cells {
		if d := row.Cells[i].Dim; d != "" {
			if _, ok := place[d]; !ok {
				place[d] = len(dims)
				dims = append(dims, d)
			}
		}
	}
	w.strings(dims)
	w.count(len(row.Cells))
	var last catalog.ColumnID
	for i := range row.Cells {
		c := &row.Cells[i]
		col, ok := catalog.ColumnByName(c.Column)
		if !ok || col.ID < last {
			return nil, fmt.Errorf("pack: column %q is unknown or out of order", c.Column)
		}
		head := uint64(col.ID-last) << 2
		last = col.ID
		if c.Dim != "" {
			head |= 2
		}
		if c.Value.IsFloat() {
			head |= 1
		}
		w.uvarint(head)
		if c.Dim != "" {
			w.count(place[c.Dim])
		}
		if c.Value.IsFloat() {
			w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(c.Value.Float64()))
		} else {
			w.varint(c.Value.Int64())
		}
	}
	return w.b, nil
}

// DecodeRow is the reverse of AppendRow. Columns this build does not know are left out.
func DecodeRow(b []byte, at time.Time) (catalog.Row, error) {
	r := reader{b: b}
	row := catalog.Row{At: at}
	if v := r.byte(); v != version {
		return row, fmt.Errorf("%w: row version %d", ErrCorrupt, v)
	}
	flags := r.byte()
	row.UptimeMS = int64(r.uvarint() & math.MaxInt64) //nolint:gosec // masked
	row.PID = int64(r.uvarint() & math.MaxInt64)      //nolint:gosec // masked
	if flags&rowHasLocal != 0 {
		ms := r.varint()
		if ms < -maxOffset || ms > maxOffset {
			r.fail()
		}
		row.Local = at.Add(time.Duration(ms) * time.Millisecond)
	}
	if flags&rowRawProcess != 0 {
		row.Process = hex.EncodeToString(r.bytes(12))
	} else if flags&rowTextProcess != 0 {
		row.Process = r.string()
	}
	dims := r.strings()
	n := r.count()
	row.Cells = make([]catalog.Cell, 0, n)
	var last uint64
	for range n {
		head := r.uvarint()
		last += head >> 2
		cell := catalog.Cell{}
		if head&2 != 0 {
			k := r.uvarint()
			if k >= uint64(len(dims)) {
				r.fail()
				break
			}
			cell.Dim = dims[k]
		}
		if head&1 != 0 {
			raw := r.bytes(8)
			if r.bad {
				break
			}
			cell.Value = catalog.Float(math.Float64frombits(binary.LittleEndian.Uint64(raw)))
		} else {
			cell.Value = catalog.Int(r.varint())
		}
		if r.bad || last > math.MaxUint16 {
			r.fail()
			break
		}
		if col, ok := catalog.ColumnByID(catalog.ColumnID(last)); ok {
			cell.Column = col.Name
			row.Cells = append(row.Cells, cell)
		}
	}
	if r.bad {
		return row, fmt.Errorf("%w: row", ErrCorrupt)
	}
	return row, nil
}

// ScanRow reads a stored row and hands over the cells of wanted columns, in the order of their ids; it stops after the last of
// them. It is DecodeRow for callers who read very many rows for very few columns.
func ScanRow(b []byte, at time.Time, wanted []bool, use func(column catalog.ColumnID, dim string, v catalog.Value)) (rollup.Identity, error) {
	r := reader{b: b}
	id := rollup.Identity{At: at}
	if v := r.byte(); v != version {
		return id, fmt.Errorf("%w: row version %d", ErrCorrupt, v)
	}
	flags := r.byte()
	id.UptimeMS = int64(r.uvarint() & math.MaxInt64) //nolint:gosec // masked
	id.PID = int64(r.uvarint() & math.MaxInt64)      //nolint:gosec // masked
	if flags&rowHasLocal != 0 {
		ms := r.varint()
		if ms < -maxOffset || ms > maxOffset {
			r.fail()
		}
		id.Local = at.Add(time.Duration(ms) * time.Millisecond)
	}
	if flags&rowRawProcess != 0 {
		id.Process = hex.EncodeToString(r.bytes(12))
	} else if flags&rowTextProcess != 0 {
		id.Process = r.string()
	}
	dims := r.strings()
	n := r.count()
	var last uint64
	for range n {
		head := r.uvarint()
		if last += head >> 2; last >= uint64(len(wanted)) || r.bad {
			break
		}
		dim := ""
		if head&2 != 0 {
			k := r.uvarint()
			if k >= uint64(len(dims)) {
				r.fail()
				break
			}
			dim = dims[k]
		}
		var v catalog.Value
		if head&1 != 0 {
			raw := r.bytes(8)
			if r.bad {
				break
			}
			v = catalog.Float(math.Float64frombits(binary.LittleEndian.Uint64(raw)))
		} else {
			v = catalog.Int(r.varint())
		}
		if r.bad {
			break
		}
		if wanted[last] {
			use(catalog.ColumnID(last), dim, v) //nolint:gosec // below len(wanted)
		}
	}
	if r.bad {
		return id, fmt.Errorf("%w: row", ErrCorrupt)
	}
	return id, nil
}
