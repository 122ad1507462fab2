package model

import "time"

// AlertStatus is where an alert stands in its life (public-api.md 2.12).
type AlertStatus string

// The states of an alert: the condition holds but the shortest delay has not passed; people are told; it holds no longer;
// its configuration or its target is gone.
const (
	AlertTracking  AlertStatus = "TRACKING"
	AlertOpen      AlertStatus = "OPEN"
	AlertClosed    AlertStatus = "CLOSED"
	AlertCancelled AlertStatus = "CANCELLED"
)

// Live reports whether an alert may still change by itself.
func (s AlertStatus) Live() bool { return s == AlertTracking || s == AlertOpen }

// AlertConfig is a rule: what to look for, where, and whom to tell (operations.md 4.1).
type AlertConfig struct {
	ID            ID               `bson:"id"`
	GroupID       ID               `bson:"groupId,omitempty"` // empty: a global configuration
	EventType     EventType        `bson:"eventType"`
	Enabled       bool             `bson:"enabled"`
	Matchers      []Matcher        `bson:"matchers,omitempty"`  // all must hold
	Metric        *MetricThreshold `bson:"metric,omitempty"`    // of OUTSIDE_METRIC_THRESHOLD
	Threshold     *Threshold       `bson:"threshold,omitempty"` // of event types that count something
	Notifications []Notification   `bson:"notifications,omitempty"`
	Created       time.Time        `bson:"created"`
	Updated       time.Time        `bson:"updated"` // of the last change of the rule or its being enabled: earlier events do not page
	Origin        string           `bson:"origin,omitempty"`
	Note          string           `bson:"note,omitempty"` // what to do about it: shown on the alert and sent along

	// Of global configurations: the groups it applies to.
	ForAllGroups bool     `bson:"forAllGroups,omitempty"`
	GroupIDs     []ID     `bson:"groupIds,omitempty"`
	Tags         []string `bson:"tags,omitempty"` // groups with any of these
}

// Origins of configurations that nobody wrote by hand.
const (
	OriginDefault     = "default"     // made with the group
	OriginRecommended = "recommended" // of the recommended set
)

// Covers reports whether the configuration applies to a group.
func (c *AlertConfig) Covers(g *Group) bool {
	if c.GroupID != "" {
		return c.GroupID == g.ID
	}
	if c.ForAllGroups {
		return true
	}
	for _, id := range c.GroupIDs {
		if id == g.ID {
			return true
		}
	}
	for _, tag := range c.Tags {
		for _, have := range g.Tags {
			if tag == have {
				return true
			}
		}
	}
	return false
}

// Matcher narrows a configuration to some hosts, replica sets or clusters. Field and Operator are spelled as in the Public API.
type Matcher struct {
	Field    string `bson:"field"`
	Operator string `bson:"operator"`
	Value    string `bson:"value"`
}

// Comparisons of thresholds.
const (
	GreaterThan = "GREATER_THAN"
	LessThan    = "LESS_THAN"
)

// Threshold bounds a count or a measured value. Units is "" or RAW for plain numbers.
type Threshold struct {
	Operator string  `bson:"operator"`
	Value    float64 `bson:"value"`
	Units    string  `bson:"units,omitempty"`
}

// MetricThreshold bounds the average of a measurement's last points.
type MetricThreshold struct {
	Metric    string `bson:"metric"` // a name of the catalogue, or a classic metricName
	Threshold `bson:",inline"`
}

// Notification is one way to tell somebody. Which fields a channel has, and which of them are secret, is in the table of
// shared/notify; Fields and Secrets are keyed by the Public API's names of them.
type Notification struct {
	ID           ID                `bson:"id"` // notifierId; kept when the configuration is changed
	Channel      string            `bson:"channel"`
	DelayMin     int               `bson:"delayMin"`
	IntervalMin  int               `bson:"intervalMin"`
	EmailEnabled bool              `bson:"emailEnabled,omitempty"` // of GROUP, ORG, USER
	SMSEnabled   bool              `bson:"smsEnabled,omitempty"`
	Roles        []Role            `bson:"roles,omitempty"`
	Fields       map[string]string `bson:"fields,omitempty"`
	Secrets      map[string]Secret `bson:"-"` // sealed apart by the store
}

// Reading is a measured value with its unit, spelled as in the Public API.
type Reading struct {
	Number float64 `bson:"number"`
	Units  string  `bson:"units"`
}

// Target is what an alert is about. Its key is unique among the targets of a configuration.
type Target struct {
	Key         string `bson:"key"` // "host/<id>", "cluster/<id>", "agent/<type>/<group>", "group/<id>", "site/<what>", "event/<id>"
	HostID      HostID `bson:"hostId,omitempty"`
	HostName    string `bson:"hostName,omitempty"` // host:port
	ReplicaSet  string `bson:"replicaSet,omitempty"`
	ClusterID   ID     `bson:"clusterId,omitempty"`
	ClusterName string `bson:"clusterName,omitempty"`
	ShardName   string `bson:"shardName,omitempty"`
	AgentID     string `bson:"agentId,omitempty"`
	UserID      ID     `bson:"userId,omitempty"`
}

