package wasmhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/hostdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// built compiles the test's guest once.
var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	return os.ReadFile(out)
})

var shared = wazero.NewCompilationCache()

func start(t testing.TB, change func(*Options)) (*Host, error) {
	t.Helper()
	wasm, err := built()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "test", Wasm: wasm, Log: obs.Discard(), Cache: shared, Config: []byte("cfg"), Deadline: 5 * time.Second, Memory: 96 << 20, Retire: 64 << 20}
	if change != nil {
		change(&o)
	}
	h, err := New(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = h.Close(context.Background()) })
	}
	return h, err
}

func guest(t testing.TB, change func(*Options)) *Host {
	t.Helper()
	h, err := start(t, change)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func TestARequestReachesTheGuestAndItsAnswerTheClient(t *testing.T) {
	h := guest(t, nil)
	r := httptest.NewRequest(http.MethodPut, "https://hw.example.com/echo?a=%2F&b", strings.NewReader("body"))
	r.RequestURI, r.RemoteAddr = "/echo?a=%2F&b", "203.0.113.9:1"
	r.Header.Set("X-Sent", "ä")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if want := `PUT /echo?a=%2F&b hw.example.com 203.0.113.9:1 true "ä" body cfg`; w.Code != http.StatusTeapot || w.Body.String() != want {
		t.Errorf("%d %s\nwant %s", w.Code, w.Body, want)
	}
	if got := w.Header().Values("X-Two"); len(got) != 2 || got[1] != "2" {
		t.Errorf("%v", w.Header())
	}
}

func TestAGuestThatMisbehavesIsThrownAwayAndTheNextRequestIsServed(t *testing.T) {
	h := guest(t, func(o *Options) { o.Deadline = time.Second })
	for path, status := range map[string]int{
		"/loop": 504, "/sleep": 504, "/alloc": 500, "/panic": 500, "/abort": 500, "/exit": 500,
		"/bad-name": 500, "/bad-message": 500, "/bad-length": 500, "/bad-fetch": 500, "/bad-answer": 500,
	} {
		t.Run(path[1:], func(t *testing.T) {
			w := get(h, path, "")
			if path == "/alloc" && w.Code == http.StatusGatewayTimeout {
				status = w.Code // a busy machine had not given it all by then
			}
			if w.Code != status || strings.Contains(w.Body.String(), "half") {
				t.Errorf("%d %s, want %d", w.Code, w.Body, status)
			}
			if w := get(h, "/echo", "again"); w.Code != http.StatusTeapot || !strings.Contains(w.Body.String(), "again") {
				t.Errorf("afterwards: %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestAGuestCanActOnItsDeadline(t *testing.T) {
	h := guest(t, func(o *Options) { o.Deadline = 500 * time.Millisecond })
	if w := get(h, "/patient", ""); w.Code != 200 && w.Code != 504 { // a guest may be a moment late for its own deadline
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAGuestThatGrewIsRetiredAfterItsAnswer(t *testing.T) {
	h := guest(t, func(o *Options) { o.Retire = 32 << 20 })
	for range 3 {
		if w := get(h, "/grow", ""); w.Code != 200 || w.Body.String() != "1" { // 2 would be the same instance
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

func TestAGuestHasNoFilesSocketsOrEnvironment(t *testing.T) {
	if w := get(guest(t, nil), "/files", ""); w.Body.String() != "true true 0" {
		t.Error(w.Body)
	}
}

func TestCapabilities(t *testing.T) {
	h := guest(t, func(o *Options) {
		o.Capabilities = map[string]Capability{
			"upper": func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil },
			"fail":  func(context.Context, []byte) ([]byte, error) { return nil, errors.New("cannot") },
			"huge":  func(context.Context, []byte) ([]byte, error) { return make([]byte, maxMessage+1), nil },
		}
	})
	for name, want := range map[string]string{
		"upper": "HI <nil>", "fail": " cannot", "huge": " the answer is too large", "nonsense": ` the host offers no "nonsense"`, "request": " there is no request",
		strings.Repeat("x", maxName): ` the host offers no "` + strings.Repeat("x", maxName) + `"`,
	} {
		if w := get(h, "/call?name="+name, "hi"); w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", name, w.Code, w.Body, want)
		}
	}
}

func TestTheDocumentEngineIsTheHosts(t *testing.T) {
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if err := e.Ensure(t.Context(), []docstore.Collection{{Name: "c"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "c", ID: "1", Body: []byte{5, 0, 0, 0, 0}}}, true); err != nil {
		t.Fatal(err)
	}
	h := guest(t, func(o *Options) {
		o.Capabilities = map[string]Capability{guesthttp.CapDocstore: func(ctx context.Context, in []byte) ([]byte, error) { return hostdoc.Serve(ctx, e, in), nil }}
	})
	if w := get(h, "/docs?of=c", ""); w.Body.String() != "1 false" {
		t.Error(w.Body)
	}
	if w := get(h, "/docs?of=none", ""); w.Body.String() != "0 true" {
		t.Error(w.Body)
	}
}

func TestAGuestsLogIsTheHosts(t *testing.T) {
	var log strings.Builder
	h := guest(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	get(h, "/log", "")
	if !strings.Contains(log.String(), "level=WARN msg=something key=value") {
		t.Error(log.String())
	}
}

func TestAGuestThatCannotStartIsRefusedWithItsReason(t *testing.T) {
	for config, want := range map[string]string{"refuse": "refused as told"} {
		if _, err := start(t, func(o *Options) { o.Config = []byte(config) }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
	if _, err := start(t, func(o *Options) { o.Wasm = []byte("no wasm") }); err == nil {
		t.Error("started without code")
	}
}

func TestManyRequestsShareFewInstances(t *testing.T) {
	h := guest(t, func(o *Options) { o.Instances = 2 })
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if w := get(h, "/echo", fmt.Sprint("n", i)); !strings.Contains(w.Body.String(), fmt.Sprint("n", i)) {
				t.Errorf("%d: %d %s", i, w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if n := len(h.idle); n > 2 {
		t.Errorf("%d instances", n)
	}
}

func TestAClientThatGoesAwayDoesNotEndTheGuest(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	h := guest(t, func(o *Options) {
		o.Retire, o.Instances = 96<<20, 1
		o.Capabilities = map[string]Capability{"leave": func(in context.Context, _ []byte) ([]byte, error) {
			leave()
			return nil, in.Err()
		}}
	})
	get(h, "/grow", "")
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodPost, "/call?name=leave", http.NoBody))
	if w := get(h, "/grow", ""); w.Body.String() != "2" {
		t.Errorf("%d %s: another instance", w.Code, w.Body)
	}
}

func TestACallerThatStopsEndsTheGuest(t *testing.T) {
	h := guest(t, nil)
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	began := time.Now()
	_, err := h.Do(httptest.NewRequestWithContext(ctx, http.MethodPost, "/loop", http.NoBody), nil, time.Minute)
	if err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestATooLargeRequestIsRefused(t *testing.T) {
	h := guest(t, func(o *Options) { o.MaxBody = 10 })
	if w := get(h, "/echo", "0123456789x"); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", w.Code)
	}
}

// FuzzCapability lets the guest call with any name and any bytes: the host must answer and the guest live on.
func FuzzCapability(f *testing.F) {
	f.Add("docstore", []byte{2, 0, 1})
	f.Add("log", []byte(`{"level":"WARN"}`))
	f.Add("", []byte{})
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(f.TempDir(), "x.db")})
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	h := guest(f, func(o *Options) {
		o.Capabilities = map[string]Capability{guesthttp.CapDocstore: func(ctx context.Context, in []byte) ([]byte, error) { return hostdoc.Serve(ctx, e, in), nil }}
	})
	f.Fuzz(func(t *testing.T, name string, in []byte) {
		if name == guesthttp.CapAnswer || len(name) > maxName {
			return // it ends the request, or the guest
		}
		r := httptest.NewRequest(http.MethodPost, "/call", bytes.NewReader(in))
		q := r.URL.Query()
		q.Set("name", name)
		r.URL.RawQuery = q.Encode()
		r.RequestURI = r.URL.RequestURI()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%q: %d %s", name, w.Code, w.Body)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	h := guest(b, nil)
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/echo", io.NopCloser(strings.NewReader("x"))))
		if w.Code != http.StatusTeapot {
			b.Fatal(w.Code)
		}
	}
}
