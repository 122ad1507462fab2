package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// relation is the prefix of every link's rel but self, previous and next.
const relation = "http://mms.mongodb.com/"

// Error is an error of the API that clients branch on by its code.
type Error struct {
	Status int
	Code   string
	Detail string
	Params []string
	Faults []Fault // ours: everything that is wrong, where that is more than one thing
}

// Fault is one of several things that are wrong with a body.
type Fault struct {
	Attribute string `json:"attribute"` // "notifications[0].webhookUrl"
	Code      string `json:"errorCode"`
	Detail    string `json:"detail"`
}

// Faulty refuses a body for everything that is wrong with it: the code is the first fault's, the detail and the parameters name
// them all.
func Faulty(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	e := &Error{Status: http.StatusBadRequest, Code: faults[0].Code, Faults: faults}
	details := make([]string, len(faults))
	for i, f := range faults {
		details[i] = f.Detail
		e.Params = append(e.Params, f.Attribute)
	}
	e.Detail = strings.Join(details, " ")
	return e
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// Fail makes an API error; the arguments of detail are its parameters.
func Fail(status int, code, detail string, args ...any) error {
	params := make([]string, len(args))
	for i, a := range args {
		params[i] = fmt.Sprint(a)
	}
	return &Error{Status: status, Code: code, Detail: fmt.Sprintf(detail, args...), Params: params}
}

var (
	errUnauthenticated = errors.New("api: no valid credentials")
	// ErrUnauthorized answers a caller whose role is too weak.
	ErrUnauthorized = Fail(http.StatusUnauthorized, "USER_UNAUTHORIZED", "The current user is not authorized to perform this action.")
)

func notFoundPath(r *http.Request) error {
	return Fail(http.StatusNotFound, "RESOURCE_NOT_FOUND", "Cannot find resource %s.", r.URL.Path)
}

// IsNotFound reports whether a store has nothing under the id that was asked for.
func IsNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// Link is one entry of an entity's links.
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// BaseURL is where the API is reached: the configured address, else the one the request came to.
func (c *Call) BaseURL() string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/") + Prefix
	}
	return httpx.Proto(c.R) + "://" + c.R.Host + Prefix
}

// Href is a link to a path below the API; segments are escaped.
func (c *Call) Href(segments ...string) string {
	var b strings.Builder
	b.WriteString(c.BaseURL())
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// Self is an entity's own link and, where the entity is the answer itself, its relations.
func (c *Call) Self(href string, relations ...Link) []Link {
	return append([]Link{{Rel: "self", Href: href}}, relations...)
}

// Rel is a link of one of the documented relations.
func Rel(name, href string) Link { return Link{Rel: relation + name, Href: href} }

// Object is an answer; keys come out in alphabetical order, as the product's do.
type Object = map[string]any

// Put sets a key unless the value says nothing: absent is how the API spells "not known".
func Put[T comparable](o Object, key string, v T) {
	var zero T
	if v != zero {
		o[key] = v
	}
}

// PutTime sets a time unless it is zero.
func PutTime(o Object, key string, t time.Time) {
	if !t.IsZero() {
		o[key] = ISOTime(t)
	}
}

// Reading renders a measured value; what is no number is null.
func Reading(r *model.Reading) Object {
	o := Object{"units": cmp.Or(r.Units, "RAW"), "number": nil}
	if !math.IsNaN(r.Number) && !math.IsInf(r.Number, 0) {
		o["number"] = r.Number
	}
	return o
}

// ISOTime renders a time as the API does: UTC, whole seconds.
func ISOTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Bounds of paging.
const (
	DefaultItems = 100
	MaxItems     = 500
)

// Page cuts one page out of a result that is held whole, and adds the links and the count. T is rendered by render only for
// the page's entries.
func Page[T any](c *Call, all []T, render func(T) Object) (any, error) {
	q := c.R.URL.Query()
	num, err := positive(q, "pageNum", 1)
	if err != nil {
		return nil, err
	}
	items, err := positive(q, "itemsPerPage", DefaultItems)
	if err != nil {
		return nil, err
	}
	items = min(items, MaxItems)
	count, err := boolQuery(q, "includeCount", true)
	if err != nil {
		return nil, err
	}
	from := min(len(all), (num-1)*items)
	if num > len(all)/items+1 { // far past the end: no overflow
		from = len(all)
	}
	to := min(len(all), from+items)
	results := make([]Object, 0, to-from)
	for _, v := range all[from:to] {
		results = append(results, render(v))
	}
	links := []Link{{Rel: "self", Href: c.pageLink(q, num, items)}}
	if num > 1 {
		links = append(links, Link{Rel: "previous", Href: c.pageLink(q, num-1, items)})
	}
	if to < len(all) {
		links = append(links, Link{Rel: "next", Href: c.pageLink(q, num+1, items)})
	}
	o := Object{"links": links, "results": results}
	if count {
		o["totalCount"] = len(all)
	}
	return List(o), nil
}

// List marks an answer as a list: in an envelope its keys stay on the outer level.
type List Object

func (c *Call) pageLink(q url.Values, num, items int) string {
	v := url.Values{}
	for key, values := range q {
		v[key] = values
	}
	v.Set("pageNum", strconv.Itoa(num))
	v.Set("itemsPerPage", strconv.Itoa(items))
	path := strings.TrimPrefix(c.R.URL.EscapedPath(), Prefix)
	return c.BaseURL() + path + "?" + v.Encode()
}

func positive(q url.Values, key string, otherwise int) (int, error) {
	s := q.Get(key)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: a whole number from 1 is needed.", key)
	}
	return n, nil
}

