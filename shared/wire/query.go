package wire

import (
	"net/url"
	"strconv"
	"time"
)

// ParamCheck is the query parameter by which an agent that is only trying things out (--check) asks for the configuration it
// would get as the active agent. Such a call leaves no trace: it claims nothing, adds no seeds and is not noted.
const ParamCheck = "check"

// IsCheck reports whether a configuration call is only a check.
func IsCheck(q url.Values) bool { return q.Get(ParamCheck) == "1" }

// maxSeeds bounds the seed addresses of one configuration call.
const maxSeeds = 1_000

// ConfQuery gives the query parameters of a configuration call. Seeds are the addresses (host:port) in the agent's own
// configuration; the server adds them to the group.
func ConfQuery(a AgentInfo, seeds []string) url.Values {
	q := url.Values{}
	q.Set("v", strconv.Itoa(Version))
	q.Set("id", a.ID)
	q.Set("session", a.Session)
	q.Set("type", a.Type)
	q.Set("hostname", a.Hostname)
	q.Set("version", a.Version)
	q.Set("os", a.OS)
	q.Set("started", strconv.FormatInt(a.Started.UnixMilli(), 10))
	q.Set("confCount", strconv.FormatInt(a.ConfCount, 10))
	for _, s := range seeds {
		q.Add("seed", s)
	}
	return q
}

// ParseConfQuery reads the parameters of a configuration call.
func ParseConfQuery(q url.Values) (AgentInfo, []string, error) {
	var a AgentInfo
	v, err := strconv.ParseInt(q.Get("v"), 10, 32)
	if err != nil {
		return a, nil, malformed("conf: v, the protocol version, is missing")
	}
	if err := checkVersion(int32(v)); err != nil {
		return a, nil, err
	}
	a = AgentInfo{
		ID: q.Get("id"), Session: q.Get("session"), Type: q.Get("type"), Hostname: q.Get("hostname"),
		Version: q.Get("version"), OS: q.Get("os"),
	}
	for name, s := range map[string]string{
		"id": a.ID, "session": a.Session, "type": a.Type, "hostname": a.Hostname, "version": a.Version, "os": a.OS,
	} {
		if len(s) > maxName {
			return AgentInfo{}, nil, malformed("conf: %s is longer than %d bytes", name, maxName)
		}
	}
	if a.ID == "" || a.Session == "" {
		return AgentInfo{}, nil, malformed("conf: id and session are required")
	}
	ms, err := optionalInt(q, "started")
	if err != nil {
		return AgentInfo{}, nil, err
	}
	if ms > 0 {
		a.Started = time.UnixMilli(ms).UTC()
	}
	if a.ConfCount, err = optionalInt(q, "confCount"); err != nil {
		return AgentInfo{}, nil, err
	}
	seeds := q["seed"]
	if len(seeds) > maxSeeds {
		return AgentInfo{}, nil, tooLarge("conf: over %d seeds", maxSeeds)
	}
	return a, seeds, nil
}

func optionalInt(q url.Values, name string) (int64, error) {
	s := q.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 253_402_300_799_999 {
		return 0, malformed("conf: %s is not a count or a time in milliseconds", name)
	}
	return n, nil
}
