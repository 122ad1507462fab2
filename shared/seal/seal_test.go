package seal

import (
	"bytes"
	"errors"
	"testing"
)

func box(t testing.TB, key string) *Box {
	t.Helper()
	b, err := New([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	keyA = "aaaaaaaaaaaaaaaaaaaaaaaa"
	keyB = "bbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestWhatIsSealedOpensOnlyInItsPlace(t *testing.T) {
	b := box(t, keyA)
	for _, plain := range [][]byte{nil, []byte("s"), bytes.Repeat([]byte("secret"), 1000)} {
		sealed := b.Seal(plain, "host/1/credentials")
		if len(plain) > 0 && bytes.Contains(sealed, plain) {
			t.Fatal("the plain text is in the sealed value")
		}
		got, err := box(t, keyA).Open(sealed, "host/1/credentials")
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %q, %v", got, err)
		}
		if _, err := b.Open(sealed, "host/2/credentials"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("in another place: %v", err)
		}
		if _, err := box(t, keyB).Open(sealed, "host/1/credentials"); !errors.Is(err, ErrKey) {
			t.Fatalf("with another key: %v", err)
		}
	}
}

func TestSealingTwiceDiffers(t *testing.T) {
	b := box(t, keyA)
	if bytes.Equal(b.Seal([]byte("x"), "c"), b.Seal([]byte("x"), "c")) {
		t.Fatal("equal sealed values tell that the plain texts are equal")
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	b := box(t, keyA)
	sealed := b.Seal([]byte("attack at dawn"), "c")
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		if _, err := b.Open(bad, "c"); err == nil {
			t.Fatalf("byte %d was changed and nobody noticed", i)
		}
	}
	for n := range sealed {
		if _, err := b.Open(sealed[:n], "c"); err == nil {
			t.Fatalf("a value cut to %d bytes opened", n)
		}
	}
}

func TestKeysOfPurposesDiffer(t *testing.T) {
	b := box(t, keyA)
	if bytes.Equal(b.Derive("nonces", 32), b.Derive("links", 32)) || bytes.Equal(b.Derive("nonces", 32), box(t, keyB).Derive("nonces", 32)) {
		t.Fatal("two purposes or two keys give the same bytes")
	}
	if !bytes.Equal(b.Derive("nonces", 32), box(t, keyA).Derive("nonces", 32)) {
		t.Fatal("two servers of a site derive different bytes")
	}
}

func TestFingerprint(t *testing.T) {
	a, b := box(t, keyA).Fingerprint(), box(t, keyB).Fingerprint()
	if len(a) != 16 || a == b || a != box(t, keyA).Fingerprint() {
		t.Fatalf("fingerprints %q and %q", a, b)
	}
}

func TestKeysOfAnotherLengthAreRefused(t *testing.T) {
	for _, n := range []int{0, 23, 25, 32} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Fatalf("a key of %d bytes was taken", n)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b := box(f, keyA)
	good := b.Seal([]byte("seed"), "c")
	f.Add(good, "c")
	f.Add([]byte{}, "")
	f.Add(good[:20], "c")
	f.Add(box(f, keyB).Seal([]byte("other"), "c"), "c")
	f.Fuzz(func(t *testing.T, sealed []byte, context string) {
		plain, err := b.Open(sealed, context)
		if err == nil && !bytes.Equal(sealed, good) && !bytes.Equal(plain, []byte("seed")) {
			t.Fatalf("%x opened to %q", sealed, plain)
		}
	})
}
