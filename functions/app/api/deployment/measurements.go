package deployment

import (
	"cmp"
	"errors"
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
		get("/groups/{}/hosts/{}/disks/{slashes}/measurements", of(disk, (*call).measurements)),
		get("/groups/{}/hosts/{}/disks/{slashes}", of(disk, (*call).oneDimension)),
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

// dimensions lists the databases or the partitions of a host. A server tells operations by device and space by mount point, and
// not which belongs to which; where it tells neither, dbStats tells the space of the volume of the data files. So a
// partition is any of the three, each answers the DISK_ measurements that there are of it, and the rest have no points. Devices
// come first, as the partitions that clients know, then mount points, then that volume.
func (c *call) dimensions(res resource) (any, error) {
	h, err := c.host()
	if err != nil {
		return nil, err
	}
	names, err := c.Series.Dimensions(c.R.Context(), h.ID, res.scope)
	if err != nil {
		return nil, err
	}
	rank := func(name string) int {
		switch {
		case res.scope != catalog.Disk:
			return 0
		case name == catalog.DataVolume:
			return 2
		case strings.HasPrefix(name, "/"):
			return 1
		}
		return 0
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a, b)) })
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
	d, ok := rest.ParsePeriod(asked)
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

// maxPoints bounds one answer: points of all its measurements together. A day of minutes of everything is half of it.
const maxPoints = 1_000_000

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
	// An interval that is not over is left out, unless the range holds no other.
	from, to = from.Truncate(step), to.Truncate(step)
	if !from.Before(to) {
		to = from.Add(step)
	}
	asks, err := c.asked(h, res)
	if err != nil {
		return nil, err
	}
	tooLong := rest.Fail(http.StatusBadRequest, "INVALID_PERIOD", "The period holds too many points: choose a coarser granularity than %s or fewer measurements.", granularity)
	if long := to.Sub(from); long > rest.MaxPeriod || int64(long/step)*int64(max(1, len(asks))) > maxPoints {
		return nil, tooLong
	}
	var names []string
	for _, a := range asks {
		if !slices.Contains(names, a.of.Name) {
			names = append(names, a.of.Name)
		}
	}
	got, err := c.Series.Read(c.R.Context(), series.Query{Host: h.ID, Measurements: names, Dimension: dimension, From: from, To: to, Step: step})
	if errors.Is(err, series.ErrRange) {
		return nil, tooLong
	}
	if err != nil {
		return nil, err
	}
	return c.measurementsEntity(h, res, dimension, granularity, from, to, asks, got), nil
}

// ask is one measurement to answer, under the name that the client knows it by.
type ask struct {
	name string
	of   catalog.Measurement
}

// asked are the measurements of the query in its order, or all of the resource.
func (c *call) asked(h model.Host, res resource) ([]ask, error) {
	var asks []ask
	for _, m := range c.R.URL.Query()["m"] {
		if m == "" || slices.ContainsFunc(asks, func(a ask) bool { return a.name == m }) {
			continue
		}
		found, ok := catalog.Find(m)
		if !ok || found.Scope != res.scope {
			return nil, rest.Fail(http.StatusNotFound, "INVALID_METRIC_NAME", "An invalid metric name was specified: %s.", m)
		}
		asks = append(asks, ask{m, found})
	}
	if len(asks) > 0 {
		return asks, nil
	}
	for _, m := range catalog.Measurements() {
		if m.Scope == res.scope && applies(&m, h) {
			asks = append(asks, ask{m.Name, m})
		}
	}
	return asks, nil
}

// applies says whether a host of its kind has a measurement; before its first answer it may have any.
func applies(m *catalog.Measurement, h model.Host) bool {
	return h.Type == model.TypeNoData || m.AppliesTo(h.Type)
}

type dataPoint struct {
	Timestamp string   `json:"timestamp"`
	Value     *float64 `json:"value"`
}

func (c *call) measurementsEntity(h model.Host, res resource, dimension, granularity string, from, to time.Time, asks []ask, got series.Result) any {
	stamps := make([]string, len(got.Times))
	for i, t := range got.Times {
		stamps[i] = rest.ISOTime(t)
	}
	lines := make(map[string]series.Line, len(got.Lines))
	heard := false
	for _, l := range got.Lines {
		lines[l.Name] = l
		heard = heard || hasValue(l.Values)
	}
	out := make([]rest.Object, 0, len(asks))
	for _, a := range asks {
		// A gap keeps its points, without values; of what the host does not have there are none. When nothing at all is known
		// of the range it is a gap.
		points := []dataPoint{}
		if l := lines[a.of.Name]; hasValue(l.Values) || !heard && applies(&a.of, h) {
			points = make([]dataPoint, len(l.Values))
			for i, v := range l.Values {
				points[i] = dataPoint{Timestamp: stamps[i], Value: finite(v)}
			}
		}
		out = append(out, rest.Object{"name": a.name, "units": a.of.Unit, "dataPoints": points})
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
