// Package opererr has the error for people: what was tried, what went wrong, and what to do about it.
package opererr

import (
	"errors"
	"fmt"
)

// Error is a failed operation with a remedy. Use it where the reader is an operator, not a program.
type Error struct {
	Op   string // what was tried: "open the data folder"
	Err  error  // why it failed
	Hint string // what to do next, with the exact command where there is one
}

// New returns an Error; hint may be empty.
func New(op string, err error, hint string) *Error { return &Error{Op: op, Err: err, Hint: hint} }

// Error is "op: err". The hint is not part of it: HintOf finds it wherever the error is wrapped.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// HintOf returns the outermost hint in err's chain, or "".
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
