package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/model"
)

const (
	healthFile = "health"
	// ConfLimit is how long a configuration call may take.
	ConfLimit = 20 * time.Second
	// overdue is how much later than announced the next call may come. It covers a call that runs into its limit.
	overdue = ConfLimit + time.Minute
)

// healthNote is what a running agent leaves in its state folder for `heartwood healthcheck`.
type healthNote struct {
	At      time.Time `json:"at"`   // of the last configuration call
	Next    time.Time `json:"next"` // when another is due
	State   string    `json:"state,omitempty"`
	Error   string    `json:"error,omitempty"`
	Refused bool      `json:"refused,omitempty"`
}

// NoteHealth writes down how the last configuration call went: its error, the state the server told, and when another is due.
func NoteHealth(dir string, now time.Time, wait time.Duration, state string, err error) error {
	n := healthNote{At: now, Next: now.Add(wait), State: state}
	if err != nil {
		n.Error = err.Error()
		var refused *call.Refusal
		n.Refused = errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.RetryAfter == 0
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(dir, healthFile), b)
}

// Health reads how the agent with a state folder is. An agent whose server is away is
// well: it keeps what it collects. The text is for people.
func Health(dir string, now time.Time) (string, error) {
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
