package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Options are what any agent needs.
type Options struct {
	Type    model.AgentType
	Folder  string // name of its state folder where none is configured
	Config  config.Agent
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // this machine's clock; nil means time.Now
	HTTP    *http.Client     // nil: made from the configuration's proxy and TLS settings
	Limit   time.Duration    // of one request to the server, where HTTP is nil
	Version string
}

// Self is who an agent is, how it reaches its server, and what the server told it of time. It is safe for concurrent use.
type Self struct {
	Config  config.Agent // with the secrets that commands printed
	Log     *slog.Logger // of what is written there the server may see the newest lines
	Tail    *Tail
	Now     func() time.Time // this machine's clock
	HTTP    *http.Client
	Server  *call.Client
	Dir     string // its state folder, which need not exist yet
	Session string // of this process
	Version string

	info  wire.AgentInfo // without id and count
	hurry chan struct{}  // one token: call the server now

	mu      sync.Mutex
	count   int64         // of configuration calls
	trouble string        // the last failure of one that was told
	state   string        // that the server told last
	known   bool          // it has told one
	offset  time.Duration // to add to this machine's clock for the server's
}

// New checks the configuration, obtains its secrets and reads its certificates.
func New(o Options) (*Self, error) {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := ObtainSecrets(context.Background(), &o.Config); err != nil {
		return nil, err
	}
	if err := errors.Join(o.Config.Validate()...); err != nil {
		return nil, opererr.New("agent configuration", err, "")
	}
	s := &Self{
		Config: o.Config, Tail: &Tail{}, Now: o.Now, HTTP: o.HTTP, Dir: StateDir(o.Config.StateDir, o.Folder), Session: string(model.NewID()), Version: o.Version,
		hurry: make(chan struct{}, 1),
	}
	s.Log = slog.New(s.Tail.Tee(o.Log.Handler()))
	if s.HTTP == nil {
		var err error
		if s.HTTP, err = HTTPClient(&s.Config, o.Limit); err != nil {
			return nil, opererr.New("agent configuration", err, "")
		}
	}
	s.Server = call.NewClient(s.Config.BaseURL, s.Config.GroupID, s.Config.APIKey, s.HTTP)
	s.info = wire.AgentInfo{
		Session: s.Session, Type: string(o.Type), Version: o.Version, OS: runtime.GOOS + "/" + runtime.GOARCH, Started: o.Now().UTC(),
	}
	s.info.Hostname, _ = os.Hostname()
	return s, nil
}

// Info is what the agent with an id tells of itself with every message.
func (s *Self) Info(id string) wire.AgentInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := s.info
	info.ID, info.ConfCount = id, s.count
	return info
}

// Offset is what to add to this machine's clock to get the server's; zero while they agree.
func (s *Self) Offset() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offset
}

// Clock is the time by the server's clock.
func (s *Self) Clock() time.Time { return s.Now().Add(s.Offset()) }

// Conf is what every configuration tells, whatever else it is about.
type Conf struct {
	State   string        // model.AgentState
	Seconds int32         // to the next call; 0 leaves that to the agent
	Named   int           // how many things it tells the agent to work on
	Offset  time.Duration // to add to this machine's clock for the server's
}

// tolerated is the clock difference that is not corrected: it may be the network's.
const tolerated = 500 * time.Millisecond

// Call makes one configuration call by ask, within ConfLimit. What is news is logged: that the server went or came back, that
// it told another state, that the clocks differ.
func (s *Self) Call(ctx context.Context, ask func(ctx context.Context) (Conf, error)) error {
	s.mu.Lock()
	s.count++
	s.mu.Unlock()
	conf, err := limited(ctx, ask)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if err.Error() != s.trouble && ctx.Err() == nil {
			s.Log.Warn("configuration call failed", obs.KeyReason, err)
		}
		s.trouble = err.Error()
		return err
	}
	if s.trouble != "" {
		s.Log.Info("the server answers configuration calls again")
		s.trouble = ""
	}
	if conf.Offset.Abs() < tolerated {
		conf.Offset = 0
	}
	if (conf.Offset - s.offset).Abs() > tolerated {
		s.Log.Warn("this machine's clock differs from the server's: what is sent is stamped with the server's time", obs.KeyTook, conf.Offset)
	}
	if !s.known || s.state != conf.State {
		s.Log.Info("the server told this agent's state", obs.KeyState, conf.State, obs.KeyCount, conf.Named)
	}
	s.state, s.known, s.offset = conf.State, true, conf.Offset
	return nil
}

func limited[T any](ctx context.Context, ask func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ConfLimit, errors.New("the server did not answer in time"))
	defer cancel()
	out, err := ask(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out, err
}

// Try makes one configuration call by ask, of which nobody takes note, for a trial's report. The agent has the identity of the
// state folder, if one ran there before.
func (s *Self) Try(ctx context.Context, ask func(ctx context.Context, info wire.AgentInfo) (Conf, error)) ServerCheck {
	started := time.Now()
	conf, err := limited(ctx, func(ctx context.Context) (Conf, error) { return ask(ctx, s.Info(CheckID(s.Dir))) })
	return NewServerCheck(s.Config.BaseURL, time.Since(started), conf.Offset, conf.State, err)
}

// Bounds and default of the pause between configuration calls.
const (
	minConfPause     = time.Second
	maxConfPause     = 10 * time.Minute
	defaultConfPause = time.Minute
)

// Hurry makes the next configuration call come now.
func (s *Self) Hurry() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// Refreshing calls refresh, which is to make one Call and give the seconds to the next, again and again until ctx ends, and
// leaves a note of each for health checks. While the server is away the last configuration holds.
func (s *Self) Refreshing(ctx context.Context, refresh func(ctx context.Context) (seconds int32, err error)) {
	var backoff call.Backoff
	for {
		seconds, err := refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := s.pause(&backoff, seconds, err)
		s.mu.Lock()
		state := s.state
		s.mu.Unlock()
		if err := NoteHealth(s.Dir, s.Now(), wait, state, err); err != nil {
			s.Log.Warn("the note for health checks was not written", obs.KeyErr, err)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.hurry:
			t.Stop()
		case <-t.C:
		}
	}
}

func (s *Self) pause(backoff *call.Backoff, seconds int32, err error) time.Duration {
	var refused *call.Refusal
	switch {
	case errors.As(err, &refused):
		return backoff.Next(refused.RetryAfter)
	case err != nil:
		return backoff.Next(0)
	}
	backoff.Reset()
	wait := time.Duration(seconds) * time.Second
	if wait <= 0 {
		wait = defaultConfPause
	}
	wait = min(max(wait, minConfPause), maxConfPause)
	return wait + rand.N(wait/10+1) - wait/20 //nolint:gosec // jitter
}
