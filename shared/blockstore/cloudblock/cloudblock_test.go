package cloudblock

import (
	"context"
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
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// service is the least of an S3 server: whole objects, no parts. What it thinks of conditions is its refuse.
type service struct {
	mu      sync.Mutex
	objects map[string]string
	// conditions is what a PUT with If-None-Match gets: 0 ignores the header, 501 says so, 412 honours it.
	conditions int
	// fail is the status and code that every request gets; 0 is none.
	status int
	code   string
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.objects[r.URL.Path]
	switch {
	case s.status != 0:
		refuse(w, s.status, s.code)
	case r.Method == http.MethodPut:
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		conditional := r.Header.Get("If-None-Match") == "*"
		switch {
		case conditional && s.conditions == http.StatusNotImplemented:
			refuse(w, http.StatusNotImplemented, "NotImplemented")
		case conditional && s.conditions == http.StatusPreconditionFailed && ok:
			refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		default:
			s.objects[r.URL.Path] = string(body)
		}
	case r.Method == http.MethodDelete:
		delete(s.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case !ok:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("Last-Modified", time.Unix(1_700_000_000, 0).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", fmt.Sprint(len(have)))
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, have)
		}
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func open(t *testing.T, s *service) *Store {
	t.Helper()
	s.objects = map[string]string{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	store, err := Open(t.Context(), S3{Bucket: "b", Prefix: "p/", Endpoint: server.URL, PathStyle: true, AccessKey: "k", SecretKey: "very-secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestServicesThatDoNotKnowConditions(t *testing.T) {
	for name, conditions := range map[string]int{"ignores them": 0, "says so": http.StatusNotImplemented, "honours them": http.StatusPreconditionFailed} {
		t.Run(name, func(t *testing.T) {
			srv := &service{conditions: conditions}
			s := open(t, srv)
			ctx := t.Context()
			if err := blockstoretest.Write(ctx, s, "k", []byte("first")); err != nil {
				t.Fatal(err)
			}
			if err := blockstoretest.Write(ctx, s, "k", []byte("second")); !errors.Is(err, blockstore.ErrExists) {
				t.Errorf("a second object: %v", err)
			}
			if got, err := blockstore.Get(ctx, s, "k", 100); err != nil || string(got) != "first" {
				t.Errorf("%q, %v", got, err)
			}
			honoured := conditions == http.StatusPreconditionFailed
			if got, err := s.Conditional(ctx); err != nil || got != honoured {
				t.Errorf("Conditional: %t, %v", got, err)
			}
			signed, err := s.SignPut(ctx, "other", 3, time.Minute)
			if _, has := signed.Header["If-None-Match"]; err != nil || has != honoured {
				t.Errorf("signed %+v, %v", signed, err)
			}
			for path := range srv.objects {
				if path != "/b/p/k" {
					t.Errorf("%s is left", path)
				}
			}
		})
	}
}

func TestErrorsHaveTheirMeaning(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		want   error
		hint   string
	}{
		{507, "InsufficientStorage", blockstore.ErrNoSpace, "retention"},
		{403, "QuotaExceeded", blockstore.ErrNoSpace, "quota"},
		{403, "AccessDenied", blockstore.ErrDenied, "access key"},
		{403, "RequestTimeTooSkewed", blockstore.ErrDenied, "clock"},
		{400, "ExpiredToken", blockstore.ErrDenied, "access key"},
		{404, "NoSuchBucket", blockstore.ErrDenied, "Create the bucket"},
		{409, "ConditionalRequestConflict", blockstore.ErrUnavailable, ""},
		{429, "TooManyRequests", blockstore.ErrUnavailable, ""},
		{400, "MalformedXML", nil, ""},
	} {
		s := open(t, &service{status: c.status, code: c.code})
		err := blockstoretest.Write(t.Context(), s, "k", []byte("x"))
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, blockstore.ErrUnavailable) {
			t.Errorf("%d %s: %v, want %v", c.status, c.code, err, c.want)
		}
		if !strings.Contains(opererr.HintOf(err), c.hint) || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("%d %s: hint %q of %v", c.status, c.code, opererr.HintOf(err), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, o := range map[string]S3{
		"no bucket":              {},
		"a prefix without slash": {Bucket: "b", Prefix: "p"},
		"a prefix that is none":  {Bucket: "b", Prefix: "../"},
		"no authorities":         {Bucket: "b", CAFile: "/dev/null"},
		"absent authorities":     {Bucket: "b", CAFile: "/does/not/exist"},
	} {
		if _, err := Open(context.Background(), o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
