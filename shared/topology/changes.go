package topology

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Limits of change rows: an upgrade changes hundreds of parameters, and some values are long.
const (
	maxChanges = 200
	maxValue   = 4 << 10

	namedParameters = 5 // in the text of the event
)

// IsSeldom reports whether a reply comes with few pings and is kept as it was last seen.
func IsSeldom(name string) bool {
	switch name {
	case "buildInfo", "getCmdLineOpts", "hostInfo", "getParameter", "startupWarnings", "replSetGetConfig",
		"configShards", "configMongos", "configVersion", "configSettings", "dbStats", "listDatabases":
		return true
	}
	return false
}

// facts compares the seldom replies of this ping with what was known, and notes what changed.
func (o *Observation) facts(in *Input, v *view) {
	kinds := map[string]func(before, after bson.Raw){
		"buildInfo": func(before, after bson.Raw) {
			o.change(in, "version", "version", lenient.Text(before.Lookup("version")), lenient.Text(after.Lookup("version")))
		},
		"getParameter":     func(before, after bson.Raw) { o.parameters(in, before, after) },
		"getCmdLineOpts":   func(before, after bson.Raw) { o.differ(in, "cmdLineOpts", parsed(before), parsed(after), nil) },
		"hostInfo":         func(before, after bson.Raw) { o.differ(in, "hostInfo", before, after, hostInfoNoise) },
		"startupWarnings":  func(before, after bson.Raw) { o.warningsChanged(in, before, after) },
		"replSetGetConfig": func(before, after bson.Raw) { o.configuration(in, v, before, after) },
	}
	wire.Each(in.Replies, func(key []byte, val bson.RawValue) bool {
		name := string(key)
		after, ok := val.DocumentOK()
		if !ok || !IsSeldom(name) || failed(after) {
			return true
		}
		before, known := bson.Raw(nil), false
		if len(in.Facts) > 0 {
			before, known = in.Facts.Lookup(name).DocumentOK()
		}
		if known && sameReply(before, after) {
			return true
		}
		o.Facts = append(o.Facts, bson.E{Key: name, Value: after})
		if tell := kinds[name]; known && tell != nil {
			tell(before, after)
		}
		return true
	})
}

// gossip is what replies carry beside their content.
func gossip(key string) bool {
	return strings.HasPrefix(key, "$") || key == "operationTime" || key == "ok" || key == "lastCommittedOpTime" || key == "electionTime"
}

// sameReply compares everything but gossip.
func sameReply(a, b bson.Raw) bool {
	content := func(doc bson.Raw) (parts [][]byte) {
		wire.Each(doc, func(key []byte, v bson.RawValue) bool {
			if !gossip(string(key)) {
				parts = append(parts, key, []byte{byte(v.Type)}, v.Value)
			}
			return true
		})
		return parts
	}
	return slices.EqualFunc(content(a), content(b), bytes.Equal)
}

func parsed(cmdLine bson.Raw) bson.Raw {
	d, _ := cmdLine.Lookup("parsed").DocumentOK()
	return d
}

func (o *Observation) change(in *Input, kind, path, before, after string) {
	if before == after || len(o.Changes) >= maxChanges {
		return
	}
	o.Changes = append(o.Changes, model.Change{
		GroupID: in.Host.GroupID, HostID: in.Host.ID, At: in.Ping.At, Kind: kind, Path: path, Before: cut(before), After: cut(after),
	})
}

func cut(s string) string {
	if len(s) > maxValue {
		return strings.ToValidUTF8(s[:maxValue], "") + "…"
	}
	return s
}

func (o *Observation) parameters(in *Input, before, after bson.Raw) {
	o.change(in, "fcv", "featureCompatibilityVersion", fcvOf(before), fcvOf(after))
	first := len(o.Changes)
	o.differ(in, "parameters", before, after, func(path string) bool {
		// Allocator figures and logical clocks are readings, not settings.
		return strings.HasPrefix(path, "featureCompatibilityVersion") || strings.HasPrefix(path, "tcmalloc") ||
			strings.HasSuffix(path, "clusterParameterTime")
	})
	if n := len(o.Changes) - first; n > 0 {
		names := make([]string, 0, namedParameters+1)
		for _, c := range o.Changes[first:min(first+namedParameters, len(o.Changes))] {
			names = append(names, c.Path)
		}
		if more := n - namedParameters; more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		o.event(model.EventParametersChanged, in.Ping.At, "runs with other server parameters: "+strings.Join(names, ", "))
	}
}

func hostInfoNoise(path string) bool {
	switch path {
	case "system.currentTime", "extra.cpuFrequencyMHz", "extra.mountInfo", "extra.numPages":
		return true
	}
	return false
}

