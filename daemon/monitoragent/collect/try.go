package collect

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
)

// Trial is what one command came to when everything was tried once.
type Trial struct {
	Command string
	OK      bool
	Skipped string // why it was not run
	Kind    Kind   // of the failure
	Code    int32
	Message string
	Right   string // privilege the command takes
	Took    time.Duration
}

// Trials are all of one host's.
type Trials struct {
	Address  string
	Facts    discover.Facts
	Type     string
	User     string // as whom the agent signed in; empty: without credentials
	SignedIn bool
	IP       string
	Aliases  []string // other names it calls itself by
	List     []Trial
	refused  bool // the credentials were
	hello    bson.Raw
}

// Reachable reports whether the process answered at all.
func (t *Trials) Reachable() bool { return t.Facts.Role != discover.Unknown }

// Try runs every command that makes sense for the host once, wanted or not, and remembers nothing.
func (h *Host) Try(ctx context.Context) Trials {
	h.visiting.Lock()
	defer h.visiting.Unlock()
	t := Trials{Address: h.address}
	if user, ok := h.connector.HasCredentials(h.conf); ok {
		t.User = user
	}
	if !h.tryHello(ctx, &t) {
		return t.finish(h)
	}
	t.Facts = h.facts
	t.SignedIn = h.signedIn && h.facts.Role != discover.Arbiter
	s := &session{h, h.conn}
	all := Flags{Logs: true, DBStats: true, Diagnostics: true}
	for i := range h.commands {
		c := &h.commands[i]
		if !c.applies(h, all) {
			continue
		}
		o := s.ask(ctx, c)
		if len(o.reply) > 0 {
			h.facts.Learn(c.name, o.reply)
		}
		if c.name == "serverStatus" && o.err == nil {
			_, err := o.reply.LookupErr("oplog", "earliestOptime")
			h.sampleHasOplog = err == nil
			t.Aliases = discover.Aliases(h.address, t.hello, o.reply)
		}
		t.add(c, o)
		if c.name == "listDatabases" && o.err == nil && len(h.databases) > 0 {
			h.databases = h.databases[:1] // one shows whether it is allowed
			started := time.Now()
			_, err := dbStats(ctx, s)
			t.add(dbStatsCommand, outcome{err: err, took: time.Since(started)})
		}
		if ctx.Err() != nil {
			break
		}
	}
	return t.finish(h)
}

// finish fills in what is known of the host at the end.
func (t Trials) finish(h *Host) Trials {
	t.Type, t.Facts = string(h.facts.Type()), h.facts
	if h.conn != nil {
		t.IP, _ = h.conn.Remote()
	}
	return t
}

// tryHello connects, first with credentials, then without should they be refused.
func (h *Host) tryHello(ctx context.Context, t *Trials) bool {
	for {
		now := time.Now()
		if err := h.connect(now); err != nil {
			t.List = append(t.List, Trial{Command: "connect", Message: trim(err.Error()), Kind: Failed})
			return false
		}
		reply, rtt, err := h.askHello(ctx)
		if err == nil {
			h.meet(reply)
			t.hello, t.Aliases = reply, discover.Aliases(h.address, reply, nil)
			t.List = append(t.List, Trial{Command: h.helloIs, OK: true, Took: rtt})
			return true
		}
		f, kind := Classify(h.helloIs, err)
		if kind == Unsupported && h.helloIs == "hello" {
			h.helloIs = "isMaster"
			continue
		}
		t.List = append(t.List, Trial{Command: f.Command, Kind: kind, Code: f.Code, Message: f.Message})
		if kind != BadAuth || !h.signedIn {
			return false
		}
		h.authAgain, t.refused = now.Add(authFor), true
	}
}

func (t *Trials) add(c *command, o outcome) {
	trial := Trial{Command: c.label(), OK: o.err == nil, Took: o.took, Right: c.right}
	if o.err != nil {
		f, kind := Classify(c.label(), o.err)
		trial.Kind, trial.Code, trial.Message = kind, f.Code, f.Message
		switch {
		case kind == Absent:
			trial.OK, trial.Skipped = true, "nothing there to report"
		case kind == Unsupported:
			trial.OK, trial.Skipped = true, "this version does not know it"
		case kind == Unauthorized && t.refused:
			return // the sign-in that failed says it all
		case kind == Unauthorized && t.Facts.Role == discover.Arbiter:
			trial.OK, trial.Skipped = true, "an arbiter holds no users, so nobody can sign in there"
		}
	}
	t.List = append(t.List, trial)
}
