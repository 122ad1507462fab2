package store

import (
	"context"
	"time"
)

// Duty is a periodic duty of a function: bounded, resumable work that any process may run.
type Duty struct {
	Name  string
	Every time.Duration
	Run   func(ctx context.Context, now time.Time) (PassReport, error)
}

// Pass is a duty as whoever ticks it sees it. Run may be called at any time and from any process: the store sees to it that the
// duty runs when it is due, once.
type Pass struct {
	Name  string
	Every time.Duration
	Run   func(ctx context.Context, now time.Time) error
}

// PassRunner runs a duty if it is due; *Store is one.
type PassRunner interface {
	RunPass(ctx context.Context, name string, every time.Duration, now time.Time, fn func(ctx context.Context, now time.Time) (PassReport, error)) (PassState, error)
}

// maxRuns bounds how often one call goes on with a duty that has more to do.
const maxRuns = 50

// Passes makes duties ready to be ticked.
func Passes(runner PassRunner, duties ...Duty) []Pass {
	passes := make([]Pass, len(duties))
	for i, d := range duties {
		passes[i] = Pass{Name: d.Name, Every: d.Every, Run: func(ctx context.Context, now time.Time) error {
			for range maxRuns {
				state, err := runner.RunPass(ctx, d.Name, d.Every, now, d.Run)
				if err != nil || !state.Ran || !state.Report.More {
					return err
				}
			}
			return nil
		}}
	}
	return passes
}
