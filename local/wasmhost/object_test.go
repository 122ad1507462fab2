package wasmhost

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
)

func TestALargeBodyIsTakenInPieces(t *testing.T) {
	h := guest(t, func(o *Options) { o.MaxBody = 40 << 20 })
	for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 33<<20 + 7} {
		body := bytes.Repeat([]byte{byte(size), 1, 2}, size/3+1)[:size]
		w := get(h, "/sum", string(body))
		if want := fmt.Sprintf("%d %d %x <nil>", size, size, sha256.Sum256(body)); w.Body.String() != want {
			t.Errorf("%d bytes: %d %s, want %s", size, w.Code, w.Body, want)
		}
	}
	if w := get(h, "/sum", strings.Repeat("x", 40<<20+1)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too much: %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodPost, "/sum", io.LimitReader(neverEnding('x'), 41<<20)) // without its length
	r.ContentLength = -1
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too much of unknown length: %d", w.Code)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// TestBodiesTogetherAreBounded: while one body fills what there is for all, another large one is sent away and a small one is not.
func TestBodiesTogetherAreBounded(t *testing.T) {
	h := guest(t, func(o *Options) {
		o.Bodies = 1 << 20
		o.Bounds = func(r *http.Request) Bounds {
			if r.URL.Path == "/sum" {
				return Bounds{Body: 2 << 20, Deadline: 10 * time.Second, Read: time.Minute}
			}
			return Bounds{}
		}
	})
	reader, writer := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		r := httptest.NewRequest(http.MethodPost, "/sum", reader)
		r.ContentLength = 1 << 20
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("the first: %d %s", w.Code, w.Body)
		}
	})
	if _, err := writer.Write([]byte("x")); err != nil { // it has its room now
		t.Fatal(err)
	}
	if w := get(h, "/sum", strings.Repeat("y", 1<<19)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("another: %d %v", w.Code, w.Header())
	}
	if w := get(h, "/sum", "small"); w.Code != http.StatusOK {
		t.Errorf("a small one: %d", w.Code)
	}
	if _, err := writer.Write(bytes.Repeat([]byte("x"), 1<<20-1)); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	wg.Wait()
	if w := get(h, "/sum", strings.Repeat("y", 1<<19)); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// shelf opens objects of one store and counts the instances that are busy while it does.
type shelf struct {
	content []byte
	cut     int64 // the stream ends early by so much
	opened  []httpx.Object
	closed  int
}

func (s *shelf) open(_ context.Context, o httpx.Object) (io.ReadCloser, error) {
	if o.Key == "gone" {
		return nil, blockstore.ErrNotFound
	}
	s.opened = append(s.opened, o)
	return &counted{io.NewSectionReader(bytes.NewReader(s.content), o.From, o.Length-s.cut), s}, nil
}

type counted struct {
	io.Reader
	s *shelf
}

func (c *counted) Close() error {
	c.s.closed++
	return nil
}

func TestTheHostSendsObjects(t *testing.T) {
	s := &shelf{content: bytes.Repeat([]byte("0123456789"), 10<<20)} // more than a guest may have
	var notes []string
	h := guest(t, func(o *Options) {
		o.Objects, o.Delivered = s.open, func(_ context.Context, note string) { notes = append(notes, note) }
	})
	before := h.idle[0].module.Memory().Size()
	w := get(h, "/object?key=a&note=n1&says=104857600&length=104857600", "")
	if w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), s.content) || w.Header().Get("Content-Length") != "104857600" {
		t.Errorf("%d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	if grown := h.idle[0].module.Memory().Size() - before; grown > 8<<20 {
		t.Errorf("the guest grew by %d bytes", grown)
	}
	if w := get(h, "/object?key=a&from=15&length=10&note=", ""); w.Body.String() != "5678901234" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(notes) != 1 || notes[0] != "n1" || s.closed != 2 {
		t.Errorf("notes %v, %d closed", notes, s.closed)
	}
}

func TestObjectsThatCannotBeSent(t *testing.T) {
	s := &shelf{content: []byte("0123456789")}
	told := 0
	h := guest(t, func(o *Options) { o.Objects, o.Delivered = s.open, func(context.Context, string) { told++ } })
	for name, c := range map[string]struct {
		query string
		want  int
	}{
		"one that is gone":               {"key=gone&length=5", http.StatusServiceUnavailable},
		"other bytes than were promised": {"key=a&length=5&says=6", http.StatusServiceUnavailable},
		"a part that cannot be":          {"key=a&from=-1&length=5", http.StatusInternalServerError},
	} {
		if w := get(h, "/object?"+c.query, ""); w.Code != c.want || len(s.opened) != 0 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	s.cut = 3
	func() {
		defer func() {
			if failure, _ := recover().(error); !errors.Is(failure, http.ErrAbortHandler) {
				t.Errorf("half of an object ended the answer with %v", failure)
			}
		}()
		get(h, "/object?key=a&length=8&note=n", "")
	}()
	if told != 0 || s.closed != 1 {
		t.Errorf("told %d times, %d closed", told, s.closed)
	}
	none := guest(t, nil)
	if w := get(none, "/object?key=a&length=5", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a host without objects: %d", w.Code)
	}
}
