package spill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func document(t *testing.T, n int) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(bson.D{{Key: "_id", Value: n}, {Key: "z", Value: strings.Repeat("z", n)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTransactionsSpill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spill")
	s, err := New(dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for i := range 200 {
		key := fmt.Sprintf("k%d", i%7)
		d := document(t, i)
		if err := s.Append(key, d); err != nil {
			t.Fatal(err)
		}
		want[key] = append(want[key], d.String())
		if s.size > 1000 {
			t.Fatalf("%d bytes in memory", s.size)
		}
	}
	for key, list := range want {
		var got []string
		for e, err := range s.Entries(key) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.String())
		}
		if diff := cmp.Diff(list, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
		for range 2 {
			if err := s.Drop(key); err != nil {
				t.Error(err)
			}
		}
		for range s.Entries(key) {
			t.Errorf("%s was dropped", key)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 || s.size != 0 {
		t.Errorf("left are %v, %d bytes, %v", left, s.size, err)
	}
	if _, err := ReadDocument(bytes.NewReader([]byte{9, 0, 0, 0, 1}), MaxEntry); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
