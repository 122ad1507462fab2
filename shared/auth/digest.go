package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// NonceLife is how long a nonce may be used.
const NonceLife = 5 * time.Minute

// nonceSkew is how far the clocks of two servers may be apart: a nonce "from the future" by less is good.
const nonceSkew = time.Minute

// maxDigestHeader bounds what is parsed before anybody is known. The header repeats the request's target, which may name every
// measurement there is.
const maxDigestHeader = 64 << 10

// Nonces makes and checks the challenges of HTTP digest authentication. A nonce is a time and a keyed hash of it, so any
// server with the same key can check it and nothing is remembered. Replays within NonceLife are possible, as with
// every stateless nonce; the transport's encryption is what protects requests.
type Nonces struct {
	key []byte
	now func() time.Time
}

// NewNonces returns Nonces with a key that all servers of a site share (seal.Box.Derive) and a clock.
func NewNonces(key []byte, now func() time.Time) *Nonces { return &Nonces{key: key, now: now} }

// Challenge is the value of the WWW-Authenticate header. Existing clients parse it by hand: capital D, a comma and one
// space between parameters, no parameter they do not know, algorithm and stale without quotes.
func (n *Nonces) Challenge(stale bool) string {
	s := "false"
	if stale {
		s = "true"
	}
	return `Digest realm="` + Realm + `", domain="", nonce="` + n.nonce(n.now()) + `", algorithm=MD5, qop="auth", stale=` + s
}

// Verify checks an Authorization header. rawURI is the request target as on the wire. lookup gives the HA1 of a user
// name. The answer is the user name when everything is right; stale says that everything but the nonce's age is right:
// the client should try again with the next challenge and must not ask its user.
func (n *Nonces) Verify(method, rawURI, header string, lookup func(user string) (ha1 string, ok bool), now time.Time) (user string, stale, ok bool) {
	d, err := parseDigest(header)
	if err != nil || d.realm != Realm || d.uri != rawURI {
		return "", false, false
	}
	if d.algorithm != "" && !strings.EqualFold(d.algorithm, "MD5") {
		return "", false, false
	}
	made, genuine := n.open(d.nonce)
	if !genuine {
		return "", false, false
	}
	ha1, known := lookup(d.username)
	if !known {
		ha1 = strings.Repeat("0", 32) // compute all the same
	}
	want := d.expect(ha1, method)
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(d.response))) != 1 || !known {
		return "", false, false
	}
	if age := now.Sub(made); age > NonceLife || age < -nonceSkew {
		return "", true, false
	}
	return d.username, false, true
}

// A nonce is eight bytes of milliseconds and sixteen of a keyed hash, in an alphabet without commas and quotes.
const nonceMAC = 16

func (n *Nonces) nonce(at time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(max(0, at.UnixMilli()))) //nolint:gosec // not negative
	return base64.RawURLEncoding.EncodeToString(append(b, n.mac(b)...))
}

func (n *Nonces) mac(b []byte) []byte {
	h := hmac.New(sha256.New, n.key)
	_, _ = h.Write(b)
	return h.Sum(nil)[:nonceMAC]
}

func (n *Nonces) open(s string) (time.Time, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 8+nonceMAC || !hmac.Equal(b[8:], n.mac(b[:8])) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC(), true //nolint:gosec // authentic, so made above
}

// digest is a parsed Authorization header. All values are the literal text sent.
type digest struct {
	username, realm, nonce, uri, response, algorithm, qop, nc, cnonce string
}

// expect is the response that the holder of ha1 would send. Without qop it is RFC 2069's.
func (d *digest) expect(ha1, method string) string {
	ha2 := md5hex(method + ":" + d.uri)
	if d.qop == "" {
		return md5hex(ha1 + ":" + d.nonce + ":" + ha2)
	}
	return md5hex(ha1 + ":" + d.nonce + ":" + d.nc + ":" + d.cnonce + ":" + d.qop + ":" + ha2)
}

var errDigest = errors.New("auth: not a digest authorization")

// parseDigest takes a header apart: parameters in any order, values quoted or not, unknown parameters ignored, a
// parameter that is there twice refused.
func parseDigest(header string) (*digest, error) {
	const scheme = "digest "
	if len(header) > maxDigestHeader || len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return nil, errDigest
	}
	d := &digest{}
	fields := map[string]*string{
		"username": &d.username, "realm": &d.realm, "nonce": &d.nonce, "uri": &d.uri, "response": &d.response,
		"algorithm": &d.algorithm, "qop": &d.qop, "nc": &d.nc, "cnonce": &d.cnonce,
	}
	seen := map[string]bool{}
	rest := header[len(scheme):]
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			break
		}
		name, value, tail, ok := nextParam(rest)
		if !ok || seen[name] {
			return nil, errDigest
		}
		seen[name], rest = true, tail
		if f := fields[name]; f != nil {
			*f = value
		}
	}
	if d.username == "" || d.nonce == "" || d.uri == "" || len(d.response) != 32 {
		return nil, errDigest
	}
	switch {
	case d.qop == "" && !seen["qop"]:
	case d.qop == "auth" && d.nc != "" && d.cnonce != "":
	default:
		return nil, errDigest
	}
	return d, nil
}

// nextParam reads `name=value` or `name="value"` at the beginning of s.
func nextParam(s string) (name, value, rest string, ok bool) {
	name, s, ok = strings.Cut(s, "=")
	name = strings.ToLower(strings.TrimRight(name, " \t"))
	if !ok || name == "" || strings.ContainsAny(name, " \t\",") {
		return "", "", "", false
	}
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, ',')
		if end < 0 {
			end = len(s)
		}
		value = strings.TrimRight(s[:end], " \t")
		return name, value, s[end:], !strings.ContainsAny(value, "\" \t")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest = strings.TrimLeft(s[i+1:], " \t")
			return name, b.String(), rest, rest == "" || rest[0] == ','
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", "", false
}