// Alert is one condition of one target, from when it was first seen to when it ended.
type Alert struct {
	ID        ID          `bson:"id"`
	GroupID   ID          `bson:"groupId,omitempty"` // empty: of the site
	ConfigID  ID          `bson:"configId"`
	EventType EventType   `bson:"eventType"`
	Status    AlertStatus `bson:"status"`
	Inform    bool        `bson:"inform,omitempty"` // tells of an event: never open, told once
	Target    Target      `bson:"target"`
	Global    bool        `bson:"global,omitempty"` // of a global configuration
	Tags      []string    `bson:"tags,omitempty"`
	Rule      AlertConfig `bson:"rule"` // the configuration as it was when the alert began, without secrets

	Since    time.Time `bson:"since"`              // from when the condition has held
	Created  time.Time `bson:"created"`            // when it was first seen to hold
	Opened   time.Time `bson:"opened,omitempty"`   // TRACKING became OPEN
	Updated  time.Time `bson:"updated"`            // last change that a reader sees
	Resolved time.Time `bson:"resolved,omitempty"` // CLOSED or CANCELLED
	Text     string    `bson:"text"`               // what is wrong, in a sentence

	Value       *Reading  `bson:"value,omitempty"`       // newest
	Worst       *Reading  `bson:"worst,omitempty"`       // farthest beyond the threshold
	Samples     []Sample  `bson:"samples,omitempty"`     // that the newest decision rests on
	NoDataSince time.Time `bson:"noDataSince,omitempty"` // the metric, or all news of the target, stopped arriving
	NoDataWhy   string    `bson:"noDataWhy,omitempty"`
	GoodSince   time.Time `bson:"goodSince,omitempty"` // the condition has not held since: closes when it lasts
	// Paused is how long nothing was known of the condition while it was tracked: delays leave it out.
	Paused time.Duration `bson:"paused,omitempty"`
	// HoldUntil keeps the first notification back, because another alert about the same ended only just.
	HoldUntil time.Time `bson:"holdUntil,omitempty"`

	AckUntil   time.Time `bson:"ackUntil,omitempty"`
	AckComment string    `bson:"ackComment,omitempty"`
	AckBy      string    `bson:"ackBy,omitempty"`

	LastNotified time.Time   `bson:"lastNotified,omitempty"`
	Muted        string      `bson:"muted,omitempty"` // why nobody is told now: a maintenance window or silence, by name
	Notified     []Notified  `bson:"notified,omitempty"`
	History      []AlertStep `bson:"history,omitempty"` // oldest first; the middle of a long one is left out
}

// Acknowledged reports whether somebody has taken the alert on at a time.
func (a *Alert) Acknowledged(now time.Time) bool { return a.AckUntil.After(now) }

// Sample is one point that a decision rests on.
type Sample struct {
	At    time.Time `bson:"at"`
	Value float64   `bson:"value"`
}

// Notified is how far a notification of an alert has got.
type Notified struct {
	NotifierID ID        `bson:"notifierId"`
	Count      int       `bson:"count"` // decided so far
	First      time.Time `bson:"first"`
	Last       time.Time `bson:"last"`
	Next       time.Time `bson:"next"` // when the next one is due
}

// StepKind is what happened to an alert.
type StepKind string

// What happens to alerts.
const (
	StepTracked        StepKind = "tracked"
	StepOpened         StepKind = "opened"
	StepNotified       StepKind = "notified"
	StepMuted          StepKind = "muted"
	StepUnmuted        StepKind = "unmuted"
	StepNoData         StepKind = "no data"
	StepDataAgain      StepKind = "data again"
	StepAcknowledged   StepKind = "acknowledged"
	StepUnacknowledged StepKind = "unacknowledged"
	StepClosed         StepKind = "closed"
	StepCancelled      StepKind = "cancelled"
)

// AlertStep is one entry of an alert's history.
type AlertStep struct {
	At    time.Time `bson:"at"`
	Kind  StepKind  `bson:"kind"`
	Text  string    `bson:"text,omitempty"`
	Value *Reading  `bson:"value,omitempty"`
}

// DeliveryKind is why a message is sent, spelled as in the webhook's X-MMS-Event after "alert.".
type DeliveryKind string

// Why messages are sent.
const (
	DeliverOpen        DeliveryKind = "open"
	DeliverUpdate      DeliveryKind = "update" // a repeat of open
	DeliverAcknowledge DeliveryKind = "acknowledge"
	DeliverCancel      DeliveryKind = "cancel"
	DeliverClose       DeliveryKind = "close"
	DeliverInform      DeliveryKind = "inform"
	DeliverTest        DeliveryKind = "test"
)

