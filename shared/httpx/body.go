package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

// StatusClientGone is logged and counted when the client hung up before its answer.
const StatusClientGone = 499

// Status is the one table from errors to HTTP statuses. What it does not know is 500.
func Status(err error) int {
	var tooBig *http.MaxBytesError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, docstore.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, docstore.ErrExists), errors.Is(err, docstore.ErrConflict):
		return http.StatusConflict
	case errors.As(err, &tooBig), errors.Is(err, docstore.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, docstore.ErrUnavailable), errors.Is(err, docstore.ErrOutcomeUnknown):
		return http.StatusServiceUnavailable
	case errors.Is(err, docstore.ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return StatusClientGone
	}
	return http.StatusInternalServerError
}

// ReadBody reads a whole body of at most limit bytes. A longer one fails with *http.MaxBytesError, which Status maps to 413,
// and the connection is closed after the answer. A body that announces its length is refused before it is read.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, &http.MaxBytesError{Limit: limit}
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		return nil, fmt.Errorf("read the request body: %w", err)
	}
	return buf.Bytes(), nil
}

// Drain reads a small body that nobody wants, so that the connection can be used again.
func Drain(r *http.Request) {
	if r.Body != nil {
		_, _ = io.CopyN(io.Discard, r.Body, 256<<10)
	}
}

// WriteJSON answers v as JSON. A value that cannot be encoded is a programming error and panics, for Chain to answer 500.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Errorf("encode the answer: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}
