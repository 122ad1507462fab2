package refuse

import (
	"context"
	"errors"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Of turns any error of the engine's packages into what a client sees.
func Of(err error) *Error {
	var dup *store.DuplicateError
	var par *store.ErrParallelArrays
	var r *Error
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &dup):
		return &Error{Code: CodeDuplicateKey, Msg: dup.Error(), Extra: dup.Fields()}
	case errors.As(err, &par):
		return Errf(171, "%s", par.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return Errf(CodeMaxTimeMSExpired, "operation exceeded time limit")
	case errors.Is(err, context.Canceled):
		return Errf(CodeInterrupted, "operation was interrupted")
	}
	return Errf(CodeInternalError, "%s", err.Error())
}

// Retryable says that a write refused with this code may be sent again.
func Retryable(code int32) bool {
	switch code {
	case 6, 7, 89, CodeShutdownInProgress, CodePrimarySteppedDown, 262, 9001, CodeNotWritablePrimary, CodeInterruptedAtShutdown,
		CodeInterruptedStateChange, CodeNotPrimaryNoSecondary, CodeNotPrimaryOrSecondary:
		return true
	}
	return false
}
