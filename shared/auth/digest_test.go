package auth

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

const (
	testUser    = "abcdefgh"
	testPrivate = "1a2b3c4d-0000-4000-8000-1234567890ab"
	testURI     = "/api/public/v1.0/groups/byName/a%2Fb?pretty=true&m=A&m=B"
)

func nonces(at time.Time) *Nonces {
	return NewNonces([]byte("a key of the site"), func() time.Time { return at })
}

func lookup(user string) (string, bool) { return HA1(testUser, testPrivate), user == testUser }

func nonceOf(t testing.TB, challenge string) string {
	t.Helper()
	_, rest, ok := strings.Cut(challenge, `nonce="`)
	nonce, _, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 {
		t.Fatalf("no nonce in %q", challenge)
	}
	return nonce
}

// The Go digest transport takes a challenge apart like this, and gives up on anything else.
func TestChallengeIsWhatClientsParse(t *testing.T) {
	for _, stale := range []bool{false, true} {
		c := nonces(t0).Challenge(stale)
		form := fmt.Sprintf(`^Digest realm="MMS Public API", domain="", nonce="[^",]+", algorithm=MD5, qop="auth", stale=%v$`, stale)
		if !regexp.MustCompile(form).MatchString(c) {
			t.Errorf("challenge %q", c)
		}
		for _, part := range strings.Split(strings.TrimPrefix(c, "Digest "), ", ") {
			name, _, ok := strings.Cut(part, "=")
			if !ok || !strings.Contains(" realm domain nonce opaque stale algorithm qop ", " "+name+" ") {
				t.Errorf("parameter %q", part)
			}
		}
	}
}

// answer is a client's: parts in its own order and quoting.
type answer struct {
	method, uri, user, private, realm, nonce, nc, cnonce, qop string
	form                                                      string // with %[1]s ... in the order of the fields below
}

func (a answer) header() string {
	ha1 := md5hex(a.user + ":" + a.realm + ":" + a.private)
	ha2 := md5hex(a.method + ":" + a.uri)
	response := md5hex(ha1 + ":" + a.nonce + ":" + a.nc + ":" + a.cnonce + ":" + a.qop + ":" + ha2)
	if a.qop == "" {
		response = md5hex(ha1 + ":" + a.nonce + ":" + ha2)
	}
	return fmt.Sprintf(a.form, a.user, a.realm, a.nonce, a.uri, response, a.nc, a.cnonce)
}

const (
	formGo       = `Digest username="%[1]s", realm="%[2]s", nonce="%[3]s", uri="%[4]s", response="%[5]s", algorithm=MD5, cnonce="%[7]s", qop=auth, nc=%[6]s`
	formCurl     = `Digest username="%[1]s",realm="%[2]s",nonce="%[3]s",uri="%[4]s",cnonce="%[7]s",nc=%[6]s,algorithm=MD5,response="%[5]s",qop="auth"`
	formRequests = `Digest username="%[1]s", realm="%[2]s", nonce="%[3]s", uri="%[4]s", response="%[5]s", algorithm="MD5", qop="auth", nc=%[6]s, cnonce="%[7]s"`
	formOdd      = `digest qop="auth" , nc="%[6]s",cnonce="%[7]s",response="%[5]s",opaque="", unknown=1 ,uri="%[4]s",nonce="%[3]s",realm="%[2]s",username="%[1]s"`
	formRFC2069  = `Digest username="%[1]s", realm="%[2]s", nonce="%[3]s", uri="%[4]s", response="%[5]s"`
)

func good(t testing.TB, form string) answer {
	t.Helper()
	a := answer{
		method: "GET", uri: testURI, user: testUser, private: testPrivate, realm: Realm, nonce: nonceOf(t, nonces(t0).Challenge(false)),
		nc: "00000001", cnonce: "0a4f113b", qop: "auth", form: form,
	}
	if form == formRFC2069 {
		a.qop = ""
	}
	return a
}

