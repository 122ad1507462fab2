package wasmhost

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/obs"
)

const (
	stallLimit = 2 * time.Minute // a client that takes nothing for so long is cut off
	sendPiece  = 256 << 10
)

var errNoObjects = errors.New("it may not answer with objects")

// sendObject sends what a guest's answer named. The instance is free by then: a download may take hours.
func (h *Host) sendObject(w http.ResponseWriter, r *http.Request, a *guesthttp.Answer) {
	o := a.Object
	stream, err := h.openObject(r, a)
	if err != nil {
		if r.Context().Err() != nil {
			return
		}
		h.o.Log.ErrorContext(r.Context(), "an object cannot be sent", obs.KeyComponent, h.o.Name, obs.KeyFile, o.Key, obs.KeyErr, err)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "The file cannot be read at the moment. Try again in a minute.", http.StatusServiceUnavailable)
		return
	}
	defer func() { _ = stream.Close() }()
	head(w, a)
	to := &unhurried{w: w, rc: http.NewResponseController(w)}
	n, err := io.CopyBuffer(to, io.LimitReader(stream, o.Length), make([]byte, sendPiece))
	h.m.sent.Add(float64(n))
	if n < o.Length { // cut the connection so that nobody takes it for the whole
		if err != nil && r.Context().Err() == nil {
			h.o.Log.WarnContext(r.Context(), "an object was not sent to its end", obs.KeyComponent, h.o.Name, obs.KeyFile, o.Key, obs.KeyBytes, n, obs.KeyErr, err)
		}
		panic(http.ErrAbortHandler)
	}
	if o.Note != "" && h.o.Delivered != nil {
		h.o.Delivered(r.Context(), o.Note)
	}
}

// openObject opens it, unless the answer's header promises something else.
func (h *Host) openObject(r *http.Request, a *guesthttp.Answer) (io.ReadCloser, error) {
	if h.o.Objects == nil {
		return nil, errNoObjects
	}
	if n := http.Header(a.Header).Get("Content-Length"); n != "" && n != strconv.FormatInt(a.Object.Length, 10) {
		return nil, fmt.Errorf("%w: %d bytes of an object where its header says %s", errProtocol, a.Object.Length, n)
	}
	return h.o.Objects(r.Context(), *a.Object)
}

// unhurried gives every piece its own time.
type unhurried struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Write implements io.Writer.
func (u *unhurried) Write(p []byte) (int, error) {
	_ = u.rc.SetWriteDeadline(time.Now().Add(stallLimit)) // not every transport has one
	return u.w.Write(p)
}
