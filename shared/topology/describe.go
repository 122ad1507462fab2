package topology

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
)

// describe fills in what the process says about itself. Replies that did not come this time leave what was known.
func (o *Observation) describe(in *Input, v *view) {
	h := &o.Host
	h.Type = processType(v, o.Status.LastState, in.Host.Type)
	if h.Type == model.TypeStandalone && memberOfSet(in.Host.Type) {
		o.event(model.EventHostNowStandalone, in.Ping.At, "is now a standalone: it was a member of "+cmp.Or(in.Host.ReplicaSet, "a replica set"))
	}
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
		version = lenient.Text(v.buildInfo.Lookup("version"))
	}
	if version != "" {
		if h.Version != "" && h.Version != version {
			o.event(model.EventVersionChanged, in.Ping.At, "changed from version "+h.Version+" to "+version)
			switch way := compareVersions(version, h.Version); {
			case way > 0:
				o.event(model.EventHostUpgraded, in.Ping.At, "was upgraded from version "+h.Version+" to "+version)
			case way < 0:
				o.event(model.EventHostDowngraded, in.Ping.At, "was downgraded from version "+h.Version+" to "+version)
			}
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
		lenient.Docs(v.databases.Lookup("databases"), func(d bson.Raw) { listed[lenient.Text(d.Lookup("name"))] = true })
	}
	data, index := 0.0, 0.0
	n := 0
	lenient.Docs(v.dbStats.Lookup("list"), func(d bson.Raw) {
		n++
		name := lenient.Text(d.Lookup("db"))
		delete(listed, name)
		if name != "local" {
			data += max(0, lenient.Float(d.Lookup("dataSize")))
			index += max(0, lenient.Float(d.Lookup("indexSize")))
		}
	})
	if n > 0 && (len(listed) == 0 || n >= fullRound) {
		o.Host.LastDataBytes, o.Host.LastIndexBytes = data, index
	}
}

func (o *Observation) describeOptions(v *view) {
	h := &o.Host
	h.DBPath = lenient.Text(lenient.Option(v.cmdLine, "storage.dbPath"))
	authorization := lenient.Text(lenient.Option(v.cmdLine, "security.authorization"))
	h.AuthEnabled = !lenient.Truth(lenient.Option(v.cmdLine, "security.transitionToAuth")) && (authorization == "enabled" || lenient.Text(lenient.Option(v.cmdLine, "security.keyFile")) != "" ||
		lenient.Truth(lenient.Option(v.cmdLine, "auth")) || lenient.Text(lenient.Option(v.cmdLine, "keyFile")) != "" ||
		lenient.Text(lenient.Option(v.cmdLine, "security.clusterAuthMode")) != "")
	h.TLSMode = cmp.Or(lenient.Text(lenient.Option(v.cmdLine, "net.tls.mode")), lenient.Text(lenient.Option(v.cmdLine, "net.ssl.mode")), lenient.Text(lenient.Option(v.cmdLine, "sslMode")), "disabled")
	if lenient.Truth(lenient.Option(v.cmdLine, "net.ssl.sslOnNormalPorts")) || lenient.Truth(lenient.Option(v.cmdLine, "sslOnNormalPorts")) { // before 2.6
		h.TLSMode = "requireSSL"
	}
	h.BindIP = bindIP(v.cmdLine, h.Version)
	h.Journaling = h.Type != model.TypeShardMongos
	if j := lenient.Option(v.cmdLine, "storage.journal.enabled"); j.Type == bson.TypeBoolean {
		h.Journaling = lenient.Truth(j)
	}
}

// bindIP is where the process listens: what it was told, or what is its default.
func bindIP(cmdLine bson.Raw, version string) string {
	ip := cmp.Or(lenient.Text(lenient.Option(cmdLine, "net.bindIp")), lenient.Text(lenient.Option(cmdLine, "bind_ip")))
	switch {
	case lenient.Truth(lenient.Option(cmdLine, "net.bindIpAll")) || lenient.Truth(lenient.Option(cmdLine, "bind_ip_all")):
		return "*"
	case ip != "" || version == "":
		return ip
	case compareVersions(version, "3.6.0") < 0:
		return "*"
	}
	return "localhost"
}

func memberOfSet(t model.ProcessType) bool {
	switch t {
	case model.TypeReplicaPrimary, model.TypeReplicaSecondary, model.TypeReplicaArbiter, model.TypeRecovering, model.TypeShardPrimary, model.TypeShardSecondary:
		return true
	}
	return false
}

// compareVersions orders releases by their numbers. What follows the numbers, such as -rc1, comes before the release itself;
// two that differ only there are not ordered.
func compareVersions(a, b string) int {
	na, ra, _ := strings.Cut(a, "-")
	nb, rb, _ := strings.Cut(b, "-")
	pa, pb := strings.Split(na, "."), strings.Split(nb, ".")
	for i := range max(len(pa), len(pb)) {
		if c := cmp.Compare(versionPart(pa, i), versionPart(pb, i)); c != 0 {
			return c
		}
	}
	switch {
	case ra != "" && rb == "":
		return -1
	case ra == "" && rb != "":
		return 1
	}
	return 0
}

func versionPart(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, _ := strconv.Atoi(parts[i]) // what is no number counts as none
	return n
}

func (o *Observation) describeMachine(info bson.Raw) {
	h := &o.Host
	system := info.Lookup("system")
	if mem, ok := lenient.Number(lenient.Lookup(system, "memSizeMB")); ok {
		if limit, ok := lenient.Number(lenient.Lookup(system, "memLimitMB")); ok && limit > 0 && limit < mem {
			mem = limit // the container's
		}
		h.MemSizeMB = mem
	}
	if cores, ok := lenient.Number(lenient.Lookup(system, "numCores")); ok {
		h.NumCores = int(cores)
	}
	name := strings.Trim(strings.TrimPrefix(lenient.Text(lenient.Lookup(info.Lookup("os"), "name")), "PRETTY_NAME="), `"`)
	if version := lenient.Text(lenient.Lookup(info.Lookup("os"), "version")); version != "" {
		name = strings.TrimSpace(name + " " + version)
	}
	if name != "" {
		h.OS = name
	}
}

func fcvOf(params bson.Raw) string {
	v := params.Lookup("featureCompatibilityVersion")
	if s := lenient.Text(v); s != "" {
		return s
	}
	return lenient.Text(lenient.Lookup(v, "version"))
}

// Warnings reads the lines of a getLog startupWarnings reply: the messages of the structured ones with their attributes, without time and
// thread, so that the same warning of two starts is the same line. Blank lines are left out.
func Warnings(reply bson.Raw) []string {
	var lines []string
	for _, line := range lenient.Texts(reply.Lookup("log")) {
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
