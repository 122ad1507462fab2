package hostblock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/hostblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// through is a store that goes through the messages; the host knows it by the id "s1".
func through(host blockstore.Store) *hostblock.Store {
	return hostblock.New(func(ctx context.Context, request []byte) ([]byte, error) {
		return hostblock.Serve(ctx, opener(host), request), nil
	}, "s1")
}

func opener(host blockstore.Store) func(context.Context, string) (blockstore.Store, error) {
	return func(_ context.Context, id string) (blockstore.Store, error) {
		if id != "s1" {
			return nil, fmt.Errorf("%w: store %s", blockstore.ErrNotFound, id)
		}
		return host, nil
	}
}

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(*testing.T) blockstore.Store { return through(memblock.New()) })
}

func TestErrorsStayWhatTheyAre(t *testing.T) {
	host := faultblock.New(memblock.New())
	s := through(host)
	kinds := []error{
		blockstore.ErrNotFound, blockstore.ErrExists, blockstore.ErrNoSpace, blockstore.ErrUnavailable, blockstore.ErrDenied, blockstore.ErrInvalid,
		blockstore.ErrTooLarge, blockstore.ErrDamaged, blockstore.ErrKey, context.Canceled, context.DeadlineExceeded,
	}
	for _, want := range append([]error{
		errors.New("something else"), opererr.New("write", errors.Join(blockstore.ErrNoSpace, blockstore.ErrDenied), "make room"),
	}, kinds...) {
		host.Fail(faultblock.Fault{Nth: 1, Err: want})
		_, err := s.Stat(t.Context(), "k")
		if err == nil || err.Error() != want.Error() || opererr.HintOf(err) != opererr.HintOf(want) {
			t.Errorf("%v became %v (hint %q)", want, err, opererr.HintOf(err))
		}
		for _, k := range kinds {
			if errors.Is(err, k) != errors.Is(want, k) {
				t.Errorf("%v: is %v: %v", want, k, errors.Is(err, k))
			}
		}
	}
	if _, err := hostblock.New(func(ctx context.Context, request []byte) ([]byte, error) {
		return hostblock.Serve(ctx, opener(host), request), nil
	}, "other").Stat(t.Context(), "k"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("a store the host does not know: %v", err)
	}
}

func TestAHostThatDoesNotAnswer(t *testing.T) {
	for name, call := range map[string]hostblock.Caller{
		"is gone":        func(context.Context, []byte) ([]byte, error) { return nil, errors.New("gone") },
		"speaks garbage": func(context.Context, []byte) ([]byte, error) { return []byte{9, 9}, nil },
		"says nothing":   func(context.Context, []byte) ([]byte, error) { return nil, nil },
	} {
		s := hostblock.New(call, "s1")
		if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, blockstore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if err := blockstoretest.Write(t.Context(), s, "k", []byte("x")); !errors.Is(err, blockstore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := blockstore.SignerOf(s); ok {
			t.Errorf("%s, yet it signs", name)
		}
	}
}

func TestObjectsThatAreTooLargeForAMessage(t *testing.T) {
	w, err := through(memblock.New()).Create(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	b := make([]byte, hostblock.MaxObject)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b[:1]); !errors.Is(err, blockstore.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if err := w.Commit(t.Context()); !errors.Is(err, blockstore.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

// signing is a store that signs.
type signing struct{ blockstore.Store }

func (signing) SignPut(_ context.Context, key string, size int64, ttl time.Duration) (blockstore.Signed, error) {
	return blockstore.Signed{Method: "PUT", URL: fmt.Sprintf("https://b/%s?size=%d&ttl=%v", key, size, ttl), Header: map[string]string{"If-None-Match": "*", "A": "b"}}, nil
}

func (signing) SignGet(_ context.Context, key string, ttl time.Duration) (blockstore.Signed, error) {
	return blockstore.Signed{Method: "GET", URL: fmt.Sprintf("https://b/%s?ttl=%v", key, ttl), Header: map[string]string{}}, nil
}

func TestSignedRequests(t *testing.T) {
	if _, ok := blockstore.SignerOf(through(memblock.New())); ok {
		t.Error("a store in memory signs")
	}
	signer, ok := blockstore.SignerOf(through(signing{memblock.New()}))
	if !ok {
		t.Fatal("no signer")
	}
	put, err := signer.SignPut(t.Context(), "k", 5, time.Minute)
	want := blockstore.Signed{Method: "PUT", URL: "https://b/k?size=5&ttl=1m0s", Header: map[string]string{"If-None-Match": "*", "A": "b"}}
	if diff := cmp.Diff(want, put); diff != "" || err != nil {
		t.Errorf("put (-want +got):\n%s%v", diff, err)
	}
	get, err := signer.SignGet(t.Context(), "k", time.Hour)
	if diff := cmp.Diff(blockstore.Signed{Method: "GET", URL: "https://b/k?ttl=1h0m0s", Header: map[string]string{}}, get); diff != "" || err != nil {
		t.Errorf("get (-want +got):\n%s%v", diff, err)
	}
}

// FuzzServe gives the host any bytes: it must answer, whatever they are.
func FuzzServe(f *testing.F) {
	ctx := context.Background()
	record := hostblock.New(func(_ context.Context, request []byte) ([]byte, error) {
		f.Add(append([]byte(nil), request...))
		return nil, errors.New("recorded")
	}, "s1")
	_ = blockstoretest.Write(ctx, record, "k", []byte("x"))
	_, _ = record.Open(ctx, "k", 5, 10)
	_, _ = record.Stat(ctx, "k")
	_, _ = record.List(ctx, "a/", "a/b", 7)
	_ = record.Delete(ctx, "k")
	_, _ = blockstore.SignerOf(record)
	f.Fuzz(func(t *testing.T, request []byte) {
		answer := hostblock.Serve(t.Context(), opener(signing{memblock.New()}), request)
		if len(answer) == 0 {
			t.Error("no answer")
		}
	})
}

// FuzzAnswer gives the program any answer: it must not fall over.
func FuzzAnswer(f *testing.F) {
	ctx := context.Background()
	record := hostblock.New(func(ctx context.Context, request []byte) ([]byte, error) {
		answer := hostblock.Serve(ctx, opener(signing{memblock.New()}), request)
		f.Add(answer)
		return answer, nil
	}, "s1")
	_ = blockstoretest.Write(ctx, record, "k", []byte("x"))
	_, _ = record.Stat(ctx, "k")
	_, _ = record.List(ctx, "", "", 7)
	f.Fuzz(func(t *testing.T, answer []byte) {
		s := hostblock.New(func(context.Context, []byte) ([]byte, error) { return answer, nil }, "s1")
		_, _ = s.Stat(t.Context(), "k")
		_, _ = s.List(t.Context(), "", "", 0)
		_, _ = s.Open(t.Context(), "k", 0, -1)
		if signer, ok := blockstore.SignerOf(s); ok {
			_, _ = signer.SignGet(t.Context(), "k", time.Minute)
		}
	})
}
