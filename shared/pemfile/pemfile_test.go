package pemfile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/heartwood-db/heartwood/shared/model"
)

const password = "open sesame"

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func certificate(t *testing.T, key crypto.Signer) *pem.Block {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	return &pem.Block{Type: "CERTIFICATE", Bytes: must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))}
}

func write(t *testing.T, blocks ...*pem.Block) string {
	t.Helper()
	var b []byte
	for _, block := range blocks {
		b = append(b, pem.EncodeToMemory(block)...)
	}
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// forms are the ways in which a private key comes.
func forms(t *testing.T, key crypto.Signer) map[string]*pem.Block {
	t.Helper()
	plain := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	sealed := must[[]byte](t)(pkcs8.ConvertPrivateKeyToPKCS8(key, []byte(password)))
	own := &pem.Block{}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		own = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
	case *ecdsa.PrivateKey:
		own = &pem.Block{Type: "EC PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalECPrivateKey(k))}
	}
	legacy := must[*pem.Block](t)(x509.EncryptPEMBlock(rand.Reader, own.Type, own.Bytes, []byte(password), x509.PEMCipherAES256)) //nolint:staticcheck // the form under test
	return map[string]*pem.Block{
		"plain": own, "plain PKCS #8": {Type: "PRIVATE KEY", Bytes: plain},
		"encrypted PKCS #8": {Type: "ENCRYPTED PRIVATE KEY", Bytes: sealed}, "encrypted legacy": legacy,
	}
}

func TestKeyPair(t *testing.T) {
	for _, key := range []crypto.Signer{
		must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048)), must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
	} {
		cert := certificate(t, key)
		for name, form := range forms(t, key) {
			for _, order := range [][]*pem.Block{{cert, form}, {form, cert, cert}} {
				file := write(t, order...)
				pair, err := KeyPair(file, password)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if len(pair.Certificate) != len(order)-1 || !slices.Equal(pair.Certificate[0], cert.Bytes) {
					t.Errorf("%s: %d certificates", name, len(pair.Certificate))
				}
			}
			encrypted := name == "encrypted legacy" || name == "encrypted PKCS #8"
			file := write(t, cert, form)
			if _, err := KeyPair(file, ""); encrypted != errors.Is(err, ErrNoPassword) || !encrypted && err != nil {
				t.Errorf("%s without a password: %v", name, err)
			}
			if _, err := KeyPair(file, model.Secret("guess")); encrypted && !errors.Is(err, ErrWrongPassword) {
				t.Errorf("%s with another password: %v", name, err)
			}
		}
	}
}

func TestWhatIsMissing(t *testing.T) {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert, private := certificate(t, key), forms(t, key)["plain"]
	for name, file := range map[string]string{"no key": write(t, cert), "no certificate": write(t, private), "nothing": write(t), "no file": "absent.pem"} {
		if _, err := KeyPair(file, ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Authorities(write(t, private)); err == nil {
		t.Error("a file without certificates was taken for authorities")
	}
	if _, err := Authorities(write(t, cert)); err != nil {
		t.Error(err)
	}
}
