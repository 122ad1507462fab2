package httpx

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// RunPass answers "POST …/{name}": it runs the named pass if it is due, for schedules outside of the process. The caller must
// show the token; an empty token admits nobody.
func RunPass(token model.Secret, passes func() []store.Pass, now func() time.Time, onError func(ctx context.Context, name string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		shown := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" || subtle.ConstantTimeCompare([]byte(shown), []byte(token.Reveal())) != 1 {
			http.Error(w, "passes are started by the server itself, or with its pass token", http.StatusForbidden)
			return
		}
		for _, p := range passes() {
			if p.Name != r.PathValue("name") {
				continue
			}
			if err := p.Run(r.Context(), now()); err != nil {
				onError(r.Context(), p.Name, err)
				http.Error(w, "the pass failed, request "+RequestID(r.Context()), Status(err))
				return
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		http.Error(w, "there is no such pass", http.StatusNotFound)
	}
}
