package docstore

import (
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func testSchema(t testing.TB) *Schema {
	t.Helper()
	s, err := (*Schema)(nil).With([]Collection{{Name: "c", Indexes: []Index{{Name: "all", Fields: []Field{
		{Name: "s", Kind: String}, {Name: "i", Kind: Int64}, {Name: "t", Kind: Time}, {Name: "b", Kind: Bool},
	}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTokenRoundTrip(t *testing.T) {
	s := testSchema(t)
	q := Query{Collection: "c", Index: "all"}
	p, err := s.Plan(q)
	if err != nil {
		t.Fatal(err)
	}
	keys := []Key{{Kind: String, S: "ü"}, {Kind: Int64, I: -1 << 63}, {Kind: Time, I: -5}, {Kind: Bool, I: 1}}
	q.Resume = p.Next(keys, "id")
	again, err := s.Plan(q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append(keys, Key{Kind: String, S: "id"}), again.After); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
}

// FuzzToken feeds resume tokens, which come back from outside, to every shape of query. What is accepted must mean one
// position inside the range.
func FuzzToken(f *testing.F) {
	s := testSchema(f)
	queries := []Query{
		{Collection: "c"},
		{Collection: "c", From: "a", To: "m", Descending: true},
		{Collection: "c", Index: "all"},
		{Collection: "c", Index: "all", Prefix: []any{"x"}, Low: int64(-3), High: int64(9)},
		{Collection: "c", Index: "all", Prefix: []any{"x", int64(1)}, Low: time.UnixMilli(5)},
		{Collection: "c", Index: "all", Prefix: []any{"x", int64(1), time.UnixMilli(7), true}, Descending: true},
	}
	plans := make([]Plan, len(queries))
	for i, q := range queries {
		p, err := s.Plan(q)
		if err != nil {
			f.Fatal(err)
		}
		plans[i] = p
		keys := make([]Key, len(p.Rest))
		for j, r := range p.Rest {
			keys[j] = Key{Kind: r.Kind}
		}
		f.Add(p.Next(keys, "b"))
	}
	f.Add("")
	f.Add("AQ")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte{1, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}))
	f.Fuzz(func(t *testing.T, token string) {
		for i, q := range queries {
			// Also as if the mark were right: a caller could compute it.
			b, err := base64.RawURLEncoding.DecodeString(token)
			if err == nil && len(b) >= 5 {
				own, _ := base64.RawURLEncoding.DecodeString(plans[i].Next(make([]Key, 0), "x"))
				copy(b[:5], own[:5])
				token = base64.RawURLEncoding.EncodeToString(b)
			}
			q.Resume = token
			p, err := s.Plan(q)
			if err != nil {
				if !errors.Is(err, ErrInvalid) {
					t.Fatalf("%q: %v", token, err)
				}
				continue
			}
			if token == "" {
				continue
			}
			if len(p.After) != len(p.Rest)+1 {
				t.Fatalf("%q: %d keys", token, len(p.After))
			}
			if p.Low != nil && p.After[0].Compare(*p.Low) < 0 || p.High != nil && p.After[0].Compare(*p.High) >= 0 {
				t.Fatalf("%q lies outside the range", token)
			}
			last := len(p.Rest)
			if got := p.Next(p.After[:last], p.After[last].S); got != token && len(got) > len(token) {
				t.Fatalf("%q means %q", token, got)
			}
		}
	})
}

// FuzzBody feeds documents of callers to the check every engine relies on.
func FuzzBody(f *testing.F) {
	fields := []Field{{Name: "s", Kind: String}, {Name: "i", Kind: Int64}, {Name: "t", Kind: Time}, {Name: "b", Kind: Bool}}
	good, err := bson.Marshal(bson.D{
		{Key: "s", Value: "x"},
		{Key: "i", Value: int64(1)},
		{Key: "t", Value: time.UnixMilli(2)},
		{Key: "b", Value: true},
		{Key: "more", Value: bson.A{1, "two"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := BodyKeys(body, fields)
		if err == nil && len(keys) != len(fields) {
			t.Fatalf("%d keys", len(keys))
		}
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrIndexField) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		if keys, err := BodyKeys(body, nil); err == nil && keys != nil {
			t.Fatal("keys without fields")
		}
	})
}