func boolQuery(q url.Values, key string, otherwise bool) (bool, error) {
	switch q.Get(key) {
	case "":
		return otherwise, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: true or false is needed.", key)
}

// write answers a value, indented or in an envelope as the query asks.
func (c *Call) write(status int, body any) {
	q := c.R.URL.Query()
	if q.Get("envelope") == "true" && body != nil {
		if l, ok := body.(List); ok {
			l["status"] = status
		} else {
			body = Object{"status": status, "content": body}
		}
		status = http.StatusOK
	}
	if body == nil {
		c.W.WriteHeader(status)
		return
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if q.Get("pretty") == "true" {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(body); err != nil {
		c.Log.ErrorContext(c.R.Context(), "answer not encoded", obs.KeyErr, err, obs.KeyPath, c.R.URL.Path)
		http.Error(c.W, `{"error":500,"errorCode":"UNEXPECTED_ERROR","reason":"Internal Server Error","detail":"Unexpected error.","parameters":[]}`, http.StatusInternalServerError)
		return
	}
	c.W.Header().Set("Content-Type", "application/json")
	c.W.WriteHeader(status)
	_, _ = c.W.Write(bytes.TrimRight(buf.Bytes(), "\n"))
}

// writeError answers an error in the documented body. What is not the caller's fault is logged and not told.
func (c *Call) writeError(err error) {
	if errors.Is(err, errUnauthenticated) {
		// Never in an envelope: the status is what makes clients answer the challenge.
		httpx.WriteJSON(c.W, http.StatusUnauthorized, Object{"error": http.StatusUnauthorized, "reason": "Unauthorized", "detail": "You are not authorized for this resource."})
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		status := httpx.Status(err)
		switch status {
		case http.StatusServiceUnavailable:
			c.W.Header().Set("Retry-After", "10")
			e = &Error{Status: status, Code: "SERVICE_UNAVAILABLE", Detail: "The database cannot be reached now; try again."}
		case http.StatusConflict: // somebody was faster
			e = &Error{Status: status, Code: "CONFLICT", Detail: "The resource was made or changed by somebody else at the same time; read it again."}
		case http.StatusRequestEntityTooLarge:
			e = &Error{Status: status, Code: "REQUEST_TOO_LARGE", Detail: "The request body is too large."}
		default:
			e = &Error{Status: http.StatusInternalServerError, Code: "UNEXPECTED_ERROR", Detail: "Unexpected error, request " + httpx.RequestID(c.R.Context()) + "."}
		}
		c.Log.ErrorContext(c.R.Context(), "API request failed", obs.KeyErr, err, obs.KeyPath, c.R.URL.Path, obs.KeyRequest, httpx.RequestID(c.R.Context()))
	}
	if e.Params == nil {
		e.Params = []string{}
	}
	body := Object{"error": e.Status, "errorCode": e.Code, "reason": http.StatusText(e.Status), "detail": e.Detail, "parameters": e.Params}
	if len(e.Faults) > 0 {
		body["faults"] = e.Faults
	}
	c.write(e.Status, body)
}
