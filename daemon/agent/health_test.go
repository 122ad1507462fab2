package agent

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/model"
)

func TestHealthOfAnAgent(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		state string
		err   error
		later time.Duration
		well  bool
		want  string
	}{
		"it works":                         {string(model.AgentActive), nil, time.Minute, true, "running"},
		"it stands by":                     {string(model.AgentStandby), nil, time.Minute, true, "standing by"},
		"its server is away":               {"", errors.New("connection refused"), time.Minute, true, "away"},
		"its server is busy":               {"", &call.Refusal{Status: http.StatusServiceUnavailable, Reason: "busy"}, time.Minute, true, "away"},
		"its key is wrong":                 {"", &call.Refusal{Status: http.StatusUnauthorized, Reason: "no such key"}, time.Minute, false, "no such key"},
		"it was told to come later":        {"", &call.Refusal{Status: http.StatusTooManyRequests, RetryAfter: time.Minute}, time.Minute, true, "away"},
		"it has not called for three more": {string(model.AgentActive), nil, 4 * time.Minute, false, "since 2026-11-20T10:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := NoteHealth(dir, now, time.Minute, c.state, c.err); err != nil {
				t.Fatal(err)
			}
			said, err := Health(dir, now.Add(c.later))
			if err != nil {
				said = err.Error()
			}
			if (err == nil) != c.well || !strings.Contains(said, c.want) {
				t.Errorf("%q, %v", said, err)
			}
		})
	}
	t.Run("none ran", func(t *testing.T) {
		if _, err := Health(t.TempDir(), now); err == nil {
			t.Error("it is well")
		}
	})
	t.Run("its note is no note", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, healthFile), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Health(dir, now); err == nil {
			t.Error("it is well")
		}
	})
}
