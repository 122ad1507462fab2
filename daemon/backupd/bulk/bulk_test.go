package bulk

import (
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
)

func doc(t *testing.T, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCommandsStayWithinTheirLimits: a command is whole BSON, in the order in which servers want it, and never larger than it may be.
func TestCommandsStayWithinTheirLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		count int // how many go into one command
	}{{"small documents", 10, maxDocs}, {"large ones", maxBytes / 3, 2}, {"one larger than the limit", maxBytes + 1000, 1}} {
		one := doc(t, bson.D{{Key: "_id", Value: 1}, {Key: "x", Value: make([]byte, c.size)}})
		for range 2 { // the second takes over the memory of the first
			cmd := begin("insert", "things", "documents", unordered)
			n := 0
			for ; !cmd.full(len(one)); n++ {
				cmd.add(one)
			}
			raw := bson.Raw(cmd.end())
			if err := raw.Validate(); err != nil || n != c.count {
				t.Errorf("%s: %d of them, want %d; %v", c.name, n, c.count, err)
			}
			elements, err := raw.Elements()
			if err != nil || elements[0].Key() != "insert" || elements[len(elements)-1].Key() != "documents" {
				t.Errorf("%s: %v %v", c.name, elements, err)
			}
			if v, ok := raw.Lookup("ordered").BooleanOK(); v || !ok || !raw.Lookup("bypassDocumentValidation").Boolean() {
				t.Errorf("%s: ordered, or validated", c.name)
			}
			if docs, err := raw.Lookup("documents").Array().Values(); err != nil || len(docs) != n {
				t.Errorf("%s: %d documents, %v", c.name, len(docs), err)
			}
			cmd.release()
		}
	}
}

// TestAnIDIsAValue: an _id that looks like an operator, or is a pattern, is compared and not obeyed.
func TestAnIDIsAValue(t *testing.T) {
	for _, id := range []any{1, "a", bson.D{{Key: "$gt", Value: 1}}, bson.Regex{Pattern: "^a"}, bson.A{1}} {
		v := doc(t, bson.D{{Key: "_id", Value: id}}).Lookup("_id")
		got := bson.Raw(bsoncore.BuildDocument(nil, appendEqual(nil, "q", bsoncore.Value{Type: bsoncore.Type(v.Type), Data: v.Value})))
		if in := got.Lookup("q", "_id", "$eq"); !in.Equal(v) {
			t.Errorf("%v becomes %s", id, got)
		}
	}
}

// TestPuts: documents that an ordinary command would change or refuse are told apart; one without _id is corrupt.
func TestPuts(t *testing.T) {
	plain := doc(t, bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 2}})
	dollar := doc(t, bson.D{{Key: "_id", Value: 2}, {Key: "$a", Value: 1}})
	empty := doc(t, bson.D{{Key: "_id", Value: 3}, {Key: "at", Value: bson.Timestamp{}}})
	puts, err := putsOf("a.b", []bson.Raw{plain, dollar, empty})
	if err != nil {
		t.Fatal(err)
	}
	if puts[0].Exception != 0 || puts[1].Exception&document.DollarName == 0 || puts[2].Exception == 0 {
		t.Errorf("%+v", puts)
	}
	puts = append(puts, plan.Put{ID: bsoncore.Value{Type: bsoncore.TypeDouble, Data: bsoncore.AppendDouble(nil, 1)}, Doc: plain}) // 1.0 becomes 1
	even, odd := parted(puts)
	if len(even) != 1 || len(odd) != 3 {
		t.Errorf("%d and %d, want 1 and 3", len(even), len(odd))
	}
	if _, err := putsOf("a.b", []bson.Raw{doc(t, bson.D{{Key: "a", Value: 1}})}); !errors.Is(err, oplog.ErrCorrupt) {
		t.Errorf("a document without _id: %v", err)
	}
}

func TestCodeOfARefusal(t *testing.T) {
	refused := fmt.Errorf("drop: %w", mongo.CommandError{Code: codeNamespaceNotFound})
	if got := Code(refused); got != codeNamespaceNotFound {
		t.Errorf("%d", got)
	}
	if got := Code(errors.New("connection reset")); got != 0 {
		t.Errorf("%d", got)
	}
}

func TestViewOf(t *testing.T) {
	ns, options, err := viewOf(doc(t, bson.D{{Key: "_id", Value: "shop.v"}, {Key: "viewOn", Value: "orders"}, {Key: "pipeline", Value: bson.A{}}}))
	if err != nil || ns != "shop.v" || len(options) != 2 || options[0].Key != "viewOn" || options[1].Key != "pipeline" {
		t.Errorf("%s %v %v", ns, options, err)
	}
	if _, _, err := viewOf(doc(t, bson.D{{Key: "viewOn", Value: "orders"}})); !errors.Is(err, oplog.ErrCorrupt) {
		t.Errorf("a view without a name: %v", err)
	}
}
