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
)

// Member is a member's process at its place on the network.
type Member struct {
	Number int
	Core   string // host:port of the core on the network that carries connections
	Peers  string // host:port of the core on the set's network; empty: as Core
	Listen string // for clients
	Log    *slog.Logger
	Ready  func() // called once clients are taken; may be nil
}

const (
	patience  = 30 * time.Second // with a core that is not there yet
	goodbye   = 5 * time.Second
	dialLimit = 5 * time.Second
)

// Run stands at the member's place until ctx ends, which shuts the member down, or the core is gone.
func (m *Member) Run(ctx context.Context) error {
	control, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer control.Close()
	in := bufio.NewReader(control)
	hello, err := ask(control, in, request{Member: m.Number, Do: "start"})
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(m.Core)
	if err != nil {
		return fmt.Errorf("core %s: %w", m.Core, err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	run, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() { m.beat(run) })
	wg.Go(func() { m.accept(run, ln, net.JoinHostPort(host, strconv.Itoa(hello.Port))) })
	gone := make(chan error, 1)
	answered := make(chan struct{})
	go func() { // the core says nothing unasked: what comes is the answer to the goodbye, or its end
		_, err := in.ReadBytes('\n')
		if err == nil {
			close(answered)
		}
		gone <- err
	}()
	if m.Ready != nil {
		m.Ready()
	}
	var result error
	select {
	case <-ctx.Done():
		result = say(control, request{Member: m.Number, Do: "stop"})
		select {
		case <-answered:
		case <-time.After(goodbye):
		}
	case err := <-gone:
		result = fmt.Errorf("the core is gone: %w", errors.Join(err))
	}
	stop(result)
	_ = ln.Close()
	wg.Wait()
	return result
}

// dial connects to the core, which may start later.
func (m *Member) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := net.Dialer{Timeout: dialLimit}
	for {
		conn, err := d.DialContext(ctx, "tcp", m.Core)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach the core: %w", err)
		case <-time.After(beat):
		}
	}
}

func say(conn net.Conn, r request) error { return json.NewEncoder(conn).Encode(r) }

func ask(conn net.Conn, in *bufio.Reader, r request) (reply, error) {
	var a reply
	err := say(conn, r)
	if err == nil {
		var line []byte
		if line, err = in.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &a)
		}
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a, fmt.Errorf("ask the core: %w", err)
	}
	return a, nil
}

// beat tells the core that the member is on the set's network. The core's address there is looked up as long as it has none:
// who is cut off cannot ask for names.
func (m *Member) beat(ctx context.Context) {
	peers := m.Peers
	if peers == "" {
		peers = m.Core
	}
	t := time.NewTicker(beat)
	defer t.Stop()
	var conn net.PacketConn
	var to net.Addr
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for {
		if to == nil {
			if a, err := net.ResolveUDPAddr("udp4", peers); err == nil {
				to = a
			}
		}
		if conn == nil {
			var err error
			if conn, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp4", "0.0.0.0:0"); err != nil {
				m.Log.Debug("heartbeats", "error", err)
			}
		}
		if to != nil && conn != nil {
			if _, err := conn.WriteTo([]byte(strconv.Itoa(m.Number)), to); err != nil { // cut off
				m.Log.Debug("heartbeat", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// accept carries clients to the core. A connection lives as long as both of its sides.
func (m *Member) accept(ctx context.Context, ln net.Listener, core string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		client, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil {
				m.Log.Error("accept", "error", err)
			}
			return
		}
		wg.Go(func() { carry(ctx, client, core) })
	}
}

func carry(ctx context.Context, client net.Conn, core string) {
	defer client.Close()
	d := net.Dialer{Timeout: dialLimit}
	far, err := d.DialContext(ctx, "tcp", core)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = far.Close()
	})
	defer stop()
	done := make(chan struct{}, 2)
	go pump(far, client, done)
	go pump(client, far, done)
	<-done
}

func pump(to io.Writer, from io.Reader, done chan<- struct{}) {
	_, _ = io.Copy(to, from) // either side's end is the end
	done <- struct{}{}
}
