package mongodoc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// Server error codes that decide an outcome.
const (
	codeNamespaceNotFound     = 26
	codeCommandNotFound       = 59
	codeUserWritesBlocked     = 371
	codeOverQuota             = 8000
	codeNotWritablePrimary    = 10107
	codeTooLarge              = 10334
	codeDuplicateKey          = 11000
	codeNotPrimaryNoSecondary = 13435
	codeNotPrimaryOrSecondary = 13436
	codeOutOfDiskSpace        = 14031
	codeTooLargeToInsert      = 17419
	codeTooLargeToReplace     = 17420
	codeIndexOptionsConflict  = 85
	codeIndexKeySpecsConflict = 86
)

// sent is what the driver did for one call: it retries on its own, and sends a large batch as several commands.
type sent struct {
	ops    int          // operations the call is about
	n      atomic.Int32 // commands that left for a server: only a call that sent nothing is known to have written nothing
	unsure atomic.Bool  // a command was done but not acknowledged by a majority, which the driver may forget over a later error
}

type sentKey struct{}

func withSent(ctx context.Context, ops int) (context.Context, *sent) {
	s := &sent{ops: ops}
	return context.WithValue(ctx, sentKey{}, s), s
}

func sentMonitor() *event.CommandMonitor {
	return &event.CommandMonitor{
		Started: func(ctx context.Context, _ *event.CommandStartedEvent) {
			if s, ok := ctx.Value(sentKey{}).(*sent); ok {
				s.n.Add(1)
			}
		},
		Succeeded: func(ctx context.Context, ev *event.CommandSucceededEvent) {
			s, ok := ctx.Value(sentKey{}).(*sent)
			if !ok {
				return
			}
			if _, err := ev.Reply.LookupErr("writeConcernError"); err != nil {
				return
			}
			// What has the label is sent again, or is the error of the call.
			labels, _ := ev.Reply.Lookup("errorLabels").ArrayOK()
			values, _ := labels.Values()
			if !slices.ContainsFunc(values, func(v bson.RawValue) bool { l, _ := v.StringValueOK(); return l == "RetryableWriteError" }) {
				s.unsure.Store(true)
			}
		},
	}
}

// readError puts an error of a read under the contract's.
func (e *Engine) readError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTooSlow):
		return fmt.Errorf("%w: %w: %w", docstore.ErrUnavailable, errTooSlow, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", docstore.ErrUnavailable, err)
}

// batchError is for what went wrong with a write command as a whole. s counts the commands of that one write.
func (e *Engine) batchError(ctx context.Context, s *sent, err error) error {
	if err == nil {
		return nil
	}
	if s.n.Load() == 0 || s.n.Load() == 1 && refused(err, s.ops) {
		return e.readError(ctx, err)
	}
	if full(err) && s.n.Load() == 1 {
		return fmt.Errorf("%w: %w", docstore.ErrFull, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w: %w", docstore.ErrOutcomeUnknown, ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", docstore.ErrOutcomeUnknown, err)
}

// refused says whether a server answered that it did not even begin: it is no primary, or does not take the command from
// us (no such command, not authorised). A command of several operations may have lost its primary between two of them.
func refused(err error, ops int) bool {
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return false
	}
	switch ce.Code {
	case codeNotWritablePrimary, codeNotPrimaryNoSecondary, codeNotPrimaryOrSecondary:
		return ops == 1
	case codeCommandNotFound, codeUserWritesBlocked, 13, 18: // Unauthorized, AuthenticationFailed
		return true
	}
	return false
}

func full(err error) bool {
	var ce mongo.ServerError
	return errors.As(err, &ce) && (ce.HasErrorCode(codeOutOfDiskSpace) || ce.HasErrorCode(codeOverQuota))
}

// opError is for what a server said of one operation.
func opError(code int, message string) error {
	switch code {
	case codeDuplicateKey:
		return fmt.Errorf("%w: %s", docstore.ErrExists, message)
	case codeTooLarge, codeTooLargeToInsert, codeTooLargeToReplace:
		return fmt.Errorf("%w: %s", docstore.ErrTooLarge, message)
	case codeOutOfDiskSpace, codeOverQuota:
		return fmt.Errorf("%w: %s", docstore.ErrFull, message)
	case codeNotWritablePrimary, codeNotPrimaryNoSecondary, codeNotPrimaryOrSecondary:
		return fmt.Errorf("%w: %s (code %d)", docstore.ErrUnavailable, message, code)
	}
	return fmt.Errorf("%w: %s (code %d)", docstore.ErrOutcomeUnknown, message, code)
}
