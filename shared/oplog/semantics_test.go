package oplog_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

type semanticsCase struct {
	Name      string
	Documents string
	After     []bson.Raw
	Oplog     []bson.D
}

// TestRecordedSemantics carries out the entries that a server wrote for each small case, on the documents before it, and
// compares with the documents after it.
func TestRecordedSemantics(t *testing.T) {
	ran := 0
	for name, b := range untar(t, "semantics.tar.zst") {
		var file struct {
			Documents map[string][]bson.Raw
			Cases     []semanticsCase
		}
		if err := bson.UnmarshalExtJSON(b, true, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, c := range file.Cases {
			if c.After == nil || len(c.Oplog) == 0 {
				continue
			}
			t.Run(strings.TrimSuffix(name, ".json")+" "+c.Name, func(t *testing.T) {
				c.replay(t, file.Documents[c.Documents])
				ran++
			})
		}
	}
	if ran < 80 {
		t.Errorf("only %d cases ran", ran)
	}
	t.Logf("%d cases", ran)
}

func (c *semanticsCase) replay(t *testing.T, before []bson.Raw) {
	docs := map[string]bson.Raw{}
	for _, d := range before {
		docs[idKey(t, d)] = d
	}
	buf := txn.New(nil)
	for i, d := range c.Oplog {
		e, err := oplog.Decode(recordedEntry(t, i, d))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := buf.Add(e); err != nil {
			t.Fatal(err)
		}
		for op, err := range buf.Operations(e) {
			switch {
			case err != nil:
				t.Fatal(err)
			case op.Kind == oplog.Command && (op.Command.Name == oplog.Rename || op.Command.Name == oplog.Drop || op.Command.Options != nil && op.Command.Options.Lookup("capped").Type != 0):
				t.Skip("collections are another test's")
			case op.Kind == oplog.Command || op.Kind == oplog.Noop || op.NS != "semantics.c":
				continue
			}
			k := document.Key(op.ID)
			after, odd, err := document.Apply(docs[k], op)
			if err != nil || odd != 0 {
				t.Fatalf("%s: %v, %s", op.O, err, odd)
			}
			docs[k] = after
			if after == nil {
				delete(docs, k)
			}
		}
	}
	var got []bson.Raw
	for _, d := range docs {
		got = append(got, d)
	}
	for _, list := range [][]bson.Raw{got, c.After} {
		sort.Slice(list, func(i, j int) bool { return idKey(t, list[i]) < idKey(t, list[j]) })
	}
	if diff := firstDifference(got, c.After); diff != "" {
		t.Error(diff)
	}
}

// recordedEntry puts back what the recording left out: positions, and the numbered UUIDs.
func recordedEntry(t *testing.T, n int, d bson.D) bson.Raw {
	t.Helper()
	id := func(v any) any {
		var k byte
		if s, ok := v.(string); ok {
			if _, err := fmt.Sscanf(s, "uuid-%d", &k); err == nil {
				return bson.Binary{Subtype: 4, Data: append(make([]byte, 15), k)}
			}
		}
		return v
	}
	var mend func(d bson.D) bson.D
	mend = func(d bson.D) bson.D {
		out := bson.D{}
		for _, e := range d {
			switch x := e.Value.(type) {
			case bson.D:
				if e.Key == "o" {
					e.Value = mend(x)
				}
			case bson.A:
				if e.Key == "applyOps" {
					list := bson.A{}
					for _, v := range x {
						list = append(list, mend(v.(bson.D)))
					}
					e.Value = list
				}
			default:
				if e.Key == "ui" || e.Key == "dropTarget" {
					e.Value = id(e.Value)
				}
			}
			out = append(out, e)
		}
		return out
	}
	b, err := bson.Marshal(append(mend(d), bson.E{Key: "ts", Value: bson.Timestamp{T: 1, I: uint32(n + 1)}}, bson.E{Key: "t", Value: int64(1)}))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
