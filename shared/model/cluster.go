package model

import "time"

// ClusterType is a cluster entity's typeName in the Public API.
type ClusterType string

// The cluster types.
const (
	ClusterReplicaSet         ClusterType = "REPLICA_SET"
	ClusterSharded            ClusterType = "SHARDED_REPLICA_SET"
	ClusterConfigServers      ClusterType = "CONFIG_SERVER_REPLICA_SET"
	ClusterShardedStandalones ClusterType = "SHARDED"
)

// Cluster is a replica set, a sharded cluster, or one of the replica sets a sharded cluster is made of.
type Cluster struct {
	ID            ID          `bson:"id"`
	GroupID       ID          `bson:"groupId"`
	Type          ClusterType `bson:"type"`
	Name          string      `bson:"name"`                 // a replica set's own name, a shard's parent's name
	ReplicaSet    string      `bson:"replicaSet,omitempty"` // absent on the sharded entity
	ShardName     string      `bson:"shardName,omitempty"`
	ParentID      ID          `bson:"parentId,omitempty"`     // the sharded entity
	ReplicaSetID  string      `bson:"replicaSetId,omitempty"` // settings.replicaSetId, hex
	Created       time.Time   `bson:"created"`
	ConfigVersion int64       `bson:"configVersion,omitempty"`
	ConfigTerm    int64       `bson:"configTerm,omitempty"`
	Members       []Member    `bson:"members,omitempty"` // of the newest configuration seen
	PrimaryID     HostID      `bson:"primaryId,omitempty"`
	PrimarySince  time.Time   `bson:"primarySince,omitempty"`
	ElectionTerm  int64       `bson:"electionTerm,omitempty"`
	LastHeartbeat time.Time   `bson:"lastHeartbeat,omitempty"` // of the entity's newest ping that changed it
}

// Member is one member of a replica set configuration.
type Member struct {
	ID        int     `bson:"id"`
	Host      string  `bson:"host"` // host:port as configured
	HostID    HostID  `bson:"hostId,omitempty"`
	Arbiter   bool    `bson:"arbiter,omitempty"`
	Hidden    bool    `bson:"hidden,omitempty"`
	Priority  float64 `bson:"priority"`
	Votes     int     `bson:"votes"`
	DelaySecs int64   `bson:"delaySecs,omitempty"`
}
