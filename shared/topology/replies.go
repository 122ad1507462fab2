package topology

import (
	"math"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	catalograw "github.com/heartwood-db/heartwood/shared/catalog/raw"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// view is what the rules need of a ping's replies, read in one walk.
type view struct {
	answered bool // hello did

	hello  hello
	ss     *serverStatus
	rs     *replStatus
	config *rsConfig
	isSelf string

	buildInfo, cmdLine, hostInfo, params, warnings, configReply bson.Raw
	dbStats, databases                                          bson.Raw
	shards, mongos, version                                     bson.Raw
}

type hello struct {
	setName, me, msg         string
	hosts, passives, arbiter []string
	primary, secondary       bool
	arbiterOnly, hidden      bool
	isReplicaSet             bool // a member without a usable configuration
	configsvr                bool
	process                  string
}

type serverStatus struct {
	host, version, process string
	pid, uptimeMS, conns   int64
	localTime              time.Time
	configString           string // sharding.configsvrConnectionString
	engine                 string
}

type replStatus struct {
	set       string
	state     model.MemberState
	term      int64
	configsvr bool
	members   []rsMember
	newTermAt time.Time // electionParticipantMetrics.newTermAppliedDate
}

type rsMember struct {
	id       int
	name     string
	state    model.MemberState
	self     bool
	election time.Time
}

// read walks the replies. Those that are errors (ok: 0) count as absent.
func read(replies bson.Raw) view {
	var v view
	wire.Each(replies, func(key []byte, val bson.RawValue) bool {
		doc, ok := val.DocumentOK()
		if !ok || failed(doc) {
			return true
		}
		switch string(key) {
		case "hello":
			v.hello, v.answered = readHello(doc), true
		case "serverStatus":
			v.ss = readServerStatus(doc)
		case "replSetGetStatus":
			v.rs = readReplStatus(doc)
		case "replSetGetConfig":
			v.config, v.configReply = readConfig(doc), doc
		case "isSelf":
			v.isSelf = idText(doc.Lookup("id"))
		case "buildInfo":
			v.buildInfo = doc
		case "getCmdLineOpts":
			v.cmdLine = doc
		case "hostInfo":
			v.hostInfo = doc
		case "getParameter":
			v.params = doc
		case "startupWarnings":
			v.warnings = doc
		case "dbStats":
			v.dbStats = doc
		case "listDatabases":
			v.databases = doc
		case "configShards":
			v.shards = doc
		case "configMongos":
			v.mongos = doc
		case "configVersion":
			v.version = doc
		}
		return true
	})
	return v
}

func failed(doc bson.Raw) bool {
	ok, err := doc.LookupErr("ok")
	if err != nil {
		return false
	}
	n, isNumber := number(ok)
	return isNumber && n == 0
}

func readHello(doc bson.Raw) hello {
	var h hello
	wire.Each(doc, func(key []byte, v bson.RawValue) bool {
		switch string(key) {
		case "setName":
			h.setName = text(v)
		case "me":
			h.me = text(v)
		case "msg":
			h.msg = text(v)
		case "hosts":
			h.hosts = texts(v)
		case "passives":
			h.passives = texts(v)
		case "arbiters":
			h.arbiter = texts(v)
		case "ismaster", "isWritablePrimary":
			h.primary = truth(v)
		case "secondary":
			h.secondary = truth(v)
		case "arbiterOnly":
			h.arbiterOnly = truth(v)
		case "hidden":
			h.hidden = truth(v)
		case "isreplicaset":
			h.isReplicaSet = truth(v)
		case "configsvr":
			_, h.configsvr = number(v)
		case "topologyVersion":
			if d, ok := v.DocumentOK(); ok {
				h.process = idText(d.Lookup("processId"))
			}
		}
		return true
	})
	return h
}

func readServerStatus(doc bson.Raw) *serverStatus {
	s := &serverStatus{}
	wire.Each(doc, func(key []byte, v bson.RawValue) bool {
		switch string(key) {
		case "host":
			s.host = text(v)
		case "version":
			s.version = text(v)
		case "process":
			s.process = text(v)
		case "pid":
			s.pid, _ = number(v)
		case "uptimeMillis":
			s.uptimeMS, _ = number(v)
		case "localTime":
			s.localTime = date(v)
		case "connections":
			s.conns, _ = number(lookup(v, "current"))
		case "sharding":
			s.configString = text(lookup(v, "configsvrConnectionString"))
		case "storageEngine":
			s.engine = text(lookup(v, "name"))
		}
		return true
	})
	return s
}

func readReplStatus(doc bson.Raw) *replStatus {
	s := &replStatus{state: model.StateUnknown}
	wire.Each(doc, func(key []byte, v bson.RawValue) bool {
		switch string(key) {
		case "set":
			s.set = text(v)
		case "myState":
			if n, ok := number(v); ok {
				s.state = model.MemberState(n)
			}
		case "term":
			s.term, _ = number(v)
		case "configsvr":
			s.configsvr = truth(v)
		case "electionParticipantMetrics":
			s.newTermAt = date(lookup(v, "newTermAppliedDate"))
		case "members":
			eachDoc(v, func(d bson.Raw) {
				s.members = append(s.members, readMember(d))
			})
		}
		return true
	})
	return s
}

func readMember(doc bson.Raw) rsMember {
	var m rsMember
	wire.Each(doc, func(key []byte, v bson.RawValue) bool {
		switch string(key) {
		case "_id":
			n, _ := number(v)
			m.id = int(n)
		case "name":
			m.name = text(v)
		case "state":
			n, _ := number(v)
			m.state = model.MemberState(n)
		case "self":
			m.self = truth(v)
		case "electionDate":
			m.election = date(v)
		}
		return true
	})
	return m
}

func (s *replStatus) self() *rsMember {
	if s == nil {
		return nil
	}
	for i := range s.members {
		if s.members[i].self {
			return &s.members[i]
		}
	}
	return nil
}

// The rest reads single values; what has another type than expected is the zero value.

func lookup(v bson.RawValue, key string) bson.RawValue {
	d, ok := v.DocumentOK()
	if !ok {
		return bson.RawValue{}
	}
	return d.Lookup(key)
}

func eachDoc(v bson.RawValue, fn func(bson.Raw)) {
	if v.Type != bson.TypeArray {
		return
	}
	wire.Each(v.Value, func(_ []byte, v bson.RawValue) bool {
		if d, ok := v.DocumentOK(); ok {
			fn(d)
		}
		return true
	})
}

// docsOf gives the documents of a reply that is {docs: [...]}.
func docsOf(reply bson.Raw, fn func(bson.Raw)) {
	if len(reply) > 0 {
		eachDoc(reply.Lookup("docs"), fn)
	}
}

func text(v bson.RawValue) string {
	s, _ := v.StringValueOK()
	return s
}

func texts(v bson.RawValue) []string {
	if v.Type != bson.TypeArray {
		return nil
	}
	var all []string
	wire.Each(v.Value, func(_ []byte, v bson.RawValue) bool {
		if s := text(v); s != "" {
			all = append(all, s)
		}
		return true
	})
	return all
}

func truth(v bson.RawValue) bool {
	b, ok := v.BooleanOK()
	if ok {
		return b
	}
	n, ok := number(v)
	return ok && n != 0
}

// number reads any BSON number as an integer; a double beyond int64 is not one.
func number(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		n, ok := v.Int32OK()
		return int64(n), ok
	case bson.TypeInt64:
		return v.Int64OK()
	case bson.TypeDouble:
		f, ok := v.DoubleOK()
		if !ok || math.IsNaN(f) || math.Abs(f) >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	case bson.TypeDecimal128:
		f, ok := decimal(v)
		return f.Int64(), ok
	}
	return 0, false
}

