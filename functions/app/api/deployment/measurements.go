package deployment

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

func measurementRoutes(h handler) []rest.Route {
	get := func(path string, do func(*call) (any, error)) rest.Route {
		return rest.Route{Method: http.MethodGet, Path: path, Scope: rest.InGroup, Perm: auth.View, Do: h(do)}
	}
	of := func(r resource, do func(*call, resource) (any, error)) func(*call) (any, error) {
		return func(c *call) (any, error) { return do(c, r) }
	}
	return []rest.Route{
		get("/groups/{}/hosts/{}/measurements", of(process, (*call).measurements)),
		get("/groups/{}/hosts/{}/disks", of(disk, (*call).dimensions)),
		get("/groups/{}/hosts/{}/disks/{}", of(disk, (*call).oneDimension)),
		get("/groups/{}/hosts/{}/disks/{}/measurements", of(disk, (*call).measurements)),
		get("/groups/{}/hosts/{}/databases", of(database, (*call).dimensions)),
		get("/groups/{}/hosts/{}/databases/{}", of(database, (*call).oneDimension)),
		get("/groups/{}/hosts/{}/databases/{}/measurements", of(database, (*call).measurements)),
	}
}

// resource is what measurements can be of: the process itself, or one of its disks or databases.
type resource struct {
	scope   catalog.Scope
	segment string // in paths
	nameKey string // in answers
	missing string // error code
}

var (
	process  = resource{scope: catalog.Process}
	disk     = resource{scope: catalog.Disk, segment: "disks", nameKey: "partitionName", missing: "DEVICE_NOT_FOUND"}
	database = resource{scope: catalog.Database, segment: "databases", nameKey: "databaseName", missing: "DATABASE_NOT_FOUND"}
)

func (c *call) dimensions(res resource) (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	names, err := c.Series.Dimensions(c.R.Context(), h.ID, res.scope)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return rest.Page(c.Call, names, func(name string) rest.Object { return c.dimension(h, res, name) })
}

func (c *call) dimension(h model.Host, res resource, name string) rest.Object {
	href := c.Href("groups", string(h.GroupID), "hosts", string(h.ID), res.segment, name)
	return rest.Object{res.nameKey: name, "links": c.Self(href)}
}

func (c *call) oneDimension(res resource) (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	if err := c.mustHave(h, res, c.Args[2]); err != nil {
		return nil, err
	}
	return c.dimension(h, res, c.Args[2]), nil
}

func (c *call) mustHave(h model.Host, res resource, name string) error {
	names, err := c.Series.Dimensions(c.R.Context(), h.ID, res.scope)
	if err != nil {
		return err
	}
	if !slices.Contains(names, name) {
		return rest.Fail(http.StatusNotFound, res.missing, "No %s with name %s exists on host %s.", strings.TrimSuffix(res.segment, "s"), name, h.ID)
	}
	return nil
}

// grains are the kept series by their ISO 8601 names.
var grains = []struct {
	name string
	step time.Duration
}{
	{"PT10S", 10 * time.Second}, {"PT1M", time.Minute}, {"PT5M", 5 * time.Minute}, {"PT1H", time.Hour}, {"P1D", 24 * time.Hour},
}

// grain is the kept series for an asked granularity: the next coarser one, the coarsest for all above.
func grain(asked string) (name string, step time.Duration, ok bool) {
	asked = strings.ToUpper(asked)
	d, ok := rest.ParsePeriod(asked)
	if !ok {
		// "P1T12H" and the like, which clients send: days without their letter.
		if day, clock, found := strings.Cut(asked, "T"); found && len(day) > 1 && strings.Trim(day[1:], "0123456789") == "" {
			d, ok = rest.ParsePeriod(day + "DT" + clock)
		}
	}
	if !ok {
		return "", 0, false
	}
	for _, g := range grains {
		if d <= g.step {
			return g.name, g.step, true
		}
	}
	last := grains[len(grains)-1]
	return last.name, last.step, true
}

// timeRange reads the range of the query: period, or start and end.
func (c *call) timeRange() (from, to time.Time, err error) {
	q := c.R.URL.Query()
	period, start, end := q.Get("period"), q.Get("start"), q.Get("end")
	switch {
	case period != "" && (start != "" || end != ""):
		return from, to, rest.Fail(http.StatusBadRequest, "MUTUALLY_EXCLUSIVE_QUERY_PARAMETERS", "Query parameters %s and %s are mutually exclusive.", "period", "start/end")
	case period != "":
		d, ok := rest.ParsePeriod(period)
		if !ok {
			return from, to, rest.Fail(http.StatusBadRequest, "INVALID_PERIOD", "An invalid period was specified: %s.", period)
		}
		to = c.Now().UTC()
		return to.Add(-d), to, nil
	case start == "" || end == "":
		return from, to, rest.Fail(http.StatusBadRequest, "MISSING_QUERY_PARAMETER", "The required query parameter %s was not specified.", "period")
	}
	from, ok := rest.ParseDate(start)
	to, okEnd := rest.ParseDate(end)
	if !ok || !okEnd {
		return from, to, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: ISO 8601 dates are needed.", "start or end")
	}
	if to.Before(from) {
		return from, to, rest.Fail(http.StatusBadRequest, "START_DATE_AFTER_END_DATE", "The start date must not be after the end date.")
	}
	return from, to, nil
}

