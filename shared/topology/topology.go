// Package topology turns what one ping says about a process into what Heartwood knows about it: process type, state,
// names, membership of clusters, addresses nobody monitors yet, restarts, and what changed since the ping before. It is
// pure: the previous knowledge and the replies go in, an Observation comes out; whoever calls it saves what differs.
//
// Replies are expected to have passed wire.Validate. Anything may be missing from them: seldom replies come with few pings,
// and an unauthorised process answers hello alone.
package topology

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Input is one ping and what was known before it.
type Input struct {
	Host     model.Host
	Status   model.HostStatus // zero before the first ping
	Settings model.GroupSettings
	Ping     wire.Ping
	Replies  bson.Raw // decompressed; nil when nothing answered
	// Facts are the seldom replies as they were last seen, reply name to reply: what changes are told from. Nil when unknown.
	Facts bson.Raw
	// Cluster is the host's cluster as known before; nil when it has none.
	Cluster *model.Cluster
	AgentID string
}

// Observation is what became of an Input.
type Observation struct {
	Host   model.Host
	Status model.HostStatus
	// Restarted is the estimated start of a process that is not the one seen before; zero when it is the same.
	Restarted time.Time
	// NewProcess is set when the process's identity is not the one stored: only then a search for duplicates is worth it.
	NewProcess bool
	Events     []model.Event // without group, host and id
	Changes    []model.Change
	ReplicaSet *ReplicaSet
	Sharded    *Sharded
	// Discovered are the addresses the process named, itself left out; most are known already.
	Discovered []Address
	// Primary is set when the process is the primary of its set.
	Primary *Primary
	// Facts are the seldom replies of this ping that differ from Input.Facts, noise included, for the next comparison.
	Facts bson.D
}

// Primary is what a primary says about its own election.
type Primary struct {
	Term  int64
	Since time.Time
}

// Observe derives everything one ping says.
func Observe(in Input) Observation {
	v := read(in.Replies)
	o := Observation{Host: in.Host, Status: in.Status}
	o.Host.Aliases = append([]string(nil), in.Host.Aliases...)
	o.status(&in, &v)
	o.address(&in)
	o.certificate(&in, v.answered)
	if !v.answered {
		return o
	}
	o.identity(&in, &v)
	o.describe(&in, &v)
	o.membership(&in, &v)
	o.names(&in, &v)
	o.facts(&in, &v)
	o.stateEvents(&in, &v)
	return o
}

// address follows the address that the host's name resolves to. It is told as a change only where one agent saw both and they are of one
// family: another agent may resolve differently, and a name with two families alternates.
func (o *Observation) address(in *Input) {
	if in.Ping.IP == "" || in.Ping.IP == in.Host.IP {
		return
	}
	sameFamily := strings.Contains(in.Host.IP, ":") == strings.Contains(in.Ping.IP, ":")
	if in.Host.IP != "" && sameFamily && in.Status.AgentID == in.AgentID {
		o.event(model.EventHostIPChanged, in.Ping.At, "resolves to "+in.Ping.IP+", formerly to "+in.Host.IP)
	}
	o.Host.IP = in.Ping.IP
}

// certificate follows what the process showed last: also one that the agent refused, which may be why it does not answer.
func (o *Observation) certificate(in *Input, answered bool) {
	switch {
	case in.Ping.Cert != nil:
		o.Host.CertExpires, o.Host.CertSubject = in.Ping.Cert.Until, in.Ping.Cert.Subject
	case answered: // without TLS
		o.Host.CertExpires, o.Host.CertSubject = time.Time{}, ""
	}
}

// event notes what happened to the host: predicate is the rest of a sentence that begins with its name.
func (o *Observation) event(t model.EventType, at time.Time, predicate string) {
	o.Events = append(o.Events, model.Event{Type: t, At: at, Text: o.Host.Address() + " " + strings.TrimRight(predicate, ". \n") + "."})
}
