package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// ReplicaSet is a replica set as one configuration describes it.
type ReplicaSet struct {
	Name          string
	ID            string // settings.replicaSetId, hex; "" before 3.2
	ConfigServers bool
	Version, Term int64
	Members       []model.Member

	horizons []map[string]string // of each member: horizon name to address
}

// Sharded is a sharded cluster as its config servers describe it.
type Sharded struct {
	ID        string // clusterId of config.version, hex
	ConfigSet string
	Config    []string // addresses of config servers
	Shards    []Shard
}

// Shard is one entry of config.shards. Hosts is only a seed list: it may lag, and never has hidden members.
type Shard struct {
	Name  string
	Set   string // "" for a shard that is one standalone process (3.4 and before)
	Hosts []string
}

// Address is a place where a process is said to be.
type Address struct {
	Hostname string
	Port     int
	Mongos   bool
}

// String is host:port.
func (a Address) String() string { return model.Address(a.Hostname, a.Port) }

type rsConfig = ReplicaSet

func readConfig(reply bson.Raw) *rsConfig {
	doc, ok := reply.Lookup("config").DocumentOK()
	if !ok {
		doc = reply // a document of local.system.replset
	}
	c := &rsConfig{Name: lenient.Text(doc.Lookup("_id")), ConfigServers: lenient.Truth(doc.Lookup("configsvr"))}
	if c.Name == "" {
		return nil
	}
	c.Version, _ = lenient.Number(doc.Lookup("version"))
	c.Term, _ = lenient.Number(doc.Lookup("term"))
	c.ID = lenient.ID(lenient.Lookup(doc.Lookup("settings"), "replicaSetId"))
	lenient.Docs(doc.Lookup("members"), func(d bson.Raw) {
		id, _ := lenient.Number(d.Lookup("_id"))
		m := model.Member{
			ID: int(id), Host: strings.ToLower(lenient.Text(d.Lookup("host"))), Priority: 1, Votes: 1,
			Arbiter: lenient.Truth(d.Lookup("arbiterOnly")), Hidden: lenient.Truth(d.Lookup("hidden")),
		}
		if p, err := d.LookupErr("priority"); err == nil {
			m.Priority = lenient.Float(p)
		}
		if v, ok := lenient.Number(d.Lookup("votes")); ok {
			m.Votes = int(v)
		}
		delay, ok := lenient.Number(d.Lookup("secondaryDelaySecs"))
		if !ok {
			delay, _ = lenient.Number(d.Lookup("slaveDelay"))
		}
		m.DelaySecs = delay
		c.Members = append(c.Members, m)
		horizons := map[string]string{}
		if h, ok := d.Lookup("horizons").DocumentOK(); ok {
			wire.Each(h, func(key []byte, v bson.RawValue) bool {
				horizons[string(key)] = strings.ToLower(lenient.Text(v))
				return true
			})
		}
		c.horizons = append(c.horizons, horizons)
	})
	return c
}

// addresses are where the members are found from where one of them calls itself me: with a split horizon a member goes by
// several names, and only those of one horizon can be reached from one place.
func (r *ReplicaSet) addresses(me string) []string {
	horizon := ""
	for i := range r.Members {
		for name, address := range r.horizons[i] {
			if address == me && r.Members[i].Host != me {
				horizon = name
			}
		}
	}
	all := make([]string, len(r.Members))
	for i := range r.Members {
		all[i] = r.Members[i].Host
		if address := r.horizons[i][horizon]; address != "" {
			all[i] = address
		}
	}
	return all
}

// ClusterID is the id of the set's cluster entity.
func (r *ReplicaSet) ClusterID(group model.ID) model.ID {
	if r.ID != "" {
		return model.DeriveID("cluster", string(group), r.ID)
	}
	first := ""
	for _, m := range r.Members {
		if first == "" || m.Host < first {
			first = m.Host
		}
	}
	return model.DeriveID("cluster", string(group), r.Name, first)
}

// ClusterID is the id of the sharded cluster's entity.
func (s *Sharded) ClusterID(group model.ID) model.ID {
	return model.DeriveID("sharded", string(group), s.ID)
}

