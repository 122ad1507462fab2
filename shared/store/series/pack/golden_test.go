package pack

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

var update = flag.Bool("update", false, "write the golden files anew: only together with a new format version")

// golden compares bytes with a file of hexadecimal lines. What was stored once must be read for ever, and the same values
// must give the same bytes before compression.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		var lines strings.Builder
		for rest := got; len(rest) > 0; {
			n := min(48, len(rest))
			lines.WriteString(hex.EncodeToString(rest[:n]) + "\n")
			rest = rest[n:]
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: the format has changed without a new version: %s", name, d)
	}
	return want
}

func goldenRows() []catalog.Row {
	cell := func(column, dim string, v catalog.Value) catalog.Cell {
		return catalog.Cell{Column: column, Dim: dim, Value: v}
	}
	rows := make([]catalog.Row, 4)
	for i := range rows {
		n := int64(i)
		rows[i] = catalog.Row{
			At: hour.Add(time.Duration(i) * time.Minute), UptimeMS: 60_000*n + 7, PID: 99, Process: "6b0113779eae5d133c6d9d3c",
			Local: hour.Add(time.Duration(i)*time.Minute + 25*time.Millisecond),
			Cells: []catalog.Cell{
				cell("asserts.user", "", catalog.Int(17)), cell("connections.current", "", catalog.Int(10+n*n)),
				cell("opcounters.insert", "", catalog.Int(1<<60+1000*n)), cell("flowControl.isLagged", "", catalog.Int(0)),
				cell("disk.reads", "sda", catalog.Int(5*n)), cell("disk.reads", "sdb", catalog.Int(7)),
			},
		}
	}
	rows[2].Cells = append(rows[2].Cells, cell("mount.free", "/data", catalog.Float(1.25)))
	rows[3].Process, rows[3].Local = "restarted", time.Time{}
	return rows
}

func TestGoldenRow(t *testing.T) {
	for i, row := range goldenRows() {
		b, err := AppendRow(nil, &row)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRow(golden(t, "row-v1-"+string(rune('0'+i))+".hex", b), row.At)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(row, got, cmp.AllowUnexported(catalog.Value{})); d != "" {
			t.Error(d)
		}
	}
}

func TestGoldenChunk(t *testing.T) {
	want := rollup.FrameOf(goldenRows())
	got, err := readChunk(hour, golden(t, "chunk-v1.hex", chunkPayload(hour, want)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := equalFrames(want, got); err != nil {
		t.Error(err)
	}
}

func TestGoldenBlock(t *testing.T) {
	b := NewBlock(3)
	b.Samples = []int64{5, 0, 5}
	b.Line(Line{Measurement: 14})[0] = rollup.Agg{Count: 5, Sum: 50, Min: 8, Max: 12, Last: 9}
	b.Line(Line{Measurement: 14})[2] = rollup.Agg{Count: 5, Sum: 55, Min: 9, Max: 13, Last: 13}
	b.Line(Line{Measurement: 40})[0] = rollup.Agg{Count: 4, Sum: 2, Min: 0.25, Max: 1, Last: 0.5}
	b.Line(Line{Measurement: 60})[2] = rollup.Agg{Count: 5, Sum: 10, Min: 1, Max: 3, Last: 2, Num: 20, Den: 10}
	b.Line(Line{Measurement: 260, Dim: "sda"})[0] = rollup.Agg{Count: 5}
	b.Line(Line{Measurement: 270, Dim: "/data"})[0] = rollup.Agg{Count: 5, Sum: 2.5, Min: 0.5, Max: 0.5, Last: 0.5}
	got, err := readBlock(golden(t, "block-v1.hex", blockPayload(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b, got); d != "" {
		t.Error(d)
	}
}
