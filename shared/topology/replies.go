package topology

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
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
			v.isSelf = lenient.ID(doc.Lookup("id"))
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
	n, isNumber := lenient.Number(ok)
	return isNumber && n == 0
}

func readHello(doc bson.Raw) hello {
	var h hello
	wire.Each(doc, func(key []byte, v bson.RawValue) bool {
		switch string(key) {
		case "setName":
			h.setName = lenient.Text(v)
		case "me":
			h.me = lenient.Text(v)
		case "msg":
			h.msg = lenient.Text(v)
		case "hosts":
			h.hosts = lenient.Texts(v)
		case "passives":
			h.passives = lenient.Texts(v)
		case "arbiters":
			h.arbiter = lenient.Texts(v)
		case "ismaster", "isWritablePrimary":
			h.primary = lenient.Truth(v)
		case "secondary":
			h.secondary = lenient.Truth(v)
		case "arbiterOnly":
			h.arbiterOnly = lenient.Truth(v)
		case "hidden":
			h.hidden = lenient.Truth(v)
		case "isreplicaset":
			h.isReplicaSet = lenient.Truth(v)
		case "configsvr":
			_, h.configsvr = lenient.Number(v)
		case "topologyVersion":
			if d, ok := v.DocumentOK(); ok {
				h.process = lenient.ID(d.Lookup("processId"))
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
			s.host = lenient.Text(v)
		case "version":
			s.version = lenient.Text(v)
		case "process":
			s.process = lenient.Text(v)
		case "pid":
			s.pid, _ = lenient.Number(v)
		case "uptimeMillis":
			s.uptimeMS, _ = lenient.Number(v)
		case "localTime":
			s.localTime = lenient.Date(v)
		case "connections":
			s.conns, _ = lenient.Number(lenient.Lookup(v, "current"))
		case "sharding":
			s.configString = lenient.Text(lenient.Lookup(v, "configsvrConnectionString"))
		case "storageEngine":
			s.engine = lenient.Text(lenient.Lookup(v, "name"))
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
			s.set = lenient.Text(v)
		case "myState":
			if n, ok := lenient.Number(v); ok {
				s.state = model.MemberState(n)
			}
		case "term":
			s.term, _ = lenient.Number(v)
		case "configsvr":
			s.configsvr = lenient.Truth(v)
		case "electionParticipantMetrics":
			s.newTermAt = lenient.Date(lenient.Lookup(v, "newTermAppliedDate"))
		case "members":
			lenient.Docs(v, func(d bson.Raw) {
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
			n, _ := lenient.Number(v)
			m.id = int(n)
		case "name":
			m.name = lenient.Text(v)
		case "state":
			n, _ := lenient.Number(v)
			m.state = model.MemberState(n)
		case "self":
			m.self = lenient.Truth(v)
		case "electionDate":
			m.election = lenient.Date(v)
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
