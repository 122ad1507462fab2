// Package windows is the Public API's resources of what steers notifications of a whole group: maintenance windows,
// third-party integrations and, beyond the documented API, silences. A window's recurrence is ours too.
package windows

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// Alerting is what these resources read and change.
type Alerting interface {
	CreateWindow(ctx context.Context, w model.MaintenanceWindow) error
	UpdateWindow(ctx context.Context, group, id model.ID, change func(*model.MaintenanceWindow) error) error
	DeleteWindow(ctx context.Context, group, id model.ID) error
	Window(ctx context.Context, group, id model.ID) (model.MaintenanceWindow, error)
	Windows(ctx context.Context, group model.ID) ([]model.MaintenanceWindow, error)
	CreateSilence(ctx context.Context, s model.Silence) error
	EndSilence(ctx context.Context, group, id model.ID, at time.Time) error
	Silence(ctx context.Context, group, id model.ID) (model.Silence, error)
	Silences(ctx context.Context, group model.ID) ([]model.Silence, error)
	Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error)
	Integration(ctx context.Context, group model.ID, channel string) (model.Notification, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	PutIntegration(ctx context.Context, group model.ID, n model.Notification) error
	DeleteIntegration(ctx context.Context, group model.ID, channel string) error
}

// Options are what these resources need from outside.
type Options struct {
	Alerting Alerting
}

// call is one request with what its handler may use.
type call struct {
	*rest.Call
	Options
}

// Routes are the routes of these resources.
func Routes(o Options) []rest.Route {
	var out []rest.Route
	add := func(method, path string, perm auth.Permission, do func(*call) (any, error)) {
		out = append(out, rest.Route{Method: method, Path: "/groups/{}" + path, Scope: rest.InGroup, Perm: perm, Do: func(c *rest.Call) (any, error) {
			return do(&call{Call: c, Options: o})
		}})
	}
	add(http.MethodGet, "/maintenanceWindows", auth.View, (*call).windows)
	add(http.MethodPost, "/maintenanceWindows", auth.EditAlerts, (*call).createWindow)
	add(http.MethodGet, "/maintenanceWindows/{}", auth.View, (*call).oneWindow)
	add(http.MethodPatch, "/maintenanceWindows/{}", auth.EditAlerts, (*call).patchWindow)
	add(http.MethodDelete, "/maintenanceWindows/{}", auth.EditAlerts, (*call).deleteWindow)
	add(http.MethodGet, "/silences", auth.View, (*call).silences)
	add(http.MethodPost, "/silences", auth.EditAlerts, (*call).createSilence)
	add(http.MethodGet, "/silences/{}", auth.View, (*call).oneSilence)
	add(http.MethodDelete, "/silences/{}", auth.EditAlerts, (*call).endSilence)
	add(http.MethodGet, "/integrations", auth.EditGroup, (*call).integrations)
	add(http.MethodGet, "/integrations/{}", auth.EditGroup, (*call).oneIntegration)
	add(http.MethodPost, "/integrations/{}", auth.EditGroup, (*call).putIntegration)
	add(http.MethodPut, "/integrations/{}", auth.EditGroup, (*call).putIntegration)
	add(http.MethodDelete, "/integrations/{}", auth.EditGroup, (*call).deleteIntegration)
	return out
}

// windowBody is the body of POST and PATCH: in PATCH what is absent stays.
type windowBody struct {
	rest.Ignored
	Start       *string         `json:"startDate"`
	End         *string         `json:"endDate"`
	Types       *[]string       `json:"alertTypeNames"`
	Description *string         `json:"description"`
	Recurrence  *recurrenceBody `json:"recurrence"` // ours
}

type recurrenceBody struct {
	Weekdays []string `json:"weekdays"`
	TimeZone string   `json:"timeZone"`
	Until    string   `json:"until"`
}

