package mongodoc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

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

// sent counts the commands that left for a server during one call. The driver retries on its own; only a call that sent
// nothing is known to have written nothing.
type sent struct{ n atomic.Int32 }

type sentKey struct{}

func withSent(ctx context.Context) (context.Context, *sent) {
	s := &sent{}
	return context.WithValue(ctx, sentKey{}, s), s
}

func sentMonitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(ctx context.Context, _ *event.CommandStartedEvent) {
		if s, ok := ctx.Value(sentKey{}).(*sent); ok {
			s.n.Add(1)
		}
	}}
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
	if s.n.Load() == 0 || s.n.Load() == 1 && refused(err) {
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
// us (no such command, not authorised).
func refused(err error) bool {
	var ce mongo.CommandError
	if !errors.As(err, &ce) {
		return false
	}
	switch ce.Code {
	case codeNotWritablePrimary, codeNotPrimaryNoSecondary, codeNotPrimaryOrSecondary, codeCommandNotFound,
		codeUserWritesBlocked, 13, 18: // Unauthorized, AuthenticationFailed
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
