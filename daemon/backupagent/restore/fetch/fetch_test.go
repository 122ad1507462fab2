package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// server gives one object, as a test says.
type server struct {
	content []byte
	asked   []int64 // from which byte on
	give    func(n int, offset int64) (body []byte, from int64, err error)
}

func (s *server) Object(_ context.Context, _ string, _ int, offset int64) (io.ReadCloser, int64, error) {
	s.asked = append(s.asked, offset)
	body, from, err := s.content[offset:], offset, error(nil)
	if s.give != nil {
		body, from, err = s.give(len(s.asked), offset)
	}
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(bytes.NewReader(body)), from, nil
}

func parts(t *testing.T, s *server) *Parts {
	sum := sha256.Sum256(s.content)
	return &Parts{
		Server: s, Restore: "r", Dir: filepath.Join(t.TempDir(), "r"), Objects: []wire.PushObject{{Name: "x", Bytes: int64(len(s.content)), SHA256: hex.EncodeToString(sum[:])}},
		Pause: func(ctx context.Context, _ time.Duration) bool { return ctx.Err() == nil }, Waits: func(string) {},
	}
}

func TestGet(t *testing.T) {
	content := []byte(strings.Repeat("0123456789", 100))
	lost := errors.New("the connection was reset")
	for name, c := range map[string]struct {
		give  func(n int, offset int64) ([]byte, int64, error)
		there []byte // of an earlier process: fetched in part
		whole []byte // of an earlier process: fetched whole
		asked []int64
		fails error
		says  string
	}{
		"at once": {asked: []int64{0}},
		"in pieces": {give: func(_ int, offset int64) ([]byte, int64, error) {
			return content[offset:min(offset+400, 1000)], offset, nil
		}, asked: []int64{0, 400, 800}},
		"the whole again": {there: content[:300], give: func(int, int64) ([]byte, int64, error) { return content, 0, nil }, asked: []int64{300}},
		"after a failure": {give: func(n int, offset int64) ([]byte, int64, error) {
			if n == 1 {
				return nil, 0, lost
			}
			return content[offset:], offset, nil
		}, asked: []int64{0, 0}},
		"from where another process ended": {there: content[:999], asked: []int64{999}},
		"what another process fetched":     {whole: content},
		"what was changed on the disk":     {whole: bytes.ToUpper(append([]byte("x"), content[1:]...)), asked: []int64{0}},
		"what is longer on the disk":       {there: append(bytes.Clone(content), 'x'), asked: []int64{0}},
		"damaged": {give: func(_ int, offset int64) ([]byte, int64, error) {
			return bytes.Repeat([]byte("y"), 1000), 0, nil
		}, asked: []int64{0, 0, 0}, says: "SHA-256"},
		"too long": {give: func(int, int64) ([]byte, int64, error) { return append(bytes.Clone(content), "more"...), 0, nil }, asked: []int64{0, 0, 0}, says: "SHA-256"},
		"cut short for good": {give: func(_ int, offset int64) ([]byte, int64, error) {
			return content[offset:max(offset, 700)], offset, nil
		}, asked: []int64{0, 700, 700, 700}, says: "it ends after 700 bytes of 1000"},
		"ended": {give: func(int, int64) ([]byte, int64, error) {
			return nil, 0, &call.Refusal{Status: 409, Code: wire.CodeStopped}
		}, asked: []int64{0}, fails: ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{content: content, give: c.give}
			p := parts(t, s)
			path := filepath.Join(p.Dir, dump.PartName(1))
			if err := os.MkdirAll(p.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for file, b := range map[string][]byte{path: c.whole, path + ".partial": c.there} {
				if b == nil {
					continue
				}
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			for range 2 { // the second asks nobody
				var got string
				if got, err = p.Get(t.Context(), 0); err != nil {
					break
				}
				if b, rerr := os.ReadFile(got); rerr != nil || !bytes.Equal(b, content) {
					t.Errorf("%d bytes, %v", len(b), rerr)
				}
			}
			switch {
			case c.fails != nil && !errors.Is(err, c.fails), c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)), c.fails == nil && c.says == "" && err != nil:
				t.Errorf("error %v", err)
			}
			if len(s.asked) != len(c.asked) {
				t.Fatalf("asked from %d, want %d", s.asked, c.asked)
			}
			for i := range s.asked {
				if s.asked[i] != c.asked[i] {
					t.Errorf("asked from %d, want %d", s.asked, c.asked)
				}
			}
			p.Done(0)
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is left: %v", err)
			}
		})
	}
	if _, err := parts(t, &server{content: content}).Get(t.Context(), 1); !errors.Is(err, dump.ErrBad) {
		t.Errorf("a part that is not: %v", err)
	}
}
