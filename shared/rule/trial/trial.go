// Package trial says what a configuration would have done, and why somebody was not told. Run takes a configuration through
// the past with the same Judge and Advance that watch the present; Explain compares what happened in a window of time with
// what every configuration asks for. It is pure: what is known of the past is handed in.
//
// It may import shared/model, shared/catalog and shared/rule only.
package trial

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Trial is what a configuration would have done between two times.
type Trial struct {
	From, To time.Time
	Asked    time.Time      // the beginning that was asked for; before From where nothing that old is kept
	Step     time.Duration  // distance of the judgements; 0: at every event
	Basis    string         // what was judged, in a sentence: "Points of 5 minutes, kept since …"
	Targets  []TargetTrial  // those on which it would have opened first, then those it would only have watched, then the quiet ones
	Quiet    int            // targets that are not listed: nothing happened on them
	Opened   int            // alerts that would have opened
	Brief    int            // that would have ended before anybody was told
	Count    map[string]int // notifications that would have been sent, by channel: EMAIL, SLACK, ...
	Total    int            // all of them
	Unknown  []string       // what could not be tried and why, in sentences: "cannot be tried on history: ..."
	Notes    []string       // bounds that were reached and people without an address, in sentences
}

// TargetTrial is what would have happened on one target.
type TargetTrial struct {
	Target    model.Target
	Spans     []Span // oldest first
	Times     []time.Time
	Values    []float64 // of metric configurations, in Units, one for each of Times; NaN is a gap
	Units     string
	Threshold *float64 // in Units
}

// Span is one alert that would have been.
type Span struct {
	Since         time.Time // the condition held from here on
	Opened        time.Time // zero: it ended before anybody had to be told
	Closed        time.Time // zero: it still holds at the end of the trial
	Text          string
	Worst         *model.Reading
	Muted         string // why nobody would have been told, at the end of it
	Notifications []Planned
	More          int // notifications that are counted but not listed
}

// Planned is one message that would have been sent.
type Planned struct {
	At         time.Time
	Kind       model.DeliveryKind
	NotifierID model.ID
	Channel    string // that sends it
	Recipient  string // what may be shown of where it goes
}

// WhyQuery asks why nobody, or somebody, was not told in a window of time.
type WhyQuery struct {
	GroupID   model.ID
	From, To  time.Time
	Host      string // a host's id, or its host:port; "" for all
	ClusterID model.ID
	ConfigID  model.ID // only this configuration
	Username  string   // only what this person would have got
}

// Verdict is what a Reason comes to.
type Verdict string

// The verdicts, from what was told to what was never looked at.
const (
	Paged           Verdict = "PAGED"
	Pending         Verdict = "DELIVERY_PENDING"
	Failed          Verdict = "DELIVERY_FAILED"
	NoAddress       Verdict = "NO_ADDRESS"
	LacksRole       Verdict = "LACKS_ROLE"
	NotMeant        Verdict = "OTHERS_ARE_TOLD" // it tells others than this person
	NoNotifications Verdict = "NO_NOTIFICATIONS"
	Muted           Verdict = "MUTED"
	Acknowledged    Verdict = "ACKNOWLEDGED"
	BeforeDelay     Verdict = "ENDED_BEFORE_DELAY"
	StillTracking   Verdict = "TRACKING"
	NotDue          Verdict = "NOT_DUE" // open, but this notification's delay or next repeat was still to come
	NotCrossed      Verdict = "THRESHOLD_NOT_CROSSED"
	NotBad          Verdict = "CONDITION_DID_NOT_HOLD"
	NoData          Verdict = "NO_DATA"
	AgentDown       Verdict = "AGENT_DOWN"
	NotRunning      Verdict = "EVALUATION_NOT_RUNNING"
	NotMatched      Verdict = "DID_NOT_MATCH"
	AlertsOff       Verdict = "ALERTS_OFF_FOR_HOST"
	Disabled        Verdict = "DISABLED"
	TooNew          Verdict = "CONFIGURATION_TOO_NEW"
	NotRaised       Verdict = "NEVER_RAISED" // nothing in this build raises the event type
)

// Reason is why a configuration told somebody or did not.
type Reason struct {
	ConfigID  model.ID // empty: the reason is not about one configuration
	Global    bool
	EventType model.EventType
	Label     string
	Target    model.Target // that it is about; zero: about all of them
	AlertID   model.ID
	Verdict   Verdict
	At        time.Time      // of what the text tells; zero: of the whole window
	Text      string         // a sentence
	Nearest   *model.Reading // of NotCrossed: the value nearest to the threshold
	Threshold *model.Reading
	Details   []string // more of the same, in sentences
}
