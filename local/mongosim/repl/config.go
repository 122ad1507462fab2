package repl

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Codes of refused configurations.
const (
	codeNodeNotFound       = 74
	codeInvalidConfig      = 93
	codeNotYetInitialized  = 94
	codeIncompatible       = 103
	codeAlreadyInitialized = 23
)

// leave is what a member's configuration is while no configuration of the set names it.
func (c *MemberConfig) leave() {
	c.Out, c.Votes, c.Priority, c.Hidden, c.Delay, c.Tags = true, 0, 0, false, 0, nil
}

// places says where each member stands in the configuration as member i tells it, -1 for those it does not name. A member
// that is not in the configuration tells only of itself.
func (s *Set) places(i int) []int {
	out, n := make([]int, len(s.cfg)), 0
	for j := range s.cfg {
		out[j] = -1
		if alone := s.cfg[i].Out; alone && j == i || !alone && !s.cfg[j].Out {
			out[j] = n
			n++
		}
	}
	return out
}

// Configured is nil when member i is in the set's configuration, or the refusal of commands that ask about it.
func (s *Set) Configured(i int) *engine.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.version == 0, s.members[i].state == model.StateStartup:
		return engine.Errf(codeNotYetInitialized, "no replset config has been received")
	case s.cfg[i].Out:
		return engine.Errf(codeInvalidConfig, "Our replica set config is invalid or we are not a member of it")
	}
	return nil
}

// Initiate gives a set that has none its first configuration, as member i was told. Without one it is member i alone.
func (s *Set) Initiate(i int, cfg bson.Raw) *engine.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version > 0 {
		return engine.Errf(codeAlreadyInitialized, "already initialized")
	}
	doc := configDoc{ID: s.o.Name, Members: []memberDoc{{Host: s.o.Members[i].Host}}}
	if members, err := cfg.LookupErr("members"); err == nil && members.Type == bson.TypeArray {
		doc = configDoc{}
		if err := bson.Unmarshal(cfg, &doc); err != nil {
			return engine.Errf(engine.CodeFailedToParse, "%v", err)
		}
	}
	next, err := s.take(i, doc)
	if err != nil {
		return err
	}
	for j := range next {
		if m := s.members[j]; !next[j].Out && !m.reachable() {
			return engine.Errf(codeNodeNotFound, "replSetInitiate quorum check failed because not all proposed set members responded affirmatively: %s failed with HostUnreachable", next[j].Host)
		}
	}
	s.install(next, 1)
	s.electAt = s.o.Clock()
	return nil
}

// Reconfig takes a new configuration: members may come and go and be called by another of their names; who is an arbiter stays one.
func (s *Set) Reconfig(i int, cfg bson.Raw, force bool) *engine.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == 0 {
		return engine.Errf(codeNotYetInitialized, "Node not yet initialized; use the replSetInitiate command")
	}
	if s.primary != i && !force {
		return &engine.Error{Code: engine.CodeNotWritablePrimary, Msg: "replSetReconfig should only be run on a writable PRIMARY", Extra: s.topologyField(s.members[i])}
	}
	var doc configDoc
	if err := bson.Unmarshal(cfg, &doc); err != nil {
		return engine.Errf(engine.CodeFailedToParse, "%v", err)
	}
	if doc.Version <= s.version && !force {
		return engine.Errf(codeIncompatible, "New replica set configuration version must be greater than old, but %d is not greater than %d", doc.Version, s.version)
	}
	next, err := s.take(i, doc)
	if err != nil {
		return err
	}
	if changed := s.votersChanged(next); changed > 1 && !force {
		return engine.Errf(codeIncompatible, "Non force replica set reconfig can only add or remove at most 1 voting member.")
	}
	s.install(next, max(doc.Version, s.version+1))
	return nil
}

// configDoc is a configuration as commands give it.
type configDoc struct {
	ID      string `bson:"_id"`
	Version int32
	Members []memberDoc
}