func decimal(v bson.RawValue) (catalograw.Value, bool) {
	if len(v.Value) != 16 {
		return catalograw.Value{}, false
	}
	e := catalograw.Element{Type: byte(v.Type), Data: v.Value}
	return e.Number()
}

func float(v bson.RawValue) float64 {
	if f, ok := v.DoubleOK(); ok && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return f
	}
	if v.Type == bson.TypeDecimal128 {
		f, _ := decimal(v)
		return f.Float64()
	}
	n, _ := number(v)
	return float64(n)
}

func date(v bson.RawValue) time.Time {
	ms, ok := v.DateTimeOK()
	if !ok || ms <= 0 || ms > 253_402_300_799_999 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func idText(v bson.RawValue) string {
	if id, ok := v.ObjectIDOK(); ok && !id.IsZero() {
		return id.Hex()
	}
	return ""
}

// option reads a setting of getCmdLineOpts.parsed by its dotted name. Old configuration files leave dotted names as flat keys.
func option(cmdLine bson.Raw, dotted string) bson.RawValue {
	if len(cmdLine) == 0 {
		return bson.RawValue{}
	}
	parsed, ok := cmdLine.Lookup("parsed").DocumentOK()
	if !ok {
		return bson.RawValue{}
	}
	if v, err := parsed.LookupErr(strings.Split(dotted, ".")...); err == nil {
		return v
	}
	return parsed.Lookup(dotted)
}
