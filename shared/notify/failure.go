package notify

import (
	"errors"
	"fmt"
	"time"
)

// Failure is an attempt that came to nothing. Its text is for people and never holds a secret once the Sender returned it.
type Failure struct {
	Text      string
	Permanent bool
	After     time.Duration // the other side asked to wait at least so long
	cause     error         // context.Canceled, context.DeadlineExceeded or ErrNotConfigured; nothing that prints more than Text
}

func (f *Failure) Error() string { return f.Text }

// Is makes a permanent failure one that wraps ErrPermanent.
func (f *Failure) Is(target error) bool { return f.Permanent && target == ErrPermanent }

func (f *Failure) Unwrap() error { return f.cause }

// Refused is a permanent failure.
func Refused(format string, args ...any) error {
	return &Failure{Text: fmt.Sprintf(format, args...), Permanent: true}
}

// Later is a failure that another attempt may mend; after is how long the other side asked to wait, or 0.
func Later(after time.Duration, format string, args ...any) error {
	return &Failure{Text: fmt.Sprintf(format, args...), After: after}
}

// RetryAfter is how long the other side asked to wait, or 0.
func RetryAfter(err error) time.Duration {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.After
	}
	return 0
}
