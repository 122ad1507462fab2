// Package apart lets each member of a simulated set stand in a container of its own. One process, the core, holds the
// members' data and elects for them; a member's process stands at the member's place on the network: it takes the clients'
// connections and carries them to the core. Whatever happens to that process happens to the member: when it ends cleanly the
// member shuts down, when it is killed the member is killed, and when its heartbeats do not come through the network of the
// set (it hangs, or is cut off) the other members lose it while clients that still reach it talk to a member that is alone.
//
// So that a cut can be told from a death, a member reaches the core on two networks: its place (connections, start and end)
// on one that nobody cuts, its heartbeats on the network of the set.
package apart

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
)

// How often a member's heart beats, and how long it may be silent before the others lose it. A machine that is busy with
// tests may keep a process waiting for two seconds.
const (
	beat    = 100 * time.Millisecond
	silence = 2500 * time.Millisecond
)

// request is what a member tells the core, a line of JSON; the core answers each with a reply.
type request struct {
	Member int    `json:"member"`
	Do     string `json:"do"` // start, stop
}

type reply struct {
	Port  int    `json:"port,omitempty"` // where the core takes the member's clients
	Error string `json:"error,omitempty"`
}

// Core serves the places of a deployment whose members start apart.
type Core struct {
	D   *mongosim.Deployment
	Log *slog.Logger
	// BasePort is the deployment's.
	BasePort int

	mu     sync.Mutex
	places map[int]*place
}

// place is a member whose process runs.
type place struct {
	conn net.Conn
	last time.Time // heard of
	cut  bool
}

// Serve listens for members (TCP) and their heartbeats (UDP) on a port, until ctx ends.
func (c *Core) Serve(ctx context.Context, port int) error {
	address := net.JoinHostPort("0.0.0.0", strconv.Itoa(port))
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for members: %w", err)
	}
	beats, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for heartbeats: %w", err), ln.Close())
	}
	c.places = map[int]*place{}
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		_ = beats.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range c.places {
			_ = p.conn.Close()
		}
	})
	defer stop()
	wg.Go(func() { c.hear(beats) })
	wg.Go(func() { c.watch(ctx) })
	for {
		conn, err := ln.Accept()
		if err != nil {
			wg.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen for members: %w", err)
		}
		wg.Go(func() { c.attend(ctx, conn) })
	}
}

// hear takes heartbeats.
func (c *Core) hear(beats net.PacketConn) {
	b := make([]byte, 16)
	for {
		n, _, err := beats.ReadFrom(b)
		if err != nil {
			return
		}
		i, err := strconv.Atoi(string(b[:n]))
		if err != nil {
			continue
		}
		c.mu.Lock()
		if p := c.places[i]; p != nil {
			p.last = time.Now()
			if p.cut {
				p.cut = false
				c.D.Member(i).Cut(false)
				c.Log.Info("member is back", "member", c.D.Member(i).Address())
			}
		}
		c.mu.Unlock()
	}
}

// watch takes members off the set's network that are silent.
func (c *Core) watch(ctx context.Context) {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			c.mu.Lock()
			for i, p := range c.places {
				if !p.cut && now.Sub(p.last) > silence {
					p.cut = true
					c.D.Member(i).Cut(true)
					c.Log.Info("member is silent", "member", c.D.Member(i).Address())
				}
			}
			c.mu.Unlock()
		}
	}
}

// attend keeps a member while its process is connected.
func (c *Core) attend(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	var own *place
	member := -1
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil || r.Member < 0 || r.Member >= c.D.Len() || own != nil && r.Member != member {
			_ = answer(conn, reply{Error: "that is no member"})
			break
		}
		switch {
		case r.Do == "start" && own == nil:
			member = r.Member
			own = c.start(conn, member)
			if own == nil {
				_ = answer(conn, reply{Error: "the member does not start"})
				return
			}
			_ = answer(conn, reply{Port: c.BasePort + member})
		case r.Do == "stop" && own != nil:
			c.leave(own, member, true)
			_ = answer(conn, reply{})
			return
		default:
			_ = answer(conn, reply{Error: "not now"})
		}
	}
	if own != nil && ctx.Err() == nil {
		c.leave(own, member, false)
	}
}

// start starts a member in the name of a connection. One that has another still is its successor's.
func (c *Core) start(conn net.Conn, i int) *place {
	c.mu.Lock()
	before := c.places[i]
	c.mu.Unlock()
	if before != nil {
		_ = before.conn.Close()
		c.leave(before, i, false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.D.Restart(i); err != nil {
		c.Log.Error("start member", "member", c.D.Member(i).Address(), "error", err)
		return nil
	}
	p := &place{conn: conn, last: time.Now()}
	c.places[i] = p
	c.Log.Info("member starts", "member", c.D.Member(i).Address())
	return p
}

// leave ends a member whose process ended, unless another has its place already.
func (c *Core) leave(p *place, i int, clean bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.places[i] != p {
		return
	}
	delete(c.places, i)
	end := c.D.Kill
	if clean {
		end = c.D.Shutdown
	}
	if err := end(i); err != nil {
		c.Log.Error("end member", "member", c.D.Member(i).Address(), "error", err)
	}
	c.Log.Info("member ended", "member", c.D.Member(i).Address(), "clean", clean)
}

func answer(w io.Writer, r reply) error { return json.NewEncoder(w).Encode(r) }
