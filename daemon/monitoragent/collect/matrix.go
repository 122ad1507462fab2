package collect

import (
	"context"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// command is a row of the collection matrix: what to ask which processes, how often, and what right it takes.
type command struct {
	name   string // of the reply in a ping
	title  string // what failures and people call it, when it is not the name
	db     string
	cmd    func(h *Host) bson.D
	on     roles
	every  time.Duration // 0: each sample; once: when a process is met first
	limit  time.Duration // perSample when 0
	slow   bool          // runs beside the samples, on the connection for slow commands
	wanted func(h *Host, f Flags) bool
	shape  func(ctx context.Context, s *session, reply bson.Raw) (bson.Raw, error) // what of the reply is sent; nil: all of it
	retry  func(h *Host, code int32) bool                                          // whether to ask again at once, after changing something
	right  string                                                                  // privilege it takes; "" when none
}

// once is a period that does not end before the process does.
const once = 1 << 62

// Time limits.
const (
	perSample = 10 * time.Second
	forSlow   = 30 * time.Second
)

// Periods of the matrix.
const (
	minutely  = time.Minute
	fiveMin   = 5 * time.Minute
	twentyMin = 20 * time.Minute
	hourly    = time.Hour
	daily     = 24 * time.Hour
)

// roles is a set of discover.Role.
type roles uint8

func of(list ...discover.Role) roles {
	var r roles
	for _, role := range list {
		r |= 1 << role
	}
	return r
}

func (r roles) has(role discover.Role) bool { return r&(1<<role) != 0 }

// Flags are what the server wants collected of a host.
type Flags struct {
	Logs        bool
	DBStats     bool
	Diagnostics bool
}

func static(d bson.D) func(*Host) bson.D { return func(*Host) bson.D { return d } }

func one(name string) func(*Host) bson.D { return static(bson.D{{Key: name, Value: 1}}) }

// matrix gives the commands in the order they are run. hello comes before all of them, and is not in it. All hosts share it.
var matrix = sync.OnceValue(func() []command {
	var all []command
	for _, group := range [][]command{
		statusCommands(), oplogCommands(), identityCommands(), diagnosticCommands(), logCommands(),
		databaseCommands(), shardingCommands(),
	} {
		all = append(all, group...)
	}
	return all
})

// label is what failures call the command.
func (c *command) label() string {
	if c.title != "" {
		return c.title
	}
	return c.name
}

func (c *command) timeout() time.Duration {
	switch {
	case c.limit > 0:
		return c.limit
	case c.slow:
		return forSlow
	}
	return perSample
}

// applies reports whether the command makes sense for what is known of the process, and is wanted.
func (c *command) applies(h *Host, f Flags) bool {
	return c.on.has(h.facts.Role) && (c.wanted == nil || c.wanted(h, f))
}
