package seed

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/wire"
)

func raw(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func value(t testing.TB, v any) bson.RawValue {
	t.Helper()
	return raw(t, bson.D{{Key: "v", Value: v}}).Lookup("v")
}

func TestNotes(t *testing.T) {
	inOrder := place{docs: 5, bytes: 600, address: "db1:27017", identity: "db1:27017 aa 1"}
	for i := range mostTokens + 2 {
		inOrder.pass(raw(t, bson.D{{Key: "$recordId", Value: int64(i)}, {Key: "$initialSyncId", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}}))
	}
	if n := len(inOrder.tokens); n != mostTokens || inOrder.tokens[0].Lookup("$recordId").Int64() != mostTokens+1 {
		t.Fatalf("%d tokens, the first %s", n, inOrder.tokens[0])
	}
	for name, c := range map[string]struct {
		at   place
		want bool
	}{
		"in a member's order":        {inOrder, true},
		"by a number":                {place{docs: 1, bytes: 2, id: value(t, 7)}, true},
		"by a document":              {place{docs: 1, bytes: 2, id: value(t, bson.D{{Key: "a", Value: "x"}})}, true},
		"by an _id that is too long": {place{docs: 1, bytes: 2, id: value(t, strings.Repeat("x", wire.MaxResumeToken))}, false},
		"nowhere":                    {place{docs: 1, bytes: 2}, false},
	} {
		note := c.at.note()
		got, ok := readNote(note)
		if ok != c.want || len(note) > wire.MaxResumeToken {
			t.Errorf("%s: a note of %d bytes, which says %v", name, len(note), ok)
		}
		if !ok {
			continue
		}
		same := got.docs == c.at.docs && got.bytes == c.at.bytes && got.address == c.at.address && got.identity == c.at.identity &&
			got.id.Type == c.at.id.Type && bytes.Equal(got.id.Value, c.at.id.Value) && len(got.tokens) == len(c.at.tokens)
		for i := range got.tokens {
			same = same && bytes.Equal(got.tokens[i], c.at.tokens[i])
		}
		if !same {
			t.Errorf("%s: %+v became %+v", name, c.at, got)
		}
	}
}

// FuzzNote holds that a note of another kind, or a damaged one, is none: the read begins anew.
func FuzzNote(f *testing.F) {
	f.Add([]byte(nil))
	at := place{docs: 1, bytes: 2, id: value(f, 7)}
	f.Add(at.note())
	at = place{docs: 1, bytes: 2, address: "a:1", identity: "x", tokens: []bson.Raw{raw(f, bson.D{{Key: "$recordId", Value: int64(1)}})}}
	f.Add(at.note())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := readNote(b)
		switch {
		case !ok && (p.resumes() || p.docs != 0):
			t.Errorf("no note, and %+v", p)
		case ok && (!p.resumes() || len(p.tokens) > 0 && (p.identity == "" || p.byID)):
			t.Errorf("a note that leads nowhere: %+v", p)
		}
	})
}

func TestPatienceGrowsWithWhatIsAtStake(t *testing.T) {
	for stake, want := range map[int64]time.Duration{0: 0, 1 << 20: 0, 1 << 30: 20 * time.Second, 1 << 40: mostPatient} {
		if got := patience(stake); got != want {
			t.Errorf("%d bytes: %v, want %v", stake, got, want)
		}
	}
}