// DeliveryState is where a message to one recipient stands.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = "PENDING"   // to be sent, or sent again, at NextAt
	DeliveryDelivered DeliveryState = "DELIVERED" // the other side has taken it
	DeliveryFailed    DeliveryState = "FAILED"    // the other side refuses it for good, or it was tried for too long
)

// Delivery is one message to one recipient: an entry of the outbox. Its id is its idempotency key.
type Delivery struct {
	ID           string        `bson:"id"` // "<alert>/<kind>-<n>/<notifier>[/<digest of the address>]"
	AlertID      ID            `bson:"alertId"`
	GroupID      ID            `bson:"groupId,omitempty"`
	ConfigID     ID            `bson:"configId,omitempty"`
	Kind         DeliveryKind  `bson:"kind"`
	Notification Notification  `bson:"notification"` // as it was decided, its secrets sealed by the store
	Channel      string        `bson:"channel"`      // that sends it: GROUP, ORG, USER and ADMIN have become EMAIL or SMS
	Address      string        `bson:"address,omitempty"`
	State        DeliveryState `bson:"state"`
	Created      time.Time     `bson:"created"`
	NextAt       time.Time     `bson:"nextAt"` // while PENDING: when it is tried, or when a claim on it ends
	Attempts     int           `bson:"attempts"`
	LastError    string        `bson:"lastError,omitempty"` // of the last attempt; never holds a secret
	Delivered    time.Time     `bson:"delivered,omitempty"`
	Result       string        `bson:"result,omitempty"` // what the other side said
	Digest       string        `bson:"digest,omitempty"` // it went out together with others under this key
	ClaimedBy    string        `bson:"claimedBy,omitempty"`
}

// MaintenanceWindow keeps alerts of some kinds from notifying while work is done (operations.md 3.6).
type MaintenanceWindow struct {
	ID          ID          `bson:"id"`
	GroupID     ID          `bson:"groupId"`
	Start       time.Time   `bson:"start"` // of the first occurrence
	End         time.Time   `bson:"end"`   // of the first occurrence
	Types       []string    `bson:"types"` // HOST, REPLICA_SET, CLUSTER, AGENT, BACKUP
	Description string      `bson:"description,omitempty"`
	Repeat      *Recurrence `bson:"repeat,omitempty"` // nil: one-off
	Created     time.Time   `bson:"created"`
	Updated     time.Time   `bson:"updated"`
	By          string      `bson:"by,omitempty"`
}

// Recurrence says when a maintenance window comes again, on the wall clock of a time zone.
type Recurrence struct {
	Weekdays []int     `bson:"weekdays"`           // 0 is Sunday; all seven: daily
	TimeZone string    `bson:"timeZone,omitempty"` // IANA name; "" is UTC
	Until    time.Time `bson:"until,omitempty"`    // zero: for ever
}

// Silence keeps alerts of one configuration, host, replica set or kind from notifying until an end.
type Silence struct {
	ID        ID        `bson:"id"`
	GroupID   ID        `bson:"groupId"`
	ConfigID  ID        `bson:"configId,omitempty"`  // these narrow, where they are set; at least one is
	EventType EventType `bson:"eventType,omitempty"` //
	Matchers  []Matcher `bson:"matchers,omitempty"`  //
	Start     time.Time `bson:"start"`
	End       time.Time `bson:"end"`
	Comment   string    `bson:"comment,omitempty"`
	By        string    `bson:"by,omitempty"`
	Created   time.Time `bson:"created"`
}

// AlertWatch is what the evaluation remembers from one pass to the next, and what it says of itself.
type AlertWatch struct {
	LastPass  time.Time     `bson:"lastPass"`  // the time the newest pass judged
	Resumed   time.Time     `bson:"resumed"`   // when evaluation began again after an interruption: silence counts from here
	EventsTo  time.Time     `bson:"eventsTo"`  // events up to here were looked at
	Took      time.Duration `bson:"took"`      // of the newest pass
	Skipped   int64         `bson:"skipped"`   // passes that did not run at their time
	LastSkip  time.Time     `bson:"lastSkip"`  // newest of them
	Configs   int           `bson:"configs"`   // judged by the newest pass
	Hosts     int           `bson:"hosts"`     //
	Open      int           `bson:"open"`      // alerts after it
	Heartbeat time.Time     `bson:"heartbeat"` // the outbound heartbeat went out last
	BeatError string        `bson:"beatError"` //
	ClockNote string        `bson:"clockNote"` // a jump of the clock, if the newest pass saw one
	Seeded    time.Time     `bson:"seeded"`    // the site got its first configurations
}
