package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// ServerCheck is what a trial found about the server.
type ServerCheck struct {
	URL      string `json:"url"`
	OK       bool   `json:"ok"`
	Error    string `json:"error,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	ClockMS  int64  `json:"clockMs"` // this machine's clock minus the server's
	Standby  bool   `json:"standby"`
	TookMS   int64  `json:"tookMs"`
	Protocol int32  `json:"protocol"`
}

// NewServerCheck makes the outcome of a configuration call: what the server told, or why it told nothing.
func NewServerCheck(url string, took, offset time.Duration, state string, err error) ServerCheck {
	s := ServerCheck{URL: url, TookMS: took.Milliseconds(), Protocol: wire.Version}
	if err != nil {
		s.Error, s.Remedy = err.Error(), call.Remedy(err)
		return s
	}
	s.OK, s.ClockMS, s.Standby = true, -offset.Milliseconds(), state == string(model.AgentStandby)
	return s
}

// Text is the report for people; what is what the server wants done.
func (s *ServerCheck) Text(what string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s server %s", Mark(s.OK), s.URL)
	if s.OK {
		fmt.Fprintf(&b, "  %d ms, %s, clock %+d ms", s.TookMS, what, s.ClockMS)
		if s.Standby {
			b.WriteString(", another agent is active")
		}
	} else {
		fmt.Fprintf(&b, "\n       %s", s.Error)
		if s.Remedy != "" {
			fmt.Fprintf(&b, "\n     > %s", s.Remedy)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// Mark is how a line of a report begins.
func Mark(ok bool) string {
	if ok {
		return "ok  "
	}
	return "FAIL"
}

// CheckID is the identity of the agent that a trial speaks for: that of the folder, or a new one where none ran yet.
func CheckID(dir string) string {
	id, err := ReadID(dir)
	if err != nil { // also what cannot be read: that is not what a trial asks
		return string(model.NewID())
	}
	return id
}

// errCheck is returned when something is missing; what it is was written.
var errCheck = errors.New("something is missing: see above")

// WriteCheck writes a report, as JSON or as text, and fails unless everything is in order.
func WriteCheck(w io.Writer, report any, text string, asJSON, ok bool) (err error) {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		_, err = io.WriteString(w, text)
	}
	if err == nil && !ok {
		err = errCheck
	}
	return err
}
