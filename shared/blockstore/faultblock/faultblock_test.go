package faultblock_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(*testing.T) blockstore.Store { return faultblock.New(memblock.New()) })
}

func TestFaults(t *testing.T) {
	mine := errors.New("mine")
	content := bytes.Repeat([]byte("x"), 1000)
	// there says whether the object of the second write is there afterwards.
	for name, c := range map[string]struct {
		fault faultblock.Fault
		want  error
		there bool
	}{
		"the second create":                {faultblock.Fault{Call: faultblock.Create, Nth: 2}, blockstore.ErrUnavailable, false},
		"a write in the middle":            {faultblock.Fault{Call: faultblock.Write, Nth: 2, Torn: 10, Err: mine}, mine, false},
		"the commit's request is lost":     {faultblock.Fault{Call: faultblock.Commit, Nth: 2}, blockstore.ErrUnavailable, false},
		"the commit's answer is lost":      {faultblock.Fault{Call: faultblock.Commit, Nth: 2, After: true}, blockstore.ErrUnavailable, true},
		"only what is under a prefix":      {faultblock.Fault{Call: faultblock.Commit, Prefix: "b/"}, blockstore.ErrUnavailable, false},
		"another prefix":                   {faultblock.Fault{Call: faultblock.Commit, Prefix: "c/"}, nil, true},
		"the fifth call, whatever it does": {faultblock.Fault{Nth: 5, Err: mine}, mine, false},
	} {
		s := faultblock.New(memblock.New())
		s.Fail(c.fault)
		if err := blockstoretest.Write(t.Context(), s, "a/1", content); err != nil {
			t.Errorf("%s: the first write: %v", name, err)
		}
		if err := blockstoretest.Write(t.Context(), s, "b/2", content); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		s.On()
		if _, err := s.Stat(t.Context(), "b/2"); (err == nil) != c.there {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

func TestATornReadAndAFullDisk(t *testing.T) {
	s := faultblock.New(memblock.New())
	s.Room(1500)
	if err := blockstoretest.Write(t.Context(), s, "1", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := blockstoretest.Write(t.Context(), s, "2", make([]byte, 1000)); !errors.Is(err, blockstore.ErrNoSpace) {
		t.Errorf("on a full disk: %v", err)
	}
	s.Fail(faultblock.Fault{Call: faultblock.Read, Nth: 1, Torn: 7})
	if got, err := blockstoretest.Read(t.Context(), s, "1", 0, -1); !errors.Is(err, blockstore.ErrUnavailable) || len(got) != 7 {
		t.Errorf("a torn read: %d bytes, %v", len(got), err)
	}
	s.Off(nil)
	if _, err := s.List(t.Context(), "", "", 0); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("switched off: %v", err)
	}
	if n := s.Calls(faultblock.Create); n != 2 {
		t.Errorf("%d calls of Create", n)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultblock.New(memblock.New())
		s.Fail(faultblock.Fault{Call: faultblock.List, Nth: 1, Delay: time.Minute})
		start := time.Now()
		if _, err := s.List(t.Context(), "", "", 0); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		s.Fail(faultblock.Fault{Call: faultblock.List, Nth: 1, Delay: time.Hour})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, err := s.List(ctx, "", "", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
