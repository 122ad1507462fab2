package docstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// unknown tries what callers do after ErrOutcomeUnknown: read again, and decide by what is there.
func (s *suite) unknown(t *testing.T) {
	e := s.fresh(t)
	for i, op := range []docstore.Op{
		{Kind: docstore.Insert, Collection: plain, ID: "a", Body: number(t, 1)},
		{Kind: docstore.Put, Collection: plain, ID: "a", Body: number(t, 2)},
		{Kind: docstore.Insert, Collection: plain, ID: "b", Body: number(t, 3)},
	} {
		s.loseAnswer(t, e)
		res, err := e.Write(t.Context(), []docstore.Op{op}, true)
		d, there := one(t, e, plain, op.ID)
		switch {
		case err == nil && res[0].Err == nil:
			// The engine found out by itself.
			if !there || d.Rev != res[0].Rev {
				t.Errorf("write %d was acknowledged with revision %d; there is %v", i, res[0].Rev, d)
			}
		case errors.Is(err, docstore.ErrOutcomeUnknown):
			if there && !bytes.Equal(d.Body, op.Body) && !bytes.Equal(d.Body, number(t, i)) {
				t.Errorf("after write %d there is %v", i, d)
			}
		default:
			t.Errorf("write %d, whose answer was lost: %v, %v", i, err, res)
		}
	}
	mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: "a", Body: number(t, 9)})
}

func (s *suite) reopened(t *testing.T) {
	e := s.fresh(t)
	var ops []docstore.Op
	seen := map[int64]bool{}
	for i := range 50 {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: fmt.Sprintf("%02d", i), Body: raw(t, thing{I: int64(-i)})})
	}
	for _, r := range mustWrite(t, e, ops...) {
		seen[r] = true
	}
	for range 3 {
		before, err := all(t.Context(), e, docstore.Query{Collection: coll, Index: "i"}, 20)
		if err != nil {
			t.Fatal(err)
		}
		e = s.reopen(t, e)
		if err := e.Ensure(t.Context(), collections()); err != nil {
			t.Fatal(err)
		}
		after, err := all(t.Context(), e, docstore.Query{Collection: coll, Index: "i"}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if len(before) != 50 || len(after) != 50 {
			t.Fatalf("%d documents before, %d after", len(before), len(after))
		}
		for i := range before {
			if before[i].ID != after[i].ID || before[i].Rev != after[i].Rev || !bytes.Equal(before[i].Body, after[i].Body) {
				t.Errorf("document %d was %v and is %v", i, before[i], after[i])
			}
		}
		r := mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: coll, ID: "00", Body: raw(t, thing{})})[0]
		if seen[r] {
			t.Errorf("revision %d was given again after opening", r)
		}
		seen[r] = true
	}
	_ = e.Close()
}

func (s *suite) awayAndBack(t *testing.T) {
	e := s.fresh(t)
	mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: "a", Body: number(t, 1)})
	back := s.away(t, e)
	// Bounded: an engine may wait for its database to come back for as long as its caller does.
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	_, err := e.Get(ctx, plain, "a")
	if err == nil {
		t.Error("Get succeeded without a database")
	}
	ctx, stop = context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	_, werr := e.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: plain, ID: "a", Body: number(t, 2)}}, true)
	if !errors.Is(werr, docstore.ErrUnavailable) && !errors.Is(werr, docstore.ErrOutcomeUnknown) && !errors.Is(werr, context.DeadlineExceeded) {
		t.Errorf("Write without a database: %v", werr)
	}
	back()
	eventually(t, func(ctx context.Context) error {
		docs, err := e.Get(ctx, plain, "a")
		if err == nil && len(docs) != 1 {
			err = fmt.Errorf("%d documents", len(docs))
		}
		if err == nil && !bytes.Equal(docs[0].Body, number(t, 1)) && !errors.Is(werr, docstore.ErrOutcomeUnknown) {
			err = fmt.Errorf("a write that failed with %w is there", werr)
		}
		return err
	})
	eventually(t, func(ctx context.Context) error {
		_, err := e.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: plain, ID: "a", Body: number(t, 3)}}, true)
		return err
	})
}

// eventually tries until it works, for a minute: databases take their time to come back.
func eventually(t *testing.T, try func(ctx context.Context) error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still failing after a minute: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// election: while the primary changes, writers go on; afterwards every acknowledged write is there, none that failed with
// ErrUnavailable is, and no insert succeeded twice.
func (s *suite) election(t *testing.T) {
	e := s.fresh(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	type outcome struct {
		id  string
		rev int64
		err error
	}
	const workers = 6
	outcomes := make([][]outcome, workers)
	begun, over := make(chan struct{}, workers), make(chan struct{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			after := 0
			for i := 0; ctx.Err() == nil && after < 10; i++ {
				id := fmt.Sprintf("%d/%05d", w, i)
				res, err := e.Write(ctx, []docstore.Op{{Kind: docstore.Insert, Collection: plain, ID: id, Body: number(t, i)}}, true)
				o := outcome{id: id, err: err}
				if err == nil {
					o.rev, o.err = res[0].Rev, res[0].Err
				}
				outcomes[w] = append(outcomes[w], o)
				if i == 20 {
					begun <- struct{}{}
				}
				select {
				case <-over:
					if o.err == nil {
						after++
					}
				default:
				}
			}
		})
	}
	for range workers {
		select {
		case <-begun:
		case <-ctx.Done():
			t.Fatal("the writers did not get going")
		}
	}
	s.elect(t, e)
	close(over)
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatal("writing did not go on after the election")
	}
	count := map[string]int{}
	for _, list := range outcomes {
		for _, o := range list {
			d, there := one(t, e, plain, o.id)
			switch {
			case o.err == nil:
				count["acknowledged"]++
				if !there || d.Rev != o.rev {
					t.Errorf("%s was acknowledged with revision %d; there is %v (%t)", o.id, o.rev, d.Rev, there)
				}
			case errors.Is(o.err, docstore.ErrOutcomeUnknown):
				count["unknown"]++
			case errors.Is(o.err, docstore.ErrUnavailable):
				count["unavailable"]++
				if there {
					t.Errorf("%s is there, though the write failed with %v", o.id, o.err)
				}
			default:
				t.Errorf("%s: %v", o.id, o.err)
			}
		}
	}
	t.Logf("writes during the election: %v", count)
}
