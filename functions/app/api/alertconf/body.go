package alertconf

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// body is what POST and PUT take. Clients send back what they read: what cannot be set is ignored, but for ids, which must
// not contradict the path.
type body struct {
	rest.Ignored
	ID            string                       `json:"id"`
	GroupID       string                       `json:"groupId"`
	TypeName      json.RawMessage              `json:"typeName"` // deprecated
	EventType     string                       `json:"eventTypeName"`
	Enabled       bool                         `json:"enabled"` // absent is false
	Matchers      []matcherBody                `json:"matchers"`
	Metric        *metricBody                  `json:"metricThreshold"`
	Threshold     *thresholdBody               `json:"threshold"`
	Notifications []map[string]json.RawMessage `json:"notifications"`
	Created       json.RawMessage              `json:"created"`
	Updated       json.RawMessage              `json:"updated"`
	Note          string                       `json:"note"` // ours, as the rest
	Origin        json.RawMessage              `json:"origin"`
	Warnings      json.RawMessage              `json:"warnings"`
}

// globalBody is body for a global configuration.
type globalBody struct {
	body
	ForAllGroups *bool    `json:"forAllGroups"`
	GroupIDs     []string `json:"groupIds"`
	Tags         []string `json:"tags"`
}

type matcherBody struct {
	Field    string `json:"fieldName"`
	Operator string `json:"operator"`
	Value    string `json:"value"`
}

type thresholdBody struct {
	Operator string  `json:"operator"`
	Value    float64 `json:"threshold"` // clients leave 0 out
	Units    string  `json:"units"`
}

type metricBody struct { // does not embed thresholdBody: the decoder would name it in what it says of a wrong type
	Metric   string  `json:"metricName"`
	Mode     string  `json:"mode"`
	Operator string  `json:"operator"`
	Value    float64 `json:"threshold"`
	Units    string  `json:"units"`
}

// input is a configuration as a client wrote it.
type input struct {
	config model.AlertConfig
	given  []map[string]bool // of each notification: the fields it has
	faults []rest.Fault      // that only the body shows
}

func (in *input) fault(path, code, format string, args ...any) {
	in.faults = append(in.faults, rest.Fault{Attribute: path, Code: code, Detail: fmt.Sprintf(format, args...) + "."})
}

// read takes the request's body apart.
func (c *call) read() (*input, error) {
	var b globalBody
	if c.global {
		if err := c.Decode(&b); err != nil {
			return nil, err
		}
	} else if err := c.Decode(&b.body); err != nil {
		return nil, err
	}
	return b.input(c.global), nil
}

// input makes a configuration of a body. What is wrong with its shape is kept, to be told with the rest.
func (b *globalBody) input(global bool) *input {
	in := &input{config: model.AlertConfig{
		ID: model.ID(b.ID), EventType: model.EventType(strings.TrimSpace(b.EventType)), Enabled: b.Enabled, Note: strings.TrimSpace(b.Note),
	}}
	cfg := &in.config
	for _, m := range b.Matchers {
		cfg.Matchers = append(cfg.Matchers, model.Matcher{Field: m.Field, Operator: m.Operator, Value: m.Value})
	}
	if b.Threshold != nil {
		cfg.Threshold = &model.Threshold{Operator: b.Threshold.Operator, Value: b.Threshold.Value, Units: b.Threshold.Units}
	}
	if m := b.Metric; m != nil {
		cfg.Metric = &model.MetricThreshold{Metric: m.Metric, Threshold: model.Threshold{Operator: m.Operator, Value: m.Value, Units: m.Units}}
		switch m.Mode {
		case "", "AVERAGE":
		case "TOTAL":
			in.fault("metricThreshold.mode", "TOTAL_MODE_DEPRECATED", "metricThreshold.mode TOTAL is no longer supported: use AVERAGE")
		default:
			in.fault("metricThreshold.mode", "INVALID_ENUM_VALUE", "metricThreshold.mode must be AVERAGE")
		}
	}
	for i, raw := range b.Notifications {
		n, given := in.notification(fmt.Sprintf("notifications[%d]", i), raw)
		cfg.Notifications = append(cfg.Notifications, n)
		in.given = append(in.given, given)
	}
	if global {
		if b.ForAllGroups == nil {
			in.fault("forAllGroups", "MISSING_ATTRIBUTE", "The required attribute forAllGroups was not specified")
		} else {
			cfg.ForAllGroups = *b.ForAllGroups
		}
		for _, id := range b.GroupIDs {
			cfg.GroupIDs = append(cfg.GroupIDs, model.ID(id))
		}
		cfg.Tags = b.Tags
	}
	return in
}

