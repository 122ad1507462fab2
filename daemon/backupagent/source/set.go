package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Preferences of a sync source; anything else is a member's host:port.
const (
	Primary   = "PRIMARY"
	Secondary = "SECONDARY"
)

// Dialer knows how to connect to a process.
type Dialer interface {
	Options(host wire.Host, auth bool) *options.ClientOptions
}

// Set is a replica set. It is safe for concurrent use.
type Set struct {
	name  string
	hosts []wire.Host
	dial  Dialer

	mu      sync.Mutex
	members map[string]*Member // by address
	closed  bool
}

// NewSet returns a set that is reached through any of the hosts. Name is what its members must call it.
func NewSet(name string, hosts []wire.Host, d Dialer) *Set {
	return &Set{name: name, hosts: hosts, dial: d, members: map[string]*Member{}}
}

// Close closes every connection.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, m := range s.members {
		m.Close()
	}
}

// Member gives the connection to a host, which may not have been made yet.
func (s *Set) Member(host wire.Host) (*Member, error) {
	address := model.Address(host.Hostname, int(host.Port))
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[address]; m != nil {
		return m, nil
	}
	if s.closed {
		return nil, errors.New("the agent no longer works on this set")
	}
	client, err := mongo.Connect(s.dial.Options(host, true).
		SetRetryReads(false).SetRetryWrites(false).SetMaxPoolSize(16).SetMaxConnIdleTime(5 * time.Minute).SetHeartbeatInterval(10 * time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	m := &Member{Address: address, client: client}
	s.members[address] = m
	return m, nil
}

// State numbers of replSetGetStatus.
const (
	statePrimary   = 1
	stateSecondary = 2
)

// View is what is known of one member when a source is chosen.
type View struct {
	Name    string // in the set's configuration
	Address string // that was dialled; "" if the member cannot be reached from here
	State   int64
	Hidden  bool
	Arbiter bool
	Delay   time.Duration
	Lag     time.Duration // behind the primary, or behind the newest member when there is none
	Last    oplog.OpTime  // its newest entry
	Why     string        // it cannot be reached
}

// tooFarBehind is the lag from which on a member is read only when nothing better is there.
const tooFarBehind = 2 * time.Minute

// Choose puts the members that may be read into order, the best first. Current is the one read so far: it stays where others
// are no better. The text says of the others why not.
func Choose(members []View, want, current string) (order []View, not string) {
	var why []string
	for _, m := range members {
		switch {
		case m.Arbiter:
		case m.Address == "":
			why = append(why, fmt.Sprintf("%s cannot be reached (%s)", m.Name, m.Why))
		case m.Delay > 0:
			why = append(why, fmt.Sprintf("%s is delayed by %s", m.Name, m.Delay))
		case m.State != statePrimary && m.State != stateSecondary:
			why = append(why, fmt.Sprintf("%s is %s", m.Name, stateName(m.State)))
		default:
			order = append(order, m)
		}
	}
	rank := func(m View) int {
		n := 0
		if m.Lag > tooFarBehind {
			n += 100
		}
		switch {
		case want == m.Name || want == m.Address:
		case m.State == statePrimary && want == Primary:
			n += 1
		case m.State == statePrimary:
			n += 40
		case m.Hidden:
			n += 10
		default:
			n += 20
		}
		return n
	}
	slices.SortStableFunc(order, func(a, b View) int {
		isCurrent := func(m View) int {
			if m.Address == current {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(isCurrent(a), isCurrent(b)), cmp.Compare(a.Lag, b.Lag), cmp.Compare(a.Name, b.Name))
	})
	return order, strings.Join(why, "; ")
}

func stateName(state int64) string {
	names := map[int64]string{0: "starting", 3: "recovering", 5: "in its initial sync", 6: "in an unknown state", 7: "an arbiter", 8: "down", 9: "rolling back", 10: "removed"}
	if s := names[state]; s != "" {
		return s
	}
	return fmt.Sprintf("in state %d", state)
}

// Topology is a set as its members see it.
type Topology struct {
	ID      bson.ObjectID // settings.replicaSetId
	Members []View
	Primary string // address that was dialled, "" when none is known
}

// ErrNoSource is in the chain of errors about a set none of whose members may be read now.
var ErrNoSource = errors.New("no member can be read")

// Look asks every member.
func (s *Set) Look(ctx context.Context) (*Topology, error) {
	type answer struct {
		host  wire.Host
		hello Hello
		err   error
	}
	answers := make([]answer, len(s.hosts))
	ask := func(i int) error {
		a := &answers[i]
		m, err := s.Member(a.host)
		if err == nil {
			a.hello, err = m.Hello(ctx)
		}
		if err == nil && a.hello.SetName != s.name {
			err = fmt.Errorf("%s is of the set %q, not %q", m.Address, a.hello.SetName, s.name)
		}
		a.err = err
		return nil
	}
	everyone := func(from int) {
		var g errgroup.Group
		g.SetLimit(16)
		for i := from; i < len(answers); i++ {
			g.Go(func() error { return ask(i) })
		}
		_ = g.Wait() // each answer has its error
	}
	for i, h := range s.hosts {
		answers[i].host = h
	}
	everyone(0)
	var faults []error
	var config, status bson.Raw
	for _, a := range answers {
		if a.err != nil {
			faults = append(faults, a.err)
			continue
		}
		if config != nil || !a.hello.Primary && !a.hello.Secondary {
			continue
		}
		m, err := s.Member(a.host)
		if err != nil {
			return nil, err
		}
		c, err := m.Run(ctx, "admin", bson.D{{Key: "replSetGetConfig", Value: 1}})
		if err == nil {
			status, err = m.Run(ctx, "admin", bson.D{{Key: "replSetGetStatus", Value: 1}})
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		config = c
	}
	if config == nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrNoSource, errors.Join(faults...))
	}
	top := readTopology(config, status)
	// Members that the server does not know (hidden ones, new ones) are called by the name the set has for them.
	known := map[string]int{}
	for i, a := range answers {
		known[model.Address(a.host.Hostname, int(a.host.Port))] = i
		if a.err == nil && a.hello.Me != "" {
			known[a.hello.Me] = i
		}
	}
	before := len(answers)
	for _, v := range top.Members {
		if _, ok := known[v.Name]; ok || v.Arbiter {
			continue
		}
		host, port, err := model.SplitAddress(v.Name)
		if err != nil {
			continue
		}
		h := wire.Host{}
		if len(s.hosts) > 0 {
			h = s.hosts[0] // one user for the whole set
		}
		h.ID, h.Hostname, h.Port = "", host, int32(port) //nolint:gosec // a port
		known[v.Name] = len(answers)
		answers = append(answers, answer{host: h})
	}
	everyone(before)
	for i := range top.Members {
		v := &top.Members[i]
		k, ok := known[v.Name]
		switch {
		case !ok:
			v.Why = "no address"
		case answers[k].err != nil:
			v.Why = answers[k].err.Error()
		default:
			a := answers[k]
			v.Address = model.Address(a.host.Hostname, int(a.host.Port))
			v.Hidden, v.Last = v.Hidden || a.hello.Hidden, a.hello.Last
			// What it says of itself is newer than what another heard of it.
			switch {
			case a.hello.Primary:
				v.State, top.Primary = statePrimary, v.Address
			case a.hello.Secondary:
				v.State = stateSecondary
			case v.State == statePrimary || v.State == stateSecondary:
				v.State = 3
			}
		}
	}
	return top, nil
}

// readTopology joins the configuration with what one member knows of the others.
func readTopology(config, status bson.Raw) *Topology {
	top := &Topology{}
	if id, ok := lookup(config, "config", "settings", "replicaSetId").ObjectIDOK(); ok {
		top.ID = id
	}
	type seen struct {
		state int64
		at    time.Time
	}
	states := map[string]seen{}
	var newest, primary time.Time
	for _, m := range documents(lookup(status, "members")) {
		x := seen{state: whole(m, "state"), at: wall(m, "optimeDate")}
		states[text(m, "name")] = x
		if x.at.After(newest) {
			newest = x.at
		}
		if x.state == statePrimary {
			primary = x.at
		}
	}
	if primary.IsZero() {
		primary = newest
	}
	for _, m := range documents(lookup(config, "config", "members")) {
		v := View{Name: text(m, "host"), Hidden: truth(m, "hidden"), Arbiter: truth(m, "arbiterOnly"), State: 6}
		delay, ok := number(m, "secondaryDelaySecs")
		if !ok {
			delay = whole(m, "slaveDelay")
		}
		v.Delay = time.Duration(delay) * time.Second
		if x, ok := states[v.Name]; ok {
			v.State = x.state
			if !x.at.IsZero() {
				v.Lag = max(0, primary.Sub(x.at))
			}
		}
		top.Members = append(top.Members, v)
	}
	return top
}

func documents(v bsoncore.Value) []bson.Raw {
	a, ok := v.ArrayOK()
	if !ok {
		return nil
	}
	var out []bson.Raw
	// An array that is cut short ends the list: what came before counts.
	_ = oplog.Elements(a, func(_ []byte, v bsoncore.Value) error {
		if d, ok := v.DocumentOK(); ok {
			out = append(out, bson.Raw(d))
		}
		return nil
	})
	return out
}

// Pick gives the member to read, and the set as it is. Members to be avoided are given only when there are no others.
func (s *Set) Pick(ctx context.Context, want, current string, avoid map[string]bool) (*Member, *Topology, error) {
	top, err := s.Look(ctx)
	if err != nil {
		return nil, nil, err
	}
	order, not := Choose(top.Members, want, current)
	slices.SortStableFunc(order, func(a, b View) int {
		switch {
		case avoid[a.Address] == avoid[b.Address]:
			return 0
		case avoid[b.Address]:
			return -1
		}
		return 1
	})
	if len(order) == 0 {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoSource, not)
	}
	m := s.at(order[0].Address)
	if m == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoSource, order[0].Address)
	}
	return m, top, nil
}

// at is the connection to an address that Look found.
func (s *Set) at(address string) *Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[address]
}

// PrimaryOf is the connection to the primary, nil when there is none.
func (s *Set) PrimaryOf(top *Topology) *Member { return s.at(top.Primary) }

// Lag is how far the set's secondaries that count (neither delayed nor away) are behind its primary: what reading may cost them.
func (t *Topology) Lag() (worst time.Duration, who string) {
	for _, m := range t.Members {
		if m.State == stateSecondary && m.Delay == 0 && !m.Arbiter && m.Lag > worst {
			worst, who = m.Lag, m.Name
		}
	}
	return worst, who
}

// Newest is the newest entry of any member that can be reached.
func (t *Topology) Newest() (at oplog.OpTime) {
	for _, m := range t.Members {
		if at.Before(m.Last) {
			at = m.Last
		}
	}
	return at
}
