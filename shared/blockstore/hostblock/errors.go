package hostblock

import (
	"context"
	"errors"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// sentinels are the errors callers compare with; their places here are their numbers in messages.
func sentinels() []error {
	return []error{
		blockstore.ErrNotFound, blockstore.ErrExists, blockstore.ErrNoSpace, blockstore.ErrUnavailable, blockstore.ErrDenied,
		blockstore.ErrInvalid, blockstore.ErrTooLarge, blockstore.ErrDamaged, blockstore.ErrKey, context.Canceled, context.DeadlineExceeded,
	}
}

// carried is an error that came over from the host.
type carried struct {
	text string
	is   []error
}

// Error is the host's text.
func (e *carried) Error() string { return e.text }

// Unwrap yields the sentinels the host's error was, and its hint.
func (e *carried) Unwrap() []error { return e.is }

func (w *writer) error(err error) {
	if err == nil {
		w.bytes(nil)
		w.text("")
		return
	}
	var numbers []byte
	for i, s := range sentinels() {
		if errors.Is(err, s) {
			numbers = append(numbers, byte(i))
		}
	}
	w.bytes(numbers)
	text := err.Error()
	if text == "" {
		text = "failed without a word"
	}
	w.text(text)
	w.text(opererr.HintOf(err))
}

func (r *reader) error() error {
	numbers, text := r.bytes(), r.text()
	if r.err != nil || text == "" {
		if len(numbers) > 0 {
			r.fail("an error lacks its text")
		}
		return nil
	}
	hint := r.text()
	e := &carried{text: text}
	all := sentinels()
	for _, n := range numbers {
		if int(n) >= len(all) {
			r.fail("an error is of no known kind")
			return nil
		}
		e.is = append(e.is, all[n])
	}
	if hint != "" { // found there by opererr.HintOf; the text is e's own
		e.is = append(e.is, &opererr.Error{Err: errors.New("told by the host"), Hint: hint})
	}
	return e
}
