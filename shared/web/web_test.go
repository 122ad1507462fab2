package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func newAssets(t *testing.T) *Assets {
	t.Helper()
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAssetsAreNamedByContentAndKept(t *testing.T) {
	a := newAssets(t)
	url := a.URL("app.css")
	if !regexp.MustCompile(`^/static/app\.[0-9a-f]{12}\.css$`).MatchString(url) {
		t.Fatalf("URL of app.css: %s", url)
	}
	for _, c := range []struct {
		accept, encoding string
	}{{"gzip, deflate, br", "gzip"}, {"", ""}, {"br", ""}, {"gzip;q=0", ""}, {"gzip;q=0.000", ""}, {"gzip; q=0.5", "gzip"}, {"x-gzip-other", ""}} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", url, nil)
		r.Header.Set("Accept-Encoding", c.accept)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		h := w.Header()
		if w.Code != 200 || h.Get("Content-Encoding") != c.encoding || h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("Content-Type") != "text/css; charset=utf-8" {
			t.Errorf("Accept-Encoding %q: %d %v", c.accept, w.Code, h)
		}
		body := io.Reader(w.Body)
		if c.encoding == "gzip" {
			zr, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = zr
		}
		got, err := io.ReadAll(body)
		want, errWant := static.ReadFile("static/app.css")
		if err != nil || errWant != nil || !bytes.Equal(got, want) {
			t.Errorf("Accept-Encoding %q: not the file: %v %v", c.accept, err, errWant)
		}
	}
}

func TestUnknownAssets(t *testing.T) {
	a := newAssets(t)
	for _, path := range []string{"/static/app.css", "/static/app.000000000000.css", "/static/", "/static/../web.go", a.URL("nothing.js")} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.URL.Path = path
		if a.ServeHTTP(w, r); w.Code != 404 {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}
	w := httptest.NewRecorder()
	if a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "HEAD", a.URL("app.js"), nil)); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d with %d bytes", w.Code, w.Body.Len())
	}
}

// TestBudget holds the scripts and styles of a page with charts, the heaviest kind, to what interface.md 8 allows.
func TestBudget(t *testing.T) {
	a := newAssets(t)
	total := 0
	for _, name := range []string{"app.css", "app.js", "charts.js", "vendor/htmx/htmx.min.js", "vendor/idiomorph/idiomorph-ext.min.js", "vendor/uplot/uPlot.iife.min.js", "vendor/uplot/uPlot.min.css"} {
		n := a.CompressedSize(name)
		if n == 0 {
			t.Errorf("%s is missing", name)
		}
		total += n
	}
	t.Logf("scripts and styles: %d bytes compressed", total)
	if total > 120_000 {
		t.Errorf("scripts and styles are %d bytes compressed, more than 120,000", total)
	}
}

// TestTemplatesObeyThePolicy: no inline script or style, no handler attributes, no other host, no unknown file.
func TestTemplatesObeyThePolicy(t *testing.T) {
	a := newAssets(t)
	forbidden := map[string]*regexp.Regexp{
		"an inline style":      regexp.MustCompile(`(?i)\sstyle=|<style`),
		"an inline script":     regexp.MustCompile(`(?i)<script(\s+[^>]*)?>[^<]`),
		"a handler attribute":  regexp.MustCompile(`(?i)\son[a-z]+=|hx-on`),
		"another host":         regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//`),
		"an htmx condition":    regexp.MustCompile(`hx-trigger="[^"]*\[`),
		"an image without alt": regexp.MustCompile(`<img\b`),
	}
	asset := regexp.MustCompile(`static "([^"]+)"`)
	err := fs.WalkDir(Templates(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(Templates(), name)
		if err != nil {
			return err
		}
		for what, re := range forbidden {
			if m := re.Find(text); m != nil {
				t.Errorf("%s has %s: %s", name, what, m)
			}
		}
		for _, m := range asset.FindAllSubmatch(text, -1) {
			if strings.HasPrefix(a.URL(string(m[1])), Prefix+"unknown/") {
				t.Errorf("%s asks for %s, which does not exist", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVendoredFilesHaveTheirLicences(t *testing.T) {
	dirs, err := static.ReadDir("static/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if _, err := static.ReadFile("static/vendor/" + d.Name() + "/LICENSE"); err != nil {
			t.Errorf("%s: %v", d.Name(), err)
		}
	}
}