// foreign are fields of notifications that the Public API knows and no channel here has.
var foreign = []string{
	"teamId", "teamName", "webhookHeadersTemplate", "webhookBodyTemplate", "datadogApiKey", "datadogRegion", "notificationToken", "roomName",
	"flowdockApiToken", "flowName", "orgName",
}

// spelling finds a notification's field in any case, as the other parts of bodies are read.
func spelling(key string) string {
	known := []string{"typeName", "id", "notifierId", "delayMin", "intervalMin", "emailEnabled", "smsEnabled", "roles", "links"}
	for _, ch := range notify.Channels() {
		for _, f := range ch.Fields {
			known = append(known, f.Name)
		}
	}
	for _, name := range slices.Concat(known, foreign) {
		if strings.EqualFold(name, key) {
			return name
		}
	}
	return ""
}

// notification reads one notification, whose fields depend on its channel. What its channel does not have is kept all the same:
// the channel's check says so, unless it says nothing.
func (in *input) notification(path string, raw map[string]json.RawMessage) (n model.Notification, given map[string]bool) {
	given = map[string]bool{}
	values := map[string]json.RawMessage{}
	var unknown []string
	for key, v := range raw {
		name := spelling(key)
		if name == "" {
			unknown = append(unknown, key)
			continue
		}
		if string(v) != "null" {
			values[name], given[name] = v, true
		}
	}
	sort.Strings(unknown)
	for _, key := range unknown {
		in.fault(path+"."+key, "INVALID_ATTRIBUTE", "Invalid attribute %s specified in %s", key, path)
	}
	read := func(name string, into any) {
		v, ok := values[name]
		delete(values, name)
		if ok && json.Unmarshal(v, into) != nil {
			in.fault(path+"."+name, "INVALID_JSON_ATTRIBUTE", "Received JSON for the %s.%s attribute has the wrong type", path, name)
		}
	}
	minutes := func(name string) int {
		var f float64
		before := len(in.faults)
		read(name, &f)
		if f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
			in.fault(path+"."+name, "INVALID_JSON_ATTRIBUTE", "%s.%s must be a whole number of minutes", path, name)
		}
		if len(in.faults) > before {
			return 5 // passes for both: one fault of a field is enough
		}
		return int(f)
	}
	var id, other string
	read("typeName", &n.Channel)
	read("notifierId", &id)
	read("id", &other)
	if id == "" {
		id = other
	}
	n.ID = model.ID(id)
	n.DelayMin, n.IntervalMin = minutes("delayMin"), minutes("intervalMin")
	read("emailEnabled", &n.EmailEnabled)
	read("smsEnabled", &n.SMSEnabled)
	read("roles", &n.Roles)
	delete(values, "links")
	ch, ok := notify.ChannelOf(n.Channel)
	if ok {
		n.Channel = ch.Name // aliases are understood and not kept
		if !ch.People {     // some clients always send them
			n.EmailEnabled, n.SMSEnabled = false, false
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		var s string
		read(name, &s)
		if s == "" {
			continue
		}
		if f, has := ch.Field(name); ok && has && f.Secret {
			if n.Secrets == nil {
				n.Secrets = map[string]model.Secret{}
			}
			n.Secrets[name] = model.Secret(s)
			continue
		}
		if n.Fields == nil {
			n.Fields = map[string]string{}
		}
		n.Fields[name] = s
	}
	return n, given
}