// apply puts the body into a window and lists what is wrong.
func (b *windowBody) apply(w *model.MaintenanceWindow) (faults []rest.Fault) {
	fault := func(path, code, format string, args ...any) {
		faults = append(faults, rest.Fault{Attribute: path, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	day := func(name string, s *string, into *time.Time) {
		if s == nil {
			return
		}
		t, ok := rest.ParseDate(*s)
		switch {
		case *s == "":
			*into = time.Time{}
		case !ok || t.Year() < 1970 || t.Year() >= 2500:
			fault(name, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: an ISO 8601 date is needed.", name)
			*into = time.Unix(0, 0).UTC() // not missing
		default:
			*into = t
		}
	}
	day("startDate", b.Start, &w.Start)
	day("endDate", b.End, &w.End)
	if b.Types != nil {
		w.Types = nil
		for _, t := range *b.Types {
			if !slices.Contains(w.Types, t) {
				w.Types = append(w.Types, t)
			}
		}
	}
	if b.Description != nil {
		w.Description = strings.TrimSpace(*b.Description)
	}
	if r := b.Recurrence; r != nil {
		w.Repeat = &model.Recurrence{TimeZone: r.TimeZone}
		for _, d := range r.Weekdays {
			n := slices.Index(rule.Weekdays(), strings.ToUpper(d))
			switch {
			case n < 0:
				fault("recurrence.weekdays", "INVALID_ENUM_VALUE", "recurrence.weekdays holds %q: it may hold %s.", d, strings.Join(rule.Weekdays(), ", "))
			case !slices.Contains(w.Repeat.Weekdays, n):
				w.Repeat.Weekdays = append(w.Repeat.Weekdays, n)
			}
		}
		slices.Sort(w.Repeat.Weekdays)
		day("recurrence.until", &r.Until, &w.Repeat.Until)
	}
	return append(faults, checkWindow(w)...)
}

// checkWindow tells of the window's faults as the API does.
func checkWindow(w *model.MaintenanceWindow) (faults []rest.Fault) {
	for _, f := range rule.CheckWindow(w) {
		attribute, _, element := strings.Cut(f.Path, "[")
		if element {
			f.Text = attribute + " holds " + f.Text
		}
		faults = append(faults, rest.Fault{Attribute: attribute, Code: f.Code, Detail: f.Text})
	}
	return faults
}

func (c *call) windowEntity(w *model.MaintenanceWindow) rest.Object {
	o := rest.Object{
		"id": w.ID, "groupId": w.GroupID, "startDate": rest.ISOTime(w.Start), "endDate": rest.ISOTime(w.End), "alertTypeNames": append([]string{}, w.Types...),
		"created": rest.ISOTime(w.Created), "updated": rest.ISOTime(w.Updated),
		"links": c.Self(c.Href("groups", string(w.GroupID), "maintenanceWindows", string(w.ID))),
	}
	rest.Put(o, "description", w.Description)
	if w.Repeat != nil {
		days := make([]string, 0, len(w.Repeat.Weekdays))
		for _, d := range w.Repeat.Weekdays {
			if d >= 0 && d < len(rule.Weekdays()) {
				days = append(days, rule.Weekdays()[d])
			}
		}
		r := rest.Object{"weekdays": days, "timeZone": w.Repeat.TimeZone}
		if w.Repeat.TimeZone == "" {
			r["timeZone"] = "UTC"
		}
		rest.PutTime(r, "until", w.Repeat.Until)
		o["recurrence"] = r
		if start, end, ok := rule.Occurrence(w, c.Now()); ok {
			o["nextStartDate"], o["nextEndDate"] = rest.ISOTime(start), rest.ISOTime(end) // ours, as recurrence
		}
	}
	return o
}

func (c *call) windows() (any, error) {
	all, err := c.Alerting.Windows(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b model.MaintenanceWindow) int { return a.Start.Compare(b.Start) })
	return rest.Page(c.Call, all, func(w model.MaintenanceWindow) rest.Object { return c.windowEntity(&w) })
}

func (c *call) window() (model.MaintenanceWindow, error) {
	id := model.ID(c.Args[1])
	if !id.Valid() {
		return model.MaintenanceWindow{}, rest.Fail(http.StatusNotFound, "INVALID_WINDOW_ID", "An invalid maintenance window ID %s was specified.", id)
	}
	w, err := c.Alerting.Window(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		return w, noWindow(id)
	}
	return w, err
}

func noWindow(id model.ID) error {
	return rest.Fail(http.StatusNotFound, "MAINTENANCE_WINDOW_NOT_FOUND", "No maintenance window with ID %s exists.", id)
}

func (c *call) oneWindow() (any, error) {
	w, err := c.window()
	if err != nil {
		return nil, err
	}
	return c.windowEntity(&w), nil
}

func (c *call) now() time.Time { return c.Now().UTC().Truncate(time.Millisecond) }

func (c *call) createWindow() (any, error) {
	var in struct {
		windowBody
		ID      string `json:"id"`
		GroupID string `json:"groupId"`
		Created string `json:"created"`
		Updated string `json:"updated"`
		Next    string `json:"nextStartDate"`
		NextEnd string `json:"nextEndDate"`
	}
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	now := c.now()
	w := model.MaintenanceWindow{ID: model.NewID(), GroupID: c.Group.ID, Created: now, Updated: now, By: c.Who.Name()}
	if err := rest.Faulty(in.apply(&w)); err != nil {
		return nil, err
	}
	if err := c.Alerting.CreateWindow(c.R.Context(), w); err != nil {
		return nil, err
	}
	c.noteWindow(model.EventMaintenanceAdded, &w, "was added")
	return c.windowEntity(&w), nil
}

func (c *call) patchWindow() (any, error) {
	w, err := c.window()
	if err != nil {
		return nil, err
	}
	var in windowBody
	if err := c.DecodeOver(&in, c.windowEntity(&w), "nextStartDate", "nextEndDate"); err != nil {
		return nil, err
	}
	now := c.now()
	err = c.Alerting.UpdateWindow(c.R.Context(), c.Group.ID, w.ID, func(have *model.MaintenanceWindow) error {
		next := *have
		if err := rest.Faulty(in.apply(&next)); err != nil {
			return err
		}
		next.Updated = now
		*have, w = next, next
		return nil
	})
	if rest.IsNotFound(err) {
		return nil, noWindow(w.ID)
	}
	if err != nil {
		return nil, err
	}
	c.noteWindow(model.EventMaintenanceChanged, &w, "was changed")
	return c.windowEntity(&w), nil
}

func (c *call) deleteWindow() (any, error) {
	w, err := c.window()
	if err != nil {
		return nil, err
	}
	if err := c.Alerting.DeleteWindow(c.R.Context(), c.Group.ID, w.ID); err != nil {
		return nil, err
	}
	c.noteWindow(model.EventMaintenanceDeleted, &w, "was deleted")
	return nil, nil
}

func (c *call) noteWindow(what model.EventType, w *model.MaintenanceWindow, done string) {
	name := ""
	if w.Description != "" {
		name = " “" + w.Description + "”"
	}
	c.Event(model.Event{
		Type: what, GroupID: w.GroupID, WindowID: w.ID,
		Text: fmt.Sprintf("The maintenance window%s from %s to %s %s.", name, rest.ISOTime(w.Start), rest.ISOTime(w.End), done),
	})
}

// silenceBody is the body of POST.
type silenceBody struct {
	rest.Ignored
	ID        string        `json:"id"`
	GroupID   string        `json:"groupId"`
	ConfigID  string        `json:"alertConfigId"`
	EventType string        `json:"eventTypeName"`
	Matchers  []matcherBody `json:"matchers"`
	Start     string        `json:"startDate"` // absent: now
	End       string        `json:"endDate"`
	Comment   string        `json:"comment"`
	Created   string        `json:"created"`
	By        string        `json:"createdBy"`
	Active    bool          `json:"active"`
}

type matcherBody struct {
	Field    string `json:"fieldName"`
	Operator string `json:"operator"`
	Value    string `json:"value"`
}

// silence makes a silence of the body and lists what is wrong.
func (b *silenceBody) silence(now time.Time) (s model.Silence, faults []rest.Fault) {
	fault := func(path, code, format string, args ...any) {
		faults = append(faults, rest.Fault{Attribute: path, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	s = model.Silence{ConfigID: model.ID(b.ConfigID), EventType: model.EventType(b.EventType), Start: now, Comment: strings.TrimSpace(b.Comment), Created: now}
	var ok bool
	if b.Start != "" {
		if s.Start, ok = rest.ParseDate(b.Start); !ok {
			fault("startDate", "INVALID_ATTRIBUTE", "Invalid attribute startDate specified: an ISO 8601 date is needed.")
		}
	}
	switch s.End, ok = rest.ParseDate(b.End); {
	case b.End == "":
		fault("endDate", "MISSING_ATTRIBUTE", "The required attribute endDate was not specified: every silence has an end.")
	case !ok || s.End.Year() >= 2500:
		fault("endDate", "INVALID_ATTRIBUTE", "Invalid attribute endDate specified: an ISO 8601 date is needed.")
	case !s.End.After(now) || !s.End.After(s.Start):
		fault("endDate", "INVALID_ATTRIBUTE", "Invalid attribute endDate specified: it must be after startDate and in the future.")
	}
	if utf8.RuneCountInString(s.Comment) > rule.MaxText {
		fault("comment", "INVALID_ATTRIBUTE", "Invalid attribute comment specified: at most %d characters.", rule.MaxText)
	}
	if s.ConfigID != "" && !s.ConfigID.Valid() {
		fault("alertConfigId", "INVALID_ALERT_CONFIG_ID", "An invalid alert configuration ID %s was specified.", s.ConfigID)
	}
	if s.EventType != "" {
		if _, known := rule.TypeOf(s.EventType); !known {
			fault("eventTypeName", "INVALID_EVENT_TYPE_FOR_ALERT", "%s is not an event type of alerts.", s.EventType)
		}
	}
	for i, m := range b.Matchers {
		s.Matchers = append(s.Matchers, model.Matcher{Field: m.Field, Operator: m.Operator, Value: m.Value})
		if err := match.Check(s.Matchers[i]); err != nil && i <= match.MaxMatchers {
			fault(fmt.Sprintf("matchers[%d]", i), "INVALID_ATTRIBUTE", "Matcher %d: %v.", i+1, err)
		}
	}
	if len(s.Matchers) > match.MaxMatchers {
		fault("matchers", "INVALID_ATTRIBUTE", "There are more than %d matchers.", match.MaxMatchers)
	}
	if s.ConfigID == "" && s.EventType == "" && len(s.Matchers) == 0 {
		fault("matchers", "MISSING_ONE_OF_THREE_ATTRIBUTES", "One of the attributes alertConfigId, eventTypeName and matchers must be specified: nothing silences everything.")
	}
	return s, faults
}

func (c *call) silenceEntity(s *model.Silence) rest.Object {
	now := c.Now()
	matchers := make([]rest.Object, len(s.Matchers))
	for i, m := range s.Matchers {
		matchers[i] = rest.Object{"fieldName": m.Field, "operator": m.Operator, "value": m.Value}
	}
	o := rest.Object{
		"id": s.ID, "groupId": s.GroupID, "startDate": rest.ISOTime(s.Start), "endDate": rest.ISOTime(s.End), "created": rest.ISOTime(s.Created),
		"matchers": matchers, "active": !now.Before(s.Start) && now.Before(s.End),
		"links": c.Self(c.Href("groups", string(s.GroupID), "silences", string(s.ID))),
	}
	rest.Put(o, "alertConfigId", s.ConfigID)
	rest.Put(o, "eventTypeName", s.EventType)
	rest.Put(o, "comment", s.Comment)
	rest.Put(o, "createdBy", s.By)
	return o
}

func (c *call) silences() (any, error) {
	all, err := c.Alerting.Silences(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b model.Silence) int { return b.End.Compare(a.End) })
	return rest.Page(c.Call, all, func(s model.Silence) rest.Object { return c.silenceEntity(&s) })
}

func (c *call) createSilence() (any, error) {
	var in silenceBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	s, faults := in.silence(c.now())
	if s.ConfigID.Valid() {
		_, err := c.Alerting.Config(c.R.Context(), c.Group.ID, s.ConfigID)
		if rest.IsNotFound(err) { // or a global one, which raises alerts in the group too
			_, err = c.Alerting.Config(c.R.Context(), "", s.ConfigID)
		}
		if rest.IsNotFound(err) {
			faults = append(faults, rest.Fault{Attribute: "alertConfigId", Code: "ALERT_CONFIG_NOT_FOUND", Detail: fmt.Sprintf("No alert configuration with ID %s exists.", s.ConfigID)})
		} else if err != nil {
			return nil, err
		}
	}
	if err := rest.Faulty(faults); err != nil {
		return nil, err
	}
	s.ID, s.GroupID, s.By = model.NewID(), c.Group.ID, c.Who.Name()
	if err := c.Alerting.CreateSilence(c.R.Context(), s); err != nil {
		return nil, err
	}
	c.noteSilence(model.EventSilenceAdded, &s, "A silence until "+rest.ISOTime(s.End)+" was added")
	return c.silenceEntity(&s), nil
}

func (c *call) silence() (model.Silence, error) {
	id := model.ID(c.Args[1])
	if !id.Valid() {
		return model.Silence{}, noSilence(id)
	}
	s, err := c.Alerting.Silence(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		return s, noSilence(id)
	}
	return s, err
}

func noSilence(id model.ID) error {
	return rest.Fail(http.StatusNotFound, "SILENCE_NOT_FOUND", "No silence with ID %s exists.", id)
}

func (c *call) oneSilence() (any, error) {
	s, err := c.silence()
	if err != nil {
		return nil, err
	}
	return c.silenceEntity(&s), nil
}

func (c *call) endSilence() (any, error) {
	s, err := c.silence()
	if err != nil {
		return nil, err
	}
	now := c.now()
	if !s.End.After(now) {
		return nil, nil // it has ended already
	}
	err = c.Alerting.EndSilence(c.R.Context(), c.Group.ID, s.ID, now)
	if rest.IsNotFound(err) {
		return nil, noSilence(s.ID)
	}
	if err != nil {
		return nil, err
	}
	c.noteSilence(model.EventSilenceEnded, &s, "A silence was ended")
	return nil, nil
}

func (c *call) noteSilence(what model.EventType, s *model.Silence, text string) {
	if s.Comment != "" {
		text += ": " + s.Comment
	}
	c.Event(model.Event{Type: what, GroupID: s.GroupID, ConfigID: s.ConfigID, Text: strings.TrimSuffix(text, ".") + "."})
}
