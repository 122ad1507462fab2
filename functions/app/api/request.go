package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

// decode reads the body into v, a pointer to a struct or slice with json tags. Keys match without regard to case; an unknown
// key, text that is not JSON and a value of the wrong type each have their code.
func (c *call) decode(v any) error {
	b, err := httpx.ReadBody(c.w, c.r, maxBody)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return fail(http.StatusBadRequest, "INVALID_JSON", "Received JSON is malformed.")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return fail(http.StatusBadRequest, "INVALID_JSON_ATTRIBUTE", "Received JSON for the %s attribute has the wrong type.", wrong.Field)
	}
	// The decoder has no type for this error; its text has been the same since the option exists.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, unquoteErr := strconv.Unquote(name); unquoteErr == nil {
			name = plain
		}
		return fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", name)
	}
	return fail(http.StatusBadRequest, "INVALID_JSON", "Received JSON is malformed.")
}

// readOnly refuses a value of a field that cannot be changed, unless it is zero (clients echo it) or what is stored already.
func readOnly[T comparable](name string, sent, stored T) error {
	var zero T
	if sent == zero || sent == stored {
		return nil
	}
	return fail(http.StatusBadRequest, "ATTRIBUTE_READ_ONLY", "Cannot modify read-only attribute %s.", name)
}

// require refuses missing fields; it takes name, value pairs.
func require(pairs ...any) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if reflect.ValueOf(pairs[i+1]).IsZero() {
			return fail(http.StatusBadRequest, "MISSING_ATTRIBUTE", "The required attribute %s was not specified.", pairs[i])
		}
	}
	return nil
}

// ignored takes up fields that clients send and that need no attention: links and the like.
type ignored struct {
	Links json.RawMessage `json:"links"`
}

var dateLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z07:00", "2006-01-02T15:04Z0700",
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
}

// parseDate reads an ISO 8601 date; without a zone it is UTC. A plus sign may have become a space on its way through a query.
func parseDate(s string) (time.Time, bool) {
	s = strings.ReplaceAll(s, " ", "+")
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

var isoPeriod = regexp.MustCompile(`^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$`)

// maxPeriod bounds durations: the longest range there is.
const maxPeriod = 10 * 366 * 24 * time.Hour

// parsePeriod reads an ISO 8601 duration; a year is 365 days and a month 30.
func parsePeriod(s string) (time.Duration, bool) {
	m := isoPeriod.FindStringSubmatch(strings.ToUpper(s))
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
		if err != nil || n > int64(maxPeriod/u) {
			return 0, false
		}
		sum += time.Duration(n) * u
	}
	return sum, sum > 0 && sum <= maxPeriod
}
