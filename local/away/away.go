// Package away is what a program is while its database cannot be reached: its ports say so to whoever asks.
package away

import (
	"io"
	"net/http"
	"strings"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Handler answers everything while the site is not open, to each kind of caller in the form it knows. Why it is not open is in the
// log: the reason may name hosts.
func Handler(w http.ResponseWriter, r *http.Request) {
	const text = "The database cannot be reached now; try again."
	w.Header().Set("Cache-Control", "no-store")
	switch path := r.URL.Path; {
	case path == "/live":
		httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "OK"})
		return
	case path == "/monitor/health" || path == "/health":
		httpx.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "DOWN", "mms_db": "cannot be reached"})
		return
	case strings.HasPrefix(path, "/agents/"):
		w.Header().Set("Retry-After", "5")
		w.Header().Set("Content-Type", wire.ContentType)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(wire.EncodeProblem(wire.Problem{Reason: text, Code: wire.CodeUnavailable}))
		return
	case strings.HasPrefix(path, "/api/"):
		w.Header().Set("Retry-After", "10")
		httpx.WriteJSON(w, http.StatusServiceUnavailable, map[string]any{
			"error": http.StatusServiceUnavailable, "errorCode": "SERVICE_UNAVAILABLE", "reason": http.StatusText(http.StatusServiceUnavailable),
			"detail": text, "parameters": []string{},
		})
		return
	}
	w.Header().Set("Retry-After", "5")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, text+"\n")
}