// membership reads the configuration, the shards, and every address they name.
func (o *Observation) membership(in *Input, v *view) {
	h := &o.Host
	o.ReplicaSet = v.config
	if v.config != nil {
		h.ClusterID = v.config.ClusterID(h.GroupID)
		o.describeMember(v)
	} else if h.ReplicaSet != in.Host.ReplicaSet && in.Host.ReplicaSet != "" {
		h.ClusterID = "" // it belongs to another set now; which one its configuration will tell
	}
	if in.Cluster != nil && in.Cluster.ID == h.ClusterID {
		h.ShardName = in.Cluster.ShardName
	}
	if v.rs != nil && o.Status.LastState == model.StatePrimary {
		p := &Primary{Term: v.rs.term}
		if self := v.rs.self(); self != nil {
			p.Since = self.election
		}
		o.Primary = p
	}
	o.readSharded(v)
	o.discover(in, v)
}

// describeMember takes the host's own line of the configuration.
func (o *Observation) describeMember(v *view) {
	h := &o.Host
	id := -1
	if self := v.rs.self(); self != nil {
		id = self.id
	}
	for _, m := range v.config.Members {
		if m.ID == id || id < 0 && strings.EqualFold(m.Host, v.hello.me) {
			h.MemberID, h.HiddenSecondary, h.DelaySecs, h.Priority, h.Votes = m.ID, m.Hidden, m.DelaySecs, m.Priority, m.Votes
			return
		}
	}
}

func (o *Observation) readSharded(v *view) {
	if len(v.version) == 0 {
		return
	}
	s := &Sharded{}
	lenient.DocsOf(v.version, func(d bson.Raw) {
		if s.ID == "" {
			s.ID = lenient.ID(d.Lookup("clusterId"))
		}
	})
	if s.ID == "" {
		return
	}
	s.ConfigSet, s.Config = splitSeeds(configString(v))
	if s.ConfigSet == "" && v.config != nil && v.config.ConfigServers {
		s.ConfigSet = v.config.Name
		for _, m := range v.config.Members {
			s.Config = append(s.Config, m.Host)
		}
	}
	lenient.DocsOf(v.shards, func(d bson.Raw) {
		shard := Shard{Name: lenient.Text(d.Lookup("_id"))}
		shard.Set, shard.Hosts = splitSeeds(lenient.Text(d.Lookup("host")))
		if shard.Name != "" {
			s.Shards = append(s.Shards, shard)
		}
	})
	o.Sharded = s
	if o.Host.Type == model.TypeShardMongos {
		o.Host.ClusterID = s.ClusterID(o.Host.GroupID)
	}
}

func configString(v *view) string {
	if v.ss != nil && v.ss.configString != "" {
		return v.ss.configString
	}
	return lenient.Text(lenient.Option(v.cmdLine, "sharding.configDB"))
}

// splitSeeds takes "set/host:port,host:port" apart.
func splitSeeds(s string) (set string, hosts []string) {
	before, after, ok := strings.Cut(s, "/")
	if ok {
		set, s = before, after
	}
	for host := range strings.SplitSeq(s, ",") {
		if host = strings.ToLower(strings.TrimSpace(host)); host != "" {
			hosts = append(hosts, host)
		}
	}
	return set, hosts
}

// mongosLiveness: a mongos whose entry is this much older than the newest is gone. The newest entry, not our clock, is the measure.
const mongosLiveness = 5 * time.Minute

// discover lists every address the replies name. Hidden members are only in the configuration and in replSetGetStatus.
func (o *Observation) discover(in *Input, v *view) {
	own := append([]string{o.Host.Address(), strings.ToLower(v.hello.me), strings.ToLower(in.Ping.Address)}, o.Host.Aliases...)
	seen := make([]string, 0, 16)
	add := func(addr string, mongos bool) {
		host, port, err := model.SplitAddress(addr)
		if err != nil {
			return
		}
		a := Address{Hostname: host, Port: port, Mongos: mongos}
		key := a.String()
		if slices.Contains(own, key) || slices.Contains(seen, key) {
			return
		}
		seen = append(seen, key)
		o.Discovered = append(o.Discovered, a)
	}
	if v.config != nil {
		for _, a := range v.config.addresses(strings.ToLower(v.hello.me)) {
			add(a, false)
		}
	} else {
		for _, list := range [][]string{v.hello.hosts, v.hello.passives, v.hello.arbiter} {
			for _, a := range list {
				add(a, false)
			}
		}
	}
	if v.rs != nil && v.config == nil {
		for _, m := range v.rs.members {
			if !m.self {
				add(m.name, false)
			}
		}
	}
	if o.Host.Type != model.TypeShardConfig {
		_, hosts := splitSeeds(configString(v))
		for _, a := range hosts {
			add(a, false)
		}
	}
	lenient.DocsOf(v.shards, func(d bson.Raw) {
		_, hosts := splitSeeds(lenient.Text(d.Lookup("host")))
		for _, a := range hosts {
			add(a, false)
		}
	})
	if in.Settings.SuppressMongos {
		return
	}
	var newest time.Time
	lenient.DocsOf(v.mongos, func(d bson.Raw) {
		if t := lenient.Date(d.Lookup("ping")); t.After(newest) {
			newest = t
		}
	})
	lenient.DocsOf(v.mongos, func(d bson.Raw) {
		if newest.Sub(lenient.Date(d.Lookup("ping"))) <= mongosLiveness {
			add(lenient.Text(d.Lookup("_id")), true)
		}
	})
}

