package txn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// line is an entry at position n: "s1/5" is its session and number ("-" for none), prev the position before it.
func line(t testing.TB, n int, session string, prev int, o string) *oplog.Entry {
	t.Helper()
	s := fmt.Sprintf(`{"ts":{"$timestamp":{"t":1,"i":%d}},"t":{"$numberLong":"1"},"v":2,"op":"c","ns":"admin.$cmd","o":%s`, n, o)
	if id, number, ok := strings.Cut(session, "/"); ok {
		s += fmt.Sprintf(`,"lsid":{"id":"%s"},"txnNumber":{"$numberLong":"%s"}`, id, number)
	}
	term := 1
	if prev == 0 {
		term = -1
	}
	t0 := 1
	if prev == 0 {
		t0 = 0
	}
	s += fmt.Sprintf(`,"prevOpTime":{"ts":{"$timestamp":{"t":%d,"i":%d}},"t":{"$numberLong":"%d"}}}`, t0, prev, term)
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(s), false, &d); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	e, err := oplog.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func inserts(more string, ids ...int) string {
	var ops []string
	for _, id := range ids {
		ops = append(ops, fmt.Sprintf(`{"op":"i","ns":"a.b","o":{"_id":%d}}`, id))
	}
	return `{"applyOps":[` + strings.Join(ops, ",") + `]` + more + `}`
}

const commit = `{"commitTransaction":1,"commitTimestamp":{"$timestamp":{"t":1,"i":77}}}`

func TestTransactionsCountFromTheirCommit(t *testing.T) {
	var b *txn.Buffer
	add := func(e *oplog.Entry) string {
		t.Helper()
		v, err := b.Add(e)
		if err != nil {
			switch {
			case errors.Is(err, txn.ErrNotWhole):
				return "not whole"
			case errors.Is(err, oplog.ErrCorrupt):
				return "corrupt"
			}
			t.Fatal(err)
		}
		out := []string{"apply", "held", "commit", "abort", "repeated"}[v]
		if v == txn.Apply || v == txn.Commit {
			for op, err := range b.Operations(e) {
				if err != nil {
					t.Fatal(err)
				}
				out += fmt.Sprintf(" %d", op.ID.Int32())
			}
			if err := b.Done(e); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	type step struct {
		e    *oplog.Entry
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
		open  int
	}{
		{"small: the entry is the commit", []step{{line(t, 1, "s/1", 0, inserts("", 1, 2)), "commit 1 2"}}, 0},
		{"large: the last entry is the commit", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "r/9", 0, inserts("", 50)), "commit 50"},
			{line(t, 3, "s/1", 1, inserts(`,"partialTxn":true`, 2)), "held"},
			{line(t, 4, "s/1", 3, inserts(`,"count":{"$numberLong":"3"}`, 3)), "commit 1 2 3"},
		}, 0},
		{"prepared", []step{
			{line(t, 1, "s/1", 0, inserts(`,"prepare":true`, 1)), "held"},
			{line(t, 2, "s/1", 1, commit), "commit 1"},
		}, 0},
		{"large and prepared", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "s/1", 1, inserts(`,"prepare":true,"count":{"$numberLong":"2"}`, 2)), "held"},
			{line(t, 3, "s/1", 2, commit), "commit 1 2"},
		}, 0},
		{"aborted", []step{
			{line(t, 1, "s/1", 0, inserts(`,"prepare":true`, 1)), "held"},
			{line(t, 2, "s/1", 1, `{"abortTransaction":1}`), "abort"},
		}, 0},
		{"cut off by a step-down: the next of the session ends it", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "s/2", 0, inserts("", 2)), "commit 2"},
		}, 0},
		{"a prepared one is not ended by the next", []step{
			{line(t, 1, "s/1", 0, inserts(`,"prepare":true`, 1)), "held"},
			{line(t, 2, "s/2", 0, inserts("", 2)), "commit 2"},
		}, 1},
		{"without a session: by its chain", []step{
			{line(t, 1, "-", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "-", 0, inserts(`,"partialTxn":true`, 10)), "held"},
			{line(t, 3, "-", 1, inserts("", 2)), "commit 1 2"},
			{line(t, 4, "-", 2, inserts("", 11)), "commit 10 11"},
		}, 0},
		{"a batch is none", []step{{line(t, 1, "-", 0, inserts("", 1, 2)), "apply 1 2"}}, 0},
		{"a commit that two slices share", []step{
			{line(t, 1, "s/1", 0, inserts("", 1)), "commit 1"},
			{line(t, 1, "s/1", 0, inserts("", 1)), "repeated"},
			{line(t, 2, "s/2", 0, inserts(`,"prepare":true`, 2)), "held"},
			{line(t, 2, "s/2", 0, inserts(`,"prepare":true`, 2)), "held"},
			{line(t, 3, "s/2", 2, commit), "commit 2"},
			{line(t, 3, "s/2", 2, commit), "repeated"},
		}, 0},
		{"a commit whose beginning is missing", []step{{line(t, 5, "s/1", 4, commit), "not whole"}}, 0},
		{"an end whose beginning is missing", []step{{line(t, 5, "s/1", 4, inserts("", 1)), "not whole"}}, 0},
		{"a link is missing", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 4, "s/1", 3, inserts("", 3)), "corrupt"},
		}, 1},
		{"operations are missing", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "s/1", 1, inserts(`,"count":{"$numberLong":"5"}`, 3)), "corrupt"},
		}, 1},
		{"a commit of what was not prepared", []step{
			{line(t, 1, "s/1", 0, inserts(`,"partialTxn":true`, 1)), "held"},
			{line(t, 2, "s/1", 1, commit), "corrupt"},
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b = txn.New(nil)
			for i, s := range c.steps {
				if got := add(s.e); got != s.want {
					t.Errorf("entry %d: %s, want %s", i, got, s.want)
				}
			}
			if n := len(b.Open()); n != c.open {
				t.Errorf("%d are left open, want %d", n, c.open)
			}
		})
	}
}

func TestTheOldestOpenTransactionIsKnown(t *testing.T) {
	b := txn.New(nil)
	if _, any := b.Oldest(); any {
		t.Error("an empty buffer has an open transaction")
	}
	for i, s := range []string{"s/1", "r/1", "q/1"} {
		if _, err := b.Add(line(t, 10+i, s, 0, inserts(`,"prepare":true`, i))); err != nil {
			t.Fatal(err)
		}
	}
	end := line(t, 20, "s/1", 10, commit)
	if _, err := b.Add(end); err != nil {
		t.Fatal(err)
	}
	if first, _ := b.Oldest(); first.TS.I != 10 {
		t.Errorf("before the commit is carried out the oldest is %s", first)
	}
	if err := b.Done(end); err != nil {
		t.Fatal(err)
	}
	if first, _ := b.Oldest(); first.TS.I != 11 {
		t.Errorf("after it the oldest is %s", first)
	}
	if c := b.Commits(); len(c) != 1 || c[0].CommitTimestamp.I != 77 {
		t.Errorf("commits are %v", c)
	}
}
