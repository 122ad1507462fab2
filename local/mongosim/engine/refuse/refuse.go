// Package refuse is the error the simulator's inner packages return for input a server would refuse: a code and a message.
package refuse

import "fmt"

// Error is a refusal.
type Error struct {
	Code int32
	Msg  string
}

// Error gives the message.
func (e *Error) Error() string { return e.Msg }

// Errf makes a refusal.
func Errf(code int32, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}
