// Package seal encrypts the secret fields of the store: host credentials, digest secrets, settings that are passwords.
// One site has one gen.key; everything is derived from it, so that every server with the same file can read what any
// of them wrote, and a database without the file gives nothing away.
//
// A sealed value is one version byte, four bytes of key id, a twelve byte nonce, and the AES-256-GCM ciphertext with
// its tag. The context a value was sealed for ("host/<id>/credentials") is authenticated but not kept: a sealed value
// that is moved to another document does not open.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// KeySize is the length of a gen.key file.
const KeySize = 24

const (
	version    = 1
	idSize     = 4
	headerSize = 1 + idSize
)

// What Open answers; compare with errors.Is.
var (
	ErrKey     = errors.New("seal: the value was sealed with another gen.key")
	ErrDamaged = errors.New("seal: the value is damaged, or was sealed for another place")
)

// Box seals and opens values with the keys derived from one gen.key. It is safe for concurrent use.
type Box struct {
	aead        cipher.AEAD
	id          [idSize]byte
	fingerprint string
	master      []byte
}

// New derives a Box from the content of a gen.key file.
func New(genKey []byte) (*Box, error) {
	if len(genKey) != KeySize {
		return nil, fmt.Errorf("gen.key has %d bytes, want %d", len(genKey), KeySize)
	}
	b := &Box{master: bytes.Clone(genKey)}
	block, err := aes.NewCipher(b.Derive("fields", 32))
	if err != nil {
		return nil, fmt.Errorf("seal cipher: %w", err)
	}
	if b.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("seal cipher: %w", err)
	}
	copy(b.id[:], b.Derive("id", idSize))
	b.fingerprint = hex.EncodeToString(b.Derive("fingerprint", 8))
	return b, nil
}

// Derive returns n bytes that belong to a purpose. The same purpose always gives the same bytes on every server of the
// site, and bytes of one purpose tell nothing about another's: nonces and signed links take their keys from here.
func (b *Box) Derive(purpose string, n int) []byte {
	key, err := hkdf.Key(sha256.New, b.master, nil, "heartwood "+purpose, n)
	if err != nil { // only when n is beyond 255 hash lengths, a mistake in the calling code
		panic("seal: " + err.Error())
	}
	return key
}

// Seal encrypts plain for the place that context names. Two calls never give the same bytes.
func (b *Box) Seal(plain []byte, context string) []byte {
	nonceSize := b.aead.NonceSize()
	out := make([]byte, headerSize+nonceSize, headerSize+nonceSize+len(plain)+b.aead.Overhead())
	out[0] = version
	copy(out[1:], b.id[:])
	nonce := out[headerSize : headerSize+nonceSize]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return b.aead.Seal(out, nonce, plain, []byte(context))
}

// Open decrypts what Seal made for the same context. ErrKey: another gen.key sealed it. ErrDamaged: anything else.
func (b *Box) Open(sealed []byte, context string) ([]byte, error) {
	nonceSize := b.aead.NonceSize()
	if len(sealed) < headerSize+nonceSize+b.aead.Overhead() || sealed[0] != version {
		return nil, ErrDamaged
	}
	if !bytes.Equal(sealed[1:headerSize], b.id[:]) {
		return nil, ErrKey
	}
	nonce, body := sealed[headerSize:headerSize+nonceSize], sealed[headerSize+nonceSize:]
	plain, err := b.aead.Open(nil, nonce, body, []byte(context))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Fingerprint is 16 hexadecimal digits that tell one gen.key from another and are safe to show.
func (b *Box) Fingerprint() string { return b.fingerprint }
