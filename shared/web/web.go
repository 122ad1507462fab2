// Package web holds the files of the web interface: HTML templates, and the style sheets and scripts that browsers
// load. It owns how static files are named and served, and knows nothing of pages: it must import neither the store nor
// a function.
//
// A static file's public name contains a digest of its content, so browsers may keep it for ever; files are compressed
// once, when the program starts.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed templates
var templates embed.FS

//go:embed static
var static embed.FS

// Prefix is where Assets expects to be mounted.
const Prefix = "/static/"

// Templates are the HTML templates, each at the root under its own name.
func Templates() fs.FS {
	sub, err := fs.Sub(templates, "templates")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// Assets serves the static files. Build it once with New.
type Assets struct {
	urls  map[string]string // file name -> public path
	files map[string]asset  // public path -> file
}

type asset struct {
	kind       string
	plain      []byte
	compressed []byte // nil when compression does not pay
}

// New reads, digests and compresses the embedded files.
func New() (*Assets, error) {
	a := &Assets{urls: map[string]string{}, files: map[string]asset{}}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		return a.add(strings.TrimPrefix(name, "static/"), body)
	})
	if err != nil {
		return nil, fmt.Errorf("read the static files: %w", err)
	}
	return a, nil
}

func (a *Assets) add(name string, body []byte) error {
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	public := Prefix + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	kind := mime.TypeByExtension(ext)
	switch ext { // not left to the machine's MIME table: browsers refuse scripts of the wrong type
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	case "":
		kind = "text/plain; charset=utf-8"
	}
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := zw.Write(body); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	f := asset{kind: kind, plain: body}
	if buf.Len() < len(body)*9/10 {
		f.compressed = buf.Bytes()
	}
	a.urls[name] = public
	a.files[public] = f
	return nil
}

// URL is the public path of a file, such as "app.css". An unknown name is a mistake in a template: the path then leads
// to a 404 that names it.
func (a *Assets) URL(name string) string {
	if u, ok := a.urls[name]; ok {
		return u
	}
	return Prefix + "unknown/" + name
}

// CompressedSize is what a browser loads of a file, in bytes; 0 for an unknown one.
func (a *Assets) CompressedSize(name string) int {
	f := a.files[a.urls[name]]
	if f.compressed != nil {
		return len(f.compressed)
	}
	return len(f.plain)
}

// ServeHTTP answers GET and HEAD for the public paths.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	body := f.plain
	if f.compressed != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body = f.compressed
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the browser went away: nobody is left to tell
}

// acceptsGzip reads an Accept-Encoding header; a weight of zero is a refusal.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(coding) != "gzip" {
			continue
		}
		q, isWeight := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !isWeight {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}
