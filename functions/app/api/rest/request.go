package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

// Decode reads the body into v, a pointer to a struct or slice with json tags. Keys match without regard to case; an unknown
// key, text that is not JSON and a value of the wrong type each have their code.
func (c *Call) Decode(v any) error {
	b, err := httpx.ReadBody(c.W, c.R, maxBody)
	if err != nil {
		return err
	}
	return decode(b, v)
}

func malformed() error {
	return Fail(http.StatusBadRequest, "INVALID_JSON", "Received JSON is malformed.")
}

func decode(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return malformed()
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field == "": // not the object or the list that is due
		return Fail(http.StatusBadRequest, "INVALID_JSON", "Received JSON is not of the kind expected: %s.", wrong.Value)
	case errors.As(err, &wrong):
		return Fail(http.StatusBadRequest, "INVALID_JSON_ATTRIBUTE", "Received JSON for the %s attribute has the wrong type.", wrong.Field)
	}
	// The decoder has no type for this error; its text has been the same since the option exists.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, unquoteErr := strconv.Unquote(name); unquoteErr == nil {
			name = plain
		}
		return Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", name)
	}
	return malformed()
}

// DecodeOver is Decode for a change of an entity that clients may send back whole, as they read it: fields that v does not have but
// the entity has are fine as long as they say nothing (zero) or nothing new. Optional names the entity's fields that are
// absent while nothing is known of them.
func (c *Call) DecodeOver(v any, entity Object, optional ...string) error {
	b, err := httpx.ReadBody(c.W, c.R, maxBody)
	if err != nil {
		return err
	}
	var sent map[string]json.RawMessage
	if json.Unmarshal(b, &sent) != nil {
		return decode(b, v) // which says what is wrong with it
	}
	text, err := json.Marshal(entity)
	if err != nil {
		return err
	}
	var stored map[string]any
	if err := json.Unmarshal(text, &stored); err != nil {
		return err
	}
	settable := fieldNames(reflect.TypeOf(v).Elem())
	for _, key := range slices.Sorted(maps.Keys(sent)) {
		same := func(name string) bool { return strings.EqualFold(name, key) }
		if slices.ContainsFunc(settable, same) {
			continue
		}
		var value, have any
		if err := json.Unmarshal(sent[key], &value); err != nil {
			return malformed()
		}
		known := slices.ContainsFunc(optional, same)
		for name, v := range stored {
			if same(name) {
				known, have = true, v
			}
		}
		if !known {
			continue // Decode refuses it
		}
		if !isZero(value) && !reflect.DeepEqual(value, have) {
			return Fail(http.StatusBadRequest, "ATTRIBUTE_READ_ONLY", "Cannot modify read-only attribute %s.", key)
		}
		delete(sent, key)
	}
	if b, err = json.Marshal(sent); err != nil {
		return err
	}
	return decode(b, v)
}

// fieldNames are the JSON names of a struct's fields, embedded ones included.
func fieldNames(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// isZero: null, "", 0, false, and lists and objects without content.
func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return reflect.ValueOf(v).IsZero()
}

// ReadOnly refuses a value of a field that cannot be changed, unless it is zero (clients echo it) or what is stored already.
func ReadOnly[T comparable](name string, sent, stored T) error {
	var zero T
	if sent == zero || sent == stored {
		return nil
	}
	return Fail(http.StatusBadRequest, "ATTRIBUTE_READ_ONLY", "Cannot modify read-only attribute %s.", name)
}

// Require refuses missing fields; it takes name, value pairs.
func Require(pairs ...any) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if reflect.ValueOf(pairs[i+1]).IsZero() {
			return Fail(http.StatusBadRequest, "MISSING_ATTRIBUTE", "The required attribute %s was not specified.", pairs[i])
		}
	}
	return nil
}

// Ignored takes up fields that clients send and that need no attention: links and the like.
type Ignored struct {
	Links json.RawMessage `json:"links"`
}

var dateLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700",
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
}

// ParseDate reads an ISO 8601 date; without a zone it is UTC. A plus sign may have become a space on its way through a query.
func ParseDate(s string) (time.Time, bool) {
	s = strings.ReplaceAll(s, " ", "+")
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

var isoPeriod = regexp.MustCompile(`^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$`)

var bareDays = regexp.MustCompile(`^P(\d+)T`)

// MaxPeriod bounds durations: the longest range there is.
const MaxPeriod = 10 * 366 * 24 * time.Hour

// ParsePeriod reads an ISO 8601 duration; a year is 365 days and a month 30. "P1T12H" and the like, which clients send, are days
// without their letter.
func ParsePeriod(s string) (time.Duration, bool) {
	s = strings.ToUpper(s)
	m := isoPeriod.FindStringSubmatch(s)
	if m == nil {
		m = isoPeriod.FindStringSubmatch(bareDays.ReplaceAllString(s, "P${1}DT"))
	}
	if m == nil {
		return 0, false
	}
	const day = 24 * time.Hour
	units := []time.Duration{365 * day, 30 * day, 7 * day, day, time.Hour, time.Minute, time.Second}
	var sum time.Duration
	for i, u := range units {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil || n > int64(MaxPeriod/u) {
			return 0, false
		}
		sum += time.Duration(n) * u
	}
	return sum, sum > 0 && sum <= MaxPeriod
}

// NamedLike keeps what has a name that begins with prefix, in any case, the way the name parameters work.
func NamedLike[T any](all []T, prefix string, name func(T) string) []T {
	prefix = strings.ToLower(prefix)
	return slices.DeleteFunc(all, func(v T) bool { return !strings.HasPrefix(strings.ToLower(name(v)), prefix) })
}
