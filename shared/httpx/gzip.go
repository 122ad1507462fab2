package httpx

import (
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzipMin is the smallest answer worth compressing.
const gzipMin = 1024

// Gzip compresses answers of textual types for clients that accept it. It leaves alone what is small, encoded already,
// partial, or a stream of events.
func Gzip(h http.Handler) http.Handler {
	pool := &sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // constant, valid level
		return w
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !acceptsGzip(r) || r.Method == http.MethodHead {
			h.ServeHTTP(w, r)
			return
		}
		gw := &gzipWriter{ResponseWriter: w, pool: pool}
		defer gw.close()
		h.ServeHTTP(gw, r)
	})
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}

// gzipWriter holds back the first bytes until it knows whether compressing pays.
type gzipWriter struct {
	http.ResponseWriter
	pool    *sync.Pool
	zip     *gzip.Writer
	held    []byte
	status  int
	decided bool
}

// WriteHeader holds the status back until the encoding is decided.
func (w *gzipWriter) WriteHeader(code int) {
	if code < 200 {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	if w.status == 0 {
		w.status = code
	}
}

// Write compresses, once it is decided that this pays.
func (w *gzipWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if !w.decided {
		if len(w.held)+len(b) < gzipMin {
			w.held = append(w.held, b...)
			return len(b), nil
		}
		if err := w.decide(true, b); err != nil {
			return 0, err
		}
	}
	if w.zip != nil {
		return w.zip.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// decide sends the header and what was held back. peek is what comes next, for telling the type.
func (w *gzipWriter) decide(big bool, peek []byte) error {
	w.decided = true
	h := w.Header()
	if h.Get("Content-Type") == "" && (len(w.held) > 0 || len(peek) > 0) {
		first := w.held
		if len(first) == 0 {
			first = peek
		}
		h.Set("Content-Type", http.DetectContentType(first))
	}
	if big && h.Get("Content-Encoding") == "" && h.Get("Content-Range") == "" && compressible(h.Get("Content-Type")) &&
		w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
		if tag := h.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
			h.Set("Etag", "W/"+tag) // the bytes differ from the plain form's
		}
		w.zip, _ = w.pool.Get().(*gzip.Writer)
		w.zip.Reset(w.ResponseWriter)
	}
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	held := w.held
	w.held = nil
	if len(held) == 0 {
		return nil
	}
	var err error
	if w.zip != nil {
		_, err = w.zip.Write(held)
	} else {
		_, err = w.ResponseWriter.Write(held)
	}
	return err
}

func compressible(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.TrimSpace(t)
	if t == "text/event-stream" {
		return false
	}
	return strings.HasPrefix(t, "text/") || t == "application/json" || t == "application/javascript" || t == "image/svg+xml" ||
		t == "application/xml"
}

// Flush sends what there is.
func (w *gzipWriter) Flush() {
	if !w.decided {
		if w.status == 0 {
			w.status = http.StatusOK
		}
		_ = w.decide(len(w.held) >= gzipMin, nil)
	}
	if w.zip != nil {
		_ = w.zip.Flush()
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *gzipWriter) close() {
	if !w.decided {
		_ = w.decide(false, nil)
	}
	if w.zip != nil {
		_ = w.zip.Close()
		w.pool.Put(w.zip)
		w.zip = nil
	}
}
