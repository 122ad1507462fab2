package away

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestAwayAnswersEachCallerInItsForm(t *testing.T) {
	for path, want := range map[string]struct {
		status int
		kind   string
		text   string
	}{
		"/live":                   {200, "application/json", `"OK"`},
		"/monitor/health":         {503, "application/json", `"status":"DOWN"`},
		"/api/public/v1.0/groups": {503, "application/json", `"errorCode":"SERVICE_UNAVAILABLE"`},
		wire.PathPings:            {503, wire.ContentType, wire.CodeUnavailable},
		"/g/x/deployment":         {503, "text/plain", "try again"},
	} {
		w := httptest.NewRecorder()
		Handler(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want.status || !strings.HasPrefix(w.Header().Get("Content-Type"), want.kind) || !strings.Contains(w.Body.String(), want.text) || w.Header().Get("Cache-Control") != "no-store" && want.kind != wire.ContentType {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
	}
}
