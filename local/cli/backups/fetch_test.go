package backups

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
)

// archive serves bytes with ranges, and breaks off each of the first answers after a few.
type archive struct {
	content []byte
	breaks  int
	asked   []string
}

func (x *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.asked = append(x.asked, r.Header.Get("Range"))
	if x.breaks > 0 {
		x.breaks--
		w.Header().Set("Content-Length", "100000")
		from := 0
		if s := r.Header.Get("Range"); s != "" {
			w.WriteHeader(http.StatusPartialContent)
			for _, c := range strings.TrimSuffix(strings.TrimPrefix(s, "bytes="), "-") {
				from = from*10 + int(c-'0')
			}
		}
		_, _ = w.Write(x.content[from : from+1000])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "rs0.tar.gz", time.Time{}, bytes.NewReader(x.content))
}

func run(t *testing.T, url, sum, dir string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&b)
	cmd.SetErr(io.Discard)
	cmd.SetContext(t.Context())
	a := newApp()
	a.wait = func(context.Context, time.Duration) error { return nil }
	err = a.fetch(cmd, ask.Object{"id": "x", "delivery": map[string]any{"url": url}, "hashes": []any{map[string]any{"fileName": "rs0.tar.gz", "hash": sum}}}, dir)
	return b.String(), err
}

func TestFetchGoesOnAndChecks(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	sum := sha256.Sum256(content)
	x := &archive{content: content, breaks: 2}
	srv := httptest.NewServer(x)
	defer srv.Close()
	dir := t.TempDir()
	out, err := run(t, srv.URL+"/pull/rs0.tar.gz", hex.EncodeToString(sum[:]), dir)
	if err != nil || !strings.Contains(out, hex.EncodeToString(sum[:])) {
		t.Fatalf("%q, %v", out, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "rs0.tar.gz")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if want := []string{"", "bytes=1000-", "bytes=2000-"}; strings.Join(x.asked, " ") != strings.Join(want, " ") {
		t.Errorf("asked for %q", x.asked)
	}
	if _, err := run(t, srv.URL+"/pull/rs0.tar.gz", "", dir); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("it overwrites: %v", err)
	}
}

func TestFetchRefusesWrongBytes(t *testing.T) {
	srv := httptest.NewServer(&archive{content: []byte("other bytes")})
	defer srv.Close()
	dir := t.TempDir()
	if _, err := run(t, srv.URL+"/rs0.tar.gz", strings.Repeat("00", 32), dir); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rs0.tar.gz")); err == nil {
		t.Error("wrong bytes have got the name")
	}
}

func TestFetchSaysWhyThereIsNothing(t *testing.T) {
	gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the link was used once", http.StatusGone)
	}))
	defer gone.Close()
	if _, err := run(t, gone.URL+"/rs0.tar.gz", "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "used once") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, "", "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no archive") {
		t.Errorf("error %v", err)
	}
}

func TestSizesAndSpans(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 2048: "2.0 kB", 5 << 30: "5.0 GB"} {
		if got := size(n); got != want {
			t.Errorf("size(%v) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{5: "5 s", 300: "5 min", 7200: "2 h"} {
		if got := span(n); got != want {
			t.Errorf("span(%v) = %q, want %q", n, got, want)
		}
	}
}
