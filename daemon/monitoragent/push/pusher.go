package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/spool"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Pusher empties the spool into the server, oldest first.
type Pusher struct {
	spool  *spool.Spool
	post   func(ctx context.Context, body []byte) (wire.Ack, error)
	info   func() wire.AgentInfo
	sent   func() time.Time
	now    func() time.Time
	log    *slog.Logger
	back   func()
	period atomic.Int64 // nanoseconds between a host's pings: older ones than two are late
	limit  atomic.Int64 // bytes the server takes in a post

	mu       sync.Mutex // one post at a time: pings arrive in order
	seq      int64
	trouble  string // the last failure told
	rejected int64
}

// Options configure a Pusher.
type Options struct {
	Spool *spool.Spool
	Post  func(ctx context.Context, body []byte) (wire.Ack, error)
	Info  func() wire.AgentInfo // made anew for each post
	Sent  func() time.Time      // the clock that posts are stamped with when they are sent
	Now   func() time.Time      // the clock that pings were stamped with
	Log   *slog.Logger
	Back  func() // called when the server takes pings again after a failure; may be nil
}

// NewPusher returns a pusher that knows nothing of the server's limits yet.
func NewPusher(o Options) *Pusher {
	p := &Pusher{spool: o.Spool, post: o.Post, info: o.Info, sent: o.Sent, now: o.Now, log: o.Log, back: o.Back}
	p.Configure(time.Minute, wire.MaxPost)
	return p
}

// Configure takes the period of pings and the largest post from the server's configuration.
func (p *Pusher) Configure(period time.Duration, maxPost int64) {
	p.period.Store(int64(period))
	if maxPost <= 0 {
		maxPost = wire.MaxPost
	}
	p.limit.Store(min(maxPost, wire.MaxPost))
}

// Save puts a ping into the spool.
func (p *Pusher) Save(ping wire.Ping) error {
	doc, err := bson.Marshal(ping)
	if err != nil {
		return fmt.Errorf("encode a ping: %w", err)
	}
	return p.spool.Append(doc)
}

// Run posts what arrives until ctx ends. A moment after the first of some pings the rest of that moment's are taken along.
func (p *Pusher) Run(ctx context.Context) {
	var backoff call.Backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.spool.Arrived():
		}
		if !call.Pause(ctx, time.Duration(p.period.Load())/30) {
			return
		}
		for {
			err := p.Flush(ctx)
			if err == nil || ctx.Err() != nil {
				backoff.Reset()
				break
			}
			var r *call.Refusal
			least := time.Duration(0)
			if errors.As(err, &r) {
				least = r.RetryAfter
			}
			if !call.Pause(ctx, backoff.Next(least)) {
				return
			}
		}
	}
}

// Flush posts until the spool is empty. What the server will never take is logged and dropped; any other failure ends it, and
// leaves the pings where they are.
func (p *Pusher) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := wire.MaxPings
	for {
		// Pings are compressed already, so a post is about as large as they are.
		batch, err := p.spool.Next(most, p.limit.Load()*9/10-64<<10)
		if err != nil {
			return p.failed(fmt.Errorf("read the spool: %w", err))
		}
		if len(batch.Records) == 0 {
			return nil
		}
		err = p.send(ctx, batch)
		if ctx.Err() != nil && err != nil {
			return err
		}
		switch verdict := call.Judge(err); {
		case err == nil:
			most = min(2*most, wire.MaxPings)
		case verdict != call.Later && len(batch.Records) > 1:
			most = (len(batch.Records) + 1) / 2 // find the one that is wrong
			continue
		case verdict != call.Later:
			p.rejected++
			p.log.Error("the server will never take a ping: dropped", obs.KeyReason, err.Error(), obs.KeyBytes, len(batch.Records[0]))
		default:
			return p.failed(err)
		}
		if err := p.spool.Ack(batch); err != nil {
			p.log.Warn("pings that were delivered will be sent again after a restart", obs.KeyErr, err)
		}
	}
}

func (p *Pusher) send(ctx context.Context, batch spool.Batch) error {
	now := p.now()
	p.seq++
	post := wire.Post{Version: wire.Version, Agent: p.info(), Sent: p.sent().UTC(), Seq: p.seq, Pings: make([]wire.Ping, 0, len(batch.Records))}
	for _, record := range batch.Records {
		var ping wire.Ping
		if err := bson.Unmarshal(record, &ping); err != nil {
			p.log.Error("a ping in the spool cannot be read: dropped", obs.KeyErr, err)
			continue
		}
		if now.Sub(ping.At) > 2*time.Duration(p.period.Load()) {
			ping.Late = true
		}
		post.Pings = append(post.Pings, ping)
	}
	body, err := wire.EncodePost(post)
	if err != nil {
		return &call.Refusal{Code: wire.CodeTooLarge, Reason: err.Error()}
	}
	if int64(len(body)) > p.limit.Load() && len(batch.Records) > 1 {
		return &call.Refusal{Code: wire.CodeTooLarge, Reason: fmt.Sprintf("%d bytes, the server takes %d", len(body), p.limit.Load())}
	}
	ack, err := p.post(ctx, body)
	if err != nil {
		return err
	}
	if p.trouble != "" {
		p.log.Info("the server takes pings again", obs.KeyCount, len(batch.Records))
		p.trouble = ""
		if p.back != nil {
			p.back()
		}
	}
	for _, r := range ack.Rejected {
		p.rejected++
		p.log.Warn("the server rejected a ping", obs.KeyHostID, r.HostID, obs.KeyFrom, r.At, obs.KeyReason, r.Reason)
	}
	return nil
}

// failed logs a failure once, until it is another one.
func (p *Pusher) failed(err error) error {
	if text := err.Error(); text != p.trouble {
		p.trouble = text
		p.log.Warn("pings stay in the spool", obs.KeyReason, text, obs.KeyCount, p.spool.Stats().Records)
	}
	return err
}
