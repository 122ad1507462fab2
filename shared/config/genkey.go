package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// KeyBytes is the length of gen.key.
const KeyBytes = 24

// KeyPath is where gen.key is: mms.keyfile, else gen.key in the data folder.
func (s *Server) KeyPath() string {
	if s.KeyFile != "" {
		return s.KeyFile
	}
	return filepath.Join(s.DataDir, "gen.key")
}

// GivenKey is the key that heartwood.gen.key holds; nil when it is not set and the key is in a file.
func (s *Server) GivenKey() ([]byte, error) {
	if s.GenKey == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s.GenKey.Reveal()))
	switch { // the value is a secret: no error may show any of it
	case err != nil:
		return nil, errors.New("heartwood.gen.key: it is not base64: openssl rand -base64 24 makes one, base64 < gen.key gives that of an existing site")
	case len(key) != KeyBytes:
		return nil, fmt.Errorf("heartwood.gen.key: it holds %d bytes, not %d", len(key), KeyBytes)
	}
	return key, nil
}

const keyHint = "name a file in mms.keyfile that belongs to the user the server runs as, mode 0600, in a folder of that user"

// ReadKey reads gen.key. A missing file gives an error that errors.Is fs.ErrNotExist; one of another length or readable by
// others is refused with what to do.
func ReadKey(path string) ([]byte, error) {
	op := "read the key file " + path
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", op, err)
	case err != nil:
		return nil, opererr.New(op, err, keyHint)
	case !info.Mode().IsRegular():
		return nil, opererr.New(op, errors.New("it is no file"), keyHint)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, opererr.New(op, fmt.Errorf("mode %04o lets others read it", info.Mode().Perm()), "run: chmod 600 "+path)
	}
	key, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, opererr.New(op, err, keyHint)
	}
	if len(key) != KeyBytes {
		return nil, opererr.New(op, fmt.Errorf("it has %d bytes, not %d", len(key), KeyBytes),
			"copy gen.key from another server of this site, or restore it from your backup of it")
	}
	return key, nil
}

// CreateKey makes a new gen.key, mode 0600, and returns it. An existing file is never overwritten.
func CreateKey(path string) ([]byte, error) {
	key := make([]byte, KeyBytes)
	_, _ = rand.Read(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, opererr.New("create the folder of the key file", err, keyHint)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, opererr.New("create the key file", err, keyHint)
	}
	_, err = f.Write(key)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the key file %s: %w", path, err), os.Remove(path))
	}
	return key, nil
}

// IsMissing reports whether an error of ReadKey says that there is no key file.
func IsMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
