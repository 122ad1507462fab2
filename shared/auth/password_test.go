package auth

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

func TestPasswords(t *testing.T) {
	hash, err := HashPassword("correct horse 1!")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("hash %q", hash)
	}
	if again, _ := HashPassword("correct horse 1!"); again == hash {
		t.Fatal("two hashes of one password are equal: no salt")
	}
	for password, want := range map[string]bool{"correct horse 1!": true, "correct horse 1": false, "": false, "Correct horse 1!": false} {
		if ok, rehash := CheckPassword(hash, password); ok != want || rehash {
			t.Errorf("%q: ok %v, rehash %v", password, ok, rehash)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := HashPassword(bad); err == nil {
			t.Errorf("a password of %d bytes was hashed", len(bad))
		}
	}
}

// A test vector of the reference implementation, with another cost than ours.
func TestHashesOfOthersAreCheckedAndRenewed(t *testing.T) {
	const hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, rehash := CheckPassword(hash, "password"); !ok || !rehash {
		t.Fatalf("ok %v, rehash %v", ok, rehash)
	}
	if ok, _ := CheckPassword(hash, "passwore"); ok {
		t.Fatal("a wrong password is right")
	}
}

func TestDamagedHashesAreRefused(t *testing.T) {
	good, err := HashPassword("x")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "x", "$", "$$$$$", "$2a$10$abc", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=18", 1),
		strings.Replace(good, "m=19456", "m=99999999", 1), strings.Replace(good, "m=19456", "m=1", 1), strings.Replace(good, "t=2", "t=0", 1),
		strings.Replace(good, "t=2", "t=9999", 1), strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "p=1", "p=1,x=2", 1),
		strings.Replace(good, "t=2", "t=-2", 1), good + "!", good[:len(good)-30], strings.Replace(good, "$m=", "$ m=", 1),
	} {
		if _, _, _, err := parseHash(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if ok, rehash := CheckPassword("", "x"); ok || rehash {
		t.Fatal("an empty hash admits")
	}
}

func TestManyLoginsAtOnceTakeTurns(t *testing.T) {
	hash, err := HashPassword("x")
	if err != nil {
		t.Fatal(err)
	}
	if cap(slots) != maxHashes {
		t.Fatalf("%d hashes at once", cap(slots))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if ok, _ := CheckPassword(hash, "x"); !ok {
				t.Error("refused")
			}
			if len(slots) > maxHashes {
				t.Error("more at once than allowed")
			}
		})
	}
	wg.Wait()
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		password, username string
		want               string // in the error; "" is good
	}{
		{"s3cret-enough", "ann@example.com", ""},
		{"Pässw0rt!", "ann@example.com", ""},
		{"a1!", "ann", "at least 8 characters"},
		{"12345678!", "ann", "a letter"},
		{"abcdefgh!", "ann", "a digit"},
		{"abcdefgh1", "ann", "a special character"},
		{"", "ann", "at least 8 characters, a letter, a digit, a special character"},
		{"Margaret-1", "margaret@example.com", "user name"},
		{"bob-bob-1!", "bob", ""}, // too short a name to forbid
		{strings.Repeat("a1!", 200), "ann", "longer"},
	} {
		err := CheckPolicy(c.password, c.username)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.password, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrPolicy)):
			t.Errorf("%q: %v, want %q", c.password, err, c.want)
		}
		if err != nil && len(c.password) > 3 && strings.Contains(err.Error(), c.password) {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

func BenchmarkCheckPassword(b *testing.B) {
	hash, err := HashPassword("correct horse 1!")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		CheckPassword(hash, "correct horse 1!")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, salt, sum, err := parseHash(s)
		if err == nil && (p.memory > maxMemory || p.time > maxTime || p.threads > maxThreads || len(salt) < 8 || len(sum) < 16) {
			t.Fatalf("%q: %+v", s, p)
		}
	})
}
