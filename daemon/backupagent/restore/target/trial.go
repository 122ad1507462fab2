package target

import (
	"context"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Trial is whether the agent could write restores into a set. It is part of what --check --json prints.
type Trial struct {
	OK     bool   `json:"ok"`
	User   string `json:"user,omitempty"`
	Reason string `json:"reason,omitempty"` // what a person must do first, or what went wrong
}

// trialLimit is how long a trial may take: a set without a primary is not waited for.
const trialLimit = 20 * time.Second

// Try signs in to the primary of a set as who writes restores, and asks what that user may do. It writes nothing.
func Try(ctx context.Context, set string, hosts []wire.Host, connect func(host wire.Host) (Server, error), configured bool) Trial {
	last := ""
	t := &Target{Set: set, Hosts: hosts, Connect: connect, Pause: call.Pause, Waits: func(why string) { last = why }}
	defer t.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, trialLimit, errors.New("the primary did not answer in time"))
	defer cancel()
	r, err := t.Rights(ctx, true)
	if err == nil {
		_, _, err = t.Version(ctx)
	}
	if err != nil && ctx.Err() != nil && last != "" {
		err = errors.New(last)
	}
	if err = r.Check(set, err, configured); err != nil {
		return Trial{User: r.User, Reason: err.Error()}
	}
	return Trial{OK: true, User: r.User}
}
