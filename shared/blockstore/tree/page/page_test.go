package page

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample(n int) *Page {
	b := NewBuilder(0, n)
	for i := range n {
		b.Add(fmt.Sprintf("pack-%d", i%3), Entry{Hash: Hash{byte(i), byte(i >> 8)}, Quick: Quick{1, byte(i)}, Frame: uint32(i * 7), Block: uint16(i), Zero: i%5 == 4})
	}
	return b.Page()
}

func TestPagesAreReadAsWritten(t *testing.T) {
	for _, n := range []int{1, 2, 1000, Fanout} {
		p := sample(n)
		got, err := Decode(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Error(d)
		}
	}
}

func TestLevels(t *testing.T) {
	for n, want := range map[int64]int{1: 0, 1024: 0, 1025: 1, 1 << 20: 1, 1<<20 + 1: 2, 1<<32 - 1: 3} {
		if got := Levels(n); got != want {
			t.Errorf("%d blocks: level %d", n, got)
		}
	}
	if Span(2) != 1<<20 {
		t.Error(Span(2))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample(3).Encode())
	f.Add(sample(70).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Encode(), b) {
			t.Fatal("accepted something else than Encode makes")
		}
	})
}
