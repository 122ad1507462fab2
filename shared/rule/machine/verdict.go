// Package machine is the life of an alert: it takes an alert and a verdict and says what the alert becomes and who is to be
// told (operations.md 4.1 and 4.2). It is pure: the same values always give the same answer.
//
// It may import shared/model and shared/rule/kind only.
package machine

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// State is what a verdict comes to.
type State int

// The states. Gone: the target is none of the configuration's (any more).
const (
	Good State = iota + 1
	Bad
	Unknown
	Gone
)

// String is the state as a word.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Bad:
		return "bad"
	case Unknown:
		return "unknown"
	case Gone:
		return "gone"
	}
	return "no verdict"
}

// Verdict is what a configuration says of one target.
type Verdict struct {
	GroupID model.ID // empty: of the site
	Tags    []string // of the group
	Target  model.Target
	State   State
	Since   time.Time      // of Bad: since when it has been so, as far as the facts tell
	Value   *model.Reading // in the threshold's units
	Samples []model.Sample // behind Value, in the threshold's units
	Text    string         // of Bad: what is wrong, in a sentence
	NoData  bool           // of Bad and Unknown: the metric itself stopped arriving though its host answers
	Why     string         // of Unknown and Gone: the reason, as in "the monitoring agent is down"
}

// Due is a notification to be sent. N tells those of a kind apart: with the alert, the kind and the notifier it is the
// delivery's identity.
type Due struct {
	Kind         model.DeliveryKind
	N            int
	Notification model.Notification
}
