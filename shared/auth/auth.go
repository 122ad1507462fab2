// Package auth decides: whether a password or a digest is right, and what a principal may do. It makes the secrets that
// people and programs sign in with. It keeps nothing; users, sessions and keys are in shared/store/access.
package auth

import (
	"crypto/md5" //nolint:gosec // HTTP digest authentication is defined over MD5; clients know nothing else
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Realm of the Public API. It never changes: stored digest secrets contain it.
const Realm = "MMS Public API"

// NewToken makes a session: the token goes into the cookie, the key (its SHA-256) into the store, so that a copy of the
// database signs nobody in.
func NewToken() (token, key string) {
	token = base64.RawURLEncoding.EncodeToString(random(32))
	return token, TokenKey(token)
}

// TokenKey is the key under which the session of a token is stored.
func TokenKey(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// NewAgentKey makes an agent API key: 32 hexadecimal digits.
func NewAgentKey() string { return hex.EncodeToString(random(16)) }

// NewAPIKey makes a programmatic API key: a public part of eight lower-case letters and a private one in UUID form.
func NewAPIKey() (public, private string) {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	name := make([]byte, 0, 8)
	for len(name) < cap(name) {
		// 234 is nine times 26: bytes from there on would favour the first letters.
		if b := random(1)[0]; b < 234 {
			name = append(name, letters[int(b)%len(letters)])
		}
	}
	u := random(16)
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return string(name), fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// MaskedTail is the last block of a private key: all that lists show of it.
func MaskedTail(private string) string {
	return private[max(0, len(private)-12):]
}

// HA1 is the digest secret of a user name and a private key: what is stored instead of the key.
func HA1(user, private string) string { return md5hex(user + ":" + Realm + ":" + private) }

func md5hex(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