// merge gives the input's notifications what they keep of the stored ones: secrets sent back masked, and, for clients that do
// not know a channel's fields, fields that are left out. Those without a known id get one.
func (in *input) merge(have []model.Notification) {
	next := notify.KeepAllMasked(have, in.config.Notifications)
	seen := map[model.ID]bool{}
	for i := range next {
		n := &next[i]
		j := slices.IndexFunc(have, func(h model.Notification) bool { return h.ID == n.ID })
		if j < 0 || seen[n.ID] {
			n.ID = model.NewID()
			continue
		}
		seen[n.ID] = true
		if old := &have[j]; old.Channel == n.Channel {
			keepAbsent(old, n, in.given[i])
		}
	}
	in.config.Notifications = next
}

// keepAbsent takes over fields of a channel that the body leaves out.
func keepAbsent(old, n *model.Notification, given map[string]bool) {
	fields, secrets := map[string]string{}, map[string]model.Secret{}
	for name, v := range old.Fields {
		if !given[name] {
			fields[name] = v
		}
	}
	for name, v := range old.Secrets {
		if !given[name] {
			secrets[name] = v
		}
	}
	for name, v := range n.Fields {
		fields[name] = v
	}
	for name, v := range n.Secrets {
		secrets[name] = v
	}
	if len(fields) > 0 {
		n.Fields = fields
	}
	if len(secrets) > 0 {
		n.Secrets = secrets
	}
}

// Entity renders a configuration; secrets are masked.
func Entity(cfg *model.AlertConfig) rest.Object {
	o := rest.Object{
		"id": cfg.ID, "eventTypeName": cfg.EventType, "typeName": TypeName(cfg.EventType), "enabled": cfg.Enabled,
		"created": rest.ISOTime(cfg.Created), "updated": rest.ISOTime(cfg.Updated),
	}
	rest.Put(o, "groupId", cfg.GroupID)
	rest.Put(o, "note", cfg.Note)
	rest.Put(o, "origin", cfg.Origin)
	matchers := make([]rest.Object, len(cfg.Matchers))
	for i, m := range cfg.Matchers {
		matchers[i] = rest.Object{"fieldName": m.Field, "operator": m.Operator, "value": m.Value}
	}
	o["matchers"] = matchers
	notifications := make([]rest.Object, len(cfg.Notifications))
	for i := range cfg.Notifications {
		notifications[i] = notificationEntity(&cfg.Notifications[i])
	}
	o["notifications"] = notifications
	if t := cfg.Threshold; t != nil {
		o["threshold"] = threshold(*t)
	}
	if m := cfg.Metric; m != nil {
		t := threshold(m.Threshold)
		t["metricName"], t["mode"] = m.Metric, "AVERAGE"
		if m.Units == "" {
			t["units"] = "RAW"
		}
		o["metricThreshold"] = t
	}
	if cfg.GroupID == "" {
		o["forAllGroups"] = cfg.ForAllGroups
		groups := make([]string, len(cfg.GroupIDs))
		for i, id := range cfg.GroupIDs {
			groups[i] = string(id)
		}
		o["groupIds"], o["tags"] = groups, append([]string{}, cfg.Tags...)
	}
	return o
}

func threshold(t model.Threshold) rest.Object {
	o := rest.Object{"operator": t.Operator, "threshold": t.Value}
	rest.Put(o, "units", t.Units)
	return o
}

func notificationEntity(n *model.Notification) rest.Object {
	o := rest.Object{"id": n.ID, "notifierId": n.ID, "typeName": n.Channel, "delayMin": n.DelayMin, "intervalMin": n.IntervalMin}
	ch, _ := notify.ChannelOf(n.Channel)
	if ch.People {
		o["emailEnabled"], o["smsEnabled"] = n.EmailEnabled, n.SMSEnabled
	}
	if len(n.Roles) > 0 {
		o["roles"] = n.Roles
	}
	for name, v := range n.Fields {
		o[name] = v
	}
	for name, s := range n.Secrets {
		o[name] = notify.Mask(s)
	}
	return o
}
