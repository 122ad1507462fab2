package chain

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

func noop(t testing.TB, n, term int, text string) *oplog.Entry {
	t.Helper()
	b, err := bson.Marshal(bson.D{
		{Key: "ts", Value: bson.Timestamp{T: 5, I: uint32(n)}},
		{Key: "t", Value: int64(term)},
		{Key: "v", Value: int64(2)},
		{Key: "op", Value: "n"},
		{Key: "ns", Value: ""},
		{Key: "o", Value: bson.D{{Key: "msg", Value: text}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := oplog.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// slice covers the positions from..to after h; the filter leaves the even ones.
func slice(t testing.TB, h Head, from, to, term int) (*Slice, []byte) {
	t.Helper()
	b := Begin("rs0", 3, h.Last, h.Sum)
	for n := from; n <= to; n++ {
		e := noop(t, n, term, "x")
		var kept bson.Raw
		if n%2 == 0 {
			kept = e.Raw
		}
		if err := b.Add(e, kept); err != nil {
			t.Fatal(err)
		}
	}
	s, content, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return s, content
}

func follow(t testing.TB, h Head, s *Slice) Head {
	t.Helper()
	next, repeated, err := h.Follow(s)
	if err != nil || repeated {
		t.Fatalf("%v, repeated %v", err, repeated)
	}
	return next
}

func TestAChainOfSlices(t *testing.T) {
	begin := Head{Job: "rs0", Epoch: 3}
	one, content := slice(t, begin, 1, 10, 1)
	h1 := follow(t, begin, one)
	two, _ := slice(t, h1, 11, 20, 1)
	h2 := follow(t, h1, two)
	three, _ := slice(t, h2, 21, 21, 2) // the filter leaves nothing of it

	var got []string
	if err := one.Open(content, func(raw bson.Raw) error {
		got = append(got, fmt.Sprint(raw.Lookup("ts").String()))
		return nil
	}); err != nil || len(got) != 5 || one.Count != 5 || three.Count != 0 {
		t.Errorf("opened %v, %v", got, err)
	}
	back, err := Decode(one.Encode())
	if err != nil || *back != *one || back.Sum() != h1.Sum {
		t.Errorf("read back %+v, %v", back, err)
	}
	if end, err := Verify([]Slice{*one, *two, *three}); err != nil || end.Last.TS.I != 21 || end.Last.Term != 2 {
		t.Errorf("the chain ends at %s, %v", end.Last, err)
	}
	if _, err := Verify([]Slice{*two, *three}); err != nil {
		t.Errorf("the rest of a chain whose beginning expired: %v", err)
	}

	forked, _ := slice(t, Head{Last: h1.Last, Sum: Digest{1}}, 11, 20, 1)
	other := *two
	other.Epoch = 4
	longer, _ := slice(t, h1, 11, 25, 1)
	lower, _ := slice(t, Head{Last: oplog.OpTime{TS: h2.Last.TS}, Sum: h2.Sum}, 21, 22, 0)
	for _, c := range []struct {
		name string
		head Head
		s    *Slice
		want error
	}{
		{"a slice is left out", h1, three, ErrGap},
		{"the first of an epoch follows something", begin, two, ErrGap},
		{"an older slice comes again", h2, one, ErrOverlap},
		{"another slice of the same beginning", h2, longer, ErrOverlap},
		{"the same positions of another history", h1, forked, ErrSplice},
		{"the term goes back", h2, lower, ErrSplice},
		{"another epoch", h1, &other, ErrEpoch},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, repeated, err := c.head.Follow(c.s)
			if !errors.Is(err, c.want) || repeated || next != c.head {
				t.Errorf("got %v (repeated %v), want %v and the head unmoved", err, repeated, c.want)
			}
		})
	}
	if next, repeated, err := h2.Follow(two); err != nil || !repeated || next != h2 {
		t.Errorf("the last slice again: repeated %v, %v", repeated, err)
	}
	if _, err := Verify([]Slice{*one, *three}); !errors.Is(err, ErrGap) {
		t.Errorf("a chain with a hole: %v", err)
	}
	if _, err := Verify([]Slice{*one, *one}); !errors.Is(err, ErrOverlap) {
		t.Errorf("a chain with a repetition: %v", err)
	}
}

func TestEntriesMustComeInOrder(t *testing.T) {
	b := Begin("rs0", 1, oplog.OpTime{TS: bson.Timestamp{T: 5, I: 3}, Term: 2}, Digest{1})
	for _, c := range []struct {
		n, term int
		ok      bool
	}{{3, 2, false}, {2, 2, false}, {4, 1, false}, {4, 2, true}, {4, 2, false}, {6, 3, true}, {7, 2, false}} {
		if err := b.Add(noop(t, c.n, c.term, ""), nil); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrOrder) {
			t.Errorf("entry %d of term %d: %v", c.n, c.term, err)
		}
	}
	if _, _, err := Begin("rs0", 1, oplog.OpTime{}, Digest{}).Finish(); err == nil {
		t.Error("a slice of nothing")
	}
}

func TestEveryChangedByteIsFound(t *testing.T) {
	s, content := slice(t, Head{}, 1, 6, 1)
	header := s.Encode()
	for i := range header {
		bad := bytes.Clone(header)
		bad[i] ^= 1
		if back, err := Decode(bad); err == nil && back.Sum() == s.Sum() {
			t.Errorf("byte %d of the header changed unseen", i)
		}
	}
	for i := range content {
		bad := bytes.Clone(content)
		bad[i] ^= 1
		called := false
		if err := s.Open(bad, func(bson.Raw) error { called = true; return nil }); !errors.Is(err, ErrDamaged) || called {
			t.Fatalf("byte %d of the content changed: %v, entries given %v", i, err, called)
		}
	}
	if err := s.Open(content[:len(content)-1], func(bson.Raw) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("a cut content: %v", err)
	}
}

func TestResumeTrustsOnlyTheSameEntry(t *testing.T) {
	set, other := bson.ObjectID{1}, bson.ObjectID{2}
	mine := noop(t, 10, 2, "mine")
	saved := Saved{At: mine.At, Entry: EntryDigest(mine.Raw), ReplicaSetID: set}
	at := func(n int, term int64) oplog.OpTime {
		return oplog.OpTime{TS: bson.Timestamp{T: 5, I: uint32(n)}, Term: term}
	}
	for _, c := range []struct {
		name string
		seen Seen
		want Verdict
		text string
	}{
		{"the entry is there", Seen{set, mine, at(1, 1), at(20, 2)}, Continue, ""},
		{"it is the oldest one, and goes as we look", Seen{set, mine, at(11, 1), at(20, 2)}, Continue, ""},
		{"the oplog rolled over", Seen{set, noop(t, 15, 2, ""), at(15, 2), at(20, 2)}, Gap, "oldest"},
		{"it is gone, older ones are there", Seen{set, noop(t, 12, 3, ""), at(1, 1), at(20, 3)}, Rollback, "not there"},
		{"another entry has its place", Seen{set, noop(t, 10, 2, "other"), at(1, 1), at(20, 2)}, Rollback, "another one"},
		{"an entry of another term has its place", Seen{set, noop(t, 10, 3, "mine"), at(1, 1), at(20, 3)}, Rollback, "another one"},
		{"the member lags", Seen{set, nil, at(1, 1), at(8, 2)}, Behind, "member is at"},
		{"the member ends before it in a later term", Seen{set, nil, at(1, 1), at(8, 3)}, Rollback, "later term"},
		{"another replica set", Seen{other, mine, at(1, 1), at(20, 2)}, OtherSet, "replica set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why := Resume(saved, c.seen)
			if got != c.want || !strings.Contains(why, c.text) {
				t.Errorf("%s (%s), want %s", got, why, c.want)
			}
		})
	}
}

func FuzzSlice(f *testing.F) {
	s, content := slice(f, Head{}, 1, 6, 1)
	f.Add(s.Encode(), content)
	f.Fuzz(func(t *testing.T, header, content []byte) {
		s, err := Decode(header)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), header) {
			t.Error("a header has two forms")
		}
		s.Bytes, s.Content = int64(len(content)), EntryDigest(content) // past the digest, to the entries
		_ = s.Open(content, func(raw bson.Raw) error {
			_, _ = oplog.Decode(raw)
			return nil
		})
	})
}