type memberDoc struct {
	ID                 int32 `bson:"_id"`
	Host               string
	ArbiterOnly        bool     `bson:"arbiterOnly"`
	Hidden             bool     `bson:"hidden"`
	Priority           *float64 `bson:"priority"`
	Votes              *int32   `bson:"votes"`
	SecondaryDelaySecs int64    `bson:"secondaryDelaySecs"`
	SlaveDelay         int64    `bson:"slaveDelay"`
	Tags               bson.D   `bson:"tags"`
}

// take checks a configuration that member i was given. The set is locked.
func (s *Set) take(i int, doc configDoc) ([]MemberConfig, *engine.Error) {
	if doc.ID != s.o.Name {
		return nil, engine.Errf(codeIncompatible, "New and old configurations differ in replica set name; old was %s, and new is %s", s.o.Name, doc.ID)
	}
	next := slices.Clone(s.cfg)
	for j := range next {
		next[j].leave()
	}
	for _, d := range doc.Members {
		j := slices.IndexFunc(s.cfg, func(c MemberConfig) bool { return c.Host == d.Host || slices.Contains(c.Names, d.Host) })
		if j < 0 {
			j = slices.IndexFunc(s.o.Members, func(c MemberConfig) bool { return c.Host == d.Host })
		}
		switch {
		case j < 0:
			return nil, engine.Errf(codeNodeNotFound, "no simulated member is called %s", d.Host)
		case !next[j].Out:
			return nil, engine.Errf(codeIncompatible, "%s is in the configuration twice", d.Host)
		case d.ArbiterOnly != s.cfg[j].Arbiter:
			return nil, engine.Errf(codeIncompatible, "the simulator cannot change whether a member is an arbiter (%s)", d.Host)
		}
		c, err := d.config(s.cfg[j])
		if err != nil {
			return nil, err
		}
		next[j] = c
	}
	if next[i].Out {
		return nil, engine.Errf(codeNodeNotFound, "No host described in new configuration for replica set %s maps to this node", s.o.Name)
	}
	return next, nil
}

// config is what d makes of a member.
func (d *memberDoc) config(old MemberConfig) (MemberConfig, *engine.Error) {
	c := MemberConfig{
		ID: d.ID, Host: d.Host, Arbiter: d.ArbiterOnly, Hidden: d.Hidden, Priority: 1, Votes: 1, Tags: d.Tags, Names: old.Names,
		Delay: time.Duration(max(d.SecondaryDelaySecs, d.SlaveDelay)) * time.Second,
	}
	if !slices.Contains(c.Names, old.Host) {
		c.Names = append(slices.Clone(c.Names), old.Host)
	}
	if d.Priority != nil {
		c.Priority = *d.Priority
	}
	if d.Votes != nil {
		c.Votes = *d.Votes
	}
	if c.Arbiter {
		c.Priority = 0
	}
	if (c.Hidden || c.Delay > 0) && c.Priority != 0 {
		return c, engine.Errf(codeIncompatible, "priority must be 0 when hidden=true or secondaryDelaySecs is used")
	}
	return c, nil
}

// votersChanged is how many members would begin or cease to vote.
func (s *Set) votersChanged(next []MemberConfig) int {
	n := 0
	for j := range next {
		if (next[j].Votes > 0) != (s.cfg[j].Votes > 0) {
			n++
		}
	}
	return n
}

// install makes a checked configuration the set's. The set is locked.
func (s *Set) install(next []MemberConfig, version int32) {
	old := s.cfg
	s.cfg, s.version = next, version
	for j, m := range s.members {
		if m.up && next[j].Out != old[j].Out {
			s.setState(m, s.idle(j))
			m.started = s.o.Clock() // the others know it from now on
		}
	}
	if s.primary >= 0 && next[s.primary].Out {
		s.lost(s.primary)
	}
	s.advance()
	s.changed()
}
