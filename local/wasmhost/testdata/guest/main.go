// Command guest is what the tests of wasmhost run: a handler that behaves and misbehaves on demand.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
)

//go:wasmimport heartwood call
func rawCall(name, nameLen, in, inLen uint32) uint32

//go:wasmimport heartwood fetch
func rawFetch(ptr uint32)

var hoard [][]byte

func init() { guesthttp.Serve(build) }

func main() {}

func build(_ context.Context, config []byte) (http.Handler, error) {
	if string(config) == "refuse" {
		return nil, errors.New("refused as told")
	}
	if string(config) == "loop" {
		for {
			hoard = hoard[:0]
		}
	}
	engine := guesthttp.Engine()
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %v %q %s %s", r.Method, r.RequestURI, r.Host, r.RemoteAddr, r.TLS != nil, r.Header.Get("X-Sent"), b, config)
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %d %x %v", r.ContentLength, n, sum.Sum(nil), err)
	})
	mux.HandleFunc("/object", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		var o httpx.Object
		o.Store, o.Key, o.Note = "s1", q.Get("key"), q.Get("note")
		_, _ = fmt.Sscan(q.Get("from"), &o.From)
		_, _ = fmt.Sscan(q.Get("length"), &o.Length)
		if says := q.Get("says"); says != "" {
			w.Header().Set("Content-Length", says)
		}
		w.WriteHeader(http.StatusPartialContent)
		sender, ok := httpx.ObjectSenderOf(w)
		if !ok {
			panic("the host sends no objects")
		}
		if err := sender.SendObject(o); err != nil {
			panic(err)
		}
	})
	mux.HandleFunc("/loop", func(http.ResponseWriter, *http.Request) {
		for i := 0; ; i++ {
			if i < 0 {
				return
			}
		}
	})
	mux.HandleFunc("/sleep", func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) })
	mux.HandleFunc("/patient", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		fmt.Fprint(w, r.Context().Err())
	})
	mux.HandleFunc("/alloc", func(http.ResponseWriter, *http.Request) {
		for {
			hoard = append(hoard, make([]byte, 1<<20))
		}
	})
	mux.HandleFunc("/grow", func(w http.ResponseWriter, _ *http.Request) {
		hoard = append(hoard, make([]byte, 24<<20))
		fmt.Fprint(w, len(hoard))
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("as told") })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(0) })
	mux.HandleFunc("/bad-name", func(http.ResponseWriter, *http.Request) { rawCall(0xffffff00, 8, 0, 0) })
	mux.HandleFunc("/bad-message", func(http.ResponseWriter, *http.Request) { rawCall(0, 4, 0xfffffff0, 100) })
	mux.HandleFunc("/bad-length", func(http.ResponseWriter, *http.Request) { rawCall(0, 4, 0, 0xffffffff) })
	mux.HandleFunc("/bad-fetch", func(http.ResponseWriter, *http.Request) { rawFetch(16) })
	mux.HandleFunc("/bad-answer", func(http.ResponseWriter, *http.Request) {
		_, _ = guesthttp.Call(guesthttp.CapAnswer, []byte("no BSON"))
		os.Exit(0)
	})
	mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		out, err := guesthttp.Call(r.URL.Query().Get("name"), b)
		fmt.Fprintf(w, "%s %v", out, err)
	})
	mux.HandleFunc("/log", func(http.ResponseWriter, *http.Request) {
		guesthttp.Logger(slog.LevelInfo).Warn("something", "key", "value")
	})
	mux.HandleFunc("/files", func(w http.ResponseWriter, _ *http.Request) {
		_, readErr := os.ReadFile("/etc/passwd")
		_, dialErr := http.Get("http://127.0.0.1:1/")
		fmt.Fprint(w, readErr != nil, dialErr != nil, len(os.Environ()))
	})
	mux.HandleFunc("/docs", func(w http.ResponseWriter, r *http.Request) {
		page, err := engine.Scan(r.Context(), docstore.Query{Collection: r.URL.Query().Get("of")})
		fmt.Fprint(w, len(page.Docs), errors.Is(err, docstore.ErrCollection))
	})
	return mux, nil
}
