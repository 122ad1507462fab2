package slot

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2)
		a, _ := s.Acquire(t.Context())
		b, _ := s.Acquire(t.Context())
		var order []int
		done := make(chan struct{})
		for i := range 3 {
			go func() {
				release, err := s.Acquire(t.Context())
				if err != nil {
					t.Error(err)
				}
				order = append(order, i)
				release()
				release() // once too often changes nothing
				done <- struct{}{}
			}()
			synctest.Wait()
		}
		if s.Waiting() != 3 {
			t.Errorf("%d wait", s.Waiting())
		}
		a()
		for range 3 {
			<-done
		}
		if order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Error(order)
		}
		b()
		c, _ := s.Acquire(t.Context())
		d, _ := s.Acquire(t.Context())
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if _, err := s.Acquire(ctx); !errors.Is(err, why) || s.Waiting() != 0 {
			t.Errorf("%v, %d wait", err, s.Waiting())
		}
		c()
		d()
		if s.free != 2 {
			t.Errorf("%d free", s.free)
		}
	})
}

func TestATurnThatComesTooLateIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(1)
		for range 100 { // the race of release and cancel, either way
			hold, _ := s.Acquire(t.Context())
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan func(), 1)
			go func() {
				release, _ := s.Acquire(ctx)
				got <- release
			}()
			synctest.Wait()
			go hold()
			go cancel()
			if release := <-got; release != nil {
				release()
			}
			synctest.Wait()
			if s.free != 1 || s.Waiting() != 0 {
				t.Fatalf("%d free, %d wait", s.free, s.Waiting())
			}
		}
	})
}