// maxPoints bounds one answer: points of all its measurements together.
const maxPoints = 2_000_000

func (c *call) measurements(res resource) (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	dimension := ""
	if res.segment != "" {
		dimension = c.Args[2]
		if err := c.mustHave(h, res, dimension); err != nil {
			return nil, err
		}
	}
	asked := c.R.URL.Query().Get("granularity")
	if asked == "" {
		return nil, rest.Fail(http.StatusBadRequest, "MISSING_QUERY_PARAMETER", "The required query parameter %s was not specified.", "granularity")
	}
	granularity, step, ok := grain(asked)
	if !ok {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_GRANULARITY", "An invalid granularity was specified: %s.", asked)
	}
	from, to, err := c.timeRange()
	if err != nil {
		return nil, err
	}
	from, to = from.Truncate(step), to.Truncate(step)
	names, spelled, err := c.measurementNames(h, res)
	if err != nil {
		return nil, err
	}
	if int64(to.Sub(from)/step)*int64(max(1, len(names))) > maxPoints {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_PERIOD", "The period holds too many points: choose a coarser granularity than %s or fewer measurements.", granularity)
	}
	got, err := c.Series.Read(c.R.Context(), series.Query{Host: h.ID, Measurements: names, Dimension: dimension, From: from, To: to, Step: step})
	if err != nil {
		return nil, err
	}
	return c.measurementsEntity(h, res, dimension, granularity, from, to, names, spelled, got), nil
}

// measurementNames are the asked ones, or all of the resource; spelled gives each as the client wrote it.
func (c *call) measurementNames(h model.Host, res resource) (names []string, spelled map[string]string, err error) {
	spelled = map[string]string{}
	for _, m := range c.R.URL.Query()["m"] {
		if m == "" {
			continue
		}
		found, ok := catalog.Find(m)
		if !ok || found.Scope != res.scope {
			return nil, nil, rest.Fail(http.StatusNotFound, "INVALID_METRIC_NAME", "An invalid metric name was specified: %s.", m)
		}
		if _, twice := spelled[found.Name]; !twice {
			names = append(names, found.Name)
			spelled[found.Name] = m
		}
	}
	if len(names) > 0 {
		return names, spelled, nil
	}
	for _, m := range catalog.Measurements() {
		if m.Scope == res.scope && m.AppliesTo(h.Type) {
			names = append(names, m.Name)
		}
	}
	return names, spelled, nil
}

type dataPoint struct {
	Timestamp string   `json:"timestamp"`
	Value     *float64 `json:"value"`
}

func (c *call) measurementsEntity(h model.Host, res resource, dimension, granularity string, from, to time.Time, names []string, spelled map[string]string, got series.Result) any {
	stamps := make([]string, len(got.Times))
	for i, t := range got.Times {
		stamps[i] = rest.ISOTime(t)
	}
	lines := make(map[string]series.Line, len(got.Lines))
	for _, l := range got.Lines {
		lines[l.Name] = l
	}
	out := make([]rest.Object, 0, len(names))
	for _, name := range names {
		m, _ := catalog.Find(name)
		points := []dataPoint{}
		if l, ok := lines[name]; ok && hasValue(l.Values) {
			points = make([]dataPoint, len(l.Values))
			for i, v := range l.Values {
				points[i] = dataPoint{Timestamp: stamps[i], Value: finite(v)}
			}
		}
		out = append(out, rest.Object{"name": cmp.Or(spelled[name], name), "units": m.Unit, "dataPoints": points})
	}
	g, id := string(h.GroupID), string(h.ID)
	href := c.BaseURL() + strings.TrimPrefix(c.R.URL.EscapedPath(), rest.Prefix)
	if c.R.URL.RawQuery != "" {
		href += "?" + c.R.URL.RawQuery
	}
	o := rest.Object{
		"groupId": h.GroupID, "hostId": h.ID, "processId": h.Address(), "granularity": granularity, "start": rest.ISOTime(from), "end": rest.ISOTime(to),
		"measurements": out, "links": c.Self(href, rest.Rel("hostID", c.Href("groups", g, "hosts", id))),
	}
	if res.nameKey != "" {
		o[res.nameKey] = dimension
	}
	return o
}

func hasValue(values []float64) bool {
	return slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) })
}

// finite is a value that clients can read into a float32, or nil.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.Abs(v) > math.MaxFloat32 {
		return nil
	}
	return &v
}