func (o *Observation) warningsChanged(in *Input, before, after bson.Raw) {
	was, is := Warnings(before), Warnings(after)
	first := len(o.Changes)
	for _, w := range is {
		if !slices.Contains(was, w) {
			o.change(in, "startupWarnings", "startupWarnings", "", w)
		}
	}
	for _, w := range was {
		if !slices.Contains(is, w) {
			o.change(in, "startupWarnings", "startupWarnings", w, "")
		}
	}
	if len(o.Changes) > first {
		o.event(model.EventStartupWarningsNew, in.Ping.At, fmt.Sprintf("has other startup warnings; there are %d now", len(is)))
	}
}

// configuration tells a new configuration once: by the member whose ping brought it first. The others find the cluster entity
// up to date already.
func (o *Observation) configuration(in *Input, v *view, before, after bson.Raw) {
	c := in.Cluster
	if v.config == nil || c == nil || c.ID != v.config.ClusterID(in.Host.GroupID) || v.config.Version <= c.ConfigVersion {
		return
	}
	was, is := configDoc(before), configDoc(after)
	o.differ(in, "configuration", was, is, func(path string) bool {
		return path == "version" || path == "term" || path == "members"
	})
	wasMembers, isMembers := membersByID(was), membersByID(is)
	for _, id := range slices.Sorted(maps.Keys(isMembers)) {
		old, known := wasMembers[id]
		if !known {
			o.change(in, "members", "members."+strconv.FormatInt(id, 10), "", lenient.Text(isMembers[id].Lookup("host")))
			continue
		}
		first := len(o.Changes)
		o.differ(in, "members", old, isMembers[id], nil)
		for i := first; i < len(o.Changes); i++ {
			o.Changes[i].Path = "members." + strconv.FormatInt(id, 10) + "." + o.Changes[i].Path
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wasMembers)) {
		if _, still := isMembers[id]; !still {
			o.change(in, "members", "members."+strconv.FormatInt(id, 10), lenient.Text(wasMembers[id].Lookup("host")), "")
		}
	}
}

func configDoc(reply bson.Raw) bson.Raw {
	if d, ok := reply.Lookup("config").DocumentOK(); ok {
		return d
	}
	return reply
}

func membersByID(config bson.Raw) map[int64]bson.Raw {
	m := map[int64]bson.Raw{}
	lenient.Docs(config.Lookup("members"), func(d bson.Raw) {
		if id, ok := lenient.Number(d.Lookup("_id")); ok {
			m[id] = d
		}
	})
	return m
}

// differ notes every leaf in which two documents differ. Arrays are compared whole; numbers by value, whatever their type.
func (o *Observation) differ(in *Input, kind string, before, after bson.Raw, skip func(path string) bool) {
	was, is := leaves(before), leaves(after)
	for _, l := range is {
		old, known := "", false
		for i, w := range was {
			if w.path == l.path {
				old, known = w.value, true
				was = slices.Delete(was, i, i+1)
				break
			}
		}
		if skip != nil && skip(l.path) || known && old == l.value {
			continue
		}
		o.change(in, kind, l.path, old, l.value)
	}
	for _, w := range was {
		if skip == nil || !skip(w.path) {
			o.change(in, kind, w.path, w.value, "")
		}
	}
}

type leaf struct{ path, value string }

// leaves flattens a document. A document nested deeper than any setting is goes in as one value.
func leaves(doc bson.Raw) []leaf {
	var all []leaf
	var walk func(prefix string, d bson.Raw, depth int)
	walk = func(prefix string, d bson.Raw, depth int) {
		wire.Each(d, func(key []byte, v bson.RawValue) bool {
			path := string(key)
			if prefix == "" && gossip(path) {
				return true
			}
			if prefix != "" {
				path = prefix + "." + path
			}
			if sub, ok := v.DocumentOK(); ok && depth < 8 {
				walk(path, sub, depth+1)
				return true
			}
			all = append(all, leaf{path, show(v)})
			return true
		})
	}
	walk("", doc, 0)
	return all
}

// show writes a value for people.
func show(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeString:
		return lenient.Text(v)
	case bson.TypeInt32, bson.TypeInt64:
		n, _ := lenient.Number(v)
		return strconv.FormatInt(n, 10)
	case bson.TypeDouble:
		f, _ := v.DoubleOK()
		return strconv.FormatFloat(f, 'f', -1, 64)
	case bson.TypeBoolean:
		return strconv.FormatBool(lenient.Truth(v))
	case bson.TypeNull:
		return "null"
	case bson.TypeObjectID:
		id, _ := v.ObjectIDOK()
		return id.Hex()
	case bson.TypeDateTime:
		return lenient.Date(v).Format(time.RFC3339Nano)
	case bson.TypeBinary:
		_, b, _ := v.BinaryOK()
		return hex.EncodeToString(b)
	}
	wrapped, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: v}}, false, false)
	if err != nil {
		return v.String()
	}
	s := strings.TrimSuffix(strings.TrimPrefix(string(wrapped), `{"v":`), "}")
	return s
}
