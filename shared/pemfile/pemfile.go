// Package pemfile reads the PEM files that operators name in settings: a certificate chain with its private key, encrypted or
// not, and the certificates of authorities. Server and agents read them alike.
package pemfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/youmark/pkcs8"

	"github.com/heartwood-db/heartwood/shared/model"
)

// What can be wrong with a private key's password.
var (
	ErrNoPassword    = errors.New("the private key is encrypted and no password is set")
	ErrWrongPassword = errors.New("the password does not open the private key")
)

// KeyPair reads a file with a certificate chain and its private key, in any order. The key may be encrypted, as PKCS #8
// (PBES2) or in the older form with a DEK-Info header; a password that is not needed is ignored.
func KeyPair(name string, password model.Secret) (tls.Certificate, error) {
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return tls.Certificate{}, err
	}
	var certs, key bytes.Buffer
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			_ = pem.Encode(&certs, block) // into memory
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			plain, err := decrypt(block, password)
			if err != nil {
				return tls.Certificate{}, fmt.Errorf("%s: %w", name, err)
			}
			_ = pem.Encode(&key, plain)
		}
	}
	switch {
	case certs.Len() == 0:
		return tls.Certificate{}, fmt.Errorf("%s holds no certificate", name)
	case key.Len() == 0:
		return tls.Certificate{}, fmt.Errorf("%s holds no private key", name)
	}
	pair, err := tls.X509KeyPair(certs.Bytes(), key.Bytes())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", name, err)
	}
	return pair, nil
}

// decrypt returns a private key's block without encryption.
func decrypt(block *pem.Block, password model.Secret) (*pem.Block, error) {
	legacy := x509.IsEncryptedPEMBlock(block) //nolint:staticcheck // weak, but what openssl wrote for twenty years
	if !legacy && block.Type != "ENCRYPTED PRIVATE KEY" {
		return block, nil
	}
	if password == "" {
		return nil, ErrNoPassword
	}
	if legacy {
		der, err := x509.DecryptPEMBlock(block, []byte(password.Reveal())) //nolint:staticcheck // as above
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrWrongPassword, err)
		}
		// This form has no checksum but its padding, which one wrong password in 256 fits: a key is one ASN.1 sequence.
		var v asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 || v.Tag != asn1.TagSequence {
			return nil, ErrWrongPassword
		}
		return &pem.Block{Type: block.Type, Bytes: der}, nil
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongPassword, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
}

// Authorities reads a file of certificates that others are checked against.
func Authorities(name string) (*x509.CertPool, error) {
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return pool, nil
}
