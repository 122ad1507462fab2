// Package kind is the table of what alerts can be about: the event types a configuration may name, what each of them takes,
// and which of them something in this build raises. It is data; tests hold it against the code that raises.
//
// It may import shared/model only.
package kind

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Category is the kind of thing an alert is about: the first five are the kinds of maintenance windows.
type Category string

// The categories.
const (
	Host       Category = "HOST"
	ReplicaSet Category = "REPLICA_SET"
	Cluster    Category = "CLUSTER"
	Agent      Category = "AGENT"
	Backup     Category = "BACKUP"
	Group      Category = "GROUP"
	Site       Category = "SITE"
)

// Windows lists the categories that maintenance windows may name.
func Windows() []Category { return []Category{Host, ReplicaSet, Cluster, Agent, Backup} }

// Type is what a configuration can look for.
type Type struct {
	Name          model.EventType
	Label         string // "Host is down"
	Help          string
	Category      Category
	Inform        bool            // tells of events, once each; nothing stays open
	ClosedBy      model.EventType // of types that stay open: what says that it is over
	Threshold     string          // "", LESS_THAN or GREATER_THAN: takes a threshold with this operator
	Optional      bool            // the threshold may be left out: then it is Default
	Default       float64         // a threshold to begin with
	Metric        bool            // takes a metric threshold
	MatcherFields []string        // empty: takes no matchers
	MinDelay      int             // minutes that the condition lasts at least before anybody is told
	Repeat        time.Duration   // fixed distance of repeats; 0: growing
	Global        bool            // only in global configurations
	Raised        bool            // something in this build raises it: offered. The others are accepted and stay silent
}

// The fields of matchers.
const (
	TypeName        = "TYPE_NAME"
	Hostname        = "HOSTNAME"
	Port            = "PORT"
	HostnameAndPort = "HOSTNAME_AND_PORT"
	ReplicaSetName  = "REPLICA_SET_NAME"
	ShardName       = "SHARD_NAME"
	ClusterName     = "CLUSTER_NAME"
)

// Fields lists the fields of matchers in the Public API's order.
func Fields() []string {
	return []string{TypeName, Hostname, Port, HostnameAndPort, ReplicaSetName, ShardName, ClusterName}
}

var index = sync.OnceValue(func() map[model.EventType]Type {
	m := map[model.EventType]Type{}
	for _, t := range table() {
		if _, twice := m[t.Name]; twice {
			panic("kind: " + t.Name + " is declared twice")
		}
		m[t.Name] = t
	}
	return m
})

// Types lists every event type that a configuration may name, in the order they are offered.
func Types() []Type { return table() }

// TypeOf returns a type by name. A documented name with a spelling mistake is known in both spellings.
func TypeOf(name model.EventType) (Type, bool) {
	if name == "CLUSTER_CHECKPOINT_UPDATED_AUDIT" {
		name = "CLUSTER_CHECKKPOINT_UPDATED_AUDIT"
	}
	t, ok := index()[name]
	return t, ok
}

// withFields gives a type the matcher fields of its category; the others take none.
func (t Type) withFields() Type {
	switch t.Category {
	case Host:
		t.MatcherFields = []string{TypeName, Hostname, Port, HostnameAndPort, ReplicaSetName, ClusterName, ShardName}
	case ReplicaSet, Backup:
		t.MatcherFields = []string{ReplicaSetName, ShardName, ClusterName}
	case Cluster:
		t.MatcherFields = []string{ClusterName, ShardName}
	}
	return t
}

// silent are types that the Public API accepts and nothing in this build raises.
func silent(c Category, names string) []Type {
	words := strings.Fields(names)
	all := make([]Type, 0, len(words))
	for _, name := range words {
		label := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(name, "_AUDIT"), "_", " "))
		all = append(all, Type{
			Name: model.EventType(name), Label: strings.ToUpper(label[:1]) + label[1:], Category: c, Inform: true, Global: c == Site,
			Help: "Nothing in this build raises it.",
		}.withFields())
	}
	return all
}

// table puts the rows together.
func table() []Type {
	all := slices.Concat(hostTypes(), setTypes(), agentTypes(), backupTypes(), groupTypes(), siteTypes())
	for i := range all {
		all[i].Raised = true
		all[i] = all[i].withFields()
	}
	return slices.Concat(all, silentTypes())
}