// Newer reports whether configuration (term, version) is newer than another. A configuration made by force has no term: then
// the versions decide.
func Newer(term, version, thanTerm, thanVersion int64) bool {
	if term > 0 && thanTerm > 0 && term != thanTerm {
		return term > thanTerm
	}
	return version > thanVersion
}

// Apply brings a cluster entity up to date with what one member's ping says about its set. Old is nil for a set not known
// yet. It returns the entity, whether it differs from old, and what happened to it; a configuration older than the one known changes nothing.
func (r *ReplicaSet) Apply(old *model.Cluster, group model.ID, at time.Time) (c model.Cluster, changed bool, events []model.Event) {
	kind := model.ClusterReplicaSet
	if r.ConfigServers {
		kind = model.ClusterConfigServers
	}
	if old == nil {
		return model.Cluster{
			ID: r.ClusterID(group), GroupID: group, Type: kind, Name: r.Name, ReplicaSet: r.Name, ReplicaSetID: r.ID, Created: at,
			ConfigVersion: r.Version, ConfigTerm: r.Term, Members: slices.Clone(r.Members), LastHeartbeat: at,
		}, true, nil
	}
	c = *old
	if !Newer(r.Term, r.Version, old.ConfigTerm, old.ConfigVersion) {
		return c, false, nil
	}
	c.Type, c.ConfigTerm, c.LastHeartbeat = kind, r.Term, at
	c.Members = slices.Clone(r.Members)
	for i := range c.Members {
		for _, m := range old.Members {
			if m.Host == c.Members[i].Host {
				c.Members[i].HostID = m.HostID
			}
		}
	}
	if r.Version == old.ConfigVersion {
		return c, true, nil // an election: same configuration, new term
	}
	c.ConfigVersion = r.Version
	event := func(t model.EventType, host, text string) {
		events = append(events, model.Event{Type: t, At: at, ClusterID: c.ID, HostName: host, Text: text})
	}
	event(model.EventConfigChanged, "", fmt.Sprintf("The configuration of %s changed from version %d to %d.", r.Name, old.ConfigVersion, r.Version))
	has := func(members []model.Member, host string) bool {
		return slices.ContainsFunc(members, func(m model.Member) bool { return m.Host == host })
	}
	for _, m := range c.Members {
		if !has(old.Members, m.Host) {
			event(model.EventMemberAdded, m.Host, m.Host+" was added to "+r.Name+".")
		}
	}
	for _, m := range old.Members {
		if !has(c.Members, m.Host) {
			event(model.EventMemberRemoved, m.Host, m.Host+" was removed from "+r.Name+".")
		}
	}
	return c, true, events
}

// Elect notes on the cluster entity what one member says of its own role. An election is told once, by the primary itself, and only with a
// term at least as new as the last: a primary that lost its majority does not know it yet.
func Elect(c *model.Cluster, o *Observation) (changed bool, events []model.Event) {
	id := o.Host.ID
	if o.Primary == nil {
		if c.PrimaryID == id && o.Status.LastPing.Equal(o.Status.At) {
			c.PrimaryID = ""
			return true, nil
		}
		return false, nil
	}
	p := o.Primary
	if p.Term < c.ElectionTerm || c.PrimaryID == id && p.Term == c.ElectionTerm {
		return false, nil
	}
	known := !c.PrimarySince.IsZero()
	c.PrimaryID, c.ElectionTerm, c.PrimarySince = id, p.Term, p.Since
	if c.PrimarySince.IsZero() {
		c.PrimarySince = o.Status.At
	}
	if !known {
		return true, nil
	}
	return true, []model.Event{{
		Type: model.EventPrimaryElected, At: c.PrimarySince, ClusterID: c.ID, HostID: id, HostName: o.Host.Address(),
		Text: fmt.Sprintf("%s was elected primary of %s in term %d.", o.Host.Address(), c.ReplicaSet, p.Term),
	}}
}
