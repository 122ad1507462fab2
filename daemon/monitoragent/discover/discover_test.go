package discover_test

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func doc(t *testing.T, json string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(json), false, &d); err != nil {
		t.Fatal(err)
	}
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestType(t *testing.T) {
	tests := []struct {
		name   string
		hello  string
		others map[string]string
		want   model.ProcessType
		role   discover.Role
	}{
		{"standalone", `{"ismaster": true}`, nil, model.TypeStandalone, discover.Standalone},
		{"primary", `{"isWritablePrimary": true, "setName": "rs0"}`, nil, model.TypeReplicaPrimary, discover.Primary},
		{"primary that answers isMaster", `{"ismaster": true, "setName": "rs0"}`, nil, model.TypeReplicaPrimary, discover.Primary},
		{"secondary", `{"ismaster": false, "secondary": true, "setName": "rs0"}`, nil, model.TypeReplicaSecondary, discover.Secondary},
		{"arbiter", `{"arbiterOnly": true, "setName": "rs0"}`, nil, model.TypeReplicaArbiter, discover.Arbiter},
		{"recovering", `{"secondary": false, "setName": "rs0"}`, map[string]string{"replSetGetStatus": `{"myState": 3}`}, model.TypeRecovering, discover.Other},
		{"not initiated", `{"isreplicaset": true}`, nil, model.TypeRecovering, discover.Other},
		{"mongos", `{"ismaster": true, "msg": "isdbgrid"}`, nil, model.TypeShardMongos, discover.Mongos},
		{"mongos by its process name", `{"ismaster": true}`, map[string]string{"serverStatus": `{"process": "C:\\bin\\mongos.exe"}`}, model.TypeShardMongos, discover.Mongos},
		{"config server by hello", `{"secondary": true, "setName": "c", "configsvr": 2}`, nil, model.TypeShardConfig, discover.Secondary},
		{"config server by status", `{"secondary": true, "setName": "c"}`, map[string]string{"replSetGetStatus": `{"myState": 2, "configsvr": true}`}, model.TypeShardConfig, discover.Secondary},
		{"config server by options", `{"secondary": true, "setName": "c"}`, map[string]string{"getCmdLineOpts": `{"parsed": {"sharding": {"clusterRole": "configsvr"}}}`}, model.TypeShardConfig, discover.Secondary},
		{"shard primary", `{"isWritablePrimary": true, "setName": "s"}`, map[string]string{"getCmdLineOpts": `{"parsed": {"sharding": {"clusterRole": "shardsvr"}}}`}, model.TypeShardPrimary, discover.Primary},
		{"shard secondary", `{"secondary": true, "setName": "s"}`, map[string]string{"serverStatus": `{"process": "mongod", "sharding": {"configsvrConnectionString": "c/h:1"}}`}, model.TypeShardSecondary, discover.Secondary},
		{"old shard without a set", `{"ismaster": true}`, map[string]string{"getCmdLineOpts": `{"parsed": {"sharding": {"clusterRole": "shardsvr"}}}`}, model.TypeShardStandalone, discover.Standalone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := discover.FromHello(doc(t, tt.hello))
			for name, reply := range tt.others {
				f.Learn(name, doc(t, reply))
			}
			if f.Type() != tt.want || f.Role != tt.role {
				t.Errorf("type %s role %s, want %s %s", f.Type(), f.Role, tt.want, tt.role)
			}
		})
	}
	var nothing discover.Facts
	if nothing.Type() != model.TypeNoData {
		t.Errorf("never answered: %s", nothing.Type())
	}
}

func TestIdentity(t *testing.T) {
	hello := doc(t, `{"topologyVersion": {"processId": {"$oid": "6b0113779eae5d133c6d9d3c"}}, "me": "DB1.example.net:27018"}`)
	self := doc(t, `{"id": {"$oid": "aaaaaaaaaaaaaaaaaaaaaaaa"}}`)
	if id := discover.ProcessID(hello, self); id != "6b0113779eae5d133c6d9d3c" {
		t.Errorf("process %s", id)
	}
	if id := discover.ProcessID(doc(t, `{}`), self); id != "aaaaaaaaaaaaaaaaaaaaaaaa" {
		t.Errorf("process by _isSelf %s", id)
	}
	if id := discover.ProcessID(doc(t, `{}`), nil); id != "" {
		t.Errorf("process %q without evidence", id)
	}
	got := discover.Aliases("10.0.0.1:27018", hello, doc(t, `{"host": "machine1"}`))
	if !slices.Equal(got, []string{"db1.example.net:27018", "machine1:27017"}) {
		t.Errorf("aliases %v", got)
	}
	if got := discover.Aliases("db1.example.net:27018", hello, nil); len(got) != 0 {
		t.Errorf("its own name is no alias: %v", got)
	}
}

// FuzzReplies reads arbitrary bytes as every reply that is looked into: a process may answer anything.
func FuzzReplies(f *testing.F) {
	b, err := bson.Marshal(bson.D{
		{Key: "setName", Value: "rs0"},
		{Key: "me", Value: "db1:27017"},
		{Key: "secondary", Value: true},
		{Key: "setVersion", Value: 3},
		{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: bson.NewObjectID()}}},
		{Key: "process", Value: "mongod"},
		{Key: "parsed", Value: bson.D{{Key: "sharding", Value: bson.D{{Key: "clusterRole", Value: "shardsvr"}}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if wire.Validate(b) != nil {
			t.Skip("replies are checked before they are looked into")
		}
		facts := discover.FromHello(b)
		for _, name := range []string{"replSetGetStatus", "getCmdLineOpts", "serverStatus", "buildInfo"} {
			facts.Learn(name, b)
		}
		_ = facts.Type()
		_ = discover.ProcessID(b, b)
		_ = discover.Aliases("db1:27017", b, b)
	})
}