func TestClientsOfAllKindsAreUnderstood(t *testing.T) {
	for name, form := range map[string]string{"go": formGo, "curl": formCurl, "requests": formRequests, "odd": formOdd, "rfc2069": formRFC2069} {
		for _, nc := range []string{"00000001", "1", "0000002a"} { // nc counts as the text sent
			a := good(t, form)
			a.nc = nc
			user, stale, ok := nonces(t0).Verify("GET", testURI, a.header(), lookup, t0)
			if !ok || stale || user != testUser {
				t.Errorf("%s with nc %s: %q, stale %v, ok %v", name, nc, user, stale, ok)
			}
		}
	}
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	for name, change := range map[string]func(*answer){
		"password":      func(a *answer) { a.private = "x" },
		"user":          func(a *answer) { a.user = "somebody" },
		"realm":         func(a *answer) { a.realm = "another" },
		"method":        func(a *answer) { a.method = "POST" },
		"uri":           func(a *answer) { a.uri = "/api/public/v1.0/" },
		"uri decoded":   func(a *answer) { a.uri = strings.Replace(a.uri, "%2F", "/", 1) },
		"made-up nonce": func(a *answer) { a.nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093" },
		"nonce of another key": func(a *answer) {
			a.nonce = nonceOf(t, NewNonces([]byte("x"), func() time.Time { return t0 }).Challenge(false))
		},
		"empty nonce":      func(a *answer) { a.nonce = "" },
		"qop":              func(a *answer) { a.form = strings.Replace(a.form, "qop=auth", "qop=auth-int", 1) },
		"algorithm":        func(a *answer) { a.form = strings.Replace(a.form, "algorithm=MD5", "algorithm=SHA-256", 1) },
		"scheme":           func(a *answer) { a.form = strings.Replace(a.form, "Digest", "Basic", 1) },
		"response missing": func(a *answer) { a.form = strings.Replace(a.form, "response=", "reply=", 1) },
		"nc missing":       func(a *answer) { a.form = strings.Replace(a.form, "nc=", "mc=", 1) },
		"username twice":   func(a *answer) { a.form += `, username="x"` },
		"quote open":       func(a *answer) { a.form += `, x="y` },
	} {
		a := good(t, formGo)
		change(&a)
		if user, stale, ok := nonces(t0).Verify("GET", testURI, a.header(), lookup, t0); ok || stale || user != "" {
			t.Errorf("%s: %q, stale %v, ok %v", name, user, stale, ok)
		}
	}
	for _, header := range []string{"", "Digest", "Digest ", "Digest ,,,", "Basic abc", strings.Repeat("Digest a=b,", 10_000)} {
		if _, stale, ok := nonces(t0).Verify("GET", testURI, header, lookup, t0); ok || stale {
			t.Errorf("header %.20q", header)
		}
	}
}

func TestOldNoncesAreStaleOnlyWhenTheRestIsRight(t *testing.T) {
	a := good(t, formGo)
	for _, c := range []struct {
		after     time.Duration
		stale, ok bool
	}{
		{0, false, true},
		{NonceLife, false, true},
		{NonceLife + time.Millisecond, true, false},
		{24 * time.Hour, true, false},
		{-nonceSkew, false, true}, // another server's clock is ahead
		{-nonceSkew - time.Millisecond, true, false},
	} {
		_, stale, ok := nonces(t0).Verify("GET", testURI, a.header(), lookup, t0.Add(c.after))
		if stale != c.stale || ok != c.ok {
			t.Errorf("after %v: stale %v, ok %v", c.after, stale, ok)
		}
	}
	a.private = "wrong"
	if _, stale, _ := nonces(t0).Verify("GET", testURI, a.header(), lookup, t0.Add(time.Hour)); stale {
		t.Error("stale although the password is wrong: a client would try for ever")
	}
}

func FuzzVerify(f *testing.F) {
	for _, form := range []string{formGo, formCurl, formRequests, formOdd, formRFC2069} {
		f.Add(good(f, form).header())
	}
	f.Add(`Digest username="a\"b", x=y`)
	n := nonces(t0)
	f.Fuzz(func(t *testing.T, header string) {
		d, err := parseDigest(header)
		if err == nil && (d.username == "" || d.nonce == "" || len(d.response) != 32) {
			t.Fatalf("%q: %+v", header, d)
		}
		user, stale, ok := n.Verify("GET", testURI, header, func(string) (string, bool) { return "", false }, t0)
		if ok || stale || user != "" {
			t.Fatalf("nobody has a key, but %q admitted %q", header, user)
		}
	})
}
