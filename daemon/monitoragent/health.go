package monitoragent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/push"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

const (
	healthFile = "health"
	// overdue is how much later than announced the next call may come. It covers a call that runs into its limit.
	overdue = confLimit + time.Minute
)

// healthNote is what a running agent leaves in its state folder for `heartwood healthcheck`.
type healthNote struct {
	At      time.Time `json:"at"`   // of the last configuration call
	Next    time.Time `json:"next"` // when another is due
	State   string    `json:"state,omitempty"`
	Error   string    `json:"error,omitempty"`
	Refused bool      `json:"refused,omitempty"`
}

// noteHealth writes down how the last configuration call went.
func (a *Agent) noteHealth(err error, wait time.Duration) {
	now := a.now()
	n := healthNote{At: now, Next: now.Add(wait)}
	if err != nil {
		n.Error = err.Error()
		var refused *push.Refusal
		n.Refused = errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.RetryAfter == 0
	}
	a.mu.Lock()
	n.State = a.conf.State
	a.mu.Unlock()
	b, err := json.Marshal(n)
	if err == nil {
		err = replaceFile(filepath.Join(a.stateDir, healthFile), b)
	}
	if err != nil {
		a.log.Warn("the note for health checks was not written", obs.KeyErr, err)
	}
}

// Health reads how the agent with a state folder (as configured; empty: the default one) is. An agent whose server is away is
// well: it keeps what it collects. The text is for people.
func Health(dir string, now time.Time) (string, error) {
	dir = stateDir(dir)
	b, err := os.ReadFile(filepath.Join(dir, healthFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no agent has called its server yet from %s", dir)
	}
	if err != nil {
		return "", err
	}
	var n healthNote
	if err := json.Unmarshal(b, &n); err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Join(dir, healthFile), err)
	}
	switch {
	case now.After(n.Next.Add(overdue)):
		return "", fmt.Errorf("the agent has not called its server since %s", n.At.UTC().Format(time.RFC3339))
	case n.Refused:
		return "", fmt.Errorf("the server refuses the agent: %s", n.Error)
	case n.Error != "":
		return "running; the server is away: " + n.Error, nil
	case n.State == string(model.AgentStandby):
		return "standing by", nil
	}
	return "running", nil
}
