// Package discover reads from a process's own replies what it is: its role, its identity, and the names it goes by. The agent
// needs the role to know which commands make sense; finding new hosts is the server's work, from what the agent posts.
package discover

import (
	"path"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Role is what a process does, as far as it decides which commands it can answer.
type Role uint8

// The roles.
const (
	Unknown    Role = iota
	Standalone      // no replica set
	Primary
	Secondary
	Arbiter
	Mongos
	Other // member in a state that refuses reads: STARTUP, RECOVERING, ROLLBACK, REMOVED, or not yet initiated
)

var roleNames = [...]string{"unknown", "standalone", "primary", "secondary", "arbiter", "mongos", "other"}

// String is the role's name for people.
func (r Role) String() string { return roleNames[r] }

// Facts are what is known about a process.
type Facts struct {
	Role         Role
	ConfigServer bool // a member of the config server replica set
	Shard        bool // a member of a shard
	SetName      string
	Me           string // its own name in the replica set configuration
	ProcessID    string // changes at every start of the process; empty before 4.4
	SetVersion   int64  // changes with the replica set configuration
	State        model.MemberState
	Version      string // of the binary, once buildInfo or serverStatus told
	WireVersion  int64
}

// FromHello reads a hello or isMaster reply.
func FromHello(hello bson.Raw) Facts {
	f := Facts{
		SetName: text(hello, "setName"), Me: strings.ToLower(text(hello, "me")), State: model.StateUnknown,
		SetVersion: Int(hello, "setVersion"), WireVersion: Int(hello, "maxWireVersion"), ProcessID: ProcessID(hello, nil),
	}
	truth := func(name string) bool {
		b, ok := hello.Lookup(name).BooleanOK()
		return ok && b
	}
	switch {
	case text(hello, "msg") == "isdbgrid":
		f.Role = Mongos
	case truth("arbiterOnly"):
		f.Role, f.State = Arbiter, model.StateArbiter
	case f.SetName != "" && (truth("isWritablePrimary") || truth("ismaster")):
		f.Role, f.State = Primary, model.StatePrimary
	case f.SetName != "" && truth("secondary"):
		f.Role, f.State = Secondary, model.StateSecondary
	case f.SetName != "" || truth("isreplicaset"):
		f.Role = Other
	default:
		f.Role = Standalone
	}
	if _, err := hello.LookupErr("configsvr"); err == nil {
		f.ConfigServer = true
	}
	return f
}

// Learn adds what another reply tells. Replies of other names change nothing.
func (f *Facts) Learn(name string, reply bson.Raw) {
	switch name {
	case "replSetGetStatus":
		if v, err := reply.LookupErr("myState"); err == nil {
			if n, ok := v.AsInt64OK(); ok {
				f.State = model.MemberState(n)
			}
		}
		if b, ok := reply.Lookup("configsvr").BooleanOK(); ok && b {
			f.ConfigServer = true
		}
	case "getCmdLineOpts":
		switch text(reply, "parsed", "sharding", "clusterRole") {
		case "configsvr":
			f.ConfigServer = true
		case "shardsvr":
			f.Shard = true
		}
	case "serverStatus":
		f.Version = text(reply, "version")
		process := path.Base(strings.ReplaceAll(text(reply, "process"), `\`, "/"))
		if strings.HasPrefix(process, "mongos") {
			f.Role = Mongos
		}
		if f.Role != Mongos && text(reply, "sharding", "configsvrConnectionString") != "" {
			f.Shard = true
		}
	case "buildInfo":
		f.Version = text(reply, "version")
	}
}

// Type is the process's typeName.
func (f *Facts) Type() model.ProcessType {
	switch {
	case f.Role == Unknown:
		return model.TypeNoData
	case f.Role == Mongos:
		return model.TypeShardMongos
	case f.Role == Arbiter || f.State == model.StateArbiter:
		return model.TypeReplicaArbiter
	case f.ConfigServer:
		return model.TypeShardConfig
	case f.Role == Other:
		return model.TypeRecovering
	case f.Role == Primary && f.Shard:
		return model.TypeShardPrimary
	case f.Role == Secondary && f.Shard:
		return model.TypeShardSecondary
	case f.Role == Primary:
		return model.TypeReplicaPrimary
	case f.Role == Secondary:
		return model.TypeReplicaSecondary
	case f.Shard:
		return model.TypeShardStandalone
	}
	return model.TypeStandalone
}

// ProcessID is the identity of a running process: two addresses with the same one are the same process, and a new one means
// a restart. It is in hello from 4.4 on, before that in the reply of _isSelf.
func ProcessID(hello, isSelf bson.Raw) string {
	if id, ok := hello.Lookup("topologyVersion", "processId").ObjectIDOK(); ok {
		return id.Hex()
	}
	if len(isSelf) == 0 {
		return ""
	}
	if id, ok := isSelf.Lookup("id").ObjectIDOK(); ok {
		return id.Hex()
	}
	return ""
}

// Aliases are the names by which a process calls itself, in host:port form, without the one it was dialled by.
func Aliases(dialled string, hello, serverStatus bson.Raw) []string {
	var names []string
	add := func(s string) {
		host, port, err := model.SplitAddress(s) // a name without port means the default one: serverStatus leaves 27017 out
		if err != nil {
			return
		}
		if a := model.Address(host, port); a != dialled && !slices.Contains(names, a) {
			names = append(names, a)
		}
	}
	add(text(hello, "me"))
	if len(serverStatus) > 0 {
		add(text(serverStatus, "host"))
	}
	return names
}

func text(doc bson.Raw, path ...string) string {
	if len(doc) == 0 {
		return ""
	}
	s, _ := doc.Lookup(path...).StringValueOK()
	return s
}

// Int reads a number of any type as an integer; what is absent or no number is 0.
func Int(doc bson.Raw, path ...string) int64 {
	if len(doc) == 0 {
		return 0
	}
	n, _ := doc.Lookup(path...).AsInt64OK()
	return n
}
