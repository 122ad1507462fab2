package topology

import (
	"encoding/json"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
)

// describe fills in what the process says about itself. Replies that did not come this time leave what was known.
func (o *Observation) describe(in *Input, v *view) {
	h := &o.Host
	h.Type = processType(v, o.Status.LastState, in.Host.Type)
	switch {
	case v.hello.setName != "":
		h.ReplicaSet = v.hello.setName
	case v.rs != nil && v.rs.set != "":
		h.ReplicaSet = v.rs.set
	case !v.hello.isReplicaSet: // a removed member still belongs to its old set until it joins another
		h.ReplicaSet = ""
	}
	if h.ReplicaSet == "" {
		h.MemberID, h.HiddenSecondary, h.DelaySecs, h.Priority, h.Votes = -1, false, 0, 0, 0
	} else if self := v.rs.self(); self != nil {
		h.MemberID = self.id
	}
	version := ""
	if v.ss != nil {
		version = v.ss.version
		if v.ss.engine != "" {
			h.StorageEngine = v.ss.engine
		}
	}
	if version == "" && len(v.buildInfo) > 0 {
		version = text(v.buildInfo.Lookup("version"))
	}
	if version != "" {
		if h.Version != "" && h.Version != version {
			o.event(model.EventVersionChanged, in.Ping.At, "changed from version "+h.Version+" to "+version)
		}
		h.Version = version
	}
	if len(v.cmdLine) > 0 {
		o.describeOptions(v)
	}
	if len(v.hostInfo) > 0 {
		o.describeMachine(v.hostInfo)
	}
	if len(v.params) > 0 {
		if fcv := fcvOf(v.params); fcv != "" {
			h.FCV = fcv
		}
	}
	if len(v.warnings) > 0 {
		h.StartupWarnings = Warnings(v.warnings)
		h.LowUlimit = slices.ContainsFunc(h.StartupWarnings, func(s string) bool {
			s = strings.ToLower(s)
			return strings.Contains(s, "rlimits too low") || strings.Contains(s, "ulimit")
		})
	}
	if len(v.dbStats) > 0 {
		o.describeSize(v)
	}
}

// fullRound is how many databases an agent asks in one round at the most: the largest.
const fullRound = 200

// describeSize sums the databases up, local left out: it is not the user's data. A round that ended early leaves what was known.
func (o *Observation) describeSize(v *view) {
	listed := map[string]bool{}
	if len(v.databases) > 0 {
		eachDoc(v.databases.Lookup("databases"), func(d bson.Raw) { listed[text(d.Lookup("name"))] = true })
	}
	data, index := 0.0, 0.0
	n := 0
	eachDoc(v.dbStats.Lookup("list"), func(d bson.Raw) {
		n++
		name := text(d.Lookup("db"))
		delete(listed, name)
		if name != "local" {
			data += max(0, float(d.Lookup("dataSize")))
			index += max(0, float(d.Lookup("indexSize")))
		}
	})
	if n > 0 && (len(listed) == 0 || n >= fullRound) {
		o.Host.LastDataBytes, o.Host.LastIndexBytes = data, index
	}
}

func (o *Observation) describeOptions(v *view) {
	h := &o.Host
	h.DBPath = text(option(v.cmdLine, "storage.dbPath"))
	authorization := text(option(v.cmdLine, "security.authorization"))
	h.AuthEnabled = authorization == "enabled" || text(option(v.cmdLine, "security.keyFile")) != "" ||
		truth(option(v.cmdLine, "auth")) || text(option(v.cmdLine, "keyFile")) != "" ||
		text(option(v.cmdLine, "security.clusterAuthMode")) != ""
	h.Journaling = h.Type != model.TypeShardMongos
	if j := option(v.cmdLine, "storage.journal.enabled"); j.Type == bson.TypeBoolean {
		h.Journaling = truth(j)
	}
}

func (o *Observation) describeMachine(info bson.Raw) {
	h := &o.Host
	system := info.Lookup("system")
	if mem, ok := number(lookup(system, "memSizeMB")); ok {
		if limit, ok := number(lookup(system, "memLimitMB")); ok && limit > 0 && limit < mem {
			mem = limit // the container's
		}
		h.MemSizeMB = mem
	}
	if cores, ok := number(lookup(system, "numCores")); ok {
		h.NumCores = int(cores)
	}
	name := strings.Trim(strings.TrimPrefix(text(lookup(info.Lookup("os"), "name")), "PRETTY_NAME="), `"`)
	if version := text(lookup(info.Lookup("os"), "version")); version != "" {
		name = strings.TrimSpace(name + " " + version)
	}
	if name != "" {
		h.OS = name
	}
}

func fcvOf(params bson.Raw) string {
	v := params.Lookup("featureCompatibilityVersion")
	if s := text(v); s != "" {
		return s
	}
	return text(lookup(v, "version"))
}

// Warnings reads the lines of a getLog startupWarnings reply: the messages of the structured ones with their attributes, without time and
// thread, so that the same warning of two starts is the same line. Blank lines are left out.
func Warnings(reply bson.Raw) []string {
	var lines []string
	for _, line := range texts(reply.Lookup("log")) {
		msg := warning(line)
		if msg != "" && !slices.Contains(lines, msg) {
			lines = append(lines, msg)
		}
	}
	return lines
}

func warning(line string) string {
	var entry struct {
		Msg  string          `json:"msg"`
		Attr json.RawMessage `json:"attr"`
	}
	if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &entry) == nil {
		msg := strings.TrimSpace(entry.Msg)
		if attr := string(entry.Attr); msg != "" && attr != "" && attr != "{}" && len(attr) < 500 {
			msg += " " + attr
		}
		return msg
	}
	// Text logs: 2018-01-01T00:00:00.000+0000 I CONTROL  [initandlisten] ** WARNING: ...
	if _, rest, ok := strings.Cut(line, "] "); ok {
		line = rest
	} else if strings.HasSuffix(line, "]") {
		return ""
	}
	return strings.TrimSpace(line)
}
