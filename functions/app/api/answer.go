package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// relation is the prefix of every link's rel but self, previous and next.
const relation = "http://mms.mongodb.com/"

// apiError is an error that clients branch on by its code.
type apiError struct {
	status int
	code   string
	detail string
	params []string
}

func (e *apiError) Error() string { return e.code + ": " + e.detail }

// fail makes an API error; the arguments of detail are its parameters.
func fail(status int, code, detail string, args ...any) error {
	params := make([]string, len(args))
	for i, a := range args {
		params[i] = fmt.Sprint(a)
	}
	return &apiError{status: status, code: code, detail: fmt.Sprintf(detail, args...), params: params}
}

var (
	errUnauthenticated = errors.New("api: no valid credentials")
	errUnauthorized    = fail(http.StatusUnauthorized, "USER_UNAUTHORIZED", "The current user is not authorized to perform this action.")
)

func notFoundPath(r *http.Request) error {
	return fail(http.StatusNotFound, "RESOURCE_NOT_FOUND", "Cannot find resource %s.", r.URL.Path)
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// link is one entry of an entity's links.
type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// baseURL is where the API is reached: the configured address, else the one the request came to.
func (c *call) baseURL() string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/") + Prefix
	}
	return httpx.Proto(c.r) + "://" + c.r.Host + Prefix
}

// href is a link to a path below the API; segments are escaped.
func (c *call) href(segments ...string) string {
	var b strings.Builder
	b.WriteString(c.baseURL())
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// self is an entity's own link and, where the entity is the answer itself, its relations.
func (c *call) self(href string, relations ...link) []link {
	return append([]link{{Rel: "self", Href: href}}, relations...)
}

func rel(name, href string) link { return link{Rel: relation + name, Href: href} }

// object is an answer; keys come out in alphabetical order, as the product's do.
type object = map[string]any

// put sets a key unless the value says nothing: absent is how the API spells "not known".
func put[T comparable](o object, key string, v T) {
	var zero T
	if v != zero {
		o[key] = v
	}
}

// putTime sets a time unless it is zero.
func putTime(o object, key string, t time.Time) {
	if !t.IsZero() {
		o[key] = isoTime(t)
	}
}

func isoTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Bounds of paging.
const (
	defaultItems = 100
	maxItems     = 500
)

// page cuts one page out of a result that is held whole, and adds the links and the count. T is rendered by render only for
// the page's entries.
func page[T any](c *call, all []T, render func(T) object) (any, error) {
	q := c.r.URL.Query()
	num, err := positive(q, "pageNum", 1)
	if err != nil {
		return nil, err
	}
	items, err := positive(q, "itemsPerPage", defaultItems)
	if err != nil {
		return nil, err
	}
	items = min(items, maxItems)
	count, err := boolQuery(q, "includeCount", true)
	if err != nil {
		return nil, err
	}
	from := min(len(all), (num-1)*items)
	if num > len(all)/items+1 { // far past the end: no overflow
		from = len(all)
	}
	to := min(len(all), from+items)
	results := make([]object, 0, to-from)
	for _, v := range all[from:to] {
		results = append(results, render(v))
	}
	links := []link{{Rel: "self", Href: c.pageLink(q, num, items)}}
	if num > 1 {
		links = append(links, link{Rel: "previous", Href: c.pageLink(q, num-1, items)})
	}
	if to < len(all) {
		links = append(links, link{Rel: "next", Href: c.pageLink(q, num+1, items)})
	}
	o := object{"links": links, "results": results}
	if count {
		o["totalCount"] = len(all)
	}
	return list(o), nil
}

// list marks an answer as a list: in an envelope its keys stay on the outer level.
type list object

func (c *call) pageLink(q url.Values, num, items int) string {
	v := url.Values{}
	for key, values := range q {
		v[key] = values
	}
	v.Set("pageNum", strconv.Itoa(num))
	v.Set("itemsPerPage", strconv.Itoa(items))
	path := strings.TrimPrefix(c.r.URL.EscapedPath(), Prefix)
	return c.baseURL() + path + "?" + v.Encode()
}

func positive(q url.Values, key string, otherwise int) (int, error) {
	s := q.Get(key)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: a whole number from 1 is needed.", key)
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
	return false, fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: true or false is needed.", key)
}

// write answers a value, indented or in an envelope as the query asks.
func (c *call) write(status int, body any) {
	q := c.r.URL.Query()
	if q.Get("envelope") == "true" && body != nil {
		if l, ok := body.(list); ok {
			l["status"] = status
		} else {
			body = object{"status": status, "content": body}
		}
		status = http.StatusOK
	}
	if body == nil {
		c.w.WriteHeader(status)
		return
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if q.Get("pretty") == "true" {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(body); err != nil {
		c.Log.ErrorContext(c.r.Context(), "answer not encoded", obs.KeyErr, err, obs.KeyPath, c.r.URL.Path)
		http.Error(c.w, `{"error":500,"errorCode":"UNEXPECTED_ERROR","reason":"Internal Server Error","detail":"Unexpected error.","parameters":[]}`, http.StatusInternalServerError)
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(bytes.TrimRight(buf.Bytes(), "\n"))
}

// writeError answers an error in the documented body. What is not the caller's fault is logged and not told.
func (c *call) writeError(err error) {
	if errors.Is(err, errUnauthenticated) {
		c.write(http.StatusUnauthorized, object{"error": http.StatusUnauthorized, "reason": "Unauthorized", "detail": "You are not authorized for this resource."})
		return
	}
	var e *apiError
	if !errors.As(err, &e) {
		status := httpx.Status(err)
		switch {
		case status == http.StatusServiceUnavailable:
			c.w.Header().Set("Retry-After", "10")
			e = &apiError{status: status, code: "SERVICE_UNAVAILABLE", detail: "The database cannot be reached now; try again."}
		case status == http.StatusRequestEntityTooLarge:
			e = &apiError{status: status, code: "REQUEST_TOO_LARGE", detail: "The request body is too large."}
		default:
			e = &apiError{status: http.StatusInternalServerError, code: "UNEXPECTED_ERROR", detail: "Unexpected error, request " + httpx.RequestID(c.r.Context()) + "."}
		}
		c.Log.ErrorContext(c.r.Context(), "API request failed", obs.KeyErr, err, obs.KeyPath, c.r.URL.Path, obs.KeyRequest, httpx.RequestID(c.r.Context()))
	}
	if e.params == nil {
		e.params = []string{}
	}
	c.write(e.status, object{"error": e.status, "errorCode": e.code, "reason": http.StatusText(e.status), "detail": e.detail, "parameters": e.params})
}
