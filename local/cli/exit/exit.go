// Package exit carries exit codes with errors through the command line: 0 done, 1 failed, 2 wrong usage. It prints nothing.
package exit

import (
	"fmt"

	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Exit codes of every command.
const (
	OK     = 0
	Failed = 1
	Usage  = 2
)

// Error carries an exit code with an error, which may be nil when everything was printed already.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap gives the error beneath.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is wrong usage: try is a command line that works.
func Usagef(try, format string, a ...any) error {
	return &Error{Code: Usage, Err: opererr.New("usage", fmt.Errorf(format, a...), "try: "+try)}
}
